//! `--hv` and `--trace`: the Hyper-V features that the guest is offered, and what is traced.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::text;
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

/// A kind of event that can be traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceKind {
    /// Hypercalls.
    Hypercall,
    /// Synthetic MSRs.
    Msr,
    /// SynIC messages, event flags and interrupts.
    Synic,
    /// VMBus control messages, and the headers of packets.
    Vmbus,
    /// Storage requests and completions.
    Storage,
    /// NVSP and RNDIS messages, and frames.
    Network,
}

impl TraceKind {
    const ALL: [(&'static str, Self); 6] = [
        ("hypercall", Self::Hypercall),
        ("msr", Self::Msr),
        ("synic", Self::Synic),
        ("vmbus", Self::Vmbus),
        ("storage", Self::Storage),
        ("network", Self::Network),
    ];
}

/// `--trace KIND[,KIND…][=FILE]`: a line for each event, on standard error or into a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Trace {
    /// The kinds of events to trace.
    pub kinds: Vec<TraceKind>,
    /// The output file; standard error if `None`.
    pub file: Option<PathBuf>,
}

impl FromStr for Trace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kinds, file) = match text.split_once('=') {
            Some((_, "")) => return Err(format!("`{text}` has no file name after the equals sign")),
            Some((kinds, file)) => (kinds, Some(PathBuf::from(file))),
            None => (text, None),
        };
        if kinds == "all" {
            return Ok(Self { kinds: TraceKind::ALL.map(|(_, kind)| kind).into(), file });
        }
        let mut names = TraceKind::ALL.map(|(name, _)| name).to_vec();
        names.push("all");
        let kind = |word: &str| {
            let known = TraceKind::ALL.iter().find(|(name, _)| *name == word);
            known.map(|(_, kind)| *kind).ok_or_else(|| text::unknown("kind of trace", word, &names))
        };
        Ok(Self { kinds: kinds.split(',').map(kind).collect::<Result<_, _>>()?, file })
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            |kind: &TraceKind| TraceKind::ALL.iter().find(|(_, known)| known == kind).map_or("", |(name, _)| *name);
        match TraceKind::ALL.iter().all(|(_, kind)| self.kinds.contains(kind)) {
            true => formatter.write_str("all")?,
            false => formatter.write_str(&self.kinds.iter().map(name).collect::<Vec<_>>().join(","))?,
        }
        self.file.as_ref().map_or(Ok(()), |file| write!(formatter, "={}", file.display()))
    }
}

impl TryFrom<String> for Trace {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Trace> for String {
    fn from(trace: Trace) -> Self {
        trace.to_string()
    }
}

#[cfg(test)]
#[path = "hyperv_tests.rs"]
mod tests;
