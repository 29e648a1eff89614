use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::super::config::DiskConfig;
use super::super::scsi::{DeviceKind, Identity};
use super::super::storvsp::wire::{NtStatus, PacketHeader, ProtocolVersion, ScsiRequest, SrbStatus, Version};
use super::super::unit::Loaded;
use super::*;
use crate::block::queue::{GRACE, new_ring, tests::sleep};
use crate::block::testing::SlowDisk;
use crate::block::{Disk, Format, Image};
use crate::host::event::EventFd;
use crate::memory::{self, GuestMemory};
use crate::need::{Need, ready};
use crate::patience::{Patience, grown};

fn doorbell() -> EventFd {
    EventFd::new().expect("an eventfd")
}

/// Time after which a wait checks again, in case a signal was missed.
const SOON: Duration = Duration::from_millis(100);

/// A guest with one channel.
struct Guest {
    worker: Worker,
    bell: EventFd,
    memory: GuestMemory,
}

fn packet(operation: VstorOperation, body: &[u8]) -> Vec<u8> {
    let mut packet = PacketHeader { operation, flags: 1, status: NtStatus::SUCCESS }.as_bytes().to_vec();
    packet.extend_from_slice(body);
    packet.resize(64, 0);
    packet
}

fn srb(lun: u8, direction: DataDirection, length: u32, cdb: &[u8]) -> Vec<u8> {
    let mut request = ScsiRequest::new_zeroed();
    (request.lun, request.cdb_length, request.sense_length) = (lun, cdb.len() as u8, 20);
    (request.data_in, request.data_transfer_length) = (direction, length);
    request.cdb[..cdb.len()].copy_from_slice(cdb);
    packet(VstorOperation::EXECUTE_SRB, request.as_bytes())
}

fn parse(answer: &Answer) -> ScsiRequest {
    ScsiRequest::read_from_prefix(&answer.reply.bytes()[size_of::<PacketHeader>()..]).expect("a SCSI reply").0
}

fn ten(opcode: u8, block: u32, blocks: u16) -> [u8; 10] {
    let [a, b, c, d] = block.to_be_bytes();
    let [e, f] = blocks.to_be_bytes();
    [opcode, 0, a, b, c, d, 0, e, f, 0]
}

impl Guest {
    /// Creates a guest that has negotiated and has read the power-on unit attention of each disk.
    fn new(controller: &Arc<Controller>, ring: bool) -> Self {
        Self::with_end(controller, ring, || false)
    }

    /// Creates such a guest, which has ended once `is_gone` returns `true`.
    fn with_end(controller: &Arc<Controller>, ring: bool, is_gone: impl Fn() -> bool + Send + 'static) -> Self {
        let bell = doorbell();
        let ring = if ring { new_ring(MAX_IN_FLIGHT) } else { None };
        let (copy, threads) = (bell.try_clone().expect("a copy").into(), controller.threads().clone());
        let queue = Queue::with_ring(ring, MAX_IN_FLIGHT, copy, threads, is_gone).expect("a queue");
        let worker = Worker::with_queue(controller.clone(), true, queue);
        let memory = memory::create(64 << 20, memory::Backing::Private).expect("memory");
        let mut guest = Self { worker, bell, memory };
        let version = ProtocolVersion { version: Version::WIN10, revision: 0 };
        for (operation, body) in [
            (VstorOperation::BEGIN_INITIALIZATION, &[][..]),
            (VstorOperation::QUERY_PROTOCOL_VERSION, version.as_bytes()),
            (VstorOperation::QUERY_PROPERTIES, &[]),
            (VstorOperation::END_INITIALIZATION, &[]),
        ] {
            guest.worker.take(0, &packet(operation, body), GuestBuffer::default()).expect("a packet");
        }
        assert_eq!(guest.finish(4).len(), 4);
        for lun in 0..4 {
            guest.command(lun, DataDirection::NONE, &[0; 6], &GuestBuffer::default());
        }
        guest
    }

    fn pages(&self, frame: u64, length: usize) -> GuestBuffer {
        let frames: Vec<u64> = (frame..frame + length.div_ceil(4096) as u64).collect();
        GuestBuffer::new(&self.memory, frames.into_iter(), 0, length).expect("pages")
    }

    fn send(&mut self, id: u64, lun: u8, direction: DataDirection, cdb: &[u8], pages: &GuestBuffer) {
        let packet = srb(lun, direction, pages.len() as u32, cdb);
        assert_eq!(self.worker.take(id, &packet, pages.clone()), Ok(None));
    }

    fn finish(&mut self, count: usize) -> Vec<Answer> {
        let mut answers = Vec::new();
        while answers.len() < count {
            self.worker.poll().expect("a working ring");
            if self.worker.answers.is_empty() {
                sleep(&self.bell, SOON);
            }
            answers.extend(self.worker.answers());
        }
        answers
    }

