use super::*;
use crate::hyperv::registers::CrashControl;

#[test]
fn a_guests_value_is_the_exit_code_up_to_99() {
    for (value, code) in [(0, 0), (1, 1), (99, 99), (100, 99), (255, 99), (256, 99), (u32::MAX, 99)] {
        assert_eq!(End::Exited(value).exit_code(), code, "{value}");
    }
    assert!(End::Exited(300).to_string().contains("300 (0x12c) to the exit port; the exit code is 99"));
}

#[test]
fn every_code_is_listed_in_the_help() {
    let ends = [
        End::PoweredOff,
        End::Reset,
        End::TripleFault(0),
        End::Crashed(Box::new(CrashReport { control: CrashControl(1 << 63), parameters: [0; 5], text: None })),
        End::TimedOut(Duration::from_secs(1)),
        End::Interrupted,
        End::Terminated,
    ];
    for end in ends {
        assert!(EXIT_CODES.contains(&format!("\n  {} ", end.exit_code())), "{end}");
    }
    for code in [code::USAGE, code::FAILED, code::NO_KVM] {
        assert!(EXIT_CODES.contains(&format!("\n  {code} ")), "{code}");
    }
}
