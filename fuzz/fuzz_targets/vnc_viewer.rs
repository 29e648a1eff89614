//! Feeds a VNC server with the bytes of a viewer: a greeting and messages.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| viridian::internals::screen::hear_viewer(bytes));
