use super::*;
use serde::de::value::{Error, MapDeserializer};

#[test]
fn the_options_of_the_command_line_are_parsed() {
    let text = "user,fwd=tcp:8080:80,fwd=udp:5353:53,mac=02:00:00:00:00:01,mtu=9000,queues=4,pcap=/tmp/a.pcapng";
    let options: NetworkOptions = crate::config::text::parse(text).unwrap();
    assert_eq!(
        (options.attachment, options.forwards.len(), options.mtu, options.queues),
        (Attachment::User, 2, 9000, 4)
    );
    let options: NetworkOptions = crate::config::text::parse("tap=tap0,queues=4").unwrap();
    assert_eq!((options.attachment, options.queues), (Attachment::Tap("tap0".to_string()), 4));
    let parse = |text: &str| crate::config::text::parse::<NetworkOptions>(text).unwrap_err().to_string();
    assert!(parse("user,queue=4").contains("did you mean `queues`?"));
    assert!(parse("usr").contains("did you mean `user`?"));
    assert!(parse("user,nvsp=3").contains("give one of 1, 2, 4, 5, 6, 6.1"));
    assert!(parse("user,mtu=1").contains("576 to 9000"));
    assert!(parse("user,mtu=9000,mtu=1500").contains("mtu is given twice"));
}

/// Parses key-value pairs as the command line does.
fn pairs(pairs: &[(&str, &str)]) -> Result<NetworkOptions, Error> {
    NetworkOptions::deserialize(MapDeserializer::new(pairs.iter().copied()))
}

fn file(text: &str) -> Result<NetworkOptions, toml::de::Error> {
    toml::from_str(text)
}

#[test]
fn every_field_is_parsed() {
    let options = file(
        "kind = 'user'\nfwd = ['tcp:8080:80', 'udp:5353:53']\nmac = '02:00:00:00:00:01'\nmtu = 9000\nqueues = 4\nnvsp = '5'\npcap = 'a.pcapng'",
    )
    .unwrap();
    assert_eq!(options.attachment, Attachment::User);
    assert_eq!(options.forwards.iter().map(Forward::to_string).collect::<Vec<_>>(), ["tcp:8080:80", "udp:5353:53"]);
    assert_eq!((options.mtu, options.queues, options.mac), (9000, 4, Some(MacAddress([2, 0, 0, 0, 0, 1]))));
    assert_eq!((options.nvsp, options.pcap.as_deref()), (Version::V5, Some(Path::new("a.pcapng"))));
    let written = toml::to_string(&options).unwrap();
    assert_eq!(file(&written).unwrap(), options, "{written}");
}

#[test]
fn the_kind_follows_from_tap_or_switch() {
    assert_eq!(pairs(&[("tap", "tap0")]).unwrap().attachment, Attachment::Tap("tap0".to_string()));
    let switch = |uplink| Attachment::Switch { name: "lab".to_string(), uplink };
    assert_eq!(pairs(&[("switch", "lab")]).unwrap().attachment, switch(false));
    assert_eq!(pairs(&[("switch", "lab"), ("uplink", "user")]).unwrap().attachment, switch(true));
    assert_eq!(pairs(&[("kind", "tap"), ("tap", "tap0")]).unwrap().attachment, Attachment::Tap("tap0".to_string()));
    assert_eq!(pairs(&[("kind", "none")]).unwrap(), NetworkOptions::new(Attachment::None));
}

#[test]
fn forwards_can_be_given_several_times() {
    let options = pairs(&[("kind", "user"), ("fwd", "tcp:8080:80"), ("fwd", "tcp:8081:80")]).unwrap();
    assert_eq!(options.forwards.len(), 2);
    assert_eq!(file("kind = 'user'\nfwd = 'tcp:8080:80'").unwrap().forwards.len(), 1);
}

#[test]
fn errors_say_what_is_wrong_with_a_setting() {
    for (given, problem) in [
        (&[("kind", "usr")][..], "usr"),
        (&[], "kind"),
        (&[("kind", "user"), ("kind", "none")], "kind"),
        (&[("kind", "user"), ("speed", "10")], "speed"),
        (&[("kind", "user"), ("mac", "x")], "not a MAC address"),
        (&[("kind", "user"), ("mac", "01:00:5e:00:00:01")], "group address"),
        (&[("kind", "user"), ("fwd", "80")], "not a port forward"),
        (&[("kind", "user"), ("tap", "tap0")], "one of user"),
        (&[("kind", "user"), ("uplink", "user")], "one of user"),
        (&[("tap", "tap0"), ("switch", "lab")], "one of user"),
        (&[("kind", "tap")], "tap"),
        (&[("tap", "a name that is too long")], "is not an interface name"),
        (&[("switch", "")], "needs a name"),
        (&[("tap", "tap0"), ("fwd", "tcp:1:1")], "needs a network"),
    ] {
        let error = pairs(given).unwrap_err().to_string();
        assert!(error.contains(problem), "{given:?}: {error}");
    }
    for (text, problem) in [
        ("mtu = 9001", "576 to 9000"),
        ("mtu = 575", "576 to 9000"),
        ("queues = 0", "1 to 64"),
        ("queues = 65", "1 to 64"),
        ("mtu = 70000", "u16"),
    ] {
        let error = file(&format!("kind = 'none'\n{text}")).unwrap_err().to_string();
        assert!(error.contains(problem), "{text}: {error}");
    }
}

#[test]
fn adapters_of_all_partitions_are_checked_together() {
    let plain = NetworkOptions::new(Attachment::None);
    check_all([("a", 0, &plain), ("a", 1, &plain), ("b", 0, &plain)]).unwrap();
    let fixed = NetworkOptions { mac: Some(plain.address("a", 0)), ..plain.clone() };
    let error = check_all([("a", 0, &plain), ("b", 0, &fixed)]).unwrap_err().to_string();
    assert!(error.contains("adapter 0 of a and adapter 0 of b") && error.contains("mac="), "{error}");
    let forwarding =
        |text: &str| NetworkOptions { forwards: vec![text.parse().unwrap()], ..NetworkOptions::new(Attachment::User) };
    let (one, other) = (forwarding("tcp:8080:80"), forwarding("tcp:8080:443"));
    assert!(matches!(check_all([("a", 0, &one), ("b", 0, &other)]), Err(NetworkOptionsError::DuplicateForward { .. })));
    check_all([("a", 0, &one), ("b", 0, &forwarding("udp:8080:80"))]).unwrap();
    let tap = |name: &str| NetworkOptions::new(Attachment::Tap(name.into()));
    let error = check_all([("a", 0, &tap("tap0")), ("b", 0, &tap("tap0"))]).unwrap_err().to_string();
    assert!(error.contains("adapter 0 of a and adapter 0 of b both have tap=tap0"), "{error}");
    check_all([("a", 0, &tap("tap0")), ("a", 1, &tap("tap1"))]).unwrap();
}
