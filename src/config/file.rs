//! The settings as a TOML file.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::{Config, text};

/// No settings file is longer; a longer file is something else.
const MAX_LENGTH: u64 = 1 << 20;

/// Why a settings file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The host's answer.
        source: std::io::Error,
    },
    /// It is too long.
    #[error("{path}: longer than 1M; is this a settings file?")]
    Length {
        /// The file.
        path: PathBuf,
    },
    /// It is no text.
    #[error("{path}: not UTF-8 text; is this a settings file?")]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// It is a file for several machines.
    #[error("{path}: this file describes several machines, each a [[partition]]; run them with: viridian up {path}")]
    Several {
        /// The file.
        path: PathBuf,
    },
    /// Something in it is wrong.
    #[error("{path}:{}:{}: {message}", place.line, place.column)]
    Content {
        /// The file.
        path: PathBuf,
        /// Where in it.
        place: Place,
        /// What is wrong.
        message: String,
    },
}

/// Reads a file of settings.
pub(crate) fn read(path: &Path) -> Result<String, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let mut content = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_LENGTH + 1).read_to_string(&mut content).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => FileError::NotText { path: path.to_owned() },
        _ => failed(error),
    })?;
    if content.len() as u64 > MAX_LENGTH {
        return Err(FileError::Length { path: path.to_owned() });
    }
    Ok(content)
}

impl Config {
    /// Reads the settings file at `path`. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// The file cannot be read, or says something that no machine has; with file, line and the nearest known key.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let content = read(path)?;
        let table = DeTable::parse(&content).map_err(|error| (Problem::new(&content, None, &error)).in_file(path))?;
        if table.get_ref().contains_key("partition") {
            return Err(FileError::Several { path: path.to_owned() });
        }
        let mut config = from_table(&content, table).map_err(|problem| problem.in_file(path))?;
        config.rebase(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// Returns the settings file for these settings.
    ///
    /// # Errors
    /// A path that is not UTF-8: TOML cannot hold it.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

/// Reads a machine's settings out of a table of a file with that content.
pub(crate) fn from_table(content: &str, table: Spanned<DeTable<'_>>) -> Result<Config, Problem> {
    // Kept to find the key that an error is about.
    let keys = table.get_ref().clone();
    Config::deserialize(toml::Deserializer::from(table)).map_err(|error| Problem::new(content, Some(&keys), &error))
}

/// A place in a text file, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl Place {
    /// Returns the place of the byte at `offset`.
    fn of(content: &str, offset: usize) -> Self {
        let before = String::from_utf8_lossy(&content.as_bytes()[..offset.min(content.len())]);
        let last_line = before.rsplit('\n').next().unwrap_or_default();
        Self { line: 1 + before.matches('\n').count(), column: 1 + last_line.chars().count() }
    }
}

/// Something that is wrong in a TOML file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {message}", place.line, place.column)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What.
    pub message: String,
}

impl Problem {
    /// Says what a TOML error means, of which `keys` names the key if it is a value that is wrong.
    pub(crate) fn new(content: &str, keys: Option<&DeTable<'_>>, error: &toml::de::Error) -> Self {
        let offset = error.span().map_or(0, |span| span.start);
        let message = plain(error.message());
        let key = keys.and_then(|keys| key_at(keys, offset)).map_or(String::new(), |key| format!("{key}: "));
        Self { place: Place::of(content, offset), message: key + &message }
    }

    /// Says `message` of the place at `offset`.
    pub(crate) fn at(content: &str, offset: usize, message: &str) -> Self {
        Self { place: Place::of(content, offset), message: message.to_owned() }
    }

    /// Says that there is no such key, but `known` ones.
    pub(crate) fn unknown_key(content: &str, key: &Spanned<DeString<'_>>, known: &[&str]) -> Self {
        Self::at(content, key.span().start, &text::unknown("key", key.get_ref(), known))
    }

    /// Returns the same problem, with the part of the file that it is in.
    pub(crate) fn with_context(self, part: &str) -> Self {
        Self { message: format!("{part}: {}", self.message), ..self }
    }

    pub(crate) fn in_file(self, path: &Path) -> FileError {
        FileError::Content { path: path.to_owned(), place: self.place, message: self.message }
    }
}

/// Returns the dotted key whose value is at that offset.
fn key_at(table: &DeTable<'_>, offset: usize) -> Option<String> {
    // The span of a [table] is its heading's alone.
    let at = |(key, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| match value.get_ref() {
        DeValue::Table(table) => key_at(table, offset)
            .map(|below| format!("{}.{below}", key.get_ref()))
            .or_else(|| value.span().contains(&offset).then(|| key.get_ref().to_string())),
        _ => value.span().contains(&offset).then(|| key.get_ref().to_string()),
    };
    table.iter().find_map(at)
}

/// Serde's message in the words of TOML. It names every known key after an unknown one; the nearest is enough.
fn plain(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    match (message.starts_with("unknown field"), message.starts_with("unknown variant"), quoted.next()) {
        (true, _, Some(word)) => return text::unknown("key", word, &quoted.collect::<Vec<_>>()),
        (_, true, Some(word)) => return text::unknown("value", word, &quoted.collect::<Vec<_>>()),
        _ => {}
    }
    let found = message.strip_prefix("invalid type: ").or(message.strip_prefix("invalid value: "));
    match found.and_then(|rest| rest.split_once(", expected ")) {
        Some((found, expected)) => {
            let found = match found {
                "sequence" => "an array",
                "map" => "a table",
                other => other,
            };
            let expected = match expected {
                "f64" => "a number",
                "u8" | "u16" | "u32" | "u64" => "a whole number",
                other => other,
            };
            format!("expected {expected}, found {found}")
        }
        None => message.to_owned(),
    }
}
