//! The settings as a TOML file.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::{Config, text};
use crate::host::paths;

/// Maximum size of a settings file. A longer file is something else.
const MAX_LENGTH: u64 = 1 << 20;

/// An error in a settings file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("{path}: cannot be read: {source}{}", paths::after(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the host.
        source: std::io::Error,
    },
    /// The file is too long.
    #[error("{path}: longer than 1M; is this a settings file?")]
    Length {
        /// The file.
        path: PathBuf,
    },
    /// The file is not text.
    #[error("{path}: not UTF-8 text; is this a settings file?")]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// The file describes several machines.
    #[error("{path}: this file describes several machines, each a [[partition]]; run them with: viridian up {path}")]
    Several {
        /// The file.
        path: PathBuf,
    },
    /// The content is invalid.
    #[error("{path}:{}:{}: {message}", place.line, place.column)]
    Content {
        /// The file.
        path: PathBuf,
        /// The place of the error.
        place: Position,
        /// The description of the error.
        message: String,
    },
}

/// Reads a settings file.
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
    /// Returns an error if the file cannot be read or is invalid. The error names file and line, and for an unknown key
    /// the nearest known one.
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

    /// Returns these settings as the text of a settings file.
    ///
    /// # Errors
    /// Returns an error if a path is not UTF-8, because TOML cannot express it.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

/// Reads the settings of a machine from a table of a file with that content.
pub(crate) fn from_table(content: &str, table: Spanned<DeTable<'_>>) -> Result<Config, Problem> {
    // Kept to find the key that an error is about.
    let keys = table.get_ref().clone();
    Config::deserialize(toml::Deserializer::from(table)).map_err(|error| Problem::new(content, Some(&keys), &error))
}

/// A position in a text file, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl Position {
    /// Returns the position of the byte at `offset`.
    fn of(content: &str, offset: usize) -> Self {
        let before = String::from_utf8_lossy(&content.as_bytes()[..offset.min(content.len())]);
        let last_line = before.rsplit('\n').next().unwrap_or_default();
        Self { line: 1 + before.matches('\n').count(), column: 1 + last_line.chars().count() }
    }
}

/// An error in the content of a TOML file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {message}", place.line, place.column)]
pub struct Problem {
    /// Its position.
    pub place: Position,
    /// Its description.
    pub message: String,
}

impl Problem {
    /// Translates an error of the TOML parser. `keys` is used to name the key whose value is wrong.
    pub(crate) fn new(content: &str, keys: Option<&DeTable<'_>>, error: &toml::de::Error) -> Self {
        let offset = error.span().map_or(0, |span| span.start);
        let message = plain(error.message());
        let key = keys.and_then(|keys| key_at(keys, offset)).map_or(String::new(), |key| format!("{key}: "));
        Self { place: Position::of(content, offset), message: key + &message }
    }

    /// Creates an error with `message` at `offset`.
    pub(crate) fn at(content: &str, offset: usize, message: &str) -> Self {
        Self { place: Position::of(content, offset), message: message.to_owned() }
    }

    /// Creates an error for an unknown key; `known` lists the valid ones.
    pub(crate) fn unknown_key(content: &str, key: &Spanned<DeString<'_>>, known: &[&str]) -> Self {
        Self::at(content, key.span().start, &text::unknown("key", key.get_ref(), known))
    }

    /// Adds the name of the part of the file to the error.
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

/// Rewrites serde's message in TOML's terms. Of the known keys that serde lists after an unknown one, it keeps the
/// nearest.
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
