//! The settings as a TOML file.

use std::io::Read;
use std::path::{Path, PathBuf};

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
    /// Something in it is wrong.
    #[error("{path}:{line}: {message}")]
    Content {
        /// The file.
        path: PathBuf,
        /// Where in it, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
}

/// Reads a file of settings.
pub(crate) fn read(path: &Path) -> Result<String, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let mut content = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_LENGTH + 1).read_to_string(&mut content).map_err(failed)?;
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
        let mut config: Self = toml::from_str(&content).map_err(|error| {
            let before = &content.as_bytes()[..error.span().map_or(0, |span| span.start).min(content.len())];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            FileError::Content { path: path.to_owned(), line, message: with_nearest(error.message()) }
        })?;
        config.rebase(path.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// The settings file for these settings.
    ///
    /// # Errors
    /// A path that is not UTF-8: TOML cannot hold it.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

/// Serde names every known key after an unknown one; the nearest is enough.
pub(crate) fn with_nearest(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    match (message.starts_with("unknown field"), message.starts_with("unknown variant"), quoted.next()) {
        (true, _, Some(word)) => text::unknown("key", word, &quoted.collect::<Vec<_>>()),
        (_, true, Some(word)) => text::unknown("value", word, &quoted.collect::<Vec<_>>()),
        _ => message.to_owned(),
    }
}
