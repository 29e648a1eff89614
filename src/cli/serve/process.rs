//! The processes of machines: how they are started, found again, and what is known of their ends.
//!
//! Each machine is a `viridian run` with a settings file of the service in the runtime directory. The path of this file on its command
//! line is how the next service finds the process; nothing else needs to be written when a machine starts.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};
use viridian::config::{Config, ConsoleConfig};

use super::definition::{Definition, split};
use super::inherited;
use super::lab;

/// Maximum length of what is read from the end of a report or of messages.
const TAIL: u64 = 16 << 10;
/// The same for the report of a lab, which has some lines of each machine.
const LAB_TAIL: u64 = 1 << 20;
/// Time for a process that was killed to end.
const DISCARD: Duration = Duration::from_secs(10);
/// Length of messages after which they are forgotten. A guest may cause some, and not more than this.
const MOST_MESSAGES: u64 = 1 << 20;

/// The kind of the settings file of a machine that a user has asked to end.
const STOPPING: &str = "stopping";

/// The directories of the files of running machines. Like machines, they do not survive a restart of the host.
#[derive(Clone, Debug)]
pub struct Places {
    /// The directory of the control sockets.
    pub sockets: PathBuf,
    /// The directory of the files of the service.
    pub files: PathBuf,
}

impl Places {
    /// Returns the control socket of a machine.
    pub fn socket(&self, name: &str) -> PathBuf {
        self.sockets.join(format!("{name}.sock"))
    }

    fn file(&self, name: &str, kind: &str) -> PathBuf {
        self.files.join(format!("{name}.{kind}"))
    }

