//! An array job of Slurm: a controller and two nodes on this host.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::common::need::{Need, ready};
use crate::common::patience::{grown, holds_within};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/slurm/guests.sbatch");
const SOON: Duration = Duration::from_secs(60);
const NODES: [&str; 2] = ["a", "b"];
const TASKS: usize = 20;

/// A cluster with its daemons. They end with it.
struct Cluster {
    folder: tempfile::TempDir,
    daemons: Vec<Child>,
}

impl Cluster {
    /// Starts the daemons, and waits until both nodes are idle. Returns `None` if the test is left out.
    fn start() -> Option<Self> {
        let needs = ["munged", "slurmctld", "slurmd", "sbatch"].map(Need::Tool);
        if !ready(&[&needs[..], &[Need::Kvm]].concat()) {
            return None;
        }
        let mut cluster = Self { folder: tempfile::tempdir().unwrap(), daemons: Vec::new() };
        // The daemons' directories are open to other users, except for the key.
        fs::set_permissions(cluster.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let key = cluster.path("key");
        fs::write(&key, [7; 128]).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
        fs::create_dir(cluster.path("state")).unwrap();
        fs::write(cluster.path("slurm.conf"), cluster.configuration()).unwrap();
        let file = |option: &str, name: &str| format!("--{option}={}", cluster.path(name).display());
        let munged = [file("key-file", "key"), file("socket", "munge.sock"), file("pid-file", "munged.pid")];
        let munged = [&munged[..], &[file("log-file", "munged.log"), file("seed-file", "seed")]].concat();
        cluster.daemon("munged", munged.iter().map(String::as_str).chain(["--foreground", "--force"]));
        assert!(holds_within(grown(SOON), || cluster.path("munge.sock").exists()), "{}", cluster.logs());
        cluster.daemon("slurmctld", ["-D"]);
        for node in NODES {
            cluster.daemon("slurmd", ["-D", "-N", node]);
        }
        let idle = || cluster.output("sinfo", &["--noheader", "-N", "-o", "%T"]) == "idle\nidle\n";
        assert!(holds_within(grown(SOON), idle), "{}", cluster.logs());
        Some(cluster)
    }

    fn configuration(&self) -> String {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let host = host.trim().split('.').next().unwrap();
        let folder = self.folder.path().display();
        // Slurm takes no sockets, only numbers.
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [controller, a, b] = listeners.map(|listener| listener.local_addr().unwrap().port());
        let node = |name, port| {
            format!("NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=4096\n")
        };
        format!(
            "ClusterName=test\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort={controller}\nSlurmUser=root\n\
             AuthType=auth/munge\nAuthInfo=socket={folder}/munge.sock\nCredType=cred/munge\n\
             StateSaveLocation={folder}/state\nSlurmdSpoolDir={folder}/spool.%n\n\
             SlurmctldPidFile={folder}/slurmctld.pid\nSlurmdPidFile={folder}/slurmd.%n.pid\n\
             SlurmctldLogFile={folder}/slurmctld.log\nSlurmdLogFile={folder}/slurmd.%n.log\n\
             ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSwitchType=switch/none\nMpiDefault=none\n\
             SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\nReturnToService=2\n\
             SlurmdParameters=config_overrides\n{}{}PartitionName=guests Nodes=a,b Default=YES State=UP\n",
            node("a", a),
            node("b", b)
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
        command.env("PATH", path).env("SLURM_CONF", self.path("slurm.conf")).current_dir(self.folder.path());
        command.stdin(Stdio::null());
        command
    }

    fn daemon<'a>(&mut self, program: &str, arguments: impl IntoIterator<Item = &'a str>) {
        let mut command = self.command(program);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        self.daemons.push(command.spawn().unwrap());
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.command(program).args(arguments).output().unwrap()
    }

    fn output(&self, program: &str, arguments: &[&str]) -> String {
        String::from_utf8_lossy(&self.run(program, arguments).stdout).into_owned()
    }

    fn logs(&self) -> String {
        let logs = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.map(|path| format!("{}:\n{}", path.display(), fs::read_to_string(&path).unwrap_or_default())).collect()
    }

    /// Submits the example for guests with this command line. Returns the number of the job.
    fn submit(&self, tasks: usize, cmdline: &str) -> String {
        let image = Path::new(env!("VIRIDIAN_GUEST_IMAGES")).join("exits");
        let mut command = self.command("sbatch");
        command.arg("--parsable").arg(format!("--array=0-{}", tasks - 1)).arg(EXAMPLE).arg(image).arg(cmdline);
        let job = command.env("VIRIDIAN", env!("CARGO_BIN_EXE_viridian")).output().unwrap();
        assert!(job.status.success(), "{}\n{}", String::from_utf8_lossy(&job.stderr), self.logs());
        String::from_utf8(job.stdout).unwrap().trim().to_owned()
    }

    /// Returns a field of each task of a job.
    fn field(&self, job: &str, name: &str) -> Vec<String> {
        let text = self.output("scontrol", &["--oneliner", "show", "job", job]);
        let value = |line: &str| {
            line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
        };
        text.lines().filter_map(value).collect()
    }

    /// Waits until all tasks of a job are in a state.
    #[track_caller]
    fn wait(&self, job: &str, tasks: usize, state: &str) {
        let is_so = || {
            let states = self.field(job, "JobState");
            states.len() == tasks && states.iter().all(|other| other == state)
        };
        assert!(holds_within(grown(SOON), is_so), "{:?}\n{}", self.field(job, "JobState"), self.logs());
    }

    fn console(&self, job: &str, task: usize) -> String {
        fs::read_to_string(self.path(&format!("guest-{job}_{task}.out"))).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            let id = i32::try_from(daemon.id()).ok().and_then(rustix::process::Pid::from_raw);
            let _ = id.map(|id| rustix::process::kill_process(id, rustix::process::Signal::TERM));
            let _ = daemon.wait();
        }
    }
}

