//! Directories of the host in a guest: `viridian linux --share`.
//!
//! The guest's kernel has the file system (FUSE). The agent passes its requests over a Hyper-V socket to this server,
//! which answers them from the shared directory: see `docs/linux.md`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use anyhow::Context;
use rustix::io::Errno;
use viridian::process::path_remedy;
use viridian::vsp::sockets::{Answerer, Replies};
use zerocopy::FromBytes;

mod changes;
mod counts;
mod entries;
mod files;
mod message;
mod nodes;
mod opening;
mod root;
mod server;
mod wire;

use counts::Counts;
use root::{Access, Root};
use server::{MAX_REQUEST, Server};
use wire::{InHeader, opcode};

/// The place of the first share in the guest, where none is named.
const DEFAULT_PLACE: &str = "/host";
/// The names in the guest's root directory that are not available for shares.
const TAKEN: [&str; 7] = ["dev", "init", "modules", "modules.list", "proc", "shares.list", "sys"];
const FORM: &str = "the form is --share DIR[:/PLACE][,rw]";
/// Maximum number of shares: each has a connection.
const MAX_SHARES: usize = 16;

/// Maximum size of replies that wait for the next one, in bytes.
const MAX_HELD: usize = 4096;

/// A directory to share.
pub struct Share {
    /// The directory in the guest, absolute.
    pub place: String,
    server: Server,
    pub access: Access,
}

/// Opens the directories of `--share HOST[:GUEST][,rw]`.
///
/// # Errors
/// Returns an error if one cannot be shared, or two have the same place in the guest.
pub fn open(options: &[OsString]) -> anyhow::Result<Vec<Share>> {
    anyhow::ensure!(options.len() <= MAX_SHARES, "at most {MAX_SHARES} directories can be shared");
    let mut shares: Vec<Share> = Vec::new();
    for option in options {
        let share = open_one(option).with_context(|| format!("--share {}", option.display()))?;
        anyhow::ensure!(
            shares.iter().all(|other| other.place != share.place),
            "--share {}: another share has {} in the guest; name its place there: --share DIR:/PLACE",
            option.display(),
            share.place
        );
        shares.push(share);
    }
    Ok(shares)
}

fn open_one(option: &OsStr) -> anyhow::Result<Share> {
    let (host, place, access) = parse(option)?;
    let root = Root::open(&host, access).map_err(|error| match error {
        Errno::NOENT => anyhow::anyhow!("there is no {}; {FORM}", host.display()),
        Errno::NOTDIR => anyhow::anyhow!("only a directory can be shared; copy a file with --file"),
        Errno::ACCESS if is_readable(&host) => anyhow::anyhow!("a file system of the kernel cannot be shared"),
        _ => {
            let error = io::Error::from(error);
            anyhow::anyhow!("cannot share this directory: {error}{}", path_remedy(&error))
        }
    })?;
    Ok(Share { place, server: Server::new(root), access })
}

/// Returns `true` if the directory could be read: what refuses it is its kind.
fn is_readable(host: &Path) -> bool {
    std::fs::read_dir(host).is_ok()
}

fn parse(option: &OsStr) -> anyhow::Result<(PathBuf, String, Access)> {
    let bytes = option.as_bytes();
    let (bytes, access) = match (bytes.strip_suffix(b",rw"), bytes.strip_suffix(b",ro")) {
        (Some(rest), _) => (rest, Access::ReadWrite),
        (None, Some(rest)) => (rest, Access::ReadOnly),
        (None, None) => (bytes, Access::ReadOnly),
    };
    let (host, place) = match bytes.windows(2).rposition(|pair| pair == b":/") {
        Some(at) => (&bytes[..at], std::str::from_utf8(&bytes[at + 1..]).context("the guest's path is not UTF-8")?),
        None => (bytes, DEFAULT_PLACE),
    };
    anyhow::ensure!(!host.is_empty(), "name a directory of the host; {FORM}");
    // Podman and Docker write options like this. Here, they would be part of the path in the guest.
    let has_mode = place.ends_with(":rw") || place.ends_with(":ro");
    anyhow::ensure!(!has_mode, "what the guest may do comes after a comma; {FORM}");
    let plain = place.trim_matches('/');
    let is_plain = !plain.is_empty()
        && plain.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !plain.contains(char::is_control);
    anyhow::ensure!(is_plain, "the directory in the guest has to be absolute, without . and .., and not the root");
    let is_taken = plain.split('/').next().is_some_and(|first| TAKEN.contains(&first));
    anyhow::ensure!(!is_taken, "/{plain} cannot be a shared directory in the guest: it is the kernel's or the agent's");
    Ok((PathBuf::from(OsStr::from_bytes(host)), format!("/{plain}"), access))
}

impl Share {
    /// Returns the line about it for the guest's agent.
    pub fn line(&self, port: u32) -> String {
        let access = if self.access == Access::ReadWrite { "rw" } else { "ro" };
        format!("{port} {access} {}\n", self.place)
    }

    /// Returns what answers the guest. It keeps `serving` until the guest has gone.
    pub fn serve(self, serving: mpsc::Sender<()>) -> Box<dyn Answerer> {
        Box::new(Serving { share: self, reply: Vec::new(), counts: Counts::new(), _serving: serving })
    }
}

