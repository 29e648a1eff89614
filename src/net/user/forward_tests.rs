use super::*;

#[test]
fn forwards_print_as_they_are_read() {
    for text in ["tcp:8080:80", "udp:5353:53", "tcp:0.0.0.0:8080:80", "tcp:[::1]:8080:80"] {
        assert_eq!(text.parse::<Forward>().unwrap().to_string(), text);
    }
    let forward: Forward = "tcp:127.0.0.1:1:65535".parse().unwrap();
    assert_eq!((forward.host.to_string().as_str(), forward.guest_port), ("127.0.0.1:1", 65535));
    assert_eq!(forward.to_string(), "tcp:1:65535");
}

#[test]
fn other_texts_are_refused_with_the_reason() {
    for (text, problem) in [
        ("", "no colon"),
        ("icmp:1:2", "neither tcp nor udp"),
        ("tcp:80", "guest's port is missing"),
        ("tcp:0:80", "host's port"),
        ("tcp:80:", "guest's port is not a number"),
        ("tcp:70000:80", "host's port"),
        ("tcp:80:http", "guest's port is not a number"),
        ("tcp:host:80:80", "host's address"),
    ] {
        let error = text.parse::<Forward>().unwrap_err().to_string();
        assert!(error.contains(problem), "{text}: {error}");
    }
}
