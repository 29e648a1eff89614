//! A `viridian serve` for one test, and its clients.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::command::{Run, image, limit, viridian};
use crate::common::patience::{grown, holds_within};

/// Time limit for a step that normally takes a moment.
pub const SOON: Duration = Duration::from_secs(60);

/// The directories of a service, and the service while it runs.
pub struct Host {
    pub folder: tempfile::TempDir,
    service: Option<Child>,
    options: Vec<String>,
    said: Arc<Mutex<Vec<String>>>,
    variable: Option<(&'static str, PathBuf)>,
}

/// The reply to a request.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Reads a reply from a connection.
    pub fn read(mut stream: impl Read) -> Option<Self> {
        let mut bytes = Vec::new();
        // A server that refuses a request may close the connection before it has read all of it.
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, head: head.to_owned(), body: body.to_owned() })
    }
}

impl Host {
    /// Starts a service.
    pub fn serve() -> Self {
        Self::serve_with(&[])
    }

    pub fn serve_with(options: &[&str]) -> Self {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let mut host = Self::with(options);
        host.start();
        host
    }

    pub fn serve_with_variable(name: &'static str, value: &Path) -> Self {
        let mut host = Self::with(Vec::new());
        host.variable = Some((name, value.to_owned()));
        host.start();
        host
    }

    fn with(options: Vec<String>) -> Self {
        let said = Arc::default();
        Self { folder: tempfile::tempdir().unwrap(), service: None, options, said, variable: None }
    }

    /// Returns a service that is not started yet.
    pub fn new() -> Self {
        Self::with(Vec::new())
    }

    /// Starts the service with two sockets, as systemd does, and waits until it serves.
    pub fn start_on(&mut self, sockets: [OwnedFd; 2]) {
        let command = self.given(sockets);
        self.launch(command);
    }

    /// Runs a service with two sockets that refuses them.
    pub fn run_on(&mut self, sockets: [OwnedFd; 2]) -> Run {
        self.given(sockets).output().unwrap().into()
    }

    fn given(&self, [one, other]: [OwnedFd; 2]) -> Command {
        let mut command = Command::new("sh");
        let script = "export LISTEN_PID=$$ LISTEN_FDS=2; exec \"$@\" 3<&0 4<&1 </dev/null >/dev/null";
        command.env("VIRIDIAN_RUNTIME_DIR", self.sockets()).args(["-c", script, "sh"]);
        command.arg(viridian().get_program()).args(["serve", "--state"]).arg(self.state());
        command.stdin(one).stdout(other).stderr(Stdio::piped());
        command
    }

    /// Starts the service, and waits until it serves.
    pub fn start(&mut self) {
        let mut command = self.command(&["serve", "--state"]);
        // `unix:` alone is the default one, beside others.
        let own = format!("unix:{}", self.socket().display());
        let options = self.options.iter().map(|option| if option == "unix:" { &own } else { option });
        command.arg(self.state()).args(options).stderr(Stdio::piped());
        command.envs(self.variable.clone());
        self.launch(command);
    }

