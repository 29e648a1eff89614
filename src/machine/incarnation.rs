//! One life (boot) of a guest, from loading the kernel to power-off or reset.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use super::devices::join;
use super::exits::Counters;
use super::guest::{Guest, Life, Seat};
use super::interrupts::Interrupts;
use super::parts::{enter, hypercalls, hypervisor_leaf, load, reserved, summary, whole_pages};
use super::processors::bind;
use super::report::Reporter;
use super::{End, MachineError, Shared, check, test_device, thread_named};
use crate::boot::layout::{FRAMEBUFFER, LARGE_VIDEO_MEMORY, VIDEO_MEMORY, VMBUS_MMIO};
use crate::boot::symbols::Symbols;
use crate::config::IrqchipKind;
use crate::config::hyperv::Hv;
use crate::engine::{self, Engine, GuestRequest, Setup};
use crate::host::limited;
use crate::hyperv::page::{HYPERCALL_PORT, SIGNAL_PORT};
use crate::hyperv::types::VpIndex;
use crate::kvm::cpuid;
use crate::kvm::gate::{Gate, Hold, Member};
use crate::kvm::host::Host;
use crate::kvm::timer;
use crate::kvm::vp::{Exit, Vp};
use crate::kvm::{Irqchip, Vm};
use crate::memory::{self, Ram};
use crate::platform::clock::MachineClock;
use crate::platform::mmio::MmioBus;
use crate::platform::msrs::MsrBus;
use crate::platform::{Platform, PowerEvent, Wiring, ports};

/// Maximum number of entries for completing an access before a VP pauses. It is bounded because a guest chooses the number of
/// parts of a string instruction.
const MAX_SETTLING: u32 = 16;

/// The devices that the VPs access.
struct Devices {
    platform: Platform,
    mmio: MmioBus,
    msrs: MsrBus,
    interrupts: Interrupts,
    life: Arc<Life>,
    /// `None` with `--hv off`.
    engine: Option<Arc<dyn Engine>>,
    reporter: Reporter,
}

/// Ends access to a life when dropped.
struct LifeEnds<'a>(&'a Shared);

impl Drop for LifeEnds<'_> {
    fn drop(&mut self) {
        self.0.set_life(None);
    }
}

/// Ends the engine of a life when dropped.
struct EngineEnds<'a>(&'a Shared);

impl Drop for EngineEnds<'_> {
    fn drop(&mut self) {
        self.0.end_engine();
    }
}

