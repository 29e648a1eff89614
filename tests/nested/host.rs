//! The nested test host itself: the properties on which other tests depend.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::common::need::{Need, ready};
use crate::common::nested::{self, Batch};
use crate::common::patience::holds_within;

/// The command of a QEMU that fails if KVM lacks any of these enlightenments.
const HYPERV_BY_QEMU: &str = "echo quit | qemu-system-x86_64 -M pc,accel=kvm -nodefaults -display none -monitor stdio -S -cpu \
    host,hv-relaxed,hv-vpindex,hv-time,hv-runtime,hv-synic,hv-stimer,hv-stimer-direct,hv-reset,hv-tlbflush,hv-ipi,enforce";

static BATCH: Batch = Batch::new(|plan| {
    plan.qemu();
    plan.file("tests/nested/host.rs");
    plan.option("--env", "GREETING=it's \"here\" $HOME");
    plan.option("--kernel-module", "tun");
    plan.check("code", 5, "exit 211");
    plan.check("signal", 5, "kill -TERM $$");
    plan.check("streams", 5, "echo one; echo two >&2");
    plan.check("files", 5, "printf 'a\\0b' >result");
    plan.check("late", 2, "echo started; sleep 10000");
    plan.check("lingering", 5, "sleep 60 & echo done");
    plan.check("same paths", 5, format!("cat {}/tests/nested/host.rs", env!("CARGO_MANIFEST_DIR")));
    plan.check("environment", 5, "echo \"$GREETING\"");
    plan.check("input", 5, "cat; echo end");
    plan.check("hyper-v", 20, HYPERV_BY_QEMU);
    plan.check(
        "clock",
        20,
        "until grep -x tsc /sys/devices/system/clocksource/clocksource0/current_clocksource; do sleep 1; done",
    );
    plan.check("tun", 5, "ls /dev/net/tun");
});

#[test]
fn an_exit_code_passes_through() {
    BATCH.outcome("code", |outcome| assert_eq!(outcome.code, Some(211), "{outcome}"));
}

#[test]
fn the_exit_code_after_a_signal_is_128_plus_its_number() {
    BATCH.outcome("signal", |outcome| assert_eq!(outcome.code, Some(128 + 15), "{outcome}"));
}

#[test]
fn both_outputs_are_kept_apart() {
    BATCH.outcome("streams", |outcome| {
        assert_eq!((&outcome.stdout[..], &outcome.stderr[..]), (&b"one\n"[..], &b"two\n"[..]));
    });
}

#[test]
fn result_files_are_returned_unchanged() {
    BATCH.outcome("files", |outcome| assert_eq!(outcome.files[Path::new("result")], b"a\0b", "{outcome}"));
}

#[test]
fn a_check_is_ended_at_its_time_limit_and_keeps_what_it_wrote() {
    BATCH.outcome("late", |outcome| assert_eq!((outcome.code, outcome.text()), (None, "started\n".into())));
}

#[test]
fn processes_that_a_check_leaves_running_delay_nothing() {
    BATCH.outcome("lingering", |outcome| assert_eq!((outcome.code, outcome.text()), (Some(0), "done\n".into())));
}

#[test]
fn a_packed_file_has_the_same_path_there() {
    BATCH.outcome("same paths", |outcome| assert_eq!(outcome.text(), include_str!("host.rs")));
}

#[test]
fn environment_variables_keep_their_quotes_and_dollars() {
    BATCH.outcome("environment", |outcome| assert_eq!(outcome.text(), "it's \"here\" $HOME\n"));
}

#[test]
fn standard_input_is_empty() {
    BATCH.outcome("input", |outcome| assert_eq!(outcome.text(), "end\n"));
}

#[test]
fn kernel_modules_are_loaded() {
    BATCH.outcome("tun", |outcome| assert_eq!(outcome.code, Some(0), "{outcome}"));
}

#[test]
fn kvm_there_offers_the_hyper_v_interface() {
    BATCH.outcome("hyper-v", |outcome| assert_eq!(outcome.code, Some(0), "{outcome}"));
}

#[test]
fn the_tsc_there_is_trusted_so_that_kvm_can_offer_a_reference_tsc_page() {
    BATCH.outcome("clock", |outcome| assert_eq!(outcome.code, Some(0), "{outcome}"));
}

/// Runs `scripts/nested-host` with these arguments. Returns `None` if the nested host is skipped.
fn run(arguments: &[&str]) -> Option<Output> {
    ready(&[Need::NestedHost]).then(|| nested::command().args(arguments).output().expect("scripts/nested-host starts"))
}

#[test]
fn output_and_exit_code_come_through_unchanged() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("every byte");
    let bytes: Vec<u8> = (0..=255).chain(*b"\r\n\n\r").cycle().take(100_000).collect();
    fs::write(&file, &bytes).unwrap();
    let packed = format!("{}:/bytes", file.display());
    let Some(output) = run(&["--file", &packed, "--", "sh", "-c", "cat /bytes; cat /bytes >&2; exit 124"]) else {
        return;
    };
    assert!(output.stdout == bytes && output.stderr == bytes, "{:?} {:?}", output.stdout.len(), output.stderr.len());
    assert_eq!(output.status.code(), Some(124));
}

