//! Files on a file system that does not answer, and a kernel that is fetched from a server that does not.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::command::{Killed, image, limit, viridian};
use super::control::Host;
use crate::common::need::{Need, ready};
use crate::common::patience::{grown, holds_within};

/// A file system whose server never answers. It is gone with the program that mounts it.
struct Stalled {
    folder: PathBuf,
}

impl Stalled {
    /// Creates the directory for it in `directory`.
    fn new(directory: &Path) -> Self {
        let folder = directory.join("stalled");
        std::fs::create_dir(&folder).unwrap();
        Self { folder }
    }

    /// Returns the path of a disk on it, which cannot be opened.
    fn disk(&self) -> String {
        format!("{}/a.img", self.folder.display())
    }

    /// Returns the command that mounts it for itself alone, and becomes `viridian` with these arguments.
    fn command(&self, arguments: &str) -> Command {
        let (folder, program) = (self.folder.display(), viridian().get_program().display().to_string());
        // Its server is the program itself.
        let script = format!(
            "mount --make-rprivate / && exec 3<>/dev/fuse && \
             mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 stalled {folder} && exec {program} {arguments}"
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]).stdin(Stdio::null()).env_remove("RUST_LOG");
        command
    }
}

/// Waits until a thread of the process whose name begins like this waits for a file system.
#[track_caller]
fn expect_opens(process: &Child, name: &str) {
    let opens = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", process.id())).into_iter().flatten().flatten();
        let mut states = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
        // Uninterruptible, but a signal that kills ends the wait.
        states.any(|state| {
            let (start, state) = state.rsplit_once(") ").unwrap_or_default();
            state.starts_with("D ") && start.split_once('(').is_some_and(|(_, thread)| thread.starts_with(name))
        })
    };
    assert!(holds_within(grown(Duration::from_secs(20)), opens), "no thread waits for the file system");
}

#[test]
fn a_disk_whose_host_does_not_respond_delays_nobody() {
    if !ready(&[Need::Namespaces]) {
        return;
    }
    let host = Host::new();
    let file_system = Stalled::new(host.directory.path());
    let (kernel, time) = (image("exits"), limit(120));
    let run = format!("run --name web --console none --timeout {time} --cmdline halt --kernel {}", kernel.display());
    let mut machine = file_system.command(&run);
    let mut machine = Killed(machine.env("VIRIDIAN_RUNTIME_DIR", host.path()).stderr(Stdio::null()).spawn().unwrap());
    host.until("web", |tree| tree["state"] == "running");
    let image = format!("{},lun=3", file_system.disk());
    let mut stalled = host.command(&["disk", "web", "attach", &image]);
    let mut stalled = Killed(stalled.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    expect_opens(&machine.0, "");

    assert_eq!(host.json(&["disk", "web", "list"]), json!({}));
    assert_eq!(host.json(&["inspect", "web"])["state"], "running");
    // The place is free until the image is open.
    assert_eq!(host.json(&["disk", "web", "attach", "memory:1M,lun=3"])["device"], "disk0.3");
    let taken = host.run(&["disk", "web", "attach", &image]);
    assert!(taken.code == Some(1) && taken.errors.contains("lun=3 is taken"), "{taken:?}");
    assert_eq!(host.run(&["disk", "web", "resize", "disk0.3", "2M"]).code, Some(0));
    assert_eq!(host.run(&["disk", "web", "detach", "disk0.3"]).code, Some(0));
    assert!(stalled.0.try_wait().unwrap().is_none(), "it still waits");
    assert_eq!(host.run(&["kill", "web"]).code, Some(0));
    assert_eq!(machine.0.wait().unwrap().code(), Some(143));
    assert_ne!(stalled.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_signal_ends_a_program_whose_disk_cannot_be_opened() {
    if !ready(&[Need::Namespaces]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file_system = Stalled::new(folder.path());
    let (lab, report) = (folder.path().join("lab.toml"), folder.path().join("report"));
    let (disk, kernel) = (file_system.disk(), image("exits"));
    let settings = format!("kernel = '{}'\ndisk = '{disk}'\nconsole = 'none'", kernel.display());
    std::fs::write(&lab, format!("[[partition]]\nname = 'one'\n{settings}\n[[partition]]\nname = 'two'\n{settings}"))
        .unwrap();
    let run = format!("run --report {} --console none --kernel {} --disk {disk}", report.display(), kernel.display());
    let up = format!("up --report {} {}", report.display(), lab.display());
    let linux = format!("linux --kernel {disk} -- true");
    for (arguments, ends) in [(run, Some(1)), (up, Some(2)), (linux, None)] {
        for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
            let mut program = Killed(file_system.command(&arguments).stderr(Stdio::piped()).spawn().unwrap());
            expect_opens(&program.0, "prepare");
            kill_process(Pid::from_child(&program.0), signal).unwrap();
            let ended = holds_within(grown(Duration::from_secs(1)), || program.0.try_wait().unwrap().is_some());
            assert!(ended, "{arguments}: still there after {signal:?}");
            let status = program.0.wait().unwrap();
            let said = std::io::read_to_string(program.0.stderr.take().unwrap()).unwrap();
            assert!(status.code() == Some(code) && said.contains("ended by"), "{arguments}: {status}: {said}");
            if let Some(ends) = ends {
                let lines = std::fs::read_to_string(&report).unwrap();
                assert_eq!(lines.matches("\"ended\"").count(), ends, "{lines}");
                assert!(lines.ends_with(&format!("\"code\":{code}}}\n")), "{lines}");
            }
        }
    }
}

#[test]
fn a_signal_ends_the_fetching_of_a_kernel_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (programs, cache, pid) = (folder.path().join("bin"), folder.path().join("cache"), folder.path().join("pid"));
    std::fs::create_dir(&programs).unwrap();
    let program = |name: &str, script: &str| {
        std::fs::write(programs.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(programs.join(name), std::fs::Permissions::from_mode(0o700)).unwrap();
    };
    program("apt-cache", "echo '  Depends: linux-image-6-cloud-amd64'");
    program("apt-get", &format!("echo $$ >{0}.new; mv {0}.new {0}; exec sleep 1000", pid.display()));
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut command = viridian();
    command.args(["linux", "--", "true"]).env("PATH", path).env("XDG_CACHE_HOME", &cache).stderr(Stdio::piped());
    let mut fetching = command.spawn().unwrap();
    assert!(holds_within(grown(Duration::from_secs(20)), || pid.exists()), "apt-get is not started");
    kill_process(Pid::from_child(&fetching), Signal::TERM).unwrap();
    let ended = holds_within(grown(Duration::from_secs(1)), || fetching.try_wait().unwrap().is_some());
    if !ended {
        fetching.kill().unwrap();
    }
    let output = fetching.wait_with_output().unwrap();
    assert!(ended && output.status.code() == Some(143), "{output:?}");
    let process = std::fs::read_to_string(pid).unwrap();
    assert!(!Path::new(&format!("/proc/{}", process.trim())).exists(), "apt-get goes on");
    let left: Vec<_> = std::fs::read_dir(cache.join("viridian")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
