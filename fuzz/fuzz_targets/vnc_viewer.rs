//! What a VNC viewer sends: its greeting, and its messages.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| viridian::internals::screen::hear_viewer(bytes));
