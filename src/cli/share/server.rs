//! Answers the FUSE requests of a guest: a request in, a reply out. The guest is hostile: it may send anything.

use std::collections::HashMap;
use std::os::fd::OwnedFd;

use rustix::fs::{OFlags, Stat, fstat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use zerocopy::IntoBytes;

use super::files::{Handle, Recent};
use super::message::{MAX_DATA, name, put, take};
use super::nodes::{Identity, Nodes, ROOT};
use super::root::{self, Access, Root};
use super::wire::{
    Attr, AttrOut, BatchForgetIn, EntryOut, ForgetIn, ForgetOne, FsyncIn, GetattrIn, InHeader, InitIn, InitOut, MAJOR,
    MINOR, OLDEST_MINOR, OpenOut, OutHeader, PASSES, ReleaseIn, StatfsOut, ability, opcode,
};

/// Maximum size of a request: data, and names with their headers.
pub const MAX_REQUEST: usize = MAX_DATA + 8192;
/// Time for which the guest may cache the attributes of a file, in seconds. Later, it sees changes of the host.
const VALID: u64 = 1;

/// The server of one shared directory.
pub struct Server {
    pub(super) root: Root,
    pub(super) nodes: Nodes,
    pub(super) handles: HashMap<u64, Handle>,
    pub(super) next_handle: u64,
    /// The guest reads files without opening them.
    pub(super) without_open: bool,
    pub(super) recent: Recent,
    /// The directory of the last small file that the guest has read without opening it, and how many of it one after another.
    pub(super) reads: (Option<u64>, u32),
    /// A message for the guest's cache, to be sent before the reply.
    pub(super) notice: Vec<u8>,
    /// Messages for the guest's cache, to be sent behind the reply.
    pub(super) ahead: Vec<u8>,
    /// The user who runs this program, and the group: root in the guest.
    pub(super) user: u32,
    pub(super) group: u32,
}

pub(super) fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino, stat.st_mode & 0o170_000)
}

impl Server {
    pub fn new(root: Root) -> Self {
        let (user, group) = (geteuid().as_raw(), getegid().as_raw());
        Self {
            root,
            nodes: Nodes::new(),
            handles: HashMap::new(),
            next_handle: 1,
            without_open: false,
            recent: Recent::default(),
            reads: (None, 0),
            notice: Vec::new(),
            ahead: Vec::new(),
            user,
            group,
        }
    }

    /// Answers a request, whose length has been checked against its header. Returns `false` if it gets no reply. Before the reply,
    /// the guest is to be sent the [`notice`](Self::notice), behind it what it may read [next](Self::ahead).
    pub fn answer(&mut self, request: &[u8], reply: &mut Vec<u8>) -> bool {
        reply.clear();
        self.notice.clear();
        self.ahead.clear();
        put(reply, &OutHeader::default());
        let Ok((header, body)) = take::<InHeader>(request) else { return false };
        log::trace!("request {} about node {}", header.opcode, header.node);
        let result = match header.opcode {
            opcode::FORGET | opcode::BATCH_FORGET => {
                // A message that is too short is ignored.
                let _ = self.forget(&header, body);
                return false;
            }
            // Each request is answered before the next one is read: there is nothing to interrupt.
            opcode::INTERRUPT | opcode::NOTIFY_REPLY => return false,
            _ => self.dispatch(&header, body, reply),
        };
        let error = match result {
            Ok(()) => 0,
            Err(error) => {
                reply.truncate(size_of::<OutHeader>());
                -error.raw_os_error()
            }
        };
        let length = u32::try_from(reply.len()).unwrap_or(u32::MAX);
        // The agent in the guest passes replies with data on before others, and removes the mark.
        let mark = if header.opcode == opcode::READ { PASSES } else { 0 };
        let out = OutHeader { length, error, unique: header.unique | mark };
        reply[..size_of::<OutHeader>()].copy_from_slice(out.as_bytes());
        true
    }

    /// Returns the message that comes before the last reply. It may be empty.
    pub fn notice(&self) -> &[u8] {
        &self.notice
    }

