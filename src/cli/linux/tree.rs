//! Copies of the host's files for the initramfs.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::Context;
use viridian::process::path_remedy;

use super::archive::Archive;

/// Maximum size of all copies: they take guest memory.
const MAX_SIZE: usize = 512 << 20;

/// Adds `HOST[:GUEST]`, a file or a folder with all that is in it.
///
/// # Errors
/// Returns an error if it cannot be read, is neither, or is too large.
pub fn add(archive: &mut Archive, text: &OsStr) -> anyhow::Result<()> {
    let bytes = text.as_bytes();
    let (host, guest) = match bytes.windows(2).position(|pair| pair == b":/") {
        Some(place) => (OsStr::from_bytes(&bytes[..place]), OsStr::from_bytes(&bytes[place + 1..]).to_owned()),
        None => (text, named_alike(Path::new(text))?),
    };
    let guest = guest.to_str().context("the guest's path is not UTF-8").with_context(|| text.display().to_string())?;
    let guest = guest.trim_matches('/');
    let is_plain = !guest.is_empty() && guest.split('/').all(|part| !matches!(part, "" | "." | ".."));
    anyhow::ensure!(is_plain, "--file {}: the guest's path has to be absolute, without . and ..", text.display());
    for (place, _) in guest.match_indices('/') {
        archive.directory(&guest[..place]);
    }
    // A link that the user names is followed; links inside of a folder are copied as links.
    let host = fs::canonicalize(host)
        .map_err(|error| anyhow::anyhow!("--file {}: {error}{}", host.display(), path_remedy(&error)))?;
    copy(archive, &host, guest).with_context(|| format!("--file {}", text.display()))
}

fn named_alike(host: &Path) -> anyhow::Result<OsString> {
    let name = host.file_name().with_context(|| format!("--file {}: name the guest's path, too", host.display()))?;
    Ok(name.to_owned())
}

fn copy(archive: &mut Archive, host: &Path, guest: &str) -> anyhow::Result<()> {
    let shown = || host.display().to_string();
    let metadata = fs::symlink_metadata(host).with_context(shown)?;
    let kind = metadata.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(host).with_context(shown)?;
        archive.symlink(guest, &target.to_string_lossy());
    } else if kind.is_dir() {
        archive.directory(guest);
        let mut entries = fs::read_dir(host).and_then(Iterator::collect::<Result<Vec<_>, _>>).with_context(shown)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            copy(archive, &entry.path(), &format!("{guest}/{}", entry.file_name().to_string_lossy()))?;
        }
    } else if kind.is_file() {
        let left = MAX_SIZE.saturating_sub(archive.size());
        anyhow::ensure!(
            metadata.size() <= left as u64,
            "{}: the guest's files are larger than {} MiB in all",
            host.display(),
            MAX_SIZE >> 20
        );
        let content = fs::read(host).with_context(shown)?;
        archive.file(guest, metadata.permissions().mode() & 0o7777, &content);
    } else {
        log::info!("{}: left out: it is neither a file nor a folder nor a link", host.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(text: &str) -> anyhow::Result<String> {
        let mut archive = Archive::default();
        add(&mut archive, OsStr::new(text))?;
        Ok(String::from_utf8_lossy(&archive.finish()).into_owned())
    }

    #[test]
    fn files_get_their_names_and_the_folders_above_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("driver.ko");
        fs::write(&path, "content").unwrap();
        let path = path.display();
        assert!(added(&path.to_string()).unwrap().contains("driver.ko\0"));
        let archive = added(&format!("{path}:/opt/a/b.ko")).unwrap();
        let place = |name: &str| archive.find(&format!("{name}\0")).unwrap();
        assert!(place("opt") < place("opt/a") && place("opt/a") < place("opt/a/b.ko"));
        let whole = added(&format!("{}:/all", folder.path().display())).unwrap();
        assert!(whole.contains("all/driver.ko\0") && whole.contains("content"));
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for text in ["/etc/passwd:/", "/etc/passwd:/a/../b", "/etc/passwd:/a//b", "/", "/no/such"] {
            assert!(added(text).is_err(), "{text}");
        }
    }
}
