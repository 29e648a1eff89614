//! Disks as stock Linux uses them, on the nested host and on both engines.
//!
//! With `VIRIDIAN_FULL=1`, repeated steps are done 50 times. `scripts/soak-disks` sets that.

mod changes;
mod discards;
mod guest;
mod kills;
mod pausing;
mod plug;
mod roots;
mod tools;
