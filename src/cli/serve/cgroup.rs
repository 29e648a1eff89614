//! Control groups (cgroup v2) of machines: they give weights and limits their effect.
//!
//! Linux, "Control Group v2" (`Documentation/admin-guide/cgroup-v2.rst`).

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::error::Problem;
use super::lock::Mutex;
use super::resources::{Cpu, Resources, Weight, weights};

/// The file system's magic number, as `statfs` returns it.
const CGROUP2: i64 = 0x6367_7270;
/// The period in which a limit of processor time counts, in microseconds: the kernel's default.
const PERIOD: u64 = 100_000;
/// The controllers that are used.
const CONTROLLERS: [&str; 2] = ["cpu", "memory"];

/// A directory of cgroup v2, with a group for each machine.
pub struct Groups {
    path: PathBuf,
    /// Number of the host's processors.
    processors: u32,
    /// Held while the groups' weights are written, so that the last ones are those of the last change.
    writing: Mutex<()>,
}

impl Groups {
    /// Opens a directory, which is created if its parent is there.
    ///
    /// # Errors
    /// Returns an error that names the file and the remedy if the directory cannot be used.
    pub fn open(path: &Path) -> io::Result<Self> {
        match fs::create_dir(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(in_file(path, &error)),
            _ => {}
        }
        let path = path.canonicalize().map_err(|error| in_file(path, &error))?;
        let kind = rustix::fs::statfs(&path).map_err(|error| in_file(&path, &error.into()))?.f_type;
        if kind != CGROUP2 {
            return Err(io::Error::other(format!(
                "{} is not a directory of cgroup v2; `findmnt -t cgroup2` shows where that is",
                path.display()
            )));
        }
        // The parent may have them already, and may belong to another user.
        if let Some(parent) = path.parent() {
            let _ = enable(parent);
        }
        let available = path.join("cgroup.controllers");
        let available = fs::read_to_string(&available).map_err(|error| in_file(&available, &error))?;
        if let Some(missing) =
            CONTROLLERS.iter().find(|name| !available.split_whitespace().any(|other| other == **name))
        {
            return Err(io::Error::other(format!(
                "{} has no controller {missing}; write +{missing} to cgroup.subtree_control in the directory above it, \
                 which must have no processes of its own (in a unit of systemd: Delegate=cpu memory and \
                 DelegateSubgroup=service), or give --cgroup another directory",
                path.display()
            )));
        }
        enable(&path)?;
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
        Ok(Self { path, processors, writing: Mutex::default() })
    }

    /// Returns the share of the processors that can be reserved, in percent of one.
    pub fn percent(&self) -> u32 {
        self.processors * 100
    }

    fn group(&self, name: &str) -> PathBuf {
        // A name alone could be that of a file of the directory, such as cpu.stat.
        self.path.join(format!("machine-{name}"))
    }

    /// Creates the group of a machine and moves its process there.
    ///
    /// # Errors
    /// Returns an error if the host does not allow it.
    pub fn place(&self, name: &str, resources: &Resources, process: u32) -> Result<(), Problem> {
        let group = self.group(name);
        let place = || {
            match fs::create_dir(&group) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(in_file(&group, &error)),
                _ => {}
            }
            self.limit(name, resources)?;
            write(&group.join("cgroup.procs"), &process.to_string())
        };
        place().map_err(|error| Problem::host(error.to_string()))
    }

    /// Sets the limits of a machine, whose weight is set by [`balance`](Self::balance).
    ///
    /// # Errors
    /// Returns an error if the host does not allow it.
    pub fn limit(&self, name: &str, resources: &Resources) -> io::Result<()> {
        let group = self.group(name);
        let bytes = |size: Option<viridian::config::Size>, none: &str| {
            size.map_or_else(|| none.to_owned(), |size| size.0.to_string())
        };
        let quota = resources.cpu.limit.map(|percent| u64::from(percent.0) * PERIOD / 100);
        let quota = quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
        write(&group.join("cpu.max"), &format!("{quota} {PERIOD}"))?;
        write(&group.join("memory.min"), &bytes(resources.memory.reserve, "0"))?;
        write(&group.join("memory.max"), &bytes(resources.memory.limit, "max"))
    }

    /// Sets the weights of all machines that run, which `running` returns.
    pub fn balance(&self, running: impl FnOnce() -> Vec<(String, Cpu)>) {
        let _writing = self.writing.lock();
        let (names, shares): (Vec<_>, Vec<_>) = running().into_iter().unzip();
        for (name, Weight(weight)) in names.iter().zip(weights(&shares, self.processors)) {
            // A machine that has just ended has no group.
            if let Err(error) = write(&self.group(name).join("cpu.weight"), &weight.to_string()) {
                log::debug!("{name}: {error}");
            }
        }
    }

    /// Removes the group of a machine whose process has ended.
    pub fn remove(&self, name: &str) {
        // It may have none.
        if let Err(error) = fs::remove_dir(self.group(name)) {
            log::debug!("{}: {error}", self.group(name).display());
        }
    }
}

/// Allows the groups of a directory to use the controllers.
fn enable(path: &Path) -> io::Result<()> {
    let file = path.join("cgroup.subtree_control");
    CONTROLLERS.iter().try_for_each(|name| write(&file, &format!("+{name}")))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    // Files of cgroup v2 are written at once, and are not created.
    let written = fs::OpenOptions::new().write(true).open(path);
    written.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes())).map_err(|error| in_file(path, &error))
}

fn in_file(path: &Path, error: &io::Error) -> io::Error {
    let remedy = match error.kind() {
        ErrorKind::PermissionDenied => {
            "; run the service as root, or give --cgroup a directory that belongs to its user"
        }
        ErrorKind::ResourceBusy => {
            "; a directory with processes of its own cannot have groups: give --cgroup another one"
        }
        _ => "",
    };
    io::Error::new(error.kind(), format!("{}: {error}{remedy}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_another_file_system_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: &Path| Groups::open(path).map(|_| ()).unwrap_err().to_string();
        assert!(refused(&folder.path().join("groups")).contains("is not a directory of cgroup v2"));
        assert!(refused(&folder.path().join("a/b")).contains("a/b: No such file"));
    }
}
