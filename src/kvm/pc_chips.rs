//! A PC's interrupt controllers and interval timer as its firmware leaves them.
//!
//! KVM makes them as they come out of a reset, in which they do nothing until they have been programmed in full. A kernel that
//! follows a firmware may count on more: that the timer's first channel runs with a mode that only wants a new count, and
//! that the controllers have been initialised.

use kvm_bindings::{KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_irqchip, kvm_pit_channel_state};
use kvm_ioctls::VmFd;

/// What firmware programs into a channel of the timer (Intel 8254 data sheet, "Control Word Format").
struct Channel {
    mode: u8,
    /// Which bytes of a count are written and read: 1 the low one, 3 the low one and then the high one.
    access: u8,
    /// 65536 is written as 0.
    count: u32,
    gate: u8,
}

/// The tick, 18.2 times a second; the refresh of memory, every 15 µs; the speaker, which is off.
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
        // The time of the last load stays: counts are taken from it.
        let count_load_time = state.count_load_time;
        *state = kvm_pit_channel_state {
            mode,
            rw_mode: access,
            // KVM keeps the place in a sequence of accesses as it keeps the access.
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

/// Initialises the pair of PICs: vectors from 0x08 and 0x70 on, and all interrupts masked but the second PIC's.
///
/// A PC's BIOS leaves the tick and the keyboard unmasked. Nothing good comes of that to a kernel which enables interrupts before it
/// programs the PICs, and UEFI masks them too.
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
        // Four initialisation words were written.
        pic.init4 = 1;
        vm.set_irqchip(&chip)?;
    }
    Ok(())
}