    /// Returns the machines that were started and whose end no service has seen.
    pub fn started(&self) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<fs::DirEntry>| {
            let name = entry.ok()?.file_name();
            Some(name.to_str()?.strip_suffix(".toml")?.to_owned())
        };
        Ok(fs::read_dir(&self.files)?.filter_map(name).collect())
    }

    /// Forgets that a machine was started: its end is known.
    pub fn forget(&self, name: &str) {
        for kind in ["toml", STOPPING] {
            let _ = fs::remove_file(self.file(name, kind));
        }
    }

    /// Notes that a user wants a machine to end, or that it goes on nevertheless. If it ends while there is no service, the next one
    /// decides by that whether it starts again.
    pub fn set_stopping(&self, name: &str, is_stopping: bool) {
        let (runs, stops) = (self.file(name, "toml"), self.file(name, STOPPING));
        let _ = if is_stopping { fs::rename(runs, stops) } else { fs::rename(stops, runs) };
    }

    /// Returns the settings with which a machine was started.
    pub fn settings(&self, name: &str) -> Option<Config> {
        ["toml", STOPPING].into_iter().find_map(|kind| Config::load(&self.file(name, kind)).ok())
    }

    /// Returns the settings of the machines of a lab with which it was started, or `None` if it is no lab.
    pub fn settings_of_lab(&self, name: &str) -> Option<Vec<Config>> {
        ["toml", STOPPING].into_iter().find_map(|kind| lab::running(&self.file(name, kind)))
    }

    /// Removes all files of a machine.
    pub fn remove(&self, name: &str) {
        for kind in ["toml", STOPPING, "report", "messages", "console"] {
            let _ = fs::remove_file(self.file(name, kind));
        }
    }

    /// Returns `true` if a machine was started since the start of the host.
    pub fn was_started(&self, name: &str) -> bool {
        self.file(name, "messages").exists()
    }

    /// Forgets the messages of a machine if there are too many.
    pub fn limit_messages(&self, name: &str) {
        let path = self.file(name, "messages");
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > MOST_MESSAGES) {
            let _ = OpenOptions::new().write(true).truncate(true).open(path);
        }
    }

    /// Returns the last messages of a machine.
    pub fn messages(&self, name: &str) -> String {
        tail(&self.file(name, "messages"), TAIL).unwrap_or_default()
    }

    /// Returns the file that has the last output of a machine's console after its end, if nothing else has it.
    pub fn last_console(&self, name: &str) -> PathBuf {
        self.file(name, "console")
    }

    /// Returns how a machine has ended, as its process has reported.
    pub fn end(&self, name: &str) -> Value {
        let report = tail(&self.file(name, "report"), TAIL).unwrap_or_default();
        let lines = report.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ended = lines.into_iter().find(|line| line["event"] == "ended").map(|line| line["end"].clone());
        ended.unwrap_or_else(|| self.lost(name))
    }

    /// Returns how the process of a lab has ended, and how its machines have, as it has reported. A machine that runs is not among them.
    pub fn lab_end(&self, name: &str) -> (Value, BTreeMap<String, Value>) {
        let report = tail(&self.file(name, "report"), LAB_TAIL).unwrap_or_default();
        let (mut ends, mut worst, mut is_done) = (BTreeMap::new(), Value::Null, false);
        for line in report.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            is_done |= line["event"] == "done";
            let Some(member) = line["partition"].as_str().filter(|_| line["event"] == "ended") else { continue };
            let mut end = line["end"].clone();
            ends.insert(member.to_owned(), end.clone());
            // That of the lab is that of the first machine that has failed, or of the last one.
            if worst.is_null() || worst["exit-code"] == 0 {
                end["message"] = json!(format!("{member}: {}", end["message"].as_str().unwrap_or("it has ended")));
                worst = end;
            }
        }
        (if is_done && !worst.is_null() { worst } else { self.lost(name) }, ends)
    }

    /// Returns the end of a process that has not reported it.
    fn lost(&self, name: &str) -> Value {
        // A process that refuses its settings says why. One that was killed says nothing.
        let messages = self.messages(name);
        let message = match messages.lines().last() {
            Some(last) => format!("its process has ended without a report; its last message was: {last}"),
            None => "its process was killed, or has failed".into(),
        };
        json!({ "kind": "lost", "exit-code": null, "message": message })
    }

    /// Starts the process of a machine.
    ///
    /// # Errors
    /// Returns an error if that is not possible on this host.
    pub fn start(&self, program: &Path, name: &str, definition: &Definition) -> io::Result<Process> {
        let settings = self.settings_file(name, definition)?;
        self.remove(name);
        for (member, _) in definition.members(name).into_iter().flatten() {
            self.remove(&member);
        }
        // The process goes on at the start of the file after the messages were forgotten.
        let messages = OpenOptions::new().append(true).create(true).mode(0o600).open(self.file(name, "messages"))?;
        let file = self.file(name, "toml");
        fs::write(&file, settings)?;
        let mut command = Command::new(program);
        if definition.lab.is_some() {
            command.arg("up").arg(&file).arg("--control").arg(&self.sockets);
        } else {
            command.arg("run").arg("--config").arg(&file).args(["--name", name]);
            command.arg("--control").arg(self.socket(name));
            if definition.config.console == ConsoleConfig::Stdio {
                command.args(["--console", "none"]);
            }
            if definition.last_console().is_none() {
                command.arg("--console-at-end").arg(self.last_console(name));
            }
        }
        command.arg("--report").arg(self.file(name, "report"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages);
        // A Ctrl-C for the service is not for its machines, and neither is its connection to systemd.
        command.process_group(0).current_dir("/").env_remove("NOTIFY_SOCKET");
        for name in inherited::VARIABLES {
            command.env_remove(name);
        }
        let started = command.spawn().and_then(|child| match Process::open(child.id()) {
            Ok(process) => Ok(Process { child: Some(child), ..process }),
            Err(error) => {
                let mut child = child;
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        });
        started.inspect_err(|_| self.forget(name))
    }

    /// Returns the settings file of a process.
    fn settings_file(&self, name: &str, definition: &Definition) -> io::Result<String> {
        let Some(lab) = &definition.lab else { return definition.config.to_toml().map_err(io::Error::other) };
        let (settings, _) = split(&definition.text).map_err(|problem| io::Error::other(problem.to_string()))?;
        lab::settings_file(name, &settings, lab, |name| self.last_console(name)).map_err(io::Error::other)
    }

    /// Finds the processes of machines that another service has started.
    pub fn find(&self) -> io::Result<Vec<(String, Process)>> {
        let user = rustix::process::geteuid().as_raw();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            if entry.metadata().is_ok_and(|metadata| metadata.uid() == user)
                && self.name_of(id).is_some()
                && let Ok(process) = Process::open(id)
                // The number may have come to another process meanwhile.
                && let Some(name) = self.name_of(id)
            {
                found.push((name, process));
            }
        }
        Ok(found)
    }

    /// Returns the name of the machine whose process this is.
    fn name_of(&self, id: u32) -> Option<String> {
        name_in(&fs::read(format!("/proc/{id}/cmdline")).ok()?, &self.files)
    }
}

