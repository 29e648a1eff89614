//! Text in definitions of machines and labs: names, paths, and the settings that the library reads.

use std::fs;
use std::path::Path;

use super::error::Problem;

/// Maximum length of a name. It is a part of the path of a socket, which has at most 107 bytes.
pub const MAX_NAME: usize = 48;

/// The setting for a reset by the guest.
pub const ON_RESET: &str = "on-reset";

/// Writes settings to a file, which `read` reads, and removes it.
pub fn scratch<T>(settings: &str, path: &Path, read: impl FnOnce(&Path) -> T) -> Result<T, Problem> {
    let host = |error: &std::io::Error| Problem::host(format!("{}: {error}", path.display()));
    fs::write(path, settings).map_err(|error| {
        // Of a full disk, not even the empty file is to be left.
        let _ = fs::remove_file(path);
        host(&error)
    })?;
    let result = read(path);
    fs::remove_file(path).map_err(|error| host(&error))?;
    Ok(result)
}

/// Returns the rest of a path in a folder.
pub fn relative<'a>(text: &'a str, folder: &Path) -> Option<&'a str> {
    let after = text.split_once(folder.to_str()?)?.1;
    after.strip_prefix('/')
}

/// Checks the name of a machine.
///
/// # Errors
/// Returns an error if it cannot be the name of a file and of a socket.
pub fn check_name(name: &str) -> Result<(), Problem> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let starts = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if starts && name.bytes().all(plain) && name.len() <= MAX_NAME {
        return Ok(());
    }
    Err(Problem::invalid(format!("{name:?} cannot be the name of a machine"))
        .with_remedy(format!("use at most {MAX_NAME} letters, digits, -, _ and ., and begin with a letter or a digit")))
}
