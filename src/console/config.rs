//! The setting for a machine's console, as in the command line and the settings file.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The destination of a guest's console: `stdio`, `none`, `file:PATH`, `pty` or `unix:PATH`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ConsoleConfig {
    /// Standard input and output.
    #[default]
    Stdio,
    /// None: output is dropped, and there is no input.
    None,
    /// A file for output, which is created or truncated. There is no input.
    File(PathBuf),
    /// A new pseudo-terminal.
    Pty,
    /// A Unix stream socket at this path, which accepts one client at a time.
    Unix(PathBuf),
}

/// The reason why a text is not a console setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsoleParseError {
    /// The kind of console is unknown.
    #[error("there is no console {word:?}{}; give one of stdio, none, file:PATH, pty, unix:PATH",
        nearest.map(|word| format!(" (is {word} meant?)")).unwrap_or_default())]
    Unknown {
        /// The text.
        word: String,
        /// The most similar known word, if any is similar.
        nearest: Option<&'static str>,
    },
    /// The kind needs a path.
    #[error("console {kind} needs a path: {kind}:PATH")]
    NoPath {
        /// The kind of console.
        kind: &'static str,
    },
    /// The kind takes no path.
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

/// Returns the known word that is most similar to `word`, if any is similar.
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
