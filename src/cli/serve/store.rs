//! The state directory: the definitions on disk, and the token.
//!
//! A file is written under another name, synchronized, and renamed, and then its folder is synchronized. So a definition is there as
//! a whole or not at all, whenever the service or the host ends.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};
use viridian::process::path_remedy;

use super::definition::{Definition, MAX_LENGTH};
use super::error::Problem;
use super::meter::Meter;
use super::written::check_name;

/// Maximum length of the file of a meter.
const MAX_METER: u64 = 16 << 10;
/// Shortest token.
const TOKEN: usize = 32;

/// The state directory. Only one process has it.
pub struct Store {
    path: PathBuf,
    /// Number of the next file that is not in its place yet.
    next: AtomicU64,
    _lock: File,
}

/// The content of the state directory.
#[derive(Default)]
pub struct Found {
    /// Machines with their definitions, or with the reason why a definition is broken.
    pub machines: BTreeMap<String, Result<Definition, Problem>>,
    /// Files that are no definitions, with the reason. They are left alone.
    pub unknown: Vec<(PathBuf, String)>,
}

impl Store {
    /// Opens the state directory, which is created if necessary.
    ///
    /// # Errors
    /// Returns an error if it cannot be written, or if another service uses it.
    pub fn open(path: &Path) -> io::Result<Self> {
        for folder in [path, &path.join("machines"), &path.join("new"), &path.join("running"), &path.join("meters")] {
            create(folder).map_err(|error| match error.kind() {
                ErrorKind::AlreadyExists => {
                    io::Error::new(error.kind(), format!("{} is not a directory; choose another one", folder.display()))
                }
                _ => in_file(folder, &error),
            })?;
        }
        let path = path.canonicalize().map_err(|error| in_file(path, &error))?;
        let lock = lock(&path.join("lock"))?;
        let store = Self { path, next: AtomicU64::new(0), _lock: lock };
        // What another service was writing when it ended.
        for entry in fs::read_dir(store.path.join("new"))?.flatten() {
            let _ = fs::remove_file(entry.path());
        }
        Ok(store)
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join("machines").join(format!("{name}.toml"))
    }

