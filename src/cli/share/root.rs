//! The shared directory on the host. Whatever the guest names is opened beneath it.
//!
//! The kernel enforces this (`openat2`): a path cannot leave it through `..`, a symbolic link, or a race with someone who
//! moves directories. Only regular files and directories are opened. Other files have attributes, and symbolic links
//! their targets, which the guest follows itself.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, fstatfs, openat2, statat};
use rustix::io::Errno;

/// The guest's access to the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

/// File systems without files of users, by the magic numbers of Linux (linux/magic.h): a read may wait forever there, and
/// a write may change the host.
const SPECIAL: [u32; 16] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0x6265_6570, // configfs
    0xcafe_4a11, // bpf
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x1cd1,      // devpts
    0xde5e_81e4, // efivarfs
    0x6165_676c, // pstore
    0xf97c_ff8c, // selinuxfs
    0x6e73_6673, // nsfs
    0x1980_0202, // mqueue
    0x4249_4e4d, // binfmt_misc
];

const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_SYMLINKS);

/// The shared directory.
pub struct Root {
    directory: OwnedFd,
    pub access: Access,
    /// The file system of the directory itself.
    device: u64,
}

/// Returns an error if the file is on a file system that is not shared.
fn check_kind(file: &OwnedFd) -> Result<(), Errno> {
    // The magic numbers have 32 bits.
    let magic = fstatfs(file)?.f_type as u32;
    if SPECIAL.contains(&magic) { Err(Errno::ACCESS) } else { Ok(()) }
}

/// Returns an error unless `name` is the name of an entry of a directory.
pub fn check_name(name: &[u8]) -> Result<(), Errno> {
    match name {
        b"" | b"." | b".." => Err(Errno::INVAL),
        _ if name.len() > 255 => Err(Errno::NAMETOOLONG),
        _ if name.iter().any(|byte| matches!(byte, 0 | b'/')) => Err(Errno::INVAL),
        _ => Ok(()),
    }
}

/// Returns the kind of a file.
pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

impl Root {
    /// Opens the directory to share.
    ///
    /// # Errors
    /// Returns an error if it cannot be read or is no directory.
    pub fn open(path: &Path, access: Access) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(path, flags, Mode::empty())?;
        check_kind(&directory)?;
        let device = fstat(&directory)?.st_dev;
        Ok(Self { directory, access, device })
    }

    /// Returns an error if the guest may only read.
    pub fn check_writable(&self) -> Result<(), Errno> {
        if self.access == Access::ReadWrite { Ok(()) } else { Err(Errno::ROFS) }
    }

    /// Returns the file at `path`, for its attributes and for [`reopen`]: no file is really opened.
    pub fn locate(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        locate_in(&self.directory, path)
    }

    /// Returns the directory at `path`, for its entries.
    pub fn directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat2(&self.directory, path, flags, Mode::empty(), BENEATH)?;
        check_kind(&file)?;
        Ok(file)
    }

    /// Returns the shared directory's own descriptor.
    pub fn top(&self) -> &OwnedFd {
        &self.directory
    }

    /// Returns an inode number for the guest, to which all of the share is one file system.
    pub fn ino(&self, stat: &Stat) -> u64 {
        stat.st_ino ^ (stat.st_dev ^ self.device).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Returns the attributes of an entry of a directory.
pub fn entry(directory: &OwnedFd, name: &[u8]) -> Result<Stat, Errno> {
    statat(directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
}

/// Returns the file at a path beneath a directory, for its attributes and for [`reopen`].
pub fn locate_in(directory: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat2(directory, name, flags, Mode::empty(), BENEATH)?;
    check_kind(&file)?;
    Ok(file)
}

/// Returns an error unless the file is a regular one.
pub fn check_regular(file: &OwnedFd) -> Result<(), Errno> {
    match kind(&fstat(file)?) {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(Errno::ISDIR),
        FileType::Symlink => Err(Errno::LOOP),
        _ => Err(Errno::ACCESS),
    }
}

/// Makes a file with a name of its own. It does not exist before.
pub fn create(directory: &OwnedFd, name: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(directory, name, flags, mode, BENEATH)
}

/// Returns the path of a located file itself. It leads to that file even if its name now belongs to another.
pub fn own_path(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Opens a located file, which is a regular file or a directory: opening a device or a FIFO could block or have side effects.
pub fn reopen(file: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    let stat = fstat(file)?;
    match kind(&stat) {
        FileType::Directory => {}
        FileType::RegularFile => {
            // If root on the host writes to such a file, the kernel does not clear the bits.
            let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR);
            if writes && stat.st_mode & 0o6000 != 0 {
                return Err(Errno::PERM);
            }
        }
        _ => return Err(Errno::ACCESS),
    }
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    rustix::fs::openat(CWD, own_path(file), flags, Mode::empty())
}
