//! `--test-device`: what kvm-unit-tests expects of QEMU's `hyperv-testdev` and `pc-testdev`.
//!
//! The first makes routes and connections for the SynIC's tests: a 32-bit write to its port carries, from the low byte up, a
//! SINT, a VP, a command and a connection id. Ours has a command more: signals that are only counted, and read from the port.
//! The second has latches and interrupt lines. The number of processors is where
//! those programs look for it: in QEMU's firmware configuration device (QEMU, "fw_cfg").

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use super::interrupts::Interrupts;
use crate::engine::{Engine, PortError};
use crate::host::event::EventFd;
use crate::host::limited;
use crate::hyperv::connections::MessagePort;
use crate::hyperv::message::{Message, MessageType};
use crate::hyperv::status::{HvResult, HvStatus};
use crate::hyperv::types::{ConnectionId, SintIndex, VpIndex};
use crate::kvm::gate::{Gate, Kick};
use crate::platform::bus::{PortBus, PortRangeError, shared};
use crate::platform::{LevelLine, PortDevice, PowerEvent};

const HYPERV_PORT: u16 = 0x3000;
const FIRMWARE_PORT: u16 = 0x510;
const LATCH_PORT: u16 = 0xe0;
const FLUSH_PORT: u16 = 0xe4;
const BYTES_PORT: u16 = 0xe8;
const LINES_PORT: u16 = 0x2000;
const LINES: u16 = 24;

// Commands of hyperv-testdev.
const ROUTE_CREATE: u8 = 1;
const ROUTE_DESTROY: u8 = 2;
const ROUTE_RAISE: u8 = 3;
const MESSAGES_CREATE: u8 = 4;
const MESSAGES_DESTROY: u8 = 5;
const EVENTS_CREATE: u8 = 6;
const EVENTS_DESTROY: u8 = 7;
/// Ours: connects events that are counted.
const EVENTS_COUNT: u8 = 8;

/// Adds the devices.
pub(super) fn attach(
    bus: &mut PortBus,
    engine: Option<&Arc<dyn Engine>>,
    gate: &Arc<Gate>,
    interrupts: &Interrupts,
    vps: u32,
    machine: &str,
) -> Result<(), PortRangeError> {
    if let Some(engine) = engine {
        let device = HypervDevice {
            machine: machine.to_owned(),
            engine: Arc::downgrade(engine),
            gate: gate.clone(),
            events: BTreeMap::new(),
            counted: BTreeMap::new(),
        };
        bus.attach(HYPERV_PORT..HYPERV_PORT + 4, HYPERV_PORT, shared(device))?;
    }
    bus.attach(FIRMWARE_PORT..FIRMWARE_PORT + 2, FIRMWARE_PORT, shared(FirmwareConfig::new(vps)))?;
    bus.attach(LATCH_PORT..LATCH_PORT + 4, LATCH_PORT, shared(Latch::default()))?;
    bus.attach(FLUSH_PORT..FLUSH_PORT + 4, FLUSH_PORT, shared(Latch::default()))?;
    bus.attach(BYTES_PORT..BYTES_PORT + 1, BYTES_PORT, shared(Latch::default()))?;
    let lines = (0..LINES).map(|line| interrupts.level_line(line.into())).collect();
    bus.attach(LINES_PORT..LINES_PORT + LINES, LINES_PORT, shared(Lines(lines)))
}

/// Selects an item by a 16-bit write, and reads it byte by byte from the port after.
struct FirmwareConfig {
    vps: [u8; 2],
    selected: u16,
    offset: usize,
}

impl FirmwareConfig {
    fn new(vps: u32) -> Self {
        Self { vps: (vps as u16).to_le_bytes(), selected: 0, offset: 0 }
    }

    fn item(&self) -> &[u8] {
        match self.selected {
            0x00 => b"QEMU",
            // The processors that there are, and that there may be.
            0x05 | 0x0f => &self.vps,
            _ => &[],
        }
    }
}

impl PortDevice for FirmwareConfig {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        data.fill(0);
        if let (1, [byte]) = (offset, data) {
            // An item goes on with zeroes.
            *byte = self.item().get(self.offset).copied().unwrap_or(0);
            self.offset = self.offset.saturating_add(1);
        }
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<PowerEvent> {
        if let (0, [low, high]) = (offset, data) {
            (self.selected, self.offset) = (u16::from_le_bytes([*low, *high]), 0);
        }
        None
    }
}

/// Keeps what was written.
#[derive(Default)]
struct Latch([u8; 4]);

