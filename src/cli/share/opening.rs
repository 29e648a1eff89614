//! Open files: those that the guest has opened, and those that it reads without opening them.
//!
//! A guest of a read-only share need not open files (`FUSE_NO_OPEN_SUPPORT`): a file that it reads costs it a look-up and a
//! read, and nothing but the look-up as long as it has the data. Where it can write, it has to open files, because one that is
//! removed lives on while it is open. The reply then brings the contents of a small file along, so that the guest need not read it.

use std::os::fd::OwnedFd;

use rustix::fs::{OFlags, Stat, fstat};
use rustix::io::Errno;

use super::files::Handle;
use super::message::{checked_offset, checked_size, put, take};
use super::nodes::Version;
use super::root;
use super::server::Server;
use super::wire::{KEEP_CACHE, NOTIFY_STORE, NotifyStoreOut, OpenIn, OpenOut, OutHeader, PASSES, ReadIn};

/// Maximum number of files and directories that a guest has open at a time. Each takes a descriptor of this process.
pub(super) const MAX_HANDLES: usize = 4096;
/// Maximum size of a file whose contents come with the reply to `open`. Most sources and headers are smaller.
const MAX_STORED: usize = 32 << 10;
/// Maximum number of files whose contents come behind the reply to a read of another one, and of their bytes: with the reply, they fit into
/// the ring of the connection.
const MAX_AHEAD: usize = 8;
const MAX_AHEAD_BYTES: usize = 80 << 10;

impl Server {
    /// Returns the file behind a handle, if it is one of files or of directories as asked for.
    pub(super) fn handle(&self, handle: u64, is_directory: bool) -> Result<&Handle, Errno> {
        self.handles.get(&handle).filter(|handle| handle.is_directory == is_directory).ok_or(Errno::BADF)
    }

    /// Returns the open file of a node whose name is gone.
    pub(super) fn opened(&self, node: u64) -> Option<&OwnedFd> {
        let handle = self.handles.values().find(|handle| handle.node == node).map(|handle| &handle.file);
        handle.or_else(|| self.recent.get(node))
    }

    /// Keeps an open file for the guest.
    pub(super) fn keep(&mut self, node: u64, file: OwnedFd, is_directory: bool) -> u64 {
        let number = self.next_handle;
        self.next_handle += 1;
        self.handles.insert(number, Handle { node, file, is_directory });
        number
    }

    /// Returns an error if the guest has too many files open.
    pub(super) fn check_room(&self) -> Result<(), Errno> {
        if self.handles.len() < MAX_HANDLES { Ok(()) } else { Err(Errno::NFILE) }
    }

