//! The tools, and their results.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use viridian::vsp::storage::{DiskConfig, Media};

use crate::common::need::{Need, ready};
use crate::target::Target;

const DEVICE: &str = "/dev/sg0";

/// Returns the library that is preloaded into a tool, or `None` if the test is left out for a reason.
#[track_caller]
fn shim(tools: &[Need]) -> Option<(tempfile::TempDir, PathBuf)> {
    if !ready(&[&[Need::Tool("cc")], tools].concat()) {
        return None;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let library = directory.path().join("sg_shim.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/storage/sg_shim.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library).arg(source).arg("-ldl");
    assert!(compiler.status().expect("cc").success());
    Some((directory, library))
}

fn run(library: &Path, target: &Target, tool: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(tool);
    command.args(arguments).arg(DEVICE).env("LD_PRELOAD", library);
    command.env("SG_SHIM_DEVICE", DEVICE).env("SG_SHIM_SOCKET", &target.socket);
    command.output().expect("the tool")
}

fn disk(path: &str, sector: u32) -> DiskConfig {
    DiskConfig { path: path.into(), sector, ..DiskConfig::default() }
}

/// Returns the tests that failed, as Suite.Test.
fn failed(output: &str) -> Vec<String> {
    let mut suite = "";
    let mut test = "";
    let mut failed = Vec::new();
    for line in output.lines() {
        if let Some(name) = line.strip_prefix("Suite: ") {
            suite = name;
        }
        if let Some(rest) = line.trim_start().strip_prefix("Test: ") {
            test = rest.split(' ').next().unwrap_or("");
        }
        if line.ends_with("FAILED") {
            failed.push(format!("{suite}.{test}"));
        }
    }
    failed
}

/// Of its 215 tests, only these fail, each because of the test itself:
///
/// - `WriteSame10.UnmapUntilEnd` sends blocks of 0xff with UNMAP and expects zeros. SBC-3 (5.43) requires
///   that data other than zeros is written if unmapped blocks read as zeros.
/// - `GetLBAStatus.UnmapSingle` asks for block i + 1 and expects a descriptor that starts at block i + 8, if the physical block
///   has eight logical ones; with blocks of 4096 bytes it writes more than a command may move.
#[test]
fn the_conformance_tests_of_libiscsi_pass() {
    let Some((_directory, library)) = shim(&[Need::Tool("iscsi-test-cu")]) else { return };
    for sector in [512, 4096] {
        let target = Target::new(&[disk("memory:256M", sector)]);
        let output = run(&library, &target, "iscsi-test-cu", &["-d", "-s", "-v", "-t", "SCSI"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.lines().any(|line| line.split_whitespace().take(3).eq(["tests", "215", "215"])), "{text}");
        assert_eq!(failed(&text), ["GetLBAStatus.UnmapSingle", "WriteSame10.UnmapUntilEnd"], "{text}");
    }
}

#[test]
fn sg3_utils_find_a_consistent_disk() {
    let Some((_directory, library)) = shim(&[Need::Tool("sg_inq"), Need::Tool("sdparm")]) else { return };
    let config = DiskConfig { serial: Some("S-42".into()), ..disk("memory:64M", 512) };
    let target = Target::new(&[config, DiskConfig { lun: Some(5), ..disk("memory:1M", 512) }]);
    // The arguments of a tool, and its expected output.
    for (tool, arguments, said) in [
        ("sg_turs", "", ""),
        ("sg_turs", "", ""),
        ("sg_inq", "", "Virtual Disk"),
        ("sg_inq", "-p sn", "S-42"),
        ("sg_vpd", "-p sv", "Logical block provisioning"),
        ("sg_vpd", "-p di", "designator type: NAA"),
        ("sg_vpd", "-p bl", "Maximum unmap LBA count: -1"),
        ("sg_vpd", "-p bdc", "Non-rotating medium"),
        ("sg_vpd", "-p lbpv", "Provisioning type: 2"),
        ("sg_luns", "", "0005000000000000"),
        ("sg_readcap", "", "Number of logical blocks=131072"),
        ("sg_readcap", "-l", "lbprz=1"),
        ("sg_requests", "", ""),
        ("sg_modes", "-a", "Caching"),
        ("sg_modes", "-a -6", "Control"),
        ("sdparm", "--get=WCE", "WCE           1"),
        ("sg_opcodes", "", "Compare and write"),
        ("sg_sync", "", ""),
        ("sg_start", "--stop", ""),
        ("sg_start", "--start", ""),
        ("sg_verify", "--lba=0 --count=128", ""),
        ("sg_write_same", "--16 --unmap --lba=8 --num=8", ""),
        ("sg_unmap", "--lba=8 --num=8 --force", ""),
        ("sg_get_lba_status", "--lba=0", "deallocated"),
        ("sg_persist", "--out --register --param-sark=abc", ""),
        ("sg_persist", "--out --reserve --param-rk=abc --prout-type=5", ""),
        ("sg_persist", "--in --read-keys", "0xabc"),
        ("sg_persist", "--in --read-reservation", "Write Exclusive, registrants only"),
        ("sg_persist", "--in --read-full-status", "Reservation holder"),
        ("sg_persist", "--in --report-capabilities", "Exclusive Access, all registrants: 1"),
        ("sg_persist", "--out --release --param-rk=abc --prout-type=5", ""),
        ("sg_persist", "--out --clear --param-rk=abc", ""),
    ] {
        let arguments: Vec<_> = arguments.split_whitespace().collect();
        let output = run(&library, &target, tool, &arguments);
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        match tool {
            // The first command gets the unit attention for the power-on.
            "sg_turs" => {}
            // It also requests saved values, and ends with the sense key for the missing support.
            "sdparm" => assert_eq!(output.status.code(), Some(5), "{arguments:?}: {text}"),
            _ => assert!(output.status.success(), "{tool} {arguments:?}: {text}"),
        }
        assert!(text.contains(said), "{tool} {arguments:?}: {text}");
    }
}

#[test]
fn sg3_utils_find_a_dvd_drive() {
    let Some((_directory, library)) = shim(&[Need::Tool("sg_inq")]) else { return };
    let image = tempfile::NamedTempFile::new().expect("a file");
    image.as_file().set_len(4 << 20).expect("room");
    let config = DiskConfig { path: image.path().into(), media: Media::Dvd, ..DiskConfig::default() };
    let target = Target::new(&[config]);
    for (tool, arguments, said) in [
        ("sg_turs", "", ""),
        ("sg_inq", "", "cd/dvd"),
        ("sg_readcap", "", "Logical block length=2048 bytes"),
        ("sg_get_config", "", "DVD read"),
        ("sg_modes", "-p 0x2a", "MM capabilities"),
        ("sg_prevent", "--prevent=1", ""),
        ("sg_prevent", "--allow", ""),
        ("sg_start", "--eject", ""),
        ("sg_start", "--load", ""),
    ] {
        let arguments: Vec<_> = arguments.split_whitespace().collect();
        let output = run(&library, &target, tool, &arguments);
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() || tool == "sg_turs", "{tool} {arguments:?}: {text}");
        assert!(text.contains(said), "{tool} {arguments:?}: {text}");
    }
}
