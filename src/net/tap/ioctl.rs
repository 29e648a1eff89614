//! The system calls of tap devices for which no crate has a safe interface (Linux: `include/uapi/linux/if_tun.h`,
//! `netdevice(7)`).
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};

/// `struct ifreq` as these calls use it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}
const _: () = assert!(size_of::<InterfaceRequest>() == size_of::<libc::ifreq>());

impl InterfaceRequest {
    /// The caller has checked the length of the name; a longer one is truncated, and still ends with a zero.
    fn new(name: &str, flags: libc::c_int) -> Self {
        let mut request = Self { name: [0; libc::IFNAMSIZ], flags: flags as libc::c_short, rest: [0; 22] };
        let room = &mut request.name[..libc::IFNAMSIZ - 1];
        room.iter_mut().zip(name.bytes()).for_each(|(place, byte)| *place = byte);
        request
    }
}

fn check(result: libc::c_int) -> Result<(), Errno> {
    if result < 0 { Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)) } else { Ok(()) }
}

fn call(fd: RawFd, number: libc::Ioctl, request: &mut InterfaceRequest) -> Result<(), Errno> {
    // SAFETY: every `number` that this module passes takes a pointer to a `struct ifreq`, and `InterfaceRequest` has
    // that size and layout. The reference is valid for reading and writing during the call, and the kernel keeps no
    // copy of it.
    check(unsafe { libc::ioctl(fd, number, std::ptr::from_mut(request)) })
}

/// Makes `file` a queue of the tap called `name`.
pub(super) fn attach(file: &File, name: &str, several: bool) -> Result<(), Errno> {
    let queues = if several { libc::IFF_MULTI_QUEUE } else { 0 };
    let mut request = InterfaceRequest::new(name, libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | queues);
    call(file.as_raw_fd(), libc::TUNSETIFF, &mut request)
}

/// Sets the length of the header before each frame.
pub(super) fn set_header_length(file: &File, length: usize) -> Result<(), Errno> {
    let length = length as libc::c_int;
    // SAFETY: TUNSETVNETHDRSZ reads an int through the pointer, and `length` lives until the call returns.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, std::ptr::from_ref(&length)) })
}

/// Allows frames with incomplete checksums, and unsegmented TCP packets.
pub(super) fn allow_open_frames(file: &File) -> Result<(), Errno> {
    let offloads = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
    // SAFETY: TUNSETOFFLOAD takes a number, not a pointer.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads)) })
}

/// Sets an interface up.
pub(super) fn set_up(name: &str) -> Result<(), Errno> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    let mut request = InterfaceRequest::new(name, 0);
    call(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &mut request)?;
    request.flags |= libc::IFF_UP as libc::c_short;
    call(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &mut request)
}
