//! Invalid input ends a run at once, with the documented exit code and a message with a remedy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::command::{Run, image, run, run_with};
use crate::common::need::{Need, ready};

const PROGRAM: &str = env!("CARGO_BIN_EXE_viridian");

/// Expects a code and words on standard error; and nothing on standard output, and no panic.
#[track_caller]
fn expect(run: &Run, code: i32, words: &[&str]) {
    assert_eq!(run.code, Some(code), "{run:?}");
    for word in words {
        assert!(run.errors.contains(word), "{word:?} is not in {run:?}");
    }
    assert!(run.output.is_empty() && !run.errors.contains("panicked"), "{run:?}");
}

/// Expects that these options are refused.
#[track_caller]
fn refused(options: &str, words: &[&str]) {
    expect(&run(&format!("run {options}")), 2, words);
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

/// Expects that a file with this content is refused as a kernel.
#[track_caller]
fn refused_kernel(content: &[u8], words: &[&str]) {
    let folder = Folder::new();
    let path = folder.file("kernel", content);
    expect(&run_with(["run", "--kernel", path.to_str().unwrap()]), 2, words);
}

fn shell(script: &str) -> Run {
    Command::new("sh").args(["-c", script]).output().unwrap().into()
}

#[test]
fn unusable_adapters_are_refused() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let number = port.local_addr().unwrap().port();
    refused(&format!("--net user,fwd=tcp:{number}:80"), &["--net", "cannot listen", "another port"]);
    refused("--net user,mac=02:00:00:00:00:01 --net none,mac=02-00-00-00-00-01", &["both have the address", "mac="]);
    refused("--net usr", &["usr", "user"]);
    refused("--net none,fwd=tcp:1:2", &["fwd=tcp:1:2", "uplink=user"]);
    refused("--net user,mtu=10000", &["mtu=10000", "9000"]);
    refused("--net tap=much-too-long-a-name", &["1 to 15 characters"]);
    refused("--net user,pcap=/nowhere/capture", &["/nowhere/capture", "No such file"]);
}

#[test]
fn files_for_the_end_are_opened_before_the_guest_runs() {
    refused("--console-at-end /nowhere/last", &["/nowhere/last", "No such file"]);
    refused(
        "--display on --screenshot-at-end /nowhere/last.png",
        &["--screenshot-at-end", "/nowhere/last.png", "No such file"],
    );
    refused("--display on --screenshot-at-end /dev/null", &["no regular file"]);
    refused("--screenshot-at-end /tmp/last.png", &["--screenshot-at-end", "--display on"]);
}

#[test]
fn options_without_an_effect_are_refused_with_the_other_option() {
    for (options, words) in [
        ("--hv off --disk memory:1M", ["--disk", "--hv off"]),
        ("--hv off --net user", ["--net", "--hv off"]),
        ("--hv off --vsock /tmp/no.sock", ["--vsock", "--hv off"]),
        ("--hv off --display on", ["--display", "--hv off"]),
        ("--hv off --services time=off", ["--services", "--hv off"]),
        ("--hv off --engine user", ["--engine", "--hv off"]),
        ("--hv off --memory 1G,max=2G", ["--memory max=", "--hv off"]),
        ("--disk memory:1M,media=dvd,sector=4096", ["media=dvd", "sector=4096"]),
        ("--disk memory:1M,format=raw", ["memory:1M", "format="]),
        ("--disk memory:1M,cache=none", ["memory:1M", "cache="]),
        ("--disk memory:1M,backing=any", ["memory:1M", "backing="]),
        ("--disk Cargo.toml,readonly=on,backing=any", ["raw", "backing=any"]),
        ("--display none,size=800x600", ["--display", "size"]),
        ("--trace-format json", ["--trace-format json", "--trace"]),
        ("--vsock /tmp/no.sock --vmbus-max-version 3.0", ["--vsock", "--vmbus-max-version 3.0"]),
    ] {
        refused(options, &words);
    }
}

#[test]
fn unknown_options_commands_and_values_are_refused() {
    refused("--kernal x", &["--kernal", "--kernel"]);
    expect(&run("rum"), 2, &["rum", "run"]);
    expect(&run(""), 2, &["Usage"]);
    refused("--engine fast", &["fast", "auto", "kernel", "user"]);
    refused("--on-reset never", &["never", "restart"]);
    refused("stray", &["stray", "viridian run --kernel stray"]);
    refused("vm.toml", &["viridian run --config vm.toml", "viridian up vm.toml"]);
}

