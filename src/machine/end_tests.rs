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
        End::TripleFault { vp: 0, place: String::new() },
        End::Crashed(Box::new(CrashReport { control: CrashControl(1 << 63), parameters: [0; 5], text: None })),
        End::TimedOut(Duration::from_secs(1)),
        End::Interrupted,
        End::Terminated,
        End::HungUp,
        End::Quit,
    ];
    for end in ends {
        assert!(EXIT_CODES.contains(&format!("\n  {} ", end.exit_code())), "{end}");
    }
    for code in [code::USAGE, code::FAILED, code::NO_KVM] {
        assert!(EXIT_CODES.contains(&format!("\n  {code} ")), "{code}");
    }
}

#[test]
fn an_end_is_serialized_with_its_kind_its_code_and_its_details() {
    let json = |end: End| serde_json::to_string(&end).unwrap();
    assert_eq!(
        json(End::Exited(300)),
        r#"{"kind":"exited","exit-code":99,"message":"the guest wrote 300 (0x12c) to the exit port; the exit code is 99","value":300}"#
    );
    assert_eq!(json(End::PoweredOff), r#"{"kind":"powered-off","exit-code":0,"message":"the guest powered off"}"#);
    assert!(json(End::by_signal(libc::SIGHUP)).starts_with(r#"{"kind":"hung-up","exit-code":129,"#));
    let triple_fault = json(End::TripleFault { vp: 2, place: " at 0x1000 (boom+0x1)".into() });
    assert!(triple_fault.contains(r#""kind":"triple-fault","exit-code":101"#), "{triple_fault}");
    assert!(triple_fault.contains("boom+0x1") && triple_fault.ends_with(r#""vp":2}"#), "{triple_fault}");
    assert!(json(End::TimedOut(Duration::from_millis(1500))).ends_with(r#""seconds":1.5}"#));
    let report =
        CrashReport { control: CrashControl(1 << 63), parameters: [1, 2, 3, 4, 5], text: Some("\"oops\"".into()) };
    assert!(json(End::Crashed(Box::new(report))).ends_with(r#""crash":{"parameters":[1,2,3,4,5],"text":"\"oops\""}}"#));
    let failed = json(End::Failed(MachineError::Defect("x".into())));
    assert!(failed.contains(r#""kind":"failed","exit-code":125"#), "{failed}");
}