    /// Returns the flags of the guest's `open` that are the host's, too.
    pub(super) fn open_flags(&self, flags: u32) -> Result<OFlags, Errno> {
        let passed = OFlags::RWMODE | OFlags::APPEND | OFlags::TRUNC | OFlags::DSYNC | OFlags::SYNC;
        let flags = OFlags::from_bits_retain(flags) & passed;
        if flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC) {
            self.root.check_writable()?;
        }
        Ok(flags)
    }

    pub(super) fn open(&mut self, node: u64, body: &[u8], reply: &mut Vec<u8>) -> Result<(), Errno> {
        let (open, _) = take::<OpenIn>(body)?;
        let flags = self.open_flags(open.flags)?;
        if self.without_open {
            // The guest opens nothing from now on.
            return Err(Errno::NOSYS);
        }
        self.check_room()?;
        let file = self.open_regular(node, flags)?;
        if !flags.intersects(OFlags::WRONLY | OFlags::TRUNC) {
            self.store(node, &file);
        }
        put(reply, &OpenOut { handle: self.keep(node, file, false), open_flags: KEEP_CACHE, padding: 0 });
        Ok(())
    }

    fn open_regular(&self, node: u64, flags: OFlags) -> Result<OwnedFd, Errno> {
        let file = self.locate(node)?;
        root::check_regular(&file)?;
        root::reopen(&file, flags)
    }

    /// Prepares the contents of a small file for the guest's cache, unless the guest has got them before.
    ///
    /// A guest that has the file open may wait for a read of the same pages, and would take that reply only after this one. So it gets
    /// them only if nobody there has it open.
    fn store(&mut self, node: u64, file: &OwnedFd) {
        let Ok(stat) = fstat(file) else { return };
        let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        if !(1..=MAX_STORED).contains(&size)
            || self.handles.values().any(|handle| handle.node == node)
            || !self.nodes.store(node, version(&stat))
        {
            return;
        }
        put_contents(&mut self.notice, node, file, size, 0);
    }

    /// Prepares the contents of the small files that come next in the directory of a file that the guest reads, if it has read another one of
    /// it just before: `cp -r`, `tar` and `grep -r` read them all.
    ///
    /// The guest may be about to read one of them. The agent takes care of that: see guest-agent/share.c.
    fn store_next(&mut self, node: u64) {
        let directory = self.nodes.directory(node);
        let before = if self.reads.0 == directory { self.reads.1 } else { 0 };
        self.reads = (directory, before.saturating_add(1));
        // None after the first file, two after the second, and then more.
        let count = if before == 0 { 0 } else { (1_usize << before.min(3)).min(MAX_AHEAD) };
        let next: Vec<_> = self.nodes.next_unread(node).take(count).collect();
        for next in next {
            let Ok(file) = self.open_regular(next, OFlags::RDONLY) else { continue };
            let Ok(stat) = fstat(&file) else { continue };
            let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
            if !(1..=MAX_STORED).contains(&size) || self.ahead.len() + size > MAX_AHEAD_BYTES {
                continue;
            }
            if self.nodes.store(next, version(&stat)) {
                put_contents(&mut self.ahead, next, &file, size, PASSES);
            }
        }
    }

    pub(super) fn read(&mut self, node: u64, body: &[u8], reply: &mut Vec<u8>) -> Result<(), Errno> {
        let (read, _) = take::<ReadIn>(body)?;
        let size = checked_size(read.size)?;
        checked_offset(read.offset)?;
        if !self.without_open {
            return pread(&self.handle(read.handle, false)?.file, read.offset, size, reply).map(|_| ());
        }
        let file = match self.recent.take(node) {
            Some(file) => file,
            None => self.open_regular(node, OFlags::RDONLY)?,
        };
        let result = pread(&file, read.offset, size, reply);
        // Only a guest that has not got the contents reads the start.
        if read.offset == 0
            && result.is_ok_and(|count| count <= MAX_STORED)
            && let Ok(stat) = fstat(&file)
        {
            self.nodes.store(node, version(&stat));
            self.store_next(node);
        }
        self.recent.add(node, file);
        result.map(|_| ())
    }
}

/// Appends a message that puts the contents of a file into the guest's cache, unless they cannot be read. `size` is at most [`MAX_STORED`].
fn put_contents(bytes: &mut Vec<u8>, node: u64, file: &OwnedFd, size: usize, unique: u64) {
    let start = bytes.len();
    let length = size_of::<OutHeader>() + size_of::<NotifyStoreOut>() + size;
    put(bytes, &OutHeader { length: length as u32, error: NOTIFY_STORE, unique });
    put(bytes, &NotifyStoreOut { node, offset: 0, size: size as u32, padding: 0 });
    if pread(file, 0, size, bytes) != Ok(size) {
        bytes.truncate(start);
    }
}

/// Appends what is at an offset of a file. Returns the number of bytes, which is smaller at the end of the file.
fn pread(file: &OwnedFd, offset: u64, size: usize, bytes: &mut Vec<u8>) -> Result<usize, Errno> {
    let start = bytes.len();
    bytes.resize(start + size, 0);
    let mut filled = 0;
    while filled < size {
        match rustix::io::pread(file, &mut bytes[start + filled..], offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(_) if filled > 0 => break,
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(start + filled);
    Ok(filled)
}

fn version(stat: &Stat) -> Version {
    (stat.st_ctime, stat.st_ctime_nsec, stat.st_size)
}
