//! Several machines that run together: start order, events, status, ends.
//!
//! A fleet comes from a TOML file or from [builders](Builder). Each `[[partition]]` of a file has the settings of a machine, and with
//! `after` the names of those that start before it:
//!
//! ```toml
//! [[partition]]
//! name = "server"
//! kernel = "vmlinuz"
//! net = "switch=lab"
//! console = "file:server.log"
//!
//! [[partition]]
//! name = "client"
//! kernel = "vmlinuz"
//! net = "switch=lab"
//! after = ["server"]
//! ```
//!
//! With `memory-budget = "4G"` above them, machines whose memory changes share that much: each gets what its guest needs, and what
//! is scarce is divided by the `weight` of each (1 to 10000, by default 100).
//!
//! [`Fleet::prepare`] opens, loads and checks everything that the machines need, so that a mistake in one of them shows before any
//! guest runs. [`PreparedFleet::start`] starts them.
//!
//! ```no_run
//! use viridian::fleet::{Event, Fleet};
//!
//! let fleet = Fleet::load("lab.toml".as_ref())?.prepare()?.start()?;
//! for event in fleet.events()? {
//!     match event {
//!         Event::Started { partition, .. } => println!("{partition} runs"),
//!         Event::Ended { outcome, .. } => println!("{}: {}", outcome.partition, outcome.end),
//!         _ => {}
//!     }
//! }
//! for outcome in fleet.wait() {
//!     println!("{}", serde_json::to_string(&outcome)?);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io;

use memory::Budget;

use crate::config::Config;
use crate::host::limited;
use crate::machine::builder::Builder;
use crate::machine::{End, MachineError, Prepared};
use crate::memory::excess;

mod events;
mod file;
mod governor;
mod log;
mod memory;
mod outcome;
mod running;

pub use events::Events;
pub use file::FleetError;
pub use outcome::{Event, Outcome, exit_code};
pub(crate) use running::Handle;
pub use running::{RunningFleet, Status};

/// Machines that are to run together, in the order in which they start.
#[derive(Clone, Debug)]
pub struct Fleet {
    members: Vec<Member>,
    /// The memory that the machines share, in bytes.
    budget: Option<u64>,
}

#[derive(Clone, Debug)]
struct Member {
    builder: Builder,
    /// Its weight when memory is scarce.
    weight: u32,
}

impl Member {
    fn name(&self) -> &str {
        &self.builder.config().name
    }
}

/// A fleet of one machine.
impl From<Builder> for Fleet {
    fn from(builder: Builder) -> Self {
        Self { members: vec![Member { builder, weight: file::DEFAULT_WEIGHT }], budget: None }
    }
}

impl Fleet {
    /// Returns the settings of the machines, in the order in which they start.
    pub fn configs(&self) -> impl Iterator<Item = &Config> {
        self.members.iter().map(|member| member.builder.config())
    }

    /// Changes a machine, to give it devices or handlers that a file cannot describe. Does nothing if there is no machine of this
    /// name.
    ///
    /// ```no_run
    /// use viridian::fleet::Fleet;
    ///
    /// let fleet = Fleet::load("lab.toml".as_ref())?.customize("client", |machine| machine.end_on_failure());
    /// # Ok::<(), viridian::fleet::FleetError>(())
    /// ```
    pub fn customize(mut self, name: &str, change: impl FnOnce(Builder) -> Builder) -> Self {
        if let Some(member) = self.members.iter_mut().find(|member| member.name() == name) {
            member.builder = change(member.builder.clone());
        }
        self
    }