    fn launch(&mut self, mut command: Command) {
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = Arc::default();
        self.said = Arc::clone(&said);
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| said.lock().unwrap().push(line)));
        self.service = Some(child);
        self.said("serving at");
    }

    /// Waits until the service has printed a line with these words, and returns what follows them.
    #[track_caller]
    pub fn said(&self, words: &str) -> String {
        let found = || {
            let said = self.said.lock().unwrap();
            said.iter().find_map(|line| line.split_once(words)).map(|(_, rest)| rest.trim().to_owned())
        };
        assert!(holds_within(grown(SOON), || found().is_some()), "{words}: {:?}", self.said.lock().unwrap());
        found().unwrap()
    }

    pub fn kill(&mut self) {
        let mut service = self.service.take().unwrap();
        service.kill().unwrap();
        service.wait().unwrap();
    }

    /// Ends the host, so to speak: the service, its machines and the files that do not survive a restart of the host.
    pub fn end_host(&mut self) {
        let processes: Vec<_> = self.names().iter().filter_map(|name| self.process(name)).collect();
        self.kill();
        for id in processes {
            signal(id, rustix::process::Signal::KILL);
            assert!(holds_within(grown(SOON), || !Path::new(&format!("/proc/{id}")).exists()));
        }
        std::fs::remove_dir_all(self.sockets()).unwrap();
    }

    /// Ends the service by SIGTERM, as systemd does, and returns its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let mut service = self.service.take().unwrap();
        signal(service.id(), rustix::process::Signal::TERM);
        service.wait().unwrap().code()
    }

    pub fn service_id(&self) -> u32 {
        self.service.as_ref().unwrap().id()
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn sockets(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    pub fn socket(&self) -> PathBuf {
        self.sockets().join("serve.socket")
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = viridian();
        command.env("VIRIDIAN_RUNTIME_DIR", self.sockets()).args(arguments);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        self.command(arguments).output().unwrap().into()
    }

    /// Sends bytes to the service, and returns its reply.
    pub fn send(&self, bytes: &[u8]) -> Option<Reply> {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        let _ = stream.write_all(bytes);
        Reply::read(stream)
    }

    pub fn request(&self, method: &str, path: &str, body: &str) -> Reply {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        self.send((head + body).as_bytes()).unwrap()
    }

    pub fn get(&self, path: &str) -> Value {
        let reply = self.request("GET", path, "");
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.json()
    }

    #[track_caller]
    pub fn post(&self, path: &str) -> Value {
        let reply = self.request("POST", path, "");
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        reply.json()
    }

    /// Defines a machine whose guest halts and waits.
    #[track_caller]
    pub fn define(&self, name: &str, treatment: &str) {
        self.define_with(name, "exits", "halt", treatment);
    }

    #[track_caller]
    pub fn define_with(&self, name: &str, guest: &str, cmdline: &str, treatment: &str) {
        let reply = self.request("PUT", &format!("/machines/{name}"), &definition(guest, cmdline, treatment));
        assert_eq!(reply.status, 201, "{reply:?}");
    }

    /// Replaces a definition by that of a machine whose guest halts and waits.
    #[track_caller]
    pub fn define_again(&self, name: &str, treatment: &str) {
        let reply = self.request("PUT", &format!("/machines/{name}"), &definition("exits", "halt", treatment));
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    pub fn machine(&self, name: &str) -> Value {
        self.get(&format!("/machines/{name}"))
    }

    pub fn process(&self, name: &str) -> Option<u32> {
        self.machine(name)["process"].as_u64().map(|id| id as u32)
    }

    /// Waits until `is_so` holds for a machine.
    #[track_caller]
    pub fn until(&self, name: &str, is_so: impl Fn(&Value) -> bool) {
        assert!(holds_within(grown(SOON), || is_so(&self.machine(name))), "{name}: {}", self.machine(name));
    }

    #[track_caller]
    pub fn until_state(&self, name: &str, state: &str) {
        self.until(name, |machine| machine["state"] == state);
    }

    pub fn names(&self) -> Vec<String> {
        let list = self.get("/machines");
        list["machines"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Follows the events after the event with this number.
    pub fn events(&self, after: u64) -> Events {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        write!(stream, "GET /events HTTP/1.1\r\nLast-Event-ID: {after}\r\n\r\n").unwrap();
        stream.set_read_timeout(Some(grown(SOON))).unwrap();
        Events(BufReader::new(stream))
    }

    /// Returns the processes of machines of this service, including those that it does not know.
    fn processes(&self) -> Vec<u32> {
        let folder = self.folder.path().to_str().unwrap();
        let ids = std::fs::read_dir("/proc").unwrap().flatten();
        let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let is_ours = |id: &u32| {
            let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            (line.contains("\0run\0--config\0") || line.contains("\0up\0")) && line.contains(folder)
        };
        ids.filter(is_ours).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.service.is_some() {
            self.kill();
        }
        for id in self.processes() {
            signal(id, rustix::process::Signal::KILL);
        }
    }
}

/// A stream of events with their numbers.
pub struct Events(pub BufReader<UnixStream>);

impl Events {
    /// Waits for an event for which `is_so` holds, and returns it with its number.
    #[track_caller]
    pub fn wait(&mut self, is_so: impl Fn(&Value) -> bool) -> (u64, Value) {
        let mut number = 0;
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream has ended");
            if let Some(id) = line.strip_prefix("id: ") {
                number = id.trim().parse().unwrap();
            }
            if let Some(event) = line.strip_prefix("data: ") {
                let event = serde_json::from_str(event).unwrap();
                if is_so(&event) {
                    return (number, event);
                }
            }
        }
    }

    #[track_caller]
    pub fn wait_for_state(&mut self, name: &str, state: &str) -> Value {
        self.wait(|event| event["event"] == "state" && event["machine"] == name && event["state"] == state).1
    }
}

pub fn definition(guest: &str, cmdline: &str, treatment: &str) -> String {
    let kernel = json!(image(guest).to_str().unwrap());
    // The limit ends machines that a failed test leaves behind.
    format!("kernel = {kernel}\ncmdline = \"{cmdline}\"\ntimeout = {}\n{treatment}", limit(300))
}

pub fn signal(id: u32, signal: rustix::process::Signal) {
    let id = rustix::process::Pid::from_raw(id.cast_signed()).unwrap();
    let _ = rustix::process::kill_process(id, signal);
}

/// Returns `true` if the process runs and is not a zombie.
pub fn runs(id: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(id.to_string()).join("stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}

/// Sends a request over TCP, and returns the reply.
pub fn over_tcp(port: u16, request: &str) -> Reply {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    Reply::read(stream).unwrap()
}
