//! Stock Linux's hv_netvsc on the nested host and on both engines: every backend, hot plug, and reloaded drivers.
//!
//! Scripts for the guests are in `guest/`, those for the nested host in `host/`, and common ones in this folder. With
//! `VIRIDIAN_FULL=1`, repeated steps are done 50 times. `scripts/soak-network` sets that.

mod guest;
mod lab;
mod plug;
mod tap;
mod user;