/// Runs one life. The calling thread becomes the thread of VP 0. Sends to `started` when the VPs are about to run.
///
/// Unless this fails, `shared` has the end of the life afterwards.
pub(super) fn live(shared: &Arc<Shared>, building: Member, started: &mpsc::SyncSender<()>) -> Result<(), MachineError> {
    let config = &shared.config;
    let topology = config.cpus.topology()?;
    let host_processors = config.cpus.host_processors()?;
    let host = Host::open()?;
    if topology.vps() as usize > host.max_vps() {
        return Err(MachineError::TooManyVps { count: topology.vps(), max: host.max_vps() });
    }
    let kind = check::choose(&host, config.engine)?;
    log::info!("{}: {}", config.name, summary(config, kind));
    let mut ram = Ram::new(config.memory.size.0, config.memory.maximum(), config.memory.backing())?;
    if let Some(size) = config.display.size() {
        // The guest chooses where in a window its screen is.
        ram = ram.with_screen(VMBUS_MMIO)?;
        if size.is_large() {
            ram = ram.with_large_screen(LARGE_VIDEO_MEMORY)?;
        }
    }
    if let Some(warning) = memory::excess(config.memory_owner(), config.memory_demand()) {
        limited::warn!(of: &config.name, "{}: {warning}", config.name);
    }
    let irqchip = match config.irqchip {
        IrqchipKind::Apic => Irqchip::Split,
        IrqchipKind::Pc => Irqchip::Full,
    };
    let partition = Vm::new(&host, ram, irqchip)?;
    let entry = load(config, &partition, topology)?;
    // Checks that the file has symbols. A report reads them again when it needs them.
    config.symbols.as_deref().map(Symbols::read).transpose()?;
    log::debug!("{}: the kernel is booted by {} at {:#x}", config.name, entry.protocol, entry.registers.rip);
    let Some(console) = shared.console.get() else {
        return Err(MachineError::Defect("a machine without a console".into()));
    };
    let partition = Arc::new(partition);
    shared.providers.screen.begin_life(&partition, entry.draws.then_some(FRAMEBUFFER.into()));
    let _memory_life = shared.providers.memory.begin_life(partition.clone());
    let interrupts = Interrupts::new(partition.clone());
    let mut platform = Platform::new(Wiring {
        serial_interrupt: interrupts.line(ports::SERIAL_IRQ),
        system_control_interrupt: interrupts.level_line(ports::SCI_IRQ),
        utc: Box::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
        clock: MachineClock::new(),
        memory_size: config.memory.size.0,
        video_memory: config.display.size().map(|_| VIDEO_MEMORY),
        output: console.output(),
        input: console.input(),
    });

    if partition.irqchip() == Irqchip::Split {
        platform.add_interval_timer();
    }

    let apic_ids = (0..topology.vps()).map(|index| topology.apic_id(index));
    let mut vps = apic_ids.map(|id| partition.create_vp(id)).collect::<Result<Vec<_>, _>>()?;
    let apic_ids = (0..topology.vps()).map(|index| topology.apic_id(index));
    let life = Life::new(partition.clone(), interrupts.clone(), platform.power_button(), &vps, apic_ids)?;
    shared.set_life(Some(life.clone()));
    let _life_ends = LifeEnds(shared);
    let (guest, announcer) = (Guest::new(Arc::downgrade(shared)), &shared.announcer);
    let msrs = shared.own.msrs(config.hv != Hv::Off, &guest, announcer)?;
    let engine = match &config.hv {
        Hv::Off => {
            partition.filter_msrs(&msrs.filtered())?;
            None
        }
        Hv::On(switches) => {
            let interrupts = interrupts.clone();
            let calls = hypercalls(shared, &guest, partition.memory())?;
            Some(engine::create(Setup {
                machine: config.name.clone(),
                kind,
                switches,
                version: config.hv_version,
                host: &host,
                partition: partition.clone(),
                vps: &vps,
                apic_ids: (0..topology.vps()).map(|index| topology.apic_id(index)).collect(),
                gate: shared.gate.clone(),
                zeroed: whole_pages(&entry.untouched),
                other_msrs: msrs.filtered(),
                calls,
                level_eoi: Box::new(move |vector| interrupts.end_of_interrupt(vector)),
                tracer: Some(shared.tracer.clone()),
            })?)
        }
    };
    let supported = host.supported_cpuid()?;
    let hypervisor = match &engine {
        Some(engine) => engine.leaves().into_iter().map(hypervisor_leaf).collect(),
        None => cpuid::kvm_leaves(&supported, vps[0].tsc_frequency()),
    };
    for (vp, index) in vps.iter_mut().zip(0..) {
        vp.set_cpuid(&cpuid::leaves(&supported, topology, index, partition.has_tsc_deadline(), &hypervisor))?;
        vp.set_firmware_state()?;
        if let Some(engine) = &engine {
            engine.adopt(VpIndex(index), vp)?;
        }
    }
    enter(&vps[0], &entry)?;
    if config.test_device {
        test_device::attach(
            platform.bus_mut(),
            engine.as_ref(),
            &shared.gate,
            &interrupts,
            topology.vps(),
            &config.name,
        )
        .map_err(|error| MachineError::Defect(error.to_string()))?;
    }
    shared.own.attach_ports(platform.bus_mut(), &guest, announcer)?;
    let mut mmio = MmioBus::new(reserved(config, partition.ram()));
    interrupts.attach(&mut mmio).map_err(|error| MachineError::Defect(error.to_string()))?;
    shared.own.attach_mmio(&mut mmio, &guest, announcer)?;
    // The devices leave the registry at the end of this life.
    let _joined = join(&shared.devices, platform.devices().into_iter().chain(interrupts.device()))?;
    shared.begin(engine.clone(), kind);
    // However this life ends, its devices stop first, then its engine.
    let _engine_ends = EngineEnds(shared);
    let _attachment = engine.clone().map(|engine| shared.vmbus.attach(engine)).transpose()?;

    // Each VP's thread binds itself. Trying it here, too, makes an unavailable processor an error of the start.
    for (processor, index) in host_processors.iter().flatten().zip(0..) {
        bind(index, *processor)?;
    }
    timer::prepare_kicks();
    let reporter = Reporter::new(partition.memory().clone());
    let devices = Arc::new(Devices { platform, mmio, msrs, interrupts, life, engine, reporter });
    let processor = |index: u32| host_processors.as_ref().map(|list| list[index as usize]);
    let mut vps = vps.into_iter().zip(0..);
    let first = vps.next();
    // A pause waits until every VP's thread has joined the gate.
    let hold = Arc::new(shared.gate.hold());
    drop(building);
    let mut threads = Threads { gate: &shared.gate, handles: Vec::new() };
    for (vp, index) in vps {
        let (shared, devices, processor, hold) = (shared.clone(), devices.clone(), processor(index), hold.clone());
        let body = move || VpThread::new(index, vp, &shared, &devices).run(processor, hold);
        let thread = thread_named(&config.name, index).spawn(body).map_err(MachineError::Thread)?;
        threads.handles.push(thread);
    }
    let _ = started.try_send(());
    if let Some((vp, index)) = first {
        VpThread::new(index, vp, shared, &devices).run(processor(index), hold);
    }
    threads.join()
}

