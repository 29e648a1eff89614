//! Opens the backend for an adapter's settings.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::attachment::Attachment;
use super::capture::{Captured, SharedCapture};
use super::none::Nowhere;
use super::switch::{SwitchError, Switches, UplinkError};
use super::tap::{Tap, TapError};
use super::user::address::Network;
use super::user::forward::Forward;
use super::user::{User, UserError};
use super::{Backend, Queue};
use crate::host::lock::Mutex;
use crate::net::mac::MacAddress;
use crate::net::pcap::{Capture, CaptureError};

/// The reason why a backend cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// An error of the tap.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// An error of the network in this process.
    #[error(transparent)]
    User(#[from] UserError),
    /// An error of the switch.
    #[error(transparent)]
    Switch(#[from] SwitchError),
    /// The switch's uplink was created without these forwards.
    #[error("switch={0} already has an uplink; give fwd= to the first adapter with uplink=user")]
    Uplink(String),
    /// An error of the capture.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The host lacks a thread or a descriptor.
    #[error("cannot set up an adapter: {0}")]
    Host(#[from] io::Error),
}

impl From<UplinkError> for BackendError {
    fn from(error: UplinkError) -> Self {
        match error {
            UplinkError::User(error) => error.into(),
            UplinkError::Switch(error) => error.into(),
            UplinkError::Cable(error) => error.into(),
        }
    }
}

impl BackendError {
    /// Returns `true` if the host failed, and `false` if the settings are wrong.
    pub fn is_hosts(&self) -> bool {
        match self {
            Self::Tap(error) => error.is_hosts(),
            Self::User(UserError::Poll(_)) | Self::Switch(SwitchError::Eventfd(_)) | Self::Host(_) => true,
            Self::User(UserError::Listen { .. })
            | Self::Switch(SwitchError::NoPort | SwitchError::SameAddress(_))
            | Self::Uplink(_)
            | Self::Capture(_) => false,
        }
    }
}

/// An adapter, and the network to attach it to.
pub struct Plug<'a> {
    /// The network.
    pub attachment: &'a Attachment,
    /// Ports of the host that are forwarded to the guest.
    pub forwards: &'a [Forward],
    /// The adapter's address.
    pub address: MacAddress,
    /// Size of the largest IP packet that the guest accepts.
    pub mtu: u16,
    /// Maximum number of channels, each of which gets a queue.
    pub queues: u16,
    /// A file to which every frame is written.
    pub pcap: Option<&'a Path>,
    /// The adapter's name in a capture.
    pub name: &'a str,
}

/// Opens the backend of an adapter.
///
/// # Errors
/// Returns a [`BackendError`].
pub fn open(plug: &Plug<'_>, switches: &Switches) -> Result<Backend, BackendError> {
    let capture = plug.pcap.map(|path| Capture::create(path, plug.name)).transpose()?;
    let capture: Option<SharedCapture> = capture.map(|capture| Arc::new(Mutex::new(capture)));
    let boxed = |queue: Box<dyn Queue>| match &capture {
        Some(capture) => Box::new(Captured::new(queue, capture.clone())),
        None => queue,
    };
    let mut backend = Backend { queues: Vec::new(), spreads: false, uplink: None };
    let queues = plug.queues;
    match plug.attachment {
        Attachment::None => backend.queues.extend((0..queues).map(|_| boxed(Box::new(Nowhere)))),
        Attachment::User => {
            let ways = User::open_with_mtu(Network::default(), plug.forwards, queues, plug.mtu)?;
            backend.queues.extend(ways.into_iter().map(|way| boxed(Box::new(way))));
        }
        Attachment::Tap(name) => {
            let taps = Tap::open(name, queues)?;
            backend.queues.extend(taps.into_iter().map(|tap| boxed(Box::new(tap))));
            backend.spreads = queues > 1;
        }
        Attachment::Switch { name, uplink } => {
            let switch = switches.get(name);
            let port = switch.plug_with_mtu(Some(plug.address), plug.mtu)?;
            if *uplink {
                let made = switch.uplink(plug.forwards, port.number())?;
                backend.uplink = Some(made.ok_or_else(|| BackendError::Uplink(name.clone()))?);
            }
            backend.queues.extend((0..queues).map(|_| boxed(Box::new(port.clone()))));
        }
    }
    Ok(backend)
}
