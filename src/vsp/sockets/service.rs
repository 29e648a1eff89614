//! The addresses of sockets: ports of AF_VSOCK, and GUIDs.

use std::fmt;
use std::str::FromStr;

use zerocopy::{FromBytes, IntoBytes};

use crate::wire::guid::{Guid, interface};

/// The address of a listener: a port of AF_VSOCK, or a GUID.
///
/// A port is a GUID too: its eight hexadecimal digits, and `-facb-11e6-bd58-64006a7986d3`. Linux has listeners on ports only.
///
/// ```
/// use viridian::vmbus::Guid;
/// use viridian::vsp::sockets::Service;
///
/// let service = Service::from(1024);
/// assert_eq!(service, "1024".parse()?);
/// assert_eq!(service, "00000400-facb-11e6-bd58-64006a7986d3".parse()?);
/// assert_eq!(service.to_string(), "1024");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service(Guid);

impl Service {
    /// Returns the GUID.
    pub(crate) fn guid(self) -> Guid {
        self.0
    }

    /// Returns the port, if it is one.
    pub(crate) fn port(self) -> Option<u32> {
        let number = first_group(self.0);
        (port_guid(number) == self.0).then_some(number)
    }
}

/// Returns the first group of a GUID's digits.
fn first_group(guid: Guid) -> u32 {
    u32::read_from_prefix(guid.as_bytes()).map_or(0, |(number, _)| number)
}

fn port_guid(port: u32) -> Guid {
    let mut bytes = [0; size_of::<Guid>()];
    bytes.copy_from_slice(interface::VSOCK_TEMPLATE.as_bytes());
    bytes[..4].copy_from_slice(port.as_bytes());
    zerocopy::transmute!(bytes)
}

impl From<u32> for Service {
    fn from(port: u32) -> Self {
        Self(port_guid(port))
    }
}

impl From<Guid> for Service {
    fn from(guid: Guid) -> Self {
        Self(guid)
    }
}

/// The text is neither a port nor a GUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give a port, from 0 to 4294967294, or a GUID")]
pub struct BadService;

impl FromStr for Service {
    type Err = BadService;

    fn from_str(text: &str) -> Result<Self, BadService> {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u32>() {
            // The last one means "any port".
            Ok(port) if is_number && port != u32::MAX => Ok(port.into()),
            _ => text.parse().map(Self).map_err(|_| BadService),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port() {
            Some(port) => port.fmt(formatter),
            None => self.0.fmt(formatter),
        }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
