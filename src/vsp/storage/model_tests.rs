//! Compares a disk with a vector of bytes, under random commands.

use proptest::prelude::*;

use super::scsi::{
    Command as ScsiCommand, CommandOutcome, DeviceKind, Identity, LogicalUnit, Medium, Nexus, Response, Status,
};
use crate::block::testing::{VectorDisk, pages, perform};
use crate::memory::{self, GuestMemory};

/// A command, in blocks.
#[derive(Clone, Debug)]
enum Command {
    Read(u8, u8),
    Write(u8, u8, u8),
    WriteAndVerify(u8, u8, u8),
    Or(u8, u8, u8),
    WriteSame(u8, u8, u8, bool),
    CompareAndWrite(u8, u8),
    Unmap(Vec<(u8, u8)>),
    Verify(u8, u8),
}

const BLOCKS: u8 = 64;

fn command() -> impl Strategy<Value = Command> {
    let place = || (0..BLOCKS + 2, 0_u8..9);
    prop_oneof![
        place().prop_map(|(lba, blocks)| Command::Read(lba, blocks)),
        (place(), any::<u8>()).prop_map(|((lba, blocks), byte)| Command::Write(lba, blocks, byte)),
        (place(), any::<u8>()).prop_map(|((lba, blocks), byte)| Command::WriteAndVerify(lba, blocks, byte)),
        (place(), any::<u8>()).prop_map(|((lba, blocks), byte)| Command::Or(lba, blocks, byte)),
        (place(), 0_u8..2, any::<bool>())
            .prop_map(|((lba, blocks), byte, unmap)| Command::WriteSame(lba, blocks, byte, unmap)),
        (0..BLOCKS, any::<u8>()).prop_map(|(lba, byte)| Command::CompareAndWrite(lba, byte)),
        prop::collection::vec(place(), 0..4).prop_map(Command::Unmap),
        place().prop_map(|(lba, blocks)| Command::Verify(lba, blocks)),
    ]
}

/// A unit and its disk, without threads.
struct Machine {
    unit: LogicalUnit,
    disk: VectorDisk,
    memory: GuestMemory,
}

impl Machine {
    fn new() -> Self {
        let medium = Medium { block_size: 512, blocks: BLOCKS.into(), read_only: false, provisioning: true };
        let identity = Identity { serial: "s".into(), unique: 1, scratch: false };
        let unit = LogicalUnit::new(DeviceKind::Disk, identity, Some(medium));
        let disk = VectorDisk::new(usize::from(BLOCKS) * 512);
        Self { unit, disk, memory: memory::create(1 << 20, memory::Backing::Private).expect("memory") }
    }

    fn execute(&mut self, cdb: &[u8], data: &[u8], room: usize) -> (Response, Vec<u8>) {
        let mut padded = [0; 16];
        padded[..cdb.len()].copy_from_slice(cdb);
        let out = pages(&self.memory, data.len());
        out.write(0, data).expect("room");
        let buffer = if room > 0 { pages(&self.memory, room) } else { out.clone() };
        let command = ScsiCommand { nexus: Nexus::GUEST, cdb: &padded, data_out: &out, room };
        let response = match self.unit.execute(&command) {
            CommandOutcome::Done(response) => response,
            CommandOutcome::Perform(job) => {
                let result = perform(&self.disk, &job.request, &buffer);
                self.unit.finish(&job, result)
            }
        };
        let mut data = vec![0; room];
        buffer.read(0, &mut data).expect("room");
        (response, data)
    }
}

fn ten(opcode: u8, flags: u8, lba: u8, blocks: u8) -> [u8; 10] {
    [opcode, flags, 0, 0, 0, lba, 0, 0, blocks, 0]
}

