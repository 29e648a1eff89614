//! A PC's interrupt controllers and interval timer in the state that firmware leaves.
//!
//! KVM creates them in their reset state, in which they do nothing until they are fully programmed. A kernel that is
//! started by firmware may expect more: that the timer's first channel runs in a mode that needs only a new count, and
//! that the interrupt controllers are initialised.

use kvm_bindings::{KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_irqchip, kvm_pit_channel_state};
use kvm_ioctls::VmFd;

/// The settings of a timer channel (Intel 8254 data sheet, "Control Word Format").
struct Channel {
    mode: u8,
    /// The bytes of a count that are accessed: 1 for the low byte, 3 for the low byte and then the high byte.
    access: u8,
    /// 65536 is written as 0.
    count: u32,
    gate: u8,
}

/// The tick, 18.2 times a second; the memory refresh, every 15 µs; the speaker, which is off.
const CHANNELS: [Channel; 3] = [
    Channel { mode: 2, access: 3, count: 0x1_0000, gate: 1 },
    Channel { mode: 2, access: 1, count: 18, gate: 1 },
    Channel { mode: 3, access: 3, count: 0x1_0000, gate: 0 },
];

/// Puts the timer into the state of [`CHANNELS`].
///
/// # Errors
/// Returns the error of the KVM ioctl.
pub(super) fn start_timer(vm: &VmFd) -> Result<(), kvm_ioctls::Error> {
    let mut timer = vm.get_pit2()?;
    for (state, Channel { mode, access, count, gate }) in timer.channels.iter_mut().zip(CHANNELS) {
        // The time of the last load stays, because counts are computed from it.
        let count_load_time = state.count_load_time;
        *state = kvm_pit_channel_state {
            mode,
            rw_mode: access,
            // KVM stores the position in a sequence of accesses like the access mode.
            read_state: access,
            write_state: access,
            count,
            gate,
            count_load_time,
            ..Default::default()
        };
    }
    vm.set_pit2(&timer)
}

/// Initialises the two PICs: vectors from 0x08 and 0x70 on, all interrupts masked except the cascade.
///
/// A PC's BIOS leaves the tick and the keyboard unmasked. That only harms a kernel that enables interrupts before it
/// programs the PICs, and UEFI masks them, too.
///
/// # Errors
/// Returns the error of the KVM ioctl.
pub(super) fn initialise_pics(vm: &VmFd) -> Result<(), kvm_ioctls::Error> {
    const CASCADE: u8 = 1 << 2;
    for (chip_id, vectors, masked) in [(KVM_IRQCHIP_PIC_MASTER, 0x08, !CASCADE), (KVM_IRQCHIP_PIC_SLAVE, 0x70, 0xff)] {
        let mut chip = kvm_irqchip { chip_id, ..Default::default() };
        vm.get_irqchip(&mut chip)?;
        // SAFETY: KVM fills in the state of the chip that was asked for, a PIC. All bytes are valid in it.
        let pic = unsafe { &mut chip.chip.pic };
        pic.irq_base = vectors;
        pic.imr = masked;
        // All four initialisation words were written.
        pic.init4 = 1;
        vm.set_irqchip(&chip)?;
    }
    Ok(())
}