    fn command(&mut self, lun: u8, direction: DataDirection, cdb: &[u8], pages: &GuestBuffer) -> ScsiRequest {
        self.send(1, lun, direction, cdb, pages);
        parse(&self.finish(1)[0])
    }
}

fn controller(disks: &[DiskConfig]) -> Arc<Controller> {
    super::super::config::controllers(disks, 4).expect("disks").remove(&0).expect("a controller")
}

fn memory_disk(size: &str) -> DiskConfig {
    DiskConfig { path: format!("memory:{size}").into(), ..DiskConfig::default() }
}

fn both_ways(test: impl Fn(bool)) {
    for ring in [true, false] {
        test(ring);
    }
}

#[test]
fn data_is_written_and_read_back_with_and_without_a_ring() {
    both_ways(|ring| {
        let mut guest = Guest::new(&controller(&[memory_disk("16M")]), ring);
        let (out, back) = (guest.pages(0, 65536), guest.pages(32, 65536));
        let bytes: Vec<u8> = (0..65536).map(|at| (at / 3) as u8).collect();
        out.write(0, &bytes).expect("room");
        let write = guest.command(0, DataDirection::OUT, &ten(0x2a, 100, 128), &out);
        assert_eq!((write.srb_status, write.data_transfer_length), (SrbStatus::SUCCESS, 65536));
        let flush = guest.command(0, DataDirection::NONE, &ten(0x35, 0, 0), &GuestBuffer::default());
        assert_eq!(flush.srb_status, SrbStatus::SUCCESS);
        let read = guest.command(0, DataDirection::IN, &ten(0x28, 100, 128), &back);
        assert_eq!((read.srb_status, read.data_transfer_length), (SrbStatus::SUCCESS, 65536));
        let mut found = vec![0; 65536];
        back.read(0, &mut found).expect("room");
        assert!(found == bytes);
    });
}

#[test]
fn many_requests_are_in_flight_and_every_one_is_answered_once() {
    both_ways(|ring| {
        let mut guest = Guest::new(&controller(&[memory_disk("16M")]), ring);
        for id in 0..u64::from(MAX_IN_FLIGHT) {
            assert!(guest.worker.has_room());
            let pages = guest.pages(id, 4096);
            pages.write(0, &id.to_le_bytes()).expect("room");
            guest.send(id, 0, DataDirection::OUT, &ten(0x2a, id as u32 * 8, 8), &pages);
        }
        assert!(!guest.worker.has_room());
        let mut ids: Vec<u64> =
            guest.finish(MAX_IN_FLIGHT as usize).iter().map(|answer| answer.transaction_id).collect();
        ids.sort_unstable();
        assert!(ids.into_iter().eq(0..u64::from(MAX_IN_FLIGHT)));
        assert_eq!(guest.worker.queue.in_flight(), 0);
        let back = guest.pages(9000, 4096);
        guest.command(0, DataDirection::IN, &ten(0x28, 300 * 8, 8), &back);
        assert_eq!(back.read_value::<u64>(0), Ok(300));
    });
}

#[test]
fn a_read_into_a_short_buffer_fills_it_and_reports_an_overrun() {
    both_ways(|ring| {
        let mut guest = Guest::new(&controller(&[memory_disk("1M")]), ring);
        let pages = guest.pages(0, 1000);
        let read = guest.command(0, DataDirection::IN, &ten(0x28, 0, 8), &pages);
        assert_eq!((read.scsi_status, read.data_transfer_length), (0, 1000));
        let inquiry = guest.command(0, DataDirection::IN, &[0x12, 0, 0, 0, 96, 0], &pages.part(0, 10).expect("a part"));
        assert_eq!((inquiry.srb_status, inquiry.data_transfer_length), (SrbStatus::DATA_OVERRUN, 10));
    });
}

#[test]
fn reads_beyond_a_shrunken_image_are_medium_errors_and_report_the_new_size() {
    both_ways(|ring| {
        let image = tempfile::NamedTempFile::new().expect("a file");
        image.as_file().set_len(1 << 20).expect("room");
        let config = DiskConfig { path: image.path().into(), ..DiskConfig::default() };
        let controller = controller(&[config]);
        let mut guest = Guest::new(&controller, ring);
        image.as_file().set_len(512 << 10).expect("less");
        let pages = guest.pages(0, 4096);
        let read = guest.command(0, DataDirection::IN, &ten(0x28, 1100, 8), &pages);
        assert_eq!((read.srb_status, read.scsi_status), (SrbStatus::ERROR.with_autosense(), 2));
        assert_eq!((read.cdb[2], read.cdb[12], &read.cdb[3..7]), (3, 0x11, &1100_u32.to_be_bytes()[..]));
        controller.check_sizes();
        let attention = guest.command(0, DataDirection::IN, &ten(0x28, 0, 8), &pages);
        assert_eq!((attention.cdb[2], attention.cdb[12], attention.cdb[13]), (6, 0x2a, 0x09));
        guest.command(0, DataDirection::IN, &ten(0x25, 0, 0), &pages);
        assert_eq!(pages.read_value::<[u8; 4]>(0), Ok(1023_u32.to_be_bytes()));
    });
}

