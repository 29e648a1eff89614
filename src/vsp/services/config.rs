//! The settings of the services.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::service::Forced;
use super::table::Kind;
use super::wire::Version;
use crate::wire::held_as_text;

/// The services of a machine, and the versions that they offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ServiceOptions {
    /// The setting of all services without one of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shutdown: Option<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat: Option<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kvp: Option<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vss: Option<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_copy: Option<Choice>,
    /// The only framework version that is offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    framework: Option<Version>,
}

/// A service is on, off, or on with one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Choice {
    #[default]
    On,
    Off,
    Only(Version),
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            text => text
                .parse()
                .map(Self::Only)
                .map_err(|_| format!("`{text}` is neither on, off nor a version such as 3.0")),
        }
    }
}

impl std::fmt::Display for Choice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::On => formatter.write_str("on"),
            Self::Off => formatter.write_str("off"),
            Self::Only(version) => version.fmt(formatter),
        }
    }
}

held_as_text!(Choice);

impl ServiceOptions {
    /// No services.
    pub const NONE: Self = Self {
        all: Some(Choice::Off),
        shutdown: None,
        time: None,
        heartbeat: None,
        kvp: None,
        vss: None,
        file_copy: None,
        framework: None,
    };

    fn choice(&self, kind: Kind) -> Choice {
        let own = match kind {
            Kind::Shutdown => self.shutdown,
            Kind::Time => self.time,
            Kind::Heartbeat => self.heartbeat,
            Kind::KeyValue => self.kvp,
            Kind::Vss => self.vss,
            Kind::FileCopy => self.file_copy,
        };
        own.or(self.all).unwrap_or_default()
    }

    /// Returns the services of the machine, with the versions that they are limited to.
    pub fn services(&self) -> impl Iterator<Item = (Kind, Forced)> + '_ {
        Kind::ALL.into_iter().filter_map(|kind| {
            let version = match self.choice(kind) {
                Choice::Off => return None,
                Choice::On => None,
                Choice::Only(version) => Some(version),
            };
            Some((kind, Forced { framework: self.framework, version }))
        })
    }

    /// Checks that the versions exist.
    ///
    /// # Errors
    /// Returns an error with the versions that do.
    pub fn check(&self) -> Result<(), ServiceOptionsError> {
        for (kind, forced) in self.services() {
            let profile = kind.profile();
            let unknown =
                |what, version, known: &[Version]| ServiceOptionsError { what, version, known: known.to_vec() };
            if let Some(version) = forced.version.filter(|version| !profile.versions.contains(version)) {
                return Err(unknown(profile.name, version, profile.versions));
            }
            if let Some(version) = forced.framework.filter(|version| !profile.frameworks.contains(version)) {
                return Err(unknown("framework", version, profile.frameworks));
            }
        }
        Ok(())
    }
}

/// A version does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}={version}: there is no such version; known are {}", list(known))]
pub struct ServiceOptionsError {
    what: &'static str,
    version: Version,
    known: Vec<Version>,
}

fn list(versions: &[Version]) -> String {
    versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
