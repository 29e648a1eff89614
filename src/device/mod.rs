//! The contract between a machine and its devices.
//!
//! Everything that a guest can use is a [`Device`]: disks, network adapters, VMBus, the platform's chips, the console. A
//! machine owns its devices in a [registry](Devices), which finds them by name and by kind.
//!
//! # The contract
//! A device is *running* or *paused* until it is removed:
//!
//! | call | allowed while | effect |
//! | --- | --- | --- |
//! | `pause` | running | the device stops |
//! | `resume` | paused | the device continues |
//! | `reset` | running, paused | the device returns to its state at power-on |
//! | `save`, `restore` | paused | the state leaves the device, or enters it |
//! | `inspect`, `command` | always | see below |
//!
//! [`Lifecycle`] is this table as a state machine. The registry makes no call that it forbids.
//!
//! - **Order.** Devices that use others stand on a higher [`Floor`]. `pause` and `save` go from the top down, `resume` and
//!   `reset` from the bottom up. No device is called by two of these at once.
//! - **Pause.** The VPs are parked and the guest's time stands still when `pause` is called. From its return to `resume`, the
//!   device writes no guest memory, raises no interrupt, and its timers stand still. What arrives from outside waits
//!   within a bound, or is dropped; the device's documentation says which.
//! - **Resume.** The guest may already run while `resume` is called. No signal that came during the pause is lost.
//! - **Reset.** No guest uses the device while `reset` is called: it comes between two lives of the guest.
//! - **Save and restore.** A saved state contains only data, no handle of the process. `save` changes nothing. `restore` takes
//!   what `save` returned, in this process or in another one, or fails and changes nothing.
//! - **Inspect and command.** They may come on any thread, at any time, also during another call. They must be prompt: they
//!   never wait for the guest or for I/O.
//! - **Added devices.** A device that joins a paused machine is paused before it becomes visible.
//! - **Failure.** A panic in a device's code is reported as an [event](DeviceEvent). It does not end other devices.
//!
//! The macro `device_contract!` in the tests takes a device through all orders of these calls.

use std::fmt;

pub use serde_json::Value;

#[cfg(test)]
pub(crate) mod contract;
mod event;
mod lifecycle;
mod registry;

pub use event::{DeviceEvent, Outlet};
pub use lifecycle::{Call, Lifecycle, OutOfOrder};
pub use registry::{AddError, Devices, Registration};

/// The name and kind of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name. No two devices of a machine have the same.
    pub name: String,
    /// The kind, such as `disk`.
    pub kind: &'static str,
    /// The place in the order of calls.
    pub floor: Floor,
}

impl Identity {
    /// Creates an identity.
    pub fn new(name: impl Into<String>, kind: &'static str, floor: Floor) -> Self {
        Self { name: name.into(), kind, floor }
    }
}

/// The place of a device in the order of calls. A device uses only devices of lower floors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Floor {
    /// The destination of output: the console.
    Host,
    /// The chips of a PC.
    Platform,
    /// VMBus.
    Bus,
    /// Devices that a bus offers: disks, network adapters, services.
    Provider,
}

/// A device. See the module's description for the contract.
pub trait Device: Send + Sync {
    /// Returns the device's identity, which never changes.
    fn identity(&self) -> Identity;

    /// Returns the device to its state at power-on.
    fn reset(&self) {}

    /// Stops the device.
    fn pause(&self) {}

    /// Ends a pause.
    fn resume(&self) {}

    /// Returns the state of a paused device.
    ///
    /// # Errors
    /// Returns [`StateError::NotYet`] if the device cannot be saved.
    fn save(&self) -> Result<SavedState, StateError> {
        Err(StateError::NotYet)
    }

    /// Sets the state of a paused device.
    ///
    /// # Errors
    /// Returns an error, and changes nothing, if the state is not one that this device can take.
    fn restore(&self, _state: &SavedState) -> Result<(), StateError> {
        Err(StateError::NotYet)
    }

    /// Returns the state of the device, as an object of names and values. Units are part of the names.
    fn inspect(&self) -> Value;

    /// Returns the commands that the device takes.
    fn commands(&self) -> &'static [CommandHelp] {
        &[]
    }

    /// Carries out a command of the host.
    ///
    /// # Errors
    /// Returns a [`CommandError`].
    fn command(&self, name: &str, _arguments: &Value) -> Result<Value, CommandError> {
        Err(CommandError::unknown(name, self.commands()))
    }
}

/// A command that a device takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandHelp {
    /// Its name.
    pub name: &'static str,
    /// Its arguments and its effect, in a sentence.
    pub help: &'static str,
}

/// The saved state of a device.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SavedState {
    /// The kind of the device.
    pub kind: String,
    /// The version of the format. Each kind counts its own.
    pub version: u32,
    /// The state.
    pub data: Value,
}

/// The reason why a device is not saved or restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The device cannot be saved yet.
    #[error("devices of this kind cannot be saved or restored yet")]
    NotYet,
    /// The state is of another kind of device.
    #[error("this is the state of a device of kind `{found}`; the device is of kind `{wanted}`")]
    Kind {
        /// The kind of the state.
        found: String,
        /// The kind of the device.
        wanted: &'static str,
    },
    /// The state has a format that this version does not know.
    #[error("the state has version {found}, and this program reads version {known} and older")]
    Version {
        /// The version of the state.
        found: u32,
        /// The newest version that can be read.
        known: u32,
    },
    /// The state contradicts itself or the device.
    #[error("the state is invalid: {0}")]
    Invalid(String),
    /// The contract does not allow the call now.
    #[error(transparent)]
    OutOfOrder(#[from] OutOfOrder),
}

/// The reason why a command fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such device.
    #[error("there is no device `{name}`; the devices are {known}")]
    NoDevice {
        /// The name.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// The device does not know the command.
    #[error("there is no command `{name}`; {known}")]
    Unknown {
        /// The command's name.
        name: String,
        /// The commands that the device knows.
        known: String,
    },
    /// The arguments are wrong.
    #[error("{0}")]
    Arguments(String),
    /// The command cannot be carried out.
    #[error("{0}")]
    Failed(String),
}

impl CommandError {
    /// Creates the error for a command that is none of `commands`.
    pub(crate) fn unknown(name: &str, commands: &[CommandHelp]) -> Self {
        let known = match commands {
            [] => "the device takes no commands".to_owned(),
            commands => format!("the device takes {}", Words(commands.iter().map(|command| command.name).collect())),
        };
        Self::Unknown { name: name.to_owned(), known }
    }
}

/// Words as a list for people.
struct Words<'a>(Vec<&'a str>);

impl fmt::Display for Words<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, word) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(formatter, "{separator}`{word}`")?;
        }
        Ok(())
    }
}
