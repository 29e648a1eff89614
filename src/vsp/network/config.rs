//! The option `--net`: the settings of a network adapter, and the network that it is attached to.
//!
//! `user,fwd=tcp:8080:80`, `tap=tap0,queues=4`, `switch=lab`, `none`; in a settings file, the same fields form a table.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::nvsp::wire::Version;
use crate::net::attachment::{Attachment, MAX_MTU, MIN_MTU};
use crate::net::mac::MacAddress;
use crate::net::tap::is_interface_name;
use crate::net::user::forward::Forward;

/// Maximum number of channels of an adapter, as in Linux.
pub const MAX_QUEUES: u16 = 64;

/// The settings of a network adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkOptions {
    /// The network: `user`, `tap=NAME`, `switch=NAME` (with `uplink=user`) or `none`.
    pub attachment: Attachment,
    /// Ports of the host that are forwarded to the guest: `fwd=tcp:8080:80`, any number of times.
    pub forwards: Vec<Forward>,
    /// The adapter's address; by default, it is derived from the partition's name.
    pub mac: Option<MacAddress>,
    /// Size of the largest IP packet that the guest may use.
    pub mtu: u16,
    /// Maximum number of channels that the guest may open.
    pub queues: u16,
    /// The newest version of NVSP that the guest can use.
    pub nvsp: Version,
    /// A file to which every frame is written, for Wireshark.
    pub pcap: Option<PathBuf>,
}

/// An error in an adapter's settings, or a conflict between adapters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkOptionsError {
    /// See `MIN_MTU` and `MAX_MTU`.
    #[error("mtu={0} is out of range; give {MIN_MTU} to {MAX_MTU}")]
    Mtu(u16),
    /// See `MAX_QUEUES`.
    #[error("queues={0} is out of range; give 1 to {MAX_QUEUES}")]
    Queues(u16),
    /// Linux does not allow this interface name.
    #[error("tap={0} is not an interface name; give 1 to 15 characters without slashes, colons and spaces")]
    TapName(String),
    /// The switch has no name.
    #[error("switch= needs a name, such as switch=lab")]
    SwitchName,
    /// The network does not support forwards.
    #[error("fwd={0} needs a network of this program: user, or switch=NAME,uplink=user")]
    Forward(Forward),
    /// Two adapters have the same address.
    #[error("{first} and {second} both have the address {mac}; give one of them another mac=")]
    DuplicateMac {
        /// The first adapter.
        first: String,
        /// The second adapter.
        second: String,
        /// The address.
        mac: MacAddress,
    },
    /// Two adapters have the same tap, so that each would get only some of the frames.
    #[error("{first} and {second} both have tap={tap}; give one of them another tap, or connect both with switch=")]
    DuplicateTap {
        /// The first adapter.
        first: String,
        /// The second adapter.
        second: String,
        /// The tap.
        tap: String,
    },
    /// Two forwards have the same port of the host.
    #[error("{first} and {second} both forward {forward}; give one of them another port of the host")]
    DuplicateForward {
        /// The first adapter.
        first: String,
        /// The second adapter.
        second: String,
        /// The forward.
        forward: Forward,
    },
}

impl NetworkOptions {
    /// Creates settings with this network and defaults for the rest.
    pub fn new(attachment: Attachment) -> Self {
        Self { attachment, forwards: Vec::new(), mac: None, mtu: 1500, queues: 1, nvsp: Version::NEWEST, pcap: None }
    }

    /// Returns the address of this adapter, number `index` of the partition called `partition`.
    pub(crate) fn address(&self, partition: &str, index: usize) -> MacAddress {
        self.mac.unwrap_or_else(|| MacAddress::derived(partition, index))
    }

    /// Makes a relative path relative to `folder`.
    pub(crate) fn rebase(&mut self, folder: &Path) {
        if let Some(pcap) = &mut self.pcap {
            *pcap = folder.join(&*pcap);
        }
    }