/// Returns the name of the machine whose process has this command line.
fn name_in(line: &[u8], files: &Path) -> Option<String> {
    let mut arguments = line.split(|byte| *byte == 0).skip(1);
    match arguments.next()? {
        b"run" if arguments.next()? == b"--config" => {}
        b"up" => {}
        _ => return None,
    }
    let path = Path::new(OsStr::from_bytes(arguments.next()?));
    let name = path.strip_prefix(files).ok()?.to_str()?;
    Some(name.strip_suffix(".toml")?.to_owned())
}

/// The process of a machine.
pub struct Process {
    /// Its number.
    pub id: u32,
    handle: OwnedFd,
    /// It is a child of this process.
    child: Option<Child>,
}

impl Process {
    fn open(id: u32) -> io::Result<Self> {
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { id, handle: pidfd_open(pid, PidfdFlags::empty())?, child: None })
    }

    /// Returns a handle by which others can kill it.
    pub fn handle(&self) -> io::Result<OwnedFd> {
        self.handle.try_clone()
    }

    /// Returns the same process, for another thread that waits for its end.
    pub fn share(&self) -> io::Result<Self> {
        Ok(Self { id: self.id, handle: self.handle()?, child: None })
    }

    /// Ends a process that has just been started and cannot be used.
    pub fn discard(&mut self) {
        kill(&self.handle);
        self.wait(DISCARD);
    }

    /// Waits for its end. Returns `false` if the time is over before.
    pub fn wait(&mut self, limit: Duration) -> bool {
        let mut fds = [PollFd::new(&self.handle, PollFlags::IN)];
        let limit = Timespec::try_from(limit).ok();
        let ended = poll(&mut fds, limit.as_ref()).is_ok() && !fds[0].revents().is_empty();
        if ended && let Some(child) = &mut self.child {
            let _ = child.wait();
        }
        ended
    }
}

/// Kills a process, which may have ended already.
pub fn kill(handle: &OwnedFd) {
    let _ = pidfd_send_signal(handle, Signal::KILL);
}

/// Asks a process to end, which flushes the disks of its machines.
pub fn terminate(handle: &OwnedFd) {
    let _ = pidfd_send_signal(handle, Signal::TERM);
}

/// CPU time and memory of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Processor time, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
}

