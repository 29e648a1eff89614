//! The embedded guest that `viridian run` starts without a kernel. It uses its VMBus devices, and fails if they do.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::Path;
use std::time::Duration;

use viridian::Builder;
use viridian::internals::Disk;
use viridian::internals::storage::Controller;
use viridian::internals::storage::StorageVsp;
use viridian::internals::storage::{DeviceKind, Identity};
use viridian::internals::storage::{Image, Loaded, Unit};
use viridian::machine::End;
use viridian::vmbus::vsp::{Channel, Handler, Offer, ServiceError, Vsp};
use viridian::vmbus::{Guid, interface};

use super::command::{image, run};
use crate::common::patience::grown;

/// The first and the last lines of its output.
const FIRST: &str = "Hello from a Viridian guest.\n";
const LAST: &str = "All is well; turning the machine off.\n";

/// Runs it, expects success, and returns its output from VMBus on.
#[track_caller]
fn succeed(options: &str) -> String {
    let run = run(&format!("run {options}"));
    assert_eq!((run.code, run.errors.lines().last()), (Some(0), Some("viridian: the guest powered off")), "{run:?}");
    assert!(run.output.starts_with(FIRST) && run.output.ends_with(LAST), "{run:?}");
    let vmbus = run.output.find("  VMBus ").unwrap_or_else(|| panic!("{run:?}"));
    run.output[vmbus..run.output.len() - LAST.len()].to_owned()
}

#[test]
fn the_embedded_guest_reports_its_command_line_and_machine() {
    let run = run("run --cpus 3 --memory 5G --cmdline greeting=yes");
    assert_eq!(run.code, Some(0), "{run:?}");
    for line in ["processors     3", "command line   greeting=yes", "100000000-17fffffff usable"] {
        assert!(run.output.contains(line), "{line}: {run:?}");
    }
}

#[test]
fn by_default_the_embedded_guest_has_and_uses_a_scratch_disk_and_a_network() {
    for (vps, subchannels) in [(1, 0), (2, 1), (4, 3)] {
        let expected = format!(
            "  VMBus          version 5.3
  offers         8
    SCSI         channel 1, 76697269-6469-616e-7363-736900000000
    network      channel 2, 76697269-6469-616e-6e65-740000000000
    shutdown     channel 3, b6650ff7-33bc-4840-8048-e0676786f393
    time sync    channel 4, 2dd1ce17-079e-403c-b352-a1921ee207ee
    heartbeat    channel 5, fd149e91-82e0-4a7d-afa6-2a4166cbd7c0
    KVP          channel 6, 242ff919-07db-4180-9c2e-b86cb68c8c55
    VSS          channel 7, 2450ee40-33bf-4fbd-892e-9fb06e9214cf
    file copy    channel 8, eb765408-105f-49b6-b4aa-c123b64d17d4
  storage        channel 1 is open
    protocol     6.2, up to 1024 KiB in a transfer, up to {subchannels} subchannels
    LUN 0        Msft Virtual Disk 1.0, 131072 blocks of 512 bytes, scratch
      write      4096 bytes from block 0 on
      flush      done
      read       4096 bytes, as they were written
  network        channel 2 is open
    protocol     NVSP 0x60001, 39 sections to receive in
    adapter      02:15:5d:83:6e:8d, link up
    DHCP         10.0.2.15, mask 255.255.255.0, for 3600 seconds
    gateway      10.0.2.2 answers a ping after "
        );
        let output = succeed(&format!("--cpus {vps}"));
        let time = output.strip_prefix(&expected).unwrap_or_else(|| panic!("{output}"));
        let time = time.strip_suffix(" microseconds\n").map(str::parse::<u64>);
        assert!(matches!(time, Some(Ok(1..1_000_000))), "{output}");
    }
}

#[test]
fn the_embedded_guest_uses_all_disks_of_all_controllers() {
    let output = succeed(
        "--disk memory:512 --disk memory:3T,lun=63 --disk memory:1M,controller=3,sector=4096 --disk memory:8M,controller=1 \
         --disk media=dvd,controller=1 --disk memory:1M,media=dvd,controller=1",
    );
    for lines in [
        "offers         10\n    SCSI         channel 1,",
        "LUN 0        Msft Virtual Disk 1.0, 1 blocks of 512 bytes, scratch\n      write      512 bytes",
        "LUN 63       Msft Virtual Disk 1.0, 6442450944 blocks of 512 bytes, scratch\n      write      4096 bytes",
        "LUN 0        Msft Virtual Disk 1.0, 256 blocks of 4096 bytes, scratch\n      write      4096 bytes",
        "LUN 1        Msft Virtual DVD-ROM 1.0, 0 blocks of 0 bytes, empty\n",
        "LUN 2        Msft Virtual DVD-ROM 1.0, 512 blocks of 2048 bytes, to be kept\n      read       4096 bytes from block 0 on",
    ] {
        assert!(output.contains(lines), "{lines}: {output}");
    }
    assert_eq!(output.matches("is open\n").count(), 4, "{output}");
    assert_eq!(output.matches("4096 bytes, as they were written\n").count(), 3, "{output}");
}