/// A share that the guest has mounted, or has not mounted yet.
struct Serving {
    share: Share,
    reply: Vec<u8>,
    counts: Counts,
    _serving: mpsc::Sender<()>,
}

impl Answerer for Serving {
    fn answer(&mut self, sent: &[u8], replies: &mut Replies) -> io::Result<usize> {
        let mut taken = 0;
        while replies.has_room() {
            let Ok((header, _)) = InHeader::read_from_prefix(&sent[taken..]) else { break };
            let length = header.length as usize;
            if !(size_of::<InHeader>()..=MAX_REQUEST).contains(&length) {
                return Err(io::Error::other(format!("a request has {length} bytes")));
            }
            let Some(request) = sent[taken..].get(..length) else { break };
            taken += length;
            self.counts.add(header.opcode);
            let server = &mut self.share.server;
            if server.answer(request, &mut self.reply) {
                replies.add(server.notice(), false);
                // No program of the guest waits for these: they come with the next reply, and cost no interrupt.
                let can_wait = matches!(header.opcode, opcode::RELEASE | opcode::RELEASEDIR);
                replies.add(&self.reply, !can_wait || replies.waiting().len() > MAX_HELD);
                replies.add(server.ahead(), false);
            }
        }
        Ok(taken)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        log::info!("the guest made {} requests about {}: {}", self.counts.all(), self.share.place, self.counts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(option: &str) -> Option<(String, String, Access)> {
        let (host, place, access) = parse(OsStr::new(option)).ok()?;
        Some((host.to_str()?.to_owned(), place, access))
    }

    #[test]
    fn options_name_a_directory_its_place_and_the_access() {
        let expect = |option, host: &str, place: &str, access| {
            assert_eq!(parsed(option), Some((host.into(), place.into(), access)), "{option}");
        };
        expect(".", ".", "/host", Access::ReadOnly);
        expect("/a/b,rw", "/a/b", "/host", Access::ReadWrite);
        expect("/a:/build/b/,ro", "/a", "/build/b", Access::ReadOnly);
        expect("odd:/name,x:/build,rw", "odd:/name,x", "/build", Access::ReadWrite);
        for option in ["", ",rw", ":/x", "a:/", "a:/x/../y", "a:/x//y", "a:/x\ny", "a:/dev/x", "a:/sys", "a:/b:rw"] {
            assert_eq!(parsed(option), None, "{option:?}");
        }
    }

    #[test]
    fn what_cannot_be_shared_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let folder = folder.path().display();
        let error = |options: &[String]| {
            let options: Vec<_> = options.iter().map(OsString::from).collect();
            format!("{:#}", open(&options).err().expect("an error"))
        };
        assert!(error(&[format!("{folder}/no")]).contains("there is no "));
        assert!(error(&[file.display().to_string()]).contains("only a directory can be shared"));
        assert!(error(&["/proc".into()]).contains("a file system of the kernel"));
        assert!(error(&[format!("{folder}"), format!("{folder},rw")]).contains("another share has /host in the guest"));
        assert!(error(&vec![format!("{folder}"); 17]).contains("at most 16"));
    }

    /// Serves a folder.
    fn serving(folder: &Path) -> Box<dyn Answerer> {
        open_one(folder.as_os_str()).unwrap().serve(mpsc::channel().0)
    }

    #[test]
    fn a_guest_that_breaks_the_protocol_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let answer = |bytes: &[u8]| serving(folder.path()).answer(bytes, &mut Replies::default());
        for length in [0u32, 39, MAX_REQUEST as u32 + 1, u32::MAX] {
            let request = [&length.to_le_bytes()[..], &[0; 36]].concat();
            assert!(answer(&request).unwrap_err().to_string().contains("a request has"), "{length}");
        }
        assert_eq!(answer(b"").unwrap(), 0);
        assert_eq!(answer(&[&60u32.to_le_bytes()[..], &[0; 30]].concat()).unwrap(), 0, "the header is not complete");
        assert_eq!(answer(&[&60u32.to_le_bytes()[..], &[0; 50]].concat()).unwrap(), 0, "nor is the request");
    }

    #[test]
    fn requests_are_answered_in_order_as_far_as_they_are_complete() {
        use zerocopy::IntoBytes;

        let folder = tempfile::tempdir().unwrap();
        let (mut serving, mut replies) = (serving(folder.path()), Replies::default());
        let request = |kind, unique| {
            let header = InHeader { length: 64, opcode: kind, unique, node: 1, ..InHeader::default() };
            [header.as_bytes(), &[0; 24]].concat()
        };
        let sent = [request(opcode::RELEASE, 1), request(opcode::GETATTR, 2), request(opcode::GETATTR, 3)].concat();
        assert_eq!(serving.answer(&sent[..130], &mut replies).unwrap(), 128);
        // A reply that fails has its header only; the attributes have 104 bytes.
        let bytes = replies.waiting();
        assert_eq!((bytes.len(), bytes[8], bytes[16 + 8]), (16 + 16 + 104, 1, 2));
        assert_eq!(serving.answer(&sent[128..], &mut replies).unwrap(), 64);
    }
}
