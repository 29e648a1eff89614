//! Guest images with drivers that violate the protocols of devices, on the nested host and on both engines. They use the library,
//! so the test binary runs itself there.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::json;
use viridian::Builder;
use viridian::config::{Config, Memory, Size};
use viridian::machine::{End, Machine};

use crate::common::nested::{Batch, OnBoth, Plan};
use crate::common::patience::{grown, patience};
use crate::common::stock::{self, engine};

/// Directory of the guest images.
const IMAGES: &str = env!("VIRIDIAN_GUEST_IMAGES");
/// The images, with the seconds that they need.
const RUNS: [(&str, u32); 4] = [("screen", 60), ("services", 60), ("sockets", 60), ("balloon", 60)];

static DRIVERS: OnBoth =
    OnBoth { kernel: Batch::new(|plan| self::plan(plan, "kernel")), user: Batch::new(|plan| self::plan(plan, "user")) };

fn plan(plan: &mut Plan, engine: &str) {
    let this = std::env::current_exe().expect("a test binary");
    let this = this.to_str().expect("a plain path");
    // The drivers wait for answers that must not come.
    plan.waits();
    plan.file(this);
    plan.option("--dir", IMAGES);
    for (image, seconds) in RUNS {
        let test = format!("{this} --ignored --exact --nocapture drivers::nested_{image}");
        plan.check(image, seconds, format!("ENGINE={engine} {test}"));
    }
}

#[test]
fn drivers_that_violate_a_protocol_affect_only_themselves_on_both_engines() {
    for (image, _) in RUNS {
        stock::passes(&DRIVERS, image);
    }
}

fn builder(image: &str, cmdline: &str) -> Builder {
    let builder = Builder::new().engine(engine()).kernel(Path::new(IMAGES).join(image));
    builder.cmdline(format!("{cmdline} {}", patience())).capture_console()
}

/// Waits for the end of the guest, and expects that all of its checks have passed.
fn passes(machine: Machine) {
    let console = machine.console().unwrap().clone();
    let end = machine.wait();
    assert!(matches!(end, End::Exited(0)), "{end}\n{}", String::from_utf8_lossy(&console.take()));
}

#[test]
#[ignore = "a part of drivers_that_violate_a_protocol_affect_only_themselves_on_both_engines, for the nested host"]
fn nested_screen() {
    let machine = builder("screen", "driver=good").display("on").start().unwrap();
    machine.console().unwrap().wait_for("ready\n", grown(Duration::from_secs(60))).unwrap();
    let picture = machine.screen().picture().unwrap();
    assert_eq!((picture.size(), picture.pixel(319, 199)), ((320, 200), Some([63, 199, 63 ^ 199])));
    machine.screen().press("esc").unwrap();
    let end = machine.wait();
    assert!(matches!(end, End::PoweredOff), "{end}");
    passes(builder("screen", "checks=quiet").display("on").start().unwrap());
}

#[test]
#[ignore = "a part of drivers_that_violate_a_protocol_affect_only_themselves_on_both_engines, for the nested host"]
fn nested_services() {
    passes(builder("services", "checks=quiet").start().unwrap());
}

/// Sends everything back until the guest closes its direction.
fn echo(mut stream: UnixStream) {
    let mut buffer = [0; 10_000];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

#[test]
#[ignore = "a part of drivers_that_violate_a_protocol_affect_only_themselves_on_both_engines, for the nested host"]
fn nested_sockets() {
    let prepared = builder("sockets", "checks=quiet").prepare().unwrap();
    let listener = prepared.sockets().listen(2048).unwrap();
    let server = thread::spawn(move || {
        while let Ok(stream) = listener.accept() {
            thread::spawn(move || echo(stream));
        }
    });
    passes(prepared.start().unwrap());
    server.join().unwrap();
}

#[test]
#[ignore = "a part of drivers_that_violate_a_protocol_affect_only_themselves_on_both_engines, for the nested host"]
fn nested_balloon() {
    let size = |mebibytes: u64| Size(mebibytes << 20);
    let memory = Memory { size: size(128), min: Some(size(96)), max: Some(size(192)), ..Memory::default() };
    let builder = Builder::from(Config { memory, ..Config::default() }).engine(engine());
    let builder = builder.kernel(Path::new(IMAGES).join("balloon")).cmdline(format!("checks=quiet {}", patience()));
    let machine = builder.capture_console().start().unwrap();
    // Each driver gets a request to release memory after its first report.
    machine.command("memory", "set", &json!("96M")).unwrap();
    passes(machine);
}