#[test]
fn a_controller_may_have_64_disks() {
    let disks = "--disk memory:4K ".repeat(64);
    assert_eq!(succeed(&disks).matches("4096 bytes, as they were written\n").count(), 64);
}

#[test]
fn the_embedded_guest_does_not_write_to_disks_of_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name| folder.path().join(name).into_os_string().into_string().unwrap();
    let (raw, readonly) = (path("raw"), path("readonly"));
    let content: Vec<u8> = (0..1 << 20).map(|byte: u32| (byte * 7 % 251) as u8).collect();
    fs::write(&raw, &content).unwrap();
    fs::write(&readonly, &content).unwrap();
    let output =
        succeed(&format!("--disk {raw},serial=scratch --disk {readonly},readonly=on --disk memory:1M,readonly=on"));
    assert!(!output.contains("write") && !output.contains("scratch"), "{output}");
    assert_eq!(output.matches("read       4096 bytes from block 0 on\n").count(), 3, "{output}");
    assert!(fs::read(&raw).unwrap() == content && fs::read(&readonly).unwrap() == content);
}

#[test]
fn the_embedded_guest_draws_on_the_largest_screen() {
    let output = succeed("--net none --memory 64M --display on,size=7680x4320");
    assert!(output.contains("picture      7680x4320, colour bars\n"), "{output}");
}

/// Returns the size and the pixels of a PNG file: red, green and blue.
fn read_png(file: &Path) -> ((usize, usize), Vec<u8>) {
    let mut reader = png::Decoder::new(BufReader::new(File::open(file).unwrap())).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgb);
    ((info.width as usize, info.height as usize), pixels)
}

#[test]
fn the_embedded_guest_draws_a_picture_on_a_screen() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.png");
    // Sizes whose lines do and do not end at a multiple of eight bytes, and one that is too small for the text.
    for (size, (width, height)) in [("", (1024, 768)), (",size=641x480", (641, 480)), (",size=64x64", (64, 64))] {
        let output = succeed(&format!("--net none --display on{size} --screenshot-at-end {}", file.display()));
        let lines = format!("at first {width}x{height}\n    picture      {width}x{height}, colour bars\n");
        assert!(output.contains("  video          channel ") && output.contains(&lines), "{output}");
        let (picture_size, pixels) = read_png(&file);
        assert_eq!(picture_size, (width, height));
        let pixel = |x: usize, y: usize| &pixels[3 * (y * width + x)..][..3];
        let bars = [0xff_ffff, 0xff_ff00, 0x00ffff, 0x00ff00, 0xff00ff, 0xff0000, 0x0000ff, 0_u32];
        for (bar, colour) in (0..).zip(bars) {
            let [_, red, green, blue] = colour.to_be_bytes();
            for y in [0, height / 5, height - 1] {
                let x = (2 * bar + 1) * width / 16;
                assert_eq!(pixel(x, y), [red, green, blue], "{x}, {y} of {width}x{height}");
            }
        }
        // In the middle, the bars are cyan and green. Text is white on black.
        let words = (height / 2..3 * height / 4).filter(|y| pixel(width / 2, *y) == [0; 3]).count();
        assert_eq!(words > 0, width > 64, "{words} black pixels below the middle");
    }
}

#[test]
fn the_embedded_guest_supports_every_version_of_vmbus() {
    for version in ["2.4", "3.0", "4.0", "4.1", "5.0", "5.1", "5.2", "5.3"] {
        let output = succeed(&format!("--vmbus-max-version {version}"));
        assert!(output.starts_with(&format!("  VMBus          version {version}\n")), "{output}");
        for line in ["read       4096 bytes, as they were written\n", "10.0.2.2 answers a ping"] {
            assert!(output.contains(line), "{line}: {output}");
        }
    }
}

#[test]
fn the_embedded_guest_reports_missing_features_and_succeeds() {
    assert_eq!(succeed("--hv off"), "  VMBus          none: the machine does not speak Hyper-V\n");
    for privilege in ["AccessHypercallMsrs", "AccessVpIndex", "AccessSynicRegs", "PostMessages", "SignalEvents"] {
        let expected = format!("  VMBus          none: the hypervisor does not grant {privilege}\n");
        assert_eq!(succeed(&format!("--hv -{privilege}")), expected);
    }
}