impl PortDevice for Latch {
    fn read(&mut self, offset: u16, data: &mut [u8]) {
        data.iter_mut().zip(&self.0[usize::from(offset)..]).for_each(|(to, from)| *to = *from);
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<PowerEvent> {
        self.0[usize::from(offset)..].iter_mut().zip(data).for_each(|(to, from)| *to = *from);
        None
    }
}

/// Interrupt lines, a port each: a write of something else than 0 asserts the line, until a write of 0.
struct Lines(Vec<LevelLine>);

impl PortDevice for Lines {
    fn read(&mut self, _offset: u16, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<PowerEvent> {
        if let Some(line) = self.0.get(usize::from(offset)) {
            line(data.iter().any(|byte| *byte != 0));
        }
        None
    }
}

/// Sends what is posted to a SINT of a VP.
struct Echo {
    engine: Weak<dyn Engine>,
    vp: VpIndex,
    sint: SintIndex,
}

impl MessagePort for Echo {
    fn post(&self, message_type: MessageType, payload: &[u8]) -> HvResult<()> {
        let message = Message::new(message_type, 0, payload).ok_or(HvStatus::INVALID_PARAMETER)?;
        let engine = self.engine.upgrade().ok_or(HvStatus::INVALID_PORT_ID)?;
        engine.post_message(self.vp, self.sint, message)
    }
}

struct HypervDevice {
    /// The machine's name, for the log.
    machine: String,
    // Weak: the engine's connections hold ports of ours.
    engine: Weak<dyn Engine>,
    gate: Arc<Gate>,
    events: BTreeMap<ConnectionId, EventRelay>,
    counted: BTreeMap<ConnectionId, EventFd>,
}

impl HypervDevice {
    fn command(&mut self, sint: SintIndex, vp: VpIndex, command: u8, id: ConnectionId) -> Result<(), String> {
        let engine = self.engine.upgrade().ok_or("the engine is gone")?;
        let said = |error: PortError| error.to_string();
        match command {
            // A route is there as soon as it is used.
            ROUTE_CREATE | ROUTE_DESTROY => Ok(()),
            ROUTE_RAISE => engine.raise_sint(vp, sint).map_err(|status| status.to_string()),
            MESSAGES_CREATE => {
                let echo = Echo { engine: self.engine.clone(), vp, sint };
                engine.connect_messages(id, Arc::new(echo)).map_err(said)
            }
            EVENTS_CREATE => {
                let relay = EventRelay::new(&engine, &self.gate, vp, sint, id).map_err(|error| error.to_string())?;
                engine.connect_events(id, relay.event()?).map_err(said)?;
                self.events.insert(id, relay);
                Ok(())
            }
            EVENTS_COUNT => {
                let event = EventFd::new().map_err(|error| error.to_string())?;
                let copy = event.try_clone().map_err(|error| error.to_string())?;
                engine.connect_events(id, copy).map_err(said)?;
                self.counted.insert(id, event);
                Ok(())
            }
            MESSAGES_DESTROY | EVENTS_DESTROY => {
                engine.disconnect(id);
                self.events.remove(&id);
                self.counted.remove(&id);
                Ok(())
            }
            other => Err(format!("there is no command {other}")),
        }
    }
}

impl PortDevice for HypervDevice {
    fn read(&mut self, _offset: u16, data: &mut [u8]) {
        // Reading takes the count back; one that is 0 is an error.
        let count: u64 = self.counted.values().map(EventFd::take).sum();
        data.fill(0);
        data.iter_mut().zip(count.to_le_bytes()).for_each(|(to, from)| *to = from);
    }

    fn write(&mut self, offset: u16, data: &[u8]) -> Option<PowerEvent> {
        if let (0, [sint, vp, command, connection]) = (offset, data) {
            let (id, vp) = (ConnectionId((*connection).into()), VpIndex((*vp).into()));
            let outcome = match SintIndex::new(*sint) {
                Some(sint) => self.command(sint, vp, *command, id),
                None => Err(format!("there is no SINT {sint}")),
            };
            let machine = &self.machine;
            if let Err(reason) = outcome {
                limited::warn!(of: machine, "{machine}: the Hyper-V test device refuses {command}: {reason}");
            }
        }
        None
    }
}

/// Sets a VP's event flag, of the connection's number, each time that the guest signals the connection.
struct EventRelay {
    event: EventFd,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EventRelay {
    fn new(
        engine: &Arc<dyn Engine>,
        gate: &Arc<Gate>,
        vp: VpIndex,
        sint: SintIndex,
        id: ConnectionId,
    ) -> std::io::Result<Self> {
        let (event, stopped) = (EventFd::blocking()?, Arc::new(AtomicBool::new(false)));
        let (signalled, stop, engine) = (event.try_clone()?, stopped.clone(), Arc::downgrade(engine));
        let (gate, kick) = (gate.clone(), event.try_clone()?);
        let relay = move || {
            // Should the machine pause, the kick is taken for a signal: an event more does a test no harm.
            let _member = gate.join(Box::new(Signal(kick)));
            while signalled.wait().is_ok() && !stop.load(Ordering::SeqCst) {
                if gate.is_pausing() {
                    gate.pass();
                }
                let Some(engine) = engine.upgrade() else { return };
                if let Err(status) = engine.signal_event(vp, sint, id.0 as u16) {
                    log::debug!("an event for {vp} is lost: {status}");
                }
            }
        };
        let thread = thread::Builder::new().name("test-device".into()).spawn(relay)?;
        Ok(Self { event, stopped, thread: Some(thread) })
    }

    fn event(&self) -> Result<EventFd, String> {
        self.event.try_clone().map_err(|error| error.to_string())
    }
}

struct Signal(EventFd);

impl Kick for Signal {
    fn kick(&self) {
        self.0.signal();
    }
}

impl Drop for EventRelay {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.event.signal();
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
