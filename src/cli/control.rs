//! `--control`: the sockets through which other processes control the machines of this process.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use viridian::control::Control;
use viridian::fleet::RunningFleet;

use super::Wrong;

/// The variable that names the directory of the sockets.
pub const VARIABLE: &str = "VIRIDIAN_RUNTIME_DIR";

/// The option of `run` and `up`.
#[derive(clap::Args)]
pub struct Sockets {
    /// Control socket, on which viridian list, inspect, stop and others reach the machine: off, a path for the socket,
    /// or a directory for NAME.sock [default: $XDG_RUNTIME_DIR/viridian, or /run/viridian for root]
    #[arg(long, value_name = "off|PATH")]
    control: Option<PathBuf>,
}

impl Sockets {
    /// Opens the sockets of the machines. Returns `None` if there are none: they are off, or this user has no directory for them.
    ///
    /// # Errors
    /// Returns an error if sockets cannot be opened at the path that the user has chosen.
    pub fn open(&self, fleet: &RunningFleet) -> anyhow::Result<Option<Control>> {
        match &self.control {
            Some(path) if path.as_os_str() == "off" => Ok(None),
            Some(path) => Control::open(fleet, path).map(Some).context(Wrong("--control")),
            None => {
                let opened = default_directory().and_then(|directory| {
                    create(&directory)?;
                    Control::open(fleet, &directory)
                });
                let note = |error: &io::Error| log::info!("there is no control socket: {error}");
                Ok(opened.inspect_err(note).ok())
            }
        }
    }
}

/// Returns the directory of this user's sockets, which may not exist.
///
/// # Errors
/// Returns an error if the environment does not name any.
pub fn default_directory() -> io::Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(directory) = variable(VARIABLE) {
        return Ok(directory);
    }
    if rustix::process::geteuid().is_root() {
        return Ok("/run/viridian".into());
    }
    let unknown = || io::Error::new(ErrorKind::NotFound, "XDG_RUNTIME_DIR is not set; log in by PAM, or set it");
    Ok(variable("XDG_RUNTIME_DIR").ok_or_else(unknown)?.join("viridian"))
}

/// The name of the service's socket in the directory. It does not end with .sock: it is not a machine's.
pub const SERVICE: &str = "serve.socket";

/// Returns the path of the socket at which commands find the service.
///
/// # Errors
/// Returns an error if the environment does not name any directory for it.
pub fn default_service() -> io::Result<PathBuf> {
    default_directory().map(|directory| directory.join(SERVICE))
}

/// Creates the directory if it does not exist. Nobody else may change it.
pub fn create(path: &Path) -> io::Result<()> {
    let at = |error: &io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let found = match fs::symlink_metadata(path) {
        // It is there after the first machine.
        Err(error) if error.kind() == ErrorKind::NotFound => match DirBuilder::new().mode(0o700).create(path) {
            // Another process was faster.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => fs::symlink_metadata(path),
            other => return other.map_err(|error| at(&error)),
        },
        found => found,
    };
    let found = found.map_err(|error| at(&error))?;
    let is_own = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
    if is_own && found.permissions().mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(at(&io::Error::other("others can write there, or it is no directory of this user; remove it")))
}
