//! A learning switch between the partitions of one process.
//!
//! A frame goes to the port where its destination was last seen, or to all other ports if it is for a group or an
//! unknown address. VLAN tags are passed on without evaluation. Frames are passed on as guests send them, with
//! incomplete checksums and unsegmented, from one guest's memory to the other's.
//!
//! Senders never wait: a port's inbox has a limit, and frames beyond it are dropped and counted. The dropped frames are those
//! of the source port with the most frames in that inbox, and the inbox is emptied in rotation. So a port that floods takes
//! nothing from the others.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Instant;

use super::Queue;
pub use super::ports::MAX_PORTS;
use super::ports::{Ports, SwitchPort, USUAL_MTU};
use super::user::address::Network;
use super::user::forward::Forward;
use super::user::{User, UserError};
use crate::host::lock::Mutex;
use crate::net::frame::{ETHERNET_HEADER, Frame, FrameBuffer, MAX_FRAME};
use crate::net::mac::MacAddress;
use inbox::Inbox;
use table::Table;
use uplink::Cable;

mod inbox;
mod table;
pub mod uplink;

/// The switches of a process, by name. A switch exists as long as something is plugged in.
#[derive(Debug, Default)]
pub struct Switches {
    switches: Mutex<HashMap<String, Weak<Switch>>>,
}

impl Switches {
    /// Returns the switches that the machines of this process share.
    pub fn of_process() -> &'static Self {
        static SWITCHES: LazyLock<Switches> = LazyLock::new(Switches::default);
        &SWITCHES
    }

    /// Returns the switch called `name`.
    pub fn get(&self, name: &str) -> Arc<Switch> {
        let mut switches = self.switches.lock();
        if let Some(switch) = switches.get(name).and_then(Weak::upgrade) {
            return switch;
        }
        switches.retain(|_, switch| switch.strong_count() > 0);
        let switch = Arc::new(Switch::default());
        switches.insert(name.to_string(), Arc::downgrade(&switch));
        switch
    }
}

/// The reason why nothing can be plugged in.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// All ports are in use.
    #[error("the switch has {MAX_PORTS} ports, and all are in use; use a second switch")]
    NoPort,
    /// The address is already in use.
    #[error("another adapter at the switch has the address {0}; give one of them another mac=")]
    SameAddress(MacAddress),
    /// The host cannot create an eventfd.
    #[error("cannot create an eventfd: {0}; raise the limit on open files (ulimit -n)")]
    Eventfd(#[from] io::Error),
}

/// A learning switch; see the module's description.
#[derive(Debug, Default)]
pub struct Switch {
    table: Mutex<Table>,
    ports: Mutex<[Option<Arc<Inbox>>; MAX_PORTS]>,
    /// The state of the ports, for the uplink's network.
    known: Arc<Ports>,
    uplink: Mutex<Weak<Cable>>,
}

#[derive(Debug)]
struct Plug {
    switch: Arc<Switch>,
    port: usize,
    inbox: Arc<Inbox>,
}

impl Drop for Plug {
    fn drop(&mut self) {
        // The next user of the port must not find the old addresses.
        let mut ports = self.switch.ports.lock();
        self.switch.table.lock().forget(self.port);
        ports[self.port] = None;
    }
}

/// A port of a switch. Clones share the port: each waiting frame is fetched by one of them.
#[derive(Clone, Debug)]
pub struct Port {
    plug: Arc<Plug>,
    targets: Vec<Arc<Inbox>>,
    /// The port at which the last fetched frame arrived.
    source: SwitchPort,
}

impl Switch {
    /// Plugs in a NIC with this address, or something that has no address.
    ///
    /// # Errors
    /// Returns a [`SwitchError`].
    pub fn plug(self: &Arc<Self>, address: Option<MacAddress>) -> Result<Port, SwitchError> {
        self.plug_with_mtu(address, USUAL_MTU)
    }