    /// Checks the settings, without opening anything.
    ///
    /// # Errors
    /// Returns a [`NetworkOptionsError`].
    pub(crate) fn check(&self) -> Result<(), NetworkOptionsError> {
        if !(MIN_MTU..=MAX_MTU).contains(&self.mtu) {
            return Err(NetworkOptionsError::Mtu(self.mtu));
        }
        if !(1..=MAX_QUEUES).contains(&self.queues) {
            return Err(NetworkOptionsError::Queues(self.queues));
        }
        let forwarding = match &self.attachment {
            Attachment::Tap(name) if !is_interface_name(name) => {
                return Err(NetworkOptionsError::TapName(name.clone()));
            }
            Attachment::Switch { name, .. } if name.is_empty() => return Err(NetworkOptionsError::SwitchName),
            Attachment::User | Attachment::Switch { uplink: true, .. } => true,
            _ => false,
        };
        match self.forwards.first() {
            Some(forward) if !forwarding => Err(NetworkOptionsError::Forward(*forward)),
            _ => Ok(()),
        }
    }
}

/// Checks all adapters of all partitions. Each comes with its partition's name and its number there.
///
/// # Errors
/// Returns an error if the settings of one are invalid, or if two have the same address or port.
pub fn check_all<'a>(
    adapters: impl IntoIterator<Item = (&'a str, usize, &'a NetworkOptions)>,
) -> Result<(), NetworkOptionsError> {
    let mut addresses = HashMap::new();
    let mut taps = HashMap::new();
    let mut forwards = HashMap::new();
    for (partition, index, options) in adapters {
        options.check()?;
        let who = format!("adapter {index} of {partition}");
        let mac = options.address(partition, index);
        if let Some(first) = addresses.insert(mac, who.clone()) {
            return Err(NetworkOptionsError::DuplicateMac { first, second: who, mac });
        }
        if let Attachment::Tap(tap) = &options.attachment
            && let Some(first) = taps.insert(tap, who.clone())
        {
            return Err(NetworkOptionsError::DuplicateTap { first, second: who, tap: tap.clone() });
        }
        for forward in &options.forwards {
            if let Some(first) = forwards.insert((forward.protocol, forward.host), who.clone()) {
                return Err(NetworkOptionsError::DuplicateForward { first, second: who, forward: *forward });
            }
        }
    }
    Ok(())
}

const FIELDS: &[&str] = &["kind", "tap", "switch", "uplink", "fwd", "mac", "mtu", "queues", "nvsp", "pcap"];

#[derive(Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    User,
    Tap,
    Switch,
    None,
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Uplink {
    User,
    None,
}

#[derive(Default)]
struct Fields {
    kind: Option<Kind>,
    tap: Option<String>,
    switch: Option<String>,
    uplink: Option<Uplink>,
    forwards: Vec<Forward>,
    mac: Option<MacAddress>,
    mtu: Option<u16>,
    queues: Option<u16>,
    nvsp: Option<Version>,
    pcap: Option<PathBuf>,
}

impl<'de> Deserialize<'de> for NetworkOptions {
    /// Implemented by hand, because `fwd` can be given several times, and because `tap=NAME` selects the kind.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_struct("NetworkOptions", FIELDS, OptionsVisitor)
    }
}

impl Serialize for NetworkOptions {
    /// Writes the format that [`deserialize`](Self::deserialize) reads.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { attachment, forwards, mac, mtu, queues, nvsp, pcap } = self;
        let mut map = serializer.serialize_map(None)?;
        match attachment {
            Attachment::User => map.serialize_entry("kind", "user")?,
            Attachment::None => map.serialize_entry("kind", "none")?,
            Attachment::Tap(name) => map.serialize_entry("tap", name)?,
            Attachment::Switch { name, uplink } => {
                map.serialize_entry("switch", name)?;
                map.serialize_entry("uplink", if *uplink { "user" } else { "none" })?;
            }
        }
        if !forwards.is_empty() {
            map.serialize_entry("fwd", forwards)?;
        }
        if let Some(mac) = mac {
            map.serialize_entry("mac", mac)?;
        }
        map.serialize_entry("mtu", mtu)?;
        map.serialize_entry("queues", queues)?;
        map.serialize_entry("nvsp", nvsp)?;
        if let Some(pcap) = pcap {
            map.serialize_entry("pcap", pcap)?;
        }
        map.end()
    }
}

