use super::*;

fn outcome(text: &[u8]) -> Result<Option<Service>, BadGreeting> {
    Greeting::default().add(text)
}

#[test]
fn a_line_names_a_port_or_a_guid() {
    for text in ["CONNECT 1024\n", "connect 1024\n", "CONNECT 1024\r\n", "CONNECT  1024 \n"] {
        assert_eq!(outcome(text.as_bytes()), Ok(Some(Service::from(1024))), "{text:?}");
    }
    let guid = b"CONNECT 00000400-facb-11e6-bd58-64006a7986d3\n";
    assert_eq!(outcome(guid), Ok(Some(Service::from(1024))));
}

#[test]
fn a_line_may_come_in_pieces_and_data_may_follow() {
    let (mut greeting, mut bytes) = (Greeting::default(), &b"CONNECT 22\nSSH-2.0"[..]);
    let mut service = None;
    while service.is_none() {
        let next = &bytes[..bytes.len().min(3).min(greeting.room())];
        let part = Greeting::part(next);
        service = greeting.add(&next[..part]).unwrap();
        bytes = &bytes[part..];
    }
    assert_eq!((service, bytes), (Some(Service::from(22)), &b"SSH-2.0"[..]));
}

#[test]
fn other_lines_are_refused() {
    for text in [&b"\n"[..], b"CONNECT\n", b"CONNECTED 1\n", b"GET / HTTP/1.1\n", b"\xff\xfe 1\n"] {
        assert_eq!(outcome(text), Err(BadGreeting::Word), "{text:?}");
    }
    for text in [&b"CONNECT \n"[..], b"CONNECT -1\n", b"CONNECT 4294967295\n", b"CONNECT x\n"] {
        assert_eq!(outcome(text), Err(BadGreeting::Service(BadService)), "{text:?}");
    }
}

#[test]
fn a_line_without_an_end_is_refused_at_its_limit() {
    let mut greeting = Greeting::default();
    assert_eq!(greeting.add(&[b'C'; MAX_LINE - 1]), Ok(None));
    assert_eq!((greeting.room(), greeting.add(b"C")), (1, Err(BadGreeting::Long)));
}
