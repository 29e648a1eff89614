//! Sockets with stock Linux, its module hv_sock and socat, on the nested host and on both engines.

mod guest;
mod steps;

use std::sync::OnceLock;

use crate::common::nested::{Batch, OnBoth, Plan, is_full};
use crate::common::stock::{self, done, number};
use guest::Linux;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

static SOCKETS: OnBoth =
    OnBoth { kernel: Batch::new(|plan| self::plan(plan, "kernel")), user: Batch::new(|plan| self::plan(plan, "user")) };

/// The guest: Debian's kernel with its module, socat, and a server for ssh.
fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let directory = format!("{ROOT}/target/sockets-test");
        std::fs::create_dir_all(&directory).expect("a folder");
        let peer = format!("{directory}/peer");
        done("cc", &["-O1", "-Wall", "-o", &peer, "tests/nested/sockets/peer.c"]);
        let peer = format!("{peer}:/usr/bin/peer");
        let files = ["--file", "tests/nested/sockets/serve:/usr/bin/serve", "--file", &peer];
        let packages = ["--module", "hv_sock", "--package", "socat", "--package", "dropbear-bin"];
        stock::image("sockets", &[packages.as_slice(), &files].concat())
    })
}

fn plan(plan: &mut Plan, engine: &str) {
    plan.option("--package", "openssh-client");
    plan.option("--package", "socat");
    plan.file(&format!("{}/peer:/usr/bin/peer", image()));
    let (mebibytes, connections) = if is_full() { (1024, 10_000) } else { (16, 200) };
    let variables = format!("MIB={mebibytes} CONNECTIONS={connections}");
    stock::plan(plan, module_path!(), image(), engine, &[("sockets", 150 + mebibytes + connections / 4, &variables)]);
}

#[test]
fn stock_linux_and_the_host_connect_to_each_other() {
    stock::passes(&SOCKETS, "sockets");
}

#[test]
#[ignore = "a part of stock_linux_and_the_host_connect_to_each_other, for the nested host"]
fn nested_sockets() {
    let linux = Linux::with_sockets();
    steps::both_sides_connect(&linux);
    steps::ssh_uses_the_unix_socket(&linux);
    steps::a_half_closed_echo_is_whole(&linux, number("MIB"));
    steps::a_slow_reader_stops_the_writer(&linux);
    steps::nobody_listens(&linux);
    steps::many_connections_leave_nothing(&linux, number("CONNECTIONS"));
    steps::a_pause_stops_a_connection(&linux);
    steps::killed_programs_end_their_connections(&linux);
    steps::the_module_is_unloaded(&linux);
    steps::the_machine_ends_with_a_connection_open(linux);
}
