//! Remedies for paths that the host refuses.

use std::io::{self, ErrorKind};

use rustix::io::Errno;

/// Returns a remedy if the host's error means that a path is wrong, or what it leads to. Returns `None` if the host failed.
pub(crate) fn remedy(error: &io::Error) -> Option<&'static str> {
    // A NUL in a path is found before the host is asked.
    let Some(errno) = Errno::from_io_error(error) else {
        return (error.kind() == ErrorKind::InvalidInput).then_some("a path cannot have a NUL in it: remove it");
    };
    let remedy = match errno {
        Errno::NOENT => "check the name",
        Errno::ACCESS | Errno::PERM => "check its owner and mode, and those of its directories, with ls -l",
        Errno::ROFS => "its file system is read-only: name a file on another",
        Errno::ISDIR => "name a file in that directory",
        Errno::NOTDIR => "a part of the path is a file and not a directory: check the path",
        Errno::LOOP => "its symbolic links lead in a circle, or there are more than 40: name the file itself",
        Errno::NAMETOOLONG => "a name has at most 255 bytes, and a path 4095: check whether it is a path at all",
        Errno::TXTBSY => "a program runs from this file, and nobody can write to it: name another file",
        Errno::NXIO | Errno::NODEV | Errno::NOMEDIUM => "there is no device or medium behind it: check the name",
        _ => return None,
    };
    Some(remedy)
}

/// Returns the same remedy, to be appended to the text of the error, or an empty string.
pub fn after(error: &io::Error) -> String {
    remedy(error).map_or(String::new(), |remedy| format!("; {remedy}"))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn errors_of_a_path_have_a_remedy_and_those_of_the_host_have_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        symlink("loop", path("loop")).unwrap();
        File::create(path("file")).unwrap();
        for (path, words) in [
            (path("loop"), "lead in a circle"),
            (path("file/below"), "not a directory"),
            (path("missing"), "check the name"),
            (path(&"x".repeat(256)), "255 bytes"),
            (path(&"x/".repeat(2500)), "4095"),
            (path("with\0nul"), "NUL"),
        ] {
            let error = File::open(&path).unwrap_err();
            assert!(remedy(&error).is_some_and(|remedy| remedy.contains(words)), "{error}: {:?}", remedy(&error));
        }
        for number in [libc::EIO, libc::EMFILE, libc::ENOMEM, libc::EINTR] {
            assert_eq!(remedy(&io::Error::from_raw_os_error(number)), None);
        }
    }
}
