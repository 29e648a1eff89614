//! A machine that is ready to run.
//!
//! To start several machines, prepare all of them first. Problems of one machine are then found before any guest runs.
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
use crate::vsp::sockets::Sockets;

/// A machine with everything opened and loaded, whose guest has not run yet: see [`Builder::prepare`](super::builder::Builder::prepare).
///
/// Dropping it releases everything.
#[must_use = "the guest runs once it is started"]
pub struct Prepared {
    machine: Machine,
}

impl Prepared {
    /// The gate of `machine` is closed.
    pub(super) fn new(machine: Machine) -> Self {
        Self { machine }
    }

    /// Returns the machine's sockets, to listen before the guest runs.
    pub fn sockets(&self) -> &Sockets {
        self.machine.sockets()
    }

    /// Starts the guest. Its time limit, if there is one, counts from now.
    ///
    /// # Errors
    /// Returns an error if the host cannot start a thread for the time limit.
    pub fn start(self) -> Result<Machine, MachineError> {
        let machine = self.machine.watched()?;
        machine.resume();
        Ok(machine)
    }
}
