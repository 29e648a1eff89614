use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::memory::{self, GuestMemory};
use crate::vsp::storage::scsi::{DeviceKind, Identity, LogicalUnit, Medium, Nexus, Outcome, Request, Response, Status};

/// A disk in a vector, which can be told to fail.
struct VectorDisk {
    bytes: Mutex<Vec<u8>>,
    fails_at: Option<(u64, io::ErrorKind)>,
}

impl VectorDisk {
    fn new(size: usize) -> Self {
        Self { bytes: Mutex::new((0..size).map(|at| (at / 7) as u8).collect()), fails_at: None }
    }

    fn range<R>(&self, offset: u64, length: usize, see: impl FnOnce(&mut [u8]) -> R) -> io::Result<R> {
        match self.fails_at {
            Some((at, kind)) if (offset..offset + length as u64).contains(&at) => Err(kind.into()),
            _ => Ok(see(&mut self.bytes.lock().expect("a lock")[offset as usize..offset as usize + length])),
        }
    }
}

impl Disk for VectorDisk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().expect("a lock").len() as u64)
    }
    fn read_only(&self) -> bool {
        false
    }
    fn can_discard(&self) -> bool {
        true
    }
    fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.range(offset, bytes.len(), |range| bytes.copy_from_slice(range))
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.range(offset, bytes.len(), |range| range.copy_from_slice(bytes))
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn zero(&self, offset: u64, length: u64, _: bool) -> io::Result<()> {
        self.range(offset, length as usize, |range| range.fill(0))
    }
}

fn pages(memory: &GuestMemory, length: usize) -> GuestBuffer {
    // Every other page, so that the buffer is in pieces.
    let frames: Vec<u64> = (0..length.div_ceil(4096) as u64).map(|page| 2 * page).collect();
    GuestBuffer::new(memory, frames.into_iter(), 0, length).expect("pages")
}

fn extent(offset: u64, length: u64) -> Extent {
    Extent { offset, length }
}

fn run(disk: &dyn Disk, action: Action, pages: &GuestBuffer) -> Result<Finished, Failure> {
    perform(disk, &Arc::default(), &Job { action, durable: false }, pages, &Cancel::default())
}

#[test]
fn comparing_finds_the_first_byte_that_differs_beyond_a_chunk_too() {
    let memory = memory::create(4 << 20, memory::Backing::Private).expect("memory");
    let disk = VectorDisk::new(1 << 20);
    let all = extent(0, 600 << 10);
    let buffer = pages(&memory, 600 << 10);
    run(&disk, Action::Read(all), &buffer).expect("a read");
    assert_eq!(run(&disk, Action::Compare { extent: all, repeat: None }, &buffer), Ok(Finished::Done));
    buffer.write(300_001, &[0xee]).expect("room");
    let compare = Action::Compare { extent: all, repeat: None };
    assert_eq!(run(&disk, compare, &buffer), Err(Failure::Miscompare(300_001)));
}

#[test]
fn a_repeated_block_is_compared_with_each_block() {
    let memory = memory::create(1 << 20, memory::Backing::Private).expect("memory");
    let disk = VectorDisk::new(1 << 20);
    let buffer = pages(&memory, 512);
    let pattern = vec![9; 512];
    buffer.write(0, &pattern).expect("room");
    let range = extent(512, 2048);
    run(&disk, Action::WriteSame { extent: range, pattern }, &GuestBuffer::default()).expect("a write");
    let compare = |extent| Action::Compare { extent, repeat: Some(512) };
    assert_eq!(run(&disk, compare(range), &buffer), Ok(Finished::Done));
    assert_eq!(run(&disk, compare(extent(512, 2560)), &buffer), Err(Failure::Miscompare(2048)));
}

#[test]
fn compare_and_write_writes_only_what_it_compared() {
    let memory = memory::create(1 << 20, memory::Backing::Private).expect("memory");
    let disk = VectorDisk::new(8192);
    let buffer = pages(&memory, 1024);
    run(&disk, Action::Read(extent(512, 512)), &buffer).expect("a read");
    buffer.write(512, &[3; 512]).expect("room");
    let action = || Action::CompareAndWrite(extent(512, 512));
    assert_eq!(run(&disk, action(), &buffer), Ok(Finished::Done));
    assert!(matches!(run(&disk, action(), &buffer), Err(Failure::Miscompare(_))));
    let mut now = [0; 512];
    disk.read(512, &mut now).expect("a read");
    assert_eq!(now, [3; 512]);
}

#[test]
fn failures_say_what_failed_where() {
    let memory = memory::create(1 << 20, memory::Backing::Private).expect("memory");
    let buffer = pages(&memory, 4096);
    let mut disk = VectorDisk::new(1 << 20);
    for (kind, failure) in [
        (io::ErrorKind::Other, Failure::Write(512)),
        (io::ErrorKind::StorageFull, Failure::NoSpace(512)),
        (io::ErrorKind::QuotaExceeded, Failure::NoSpace(512)),
        (io::ErrorKind::FileTooLarge, Failure::NoSpace(512)),
    ] {
        disk.fails_at = Some((600, kind));
        assert_eq!(run(&disk, Action::Write(extent(512, 512)), &buffer), Err(failure));
        assert_eq!(run(&disk, Action::Read(extent(512, 512)), &buffer), Err(Failure::Read(512)));
        assert_eq!(run(&disk, Action::Check(extent(0, 512)), &buffer), Ok(Finished::Done));
    }
    disk.fails_at = Some((300 << 10, io::ErrorKind::Other));
    assert_eq!(run(&disk, Action::Check(extent(0, 1 << 20)), &buffer), Err(Failure::Read(256 << 10)));
}

#[test]
fn a_job_never_goes_beyond_the_initiators_pages() {
    let memory = memory::create(1 << 20, memory::Backing::Private).expect("memory");
    let buffer = pages(&memory, 512);
    let disk = VectorDisk::new(8192);
    let two = extent(0, 1024);
    for action in [Action::Read(two), Action::Write(two), Action::Or(two), Action::CompareAndWrite(extent(0, 512))] {
        let before = disk.bytes.lock().expect("a lock").clone();
        let result = run(&disk, action.clone(), &buffer);
        assert!(matches!(result, Err(Failure::Buffer | Failure::Miscompare(_))), "{action:?}: {result:?}");
        assert_eq!(*disk.bytes.lock().expect("a lock"), before);
    }
}

/// A command of the model test, in blocks.
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

/// A unit and its disk, without any thread.
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
        let request = Request { nexus: Nexus::GUEST, cdb: &padded, data_out: &out, room };
        let response = match self.unit.execute(&request) {
            Outcome::Done(response) => response,
            Outcome::Perform(job) => {
                let result = perform(&self.disk, &Arc::default(), &job, &buffer, &Cancel::default());
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
    fn a_disk_is_a_vector_of_bytes(commands in prop::collection::vec(command(), 1..40)) {
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
