//! Helpers for the tests of this module.

use vm_memory::{Bytes, GuestAddress};

use super::features::{EngineKind, Feature, Features, Offer, Switches};
use super::message::Message;
use super::page::HypercallPage;
use super::partition::{Partition, PartitionConfig};
use super::reftime::{Reading, ReferenceTime};
use super::types::SintIndex;
use super::vp::{Moment, VpState};
use crate::memory::{self, GuestMemory};
use zerocopy::FromBytes;

/// RAM of the test machines: 1 MiB.
pub const RAM: u64 = memory::MIN_SIZE;

pub fn ram() -> GuestMemory {
    memory::create(RAM, memory::Backing::Private).unwrap()
}

/// Returns content for all of RAM in which every page differs.
pub fn patterned() -> Vec<u8> {
    let mut bytes = vec![0; RAM as usize];
    bytes.chunks_mut(4096).zip((1..=255).cycle()).for_each(|(page, number)| page.fill(number));
    bytes
}

/// Returns everything that the user engine can offer.
pub fn everything() -> Features {
    let mut switches = Switches::default();
    Feature::ALL.iter().for_each(|feature| switches.set(*feature, true));
    Offer::new(EngineKind::User, Features::NONE, &switches).features()
}

pub fn partition_with(features: Features) -> Partition {
    let config = PartitionConfig {
        features,
        tsc_frequency: 2_000_000_000,
        apic_frequency: 1_000_000_000,
        hypercall_page: Box::new(*HypercallPage::new(None).content()),
    };
    // A TSC of 10 MHz does not allow the page, so the clock is the monotonic one: tests set the time directly.
    Partition::new(config, ram(), ReferenceTime::new(None, Reading::default()))
}

pub fn partition() -> Partition {
    partition_with(everything())
}

/// Returns the moment when the reference time is `time`.
pub fn at(time: u64) -> Moment {
    Moment { reading: Reading { guest_tsc: 0, monotonic: time * 100 }, runtime: 0 }
}

/// MSR numbers that tests write.
pub mod number {
    pub const GUEST_OS_ID: u32 = 0x4000_0000;
    pub const HYPERCALL: u32 = 0x4000_0001;
    pub const TIME_REF_COUNT: u32 = 0x4000_0020;
    pub const REFERENCE_TSC: u32 = 0x4000_0021;
    pub const VP_ASSIST_PAGE: u32 = 0x4000_0073;
    pub const SCONTROL: u32 = 0x4000_0080;
    pub const SIEFP: u32 = 0x4000_0082;
    pub const SIMP: u32 = 0x4000_0083;
    pub const EOM: u32 = 0x4000_0084;
    pub const SINT0: u32 = 0x4000_0090;
    pub const STIMER0_CONFIG: u32 = 0x4000_00b0;
    pub const STIMER0_COUNT: u32 = 0x4000_00b1;
}

/// The addresses of the test VPs' pages.
pub const SIMP: u64 = 0x1000;
pub const SIEFP: u64 = 0x2000;

/// Creates a VP with its pages enabled and SINT `n` unmasked at vector 0x40 + n.
pub fn vp(partition: &Partition) -> VpState {
    let mut vp = VpState::new(super::types::VpIndex(0));
    let mut write = |msr, value| vp.write_msr(msr, value, partition, at(0)).map(drop).unwrap();
    write(number::SIMP, SIMP | 1);
    write(number::SIEFP, SIEFP | 1);
    (0..16).for_each(|sint| write(number::SINT0 + sint, u64::from(0x40 + sint)));
    vp
}

pub fn sint(index: u8) -> SintIndex {
    SintIndex::new(index).unwrap()
}

/// Returns the message in a slot, as the guest sees it.
pub fn slot(memory: &GuestMemory, sint: SintIndex) -> Message {
    let mut bytes = [0; 256];
    memory.read_slice(&mut bytes, GuestAddress(SIMP + sint.index() as u64 * 256)).unwrap();
    Message::read_from_bytes(&bytes).unwrap()
}

/// Takes the message out of a slot as a guest does, and returns `true` if it must write EOM.
pub fn empty_slot(memory: &GuestMemory, sint: SintIndex) -> bool {
    let slot = SIMP + sint.index() as u64 * 256;
    memory.write_obj(0u32, GuestAddress(slot)).unwrap();
    memory.read_obj::<u8>(GuestAddress(slot + 5)).unwrap() & 1 != 0
}