#[test]
fn options_of_other_programs_are_refused_with_ours() {
    let run = run_with(["run", "-m", "512", "-smp", "4", "-kernel", "bzImage", "-append", "a b", "-nographic"]);
    expect(
        &run,
        2,
        &["--memory 512M", "--cpus 4", "--kernel bzImage", "--cmdline 'a b'", "-nographic is not an option"],
    );
    expect(&run_with(["-hda", "a.img"]), 2, &["--disk a.img"]);
    refused("--api-socket /tmp/x", &["viridian serve", "--control"]);
}

#[test]
fn arguments_that_are_not_utf_8_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let argument = std::ffi::OsStr::from_bytes(b"a\xffb");
    let run = run_with(["run".as_ref(), "--cmdline".as_ref(), argument]);
    expect(&run, 2, &["argument 3", r#""a\xFFb""#, "is not UTF-8"]);
}

#[test]
fn invalid_log_filters_are_refused() {
    let run =
        |filters: &str| Run::from(super::command::viridian().arg("run").env("RUST_LOG", filters).output().unwrap());
    let wrong = run("garbage");
    assert!(wrong.code == Some(0) && wrong.errors.contains("RUST_LOG is ignored: `garbage`"), "{wrong:?}");
    let right = run("viridian=info");
    assert!(right.errors.contains("exits to this process") && !right.errors.contains("RUST_LOG"), "{right:?}");
}

#[test]
fn invalid_sizes_of_memory_are_refused() {
    refused("--memory lots", &["lots", "256M"]);
    refused("--memory 4K", &["--memory", "1M"]);
    refused("--memory 1048577", &["--memory", "4096"]);
    refused("--memory 99999999T", &["--memory"]);
    refused("--memory 3M,hugepages=on", &["hugepages=on", "2M"]);
    refused("--memory 64M,hugepage=on", &["hugepage", "hugepages"]);
    refused("--memory 64M,hugepages=maybe", &["maybe", "on"]);
}

#[test]
fn memory_that_the_host_cannot_map_is_refused() {
    expect(&run("run --memory 200T"), 125, &["--memory"]);
    expect(&run("run --memory 64G,hugepages=on"), 125, &["--memory", "nr_hugepages"]);
}

#[test]
fn invalid_numbers_of_processors_are_refused() {
    refused("--cpus 0", &["1 to 64"]);
    refused("--cpus 65", &["1 to 64"]);
    refused("--cpus many", &["many"]);
    refused("--cpus 4,sockets=3", &["3 sockets", "not 4"]);
    refused("--cpus 2,affinity=0", &["each of the 2"]);
    refused("--cpus 1,affinity=x", &["affinity", "0-3"]);
    refused("--cpus 1,affinity=999", &["VP 0", "host processor 999", "may use 0"]);
    refused("--cpus 1,affinity=4000", &["host processor 4000", "may use 0"]);
}

#[test]
fn invalid_time_limits_are_refused() {
    refused("--timeout soon", &["soon", "30"]);
    refused("--timeout 0", &["above 0"]);
    refused("--timeout -1", &["--timeout"]);
    refused("--timeout nan", &["--timeout"]);
    refused("--timeout 1e300", &["1e300 seconds are longer"]);
    assert!(run("run --timeout 1e300").errors.len() < 300);
}

#[test]
fn unusable_consoles_are_refused() {
    refused("--console sdtio", &["sdtio", "stdio"]);
    refused("--console file:", &["file:PATH"]);
    refused("--console file:/nowhere/log", &["/nowhere/log"]);
    refused("--console file:/", &["directory"]);
    refused("--console unix:/nowhere/socket", &["/nowhere/socket"]);
}

#[test]
fn invalid_traces_are_refused() {
    refused("--trace vmbos", &["vmbos", "vmbus"]);
    refused("--trace vmbus=/nowhere/trace", &["--trace", "/nowhere/trace", "create the directory"]);
    refused("--trace all,vmbus", &["`all`"]);
    let full = run("run --trace vmbus=/dev/full");
    assert_eq!(full.code, Some(0), "{full:?}");
    assert_eq!(full.errors.matches("the trace /dev/full ends here").count(), 1, "{full:?}");
}

#[test]
fn missing_kernels_and_kernels_that_are_not_files_are_refused() {
    refused("--kernel /nowhere/vmlinuz", &["/nowhere/vmlinuz", "No such file"]);
    refused("--kernel /", &["directory"]);
    refused("--kernel /dev/null", &["/dev/null"]);
    let folder = Folder::new();
    let fifo = folder.0.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    refused(&format!("--kernel {}", fifo.display()), &["pipe"]);
}

#[test]
fn the_error_for_a_file_that_is_not_a_kernel_says_what_it_is() {
    refused_kernel(b"", &["empty"]);
    refused_kernel(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], &["gzip", "gunzip -k"]);
    refused_kernel(b"\xfd7zXZ\0rest", &["xz"]);
    refused_kernel(b"\x28\xb5\x2f\xfdrest", &["zstd"]);
    refused_kernel(b"#!/bin/sh\n", &["script"]);
    refused_kernel(&[0xaa; 4096], &["kernel"]);
    refused_kernel(&fs::read("/bin/true").unwrap(), &["program"]);
    let mut arm = fs::read(image("hello")).unwrap();
    arm[18] = 183;
    refused_kernel(&arm, &["arm64"]);
}

