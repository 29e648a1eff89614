//! A tap device: frames go to the host's network stack (Linux: `Documentation/networking/tuntap.rst`).
//!
//! Each frame has a [`VnetHeader`], so that checksums and segmentation can stay incomplete end to end and are done by
//! the host's hardware, or not at all. A device with several queues distributes connections over them: a connection's
//! packets arrive on the queue on which it sends.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, netdevice};
use zerocopy::{FromBytes, IntoBytes};

use super::Queue;
use crate::net::frame::{Frame, FrameBuffer, MAX_FRAME};
use crate::net::offload::vnet::{VNET_HEADER, VnetHeader};

mod ioctl;

/// Maximum length of an interface's name (`IFNAMSIZ` minus the zero).
pub const MAX_NAME: usize = 15;

const DEVICE: &str = "/dev/net/tun";

/// The reason why a tap device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// Linux would truncate the name.
    #[error("'{0}' is not an interface name: give 1 to 15 characters without slashes, colons and spaces")]
    Name(String),
    /// The kernel has no tap devices.
    #[error("{DEVICE} does not exist; load the driver: modprobe tun")]
    NoDriver,
    /// The device file cannot be opened.
    #[error("{DEVICE} cannot be opened: {0}; give this user permission to read and write it")]
    Device(io::Error),
    /// The interface does not exist, and this user may not create it.
    #[error(
        "there is no tap '{0}', and only root can create one; as root: ip tuntap add dev {0} mode tap user {user} multi_queue && ip link set {0} up",
        user = user()
    )]
    Unknown(String),
    /// The interface belongs to another user.
    #[error("tap '{0}' belongs to another user; as root, give it to this one: ip tuntap del dev {0} mode tap multi_queue; ip tuntap add dev {0} mode tap user {user} multi_queue", user = user())]
    NotAllowed(String),
    /// Another program uses it.
    #[error("tap '{0}' is in use by another program; stop that program, or name another tap")]
    Busy(String),
    /// It is not a tap, or has another number of queues.
    #[error("'{name}' exists, but not as a tap with {queues} queues; {remedy}")]
    Kind {
        /// The interface.
        name: String,
        /// The requested number of queues.
        queues: u16,
        /// A remedy.
        remedy: &'static str,
    },
    /// Any other error.
    #[error("tap '{name}' cannot be used: {source}")]
    Other {
        /// The interface.
        name: String,
        /// The error of the kernel.
        source: io::Error,
    },
}

impl TapError {
    /// Returns `true` if the host failed, and `false` if the settings are wrong.
    pub fn is_hosts(&self) -> bool {
        matches!(self, Self::NoDriver | Self::Device(_) | Self::Other { .. })
    }
}

fn user() -> String {
    rustix::process::getuid().as_raw().to_string()
}

/// Returns `true` if Linux accepts `name` as the name of an interface.
pub fn is_interface_name(name: &str) -> bool {
    let forbidden = |character: char| character == '/' || character == ':' || character.is_whitespace();
    (1..=MAX_NAME).contains(&name.len()) && name != "." && name != ".." && !name.contains(forbidden)
}

/// One queue of a tap device.
#[derive(Debug)]
pub struct Tap {
    file: File,
}

impl Tap {
    /// Opens `queues` queues of the tap called `name`, which is created if it does not exist. A created tap is set up,
    /// and removed with its last queue.
    ///
    /// # Errors
    /// Returns a [`TapError`].
    pub fn open(name: &str, queues: u16) -> Result<Vec<Self>, TapError> {
        if !is_interface_name(name) {
            return Err(TapError::Name(name.to_string()));
        }
        let exists = exists(name);
        let mut several = queues > 1;
        let mut taps = Vec::new();
        while taps.len() < usize::from(queues.max(1)) {
            let file = open_device()?;
            match ioctl::attach(&file, name, several) {
                Ok(()) => taps.push(Self::configure(file, name)?),
                // A device that was created for several queues requires the flag even for a single one.
                Err(Errno::INVAL) if !several && taps.is_empty() => several = true,
                Err(error) => return Err(explain(name, queues, exists, error)),
            }
        }
        if !exists {
            ioctl::set_up(name).map_err(|source| TapError::Other { name: name.to_string(), source: source.into() })?;
        }
        Ok(taps)
    }

    fn configure(file: File, name: &str) -> Result<Self, TapError> {
        let other = |error: Errno| TapError::Other { name: name.to_string(), source: error.into() };
        ioctl::set_header_length(&file, VNET_HEADER).map_err(other)?;
        ioctl::allow_open_frames(&file).map_err(other)?;
        Ok(Self { file })
    }
}

/// Returns `true` if there is an interface with that name in this thread's network namespace.
fn exists(name: &str) -> bool {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None);
    socket.is_ok_and(|socket| netdevice::name_to_index(socket, name).is_ok())
}

fn open_device() -> Result<File, TapError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    options.open(DEVICE).map_err(|error| match error.kind() {
        ErrorKind::NotFound => TapError::NoDriver,
        _ if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) => TapError::NoDriver,
        _ => TapError::Device(error),
    })
}

fn explain(name: &str, queues: u16, exists: bool, error: Errno) -> TapError {
    let name = name.to_string();
    match error {
        Errno::PERM if !exists => TapError::Unknown(name),
        Errno::PERM => TapError::NotAllowed(name),
        Errno::BUSY => TapError::Busy(name),
        Errno::INVAL if queues > 1 => {
            TapError::Kind { name, queues, remedy: "create it with multi_queue, or give queues=1" }
        }
        Errno::INVAL => TapError::Kind { name, queues, remedy: "name another interface, or none that exists" },
        Errno::TOOBIG => TapError::Kind { name, queues, remedy: "end the program that uses its queues, or give fewer" },
        other => TapError::Other { name, source: other.into() },
    }
}

impl Queue for Tap {
    fn send(&mut self, frame: Frame<'_>) -> bool {
        let header = VnetHeader::of(&frame);
        loop {
            // A device that is down accepts no frames, like a link that is down.
            match rustix::io::writev(&self.file, &[IoSlice::new(header.as_bytes()), IoSlice::new(frame.bytes)]) {
                Err(Errno::INTR) => {}
                result => return result.is_ok(),
            }
        }
    }

    fn receive(&mut self, frame: &mut FrameBuffer) -> bool {
        loop {
            let bytes = &mut frame.bytes;
            bytes.clear();
            bytes.reserve(VNET_HEADER + MAX_FRAME);
            match rustix::io::read(&self.file, spare_capacity(bytes)) {
                Ok(1..) => {}
                Err(Errno::INTR) => continue,
                _ => return false,
            }
            let Ok((header, _)) = VnetHeader::read_from_prefix(bytes) else { continue };
            bytes.drain(..VNET_HEADER);
            if let Some(offload) = header.offload(bytes) {
                frame.offload = offload;
                return true;
            }
        }
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