#[test]
fn a_network_without_dhcp_is_not_an_error() {
    let output = succeed("--net switch=where-nobody-answers,mac=02:00:00:00:00:07");
    let last = "    adapter      02:00:00:00:00:07, link up\n    DHCP         nobody gives an address\n";
    assert!(output.ends_with(last), "{output}");
}

#[test]
fn an_unconnected_adapter_has_its_link_down_and_causes_no_wait() {
    let output = succeed("--net none,mac=02:00:00:00:00:07");
    assert!(output.ends_with("    adapter      02:00:00:00:00:07, link down\n"), "{output}");
}

#[test]
fn a_machine_with_a_kernel_of_the_user_has_no_default_devices() {
    let kernel = image("vsc");
    assert_eq!(
        succeed(&format!("--kernel {} --services off", kernel.display())),
        "  VMBus          version 5.3\n  offers         0\n"
    );
}

/// A SCSI controller whose channel does not open.
struct Closed;

impl Vsp for Closed {
    fn offer(&self) -> Offer {
        Offer::new(interface::SCSI, Guid::new(1))
    }

    fn open(&mut self, _: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
        Err(ServiceError::Protocol("not today".into()))
    }
}

/// A disk that stores nothing. A broken one also fails to flush.
#[derive(Clone, Copy)]
struct Forgetful {
    broken: bool,
}

impl Disk for Forgetful {
    fn size(&self) -> io::Result<u64> {
        Ok(1 << 20)
    }
    fn read_only(&self) -> bool {
        false
    }
    fn can_discard(&self) -> bool {
        false
    }
    fn read(&self, _: u64, bytes: &mut [u8]) -> io::Result<()> {
        bytes.fill(0);
        Ok(())
    }
    fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn flush(&self) -> io::Result<()> {
        if self.broken { Err(io::Error::other("broken")) } else { Ok(()) }
    }
    fn zero(&self, _: u64, _: u64, _: bool) -> io::Result<()> {
        Ok(())
    }
}

/// A controller with that disk, as scratch.
fn with_disk(disk: Forgetful) -> StorageVsp {
    let controller = Controller::new(0);
    let identity = Identity { serial: "1".into(), unique: 1, scratch: true };
    let unit = Unit::new(DeviceKind::Disk, identity, Loaded::new(Image::new(Box::new(disk), 512)).ok());
    controller.attach(5, unit).unwrap();
    StorageVsp::new(controller, Guid::new(1))
}

/// Runs it with an additional device, and expects that it fails.
#[track_caller]
fn fail<V: Vsp + 'static>(device: impl Fn() -> V + Send + Sync + 'static, last_line: &str) {
    let limit = grown(Duration::from_secs(60));
    let machine = Builder::new().device(device).capture_console().timeout(limit).start().unwrap();
    let console = machine.console().unwrap().clone();
    let end = machine.wait();
    let output = String::from_utf8(console.take()).unwrap();
    assert!(matches!(end, End::Exited(1)), "{end}: {output}");
    assert!(output.lines().last().is_some_and(|line| line.starts_with(last_line)), "{output}");
}

#[test]
fn a_failed_step_is_named_and_ends_the_embedded_guest_with_1() {
    fail(|| Closed, "FAILED: channel 9 cannot be opened");
    let forgets = "FAILED: LUN 5: what was written does not come back: byte 0 differs";
    fail(|| with_disk(Forgetful { broken: false }), forgets);
    fail(|| with_disk(Forgetful { broken: true }), "FAILED: LUN 5: SYNCHRONIZE CACHE: NTSTATUS 0x");
}

/// A device that the guest has no driver for.
struct Own;

impl Vsp for Own {
    fn offer(&self) -> Offer {
        Offer::new(Guid::new(0x1234), Guid::new(7))
    }

    fn open(&mut self, _channel: &mut Channel) -> Result<Box<dyn Handler>, ServiceError> {
        Err(ServiceError::Protocol("nobody opens it".into()))
    }
}

#[test]
fn a_device_of_a_library_user_is_listed_and_not_used() {
    let limit = grown(Duration::from_secs(60));
    let machine = Builder::new().device(|| Own).capture_console().timeout(limit).start().unwrap();
    let console = machine.console().unwrap().clone();
    let end = machine.wait();
    let output = String::from_utf8(console.take()).unwrap();
    assert!(matches!(end, End::PoweredOff), "{end}: {output}");
    assert!(output.contains("    other        channel "), "{output}");
    assert!(!output.contains("ok "), "{output}");
}
