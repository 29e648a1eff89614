use super::*;
use crate::hyperv::features::Feature;

#[test]
fn the_hypervisor_option_is_on_off_or_a_list_of_features() {
    assert_eq!("on".parse(), Ok(Hv::default()));
    assert_eq!("off".parse(), Ok(Hv::Off));
    let Ok(Hv::On(switches)) = "-AccessVpIndex,+UseApicMsrs".parse() else { panic!("it is on") };
    assert!(switches.off().has(Feature::AccessVpIndex) && switches.on().has(Feature::UseApicMsrs));
    assert!("-AccessVpIndx".parse::<Hv>().unwrap_err().to_string().contains("AccessVpIndex"));
    for text in ["on", "off", "-AccessVpIndex"] {
        assert_eq!(text.parse::<Hv>().unwrap().to_string(), text);
    }
}