struct OptionsVisitor;

impl<'de> Visitor<'de> for OptionsVisitor {
    type Value = NetworkOptions;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a network adapter, such as user, tap=tap0, switch=lab or none")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NetworkOptions, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "kind" => once(&mut fields.kind, "kind", map.next_value()?)?,
                "tap" => once(&mut fields.tap, "tap", map.next_value()?)?,
                "switch" => once(&mut fields.switch, "switch", map.next_value()?)?,
                "uplink" => once(&mut fields.uplink, "uplink", map.next_value()?)?,
                "fwd" => fields.forwards.extend(map.next_value::<Several>()?.0),
                "mac" => once(&mut fields.mac, "mac", map.next_value()?)?,
                "mtu" => once(&mut fields.mtu, "mtu", map.next_value()?)?,
                "queues" => once(&mut fields.queues, "queues", map.next_value()?)?,
                "nvsp" => once(&mut fields.nvsp, "nvsp", map.next_value()?)?,
                "pcap" => once(&mut fields.pcap, "pcap", map.next_value()?)?,
                other => return Err(de::Error::unknown_field(other, FIELDS)),
            }
        }
        fields.finish()
    }
}

fn once<T, E: de::Error>(field: &mut Option<T>, name: &'static str, value: T) -> Result<(), E> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::duplicate_field(name)),
    }
}

impl Fields {
    fn finish<E: de::Error>(self) -> Result<NetworkOptions, E> {
        let kind = self.kind.or(match (&self.tap, &self.switch) {
            (Some(_), _) => Some(Kind::Tap),
            (None, Some(_)) => Some(Kind::Switch),
            (None, None) => None,
        });
        let kind = kind.ok_or_else(|| E::missing_field("kind"))?;
        let misplaced = (self.tap.is_some() && kind != Kind::Tap)
            || (self.switch.is_some() && kind != Kind::Switch)
            || (self.uplink.is_some() && kind != Kind::Switch);
        if misplaced {
            return Err(E::custom(
                "an adapter is one of user, tap=NAME, switch=NAME and none; uplink= is only allowed with switch=",
            ));
        }
        let attachment = match kind {
            Kind::User => Attachment::User,
            Kind::None => Attachment::None,
            Kind::Tap => Attachment::Tap(self.tap.ok_or_else(|| E::missing_field("tap"))?),
            Kind::Switch => Attachment::Switch {
                name: self.switch.ok_or_else(|| E::missing_field("switch"))?,
                uplink: matches!(self.uplink, Some(Uplink::User)),
            },
        };
        let defaults = NetworkOptions::new(attachment);
        let options = NetworkOptions {
            forwards: self.forwards,
            mac: self.mac,
            mtu: self.mtu.unwrap_or(defaults.mtu),
            queues: self.queues.unwrap_or(defaults.queues),
            nvsp: self.nvsp.unwrap_or(defaults.nvsp),
            pcap: self.pcap,
            ..defaults
        };
        options.check().map_err(E::custom)?;
        Ok(options)
    }
}

/// One forward, or a list of them.
struct Several(Vec<Forward>);

impl<'de> Deserialize<'de> for Several {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Several;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a port to forward, such as tcp:8080:80, or a list of them")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Several, E> {
                text.parse().map(|forward| Several(vec![forward])).map_err(E::custom)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Several, A::Error> {
                let mut forwards = Vec::new();
                while let Some(forward) = list.next_element()? {
                    forwards.push(forward);
                }
                Ok(Several(forwards))
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
