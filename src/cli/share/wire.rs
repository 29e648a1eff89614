//! FUSE's messages (Linux, include/uapi/linux/fuse.h), as of version 7.31. All numbers are little-endian, as x86-64 is.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub const MAJOR: u32 = 7;
pub const MINOR: u32 = 31;
/// The oldest version of a guest. From it on all messages here have their size.
pub const OLDEST_MINOR: u32 = 23;

/// Kinds of requests.
pub mod opcode {
    macro_rules! opcodes {
        ($($name:ident = $value:literal,)*) => {
            $(pub const $name: u32 = $value;)*

            /// Returns the name of a kind that is known here.
            pub fn name(opcode: u32) -> Option<&'static str> {
                match opcode {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        };
    }

    opcodes! {
        LOOKUP = 1,
        FORGET = 2,
        GETATTR = 3,
        SETATTR = 4,
        READLINK = 5,
        SYMLINK = 6,
        MKNOD = 8,
        MKDIR = 9,
        UNLINK = 10,
        RMDIR = 11,
        RENAME = 12,
        LINK = 13,
        OPEN = 14,
        READ = 15,
        WRITE = 16,
        STATFS = 17,
        RELEASE = 18,
        FSYNC = 20,
        INIT = 26,
        OPENDIR = 27,
        READDIR = 28,
        RELEASEDIR = 29,
        FSYNCDIR = 30,
        CREATE = 35,
        INTERRUPT = 36,
        DESTROY = 38,
        IOCTL = 39,
        NOTIFY_REPLY = 41,
        BATCH_FORGET = 42,
        READDIRPLUS = 44,
        RENAME2 = 45,
    }
}

/// Abilities in [`InitIn::flags`] and [`InitOut::flags`].
pub mod ability {
    pub const ASYNC_READ: u32 = 1 << 0;
    pub const ATOMIC_O_TRUNC: u32 = 1 << 3;
    pub const BIG_WRITES: u32 = 1 << 5;
    pub const AUTO_INVAL_DATA: u32 = 1 << 12;
    pub const DO_READDIRPLUS: u32 = 1 << 13;
    pub const READDIRPLUS_AUTO: u32 = 1 << 14;
    pub const NO_OPEN_SUPPORT: u32 = 1 << 17;
    pub const PARALLEL_DIROPS: u32 = 1 << 18;
    pub const MAX_PAGES: u32 = 1 << 22;
}

/// Fields to set, in [`SetattrIn::valid`].
pub mod set {
    pub const MODE: u32 = 1 << 0;
    pub const UID: u32 = 1 << 1;
    pub const GID: u32 = 1 << 2;
    pub const SIZE: u32 = 1 << 3;
    pub const ATIME: u32 = 1 << 4;
    pub const MTIME: u32 = 1 << 5;
    pub const HANDLE: u32 = 1 << 6;
    pub const ATIME_NOW: u32 = 1 << 7;
    pub const MTIME_NOW: u32 = 1 << 8;
}

/// Bit of [`OpenOut::open_flags`]: what the guest has cached of the file stays valid.
pub const KEEP_CACHE: u32 = 1 << 1;

/// The number of a message that no request asked for, in place of an error: it puts data of a file into the guest's cache.
pub const NOTIFY_STORE: i32 = 4;

/// A mark in the number of a reply with data and of a message with data of the next files, which the agent in the guest removes:
/// guest-agent/share.c says what it does with them. Linux counts its numbers from 0.
pub const PASSES: u64 = 1 << 63;

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident, $size:literal { $($field:ident: $kind:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
        #[repr(C)]
        pub struct $name { $(pub $field: $kind,)* }
        const _: () = assert!(size_of::<$name>() == $size);
    )*};
}

messages! {
    /// Starts each request.
    InHeader, 40 { length: u32, opcode: u32, unique: u64, node: u64, uid: u32, gid: u32, pid: u32, extensions: u32, }
    /// Starts each reply.
    OutHeader, 16 { length: u32, error: i32, unique: u64, }
    Attr, 88 {
        ino: u64, size: u64, blocks: u64, atime: u64, mtime: u64, ctime: u64,
        atimensec: u32, mtimensec: u32, ctimensec: u32,
        mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u32, blksize: u32, flags: u32,
    }
    EntryOut, 128 {
        node: u64, generation: u64, entry_valid: u64, attr_valid: u64,
        entry_valid_nsec: u32, attr_valid_nsec: u32, attr: Attr,
    }
    AttrOut, 104 { attr_valid: u64, attr_valid_nsec: u32, reserved: u32, attr: Attr, }
    ForgetIn, 8 { lookups: u64, }
    ForgetOne, 16 { node: u64, lookups: u64, }
    BatchForgetIn, 8 { count: u32, reserved: u32, }
    GetattrIn, 16 { flags: u32, reserved: u32, handle: u64, }
    SetattrIn, 88 {
        valid: u32, padding: u32, handle: u64, size: u64, lock_owner: u64, atime: u64, mtime: u64, ctime: u64,
        atimensec: u32, mtimensec: u32, ctimensec: u32, mode: u32, unused4: u32, uid: u32, gid: u32, unused5: u32,
    }
    MkdirIn, 8 { mode: u32, umask: u32, }
    RenameIn, 8 { new_directory: u64, }
    Rename2In, 16 { new_directory: u64, flags: u32, padding: u32, }
    LinkIn, 8 { old_node: u64, }
    OpenIn, 8 { flags: u32, open_flags: u32, }
    OpenOut, 16 { handle: u64, open_flags: u32, padding: u32, }
    CreateIn, 16 { flags: u32, mode: u32, umask: u32, open_flags: u32, }
    ReleaseIn, 24 { handle: u64, flags: u32, release_flags: u32, lock_owner: u64, }
    ReadIn, 40 {
        handle: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: u32, padding: u32,
    }
    WriteIn, 40 {
        handle: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: u32, padding: u32,
    }
    WriteOut, 8 { size: u32, padding: u32, }
    NotifyStoreOut, 24 { node: u64, offset: u64, size: u32, padding: u32, }
    FsyncIn, 16 { handle: u64, flags: u32, padding: u32, }
    StatfsOut, 80 {
        blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64, bsize: u32, namelen: u32, frsize: u32,
        padding: u32, spare: [u32; 6],
    }
    /// The fields that all versions have.
    InitIn, 16 { major: u32, minor: u32, max_readahead: u32, flags: u32, }
    InitOut, 64 {
        major: u32, minor: u32, max_readahead: u32, flags: u32, max_background: u16, congestion_threshold: u16,
        max_write: u32, time_gran: u32, max_pages: u16, map_alignment: u16, unused: [u32; 8],
    }
    /// An entry of a directory; the name follows, filled up to a multiple of eight bytes.
    Dirent, 24 { ino: u64, offset: u64, name_length: u32, kind: u32, }
}
