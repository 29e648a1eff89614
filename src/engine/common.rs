//! The state of both engines: ports and connections, the hypercall page, starts of VPs, the host's clocks.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::auto_eoi::{Wait, Watches};
use super::calls::Calls;
use super::inbox::Inbox;
use super::start::start;
use super::{PortError, TraceKind, TraceWriter};
use crate::host::event::EventFd;
use crate::host::limited;
use crate::host::lock::{Mutex, RwLock};
use crate::hyperv::connections::{Connections, EventPort, MessagePort, Port};
use crate::hyperv::cpuid::Leaf;
use crate::hyperv::hypercall::{Host, Hypercalls};
use crate::hyperv::message::MessageType;
use crate::hyperv::page::{HypercallPage, SIGNAL_PORT};
use crate::hyperv::partition::Partition;
use crate::hyperv::reftime::Reading;
use crate::hyperv::status::{HvResult, HvStatus};
use crate::hyperv::trace::{MsrAccess, MsrResult, SynicEvent};
use crate::hyperv::types::{ConnectionId, Interrupt, SintIndex, VpIndex};
use crate::hyperv::vp::Moment;
use crate::kvm::gate::Gate;
use crate::kvm::host::HostError;
use crate::kvm::routes::Message as ApicMessage;
use crate::kvm::vp::Vp;
use crate::kvm::{self, Irqchip, Readiness, tsc};

/// The state that both engines have.
pub(super) struct Common {
    /// The machine's name, for the log.
    pub machine: String,
    /// The KVM machine.
    pub kvm: Arc<kvm::Vm>,
    pub gate: Arc<Gate>,
    /// Partition-wide registers, overlays, features, reference time.
    pub partition: Partition,
    pub apic_ids: Vec<u32>,
    pub leaves: Vec<Leaf>,
    pub calls: Hypercalls,
    pub page: HypercallPage,
    pub connections: RwLock<Connections>,
    /// The eventfds of event ports, which KVM signals.
    pub doorbells: Mutex<BTreeMap<ConnectionId, EventFd>>,
    /// Signalled when there is room for messages again: see [`Child::announce_room`](super::Child::announce_room).
    pub room: Mutex<Option<EventFd>>,
    pub inboxes: Vec<Inbox>,
    /// The VPs that cannot take an interrupt with AutoEOI yet.
    pub watches: Watches,
    /// GPA ranges, in pages, that contain only zeros when the guest starts.
    pub zeroed: Vec<Range<u64>>,
    /// The difference of the guest's TSC to the host's.
    pub tsc_offset: i64,
    pub tracer: Option<Arc<TraceWriter>>,
}

/// An event port that signals an eventfd. For calls that KVM does not turn into a signal itself.
struct EventFdPort(EventFd);

impl EventPort for EventFdPort {
    fn flag_count(&self) -> u16 {
        1
    }

    fn signal(&self, _flag: u16) {
        self.0.signal();
    }
}

/// Reads the host's clocks, for a guest whose TSC is `tsc_offset` ahead of the host's.
pub(super) fn clocks(tsc_offset: i64) -> Reading {
    let guest_tsc = tsc::now().wrapping_add_signed(tsc_offset);
    let monotonic = clock_gettime(ClockId::Monotonic);
    Reading { guest_tsc, monotonic: monotonic.tv_sec as u64 * 1_000_000_000 + monotonic.tv_nsec as u64 }
}

impl Common {
    /// Reads the host's clocks.
    pub fn reading(&self) -> Reading {
        clocks(self.tsc_offset)
    }

    /// Returns the times that an access to an MSR may need.
    pub fn moment(&self) -> Moment {
        Moment { reading: self.reading(), runtime: 0 }
    }

    /// Returns the times for an access on a VP's own thread, whose CPU time is the VP's run time.
    pub fn moment_on_vp(&self) -> Moment {
        let runtime = clock_gettime(ClockId::ThreadCPUTime);
        let runtime = Duration::new(runtime.tv_sec as u64, runtime.tv_nsec as u32);
        Moment { reading: self.reading(), runtime: (runtime.as_nanos() / 100) as u64 }
    }

