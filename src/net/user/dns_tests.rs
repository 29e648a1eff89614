use super::*;

const QUESTION: &[u8] = b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\x01\x07example\x04test\0\0\x01\0\x01\0\0)\x10\0\0\0\0\0\0\0";

#[test]
fn a_failure_repeats_the_question_and_nothing_else() {
    let answer = failure(QUESTION);
    assert_eq!(answer, b"\x12\x34\x81\x82\0\x01\0\0\0\0\0\0\x07example\x04test\0\0\x01\0\x01");
}

#[test]
fn a_malformed_question_is_answered_by_a_header() {
    for end in HEADER..QUESTION.len() - 13 {
        let answer = failure(&QUESTION[..end]);
        assert_eq!((answer.len(), answer[3], answer[5]), (HEADER, 0x82, 0), "{end}");
    }
    let mut compressed = QUESTION.to_vec();
    compressed[HEADER] = 0xc0;
    assert_eq!(failure(&compressed).len(), HEADER);
}

#[test]
fn a_dead_server_is_asked_last_for_a_while() {
    let (mut health, now) = (Health::default(), Instant::now());
    let [one, two, three] = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    health.mark(one, now);
    let mut servers = [one, two, three];
    health.sort(&mut servers, now);
    assert_eq!(servers, [two, three, one]);
    let mut servers = [one, two, three];
    health.sort(&mut servers, now + DEAD);
    assert_eq!(servers, [one, two, three]);
}