    /// Returns the messages that come behind the last reply. They may be empty.
    pub fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    fn dispatch(&mut self, header: &InHeader, body: &[u8], reply: &mut Vec<u8>) -> Result<(), Errno> {
        let node = header.node;
        match header.opcode {
            opcode::INIT => self.init(body, reply),
            opcode::LOOKUP => self.lookup(node, body, reply),
            opcode::GETATTR => self.getattr(node, body, reply),
            opcode::READLINK => self.readlink(node, reply),
            opcode::STATFS => self.statfs(reply),
            opcode::OPEN => self.open(node, body, reply),
            opcode::OPENDIR => self.open_directory(node, reply),
            opcode::READ => self.read(node, body, reply),
            opcode::READDIR => self.read_directory(body, reply, false),
            opcode::READDIRPLUS => self.read_directory(body, reply, true),
            opcode::RELEASE | opcode::RELEASEDIR => {
                let (release, _) = take::<ReleaseIn>(body)?;
                self.handles.remove(&release.handle).map(|_| ()).ok_or(Errno::BADF)
            }
            opcode::FSYNC | opcode::FSYNCDIR => self.sync(body),
            opcode::DESTROY => Ok(()),
            opcode::SETATTR
            | opcode::WRITE
            | opcode::CREATE
            | opcode::MKNOD
            | opcode::MKDIR
            | opcode::SYMLINK
            | opcode::LINK
            | opcode::UNLINK
            | opcode::RMDIR
            | opcode::RENAME
            | opcode::RENAME2 => self.change(header, body, reply),
            opcode::IOCTL => Err(Errno::NOTTY),
            // The guest's kernel works without the other requests, such as FLUSH, GETXATTR, ACCESS, LSEEK and POLL.
            _ => Err(Errno::NOSYS),
        }
    }

    fn init(&mut self, body: &[u8], reply: &mut Vec<u8>) -> Result<(), Errno> {
        let (init, _) = take::<InitIn>(body)?;
        if init.major < MAJOR || (init.major == MAJOR && init.minor < OLDEST_MINOR) {
            return Err(Errno::PROTO);
        }
        // Where the guest can write, a file that is removed has to live on while it is open.
        self.without_open = init.flags & ability::NO_OPEN_SUPPORT != 0 && self.root.access == Access::ReadOnly;
        // A newer guest asks again, in the version of this reply.
        let abilities = ability::ASYNC_READ
            | ability::ATOMIC_O_TRUNC
            | ability::BIG_WRITES
            | ability::AUTO_INVAL_DATA
            | ability::DO_READDIRPLUS
            | ability::READDIRPLUS_AUTO
            | ability::PARALLEL_DIROPS
            | ability::MAX_PAGES;
        put(
            reply,
            &InitOut {
                major: MAJOR,
                minor: if init.major == MAJOR { init.minor.min(MINOR) } else { MINOR },
                max_readahead: init.max_readahead.min(MAX_DATA as u32),
                flags: init.flags & abilities,
                max_background: 16,
                congestion_threshold: 12,
                max_write: MAX_DATA as u32,
                time_gran: 1,
                max_pages: (MAX_DATA / 4096) as u16,
                ..InitOut::default()
            },
        );
        Ok(())
    }

    fn forget(&mut self, header: &InHeader, body: &[u8]) -> Result<(), Errno> {
        if header.opcode == opcode::FORGET {
            let (forget, _) = take::<ForgetIn>(body)?;
            self.forget_node(header.node, forget.lookups);
            return Ok(());
        }
        let (batch, mut rest) = take::<BatchForgetIn>(body)?;
        for _ in 0..batch.count {
            let (one, more) = take::<ForgetOne>(rest)?;
            self.forget_node(one.node, one.lookups);
            rest = more;
        }
        Ok(())
    }

    fn forget_node(&mut self, node: u64, lookups: u64) {
        self.nodes.forget(node, lookups);
        if self.nodes.identity(node).is_none() {
            self.recent.remove(node);
        }
    }

    /// Returns a file that the guest knows, if its name still belongs to the same file.
    pub(super) fn locate(&self, node: u64) -> Result<OwnedFd, Errno> {
        let file = self.root.locate(&self.nodes.path(node)?)?;
        if node != ROOT && self.nodes.identity(node) != Some(identity(&fstat(&file)?)) {
            return Err(Errno::STALE);
        }
        Ok(file)
    }

    /// Returns a directory that the guest knows, for its entries.
    pub(super) fn directory(&self, node: u64) -> Result<OwnedFd, Errno> {
        self.root.directory(&self.nodes.path(node)?)
    }