    /// Returns the index of a VP, or an error if there is no such VP.
    pub fn place(&self, vp: VpIndex) -> HvResult<usize> {
        let place = vp.0 as usize;
        if place < self.apic_ids.len() { Ok(place) } else { Err(HvStatus::INVALID_VP_INDEX) }
    }

    /// Raises an interrupt on a VP that exists.
    ///
    /// Uses an ioctl, which is faster than an irqfd here: see `docs/engines.md`.
    pub fn interrupt(&self, vp: usize, interrupt: Interrupt) {
        self.interrupt_outside(vp, interrupt);
        if interrupt.auto_eoi {
            self.gate.kick(vp as u32);
        }
    }

    /// Raises an interrupt on a VP that is outside of the guest, such as the calling thread's.
    pub fn interrupt_outside(&self, vp: usize, interrupt: Interrupt) {
        self.trace_synic(|| SynicEvent::Interrupt { vp: VpIndex(vp as u32), interrupt });
        if interrupt.auto_eoi {
            self.inboxes[vp].owe(interrupt.vector);
            return;
        }
        let message = ApicMessage::fixed(self.apic_ids[vp], interrupt.vector);
        if let Err(error) = self.kvm.send(message) {
            log::debug!("interrupt {:#x} of VP {vp} is lost: {error}", interrupt.vector);
        }
    }

    /// Opens a port for messages.
    pub fn connect_messages(&self, id: ConnectionId, port: Arc<dyn MessagePort>) -> Result<(), PortError> {
        Ok(self.connections_mut().connect(id, Port::Message(port))?)
    }

    /// Opens a port for events, with its doorbell.
    pub fn connect_events(&self, id: ConnectionId, event: EventFd) -> Result<(), PortError> {
        let copy = || event.try_clone().map_err(|source| HostError::Call { call: "a doorbell's eventfd", source });
        let mut connections = self.connections_mut();
        connections.connect(id, Port::Event(Arc::new(EventFdPort(copy()?))))?;
        if let Err(error) = self.kvm.connect_port(&event, SIGNAL_PORT, Some(id.0)) {
            connections.disconnect(id);
            return Err(error.into());
        }
        self.doorbells.lock().insert(id, event);
        Ok(())
    }

    /// Closes a port, and its doorbell.
    pub fn disconnect(&self, id: ConnectionId) {
        self.connections_mut().disconnect(id);
        let event = self.doorbells.lock().remove(&id);
        if let Some(Err(error)) = event.map(|event| self.kvm.disconnect_port(&event, SIGNAL_PORT, Some(id.0))) {
            limited::warn!(of: &self.machine, "{}: KVM does not remove the ioeventfd of {id}: {error}", self.machine);
        }
    }

    /// Sets the eventfd to signal when there is room for messages again.
    pub fn announce_room(&self, event: Option<EventFd>) {
        *self.room.lock() = event;
    }

    /// Signals that there is room for messages that were refused.
    pub fn has_room(&self) {
        if let Some(event) = &*self.room.lock() {
            event.signal();
        }
    }

