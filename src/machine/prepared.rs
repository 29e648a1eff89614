//! A machine that is ready to run.
//!
//! Whoever starts several machines prepares all of them first: what is wrong with one is known before any guest has run.
//!
//! ```no_run
//! use viridian::{Builder, Machine};
//!
//! let builders = ["server", "client"].map(|name| Builder::new().name(name).kernel("my-kernel"));
//! let ready = builders.iter().map(Builder::prepare).collect::<Result<Vec<_>, _>>()?;
//! let running = ready.into_iter().map(|machine| machine.start()).collect::<Result<Vec<Machine>, _>>()?;
//! # Ok::<(), viridian::machine::MachineError>(())
//! ```

use super::{Machine, MachineError};

/// A machine that has all that it needs, and whose guest has not run yet: see [`Builder::prepare`](super::builder::Builder::prepare).
///
/// Dropping it gives everything back.
#[must_use = "the guest runs once it is started"]
pub struct Prepared {
    machine: Machine,
}

impl Prepared {
    /// The gate of `machine` is closed.
    pub(super) fn new(machine: Machine) -> Self {
        Self { machine }
    }

    /// Lets the guest run. Its time, if it was given one, starts now.
    ///
    /// # Errors
    /// The host has no thread to watch its time.
    pub fn start(self) -> Result<Machine, MachineError> {
        let machine = self.machine.watched()?;
        machine.resume();
        Ok(machine)
    }
}