fn sixteen(opcode: u8, flags: u8, lba: u8, blocks: u8) -> [u8; 16] {
    [opcode, flags, 0, 0, 0, 0, 0, 0, 0, lba, 0, 0, 0, blocks, 0, 0]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_disk_behaves_like_a_vector_of_bytes(commands in prop::collection::vec(command(), 1..40)) {
        let mut machine = Machine::new();
        machine.execute(&[0; 6], &[], 0);
        let mut model = machine.disk.bytes.lock().expect("a lock").clone();
        for command in commands {
            let inside = |lba: u8, blocks: u8| lba + blocks <= BLOCKS;
            let range = |lba: u8, blocks: u8| usize::from(lba) * 512..usize::from(lba + blocks) * 512;
            let bytes = |blocks: u8, byte: u8| vec![byte; usize::from(blocks) * 512];
            let good = match command.clone() {
                Command::Read(lba, blocks) => {
                    let (response, data) = machine.execute(&ten(0x28, 0, lba, blocks), &[], usize::from(blocks.max(1)) * 512);
                    if inside(lba, blocks) && blocks > 0 {
                        prop_assert_eq!(&data[..], &model[range(lba, blocks)]);
                    }
                    prop_assert_eq!(response.status == Status::Good, inside(lba, blocks));
                    continue;
                }
                Command::Verify(lba, blocks) => {
                    let data = if inside(lba, blocks) { model[range(lba, blocks)].to_vec() } else { bytes(blocks, 0) };
                    let (response, _) = machine.execute(&sixteen(0x8f, 2, lba, blocks), &data, 0);
                    prop_assert_eq!(response.status == Status::Good, inside(lba, blocks));
                    continue;
                }
                Command::Write(lba, blocks, byte) | Command::WriteAndVerify(lba, blocks, byte) => {
                    let verify = matches!(command, Command::WriteAndVerify(..));
                    let cdb = if verify { ten(0x2e, 2, lba, blocks) } else { ten(0x2a, 8, lba, blocks) };
                    let (response, _) = machine.execute(&cdb, &bytes(blocks, byte), 0);
                    if inside(lba, blocks) {
                        model[range(lba, blocks)].fill(byte);
                    }
                    (response, inside(lba, blocks))
                }
                Command::Or(lba, blocks, byte) => {
                    let (response, _) = machine.execute(&sixteen(0x8b, 0, lba, blocks), &bytes(blocks, byte), 0);
                    if inside(lba, blocks) {
                        model[range(lba, blocks)].iter_mut().for_each(|old| *old |= byte);
                    }
                    (response, inside(lba, blocks))
                }
                Command::WriteSame(lba, blocks, byte, unmap) => {
                    let flags = if unmap { 8 } else { 0 };
                    let (response, _) = machine.execute(&ten(0x41, flags, lba, blocks), &bytes(1, byte), 0);
                    let real = if blocks == 0 { BLOCKS.saturating_sub(lba) } else { blocks };
                    if inside(lba, real) {
                        model[range(lba, real)].fill(byte);
                    }
                    (response, inside(lba, real))
                }
                Command::CompareAndWrite(lba, byte) => {
                    let data = [&model[range(lba, 1)], &bytes(1, byte)].concat();
                    let (response, _) = machine.execute(&sixteen(0x89, 0, lba, 1), &data, 0);
                    model[range(lba, 1)].fill(byte);
                    (response, true)
                }
                Command::Unmap(ranges) => {
                    let length = ranges.len() as u8 * 16;
                    let mut list = vec![0, length + 6, 0, length, 0, 0, 0, 0];
                    for (lba, blocks) in &ranges {
                        list.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, *lba, 0, 0, 0, *blocks, 0, 0, 0, 0]);
                    }
                    let cdb = [0x42, 0, 0, 0, 0, 0, 0, 0, list.len() as u8, 0];
                    let (response, _) = machine.execute(&cdb, &list, 0);
                    let good = ranges.iter().all(|(lba, blocks)| inside(*lba, *blocks));
                    for (lba, blocks) in ranges.into_iter().filter(|_| good) {
                        model[range(lba, blocks)].fill(0);
                    }
                    (response, good)
                }
            };
            prop_assert_eq!(good.0.status == Status::Good, good.1, "{:?}: {:?}", command, good.0);
            prop_assert!(*machine.disk.bytes.lock().expect("a lock") == model, "{:?}", command);
        }
    }
}
