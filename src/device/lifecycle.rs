//! The states of a device, and the calls of the contract that each state allows.

use std::fmt;

/// A call that the contract orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Device::pause`](super::Device::pause)
    Pause,
    /// [`Device::resume`](super::Device::resume)
    Resume,
    /// [`Device::reset`](super::Device::reset)
    Reset,
    /// [`Device::save`](super::Device::save)
    Save,
    /// [`Device::restore`](super::Device::restore)
    Restore,
    /// The device leaves the machine.
    Remove,
}

impl Call {
    /// All calls.
    #[cfg(test)]
    pub const ALL: [Self; 6] = [Self::Pause, Self::Resume, Self::Reset, Self::Save, Self::Restore, Self::Remove];
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Reset => "reset",
            Self::Save => "saved",
            Self::Restore => "restored",
            Self::Remove => "removed",
        })
    }
}

/// The state of a device in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// The guest can use the device.
    Running,
    /// The device stands still.
    Paused,
    /// The device has left its machine.
    Removed,
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Removed => "removed",
        })
    }
}

/// The contract does not allow a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a device that is {state} cannot be {call}")]
pub struct OutOfOrder {
    /// The state of the device.
    pub state: Lifecycle,
    /// The call.
    pub call: Call,
}

impl Lifecycle {
    /// Returns the state after `call`.
    ///
    /// # Errors
    /// Returns an error if the contract does not allow the call in this state.
    pub fn after(self, call: Call) -> Result<Self, OutOfOrder> {
        match (self, call) {
            (Self::Running, Call::Pause) | (Self::Paused, Call::Reset | Call::Save | Call::Restore) => Ok(Self::Paused),
            (Self::Paused, Call::Resume) | (Self::Running, Call::Reset) => Ok(Self::Running),
            (Self::Running | Self::Paused, Call::Remove) => Ok(Self::Removed),
            (state, call) => Err(OutOfOrder { state, call }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_the_contract_holds() {
        use Call::{Pause, Remove, Reset, Restore, Resume, Save};
        let allowed =
            |state: Lifecycle| Call::ALL.into_iter().filter(|call| state.after(*call).is_ok()).collect::<Vec<_>>();
        assert_eq!(allowed(Lifecycle::Running), [Pause, Reset, Remove]);
        assert_eq!(allowed(Lifecycle::Paused), [Resume, Reset, Save, Restore, Remove]);
        assert_eq!(allowed(Lifecycle::Removed), []);
    }

    #[test]
    fn the_error_for_a_refused_call_names_the_call_and_the_reason() {
        let error = Lifecycle::Running.after(Call::Save).unwrap_err();
        assert_eq!(error.to_string(), "a device that is running cannot be saved");
    }
}
