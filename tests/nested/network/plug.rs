//! Adapters that are attached and detached under load, each with another version of NVSP, and a cable that is unplugged. This
//! test uses the library, so the test binary itself runs on the nested host.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use viridian::Builder;
use viridian::machine::End;
use viridian::vsp::network::Attachment;
use viridian::vsp::network::NetworkOptions;
use viridian::vsp::network::Version;

use super::guest::{GUEST, HERE, NETWORK, cmdline};
use crate::common::nested::{Plan, is_full, times};
use crate::common::patience::grown;
use crate::common::stock::{engine, number, passes};

const SOON: Duration = Duration::from_secs(60);

pub fn plan(plan: &mut Plan, engine: &str) {
    let this = std::env::current_exe().expect("a test binary");
    plan.file(this.to_str().expect("a plain path"));
    let this = this.display();
    // Each version has its turn at least once.
    let (adapters, flaps) = (times(Version::ALL.len() as u32), times(2));
    // Continuous downloads keep the guest busy. Their duration adds to the time of each step.
    let bytes = if is_full() { 1_000_000 } else { 100_000 };
    let script = format!(
        "ENGINE={engine} ADAPTERS={adapters} FLAPS={flaps} sh {HERE}/host/with-server {bytes} \
         {this} --ignored --exact --nocapture network::plug::on_the_nested_host"
    );
    plan.check("plug", 60 + 10 * (adapters + flaps), script);
}

#[test]
fn adapters_of_every_version_come_and_go_under_load_and_so_does_the_link() {
    passes(&NETWORK, "plug");
}

#[test]
#[ignore = "a part of adapters_of_every_version_come_and_go_under_load_and_so_does_the_link, for the nested host"]
fn on_the_nested_host() {
    let guest = PathBuf::from(GUEST);
    let user = NetworkOptions::new(Attachment::User);
    let machine = Builder::new()
        .engine(engine())
        .cpus(2)
        .kernel(guest.join("vmlinux"))
        .initrd(guest.join("initrd.img"))
        .cmdline(cmdline("watch-nics"))
        .net(user.clone())
        .capture_console()
        .start()
        .unwrap();
    let console = machine.console().unwrap();
    let said = RefCell::new(String::new());
    let wait = |words: &str| {
        let text = console.wait_for(words, grown(SOON)).unwrap_or_else(|missing| panic!("{missing}"));
        said.borrow_mut().push_str(&String::from_utf8_lossy(&text));
    };
    wait("watching");

    let begin = Instant::now();
    for (turn, version) in (1..=number("ADAPTERS")).zip(Version::ALL.into_iter().cycle()) {
        let options = NetworkOptions { nvsp: version, queues: 2, ..user.clone() };
        let number = machine.nics().attach(&options).unwrap();
        wait(&format!("nic {turn}: fetched"));
        assert_eq!(machine.inspect()["devices"][format!("net{number}")]["nvsp"], version.to_string());
        assert!(machine.nics().detach(number));
        wait(&format!("nic {turn}: gone"));
    }
    println!("measured: {} adapters came and went in {:.1} s", number("ADAPTERS"), begin.elapsed().as_secs_f64());

    let begin = Instant::now();
    let nic = machine.nics().get(0).unwrap();
    for _ in 0..number("FLAPS") {
        nic.set_link(false);
        wait("carrier: 0");
        nic.set_link(true);
        wait("carrier: 1");
        // If the link goes down before Linux has processed that it came up, Linux never sees it up.
        wait("eth0: fetched");
    }
    println!("measured: the link went and came {} times in {:.1} s", number("FLAPS"), begin.elapsed().as_secs_f64());

    console.type_text("\n").unwrap();
    wait("watched");
    let said = said.take();
    println!("measured: {}", said.lines().find(|line| line.contains("times in all")).expect("how often"));
    assert!(!said.contains("is wrong") && !said.contains("complaint: "), "{said}");
    let end = machine.wait();
    assert!(matches!(end, End::PoweredOff), "{end}");
}
