//! A machine that is paused under fio and iperf3: nothing writes to its guest's memory, and both find no errors afterwards.
//! This test uses the library, so the test binary itself runs on the nested host.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use viridian::Builder;
use viridian::machine::{End, Machine};
use viridian::vsp::network::{Attachment, NetworkOptions};
use viridian::vsp::storage::DiskConfig;

use super::guest::{self, WITH_ROOTS, text};
use crate::common::nested::{Plan, times};
use crate::common::patience::grown;
use crate::common::stock::{engine, number, passes, variable};

const SOON: Duration = Duration::from_secs(90);
const MEMORY: u64 = 384 << 20;
/// Duration of the load beside the pauses, in seconds of the guest's time: it has begun before the first pause, and still runs at the
/// last one. Each pause comes half a second after the one before.
const LOAD_SECONDS: u32 = 12;

pub fn plan(plan: &mut Plan, engine: &str) {
    let this = std::env::current_exe().expect("a test binary");
    plan.file(text(&this));
    plan.option("--package", "iperf3");
    let (guest, this) = (guest::with_root_disk().display(), this.display());
    let count = times(4);
    let script = format!(
        "ifconfig lo 127.0.0.1 up; iperf3 --server --daemon; \
         GUEST={guest} ENGINE={engine} TIMES={count} {this} --ignored --exact --nocapture disks::pausing::on_the_nested_host"
    );
    plan.check("pausing", 180 + 10 * count, script);
}

#[test]
fn a_machine_can_be_paused_and_resumed_under_fio_and_iperf3() {
    passes(&WITH_ROOTS, "pausing");
}

#[test]
#[ignore = "a part of a_machine_can_be_paused_and_resumed_under_fio_and_iperf3, for the nested host"]
fn on_the_nested_host() {
    let guest = PathBuf::from(variable("GUEST"));
    let (count, load) = (number("TIMES"), LOAD_SECONDS + number("TIMES"));
    let machine = Builder::new()
        .engine(engine())
        .memory(MEMORY)
        .cpus(2)
        .kernel(guest.join("vmlinux"))
        .initrd(guest.join("initrd.img"))
        .cmdline(format!("console=ttyS0 quiet panic=-1 root=LABEL=root run=\"load 5201 {load}\""))
        .disk(DiskConfig::of("/dev/vda"))
        .disk(DiskConfig { lun: Some(1), ..DiskConfig::of("memory:32M") })
        .net(NetworkOptions::new(Attachment::User))
        .capture_console()
        .start()
        .unwrap();
    let console = machine.console().unwrap();
    let wait = |words: &str| drop(console.wait_for(words, grown(SOON)).unwrap_or_else(|missing| panic!("{missing}")));
    wait("loaded");
    let mut copies = Copies::new();
    let changed = copies.changed_pages(&machine, Duration::ZERO);
    assert!(changed > 0, "the load is none");
    for _ in 0..count {
        thread::sleep(Duration::from_millis(500));
        machine.pause().unwrap();
        let written = copies.changed_pages(&machine, Duration::from_secs(1));
        machine.resume();
        assert_eq!(written, 0, "pages were written to while the machine was paused");
    }
    println!("measured: {changed} pages change while memory is read twice, none in a second of a pause");
    wait("fio is done");
    wait("iperf3 is done");
    let end = machine.wait();
    assert!(matches!(end, End::PoweredOff), "{end}");
}

/// Two copies of a guest's memory. They are kept, because an emulated processor takes longer to provide their pages than to fill them.
struct Copies {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Copies {
    fn new() -> Self {
        Self { before: vec![0; MEMORY as usize], after: vec![0; MEMORY as usize] }
    }

    /// Reads the guest's memory twice, with this time in between. Returns the number of pages that differ.
    fn changed_pages(&mut self, machine: &Machine, time: Duration) -> usize {
        machine.guest().read(0, &mut self.before).unwrap();
        thread::sleep(time);
        machine.guest().read(0, &mut self.after).unwrap();
        self.before.chunks(4096).zip(self.after.chunks(4096)).filter(|(before, after)| before != after).count()
    }
}
