//! The guest of these tests.

use std::path::Path;
use std::time::{Duration, SystemTime};

use viridian::Builder;
use viridian::config::Engine;
use viridian::internals::services::{Answer, Failure, Kind, Request, ServiceHandle, Status};
use viridian::machine::Machine;
use viridian::vsp::network::{Attachment, NetworkOptions};
use viridian::vsp::storage::DiskConfig;

use crate::common::patience::{grown, holds_within};

/// Time limit for steps that take seconds on a quiet machine.
pub const SOON: Duration = Duration::from_secs(60);

/// A running Linux with its daemons, whose shell takes commands.
pub struct Linux {
    pub machine: Machine,
}

impl Linux {
    /// Boots it, and waits for its shell.
    pub fn boot(image: &Path, engine: &str) -> Self {
        let machine = Builder::new()
            .engine(if engine == "kernel" { Engine::Kernel } else { Engine::User })
            .memory(384 << 20)
            .kernel(image.join("vmlinux"))
            .initrd(image.join("initrd.img"))
            .cmdline("console=ttyS0 quiet panic=-1 root=LABEL=root run=serve")
            .disk(DiskConfig::of("/dev/vda"))
            .net(NetworkOptions::new(Attachment::User))
            .capture_console()
            .start()
            .expect("the machine starts");
        let linux = Self { machine };
        linux.wait_for("serving\r\n");
        linux
    }

    /// Waits for these words on the console, and returns what came before.
    pub fn wait_for(&self, words: &str) -> String {
        let console = self.machine.console().expect("it is captured");
        let output = console.wait_for(words, grown(SOON)).unwrap_or_else(|missing| panic!("{missing}"));
        String::from_utf8_lossy(&output).into_owned()
    }

    /// Runs a line in the guest, and returns what it prints.
    pub fn run(&self, line: &str) -> String {
        self.machine.console().expect("it is captured").type_text(&format!("{line}\n")).expect("it is read");
        let output = self.wait_for("=\r\n");
        let (output, code) = output.trim_end_matches("=\r\n").rsplit_once('=').expect("the code of the line");
        assert_eq!(code, "0", "{line}: {output}");
        output.replace("\r\n", "\n").trim().to_owned()
    }

    /// Returns a service.
    pub fn service(&self, kind: Kind) -> ServiceHandle {
        self.machine.services().get(kind).expect("it is offered")
    }

    /// Makes a request, and waits for its outcome.
    pub fn ask(&self, kind: Kind, request: Request) -> Result<Answer, Failure> {
        let asked = self.service(kind).ask(request)?;
        asked.wait(grown(2 * SOON)).unwrap_or_else(|| panic!("{kind} is not done"))
    }

    /// Waits until the status of a service is as wanted.
    pub fn until(&self, kind: Kind, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
        let so = holds_within(grown(2 * SOON), || is_so(&self.service(kind).status()));
        let status = self.service(kind).status();
        assert!(so, "{what}: {status:?}");
        status
    }

    /// Repeats a request until it is answered: a daemon that has just been started is not there at once.
    pub fn until_answered(&self, what: &str, ask: impl FnMut() -> bool) {
        assert!(holds_within(grown(2 * SOON), ask), "{what}");
    }

    /// Returns what the guest's clock is ahead of the host's, in seconds.
    pub fn ahead(&self) -> i64 {
        let guest: i64 = self.run("date +%s").parse().expect("a number");
        let host = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later").as_secs();
        guest - host as i64
    }
}
