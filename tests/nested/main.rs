//! Guest images and stock Linux on the nested host. Each module is one subject; in one binary, their nested hosts run side by side.
//!
//! Many checks use the library: the test binary itself runs on the nested host, with one of the ignored tests.

#[path = "../common/mod.rs"]
mod common;
mod disks;
mod drivers;
mod exits_to_user_space;
mod guests;
mod host;
mod hyperv_engines;
#[path = "../common/hyperv_images.rs"]
mod hyperv_images;
mod linux_32_bit;
mod linux_command;
mod linux_guest;
mod memory;
mod network;
#[path = "../common/rfb.rs"]
mod rfb;
mod screen;
mod services;
mod shares;
mod sockets;
mod stock_linux;
#[path = "../common/vnc.rs"]
mod vnc;
