//! Access to a VP's registers from other threads.

use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd};

use kvm_bindings::{kvm_regs, kvm_sregs};
use kvm_ioctls::VcpuFd;

use super::Vm;
use super::host::HostError;
use super::vp::Vp;

/// A second handle on a VP, for its registers. KVM blocks the caller while the VP is in the guest, so use it only when
/// the VP is not running.
pub struct VpRegisters(VcpuFd);

impl Vm {
    /// Returns a handle on the registers of a VP of this partition.
    ///
    /// # Errors
    /// Returns an error if the host refuses a descriptor or a mapping of the run structure.
    pub fn registers_of(&self, vp: &Vp) -> Result<VpRegisters, HostError> {
        // SAFETY: the VP's descriptor is open while `vp` is borrowed.
        let descriptor = unsafe { BorrowedFd::borrow_raw(vp.fd.as_raw_fd()) };
        let copy = descriptor.try_clone_to_owned();
        let copy = copy.map_err(|source| HostError::Call { call: "a VP's second descriptor", source })?;
        // SAFETY: the descriptor belongs to a VP of this machine, whose run structure has the size that `vm` has
        // stored. From now on only the new handle owns it.
        let second = unsafe { self.vm.create_vcpu_from_rawfd(copy.into_raw_fd()) };
        second.map(VpRegisters).map_err(HostError::call("a VP's second handle"))
    }
}

impl VpRegisters {
    /// Returns the general registers.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn general(&self) -> Result<kvm_regs, HostError> {
        self.0.get_regs().map_err(HostError::call("the general registers"))
    }

    /// Sets the general registers.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn set_general(&self, registers: &kvm_regs) -> Result<(), HostError> {
        self.0.set_regs(registers).map_err(HostError::call("new general registers"))
    }

    /// Returns the segment, table and control registers.
    ///
    /// # Errors
    /// Returns the error of the KVM ioctl.
    pub fn system(&self) -> Result<kvm_sregs, HostError> {
        self.0.get_sregs().map_err(HostError::call("the system registers"))
    }
}