#[test]
fn durable_writes_and_compare_and_write_work_beside_plain_ones() {
    both_ways(|ring| {
        let mut guest = Guest::new(&controller(&[memory_disk("1M")]), ring);
        let pages = guest.pages(0, 1024);
        let mut fua = ten(0x2a, 8, 1);
        fua[1] = 8;
        pages.write(0, &[1; 512]).expect("room");
        assert_eq!(guest.command(0, DataDirection::OUT, &fua, &pages).scsi_status, 0);
        pages.write(512, &[2; 512]).expect("room");
        let swap = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0];
        assert_eq!(guest.command(0, DataDirection::OUT, &swap, &pages).scsi_status, 0);
        let miscompare = guest.command(0, DataDirection::OUT, &swap, &pages);
        assert_eq!((miscompare.scsi_status, miscompare.cdb[2]), (2, 0x0e));
        // A batch of both kinds for the same block.
        for id in 0..100 {
            let plain = id % 3 != 0;
            let cdb = if plain { ten(0x2a, 8, 1).to_vec() } else { swap.to_vec() };
            guest.send(id, 0, DataDirection::OUT, &cdb, &pages);
        }
        assert_eq!(guest.finish(100).len(), 100);
    });
}

#[test]
fn a_slow_disk_delays_no_other_and_a_removed_disk_completes_its_requests() {
    both_ways(|ring| {
        let controller = controller(&[memory_disk("1M")]);
        let disk = SlowDisk::new();
        let identity = Identity { serial: "slow".into(), unique: 2, scratch: false };
        let image = Image::new(Box::new(disk.clone()), 512);
        let slow = Unit::new(DeviceKind::Disk, identity, Loaded::new(image).ok());
        controller.attach(1, slow).expect("room");
        let mut guest = Guest::new(&controller, ring);
        let pages = guest.pages(0, 4096);
        guest.send(7, 1, DataDirection::IN, &ten(0x28, 0, 8), &pages);
        let fast = guest.pages(1, 4096);
        let read = guest.command(0, DataDirection::IN, &ten(0x28, 0, 8), &fast);
        assert_eq!((read.scsi_status, guest.worker.queue.in_flight()), (0, 1));
        // Waits until the read has begun: a request that has not would be cancelled by the removal.
        disk.gate.wait();
        // After its removal, the disk completes what it has begun. Later commands find no unit.
        drop(controller.detach(1).expect("a unit"));
        let gone = guest.command(1, DataDirection::IN, &ten(0x28, 0, 8), &fast);
        assert_eq!(gone.srb_status.0 & 0x3f, SrbStatus::INVALID_LUN.0);
        disk.gate.wait();
        let late = guest.finish(1);
        assert_eq!((late[0].transaction_id, parse(&late[0]).srb_status), (7, SrbStatus::SUCCESS));
    });
}

#[test]
fn dropping_a_worker_waits_for_its_requests() {
    let image = tempfile::NamedTempFile::new().expect("a file");
    image.as_file().set_len(1 << 20).expect("room");
    both_ways(|ring| {
        let config = DiskConfig { path: image.path().into(), format: Format::Raw, ..DiskConfig::default() };
        let controller = controller(&[config]);
        let mut guest = Guest::new(&controller, ring);
        let pages = guest.pages(0, 1 << 20);
        let fill = if ring { 0x33 } else { 0x44 };
        pages.write(0, &vec![fill; 1 << 20]).expect("room");
        guest.send(1, 0, DataDirection::OUT, &ten(0x2a, 0, 2048), &pages);
        guest.worker.poll().expect("a working ring");
        drop(guest);
        assert!(!controller.is_ready());
        let mut end = [0; 512];
        image.as_file().read_exact_at(&mut end, (1 << 20) - 512).expect("the end");
        assert_eq!(end, [fill; 512]);
    });
}