    pub(super) fn attributes(&self, stat: &Stat) -> Attr {
        // Linux reads the seconds as a signed number.
        let time = |seconds: i64| seconds.cast_unsigned();
        let nanoseconds = |part: u64| u32::try_from(part).unwrap_or(0);
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Attr {
            ino: self.root.ino(stat),
            size: stat.st_size.cast_unsigned(),
            blocks: stat.st_blocks.cast_unsigned(),
            atime: time(stat.st_atime),
            mtime: time(stat.st_mtime),
            ctime: time(stat.st_ctime),
            atimensec: nanoseconds(stat.st_atime_nsec),
            mtimensec: nanoseconds(stat.st_mtime_nsec),
            ctimensec: nanoseconds(stat.st_ctime_nsec),
            mode: stat.st_mode,
            nlink: small(stat.st_nlink),
            uid: if stat.st_uid == self.user { 0 } else { stat.st_uid },
            gid: if stat.st_gid == self.group { 0 } else { stat.st_gid },
            rdev: small(stat.st_rdev),
            blksize: small(stat.st_blksize.cast_unsigned()),
            flags: 0,
        }
    }

    /// Returns a reply about an entry of a directory, which the guest then knows.
    pub(super) fn enter(&mut self, directory: u64, name: &[u8], stat: &Stat) -> Result<EntryOut, Errno> {
        let node = self.nodes.enter(directory, name, identity(stat))?;
        let attr = self.attributes(stat);
        Ok(EntryOut { node, entry_valid: VALID, attr_valid: VALID, attr, ..EntryOut::default() })
    }

    fn lookup(&mut self, directory: u64, body: &[u8], reply: &mut Vec<u8>) -> Result<(), Errno> {
        let (name, _) = name(body)?;
        let entry = match root::entry(&self.directory(directory)?, name) {
            Ok(stat) => self.enter(directory, name, &stat)?,
            // An entry without a node: the guest caches that the name does not exist. Compilers look for many such names.
            Err(Errno::NOENT) => EntryOut { entry_valid: VALID, ..EntryOut::default() },
            Err(error) => return Err(error),
        };
        put(reply, &entry);
        Ok(())
    }

    fn getattr(&mut self, node: u64, body: &[u8], reply: &mut Vec<u8>) -> Result<(), Errno> {
        let (_, _) = take::<GetattrIn>(body)?;
        let stat = self.stat(node)?;
        self.put_attributes(&stat, reply);
        Ok(())
    }

    /// Returns the attributes of a node, even if only open handles to it remain.
    pub(super) fn stat(&self, node: u64) -> Result<Stat, Errno> {
        self.locate(node).and_then(|file| fstat(&file)).or_else(|error| match error {
            Errno::NOENT | Errno::STALE => fstat(self.opened(node).ok_or(error)?),
            _ => Err(error),
        })
    }

    pub(super) fn put_attributes(&self, stat: &Stat, reply: &mut Vec<u8>) {
        put(reply, &AttrOut { attr_valid: VALID, attr: self.attributes(stat), ..AttrOut::default() });
    }

    fn readlink(&self, node: u64, reply: &mut Vec<u8>) -> Result<(), Errno> {
        let target = rustix::fs::readlinkat(self.locate(node)?, "", Vec::new())?;
        reply.extend_from_slice(target.as_bytes());
        Ok(())
    }

    fn statfs(&self, reply: &mut Vec<u8>) -> Result<(), Errno> {
        let system = rustix::fs::fstatvfs(self.root.top())?;
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        put(
            reply,
            &StatfsOut {
                blocks: system.f_blocks,
                bfree: system.f_bfree,
                bavail: system.f_bavail,
                files: system.f_files,
                ffree: system.f_ffree,
                bsize: small(system.f_bsize),
                namelen: small(system.f_namemax),
                frsize: small(system.f_frsize),
                ..StatfsOut::default()
            },
        );
        Ok(())
    }

    fn open_directory(&mut self, node: u64, reply: &mut Vec<u8>) -> Result<(), Errno> {
        self.check_room()?;
        let file = root::reopen(&self.locate(node)?, OFlags::RDONLY | OFlags::DIRECTORY)?;
        put(reply, &OpenOut { handle: self.keep(node, file, true), ..OpenOut::default() });
        Ok(())
    }

    fn sync(&self, body: &[u8]) -> Result<(), Errno> {
        let (sync, _) = take::<FsyncIn>(body)?;
        let handle = self.handles.get(&sync.handle).ok_or(Errno::BADF)?;
        // The first flag: the data only.
        if sync.flags & 1 != 0 { rustix::fs::fdatasync(&handle.file) } else { rustix::fs::fsync(&handle.file) }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
