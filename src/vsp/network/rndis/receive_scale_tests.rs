use super::*;

const ALL: u32 = hash_type::TOEPLITZ | hash_type::IPV4 | hash_type::TCP_IPV4 | hash_type::IPV6 | hash_type::TCP_IPV6;

/// The parameters as Linux sends them: header, indirection table, key.
fn linux(flags: u16, hash_information: u32, table: &[u32]) -> Vec<u8> {
    let mut parameters = Parameters::new_zeroed();
    parameters.flags = flags;
    parameters.hash_information = hash_information;
    parameters.table_size = (4 * table.len()) as u16;
    parameters.table_offset = 40;
    parameters.key_size = KEY as u16;
    parameters.key_offset = 40 + 4 * table.len() as u32;
    [parameters.as_bytes(), table.as_bytes(), &[0x5a; KEY]].concat()
}

#[test]
fn linux_can_enable_disable_and_enable_receive_scaling_again() {
    let mut scaling = None;
    let table: Vec<u32> = (0..128).map(|entry| entry % 4).collect();
    set(&mut scaling, &linux(Parameters::DISABLE, ALL, &table), 4).unwrap();
    assert_eq!(scaling, None);
    set(&mut scaling, &linux(0, ALL, &table), 4).unwrap();
    let now = scaling.clone().unwrap();
    assert_eq!((now.hash_types, now.key, now.table.len()), (ALL, [0x5a; KEY], 128));
    assert_eq!(now.table[..5], [0, 1, 2, 3, 0]);
    set(&mut scaling, &linux(Parameters::DISABLE, ALL, &table), 4).unwrap();
    assert_eq!(scaling, None);
}

#[test]
fn parameters_marked_as_unchanged_keep_their_values() {
    let mut scaling = None;
    set(&mut scaling, &linux(0, ALL, &[0, 1]), 4).unwrap();
    let mut change = linux(Parameters::KEY_UNCHANGED | Parameters::HASH_INFORMATION_UNCHANGED, 0, &[3]);
    change.truncate(44);
    set(&mut scaling, &change, 4).unwrap();
    let now = scaling.unwrap();
    assert_eq!((now.hash_types, now.key, now.table), (ALL, [0x5a; KEY], vec![3]));
}

#[test]
fn queried_parameters_can_be_set_again() {
    let mut scaling = None;
    set(&mut scaling, &linux(0, ALL, &[2, 1, 0]), 3).unwrap();
    let mut again = None;
    set(&mut again, &parameters(scaling.as_ref()), 3).unwrap();
    assert_eq!(again, scaling);
    set(&mut again, &parameters(None), 3).unwrap();
    assert_eq!(again, None);
}

#[test]
fn invalid_parameters_are_refused_and_change_nothing() {
    let mut scaling = None;
    set(&mut scaling, &linux(0, ALL, &[0]), 4).unwrap();
    let before = scaling.clone();
    let good = linux(0, ALL, &[1, 1]);
    let with = |place: usize, value: u8| {
        let mut bad = good.clone();
        bad[place] = value;
        bad
    };
    for bad in [
        linux(0, ALL, &[4]),
        linux(0, ALL, &[u32::MAX]),
        linux(0, ALL, &[]),
        linux(0, ALL, &[0; 129]),
        with(12, 7),
        with(12, 200),
        with(16, 250),
        with(20, 39),
        with(24, 255),
        good[..30].to_vec(),
        good[..11].to_vec(),
    ] {
        assert!(set(&mut scaling, &bad, 4).is_err(), "{bad:?}");
        assert_eq!(scaling, before);
    }
    assert_eq!(set(&mut scaling, &linux(0, 2 | hash_type::IPV4, &[0]), 4), Err(Status::NOT_SUPPORTED));
}

#[test]
fn the_capabilities_have_the_layout_that_linux_reads() {
    let bytes = capabilities(8);
    assert_eq!((bytes.len(), &bytes[..4]), (18, &[0x88, 2, 18, 0][..]));
    assert_eq!(bytes[12..18], [8, 0, 0, 0, 128, 0]);
}

proptest::proptest! {
    #[test]
    fn random_parameters_never_panic_and_never_name_a_missing_channel(bytes: Vec<u8>, queues in 1..64_u16) {
        let mut scaling = None;
        let _ = set(&mut scaling, &bytes, queues);
        let table = scaling.map(|scaling| scaling.table).unwrap_or(vec![0]);
        proptest::prop_assert!(!table.is_empty() && table.iter().all(|channel| *channel < queues));
    }
}