#[test]
fn every_completion_signals_the_doorbell() {
    both_ways(|ring| {
        let controller = controller(&[memory_disk("1M")]);
        let mut guest = Guest::new(&controller, ring);
        let bell = guest.bell.try_clone().expect("a copy");
        let pages = guest.pages(0, 4096);
        let mut patience = Patience::new(Duration::from_secs(10));
        for id in 0..20 {
            guest.send(id, 0, DataDirection::IN, &ten(0x28, 0, 8), &pages);
            guest.worker.poll().expect("a working ring");
            while guest.worker.answers.is_empty() {
                assert!(!patience.is_over(), "no answer");
                sleep(&bell, grown(Duration::from_secs(10)));
                guest.worker.poll().expect("a working ring");
            }
            assert_eq!(guest.worker.answers().count(), 1);
        }
    });
}

#[test]
fn a_change_notification_is_sent_once_and_only_on_the_primary_channel() {
    let controller = controller(&[memory_disk("1M")]);
    let mut guest = Guest::new(&controller, false);
    let mut subchannel = Worker::new(controller.clone(), false, doorbell().into(), || false).expect("a worker");
    assert!(guest.worker.notice().is_none());
    controller.attach(1, memory_disk("1M").unit(1).expect("a unit")).expect("room");
    assert!(subchannel.notice().is_none());
    assert!(guest.worker.notice().is_some() && guest.worker.notice().is_none());
}

#[path = "worker_cancel_tests.rs"]
mod cancel;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_packet_of_a_guest_gets_one_reply(
        packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 12..90), 0_u8..16, any::<[bool; 4]>(), 0_usize..3), 1..60),
        ring in any::<bool>(),
    ) {
        let mut guest = Guest::new(&controller(&[memory_disk("1M")]), ring);
        for (id, (mut bytes, operation, tame, pages)) in packets.into_iter().enumerate() {
            bytes[..4].copy_from_slice(&[if tame[0] { 3 } else { operation }, 0, 0, 0]);
            if tame[1] && bytes.len() >= 48 {
                // An address that exists, and lengths that fit.
                bytes[17..20].fill(0);
                bytes[20] = 16;
                bytes[24..28].copy_from_slice(&(pages as u32 * 4096).to_le_bytes());
                bytes[28] &= if tame[2] { 0x2f } else { 0xff };
                bytes[34..44].fill(0);
            }
            let pages = if pages == 0 { GuestBuffer::default() } else { guest.pages(id as u64 * 4, pages * 4096) };
            guest.worker.take(id as u64, &bytes, pages).expect("a header is there");
            let answer = guest.finish(1);
            prop_assert_eq!((answer.len(), answer[0].transaction_id), (1, id as u64));
        }
        prop_assert_eq!(guest.worker.queue.in_flight(), 0);
    }
}

#[test]
fn a_full_host_disk_causes_space_allocation_failed_until_there_is_space() {
    if !ready(&[Need::Namespaces, Need::Tool("mount"), Need::Tool("qemu-img")]) {
        return;
    }
    let mount = tempfile::tempdir().expect("a directory");
    let run = |program: &str, arguments: &[&str]| {
        let mut command = std::process::Command::new(program);
        command.args(arguments).current_dir(mount.path()).status().is_ok_and(|status| status.success())
    };
    let place = mount.path().to_str().expect("a plain path");
    assert!(run("mount", &["-t", "tmpfs", "-o", "size=2M", "none", place]));
    let worked = std::panic::catch_unwind(|| {
        both_ways(|ring| {
            for (name, format) in [("raw", Format::Raw), ("qcow2", Format::Qcow2)] {
                let (disk, ballast) = (mount.path().join(name), mount.path().join("ballast"));
                let image = disk.to_str().expect("a plain path");
                assert!(run("qemu-img", &["create", "-q", "-f", name, image, "8M"]));
                std::fs::write(&ballast, vec![1; 3 << 19]).expect("room");
                let config = DiskConfig { path: disk.clone(), format, ..DiskConfig::default() };
                let mut guest = Guest::new(&controller(&[config]), ring);
                let pages = guest.pages(0, 1 << 20);
                pages.write(0, &vec![7; 1 << 20]).expect("room");
                let mut write = || guest.command(0, DataDirection::OUT, &ten(0x2a, 0, 2048), &pages);
                let full = write();
                assert_eq!((full.srb_status, full.scsi_status), (SrbStatus::ERROR.with_autosense(), 2), "{name}");
                // DATA PROTECT, SPACE ALLOCATION FAILED WRITE PROTECT.
                assert_eq!((full.cdb[2] & 0xf, full.cdb[12], full.cdb[13]), (7, 0x27, 7), "{name}");
                std::fs::remove_file(&ballast).expect("the ballast");
                assert_eq!(write().srb_status, SrbStatus::SUCCESS, "{name}");
                drop(guest);
                std::fs::remove_file(&disk).expect("the image");
            }
        });
    });
    assert!(run("umount", &["--lazy", place]));
    worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}
