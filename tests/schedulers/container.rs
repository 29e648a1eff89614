//! Units of systemd and a plain container, by systemd-nspawn: a copy-on-write view of this host with the programs of the test.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::common::need::{Need, ready};

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
/// Where the containers have the program and the guest image.
const PROGRAM: &str = "/usr/local/bin/viridian";
const IMAGE: &str = "/usr/local/share/exits";

/// Mounts the view of the host in the directory $1, and starts a container with it. The mounts end with the process.
const START: &str = r#"
    mount -t tmpfs tmpfs "$1" && mkdir "$1/upper" "$1/work" "$1/root" || exit 1
    mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root" || exit 1
    root=$1/root && shift
    exec systemd-nspawn --quiet --register=no --keep-unit --private-network --link-journal=no --directory "$root" "$@"
"#;

/// What a container is given besides the host's files.
struct Container {
    options: Vec<String>,
}

impl Container {
    /// Returns a container with the program, a guest image and KVM, or `None` if the test is left out.
    fn new() -> Option<Self> {
        let needs = [Need::Tool("systemd-nspawn"), Need::Tool("unshare"), Need::Namespaces, Need::Kvm];
        if !ready(&needs) {
            return None;
        }
        let image = format!("{}/exits", env!("VIRIDIAN_GUEST_IMAGES"));
        let mut container = Self { options: vec!["--bind=/dev/kvm".into()] };
        container.show(env!("CARGO_BIN_EXE_viridian").as_ref(), PROGRAM);
        container.show(image.as_ref(), IMAGE);
        Some(container)
    }

    fn show(&mut self, file: &Path, place: &str) {
        self.options.push(format!("--bind-ro={}:{place}", file.display()));
    }

    /// Runs it to its end with these further arguments of systemd-nspawn.
    fn run(&self, arguments: &[&str]) -> Output {
        // Two at a time can disturb each other's setup of network and devices.
        static ALONE: Mutex<()> = Mutex::new(());
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation=private", "sh", "-c", START, "sh"]).arg(folder.path());
        command.args(&self.options).args(arguments).stdin(Stdio::null());
        command.output().unwrap()
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs as the last unit of a system whose other units are those of the examples.
const CHECK: &str = r#"
    set -eu
    machine() { printf 'kernel = "/usr/local/share/exits"\ncmdline = "%s"\nmemory = "64M"\n' "$1"; }
    process() { pgrep -f "run --config .*$1.toml"; }

    systemctl start viridian
    mkdir -p /etc/viridian && machine halt >/etc/viridian/web.toml && machine button >/etc/viridian/button.toml
    viridian define web /etc/viridian/web.toml
    viridian start web
    before=$(process web)
    main=$(systemctl show -P MainPID viridian)
    systemctl kill --kill-whom=main --signal=KILL viridian
    until [ "$(systemctl show -P MainPID viridian)" != "$main" ] && systemctl -q is-active viridian; do sleep 0.1; done
    until viridian list | grep -q 'web .*running'; do sleep 0.1; done
    [ "$(process web)" = "$before" ] && echo 'adopted after a kill'
    systemctl stop viridian
    [ "$(process web)" = "$before" ] && echo 'goes on without the service'
    systemctl start viridian
    viridian kill web
    ! process web && echo 'ended by the next service'

    systemctl start viridian-host-stop
    machine button >/etc/viridian/shop.toml
    viridian define shop /etc/viridian/shop.toml && viridian start shop
    systemctl stop viridian-host-stop
    viridian list --json | grep -q shop || echo 'stopped for the host'

    systemctl stop viridian
    systemctl start viridian.socket
    ! systemctl -q is-active viridian && viridian metrics | grep -q '^viridian_connections' && echo 'started by its socket'
    systemctl reload viridian && systemctl -q is-active viridian && echo 'goes on after a reload'

    systemctl start viridian-guest@button
    until viridian list | grep -q 'button .*running'; do sleep 0.1; done
    systemctl stop viridian-guest@button
    systemctl show -P Result -P ExecMainStatus viridian-guest@button
    systemctl start viridian-guest@web
    until viridian list | grep -q 'web .*running'; do sleep 0.1; done
    systemctl kill viridian-guest@web
    while systemctl -q is-active viridian-guest@web; do sleep 0.1; done
    systemctl show -P Result -P ExecMainStatus viridian-guest@web
"#;

/// `After` makes systemd remember how the units have ended.
const CHECK_UNIT: &str = "[Unit]\nRequires=dbus.socket\nAfter=basic.target dbus.socket\nDefaultDependencies=no\n\
                          After=viridian-guest@button.service viridian-guest@web.service\n\
                          SuccessAction=exit-force\nFailureAction=exit-force\n[Service]\nType=oneshot\n\
                          ExecStart=/bin/sh /usr/local/share/check\nStandardOutput=file:/out/log\nStandardError=inherit\n";

#[test]
fn the_units_of_the_examples_keep_machines_over_a_kill_of_the_service_and_end_them_cleanly() {
    let Some(mut container) = Container::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    const UNITS: &str = "/etc/systemd/system";
    container.show(&file("check", CHECK), "/usr/local/share/check");
    container.show(&file("check.service", CHECK_UNIT), &format!("{UNITS}/check.service"));
    for unit in ["viridian.service", "viridian.socket", "viridian-host-stop.service", "viridian-guest@.service"] {
        let example = format!("{PROJECT}/examples/systemd/{unit}");
        container.show(example.as_ref(), &format!("{UNITS}/{unit}"));
    }
    std::fs::create_dir(folder.path().join("out")).unwrap();
    container.options.push(format!("--bind={}:/out", folder.path().join("out").display()));
    let output = container.run(&["--boot", "systemd.unit=check.service"]);
    let log = std::fs::read_to_string(folder.path().join("out/log")).unwrap_or_default();
    for line in [
        "adopted after a kill",
        "goes on without the service",
        "ended by the next service",
        "stopped for the host",
        "started by its socket",
        "goes on after a reload",
    ] {
        assert!(log.contains(line), "{line}: {log}\n{}", text(&output));
    }
    // The result and the exit code of a machine that shut down, and of one that was ended.
    assert!(log.ends_with("success\n0\nsuccess\n143\n"), "{log}\n{}", text(&output));
}

#[test]
fn a_container_without_tun_and_terminal_runs_guests_and_says_what_a_tap_lacks() {
    let Some(container) = Container::new() else { return };
    let run = |network: &str| {
        let script = format!(
            "rm -f /dev/net/tun; exec {PROGRAM} run --memory 64M --kernel {IMAGE} --cmdline exit=7 --net {network}"
        );
        container.run(&["--pipe", "--as-pid2", "sh", "-c", &script])
    };
    let user = run("user");
    assert_eq!(user.status.code(), Some(7), "{}", text(&user));
    let tap = run("tap=vm0");
    assert_eq!(tap.status.code(), Some(125), "{}", text(&tap));
    assert!(text(&tap).contains("/dev/net/tun"), "{}", text(&tap));
}
