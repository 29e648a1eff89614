//! Cancellation of long commands, and disks that hang.

use std::sync::Condvar;
use std::sync::atomic::AtomicU64;

use super::*;

/// Returns VERIFY (16) of this number of blocks, without data.
fn verify(blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = 0x8f;
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// A disk of a pebibyte that counts its reads. With a `latch`, each read waits for it.
#[derive(Default)]
struct Endless {
    reads: AtomicU64,
    latch: Option<Latch>,
}

#[derive(Default)]
struct Latch(Mutex<bool>, Condvar);

impl Latch {
    fn open(&self) {
        *self.0.lock().expect("a lock") = true;
        self.1.notify_all();
    }

    fn wait(&self) {
        let guard = self.0.lock().expect("a lock");
        drop(self.1.wait_while(guard, |open| !*open).expect("a lock"));
    }
}

struct Shown(Arc<Endless>);

impl Disk for Shown {
    fn size(&self) -> io::Result<u64> {
        Ok(1 << 50)
    }
    fn read_only(&self) -> bool {
        false
    }
    fn can_discard(&self) -> bool {
        true
    }
    fn read(&self, _: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.0.reads.fetch_add(1, Ordering::SeqCst);
        self.0.latch.as_ref().into_iter().for_each(Latch::wait);
        bytes.fill(0);
        Ok(())
    }
    fn write(&self, offset: u64, _: &[u8]) -> io::Result<()> {
        self.read(offset, &mut [])
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    fn zero(&self, offset: u64, _: u64, _: bool) -> io::Result<()> {
        self.read(offset, &mut [])
    }
}

fn attach(controller: &Controller, lun: u8, disk: Endless) -> Arc<Endless> {
    let disk = Arc::new(disk);
    let identity = Identity { serial: "endless".into(), unique: 7, scratch: false };
    let image = Image::new(Box::new(Shown(disk.clone())), 512);
    let unit = Unit::new(DeviceKind::Disk, identity, Loaded::new(image).ok());
    controller.attach(lun, unit).expect("room");
    disk
}

/// Waits until the disk was read once more.
fn wait_for_a_read(disk: &Endless) {
    let before = disk.reads.load(Ordering::SeqCst);
    while disk.reads.load(Ordering::SeqCst) == before {
        std::thread::yield_now();
    }
}

/// Returns UNMAP of terabytes: the CDB and the parameter list.
fn unmap(guest: &Guest) -> ([u8; 10], GuestBuffer) {
    let pages = guest.pages(40, 24);
    let mut list = [0; 24];
    (list[1], list[3]) = (22, 16);
    list[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
    pages.write(0, &list).expect("room");
    (ten(0x42, 0, 24), pages)
}

#[test]
fn a_reset_of_any_kind_ends_only_commands_that_were_sent_before_it() {
    let lun = [0, 0, 0, 0, 0, 0, 0, 1];
    for (operation, body) in
        [(VstorOperation::RESET_LUN, &lun[..]), (VstorOperation::RESET_BUS, &[]), (VstorOperation::RESET_ADAPTER, &[])]
    {
        let controller = controller(&[memory_disk("1M")]);
        let endless = attach(&controller, 1, Endless::default());
        let mut guest = Guest::new(&controller, false);
        // More commands than threads, of more than one kind.
        let (none, (cdb, list)) = (GuestBuffer::default(), unmap(&guest));
        for id in 0..20 {
            guest.send(id, 1, DataDirection::NONE, &verify(u32::MAX), &none);
            guest.send(100 + id, 1, DataDirection::OUT, &cdb, &list);
        }
        wait_for_a_read(&endless);
        guest.worker.take(1000, &packet(operation, body), none.clone()).expect("a packet");
        let answers = guest.finish(41);
        for answer in answers.iter().filter(|answer| answer.transaction_id != 1000) {
            let reply = parse(answer);
            // ABORTED COMMAND, which Linux tries again.
            assert_eq!((reply.scsi_status, reply.cdb[2] & 0xf), (2, 0xb), "{operation:?} {}", answer.transaction_id);
        }
        assert_eq!(answers.len(), 41);
        // The unit reports the reset once, and then continues.
        let told = guest.command(1, DataDirection::NONE, &[0; 6], &none);
        assert_eq!((told.cdb[2], told.cdb[12]), (6, 0x29));
        let read = guest.command(1, DataDirection::IN, &ten(0x28, 0, 8), &guest.pages(0, 4096));
        assert_eq!(read.srb_status, SrbStatus::SUCCESS);
    }
}

#[test]
fn a_reset_of_one_unit_leaves_the_commands_of_another_alone() {
    let controller = controller(&[memory_disk("1M")]);
    let [first, second] = [1, 2].map(|lun| attach(&controller, lun, Endless::default()));
    let mut guest = Guest::new(&controller, false);
    let none = GuestBuffer::default();
    guest.send(1, 1, DataDirection::NONE, &verify(u32::MAX), &none);
    guest.send(2, 2, DataDirection::NONE, &verify(u32::MAX), &none);
    wait_for_a_read(&first);
    wait_for_a_read(&second);
    let reset = packet(VstorOperation::RESET_LUN, &[0, 0, 0, 0, 0, 0, 0, 1]);
    guest.worker.take(3, &reset, none).expect("a packet");
    let mut ids: Vec<u64> = guest.finish(2).iter().map(|answer| answer.transaction_id).collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 3]);
    wait_for_a_read(&second);
}

#[test]
fn removing_a_disk_cancels_its_long_commands() {
    let controller = controller(&[memory_disk("1M")]);
    let endless = attach(&controller, 1, Endless::default());
    let mut guest = Guest::new(&controller, false);
    guest.send(1, 1, DataDirection::NONE, &verify(u32::MAX), &GuestBuffer::default());
    wait_for_a_read(&endless);
    drop(controller.detach(1).expect("a unit"));
    assert_eq!(parse(&guest.finish(1)[0]).cdb[2] & 0xf, 0xb);
    while Arc::strong_count(&endless) > 1 {
        std::thread::yield_now();
    }
}

#[test]
fn closing_a_channel_cancels_its_long_commands() {
    let controller = controller(&[memory_disk("1M")]);
    let endless = attach(&controller, 1, Endless::default());
    let mut guest = Guest::new(&controller, false);
    for id in 0..100 {
        guest.send(id, 1, DataDirection::NONE, &verify(u32::MAX), &GuestBuffer::default());
    }
    wait_for_a_read(&endless);
    drop(guest);
    // All commands have ended, also those that had not started. The threads read no more.
    let before = endless.reads.load(Ordering::SeqCst);
    let mut next = Guest::new(&controller, false);
    next.command(1, DataDirection::IN, &ten(0x28, 0, 8), &next.pages(0, 4096));
    assert_eq!(endless.reads.load(Ordering::SeqCst), before + 1);
}

#[test]
fn a_closing_channel_waits_for_a_hanging_disk_only_while_its_guest_exists() {
    let controller = controller(&[memory_disk("1M")]);
    let hung = attach(&controller, 1, Endless { latch: Some(Latch::default()), ..Endless::default() });
    let latch = hung.latch.as_ref().expect("a latch");
    for guest_goes in [true, false] {
        let gone = Arc::new(AtomicBool::new(false));
        let mut guest = Guest::with_end(&controller, false, {
            let gone = gone.clone();
            move || gone.load(Ordering::SeqCst)
        });
        let pages = guest.pages(0, 4096);
        guest.send(1, 1, DataDirection::IN, &ten(0x28, 0, 8), &pages);
        wait_for_a_read(&hung);
        let dropped = std::thread::spawn(move || drop(guest));
        std::thread::sleep(2 * GRACE);
        assert!(!dropped.is_finished());
        if guest_goes {
            gone.store(true, Ordering::SeqCst);
        } else {
            latch.open();
        }
        dropped.join().expect("a thread");
        // The thread that hangs still has the guest's memory.
        assert!(pages.read_value::<u32>(0).is_ok());
    }
}

#[test]
fn the_number_of_threads_for_long_commands_does_not_depend_on_the_number_of_disks() {
    let controller = controller(&[memory_disk("1M")]);
    let latched = || Endless { latch: Some(Latch::default()), ..Endless::default() };
    let disks: Vec<_> = (1..10).map(|lun| attach(&controller, lun, latched())).collect();
    let mut guest = Guest::new(&controller, false);
    for lun in 4..10 {
        guest.command(lun, DataDirection::NONE, &[0; 6], &GuestBuffer::default());
    }
    for lun in 1..10 {
        guest.send(lun.into(), lun, DataDirection::NONE, &verify(1 << 20), &GuestBuffer::default());
    }
    let begun = || disks.iter().map(|disk| disk.reads.load(Ordering::SeqCst)).sum::<u64>();
    while begun() < 2 {
        std::thread::yield_now();
    }
    // An ordinary command has a thread of its own disk.
    guest.send(50, 9, DataDirection::IN, &ten(0x28, 0, 8), &guest.pages(0, 4096));
    while begun() < 3 {
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(begun(), 3);
    disks.iter().for_each(|disk| disk.latch.as_ref().expect("a latch").open());
}

#[test]
fn verifying_a_hole_of_terabytes_takes_no_time() {
    both_ways(|ring| {
        let mut guest = Guest::new(&controller(&[memory_disk("4T")]), ring);
        for id in 0..500 {
            guest.send(id, 0, DataDirection::NONE, &verify(u32::MAX), &GuestBuffer::default());
        }
        assert!(guest.finish(500).iter().all(|answer| parse(answer).srb_status == SrbStatus::SUCCESS));
    });
}

#[test]
fn a_panic_in_a_disk_fails_its_request_and_the_disk_stays_usable() {
    struct Panics;
    impl Disk for Panics {
        fn size(&self) -> io::Result<u64> {
            Ok(1 << 20)
        }
        fn read_only(&self) -> bool {
            false
        }
        fn can_discard(&self) -> bool {
            true
        }
        fn read(&self, offset: u64, _: &mut [u8]) -> io::Result<()> {
            if offset == 0 { std::panic::resume_unwind(Box::new(())) } else { Ok(()) }
        }
        fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
            std::panic::resume_unwind(Box::new(()))
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
        fn zero(&self, _: u64, _: u64, _: bool) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
    let controller = controller(&[memory_disk("1M")]);
    let identity = Identity { serial: "panics".into(), unique: 3, scratch: false };
    let image = Image::new(Box::new(Panics), 512);
    let unit = Unit::new(DeviceKind::Disk, identity, Loaded::new(image).ok());
    controller.attach(1, unit).expect("room");
    let mut guest = Guest::new(&controller, false);
    let pages = guest.pages(0, 4096);
    for _ in 0..10 {
        // HARDWARE ERROR, and the other blocks can be read.
        assert_eq!(guest.command(1, DataDirection::IN, &ten(0x28, 0, 8), &pages).cdb[2] & 0xf, 4);
        assert_eq!(guest.command(1, DataDirection::OUT, &ten(0x2a, 0, 8), &pages).cdb[2] & 0xf, 4);
        assert_eq!(guest.command(1, DataDirection::IN, &ten(0x28, 8, 8), &pages).srb_status, SrbStatus::SUCCESS);
        // An unsupported operation is ILLEGAL REQUEST and not a medium error.
        let (cdb, list) = unmap_small(&guest);
        assert_eq!(guest.command(1, DataDirection::OUT, &cdb, &list).cdb[2] & 0xf, 5);
    }
}

/// Returns UNMAP of one block: the CDB and the parameter list.
fn unmap_small(guest: &Guest) -> ([u8; 10], GuestBuffer) {
    let (cdb, pages) = unmap(guest);
    pages.write(16, &1_u32.to_be_bytes()).expect("room");
    (cdb, pages)
}
