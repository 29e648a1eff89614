//! The audit log: a line of JSON for each request that changes something or whose client is unknown, in the state directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::lock::Mutex;

/// The file in the state directory. Older ones have a number after it.
const FILE: &str = "audit.log";
/// Length of a file after which the next one begins.
const MAX_LENGTH: u64 = 4 << 20;
/// Number of older files that are kept.
const KEPT: u32 = 4;
/// Maximum number of lines about unknown clients in a while. The log has room for days of them.
const MAX_REFUSED: u32 = 20;
const WHILE: Duration = Duration::from_secs(60);

/// The log.
pub struct Audit {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// The file, if it could be opened.
    file: Option<File>,
    length: u64,
    /// The last line could not be written, which has been said.
    has_failed: bool,
    refused: Refused,
}

/// The requests of unknown clients in a while.
#[derive(Default)]
struct Refused {
    /// Start of the period.
    begun: Option<Instant>,
    /// Lines that were written in it.
    written: u32,
    /// Requests without a line since the last one.
    left_out: u64,
}

impl Refused {
    /// Returns `true` if another one has a line, with the number of those before it that have none.
    fn count(&mut self, now: Instant) -> Option<u64> {
        if self.begun.is_none_or(|begun| now.saturating_duration_since(begun) >= WHILE) {
            (self.begun, self.written) = (Some(now), 0);
        }
        if self.written >= MAX_REFUSED {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Audit {
    /// Opens the log.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened.
    pub fn open(state: &Path) -> io::Result<Self> {
        let path = state.join(FILE);
        let (file, length) = open(&path)?;
        Ok(Self {
            path,
            state: Mutex::new(State { file: Some(file), length, has_failed: false, refused: Refused::default() }),
        })
    }

    /// Writes the line of a request whose client is unknown, unless there were too many: who guesses tokens does not fill the log.
    pub fn note_refused(&self, entry: &Value) {
        let left_out = self.state.lock().refused.count(Instant::now());
        match left_out {
            None => {}
            Some(0) => self.note(entry),
            Some(left_out) => {
                let mut entry = entry.clone();
                entry["left-out"] = left_out.into();
                self.note(&entry);
            }
        }
    }

    /// Writes a line. A failure is logged once; the service goes on.
    pub fn note(&self, entry: &Value) {
        let mut state = self.state.lock();
        let result = self.write(&mut state, format!("{entry}\n").as_bytes());
        match result {
            Ok(()) => state.has_failed = false,
            Err(error) if !std::mem::replace(&mut state.has_failed, true) => {
                log::error!("{}: {error}; requests are carried out, and not logged", self.path.display());
            }
            Err(_) => {}
        }
    }

    fn write(&self, state: &mut State, line: &[u8]) -> io::Result<()> {
        if state.length >= MAX_LENGTH {
            state.file = None;
            self.rotate()?;
        }
        if state.file.is_none() {
            let (file, length) = open(&self.path)?;
            (state.file, state.length) = (Some(file), length);
        }
        if let Some(file) = &mut state.file {
            // One write, so a line is there as a whole unless the disk is full.
            file.write_all(line)?;
            state.length += line.len() as u64;
        }
        Ok(())
    }

    /// Gives each file the next number. The oldest is removed.
    fn rotate(&self) -> io::Result<()> {
        let older = |number: u32| match number {
            0 => self.path.clone(),
            number => self.path.with_file_name(format!("{FILE}.{number}")),
        };
        for number in (0..KEPT).rev() {
            match fs::rename(older(number), older(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let file = file.map_err(at)?;
    let length = file.metadata().map_err(at)?.len();
    Ok((file, length))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_are_appended_and_old_files_go() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        audit.note(&json!({ "what": "start" }));
        drop(audit);
        let audit = Audit::open(folder.path()).unwrap();
        audit.note(&json!({ "what": "stop" }));
        let path = folder.path().join(FILE);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"what\":\"start\"}\n{\"what\":\"stop\"}\n");
        for number in 0..7 {
            audit.state.lock().length = MAX_LENGTH;
            audit.note(&json!({ "number": number }));
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"number\":6}\n");
        assert_eq!(fs::read_to_string(folder.path().join("audit.log.4")).unwrap(), "{\"number\":2}\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
    }

    #[test]
    fn unknown_clients_have_some_lines_and_the_others_are_counted() {
        let mut refused = Refused::default();
        let now = Instant::now();
        for _ in 0..MAX_REFUSED {
            assert_eq!(refused.count(now), Some(0));
        }
        assert_eq!((refused.count(now), refused.count(now + WHILE / 2)), (None, None));
        assert_eq!((refused.count(now + WHILE), refused.count(now + WHILE)), (Some(2), Some(0)));
    }

    #[test]
    fn a_log_that_cannot_be_written_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(folder.path()).unwrap();
        fs::remove_file(folder.path().join(FILE)).unwrap();
        fs::create_dir(folder.path().join(FILE)).unwrap();
        audit.state.lock().file = None;
        audit.note(&json!({}));
        assert!(audit.state.lock().has_failed);
        fs::remove_dir(folder.path().join(FILE)).unwrap();
        audit.note(&json!({}));
        assert!(!audit.state.lock().has_failed);
        assert_eq!(fs::read_to_string(folder.path().join(FILE)).unwrap(), "{}\n");
    }
}
