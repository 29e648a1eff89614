//! `viridian serve`, by its API and in a browser. In one binary, these tests run side by side: each keeps a processor busy for half of
//! its time.

mod api;
#[path = "../common/mod.rs"]
mod common;
mod page;
