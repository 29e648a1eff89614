//! The guest of these tests.

use serde_json::{Value, json};
use viridian::config::{Config, KernelSource, OnReset};
use viridian::{Builder, config};

use crate::common::patience::{grown, holds_within};
pub use crate::common::stock::{Linux, SOON};
use crate::common::stock::{Shell, engine, image_file};

/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;

impl Linux {
    /// Boots it, and waits for its shell. `memory` are settings as on the command line.
    pub fn with_memory(memory: &str) -> Self {
        let config = Config {
            memory: toml_memory(memory),
            engine: engine(),
            kernel: Some(KernelSource::File(image_file("vmlinux"))),
            initrd: Some(image_file("initrd.img")),
            cmdline: "console=ttyS0 quiet panic=-1 memhp_default_state=online".into(),
            on_reset: OnReset::Restart,
            ..Config::default()
        };
        Self::start(Builder::from(config))
    }

    /// Returns a number of the memory's state.
    pub fn memory(&self, name: &str) -> u64 {
        self.state()[name].as_u64().unwrap_or_else(|| panic!("{name} is a number in {}", self.state()))
    }

    /// Returns the memory's state.
    pub fn state(&self) -> Value {
        self.machine.inspect()["devices"]["memory"].clone()
    }

    /// Waits until `is_so` holds for the memory's state.
    pub fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let so = holds_within(grown(2 * SOON), || is_so(&self.state()));
        assert!(so, "{what}: {}", self.state());
    }

    /// Sets the size, and waits until the guest has exactly that.
    pub fn resize(&self, bytes: u64) {
        self.machine.command("memory", "set", &json!(bytes)).expect("the size is within the limits");
        self.until(&format!("the guest has {bytes} bytes"), |state| {
            state["assigned-bytes"] == bytes && state["request"].is_null()
        });
    }

    /// Writes a file of this size in the guest's memory, and removes it.
    pub fn touch(&self, mebibytes: u64) {
        self.run(&format!("dd if=/dev/zero of=/fill/x bs=1M count={mebibytes} 2>/dev/null && rm /fill/x"));
    }
}

/// Returns a number of pages that the guest's driver counts, in bytes.
pub fn counted(shell: &Shell, name: &str) -> u64 {
    let text = shell.run("cat /sys/kernel/debug/hv-balloon");
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} is in {text}"));
    let number = line.rsplit(':').next().expect("a value").trim();
    number.parse::<u64>().unwrap_or_else(|_| panic!("{line}")) * 4096
}

/// Returns the guest's MemTotal in bytes.
pub fn total(shell: &Shell) -> u64 {
    let kibibytes = shell.run("sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo");
    kibibytes.parse::<u64>().expect("a number") * 1024
}

fn toml_memory(text: &str) -> config::Memory {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("memory = '{text}'\n")).expect("it is written");
    Config::load(file.path()).expect("valid settings").memory
}

/// Returns the memory of this process that is resident, in bytes.
pub fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").expect("the host has it");
    let line = text.lines().find(|line| line.starts_with("Rss:")).expect("it is there");
    line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect("a number") * 1024
}