    fn connections_mut(&self) -> crate::host::lock::RwLockWriteGuard<'_, Connections> {
        self.connections.write()
    }

    pub fn connections(&self) -> crate::host::lock::RwLockReadGuard<'_, Connections> {
        self.connections.read()
    }

    /// Returns the handler of the guest's calls, which acts through `host`.
    pub fn calls<'a>(&'a self, host: &'a dyn Host) -> Calls<'a> {
        Calls { calls: &self.calls, page: &self.page, memory: self.partition.memory(), host }
    }

    /// Performs the requests in the VP's inbox, on the VP's own thread.
    pub fn attend(&self, index: VpIndex, vp: &mut Vp) -> Result<(), HostError> {
        let inbox = &self.inboxes[index.0 as usize];
        inbox.open();
        if let Some(context) = inbox.asked() {
            inbox.answer(start(vp, &context)?);
            self.gate.wake();
        }
        let place = index.0 as usize;
        if inbox.owed().is_none() && self.watches.sent(place).is_none() {
            return Ok(());
        }
        self.deliver_owed(place, inbox, vp)
    }

    /// Injects the VP's pending AutoEOI interrupts, one at a time, when the VP can take it.
    fn deliver_owed(&self, place: usize, inbox: &Inbox, vp: &mut Vp) -> Result<(), HostError> {
        let mut step = false;
        loop {
            if let Some(sent) = self.watches.sent(place) {
                if !vp.end_taken(sent)? {
                    inbox.mark();
                    self.watches.wait(place);
                    break;
                }
                self.watches.end(place);
            }
            let Some(vector) = inbox.owed() else { break };
            match vp.inject_acknowledged(vector)? {
                Readiness::Taken | Readiness::Reset => {
                    inbox.paid(vector);
                    self.watches.end(place);
                    continue;
                }
                Readiness::Masked if self.kvm.irqchip() == Irqchip::Split && vp.open_window()? => {
                    self.watches.end(place);
                }
                // KVM does not report when the task priority falls, and usually not when interrupts are enabled.
                readiness @ (Readiness::Masked | Readiness::Busy) => {
                    inbox.mark();
                    if self.watches.wait(place) == Wait::Enough {
                        if vp.can_end_by_register(self.kvm.has_hyperv())? {
                            self.send_to_be_ended(place, inbox, vector);
                        } else {
                            step = readiness == Readiness::Masked;
                        }
                    }
                }
                Readiness::Asleep => {
                    inbox.mark();
                    self.watches.doze(place);
                }
            }
            break;
        }
        if self.watches.change_stepping(place, step) { vp.single_step(step) } else { Ok(()) }
    }

    /// Sends an AutoEOI interrupt to the local APIC, which delivers it at the first opportunity. It must be ended afterwards.
    fn send_to_be_ended(&self, place: usize, inbox: &Inbox, vector: u8) {
        match self.kvm.send(ApicMessage::fixed(self.apic_ids[place], vector)) {
            Ok(()) => {
                inbox.paid(vector);
                self.watches.send(place, vector);
            }
            Err(error) => log::debug!("interrupt {vector:#x} of VP {place} is not sent: {error}"),
        }
    }

    /// Handles an interrupt window: the VP can take interrupts again.
    pub fn interrupt_window(&self, index: VpIndex, vp: &mut Vp) -> Result<(), HostError> {
        vp.close_window();
        self.attend(index, vp)
    }

    /// Traces an MSR access, if enabled.
    pub fn trace_msr(&self, vp: VpIndex, number: u32, access: impl FnOnce() -> MsrResult) {
        if let Some(tracer) = self.tracer.as_ref().filter(|tracer| tracer.traces(TraceKind::MSR)) {
            tracer.line(TraceKind::MSR, MsrAccess { vp, number, access: access() });
        }
    }

    /// Traces a SynIC event, if enabled.
    pub fn trace_synic(&self, event: impl FnOnce() -> SynicEvent) {
        if let Some(tracer) = self.tracer.as_ref().filter(|tracer| tracer.traces(TraceKind::SYNIC)) {
            tracer.line(TraceKind::SYNIC, event());
        }
    }

    /// Traces a message, if enabled.
    pub fn trace_message(&self, vp: VpIndex, sint: SintIndex, message: (MessageType, usize), status: HvResult<()>) {
        let status = status.into();
        self.trace_synic(|| SynicEvent::Message { vp, sint, message_type: message.0, size: message.1, status });
    }

    /// Traces an event flag, if enabled.
    pub fn trace_flag(&self, vp: VpIndex, sint: SintIndex, flag: u16, status: HvResult<()>) {
        self.trace_synic(|| SynicEvent::Flag { vp, sint, flag, status: status.into() });
    }
}
