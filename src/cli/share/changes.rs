//! Requests that change the shared directory. A share that is read-only refuses them all.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, fstat};
use rustix::fs::{UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use super::message::{checked_offset, checked_size, name, put, take, text};
use super::nodes::ROOT;
use super::root;
use super::server::Server;
use super::wire::{
    CreateIn, InHeader, KEEP_CACHE, LinkIn, MkdirIn, OpenOut, Rename2In, RenameIn, SetattrIn, WriteIn, WriteOut,
    opcode, set,
};

/// Permissions that a guest can give to a file: a file that it writes is never run as its owner or group on the host.
const FILE_MODE: u32 = 0o777;
/// Permissions that a guest can give to a directory.
const DIRECTORY_MODE: u32 = 0o1777;
/// Flags of a rename that the host's kernel has, too (`RENAME_NOREPLACE`, `RENAME_EXCHANGE`).
const RENAME_FLAGS: RenameFlags = RenameFlags::NOREPLACE.union(RenameFlags::EXCHANGE);

impl Server {
    /// Answers a request that changes something.
    pub(super) fn change(&mut self, header: &InHeader, body: &[u8], reply: &mut Vec<u8>) -> Result<(), Errno> {
        self.root.check_writable()?;
        let node = header.node;
        match header.opcode {
            opcode::SETATTR => self.setattr(node, body, reply),
            opcode::WRITE => self.write(body, reply),
            opcode::CREATE => self.create(node, body, reply),
            opcode::MKDIR => self.make_directory(node, body, reply),
            opcode::SYMLINK => self.symlink(node, body, reply),
            opcode::LINK => self.link(node, body, reply),
            opcode::UNLINK => self.remove(node, body, AtFlags::empty()),
            opcode::RMDIR => self.remove(node, body, AtFlags::REMOVEDIR),
            opcode::RENAME => {
                let (rename, names) = take::<RenameIn>(body)?;
                self.rename(node, rename.new_directory, names, RenameFlags::empty())
            }
            opcode::RENAME2 => {
                let (rename, names) = take::<Rename2In>(body)?;
                let flags = RenameFlags::from_bits_retain(rename.flags);
                if !RENAME_FLAGS.contains(flags) {
                    return Err(Errno::INVAL);
                }
                self.rename(node, rename.new_directory, names, flags)
            }
            // MKNOD: a guest cannot create devices, FIFOs and sockets on the host.
            _ => Err(Errno::PERM),
        }
    }

    fn write(&mut self, body: &[u8], reply: &mut Vec<u8>) -> Result<(), Errno> {
        let (write, data) = take::<WriteIn>(body)?;
        let file = &self.handle(write.handle, false)?.file;
        let data = data.get(..checked_size(write.size)?).ok_or(Errno::INVAL)?;
        checked_offset(write.offset)?;
        let mut written = 0;
        while written < data.len() {
            match rustix::io::pwrite(file, &data[written..], write.offset.saturating_add(written as u64)) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(_) if written > 0 => break,
                Err(error) => return Err(error),
            }
        }
        put(reply, &WriteOut { size: u32::try_from(written).unwrap_or(0), padding: 0 });
        Ok(())
    }

    fn create(&mut self, directory: u64, body: &[u8], reply: &mut Vec<u8>) -> Result<(), Errno> {
        let (create, rest) = take::<CreateIn>(body)?;
        let (name, _) = name(rest)?;
        let flags = self.open_flags(create.flags)?;
        self.check_room()?;
        let place = self.directory(directory)?;
        let made = root::create(&place, name, flags, Mode::from_bits_truncate(create.mode & FILE_MODE));
        let file = match made {
            Err(Errno::EXIST) if !OFlags::from_bits_retain(create.flags).contains(OFlags::EXCL) => {
                let file = root::locate_in(&place, name)?;
                root::check_regular(&file)?;
                root::reopen(&file, flags)?
            }
            other => other?,
        };
        let entry = self.enter(directory, name, &fstat(&file)?)?;
        put(reply, &entry);
        put(reply, &OpenOut { handle: self.keep(entry.node, file, false), open_flags: KEEP_CACHE, padding: 0 });
        Ok(())
    }

    /// Replies with an entry that has just been made.
    fn put_entry(&mut self, directory: u64, place: &OwnedFd, name: &[u8], reply: &mut Vec<u8>) -> Result<(), Errno> {
        let entry = self.enter(directory, name, &root::entry(place, name)?)?;
        put(reply, &entry);
        Ok(())
    }

    fn make_directory(&mut self, directory: u64, body: &[u8], reply: &mut Vec<u8>) -> Result<(), Errno> {
        let (make, rest) = take::<MkdirIn>(body)?;
        let (name, _) = name(rest)?;
        let place = self.directory(directory)?;
        rustix::fs::mkdirat(&place, name, Mode::from_bits_truncate(make.mode & DIRECTORY_MODE))?;
        self.put_entry(directory, &place, name, reply)
    }

    fn symlink(&mut self, directory: u64, body: &[u8], reply: &mut Vec<u8>) -> Result<(), Errno> {
        let (name, rest) = name(body)?;
        let (target, _) = text(rest)?;
        let place = self.directory(directory)?;
        rustix::fs::symlinkat(target, &place, name)?;
        self.put_entry(directory, &place, name, reply)
    }

    fn link(&mut self, directory: u64, body: &[u8], reply: &mut Vec<u8>) -> Result<(), Errno> {
        let (link, rest) = take::<LinkIn>(body)?;
        let (name, _) = name(rest)?;
        let file = self.locate(link.old_node)?;
        let place = self.directory(directory)?;
        rustix::fs::linkat(CWD, root::own_path(&file), &place, name, AtFlags::SYMLINK_FOLLOW)?;
        self.put_entry(directory, &place, name, reply)
    }

    fn remove(&mut self, directory: u64, body: &[u8], flags: AtFlags) -> Result<(), Errno> {
        let (name, _) = name(body)?;
        rustix::fs::unlinkat(self.directory(directory)?, name, flags)?;
        self.nodes.lose(directory, name);
        Ok(())
    }

    fn rename(&mut self, from: u64, to: u64, names: &[u8], flags: RenameFlags) -> Result<(), Errno> {
        let (old, rest) = name(names)?;
        let (new, _) = name(rest)?;
        let (old_place, new_place) = (self.directory(from)?, self.directory(to)?);
        // The host's kernel refuses this for the current places of the directories. This check refuses it for those that the guest
        // knows.
        let exchanges = flags.contains(RenameFlags::EXCHANGE);
        if !self.nodes.can_move((from, old), to) || (exchanges && !self.nodes.can_move((to, new), from)) {
            return Err(Errno::INVAL);
        }
        rustix::fs::renameat_with(&old_place, old, &new_place, new, flags)?;
        self.nodes.rename((from, old), (to, new), exchanges);
        Ok(())
    }

    fn setattr(&mut self, node: u64, body: &[u8], reply: &mut Vec<u8>) -> Result<(), Errno> {
        let (attributes, _) = take::<SetattrIn>(body)?;
        let has = |bits| attributes.valid & bits != 0;
        let file = self.changeable(node)?;
        let before = fstat(&file)?;
        self.check_owner(&attributes, &before)?;
        let path = root::own_path(&file);
        if has(set::MODE) {
            let allowed = match root::kind(&before) {
                FileType::RegularFile => FILE_MODE,
                FileType::Directory => DIRECTORY_MODE,
                _ => return Err(Errno::OPNOTSUPP),
            };
            rustix::fs::chmodat(CWD, &*path, Mode::from_bits_truncate(attributes.mode & allowed), AtFlags::empty())?;
        }
        if has(set::SIZE) {
            i64::try_from(attributes.size).map_err(|_| Errno::FBIG)?;
            let handle = has(set::HANDLE).then(|| self.handle(attributes.handle, false)).transpose()?;
            match handle.filter(|handle| handle.node == node) {
                Some(handle) => rustix::fs::ftruncate(&handle.file, attributes.size)?,
                None => {
                    root::check_regular(&file)?;
                    rustix::fs::ftruncate(root::reopen(&file, OFlags::WRONLY)?, attributes.size)?;
                }
            }
        }
        if has(set::ATIME | set::MTIME) {
            let time = |is_set, is_now, seconds: u64, nanoseconds: u32| {
                let tv_nsec = match (is_set, is_now) {
                    (false, _) => UTIME_OMIT,
                    (true, true) => UTIME_NOW,
                    (true, false) => nanoseconds.min(999_999_999).into(),
                };
                Timespec { tv_sec: seconds.cast_signed(), tv_nsec }
            };
            let SetattrIn { atime, atimensec, mtime, mtimensec, .. } = attributes;
            let times = Timestamps {
                last_access: time(has(set::ATIME), has(set::ATIME_NOW), atime, atimensec),
                last_modification: time(has(set::MTIME), has(set::MTIME_NOW), mtime, mtimensec),
            };
            rustix::fs::utimensat(CWD, &*path, &times, AtFlags::empty())?;
        }
        self.put_attributes(&fstat(&file)?, reply);
        Ok(())
    }

    /// Returns a file to change, even if only open handles to it remain.
    fn changeable(&self, node: u64) -> Result<OwnedFd, Errno> {
        self.locate(node).or_else(|error| match error {
            Errno::NOENT | Errno::STALE if node != ROOT => {
                rustix::io::fcntl_dupfd_cloexec(self.opened(node).ok_or(error)?, 0)
            }
            _ => Err(error),
        })
    }

    /// Returns an error if the guest changes the owner of the file.
    fn check_owner(&self, attributes: &SetattrIn, before: &Stat) -> Result<(), Errno> {
        let now = self.attributes(before);
        let keeps = |bit, new, now| attributes.valid & bit == 0 || new == now;
        let same = keeps(set::UID, attributes.uid, now.uid) && keeps(set::GID, attributes.gid, now.gid);
        if same { Ok(()) } else { Err(Errno::PERM) }
    }
}
