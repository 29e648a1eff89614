//! One life of a guest, from the kernel file to power-off or reset.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::check::{self, EngineKind};
use super::config::Config;
use super::interrupts::Interrupts;
use super::{End, MachineError, Shared, thread_named};
use crate::boot::{self, KernelSource, acpi};
use crate::guest_images::EMBEDDED;
use crate::partition::cpuid::{self, Topology};
use crate::partition::gate::Gate;
use crate::partition::host::Host;
use crate::partition::vp::{self, Exit, Vp};
use crate::partition::{Irqchip, Partition, memory};
use crate::platform::{Platform, PowerEvent, Wiring, ports};

/// What the VPs reach through ports and MMIO.
struct Devices {
    platform: Platform,
    interrupts: Interrupts,
}

/// Lives one life on the calling thread, which becomes VP 0's. Says `started` when the VPs are about to run.
///
/// How the life ended stands in `shared`, unless this fails.
pub(super) fn live(shared: &Arc<Shared>, started: &mpsc::SyncSender<()>) -> Result<(), MachineError> {
    let config = &shared.config;
    let topology = config.cpus.topology()?;
    let host_processors = config.cpus.host_processors()?;
    let host = Host::open()?;
    if topology.vps() as usize > host.max_vps() {
        return Err(MachineError::TooManyVps { count: topology.vps(), max: host.max_vps() });
    }
    let engine = check::choose(&host, config.engine)?;
    let memory = memory::create(config.memory.size.0, config.memory.hugepages)?;
    let irqchip = match engine {
        // KVM tells of a guest's EOM, its answer to a SynIC message, through its own IOAPIC's resampling only.
        EngineKind::Kernel => Irqchip::Full,
        // Nothing that a Hyper-V guest wants is missing, and taking down the full set costs milliseconds.
        EngineKind::User => Irqchip::Split,
    };
    let partition = Partition::new(&host, memory, irqchip)?;
    let entry = load(config, &partition, topology)?;
    let Some(console) = shared.console.get() else {
        return Err(MachineError::Defect("a machine without a console".into()));
    };
    let partition = Arc::new(partition);
    let interrupts = Interrupts::new(partition.clone());
    let platform = Platform::new(Wiring {
        serial_interrupt: interrupts.line(ports::SERIAL_IRQ),
        system_control_interrupt: interrupts.line(ports::SCI_IRQ),
        utc: Box::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
        monotonic: Box::new({
            let start = Instant::now();
            move || start.elapsed()
        }),
        output: console.output(),
        input: console.input(),
    });

    let supported = host.supported_cpuid()?;
    let mut vps = Vec::new();
    for index in 0..topology.vps() {
        let vp = partition.create_vp(topology.apic_id(index))?;
        vp.set_cpuid(&cpuid::leaves(&supported, topology, index, partition.has_tsc_deadline()))?;
        vp.set_firmware_state()?;
        vps.push(vp);
    }
    enter(&vps[0], &entry)?;

    vp::prepare_kicks();
    let devices = Arc::new(Devices { platform, interrupts });
    let processor = |index: u32| host_processors.as_ref().map(|list| list[index as usize]);
    let mut vps = vps.into_iter().zip(0..);
    let first = vps.next();
    let mut threads = Threads { gate: &shared.gate, handles: Vec::new() };
    for (vp, index) in vps {
        let (shared, devices, processor) = (shared.clone(), devices.clone(), processor(index));
        let body = move || VpThread { index, vp, shared: &shared, devices: &devices }.run(processor);
        let thread = thread_named(&config.name, index).spawn(body).map_err(MachineError::Thread)?;
        threads.handles.push(thread);
    }
    let _ = started.try_send(());
    if let Some((vp, index)) = first {
        VpThread { index, vp, shared, devices: &devices }.run(processor(index));
    }
    threads.join()
}

/// Puts kernel, initrd, command line and ACPI tables into guest memory.
fn load(config: &Config, partition: &Partition, topology: Topology) -> Result<boot::Entry, MachineError> {
    let apic_ids: Vec<_> = (0..topology.vps()).map(|index| topology.apic_id(index)).collect();
    let tables = acpi::Description { apic_ids, pics: partition.irqchip() == Irqchip::Full };
    let embedded = KernelSource::Embedded { name: "hello", bytes: EMBEDDED };
    let kernel = config.kernel.as_ref().unwrap_or(&embedded);
    Ok(boot::load(partition.memory(), kernel, config.initrd.as_deref(), &config.cmdline, &tables)?)
}

/// Puts VP 0 where the kernel starts.
fn enter(vp: &Vp, entry: &boot::Entry) -> Result<(), MachineError> {
    let mut registers = vp.system_registers()?;
    entry.apply(&mut registers);
    vp.set_system_registers(&registers)?;
    Ok(vp.set_registers(&entry.registers)?)
}

/// The threads of all VPs but the first. Dropped early, they are stopped.
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

/// What one VP's thread works with.
struct VpThread<'a> {
    index: u32,
    vp: Vp,
    shared: &'a Shared,
    devices: &'a Devices,
}

impl VpThread<'_> {
    /// Runs the VP until the life ends, through its fault or another's.
    fn run(mut self, processor: Option<usize>) {
        let gate = &self.shared.gate;
        gate.enter(self.index, Box::new(self.vp.kicker()));
        // Leaves the gate and, should this thread panic, takes the others along.
        let _left = Left { shared: self.shared, index: self.index };
        if let Err(error) = processor.map_or(Ok(()), |processor| bind(self.index, processor)) {
            return self.shared.end_life(End::Failed(error));
        }
        while gate.is_open() || gate.pass() {
            if let Some(end) = self.turn() {
                return self.shared.end_life(end);
            }
        }
    }

    /// One stay in the guest, and what the guest wanted.
    fn turn(&mut self) -> Option<End> {
        let Devices { platform, interrupts } = self.devices;
        match self.vp.run() {
            Ok(Exit::PortWrite { port, size, data }) => {
                platform.write_repeated(port, data, size, &self.shared.gate).map(End::from)
            }
            Ok(Exit::PortRead { port, size, data }) => {
                platform.read_repeated(port, data, size);
                None
            }
            Ok(Exit::MmioRead { address, data }) => {
                interrupts.read(address, data);
                None
            }
            Ok(Exit::MmioWrite { address, data }) => {
                interrupts.write(address, data);
                None
            }
            Ok(Exit::EndOfInterrupt { vector }) => {
                interrupts.end_of_interrupt(vector);
                None
            }
            Ok(Exit::MsrRead { .. }) => {
                self.vp.finish_msr_read(None);
                None
            }
            Ok(Exit::MsrWrite { .. }) => {
                self.vp.finish_msr_write(false);
                None
            }
            Ok(Exit::Kicked | Exit::SynicPages { .. } | Exit::Stepped) => None,
            Ok(Exit::Shutdown) => Some(End::TripleFault(self.index)),
            Err(source) => Some(End::Failed(MachineError::Vp { vp: self.index, source })),
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

/// Binds the calling thread, which is VP `vp`'s, to a host processor.
fn bind(vp: u32, processor: usize) -> Result<(), MachineError> {
    let failed = |source: rustix::io::Errno| MachineError::Affinity { vp, processor, source: source.into() };
    if processor >= rustix::thread::CpuSet::MAX_CPU {
        return Err(failed(rustix::io::Errno::INVAL));
    }
    let mut set = rustix::thread::CpuSet::new();
    set.set(processor);
    rustix::thread::sched_setaffinity(None, &set).map_err(failed)
}
