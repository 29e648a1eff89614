//! Disks as stock Linux uses them, on the nested host and on both engines.
//!
//! `VIRIDIAN_FULL=1` has everything that is repeated done 50 times, as `scripts/soak-disks` does.

mod changes;
mod discards;
mod guest;
mod kills;
mod pausing;
mod plug;
mod roots;
mod tools;
