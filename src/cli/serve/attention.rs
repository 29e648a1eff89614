//! The events that the service's main thread waits for besides connections: signals, and changes of the files of TLS.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::inotify;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::pipe;

/// Time after a change of files in which more changes are waited for: a certificate and its key change one after the other.
const QUIET: Duration = Duration::from_millis(500);

/// The signals for the service.
pub struct Signals {
    /// A signal that ends it.
    pub end: UnixStream,
    /// HUP.
    pub hang_up: UnixStream,
    /// The process had a terminal when it started.
    had_terminal: bool,
}

impl Signals {
    /// Starts to catch the signals.
    ///
    /// # Errors
    /// Returns an error if the process has no file descriptors left.
    pub fn catch() -> io::Result<Self> {
        let (end, sender) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM, SIGQUIT] {
            pipe::register(signal, sender.try_clone()?)?;
        }
        let (hang_up, sender) = UnixStream::pair()?;
        // A signal that nohup has the process ignore does not end it, even if the terminal is gone.
        let had_terminal = has_terminal() && !ignores_hang_up();
        pipe::register(SIGHUP, sender)?;
        Ok(Self { end, hang_up, had_terminal })
    }

    /// Takes the HUP that has come, and returns `true` if it says that the terminal of the process is gone. Otherwise somebody has sent it.
    pub fn has_lost_terminal(&self) -> bool {
        let _ = (&self.hang_up).read(&mut [0; 64]);
        self.had_terminal && !has_terminal()
    }
}

fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 << (SIGHUP - 1) != 0)
}

/// Notices when files are replaced or written, also by a rename or a symbolic link.
pub struct Watch {
    inotify: OwnedFd,
    /// When the files are to be read again.
    due: Option<Instant>,
}

impl Watch {
    /// Watches the folders of files.
    ///
    /// # Errors
    /// Returns the error of the host, for example if the user has too many watches.
    pub fn files(files: &[&Path]) -> io::Result<Self> {
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let events = inotify::WatchFlags::CLOSE_WRITE | inotify::WatchFlags::MOVED_TO | inotify::WatchFlags::CREATE;
        for file in files {
            for folder in folders(file) {
                inotify::add_watch(&inotify, &folder, events)?;
            }
        }
        Ok(Self { inotify, due: None })
    }

    /// Takes what has happened, from which on a time of quiet is waited for.
    pub fn take(&mut self) {
        let mut buffer = [0; 4096];
        while rustix::io::read(&self.inotify, &mut buffer).is_ok_and(|count| count > 0) {}
        self.due = Some(Instant::now() + QUIET);
    }

    /// Returns the time that is left until the files are to be read again, if they have changed.
    pub fn left(&self) -> Option<Duration> {
        self.due.map(|due| due.saturating_duration_since(Instant::now()))
    }

    /// Returns `true` once when the files are to be read again.
    pub fn is_due(&mut self) -> bool {
        let is_due = self.left().is_some_and(|left| left.is_zero());
        if is_due {
            self.due = None;
        }
        is_due
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Returns the folder that a file is in, and that of the file to which a link leads.
fn folders(file: &Path) -> Vec<PathBuf> {
    let folder = |path: &Path| match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut all = vec![folder(file)];
    all.extend(file.canonicalize().ok().map(|real| folder(&real)));
    all
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    fn is_ready(watch: &Watch) -> bool {
        let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&none)).unwrap() > 0
    }

    #[test]
    fn a_file_that_is_written_renamed_or_linked_anew_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("cert.pem"), "one").unwrap();
        let mut watch = Watch::files(&[&path("cert.pem")]).unwrap();
        assert!(!is_ready(&watch) && watch.left().is_none() && !watch.is_due());
        let changes: [&dyn Fn(); 3] = [
            &|| std::fs::write(path("cert.pem"), "two").unwrap(),
            &|| {
                std::fs::write(path("new"), "three").unwrap();
                std::fs::rename(path("new"), path("cert.pem")).unwrap();
            },
            &|| {
                std::os::unix::fs::symlink("new", path("link")).unwrap();
                std::fs::rename(path("link"), path("cert.pem")).unwrap();
            },
        ];
        for change in changes {
            change();
            assert!(is_ready(&watch));
            watch.take();
            assert!(!is_ready(&watch) && watch.left().is_some());
            watch.due = Some(Instant::now());
            assert!(watch.is_due() && !watch.is_due());
        }
    }

    #[test]
    fn the_folder_of_a_link_and_that_of_its_file_are_watched() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("archive")).unwrap();
        std::fs::write(root.join("archive/cert1.pem"), "").unwrap();
        std::os::unix::fs::symlink("archive/cert1.pem", root.join("cert.pem")).unwrap();
        assert_eq!(folders(&root.join("cert.pem")), [root.clone(), root.join("archive")]);
        assert_eq!(folders(Path::new("missing.pem")), [PathBuf::from(".")]);
    }
}
