//! Guest images and stock Linux on the nested host. Each module is one subject; in one binary, their nested hosts run side by side.

#[path = "../common/mod.rs"]
mod common;
mod disks;
mod drivers;
mod exits_to_user_space;
mod guests;
mod hyperv_engines;
#[path = "../common/hyperv_images.rs"]
mod hyperv_images;
mod linux_32_bit;
mod linux_command;
mod linux_guest;
mod network;
mod shares;
mod stock_linux;
