use super::*;
use crate::hyperv::features::Feature;

#[test]
fn the_hypervisor_is_on_off_or_switched() {
    assert_eq!("on".parse(), Ok(Hv::default()));
    assert_eq!("off".parse(), Ok(Hv::Off));
    let Ok(Hv::On(switches)) = "-AccessVpIndex,+UseApicMsrs".parse() else { panic!("it is on") };
    assert!(switches.off().has(Feature::AccessVpIndex) && switches.on().has(Feature::UseApicMsrs));
    assert!("-AccessVpIndx".parse::<Hv>().unwrap_err().to_string().contains("AccessVpIndex"));
    for text in ["on", "off", "-AccessVpIndex"] {
        assert_eq!(text.parse::<Hv>().unwrap().to_string(), text);
    }
}

#[test]
fn traces_are_named_and_may_go_to_a_file() {
    let trace: Trace = "msr,vmbus=/tmp/a=b".parse().unwrap();
    assert_eq!(trace, Trace { kinds: vec![TraceKind::Msr, TraceKind::Vmbus], file: Some("/tmp/a=b".into()) });
    assert_eq!(trace.to_string(), "msr,vmbus=/tmp/a=b");
    assert_eq!("mrs".parse::<Trace>().unwrap_err(), "unknown kind of trace `mrs`; did you mean `msr`?");
    assert!("msr=".parse::<Trace>().is_err());
}
