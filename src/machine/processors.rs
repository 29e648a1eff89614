//! Binding of VPs to processors of the host.

use rustix::io::Errno;
use rustix::thread::CpuSet;

use super::MachineError;
use crate::config::cpus::CpusError;

/// Binds the calling thread, which is VP `vp`'s, to a host processor.
pub(super) fn bind(vp: u32, processor: usize) -> Result<(), MachineError> {
    if processor < CpuSet::MAX_CPU {
        let mut set = CpuSet::new();
        set.set(processor);
        match rustix::thread::sched_setaffinity(None, &set) {
            Ok(()) => return Ok(()),
            Err(Errno::INVAL) => {}
            Err(error) => return Err(MachineError::Affinity { vp, processor, source: error.into() }),
        }
    }
    Err(CpusError::NoProcessor { vp, processor, usable: usable_processors() }.into())
}

/// The host processors that this process, by its first thread, may use, as a list such as `0-3,8`.
fn usable_processors() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.map_or("others only".into(), |list| list.trim().to_owned())
}
