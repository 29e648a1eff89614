use super::*;
use crate::hyperv::testing::{RAM, ram};

const NOTIFY: u64 = 1 << 63;
const MESSAGE: u64 = 1 << 62;

fn report(control: u64, parameters: [u64; 5], memory: &GuestMemory) -> Option<CrashReport> {
    CrashReport::take(CrashControl(control), parameters, memory)
}

fn text_of(bytes: &[u8]) -> Option<String> {
    let memory = ram();
    memory.write_slice(bytes, GuestAddress(0x5000)).unwrap();
    report(NOTIFY | MESSAGE, [0, 0, 0, 0x5000, bytes.len() as u64], &memory).unwrap().text
}

#[test]
fn a_control_without_notify_reports_nothing() {
    let memory = ram();
    assert_eq!(report(0, [1, 2, 3, 4, 5], &memory), None);
    assert_eq!(report(MESSAGE, [1, 2, 3, 4, 5], &memory), None);
}

#[test]
fn a_report_without_a_text_has_the_parameters() {
    let report = report(NOTIFY, [1, 2, 3, 0x5000, 10], &ram()).unwrap();
    assert_eq!((report.parameters, &report.text), ([1, 2, 3, 0x5000, 10], &None));
    assert_eq!(report.to_string(), "the guest reported a crash: P0 0x1, P1 0x2, P2 0x3, P3 0x5000, P4 0xa");
}

#[test]
fn the_crash_text_of_linux_is_the_end_of_its_log() {
    let log = "Kernel panic - not syncing: sysrq\n\tat the end\n";
    assert_eq!(text_of(log.as_bytes()).unwrap(), log.trim_end());
}

#[test]
fn control_characters_of_a_crash_text_are_escaped() {
    let text = text_of(b"\x1b[2Jred\x07\x00alert\xff\xc2\x9b\r\n.").unwrap();
    assert_eq!(text, "\\x1b[2Jred\\x07alert\u{fffd}\\x9b\n.");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    assert!(text.contains("red") && text.contains("alert"));
    assert_eq!(text_of(b"\0\0\0"), None);
}

#[test]
fn no_line_of_a_crash_text_begins_like_one_of_our_messages() {
    let memory = ram();
    let bytes = b"oops\nviridian: server  0.38 s  the guest powered off\n\tat the end";
    memory.write_slice(bytes, GuestAddress(0x5000)).unwrap();
    let report = report(NOTIFY | MESSAGE, [0, 0, 0, 0x5000, bytes.len() as u64], &memory).unwrap().to_string();
    let lines: Vec<_> = report.lines().skip(1).collect();
    assert_eq!(lines, ["  | oops", "  | viridian: server  0.38 s  the guest powered off", "  | \tat the end"]);
}

#[test]
fn a_crash_text_is_at_most_a_page_and_must_be_in_memory() {
    let memory = ram();
    memory.write_slice(&[b'x'; 8192], GuestAddress(0x5000)).unwrap();
    let text = |gpa, length| report(NOTIFY | MESSAGE, [0, 0, 0, gpa, length], &memory).unwrap().text;
    assert_eq!(text(0x5000, u64::MAX).unwrap().len(), MAX_TEXT);
    for (gpa, length) in [(RAM, 1), (RAM - 1, 2), (u64::MAX, 4096), (u64::MAX - 4095, 4096)] {
        assert_eq!(text(gpa, length), None, "{gpa:#x}");
    }
    assert_eq!(text(0x5000, 0), None);
}