    /// Plugs in a NIC that accepts IP packets of up to `mtu` bytes.
    ///
    /// # Errors
    /// Returns a [`SwitchError`].
    pub fn plug_with_mtu(self: &Arc<Self>, address: Option<MacAddress>, mtu: u16) -> Result<Port, SwitchError> {
        let inbox = Arc::new(Inbox::new()?);
        let port = {
            let mut ports = self.ports.lock();
            let port = ports.iter().position(Option::is_none).ok_or(SwitchError::NoPort)?;
            if let Some(address) = address.filter(|address| !self.table.lock().pin(*address, port)) {
                return Err(SwitchError::SameAddress(address));
            }
            ports[port] = Some(inbox.clone());
            self.known.plug(SwitchPort::new(port), mtu);
            port
        };
        let plug = Arc::new(Plug { switch: self.clone(), port, inbox });
        Ok(Port { plug, targets: Vec::new(), source: SwitchPort::default() })
    }
}

impl Switch {
    /// Returns the cable to a network in this process, which exists as long as it is used. The first call creates it,
    /// with ports forwarded to the guest at `target`. Returns `None` for a later call with forwards.
    ///
    /// # Errors
    /// Returns an error if a port is not available, or if the switch or the host lacks resources.
    pub fn uplink(
        self: &Arc<Self>,
        forwards: &[Forward],
        target: SwitchPort,
    ) -> Result<Option<Arc<Cable>>, UplinkError> {
        let mut uplink = self.uplink.lock();
        if let Some(cable) = uplink.upgrade() {
            return Ok(forwards.is_empty().then_some(cable));
        }
        let way = User::behind(Network::default(), forwards, self.known.clone(), target)?;
        // The router's address is pinned, so that no guest can pretend to be the router.
        let cable = Arc::new(Cable::connect(self.plug(Some(Network::ROUTER))?, way)?);
        *uplink = Arc::downgrade(&cable);
        Ok(Some(cable))
    }
}

/// The reason why a switch has no uplink.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// An error of the network.
    #[error(transparent)]
    User(#[from] UserError),
    /// An error of the switch.
    #[error(transparent)]
    Switch(#[from] SwitchError),
    /// An error of the cable.
    #[error("cannot connect the uplink: {0}")]
    Cable(#[from] io::Error),
}

impl Port {
    /// Returns the number of the port.
    pub fn number(&self) -> SwitchPort {
        SwitchPort::new(self.plug.port)
    }

    fn send_at(&mut self, frame: Frame<'_>, now: Instant) -> bool {
        let (Some(destination), Some(source)) = (MacAddress::destination(frame.bytes), MacAddress::source(frame.bytes))
        else {
            return false;
        };
        if !(ETHERNET_HEADER..=MAX_FRAME).contains(&frame.bytes.len()) {
            return false;
        }
        let Plug { switch, port, .. } = &*self.plug;
        let known = {
            let mut table = switch.table.lock();
            if !table.learn(source, *port, now) {
                return false;
            }
            if destination.is_group() { None } else { table.find(destination, now) }
        };
        // Inboxes are not locked while the list of ports is, so plugging and unplugging never wait.
        match known {
            // The destination is at the port from which the frame comes.
            Some(to) if to == *port => return true,
            Some(to) => self.targets.extend(switch.ports.lock()[to].clone()),
            None => {
                let ports = switch.ports.lock();
                let others = ports.iter().enumerate().filter(|(other, _)| other != port);
                self.targets.extend(others.filter_map(|(_, inbox)| inbox.clone()));
            }
        }
        self.targets.drain(..).for_each(|inbox| inbox.push(*port, frame));
        true
    }
}

impl Queue for Port {
    fn send(&mut self, frame: Frame<'_>) -> bool {
        self.send_at(frame, Instant::now())
    }

    fn receive(&mut self, frame: &mut FrameBuffer) -> bool {
        match self.plug.inbox.pop() {
            Some((source, next)) => {
                *frame = next;
                self.source = SwitchPort::new(source);
                true
            }
            None => false,
        }
    }

    fn received_from(&self) -> SwitchPort {
        self.source
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.plug.inbox.readiness())
    }

    fn dropped(&self) -> u64 {
        self.plug.inbox.dropped()
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
