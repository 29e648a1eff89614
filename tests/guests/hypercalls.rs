//! Hypercalls of a library user: this file is the example.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use viridian::Builder;
use viridian::hyperv::HvStatus;
use viridian::hyperv::hypercall::{CallCode, Hypercalls};
use viridian::machine::End;
use viridian::machine::Guest;

use super::command::image;
use crate::common::patience::grown;

const HALVE: CallCode = CallCode(0x7f00);
const EXT_QUERY_CAPABILITIES: CallCode = CallCode(0x8001);

/// Adds a call that the TLFS does not define: it halves even numbers.
fn halve(calls: &mut Hypercalls, _guest: &Guest) {
    calls.simple(HALVE, "Halve", None, |_call, number: u64| match number % 2 {
        0 => Ok(number / 2),
        _ => Err(HvStatus::INVALID_PARAMETER),
    });
}

/// Returns the output of the guest image `call` with this call.
fn call(builder: Builder, code: CallCode, value: u64) -> String {
    let builder = builder.kernel(image("call")).cmdline(format!("code={} value={value}", code.0));
    let machine = builder.capture_console().timeout(grown(Duration::from_secs(60))).start().unwrap();
    let line = machine.console().unwrap().wait_for("\n", grown(Duration::from_secs(20))).unwrap();
    let end = machine.wait();
    assert!(matches!(end, End::Exited(0)), "{end}");
    String::from_utf8(line).unwrap()
}

#[test]
fn a_library_user_can_add_a_hypercall() {
    let builder = || Builder::new().hypercalls(halve);
    assert_eq!(call(builder(), HALVE, 42), "status 0, output 21\n");
    assert_eq!(call(builder(), HALVE, 43), "status 5, output 0\n");
    assert_eq!(call(Builder::new(), HALVE, 42), "status 2, output 0\n", "nobody answers it");
}

#[test]
fn a_library_user_can_replace_a_hypercall_of_the_tlfs() {
    let builder = Builder::new().hypercalls(|calls, _guest| {
        calls.simple(EXT_QUERY_CAPABILITIES, "Nothing", None, |_call, ()| Ok(0x77u64));
    });
    assert_eq!(call(builder, EXT_QUERY_CAPABILITIES, 0), "status 0, output 119\n");
}

#[test]
fn a_library_user_can_watch_calls_with_their_input() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let watched = seen.clone();
    let builder = Builder::new().hypercalls(halve).hypercalls(move |calls, _guest| {
        let watched = watched.clone();
        calls.watch(move |call| {
            watched.lock().unwrap().push((call.input.code(), call.header::<u64>(), call.to_string()));
        });
    });
    call(builder, HALVE, 42);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].0, seen[0].1), (HALVE, Some(42)));
    assert!(seen[0].2.contains("0x7f00"), "{seen:?}");
}
