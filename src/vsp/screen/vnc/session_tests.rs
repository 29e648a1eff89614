//! Viewers that send anything, to a server with a real screen, keyboard and mouse.

use proptest::prelude::*;
use zerocopy::IntoBytes;

use crate::vsp::screen::vnc::format::Format;
use crate::vsp::screen::vnc::trial::{send, send_all};

/// Returns a message of a kind that exists, with the body as far as its length goes, or anything.
fn message((kind, body): (u8, Vec<u8>)) -> Vec<u8> {
    const ENCODINGS: [i32; 11] = [0, 1, 5, 6, 7, 16, -223, -308, -258, -261, -239];
    let body_of = |length: usize| body.iter().copied().chain(std::iter::repeat(0)).take(length);
    match kind % 11 {
        0 => [0, 0, 0, 0].into_iter().chain(Format::NATIVE.as_bytes().iter().copied()).collect(),
        1 => [0, 0, 0, 0, 8, 8, 0, 1, 0, 7, 0, 7, 0, 3, 0, 3, 6].into_iter().chain(body_of(3)).collect(),
        2 => {
            let known: Vec<u8> = body.iter().flat_map(|at| ENCODINGS[usize::from(*at) % 11].to_be_bytes()).collect();
            let count = (body.len() as u16).to_be_bytes();
            [&[2, 0, count[0], count[1]], &known[..]].concat()
        }
        3 => [3, 1, 0, 0, 0, 0, 255, 255, 255, 255].to_vec(),
        4 => [3].into_iter().chain(body_of(9)).collect(),
        5 => [4].into_iter().chain(body_of(7)).collect(),
        6 => [5].into_iter().chain(body_of(5)).collect(),
        7 => [&[6, 0, 0, 0], &(body.len() as u32).to_be_bytes()[..], &body].concat(),
        8 => [255, 0].into_iter().chain(body_of(10)).collect(),
        9 => [251, 0].into_iter().chain(body_of(4)).chain([1, 0]).chain(body_of(16)).collect(),
        _ => body,
    }
}

proptest! {
    #[test]
    fn no_viewer_harms_the_server(messages in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..24)), 0..64)) {
        send(&messages.into_iter().flat_map(message).collect::<Vec<u8>>());
    }

    #[test]
    fn no_greeting_harms_the_server(kind: u8, version in "RFB 003.00[378]\n", rest: Vec<u8>) {
        send_all(&[&[kind], version.as_bytes(), &rest].concat());
    }
}
