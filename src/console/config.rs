//! Which console a machine has, as the command line and the configuration file spell it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a guest's console goes: `stdio`, `none`, `file:PATH`, `pty` or `unix:PATH`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ConsoleConfig {
    /// Standard input and output.
    #[default]
    Stdio,
    /// Nowhere: output is dropped and nothing is typed.
    None,
    /// Output into a file, which is created or truncated. Nothing is typed.
    File(PathBuf),
    /// A new pseudo-terminal.
    Pty,
    /// A Unix stream socket at this path that takes one client at a time.
    Unix(PathBuf),
}

/// Why a console cannot be read from a string.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsoleParseError {
    /// No such kind of console.
    #[error("there is no console {word:?}{}; give one of stdio, none, file:PATH, pty, unix:PATH",
        nearest.map(|word| format!(" (is {word} meant?)")).unwrap_or_default())]
    Unknown {
        /// What was given.
        word: String,
        /// The known word that is most like it, if any is.
        nearest: Option<&'static str>,
    },
    /// A kind that needs a path has none.
    #[error("console {kind} needs a path: {kind}:PATH")]
    NoPath {
        /// The kind of console.
        kind: &'static str,
    },
    /// A kind that has no path was given one.
    #[error("console {kind} takes no path: give {kind} alone, or file:PATH to write to a file")]
    NeedlessPath {
        /// The kind of console.
        kind: &'static str,
    },
}

const KINDS: [&str; 5] = ["stdio", "none", "file", "pty", "unix"];

impl FromStr for ConsoleConfig {
    type Err = ConsoleParseError;

    fn from_str(text: &str) -> Result<Self, ConsoleParseError> {
        let (word, path) = match text.split_once(':') {
            Some((word, path)) => (word, Some(path)),
            None => (text, None),
        };
        let with_path = |kind, make: fn(PathBuf) -> Self| match path {
            Some(path) if !path.is_empty() => Ok(make(path.into())),
            _ => Err(ConsoleParseError::NoPath { kind }),
        };
        let alone = |kind, console| match path {
            None => Ok(console),
            Some(_) => Err(ConsoleParseError::NeedlessPath { kind }),
        };
        match word {
            "stdio" => alone("stdio", Self::Stdio),
            "none" => alone("none", Self::None),
            "pty" => alone("pty", Self::Pty),
            "file" => with_path("file", Self::File),
            "unix" => with_path("unix", Self::Unix),
            _ => Err(ConsoleParseError::Unknown { word: text.into(), nearest: nearest(word) }),
        }
    }
}

/// Returns the known word that is most like `word`, if it is like one at all.
fn nearest(word: &str) -> Option<&'static str> {
    let likeness = |kind: &&str| strsim::damerau_levenshtein(&word.to_lowercase(), kind);
    KINDS.into_iter().min_by_key(likeness).filter(|kind| likeness(kind) <= 2)
}

impl fmt::Display for ConsoleConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdio => formatter.write_str("stdio"),
            Self::None => formatter.write_str("none"),
            Self::File(path) => write!(formatter, "file:{}", path.display()),
            Self::Pty => formatter.write_str("pty"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl From<ConsoleConfig> for String {
    fn from(config: ConsoleConfig) -> Self {
        config.to_string()
    }
}

impl TryFrom<String> for ConsoleConfig {
    type Error = ConsoleParseError;

    fn try_from(text: String) -> Result<Self, ConsoleParseError> {
        text.parse()
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