#[test]
fn an_array_of_guests_uses_both_nodes_and_returns_the_exit_codes_of_the_guests() {
    let Some(cluster) = Cluster::start() else { return };
    let job = cluster.submit(TASKS, "exit=7");
    // A job whose exit code is not 0 has failed, for Slurm.
    cluster.wait(&job, TASKS, "FAILED");
    assert_eq!(cluster.field(&job, "ExitCode"), ["7:0"; TASKS], "{}", cluster.console(&job, 0));
    let nodes = cluster.field(&job, "NodeList");
    for node in NODES {
        assert!(nodes.iter().any(|other| other == node), "nothing runs on node {node}: {nodes:?}");
    }
    let job = cluster.submit(1, "poweroff");
    cluster.wait(&job, 1, "COMPLETED");
    assert_eq!(cluster.field(&job, "ExitCode"), ["0:0"], "{}", cluster.console(&job, 0));
}

#[test]
fn scancel_ends_guests_cleanly() {
    const GUESTS: usize = 4;
    let Some(cluster) = Cluster::start() else { return };
    let job = cluster.submit(GUESTS, "echo");
    cluster.wait(&job, GUESTS, "RUNNING");
    let has_begun = || (0..GUESTS).all(|task| cluster.console(&job, task).contains("echoing"));
    assert!(holds_within(grown(SOON), has_begun), "{}", cluster.console(&job, 0));
    assert!(cluster.run("scancel", &[&job]).status.success());
    cluster.wait(&job, GUESTS, "CANCELLED");
    let is_told = |task: usize| cluster.console(&job, task).contains("ended by a signal to terminate");
    assert!(holds_within(grown(SOON), || (0..GUESTS).all(is_told)), "{}", cluster.console(&job, 0));
    // The exit code of a process that was asked to end by TERM.
    assert_eq!(cluster.field(&job, "ExitCode"), ["143:0"; GUESTS]);
}