/// Returns what a process has used of the host, or `None` if it has ended.
pub fn usage(id: u32) -> Option<Usage> {
    usage_in(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

fn usage_in(stat: &str) -> Option<Usage> {
    // These are constants of x86-64 Linux for user space.
    const TICKS_PER_SECOND: f64 = 100.0;
    const PAGE: u64 = 4096;
    // The name of the program is in parentheses, and may contain any character.
    let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Usage {
        cpu_seconds: (number(11)? + number(12)?) as f64 / TICKS_PER_SECOND,
        resident_bytes: number(21)?.saturating_mul(PAGE),
    })
}

/// Returns the end of a file, from the start of a line.
pub fn tail(path: &Path, limit: u64) -> io::Result<String> {
    // A FIFO would wait for somebody who writes.
    let mut file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    let start = if length > limit { bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1) } else { 0 };
    Ok(String::from_utf8_lossy(&bytes[start..]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(folder: &tempfile::TempDir) -> Places {
        Places { sockets: folder.path().to_owned(), files: folder.path().to_owned() }
    }

    #[test]
    fn the_end_of_a_machine_is_in_its_report_or_in_its_messages() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(&folder);
        assert_eq!(places.end("web")["kind"], "lost");
        fs::write(folder.path().join("web.messages"), "a\nviridian: no such kernel\n").unwrap();
        let message = places.end("web")["message"].clone();
        assert!(message.as_str().unwrap().ends_with("was: viridian: no such kernel"), "{message}");
        let report = r#"{"event":"started"}
{"event":"ended","end":{"kind":"exited","exit-code":3,"message":"it wrote 3"}}
{"event":"done","code":3}
"#;
        fs::write(folder.path().join("web.report"), report).unwrap();
        assert_eq!(places.end("web")["exit-code"], 3);
    }

    #[test]
    fn a_lab_ends_as_its_first_machine_that_has_failed() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(&folder);
        let ended = |name: &str, code: i32| json!({ "event": "ended", "partition": name, "end": { "kind": "exited", "exit-code": code, "message": "it wrote" } });
        let end = |lines: &[Value]| {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            fs::write(folder.path().join("shop.report"), text).unwrap();
            let (end, ends) = places.lab_end("shop");
            (
                end["kind"].clone(),
                end["exit-code"].clone(),
                end["message"].clone(),
                ends.into_keys().collect::<Vec<_>>(),
            )
        };
        let started = json!({ "event": "started", "partition": "shop.a" });
        let done = json!({ "event": "done", "code": 3 });
        let (kind, _, _, ends) = end(&[started.clone(), ended("shop.a", 0)]);
        assert_eq!((kind, ends), (json!("lost"), vec!["shop.a".to_owned()]), "the others run");
        let all = [started, ended("shop.a", 0), ended("shop.b", 3), ended("shop.c", 4), done.clone()];
        let (_, code, message, ends) = end(&all);
        assert_eq!((code, message, ends.len()), (json!(3), json!("shop.b: it wrote"), 3));
        let (_, code, message, _) = end(&[ended("shop.a", 0), ended("shop.b", 0), done]);
        assert_eq!((code, message), (json!(0), json!("shop.b: it wrote")));
    }

    #[test]
    fn the_usage_of_a_process_is_read_whatever_its_name_is() {
        let stat =
            "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 8 9 20 0 1 0 99 123456 25 18446744073709551615 1 1\n";
        assert_eq!(usage_in(stat), Some(Usage { cpu_seconds: 2.0, resident_bytes: 25 * 4096 }));
        assert_eq!(usage_in("7 (a) S 1"), None);
        assert!(usage(std::process::id()).unwrap().resident_bytes > 0);
    }

    #[test]
    fn messages_are_bounded_and_go_with_the_machine() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(&folder);
        assert!(!places.was_started("web"));
        let path = folder.path().join("web.messages");
        fs::write(&path, vec![b'x'; MOST_MESSAGES as usize]).unwrap();
        places.limit_messages("web");
        assert_eq!(fs::metadata(&path).unwrap().len(), MOST_MESSAGES);
        fs::write(&path, vec![b'x'; MOST_MESSAGES as usize + 1]).unwrap();
        places.limit_messages("web");
        assert_eq!(places.messages("web"), "");
        assert!(places.was_started("web"));
        places.remove("web");
        assert!(!places.was_started("web"));
    }

    #[test]
    fn a_machine_that_is_to_end_is_not_one_that_was_started_until_it_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(&folder);
        assert!(places.settings("web").is_none());
        fs::write(folder.path().join("web.toml"), "memory = \"96M\"\n").unwrap();
        for (is_stopping, started) in [(true, &[][..]), (true, &[]), (false, &["web"]), (false, &["web"])] {
            places.set_stopping("web", is_stopping);
            assert_eq!(places.started().unwrap(), started);
            assert_eq!(places.settings("web").unwrap().memory.size.0, 96 << 20);
        }
        places.set_stopping("web", true);
        places.forget("web");
        places.set_stopping("web", false);
        assert!(places.started().unwrap().is_empty() && places.settings("web").is_none());
    }

    #[test]
    fn a_process_is_found_by_its_command_line_alone() {
        let folder = tempfile::tempdir().unwrap();
        let places = places(&folder);
        let start = |arguments: &[&str], path: &Path| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", "read x"]).args(arguments).arg(path).stdin(Stdio::piped()).spawn().unwrap()
        };
        // In both, the file is no settings file of a machine.
        for arguments in [&["run", "--config"][..], &["run", "--report"]] {
            let mut other = start(arguments, &folder.path().join("web.toml"));
            assert!(places.find().unwrap().is_empty());
            other.kill().unwrap();
            other.wait().unwrap();
        }
        assert_eq!(
            name_in(b"viridian\0run\0--config\0/files/web.toml\0--name\0x\0", "/files".as_ref()),
            Some("web".into())
        );
        let lab = b"viridian\0up\0/files/shop.toml\0--control\0/x\0";
        assert_eq!(name_in(lab, "/files".as_ref()), Some("shop".into()));
        for other in
            [&b"viridian\0run\0--config\0/files/web\0"[..], b"viridian\0run\0--config\0/file/web.toml", b"", b"\0\0"]
        {
            assert_eq!(name_in(other, "/files".as_ref()), None);
        }
    }

    #[test]
    fn the_tail_of_a_file_begins_with_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "first\nsecond\nthird\n").unwrap();
        assert_eq!(tail(&path, 100).unwrap(), "first\nsecond\nthird\n");
        assert_eq!(tail(&path, 10).unwrap(), "third\n");
        assert!(tail(&folder.path().join("none"), 10).is_err());
    }

    #[test]
    fn a_process_that_is_killed_is_waited_for() {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let mut process = Process::open(child.id()).unwrap();
        process.child = Some(child);
        assert!(!process.wait(Duration::from_millis(1)));
        kill(&process.handle().unwrap());
        assert!(process.wait(Duration::from_secs(600)));
    }
}
