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
use crate::machine::builder::Builder;
use crate::machine::{End, MachineError, Prepared};

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
        let shares = self
            .budget
            .map(|bytes| Budget { bytes, weights: self.members.iter().map(|member| member.weight).collect() });
        Ok(PreparedFleet { machines: self.members.iter().map(prepare).collect::<Result<_, _>>()?, shares })
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