/// The threads of all VPs except the first. If this is dropped early, they are stopped.
struct Threads<'a> {
    gate: &'a Gate,
    handles: Vec<JoinHandle<()>>,
}

impl Threads<'_> {
    fn join(&mut self) -> Result<(), MachineError> {
        let panicked =
            std::mem::take(&mut self.handles).into_iter().map(JoinHandle::join).filter(Result::is_err).count();
        match panicked {
            0 => Ok(()),
            _ => Err(MachineError::Defect("a VP's thread panicked".into())),
        }
    }
}

impl Drop for Threads<'_> {
    fn drop(&mut self) {
        if !self.handles.is_empty() {
            self.gate.stop();
            let _ = self.join();
        }
    }
}

/// The state of one VP's thread.
struct VpThread<'a> {
    index: u32,
    vp: Vp,
    shared: &'a Shared,
    devices: &'a Devices,
    seat: &'a Seat,
    exits: &'a Counters,
}

impl<'a> VpThread<'a> {
    fn new(index: u32, vp: Vp, shared: &'a Shared, devices: &'a Devices) -> Self {
        let place = index as usize;
        Self { index, vp, shared, devices, seat: &devices.life.seats[place], exits: &shared.exits[place] }
    }

    /// Runs the VP until the life ends.
    fn run(mut self, processor: Option<usize>, hold: Arc<Hold>) {
        let gate = &self.shared.gate;
        self.seat.take();
        let _timers = self.vp.timer_target();
        gate.enter(self.index, Box::new(self.vp.kicker()));
        // Leaves the gate when this thread ends, and ends the life if the thread panics.
        let _left = Left { shared: self.shared, index: self.index };
        drop(hold);
        if let Some(engine) = &self.devices.engine {
            engine.enter(VpIndex(self.index));
        }
        if let Err(error) = processor.map_or(Ok(()), |processor| bind(self.index, processor)) {
            return self.shared.end_life(End::Failed(error));
        }
        let mut settling = 0;
        loop {
            // Before it pauses, the VP completes an access that it has begun, so that its registers are accessible.
            let is_settling = gate.is_pausing() && self.vp.is_accessing() && settling < MAX_SETTLING;
            settling = if is_settling { settling + 1 } else { 0 };
            if !gate.is_open() && !is_settling && !self.pass() {
                break;
            }
            match self.turn() {
                Ok(None) => {}
                Ok(Some(end)) => return self.shared.end_life(end),
                Err(error) => return self.shared.end_life(End::Failed(error)),
            }
        }
        if self.shared.has_timed_out() {
            self.tell_standing(log::Level::Warn);
        } else if self.shared.was_ended_by_a_signal() {
            self.tell_standing(log::Level::Info);
        }
    }

    /// Waits until the VP may run. Returns `false` if it must end instead.
    fn pass(&self) -> bool {
        self.seat.settle(!self.vp.is_accessing());
        let go = self.shared.gate.pass();
        self.seat.settle(false);
        go
    }

    /// Logs where the VP was executing, as far as that is known.
    fn tell_standing(&mut self, level: log::Level) {
        if !log::log_enabled!(level) {
            return;
        }
        let (config, index, reporter) = (&self.shared.config, self.index, &self.devices.reporter);
        let name = &config.name;
        match self.vp.standing() {
            Ok(Some(mut standing)) => {
                standing.symbol = reporter.name(config, &self.vp).map(|place| place.to_string());
                let callers = reporter.callers(config, &self.vp);
                log::log!(level, "{name}: VP {index} was {standing}{callers}");
            }
            Ok(None) => log::info!("{name}: VP {index} was never started"),
            Err(error) => log::info!("{name}: where VP {index} was is unknown: {error}"),
        }
    }