#[test]
fn truncated_kernels_are_refused() {
    let whole = fs::read(image("hello")).unwrap();
    for length in [16, 100, whole.len() / 2] {
        refused_kernel(&whole[..length], &["truncated"]);
    }
    let whole = fs::read(image("hello-bzimage")).unwrap();
    refused_kernel(&whole[..600], &["truncated"]);
}

#[test]
fn invalid_flat_images_are_refused() {
    refused("--kernel flat:", &["flat:"]);
    refused("--kernel flat:/nowhere", &["/nowhere"]);
    refused("--kernel flat:/bin/true@here", &["here"]);
    refused("--kernel flat:/bin/true,mode=33", &["33", "16"]);
    refused("--kernel flat:/bin/true,mod=32", &["mod", "mode"]);
    let flat = image("flat64");
    refused(&format!("--kernel flat:{}@0x20000000,mode=64", flat.display()), &["--memory"]);
}

#[test]
fn initrds_and_command_lines_that_do_not_fit_are_refused() {
    let bzimage = image("hello-bzimage");
    let folder = Folder::new();
    let initrd = folder.file("initrd", &[]);
    fs::File::options().write(true).open(&initrd).unwrap().set_len(64 << 20).unwrap();
    refused(
        &format!("--memory 32M --kernel {} --initrd {}", bzimage.display(), initrd.display()),
        &["initrd", "--memory"],
    );
    refused(&format!("--kernel {} --initrd /nowhere/initrd", bzimage.display()), &["/nowhere/initrd"]);
    let long = "x".repeat(100_000);
    let run = run_with(["run", "--kernel", bzimage.to_str().unwrap(), "--cmdline", &long]);
    expect(&run, 2, &["command line", "100000"]);
}

#[test]
fn invalid_settings_files_are_refused() {
    let folder = Folder::new();
    let config = |content: &str| {
        let path = folder.file("vm.toml", content.as_bytes());
        run_with(["run", "--config", path.to_str().unwrap()])
    };
    for (content, words) in [
        ("name = 'x'\nkernal = 'y'", "vm.toml:2:1: unknown key `kernal`; did you mean `kernel`?"),
        ("cpus = []", "vm.toml:1:8: cpus: expected a string or a table, found an array"),
        ("memory = ", "vm.toml:1:10: "),
        ("\nmemory = { size = '1G', pages = 2 }", "vm.toml:2:25: memory: unknown key `pages`"),
        ("[memory]\nsize = 'lots'", "vm.toml:2:8: memory.size: `lots` is not a size"),
        ("timeout = 'soon'", "vm.toml:1:11: timeout: expected a number, found string \"soon\""),
        ("engine = 'fast'", "vm.toml:1:10: engine: unknown value `fast`; known are: auto, kernel, user"),
        ("[[partition]]\nname = 'a'", "run them with: viridian up "),
    ] {
        let run = config(content);
        expect(&run, 2, &[words]);
        assert!(!run.errors.contains("Usage") && run.errors.lines().count() == 1, "{run:?}");
    }
    refused("--config /nowhere.toml", &["/nowhere.toml"]);
    refused(&format!("--config {}", image("hello").display()), &["UTF-8"]);
    refused("--config /dev/zero", &["/dev/zero"]);
}

#[test]
fn an_engine_that_cannot_run_here_is_refused() {
    let check = run("check --json");
    let report: serde_json::Value = serde_json::from_str(&check.output).unwrap();
    if report["engine"] != "kernel" {
        expect(&run("run --engine kernel"), 126, &["KVM_CAP_HYPERV", "--engine auto"]);
    }
}

#[test]
fn a_standard_output_that_cannot_be_written_is_an_error() {
    let program = Path::new(PROGRAM).display();
    let exits = image("exits");
    let run = shell(&format!("{program} run --kernel {} --cmdline spew=200000 >&-", exits.display()));
    expect(&run, 125, &["standard output", "closed"]);
    let run = shell(&format!("{program} run --kernel {} --cmdline spew=200000 >/dev/full", exits.display()));
    expect(&run, 125, &["standard output"]);
    let script = format!("{{ {program} run --kernel {} --cmdline spew=200000; echo $? >&2; }} | true", exits.display());
    let run = shell(&script);
    assert!(run.errors.contains("standard output") && run.errors.ends_with("\n125\n"), "{run:?}");
    for command in ["hv", "check", "run --dump-config", "--help"] {
        let run = shell(&format!("{{ {program} {command}; echo $? >&2; }} | true"));
        assert_eq!(run.errors, "0\n", "a reader that has seen enough is no failure of {command}");
        let run = shell(&format!("{program} {command} >/dev/full"));
        assert_eq!(run.code, Some(125), "{run:?}");
        assert!(run.errors.contains("standard output"), "{run:?}");
    }
}

