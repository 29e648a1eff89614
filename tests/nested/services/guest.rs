//! The guest of these tests.

use std::ops::Deref;
use std::process::Command;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use rustix::event::{PollFd, PollFlags, poll};
use tempfile::TempDir;
use viridian::Builder;
use viridian::config::Config;
use viridian::control::Control;
use viridian::fleet::{Fleet, RunningFleet};
use viridian::internals::services::{Answer, Failure, Kind, Request, ServiceHandle, Status};
use viridian::machine::{End, Machine};
use viridian::vsp::network::{Attachment, NetworkOptions};
use viridian::vsp::storage::DiskConfig;

use crate::common::patience::{grown, holds_within};
use crate::common::stock::{SOON, Shell, engine, image_file, variable};

/// The name of the machine.
pub const NAME: &str = "linux";

/// A running Linux with its daemons, whose shell takes commands.
pub struct Linux {
    fleet: Arc<RunningFleet>,
    shell: Shell,
    /// The directory of the control socket.
    sockets: TempDir,
    /// Serves the control socket.
    control: JoinHandle<()>,
}

impl Deref for Linux {
    type Target = Shell;

    fn deref(&self) -> &Shell {
        &self.shell
    }
}

impl Linux {
    /// Boots it, and waits for its shell.
    pub fn boot() -> Self {
        let linux = Self::start(Config::default(), "");
        linux.wait_until_ready();
        linux
    }

    /// Starts it with these settings, and these words on its command line.
    pub fn start(config: Config, words: &str) -> Self {
        let builder = Builder::from(config)
            .name(NAME)
            .engine(engine())
            .memory(384 << 20)
            .kernel(image_file("vmlinux"))
            .initrd(image_file("initrd.img"))
            .cmdline(format!("console=ttyS0 quiet panic=-1 root=LABEL=root run=serve {words} {}", variable("WORDS")))
            .disk(DiskConfig::of("/dev/vda"))
            .net(NetworkOptions::new(Attachment::User))
            .capture_console();
        let fleet = Fleet::from(builder).prepare().expect("the machine can start");
        let fleet = Arc::new(fleet.start().expect("the machine starts"));
        let console = fleet.with(NAME, |machine| machine.console().cloned()).flatten().expect("it is captured");
        let sockets = TempDir::new().expect("a directory");
        let control = Control::open(&fleet, sockets.path()).expect("a control socket");
        let control = thread::spawn({
            let fleet = fleet.clone();
            move || serve(&fleet, &control)
        });
        Self { fleet, shell: Shell::new(&console), sockets, control }
    }

    /// Calls a function with the machine.
    pub fn with<T>(&self, access: impl FnOnce(&Machine) -> T) -> T {
        self.fleet.with(NAME, access).expect("it runs")
    }

    /// Runs a verb of the program, as another process. Returns its exit code, its output and its errors.
    pub fn verb(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_viridian"));
        let command = command.args(arguments).env("VIRIDIAN_RUNTIME_DIR", self.sockets.path());
        let output = command.output().expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// Waits for the end of the machine.
    pub fn end(self) -> Arc<End> {
        self.control.join().expect("it does not panic");
        let fleet = Arc::into_inner(self.fleet).expect("nobody else has it");
        fleet.wait().pop().expect("its end").end
    }

    /// Returns a service.
    pub fn service(&self, kind: Kind) -> ServiceHandle {
        self.with(|machine| machine.services().get(kind)).expect("it is offered")
    }

    /// Makes a request, and waits for its outcome.
    pub fn ask(&self, kind: Kind, request: Request) -> Result<Answer, Failure> {
        let asked = self.service(kind).ask(request)?;
        asked.wait(grown(2 * SOON)).unwrap_or_else(|| panic!("{kind} is not done"))
    }

    /// Waits until `is_so` holds for the status of a service.
    pub fn until(&self, kind: Kind, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
        let so = holds_within(grown(2 * SOON), || is_so(&self.service(kind).status()));
        let status = self.service(kind).status();
        assert!(so, "{what}: {status:?}");
        status
    }

    /// Repeats a request until it is answered, because a daemon that was just started is not ready at once.
    pub fn until_answered(&self, what: &str, ask: impl FnMut() -> bool) {
        assert!(holds_within(grown(2 * SOON), ask), "{what}");
    }

    /// Returns how far the guest's clock is ahead of the host's, in seconds.
    pub fn ahead(&self) -> i64 {
        let guest: i64 = self.run("date +%s").parse().expect("a number");
        let host = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later").as_secs();
        guest - host as i64
    }
}

/// Serves the control socket until the machine has ended.
fn serve(fleet: &RunningFleet, control: &Control) {
    let ended = fleet.ended();
    loop {
        let mut fds = [PollFd::from_borrowed_fd(ended, PollFlags::IN), PollFd::new(control, PollFlags::IN)];
        let _ = poll(&mut fds, None);
        if !fds[0].revents().is_empty() {
            return;
        }
        control.serve();
    }
}
