//! `--hv`: the Hyper-V features that the guest is offered.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hyperv::features::{SwitchError, Switches};

/// `--hv`: Hyper-V as the engine offers it, with changes, or no Hyper-V.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Hv {
    /// Offered, with these changes.
    On(Switches),
    /// Not offered. The guest finds plain KVM, with KVM's clock as its only paravirtual feature.
    Off,
}

impl Default for Hv {
    fn default() -> Self {
        Self::On(Switches::default())
    }
}

impl FromStr for Hv {
    type Err = SwitchError;

    fn from_str(text: &str) -> Result<Self, SwitchError> {
        match text {
            "on" => Ok(Self::default()),
            "off" => Ok(Self::Off),
            switches => switches.parse().map(Self::On),
        }
    }
}

impl fmt::Display for Hv {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => formatter.write_str("off"),
            Self::On(switches) if *switches == Switches::default() => formatter.write_str("on"),
            Self::On(switches) => switches.fmt(formatter),
        }
    }
}

impl TryFrom<String> for Hv {
    type Error = SwitchError;

    fn try_from(text: String) -> Result<Self, SwitchError> {
        text.parse()
    }
}

impl From<Hv> for String {
    fn from(hv: Hv) -> Self {
        hv.to_string()
    }
}

#[cfg(test)]
#[path = "hyperv_tests.rs"]
mod tests;
