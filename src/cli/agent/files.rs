//! Files of this host that are copied to a guest, or from it.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::copy;

/// Returns the last part of a path.
fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// Completes a path in the guest that is a directory with the name of the file.
fn complete(target: &[u8], source: &[u8]) -> Vec<u8> {
    if target.ends_with(b"/") { [target, name(source)].concat() } else { target.to_vec() }
}

/// Returns the path on this host for a file of the guest: in `to`, if that is a directory.
fn place(to: &Path, source: &[u8]) -> PathBuf {
    let is_folder = to.is_dir() || to.as_os_str().as_bytes().ends_with(b"/");
    if is_folder { to.join(OsStr::from_bytes(name(source))) } else { to.to_owned() }
}

/// Copies a file with its permissions to a path in the guest. Returns the number of its bytes.
///
/// # Errors
/// Returns an error of either side.
pub fn put(connection: &UnixStream, from: &Path, path: &[u8], replace: bool) -> anyhow::Result<u64> {
    let file = File::open(from)?;
    let metadata = file.metadata()?;
    anyhow::ensure!(metadata.is_file(), "it is not a file; to copy a directory, pass an archive through viridian exec");
    let path = complete(path, from.as_os_str().as_bytes());
    Ok(copy::put(connection, file, &path, metadata.permissions().mode() & 0o7777, replace)?)
}

/// Copies a file of the guest with its permissions. Returns its path on this host, and the number of its bytes. It is complete, or not
/// there.
///
/// # Errors
/// Returns an error of either side.
pub fn get(connection: &UnixStream, path: &[u8], to: &Path, replace: bool) -> anyhow::Result<(PathBuf, u64)> {
    let to = place(to, path);
    let mut partial = to.clone().into_os_string();
    partial.push(".viridian-copy");
    anyhow::ensure!(
        replace || !to.exists(),
        "{} is there already; --overwrite of copy, or --force of agent-copy, replaces it",
        to.display()
    );
    let open = |mode: u32, _| {
        // The guest does not choose who may run a file as somebody else.
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        file.set_permissions(fs::Permissions::from_mode(mode & 0o777))?;
        Ok(file)
    };
    let result = copy::get(connection, path, open).map_err(anyhow::Error::from).and_then(|(_, bytes)| {
        // What may not be replaced stays if it was created meanwhile: hard_link fails then.
        let moved = if replace { fs::rename(&partial, &to) } else { fs::hard_link(&partial, &to) };
        moved.context("cannot give the file its name").map(|()| bytes)
    });
    if !replace || result.is_err() {
        let _ = fs::remove_file(&partial);
    }
    result.map(|bytes| (to, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_its_name_in_a_directory() {
        assert_eq!(complete(b"/tmp/", b"a/b"), b"/tmp/b");
        assert_eq!(complete(b"/tmp", b"a/b"), b"/tmp");
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(place(folder.path(), b"/var/log/x"), folder.path().join("x"));
        assert_eq!(place(Path::new("new/"), b"/var/log/x"), Path::new("new/x"));
        assert_eq!(place(Path::new("new"), b"/var/log/x"), Path::new("new"));
    }
}
