//! A machine with an image on a file system that does not answer.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::command::{image, limit, viridian};
use super::control::Host;
use crate::common::need::{Need, ready};
use crate::common::patience::{grown, holds_within};

#[test]
fn a_disk_whose_host_does_not_respond_delays_nobody() {
    if !ready(&[Need::Namespaces]) {
        return;
    }
    let host = Host::new();
    let folder = host.directory.path().join("stalled");
    std::fs::create_dir(&folder).unwrap();
    // A file system whose server, which is the machine itself, never answers.
    let mount = format!(
        "mount --make-rprivate / && exec 3<>/dev/fuse && \
         mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 stalled {}",
        folder.display()
    );
    let (kernel, time) = (image("exits"), limit(120));
    let run = format!(
        "{} run --name web --console none --timeout {time} --cmdline halt --kernel {}",
        viridian().get_program().display(),
        kernel.display()
    );
    let mut machine = Command::new("unshare");
    machine.args(["--mount", "sh", "-c", &format!("{mount} && exec {run}")]);
    let mut machine = machine.env("VIRIDIAN_RUNTIME_DIR", host.path()).stderr(Stdio::null()).spawn().unwrap();
    host.until("web", |tree| tree["state"] == "running");
    let image = format!("{}/a.img,lun=3", folder.display());
    let mut stalled = host.command(&["disk", "web", "attach", &image]);
    let mut stalled = stalled.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let opens = || {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", machine.id())).into_iter().flatten().flatten();
        let mut states = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
        // Uninterruptible, but a signal that kills ends the wait.
        states.any(|state| state.rsplit(") ").next().is_some_and(|state| state.starts_with("D ")))
    };
    assert!(holds_within(grown(Duration::from_secs(20)), opens), "no thread waits for the file system");

    assert_eq!(host.json(&["disk", "web", "list"]), json!({}));
    assert_eq!(host.json(&["inspect", "web"])["state"], "running");
    // The place is free until the image is open.
    assert_eq!(host.json(&["disk", "web", "attach", "memory:1M,lun=3"])["device"], "disk0.3");
    let taken = host.run(&["disk", "web", "attach", &image]);
    assert!(taken.code == Some(1) && taken.errors.contains("lun=3 is taken"), "{taken:?}");
    assert_eq!(host.run(&["disk", "web", "resize", "disk0.3", "2M"]).code, Some(0));
    assert_eq!(host.run(&["disk", "web", "detach", "disk0.3"]).code, Some(0));
    assert!(stalled.try_wait().unwrap().is_none(), "it still waits");
    assert_eq!(host.run(&["kill", "web"]).code, Some(0));
    assert_eq!(machine.wait().unwrap().code(), Some(143));
    assert_ne!(stalled.wait().unwrap().code(), Some(0));
}