    /// Opens, loads and checks all that the machines need. No guest runs yet.
    ///
    /// # Errors
    /// Returns the first machine that cannot run, and why. No machine has run then, and nothing of any is left.
    pub fn prepare(&self) -> Result<PreparedFleet, PrepareError> {
        let prepare = |member: &Member| match member.builder.prepare() {
            Ok(machine) => Ok((member.name().to_owned(), machine)),
            Err(error) => Err(PrepareError { partition: member.name().to_owned(), error: Box::new(error) }),
        };
        if let Some(warning) = self.excess() {
            limited::warn!("{warning}");
        }
        let shares = self
            .budget
            .map(|bytes| Budget { bytes, weights: self.members.iter().map(|member| member.weight).collect() });
        Ok(PreparedFleet { machines: self.members.iter().map(prepare).collect::<Result<_, _>>()?, shares })
    }
}

impl Fleet {
    /// Returns the most memory of the host that the machines can use together. Those whose memory changes share the budget, if there
    /// is one.
    fn memory_demand(&self) -> u64 {
        let demand = |config: &Config| match self.budget {
            Some(_) if config.memory.limits().is_ok_and(|limits| limits.is_some()) => {
                config.memory_demand() - config.memory.maximum()
            }
            _ => config.memory_demand(),
        };
        self.configs().map(demand).fold(self.budget.unwrap_or(0), u64::saturating_add)
    }

    /// Returns a warning if the host cannot provide that. Each machine warns of its own.
    fn excess(&self) -> Option<String> {
        let several =
            self.members.len() > 1 && self.configs().all(|config| excess("", config.memory_demand()).is_none());
        excess("the machines and their memory: disks can use", self.memory_demand()).filter(|_| several)
    }
}

/// A machine of a fleet that cannot run.
#[derive(Debug, thiserror::Error)]
#[error("{partition}: {error}")]
pub struct PrepareError {
    /// The name of the machine.
    pub partition: String,
    /// The reason.
    #[source]
    pub error: Box<MachineError>,
}

/// The end of a machine that never ran.
impl From<PrepareError> for Outcome {
    fn from(PrepareError { partition, error }: PrepareError) -> Self {
        Self::never_started(partition, End::Failed(*error))
    }
}

/// Machines that have all that they need, and whose guests have not run yet.
///
/// Dropping it releases everything.
#[must_use = "the guests run once the fleet is started"]
pub struct PreparedFleet {
    machines: Vec<(String, Prepared)>,
    shares: Option<Budget>,
}

impl PreparedFleet {
    /// Starts the machines one after the other. If one of them cannot start, those that follow do not start either, and those
    /// that run already are [stopped](RunningFleet::stop); its [`Outcome`] says why.
    ///
    /// # Errors
    /// The host has no thread or no file descriptor to watch the machines.
    pub fn start(self) -> io::Result<RunningFleet> {
        RunningFleet::start(self.machines, self.shares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vsp::storage::DiskConfig;

    fn fleet(budget: Option<u64>) -> Fleet {
        let member = |memory: &str| {
            let config: Config =
                toml::from_str(&format!("kernel = 'k'\nmemory = '{memory}'\ndisk = 'memory:1M'")).unwrap();
            Member { builder: Builder::from(config), weight: file::DEFAULT_WEIGHT }
        };
        Fleet { members: ["1G", "512M,max=2G"].map(member).into(), budget }
    }

    #[test]
    fn machines_can_use_the_sum_of_what_each_can_use() {
        const GIB: u64 = 1 << 30;
        assert_eq!(fleet(None).memory_demand(), 3 * GIB + (2 << 20));
        assert_eq!(fleet(Some(GIB)).memory_demand(), 2 * GIB + (2 << 20), "the second one gets what the budget has");
        assert_eq!(fleet(None).excess(), None);
        let mut large = fleet(Some(u64::MAX));
        let words = large.excess().unwrap();
        assert!(words.starts_with("the machines and their memory: disks can use"), "{words}");
        large.members.truncate(1);
        assert_eq!(large.excess(), None, "one machine warns of its own");
        assert_eq!(DiskConfig::of("memory:2K").memory_size(), Some(2048));
        assert_eq!(DiskConfig::of("/memory:2K").memory_size(), None);
    }
}
