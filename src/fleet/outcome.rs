//! Events and ends of the machines of a fleet, as values that can be stored, sent and serialized.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use crate::machine::{End, Exits};

/// An event of a fleet. Serialized, it is a map with the kind as `event`, as in the lines of `viridian run --report`.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// A guest runs.
    Started {
        /// Seconds since 1970.
        time: f64,
        /// The machine's name.
        partition: String,
        /// The process that it runs in.
        process: u32,
        /// The other end of its `pty` console.
        pty: Option<PathBuf>,
    },
    /// A machine has ended, or could not start.
    Ended {
        /// Seconds since 1970.
        time: f64,
        /// The end.
        #[serde(flatten)]
        outcome: Outcome,
    },
}

impl Event {
    pub(super) fn started(partition: &str, pty: Option<PathBuf>) -> Self {
        Self::Started { time: now(), partition: partition.to_owned(), process: std::process::id(), pty }
    }
}

/// The outcome as an event of now.
impl From<Outcome> for Event {
    fn from(outcome: Outcome) -> Self {
        Self::Ended { time: now(), outcome }
    }
}

/// The end of one machine of a fleet.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The machine's name.
    pub partition: String,
    /// The time that its guest ran. Serialized as a number of seconds.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub time: Duration,
    /// How it ended. Serialized as [`End`] describes it.
    #[serde(serialize_with = "of_arc")]
    pub end: Arc<End>,
    /// Number of exits of its VPs to this process. `None` if it never started.
    pub exits: Option<Exits>,
}

impl Outcome {
    /// Returns the outcome of a machine that ended before its guest ran, for the program of this package.
    #[doc(hidden)]
    pub fn never_started(partition: impl Into<String>, end: End) -> Self {
        Self { partition: partition.into(), time: Duration::ZERO, end: Arc::new(end), exits: None }
    }
}

/// Returns the exit code of a process that ran these machines: the first that is not 0, in the order of the outcomes, or 0.
pub fn exit_code(outcomes: &[Outcome]) -> u8 {
    outcomes.iter().map(|outcome| outcome.end.exit_code()).find(|code| *code != 0).unwrap_or(0)
}

pub(super) fn as_seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

fn of_arc<S: Serializer>(end: &Arc<End>, serializer: S) -> Result<S::Ok, S::Error> {
    end.serialize(serializer)
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
