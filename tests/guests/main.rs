//! Guests from `guest-images/` on this host's KVM, through the command line and through the library.

mod bad_disks;
mod bad_input;
mod bad_paths;
mod balloon;
mod boot;
mod budget;
mod command;
#[path = "../common/mod.rs"]
mod common;
mod console;
mod control;
mod control_screen;
mod control_sockets;
mod devices;
mod embedded;
mod ends;
mod examples;
mod fleet;
mod floods;
mod guest_image;
mod hung;
mod hypercalls;
mod hyperv;
#[path = "../common/hyperv_images.rs"]
mod hyperv_images;
mod images;
mod jobs;
mod lab;
mod library;
mod libvncclient;
mod limits;
mod manual;
mod many;
mod outputs;
mod own;
mod pausing;
mod promptly;
#[path = "../common/rfb.rs"]
mod rfb;
mod screen;
mod serve;
mod services;
#[path = "../common/jobs.rs"]
mod shell_jobs;
mod sockets;
mod stalled;
mod tracing;
mod verbs;
mod viewers;
#[path = "../common/vnc.rs"]
mod vnc;