/// Runs the program in a mount namespace where `/dev/kvm` is hidden or inaccessible. Requires root.
pub fn with_mounts(mounts: &str, command: &str) -> Run {
    let script = format!("mount --make-rprivate / && {mounts} && exec {command}");
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap();
    output.into()
}

#[test]
fn the_error_for_a_missing_dev_kvm_has_a_remedy() {
    if !ready(&[Need::Namespaces]) {
        return;
    }
    let run = with_mounts("mount -t tmpfs none /dev", &format!("{PROGRAM} run"));
    expect(&run, 126, &["/dev/kvm: not found", "modprobe"]);
    let run = with_mounts("mount -t tmpfs none /dev", &format!("{PROGRAM} check"));
    assert_eq!(run.code, Some(126), "{run:?}");
    let lab = format!("{}/examples/peers.toml", env!("CARGO_MANIFEST_DIR"));
    let run = with_mounts("mount -t tmpfs none /dev", &format!("{PROGRAM} up {lab}"));
    expect(&run, 126, &["/dev/kvm: not found", "modprobe", "nothing was started"]);
    let run = with_mounts("mount -t tmpfs none /dev", &format!("{PROGRAM} hv"));
    assert!(run.code == Some(0) && run.output.contains("cannot run: /dev/kvm: not found"), "{run:?}");
    let run = with_mounts("mount --bind /dev/null /dev/kvm", &format!("{PROGRAM} run"));
    expect(&run, 126, &["/dev/kvm", "not KVM"]);
    let run = with_mounts("mount --bind /etc/hostname /dev/kvm", &format!("{PROGRAM} run"));
    expect(&run, 126, &["/dev/kvm", "regular file"]);
}

#[test]
fn the_error_for_an_inaccessible_dev_kvm_has_a_remedy() {
    if !ready(&[Need::Namespaces]) {
        return;
    }
    let device = |change: &str| {
        format!("touch /tmp/kvm$$ && {change} /tmp/kvm$$ && mount --bind /tmp/kvm$$ /dev/kvm && rm /tmp/kvm$$")
    };
    let as_nobody = "/usr/bin/setpriv --reuid=65534 --regid=65534 --clear-groups";
    let folder = Folder::new();
    // A copy that every user can execute, wherever the build directory is.
    let program = folder.0.path().join("viridian");
    fs::copy(PROGRAM, &program).unwrap();
    assert!(Command::new("chmod").arg("755").args([folder.0.path(), program.as_path()]).status().unwrap().success());
    let as_nobody = format!("{as_nobody} {} run", program.display());
    let run = with_mounts(&device("chmod 600"), &as_nobody);
    expect(&run, 126, &["/dev/kvm: permission denied", "chgrp kvm /dev/kvm", "usermod -aG kvm"]);
    let run = with_mounts(&device("chgrp tty /tmp/kvm$$ && chmod 660"), &as_nobody);
    expect(&run, 126, &["/dev/kvm: permission denied; join the group tty", "usermod -aG tty"]);
}

#[test]
fn a_full_disk_below_the_consoles_file_is_reported() {
    if !ready(&[Need::Namespaces]) {
        return;
    }
    let folder = Folder::new();
    let path = folder.0.path().display();
    let command =
        format!("{PROGRAM} run --kernel {} --cmdline spew=200000 --console file:{path}/log", image("exits").display());
    let run = with_mounts(&format!("mount -t tmpfs -o size=64k none {path}"), &command);
    expect(&run, 125, &["log", "space"]);
}

#[test]
fn a_limit_on_the_size_of_files_is_reported() {
    let folder = Folder::new();
    let log = folder.0.path().join("log");
    let (image, log) = (image("exits"), log.display());
    let run = shell(&format!(
        "ulimit -f 8; exec {PROGRAM} run --kernel {} --cmdline spew=200000 --console file:{log}",
        image.display()
    ));
    expect(&run, 125, &["/log", "ulimit -f"]);
    let run = shell(&format!(
        "ulimit -f 8; exec {PROGRAM} run --kernel {} --trace all={log} --cmdline exit=7 >/dev/null",
        image.display()
    ));
    assert_eq!(run.code, Some(7), "{run:?}");
}