    /// Enters the guest once and handles the exit. Returns the end of the life if the exit causes it.
    fn turn(&mut self) -> Result<Option<End>, MachineError> {
        let Devices { platform, mmio, msrs, interrupts, engine, reporter, .. } = self.devices;
        let (index, vp) = (VpIndex(self.index), &mut self.vp);
        let attention = engine.as_ref().filter(|engine| engine.needs_attention(index));
        if vp.is_accessing() {
            if attention.is_some() || self.seat.has_changes() || !self.shared.gate.is_open() {
                vp.complete_access();
            }
        } else {
            if let Some(engine) = attention {
                engine.attend(index, vp)?;
            }
            if self.seat.has_changes() {
                self.seat.apply(vp)?;
            }
        }
        let exit = match vp.run() {
            Ok(exit) => exit,
            Err(source) => {
                let place = reporter.instruction(&self.shared.config, &self.vp);
                return Err(MachineError::Vp { vp: self.index, place, source });
            }
        };
        self.exits.count(&exit);
        match exit {
            Exit::PortWrite { port: HYPERCALL_PORT, .. } => {
                engine.as_ref().map_or(Ok(()), |engine| engine.hypercall(index, vp))?;
            }
            Exit::PortWrite { port: SIGNAL_PORT, data, .. } => {
                let connection = data.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
                if let Some((engine, connection)) = engine.as_ref().zip(connection) {
                    engine.doorbell(index, vp, connection)?;
                }
            }
            Exit::PortWrite { port, size, data } => {
                return Ok(platform.write_repeated(port, data, size, &self.shared.gate).map(End::from));
            }
            Exit::PortRead { port, size, data } => platform.read_repeated(port, data, size),
            Exit::MsrRead { number } => {
                let value = match (msrs.read(self.index, number), engine) {
                    (Some(value), _) => value,
                    (None, Some(engine)) => engine.read_msr(index, vp, number)?,
                    (None, None) => None,
                };
                vp.finish_msr_read(value);
            }
            Exit::MsrWrite { number, value } => {
                if let Some(taken) = msrs.write(self.index, number, value) {
                    vp.finish_msr_write(taken);
                    return Ok(None);
                }
                let written = engine.as_ref().map_or(Ok(None), |engine| engine.write_msr(index, vp, number, value))?;
                vp.finish_msr_write(written.is_some());
                let end = written.flatten().map(End::from);
                if matches!(end, Some(End::Crashed(_))) {
                    self.tell_standing(log::Level::Warn);
                }
                return Ok(end);
            }
            Exit::MmioRead { address, data } => mmio.read(address, data),
            Exit::MmioWrite { address, data } => return Ok(mmio.write(address, data).map(End::from)),
            Exit::EndOfInterrupt { vector } => interrupts.end_of_interrupt(vector),
            Exit::InterruptWindow => {
                engine.as_ref().map_or(Ok(()), |engine| engine.interrupt_window(index, vp))?;
            }
            Exit::Kicked | Exit::Stepped => {}
            Exit::Shutdown => {
                let place = reporter.triple_fault(&self.shared.config, vp);
                return Ok(Some(End::TripleFault { vp: self.index, place }));
            }
        }
        Ok(None)
    }
}

impl From<GuestRequest> for End {
    fn from(request: GuestRequest) -> Self {
        match request {
            GuestRequest::Reset => Self::Reset,
            GuestRequest::Crash(report) => Self::Crashed(report),
        }
    }
}

impl From<PowerEvent> for End {
    fn from(event: PowerEvent) -> Self {
        match event {
            PowerEvent::PowerOff => Self::PoweredOff,
            PowerEvent::Reset => Self::Reset,
            PowerEvent::Exit(value) => Self::Exited(value),
        }
    }
}

struct Left<'a> {
    shared: &'a Shared,
    index: u32,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.shared.gate.leave(self.index);
        if std::thread::panicking() {
            self.shared
                .end_life(End::Failed(MachineError::Defect(format!("the thread of VP {} panicked", self.index))));
        }
    }
}
