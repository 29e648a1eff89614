use super::*;
use std::collections::HashSet;

fn offer(engine: EngineKind, switches: &str) -> Offer {
    let kvm = Feature::ALL.iter().copied().collect();
    Offer::new(engine, kvm, &switches.parse().unwrap())
}

#[test]
fn no_two_features_share_a_bit_or_a_name() {
    let places: HashSet<_> = Feature::ALL.iter().map(|feature| (feature.word(), feature.bit())).collect();
    let names: HashSet<_> = Feature::ALL.iter().map(|feature| feature.name().to_lowercase()).collect();
    assert_eq!((places.len(), names.len()), (Feature::ALL.len(), Feature::ALL.len()));
}

#[test]
fn a_set_of_features_can_be_read_back_from_its_cpuid_words() {
    for word in Word::ALL {
        let all: Features = Feature::ALL.iter().copied().filter(|feature| feature.word() == word).collect();
        assert_eq!(Features::from_word(word, all.word(word)), all);
        assert_eq!(Features::from_word(word, u32::MAX), all);
    }
}

#[test]
fn both_engines_offer_the_features_that_stock_linux_requires() {
    for engine in [EngineKind::User, EngineKind::Kernel] {
        let features = offer(engine, "").features();
        for needed in [
            Feature::AccessHypercallMsrs,
            Feature::AccessVpIndex,
            Feature::AccessPartitionReferenceCounter,
            Feature::AccessPartitionReferenceTsc,
            Feature::AccessSynicRegs,
            Feature::AccessSyntheticTimerRegs,
            Feature::DirectSyntheticTimers,
            Feature::PostMessages,
            Feature::SignalEvents,
            Feature::GuestCrashRegsAvailable,
            Feature::FrequencyRegsAvailable,
            Feature::DeprecateAutoEoi,
        ] {
            assert!(features.has(needed), "{engine}: {}", needed.name());
        }
        assert!(!features.has(Feature::CpuManagement), "Linux would take itself for the root partition");
        assert!(!features.has(Feature::Isolation));
    }
}

#[test]
fn the_user_engine_offers_no_flushes_and_the_kernel_engine_only_what_kvm_has() {
    let flush = Feature::UseHypercallForRemoteFlushAndLocalFlushEntire;
    assert!(!offer(EngineKind::User, "").features().has(flush));
    assert!(offer(EngineKind::Kernel, "").features().has(flush));
    let without_kvm = Offer::new(EngineKind::Kernel, Features::NONE, &Switches::default());
    assert_eq!(without_kvm.verdict(flush), Verdict::NotInKvm);
    assert_eq!(without_kvm.verdict(Feature::AccessVpRegisters), Verdict::Needs(Feature::AccessHypercallMsrs));
}

#[test]
fn features_can_be_switched_on_and_off_against_their_defaults() {
    let default = offer(EngineKind::User, "");
    assert!(matches!(default.verdict(Feature::UseSyntheticClusterIpi), Verdict::OffByDefault(_)));
    let switched = offer(EngineKind::User, "+usesyntheticclusteripi, -UseRelaxedTiming");
    assert!(switched.features().has(Feature::UseSyntheticClusterIpi));
    assert_eq!(switched.verdict(Feature::UseRelaxedTiming), Verdict::SwitchedOff);
}

#[test]
fn a_feature_that_is_faster_on_some_hosts_is_offered_there() {
    assert_eq!(offer(EngineKind::User, "").verdict(Feature::UseApicMsrs), Verdict::Offered);
    assert_eq!(offer(EngineKind::User, "-UseApicMsrs").verdict(Feature::UseApicMsrs), Verdict::SwitchedOff);
    let elsewhere = |switches: &str| Offer::new(EngineKind::User, Features::NONE, &switches.parse().unwrap());
    assert!(matches!(elsewhere("").verdict(Feature::UseApicMsrs), Verdict::OffByDefault(_)));
    assert_eq!(elsewhere("+UseApicMsrs").verdict(Feature::UseApicMsrs), Verdict::Offered);
}

#[test]
fn a_feature_is_dropped_if_a_direct_or_indirect_requirement_is_missing() {
    let offer = offer(EngineKind::User, "-AccessPartitionReferenceCounter");
    assert_eq!(
        offer.verdict(Feature::AccessSyntheticTimerRegs),
        Verdict::Needs(Feature::AccessPartitionReferenceCounter)
    );
    assert_eq!(offer.verdict(Feature::DirectSyntheticTimers), Verdict::Needs(Feature::AccessSyntheticTimerRegs));
    assert!(offer.features().has(Feature::AccessSynicRegs));
    let bare = Offer::new(EngineKind::User, Features::NONE, &"-AccessHypercallMsrs".parse().unwrap()).features();
    assert!(!bare.has(Feature::PostMessages) && !bare.has(Feature::StartVirtualProcessor));
}

#[test]
fn requirements_of_features_are_not_circular() {
    for feature in Feature::ALL {
        assert!(!feature.needs().contains(feature));
        for needed in feature.needs() {
            assert!(needed.needs().iter().all(|other| other != feature), "{} is circular", feature.name());
        }
    }
}

#[test]
fn the_error_for_an_unknown_feature_suggests_the_nearest_name() {
    let error = "+DirectSyntheticTimer".parse::<Switches>().unwrap_err();
    assert!(error.to_string().ends_with("did you mean DirectSyntheticTimers?"), "{error}");
    let error = "-xyzzy".parse::<Switches>().unwrap_err();
    assert!(error.to_string().contains("viridian hv"), "{error}");
    let error = "PostMessages".parse::<Switches>().unwrap_err();
    assert!(error.to_string().contains("+PostMessages"), "{error}");
}

#[test]
fn a_feature_that_an_engine_can_never_offer_is_refused_with_the_reason() {
    let switches: Switches = "+CreatePartitions".parse().unwrap();
    let error = switches.check(EngineKind::User).unwrap_err().to_string();
    assert!(error.contains("CreatePartitions") && error.contains("parent partition"), "{error}");
    assert!(!Offer::new(EngineKind::User, Features::NONE, &switches).features().has(Feature::CreatePartitions));
    assert!("+UseApicMsrs".parse::<Switches>().unwrap().check(EngineKind::User).is_ok());
}

#[test]
fn the_last_switch_of_a_name_counts_and_switches_print_as_they_are_written() {
    let switches: Switches = "+PostMessages,-PostMessages,,+UseApicMsrs".parse().unwrap();
    assert_eq!(switches.to_string(), "+UseApicMsrs,-PostMessages");
    assert_eq!(switches.to_string().parse(), Ok(switches));
}

#[test]
fn every_verdict_has_a_reason() {
    for engine in [EngineKind::User, EngineKind::Kernel] {
        let offer = offer(engine, "");
        for feature in Feature::ALL {
            let verdict = offer.verdict(*feature);
            assert_eq!(verdict.is_offered(), offer.features().has(*feature));
            assert!(!verdict.to_string().is_empty());
        }
    }
}
