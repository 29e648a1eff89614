//! KVM's memory slots: the parts of guest memory that a virtual machine has.

use std::collections::BTreeSet;
use std::ops::Range;

use kvm_bindings::{KVM_MEM_LOG_DIRTY_PAGES, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion, GuestRegionMmap};

use super::host::HostError;
use crate::host::lock::Mutex;
use crate::memory::Ram;

/// Maximum number of slots for memory that is added. Old kernels have a total of 509.
const MAX_ADDED: u64 = 256;
/// Minimum size of such a slot.
const MIN_CHUNK: u64 = 128 << 20;

/// The memory of a virtual machine, and the slots that it has.
pub struct Slots {
    ram: Ram,
    /// Number of slots of the memory at the start, and of the screen's.
    boot: u32,
    /// The size of a slot in the window. A slot cannot grow, so the window is divided from the start.
    chunk: u64,
    added: Mutex<BTreeSet<u64>>,
}

impl Slots {
    /// Maps the memory of the start, and the screen's.
    pub fn new(vm: &VmFd, ram: Ram) -> Result<Self, HostError> {
        let mut boot = 0;
        for region in ram.boot.iter().chain(ram.large_screen_region()).chain(ram.screen_region()) {
            set(vm, boot, region.start_addr().0, region.as_ptr() as u64, region.len(), 0)?;
            boot += 1;
        }
        let window = ram.window.end - ram.window.start;
        let chunk = window.div_ceil(MAX_ADDED).next_multiple_of(MIN_CHUNK).max(MIN_CHUNK);
        Ok(Self { ram, boot, chunk, added: Mutex::default() })
    }

    /// Returns the memory.
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// Returns the slot of the screen's memory, which is the last one of the start, and the mapping.
    fn screen(&self) -> Result<(u32, &GuestRegionMmap), HostError> {
        let region = self.ram.screen_region().ok_or(HostError::UnmappedMemory)?;
        Ok((self.boot - 1, region))
    }

    /// Begins or ends to record which pages of the screen's memory the guest writes.
    pub fn record_screen(&self, vm: &VmFd, on: bool) -> Result<(), HostError> {
        let (slot, region) = self.screen()?;
        let flags = if on { KVM_MEM_LOG_DIRTY_PAGES } else { 0 };
        set(vm, slot, region.start_addr().0, region.as_ptr() as u64, region.len(), flags)
    }

    /// Returns the pages of the screen's memory that were written since the last call: a bit for each, the lowest first.
    pub fn screen_writes(&self, vm: &VmFd) -> Result<Vec<u64>, HostError> {
        let (slot, region) = self.screen()?;
        vm.get_dirty_log(slot, region.len() as usize).map_err(HostError::call("the record of the guest's writes"))
    }

    /// Maps the parts of the window that contain these addresses.
    pub fn add(&self, vm: &VmFd, addresses: Range<u64>) -> Result<(), HostError> {
        let window = &self.ram.window;
        let inside = addresses.start >= window.start && addresses.end <= window.end;
        let Some(region) = self.ram.window_region().filter(|_| inside) else { return Err(HostError::UnmappedMemory) };
        let mut added = self.added.lock();
        let offsets = addresses.start - window.start..addresses.end - window.start;
        for index in offsets.start / self.chunk..offsets.end.div_ceil(self.chunk) {
            if added.contains(&index) {
                continue;
            }
            let offset = index * self.chunk;
            let length = self.chunk.min(region.len() - offset);
            let host = region.as_ptr() as u64 + offset;
            set(vm, self.boot + index as u32, window.start + offset, host, length, 0)?;
            added.insert(index);
        }
        Ok(())
    }
}

/// Sets a slot with its flags. Callers pass a part of the mapping of a [`Ram`] that lives as long as the VM.
fn set(
    vm: &VmFd,
    slot: u32,
    guest_phys_addr: u64,
    userspace_addr: u64,
    memory_size: u64,
    flags: u32,
) -> Result<(), HostError> {
    let region = kvm_userspace_memory_region { slot, guest_phys_addr, memory_size, userspace_addr, flags };
    // SAFETY: the part is mapped for as long as the `Ram` lives, which `Slots` keeps next to the VM.
    unsafe { vm.set_user_memory_region(region) }.map_err(HostError::call("the guest's memory"))
}