#[test]
fn a_command_is_ended_at_the_time_limit_and_its_results_still_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let result = directory.path().join("left");
    let pair = format!("/left:{}", result.display());
    let Some(output) = run(&["--timeout", "1", "--result", &pair, "--", "sh", "-c", "echo so far >/left; sleep 10000"])
    else {
        return;
    };
    assert_eq!(output.status.code(), Some(124));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not done after 1 s"), "{output:?}");
    assert_eq!(fs::read_to_string(result).unwrap(), "so far\n");
}

#[test]
fn a_panic_of_the_nested_host_is_reported_with_its_messages() {
    let Some(output) = run(&["--", "sh", "-c", "echo c >/proc/sysrq-trigger"]) else { return };
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8_lossy(&output.stderr).contains("sysrq_handle_crash"), "{output:?}");
}

#[test]
fn nothing_is_left_running_when_the_script_is_killed() {
    if !ready(&[Need::NestedHost]) {
        return;
    }
    let mut script = nested::command()
        .args(["--", "sh", "-c", "echo up; sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("scripts/nested-host starts");
    let mut line = String::new();
    BufReader::new(script.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    let children = children_of(script.id());
    assert!(!children.is_empty());
    script.kill().unwrap();
    script.wait().unwrap();
    let gone = || !children.iter().any(|child| is_running(child));
    assert!(holds_within(Duration::from_secs(10), gone), "still running: {children:?}");
}

fn children_of(process: u32) -> Vec<String> {
    let list = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap();
    list.split_whitespace().map(str::to_owned).collect()
}

/// Returns `true` if a process exists and is not a zombie.
fn is_running(process: &str) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z')))
}

#[test]
fn bad_arguments_are_answered_at_once_with_125_and_the_reason() {
    let cases: [(&[&str], &str); 7] = [
        (&[], "no command given"),
        (&["--colour", "red", "--", "true"], "unknown option --colour"),
        (&["--timeout", "soon", "--", "true"], "--timeout soon is not a number"),
        (&["--file", "nowhere", "--", "true"], "cannot read the file nowhere"),
        (&["--kernel-module", "nothing", "--", "true"], "no module nothing"),
        (&["--result", "a:/nowhere/b", "--", "true"], "no directory to write /nowhere/b into"),
        (&["--", "no-such-command"], "there is no command no-such-command"),
    ];
    for (arguments, reason) in cases {
        let Some(output) = run(arguments) else { return };
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{arguments:?}: {stderr}");
        assert!(stderr.contains(reason), "{arguments:?}: {stderr}");
    }
}

/// Runs this binary's test of an exit code, in an environment without programs that could start a machine.
fn without_programs(reasons: &[(&str, &str)]) -> (bool, String) {
    let list = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "host::an_exit_code_passes_through", "--nocapture"]).env("PATH", "/nowhere");
    command.env_remove("VIRIDIAN_SKIP").env_remove("VIRIDIAN_SKIP_NESTED").env("VIRIDIAN_NOT_RUN", list.path());
    let output = command.envs(reasons.iter().copied()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), fs::read_to_string(list.path()).unwrap() + &said)
}

#[test]
fn a_check_with_a_reason_is_skipped_and_noted() {
    for (variable, value) in
        [("VIRIDIAN_SKIP_NESTED", "to see it"), ("VIRIDIAN_SKIP", "ipv6: other; nested host: to see it")]
    {
        let (passed, noted) = without_programs(&[(variable, value)]);
        assert!(passed && noted.contains("host::an_exit_code_passes_through\tnested host\tto see it\n"), "{noted}");
    }
}

#[test]
fn what_is_missing_without_a_reason_fails() {
    let (passed, said) = without_programs(&[]);
    assert!(!passed && said.contains("VIRIDIAN_SKIP='nested host: "), "{said}");
    let (passed, said) = without_programs(&[("VIRIDIAN_SKIP", "nested: no such name")]);
    assert!(!passed && said.contains("\"nested: no such name\" is not NAME: REASON"), "{said}");
}

#[test]
fn a_selected_test_runs_no_other_check() {
    if !ready(&[Need::NestedHost]) {
        return;
    }
    let program = std::env::current_exe().unwrap();
    let output =
        Command::new(program).args(["--exact", "host::alone::child", "--ignored", "--nocapture"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The child of [`a_selected_test_runs_no_other_check`].
mod alone {
    use super::Batch;

    static CHECKS: Batch = Batch::new(|plan| {
        plan.check("before", 5, "echo >/before");
        plan.check("other", 5, "echo >/other");
        plan.check_after("before", "selected", 5, "ls /before /other");
    });

    #[test]
    #[ignore = "a part of a_selected_test_runs_no_other_check"]
    fn child() {
        CHECKS.outcome("selected", |outcome| assert_eq!(outcome.text(), "/before\n", "{outcome}"));
    }
}
