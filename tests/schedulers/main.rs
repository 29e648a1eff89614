//! Viridian under programs that start it on many hosts or keep it running, with the examples of `examples/`.

#[path = "../common/mod.rs"]
mod common;
mod container;
mod files;
mod hcl;
mod slurm;