    /// Returns a path that nobody else has.
    fn fresh(&self) -> PathBuf {
        self.path.join("new").join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Reads all definitions.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be read. A broken file is not an error.
    pub fn load_all(&self) -> io::Result<Found> {
        let folder = self.path.join("machines");
        let mut found = Found::default();
        for entry in fs::read_dir(&folder).map_err(|error| in_file(&folder, &error))? {
            let path = entry.map_err(|error| in_file(&folder, &error))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".toml"));
            match name.map(|name| check_name(name).map(|()| name)) {
                None => found.unknown.push((path, "its name does not end with .toml".into())),
                Some(Err(problem)) => found.unknown.push((path, problem.message)),
                Some(Ok(name)) => _ = found.machines.insert(name.to_owned(), self.load(name)),
            }
        }
        Ok(found)
    }

    /// Reads a definition.
    ///
    /// # Errors
    /// Returns an error if it is broken.
    pub fn load(&self, name: &str) -> Result<Definition, Problem> {
        let path = self.file(name);
        let failed = |error: io::Error| match error.kind() {
            ErrorKind::InvalidData => Problem::invalid(format!("{}: not UTF-8 text", path.display())),
            _ => Problem::host(format!("{}: {error}", path.display())),
        };
        let metadata = fs::metadata(&path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(Problem::invalid(format!("{}: not a regular file", path.display())));
        }
        let mut text = String::new();
        let file = File::open(&path).map_err(failed)?;
        file.take(MAX_LENGTH as u64 + 1).read_to_string(&mut text).map_err(failed)?;
        self.parse(&text)
    }

    /// Parses a definition.
    ///
    /// # Errors
    /// Returns an error with the place of the mistake.
    pub fn parse(&self, text: &str) -> Result<Definition, Problem> {
        Definition::parse(text, &self.fresh())
    }

    /// Writes a definition. When this returns, it survives the end of the host.
    ///
    /// # Errors
    /// Returns an error if it cannot be written. Then the previous one is still there.
    pub fn put(&self, name: &str, definition: &Definition) -> io::Result<()> {
        self.replace(&self.file(name), definition.text.as_bytes(), 0o600)
    }

    /// Removes a definition.
    ///
    /// # Errors
    /// Returns an error if it cannot be removed. It is not an error if it is not there.
    pub fn delete(&self, name: &str) -> io::Result<()> {
        let path = self.file(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(in_file(&path, &error)),
            _ => synchronize(&path),
        }
    }

    /// Returns the machines that were running when their host ended them, or are running.
    ///
    /// # Errors
    /// Returns an error if the directory cannot be read.
    pub fn running(&self) -> io::Result<BTreeSet<String>> {
        let folder = self.path.join("running");
        let entries = fs::read_dir(&folder).map_err(|error| in_file(&folder, &error))?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// Writes down whether a machine is running. When this returns, it survives the end of the host.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub fn set_running(&self, name: &str, is_running: bool) -> io::Result<()> {
        let path = self.path.join("running").join(name);
        let changed = if is_running {
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).map(drop)
        } else {
            fs::remove_file(&path)
        };
        match changed {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(in_file(&path, &error)),
            _ => synchronize(&path),
        }
    }

    /// Returns what a machine has used according to the service before this one. A file that is missing or broken is a new meter.
    pub fn meter(&self, name: &str) -> Meter {
        let path = self.path.join("meters").join(name);
        let read = || {
            let mut text = String::new();
            File::open(&path).ok()?.take(MAX_METER).read_to_string(&mut text).ok()?;
            serde_json::from_str(&text).ok()
        };
        read().unwrap_or_else(Meter::new)
    }

    /// Writes down what a machine has used.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub fn save_meter(&self, name: &str, meter: &Meter) -> io::Result<()> {
        let text = serde_json::to_vec(meter)?;
        self.replace(&self.path.join("meters").join(name), &text, 0o600)
    }

    /// Forgets what a machine has used.
    pub fn remove_meter(&self, name: &str) {
        let _ = fs::remove_file(self.path.join("meters").join(name));
    }

    /// Returns the token that requests over TCP must have. It is made if there is none.
    ///
    /// # Errors
    /// Returns an error if the file is readable by others, or is not a token.
    pub fn token(&self) -> io::Result<String> {
        let path = self.path.join("token");
        let remedy = |problem: &str| {
            let text = format!("{}: {problem}; remove the file, and a new token is made", path.display());
            io::Error::new(ErrorKind::InvalidData, text)
        };
        let metadata = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let text = random()?;
                self.replace(&path, format!("{text}\n").as_bytes(), 0o600)?;
                return Ok(text);
            }
            other => other.map_err(|error| in_file(&path, &error))?,
        };
        if !is_secret(&metadata) {
            return Err(remedy("others can read it, or it is no file of this user"));
        }
        let text = fs::read_to_string(&path).map_err(|error| in_file(&path, &error))?;
        let token = text.trim();
        if token.len() < TOKEN || !token.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(remedy("it has no token of at least 32 letters and digits"));
        }
        Ok(token.to_owned())
    }

    /// Writes a file of the directory, as a whole or not at all.
    ///
    /// # Errors
    /// Returns an error if it cannot be written. Then the previous one is still there.
    pub fn replace(&self, path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
        let fresh = self.fresh();
        let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&fresh, path)
        });
        if let Err(error) = written {
            let _ = fs::remove_file(&fresh);
            return Err(in_file(path, &error));
        }
        synchronize(path)
    }
}

/// Returns a new token.
///
/// # Errors
/// Returns an error if the host has no random numbers.
pub fn random() -> io::Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Returns `true` for a file of this user that others can neither read nor write.
pub fn is_secret(metadata: &fs::Metadata) -> bool {
    metadata.is_file() && metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o077 == 0
}

/// Creates a directory that only this user reads.
fn create(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Takes a lock that lasts until the process ends.
///
/// # Errors
/// Returns an error if another process has it.
pub fn lock(path: &Path) -> io::Result<File> {
    let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = options.map_err(|error| in_file(path, &error))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
        rustix::io::Errno::WOULDBLOCK => {
            let text = format!("{}: another viridian serve uses this directory; stop it first", path.display());
            io::Error::new(ErrorKind::AddrInUse, text)
        }
        error => in_file(path, &error.into()),
    })?;
    Ok(file)
}

/// Flushes the folder of a file to the disk.
fn synchronize(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| in_file(folder, &error))
}

fn in_file(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}{}", path.display(), path_remedy(error)))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
