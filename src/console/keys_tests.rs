use super::*;

fn typed(keys: &mut Keys, text: &str) -> (String, Option<Command>) {
    let mut bytes = text.as_bytes().to_vec();
    let (kept, command) = keys.filter(&mut bytes);
    bytes.truncate(kept);
    (String::from_utf8(bytes).unwrap(), command)
}

#[test]
fn everything_but_ctrl_a_goes_to_the_guest() {
    assert_eq!(typed(&mut Keys::default(), "xhc\x03\x1b[A\r"), ("xhc\x03\x1b[A\r".into(), None));
}

#[test]
fn ctrl_a_makes_a_command_of_the_next_key() {
    assert_eq!(typed(&mut Keys::default(), "a\x01xb"), ("ab".into(), Some(Command::Quit)));
    assert_eq!(typed(&mut Keys::default(), "\x01h"), (String::new(), Some(Command::Help)));
    assert_eq!(typed(&mut Keys::default(), "\x01\x01x"), ("\x01x".into(), None));
    assert_eq!(typed(&mut Keys::default(), "\x01c"), ("\x03".into(), None));
    assert_eq!(typed(&mut Keys::default(), "\x01zq"), ("q".into(), None));
    assert_eq!(typed(&mut Keys::default(), "\x01x\x01h").1, Some(Command::Quit), "quitting wins");
}

#[test]
fn ctrl_a_and_the_key_of_its_command_may_arrive_separately() {
    let mut keys = Keys::default();
    assert_eq!(typed(&mut keys, "a\x01"), ("a".into(), None));
    assert_eq!(typed(&mut keys, "xb"), ("b".into(), Some(Command::Quit)));
}
