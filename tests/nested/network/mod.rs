//! Stock Linux's hv_netvsc on the nested host and on both engines: every backend, and what comes and goes meanwhile.
//!
//! What the guests do stands in `guest/`, what the nested host does meanwhile in `host/`, and what either does beside those.
//! `VIRIDIAN_FULL=1` has everything that is repeated done 50 times, as `scripts/soak-network` does.

mod guest;
mod lab;
mod plug;
mod tap;
mod user;
