use super::*;
use crate::hyperv::features::Feature;
use crate::hyperv::testing::everything;

fn text(registers: [u32; 3]) -> String {
    registers.iter().flat_map(|register| register.to_le_bytes()).map(char::from).collect()
}

#[test]
fn the_leaves_name_microsoft_hv_the_interface_and_the_last_leaf() {
    let leaves = leaves(everything(), &Identity::default());
    assert_eq!(leaves.len(), 11);
    assert!(leaves.iter().zip(FIRST_LEAF..).all(|(leaf, function)| leaf.function == function));
    assert_eq!(leaves[0].eax, 0x4000_000a);
    assert_eq!(text([leaves[0].ebx, leaves[0].ecx, leaves[0].edx]), "Microsoft Hv");
    assert_eq!((leaves[0].ebx, leaves[0].ecx, leaves[0].edx), (0x7263_694d, 0x666f_736f, 0x7648_2074));
    assert_eq!(leaves[1].eax, 0x3123_7648);
}

#[test]
fn features_have_the_bits_of_the_tlfs() {
    let features = [
        Feature::AccessVpRunTimeReg,
        Feature::AccessVpIndex,
        Feature::PostMessages,
        Feature::StartVirtualProcessor,
        Feature::GuestCrashRegsAvailable,
        Feature::DirectSyntheticTimers,
        Feature::DeprecateAutoEoi,
    ];
    let leaves = leaves(features.into_iter().collect(), &Identity::default());
    assert_eq!(
        leaves[3],
        Leaf { function: 0x4000_0003, eax: 1 << 0 | 1 << 6, ebx: 1 << 4 | 1 << 21, ecx: 0, edx: 1 << 10 | 1 << 19 }
    );
    assert_eq!(leaves[4].eax, 1 << 9);
    assert_eq!(leaves[4].ebx, NEVER_NOTIFY);
}

#[test]
fn the_version_and_the_limits_are_those_of_the_machine() {
    let identity = Identity {
        version: "6.3.9600".parse().unwrap(),
        max_vps: 7,
        spinlock_retries: 0xfff,
        physical_address_bits: 46,
    };
    let leaves = leaves(Features::NONE, &identity);
    assert_eq!((leaves[2].eax, leaves[2].ebx), (9600, 6 << 16 | 3));
    assert_eq!((leaves[4].ebx, leaves[4].ecx), (0xfff, 46));
    assert_eq!(leaves[5].eax, 7);
}

#[test]
fn features_can_be_read_back_from_the_leaves() {
    assert_eq!(features_in(&leaves(everything(), &Identity::default())), everything());
    assert_eq!(features_in(&[]), Features::NONE);
}

#[test]
fn a_text_that_is_no_version_is_refused() {
    for text in ["", "10", "10.0", "10.0.1.2", "a.b.c", "70000.0.1", "10.0.-1"] {
        let error = text.parse::<Version>().unwrap_err().to_string();
        assert!(error.contains("major.minor.build"), "{error}");
    }
    assert_eq!("10.0.20348".parse(), Ok(Version::default()));
    assert_eq!(Version::default().to_string(), "10.0.20348");
}
