use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;
use zerocopy::{FromBytes, Immutable, KnownLayout};

use super::*;
use crate::cli::share::opening::MAX_HANDLES;
use crate::cli::share::wire::{
    CreateIn, Dirent, LinkIn, MkdirIn, OpenIn, ReadIn, Rename2In, RenameIn, SetattrIn, WriteIn, WriteOut, set,
};

#[path = "files_tests.rs"]
mod files_tests;

/// A guest of a share, and the host's directory: `share` is shared, and `outside` is beside it.
struct Guest {
    folder: TempDir,
    server: Server,
}

fn guest(access: Access) -> Guest {
    let folder = tempfile::tempdir().unwrap();
    let share = folder.path().join("share");
    fs::create_dir_all(share.join("sub")).unwrap();
    fs::write(share.join("hello"), "from the host").unwrap();
    fs::write(share.join("sub/deep"), "deep").unwrap();
    fs::write(folder.path().join("outside"), "secret").unwrap();
    symlink("../outside", share.join("way-out")).unwrap();
    symlink("..", share.join("up")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, share.join("fifo"), rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let server = Server::new(Root::open(&share, access).unwrap());
    Guest { folder, server }
}

impl Guest {
    fn share(&self) -> std::path::PathBuf {
        self.folder.path().join("share")
    }

    fn ask(&mut self, opcode: u32, node: u64, body: &[&[u8]]) -> Result<Vec<u8>, Errno> {
        let body = body.concat();
        let length = u32::try_from(size_of::<InHeader>() + body.len()).unwrap();
        let header = InHeader { length, opcode, unique: 77, node, ..InHeader::default() };
        let mut reply = Vec::new();
        assert!(self.server.answer(&[header.as_bytes(), &body].concat(), &mut reply));
        let (out, rest) = take::<OutHeader>(&reply).unwrap();
        let mark = if opcode == opcode::READ { PASSES } else { 0 };
        assert_eq!((out.length as usize, out.unique), (reply.len(), 77 | mark));
        if out.error == 0 { Ok(rest.to_vec()) } else { Err(Errno::from_raw_os_error(-out.error)) }
    }

    fn get<T: FromBytes + Immutable + KnownLayout>(
        &mut self,
        opcode: u32,
        node: u64,
        body: &[&[u8]],
    ) -> Result<T, Errno> {
        self.ask(opcode, node, body).map(|reply| take(&reply).unwrap().0)
    }

    fn lookup(&mut self, node: u64, name: &str) -> Result<EntryOut, Errno> {
        self.get(opcode::LOOKUP, node, &[name.as_bytes(), b"\0"])
    }

    fn open(&mut self, node: u64, flags: OFlags) -> Result<u64, Errno> {
        let open = OpenIn { flags: flags.bits(), open_flags: 0 };
        self.get::<OpenOut>(opcode::OPEN, node, &[open.as_bytes()]).map(|open| open.handle)
    }

    fn read(&mut self, opcode: u32, handle: u64, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let read = ReadIn { handle, offset, size, ..ReadIn::default() };
        self.ask(opcode, ROOT, &[read.as_bytes()])
    }

    fn write(&mut self, handle: u64, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        let size = u32::try_from(data.len()).unwrap();
        let write = WriteIn { handle, offset, size, ..WriteIn::default() };
        self.get::<WriteOut>(opcode::WRITE, ROOT, &[write.as_bytes(), data]).map(|out| out.size)
    }

    fn create(&mut self, directory: u64, name: &str, flags: OFlags, mode: u32) -> Result<(u64, u64), Errno> {
        let create = CreateIn { flags: (flags | OFlags::CREATE).bits(), mode, ..CreateIn::default() };
        let reply = self.ask(opcode::CREATE, directory, &[create.as_bytes(), name.as_bytes(), b"\0"])?;
        let (entry, rest) = take::<EntryOut>(&reply).unwrap();
        Ok((entry.node, take::<OpenOut>(rest).unwrap().0.handle))
    }

    fn setattr(&mut self, node: u64, attributes: &SetattrIn) -> Result<AttrOut, Errno> {
        self.get(opcode::SETATTR, node, &[attributes.as_bytes()])
    }

    fn getattr(&mut self, node: u64) -> Result<Attr, Errno> {
        self.get::<AttrOut>(opcode::GETATTR, node, &[GetattrIn::default().as_bytes()]).map(|out| out.attr)
    }

    fn rename(&mut self, from: (u64, &str), to: (u64, &str)) -> Result<(), Errno> {
        let rename = RenameIn { new_directory: to.0 };
        let names = [from.1, to.1].map(|name| format!("{name}\0")).concat();
        self.ask(opcode::RENAME, from.0, &[rename.as_bytes(), names.as_bytes()]).map(|_| ())
    }

    fn names(&mut self, opcode: u32) -> Vec<String> {
        let handle = self.get::<OpenOut>(opcode::OPENDIR, ROOT, &[OpenIn::default().as_bytes()]).unwrap().handle;
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            // Room for few entries: the position matters.
            let reply = self.read(opcode, handle, offset, 512).unwrap();
            let mut rest = &reply[..];
            if rest.is_empty() {
                break;
            }
            while !rest.is_empty() {
                let start = if opcode == opcode::READDIRPLUS { size_of::<EntryOut>() } else { 0 };
                let (dirent, name) = take::<Dirent>(&rest[start..]).unwrap();
                let length = dirent.name_length as usize;
                names.push(String::from_utf8(name[..length].to_vec()).unwrap());
                offset = dirent.offset;
                rest = &rest[(start + size_of::<Dirent>() + length).next_multiple_of(8)..];
            }
        }
        names.sort();
        names
    }
}

const MODE: u32 = 0o100_644;

#[test]
fn files_are_found_and_read() {
    let mut guest = guest(Access::ReadOnly);
    let entry = guest.lookup(ROOT, "hello").unwrap();
    assert_eq!((entry.attr.size, entry.attr.uid), (13, 0), "the user's files are root's in the guest");
    let handle = guest.open(entry.node, OFlags::RDONLY).unwrap();
    assert_eq!(guest.read(opcode::READ, handle, 0, 4096).unwrap(), b"from the host");
    assert_eq!(guest.read(opcode::READ, handle, 9, 2).unwrap(), b"ho");
    assert_eq!(guest.read(opcode::READ, handle, 100, 2).unwrap(), b"");
    let sub = guest.lookup(ROOT, "sub").unwrap().node;
    let deep = guest.lookup(sub, "deep").unwrap().node;
    assert_eq!(guest.getattr(deep).unwrap().size, 4);
    assert!(guest.ask(opcode::READLINK, ROOT, &[]).is_err(), "no link");
    let none = guest.lookup(ROOT, "none").unwrap();
    assert_eq!((none.node, none.entry_valid), (0, VALID), "the guest remembers that there is none");
    let link = guest.lookup(ROOT, "way-out").unwrap().node;
    assert_eq!(guest.ask(opcode::READLINK, link, &[]).unwrap(), b"../outside");
}

#[test]
fn a_directory_is_read_in_parts() {
    let mut guest = guest(Access::ReadOnly);
    let all = [".", "..", "fifo", "hello", "sub", "up", "way-out"];
    assert_eq!(guest.names(opcode::READDIR), all);
    assert_eq!(guest.names(opcode::READDIRPLUS), all);
    // The root, and each entry that has been handed out.
    assert_eq!(guest.server.nodes.count(), 1 + 5);
}

#[test]
fn nothing_leads_out_of_the_share() {
    let mut guest = guest(Access::ReadWrite);
    for name in ["..", ".", "", "sub/deep", "../outside", "/etc/passwd"] {
        assert_eq!(guest.lookup(ROOT, name).unwrap_err(), Errno::INVAL, "{name}");
        assert_eq!(guest.create(ROOT, name, OFlags::RDWR, MODE).unwrap_err(), Errno::INVAL, "{name}");
    }
    let way_out = guest.lookup(ROOT, "way-out").unwrap().node;
    assert_eq!(guest.open(way_out, OFlags::RDONLY).unwrap_err(), Errno::LOOP);
    assert_eq!(guest.create(ROOT, "way-out", OFlags::RDWR, MODE).unwrap_err(), Errno::LOOP);
    let up = guest.lookup(ROOT, "up").unwrap().node;
    assert!(guest.lookup(up, "outside").is_err());
    assert!(guest.ask(opcode::OPENDIR, up, &[OpenIn::default().as_bytes()]).is_err());
    // The host replaces a directory that the guest knows by a link.
    let sub = guest.lookup(ROOT, "sub").unwrap().node;
    let share = guest.share();
    fs::rename(share.join("sub"), share.join("moved")).unwrap();
    symlink("..", share.join("sub")).unwrap();
    assert!(guest.lookup(sub, "outside").is_err());
    assert!(guest.create(sub, "new", OFlags::RDWR, MODE).is_err());
    assert!(!guest.folder.path().join("new").exists());
}

#[test]
fn a_name_that_now_belongs_to_another_file_is_another_node() {
    let mut guest = guest(Access::ReadOnly);
    let before = guest.lookup(ROOT, "hello").unwrap().node;
    let handle = guest.open(before, OFlags::RDONLY).unwrap();
    let share = guest.share();
    fs::write(share.join("new"), "new").unwrap();
    fs::rename(share.join("new"), share.join("hello")).unwrap();
    let now = guest.lookup(ROOT, "hello").unwrap().node;
    assert_ne!(before, now);
    assert_eq!(guest.open(before, OFlags::RDONLY).unwrap_err(), Errno::STALE);
    assert_eq!(guest.read(opcode::READ, handle, 0, 4).unwrap(), b"from", "what is open stays");
    assert_eq!(guest.getattr(before).unwrap().size, 13);
}

#[test]
fn a_share_that_is_read_only_does_not_change() {
    let mut guest = guest(Access::ReadOnly);
    let node = guest.lookup(ROOT, "hello").unwrap().node;
    for flags in [OFlags::WRONLY, OFlags::RDWR, OFlags::TRUNC, OFlags::RWMODE] {
        assert_eq!(guest.open(node, flags).unwrap_err(), Errno::ROFS);
    }
    let changes = [
        opcode::SETATTR,
        opcode::WRITE,
        opcode::CREATE,
        opcode::MKNOD,
        opcode::MKDIR,
        opcode::SYMLINK,
        opcode::LINK,
        opcode::UNLINK,
        opcode::RMDIR,
        opcode::RENAME,
        opcode::RENAME2,
    ];
    for change in changes {
        assert_eq!(guest.ask(change, ROOT, &[&[0; 200]]).unwrap_err(), Errno::ROFS, "{change}");
    }
}

#[test]
fn devices_and_fifos_are_not_opened() {
    let mut guest = guest(Access::ReadWrite);
    let fifo = guest.lookup(ROOT, "fifo").unwrap();
    assert_eq!(fifo.attr.mode & 0o170_000, 0o010_000);
    for flags in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR] {
        assert_eq!(guest.open(fifo.node, flags).unwrap_err(), Errno::ACCESS);
        assert_eq!(guest.create(ROOT, "fifo", flags, MODE).unwrap_err(), Errno::ACCESS);
    }
    let shrink = SetattrIn { valid: set::SIZE, ..SetattrIn::default() };
    assert_eq!(guest.setattr(fifo.node, &shrink).unwrap_err(), Errno::ACCESS);
}

#[test]
fn file_systems_of_the_kernel_are_not_shared() {
    assert_eq!(Root::open(Path::new("/proc"), Access::ReadOnly).err(), Some(Errno::ACCESS));
    let mut server = Server::new(Root::open(Path::new("/"), Access::ReadOnly).unwrap());
    let header = InHeader { opcode: opcode::LOOKUP, node: ROOT, ..InHeader::default() };
    let mut reply = Vec::new();
    assert!(server.answer(&[header.as_bytes(), b"proc\0"].concat(), &mut reply));
    let (entry, _) = take::<EntryOut>(&reply[size_of::<OutHeader>()..]).unwrap();
    let header = InHeader { node: entry.node, ..header };
    assert!(server.answer(&[header.as_bytes(), b"version\0"].concat(), &mut reply));
    assert_eq!(take::<OutHeader>(&reply).unwrap().0.error, -Errno::ACCESS.raw_os_error());
}

#[test]
fn files_are_made_written_and_removed() {
    let mut guest = guest(Access::ReadWrite);
    let path = guest.share().join("new");
    let (node, handle) = guest.create(ROOT, "new", OFlags::RDWR, 0o106_755).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7000, 0, "not set-user-ID");
    assert_eq!(guest.write(handle, 0, b"0123456789").unwrap(), 10);
    assert_eq!(guest.write(handle, 4, b"xx").unwrap(), 2);
    assert_eq!(fs::read(&path).unwrap(), b"0123xx6789");
    let shrink = SetattrIn { valid: set::SIZE, size: 5, ..SetattrIn::default() };
    assert_eq!(guest.setattr(node, &shrink).unwrap().attr.size, 5);
    assert_eq!(guest.create(ROOT, "new", OFlags::RDWR | OFlags::EXCL, MODE).unwrap_err(), Errno::EXIST);
    let (same, again) = guest.create(ROOT, "new", OFlags::RDWR | OFlags::TRUNC, MODE).unwrap();
    assert_eq!((same, fs::metadata(&path).unwrap().len()), (node, 0));
    guest.ask(opcode::UNLINK, ROOT, &[b"new\0"]).unwrap();
    assert!(!path.exists());
    assert_eq!(guest.write(again, 0, b"still open").unwrap(), 10);
    assert_eq!(guest.getattr(node).unwrap().size, 10, "an open file lives on");
    let shrink = SetattrIn { valid: set::SIZE, size: 1, ..SetattrIn::default() };
    assert_eq!(guest.setattr(node, &shrink).unwrap().attr.size, 1);
    for handle in [handle, again] {
        let release = ReleaseIn { handle, ..ReleaseIn::default() };
        guest.ask(opcode::RELEASE, node, &[release.as_bytes()]).unwrap();
        assert_eq!(guest.ask(opcode::RELEASE, node, &[release.as_bytes()]).unwrap_err(), Errno::BADF);
    }
    assert_eq!(guest.getattr(node).unwrap_err(), Errno::STALE);
}

#[test]
fn attributes_are_set_within_limits() {
    let mut guest = guest(Access::ReadWrite);
    let path = guest.share().join("hello");
    let node = guest.lookup(ROOT, "hello").unwrap().node;
    let mode = SetattrIn { valid: set::MODE, mode: 0o106_751, ..SetattrIn::default() };
    assert_eq!(guest.setattr(node, &mode).unwrap().attr.mode, 0o100_751);
    let time = SetattrIn { valid: set::MTIME, mtime: 1_000_000, mtimensec: 5, ..SetattrIn::default() };
    guest.setattr(node, &time).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1_000_000, 5));
    let owner = SetattrIn { valid: set::UID | set::GID, ..SetattrIn::default() };
    guest.setattr(node, &owner).unwrap();
    let owner = SetattrIn { uid: 12345, ..owner };
    assert_eq!(guest.setattr(node, &owner).unwrap_err(), Errno::PERM);
    // A link's own time, not that of the file it leads to.
    let link = guest.lookup(ROOT, "way-out").unwrap().node;
    guest.setattr(link, &time).unwrap();
    let outside = guest.folder.path().join("outside");
    assert_ne!(fs::metadata(&outside).unwrap().mtime(), 1_000_000);
    assert_eq!(fs::symlink_metadata(guest.share().join("way-out")).unwrap().mtime(), 1_000_000);
    assert_eq!(guest.setattr(link, &mode).unwrap_err(), Errno::OPNOTSUPP);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
    assert_eq!(guest.open(node, OFlags::RDWR).unwrap_err(), Errno::PERM, "a set-user-ID program is not overwritten");
}

#[test]
fn a_rename_moves_names_and_their_nodes() {
    let mut guest = guest(Access::ReadWrite);
    let sub = guest.lookup(ROOT, "sub").unwrap().node;
    let deep = guest.lookup(sub, "deep").unwrap().node;
    let hello = guest.lookup(ROOT, "hello").unwrap().node;
    guest.rename((ROOT, "sub"), (ROOT, "other")).unwrap();
    assert_eq!(guest.getattr(deep).unwrap().size, 4, "what is in a directory moves with it");
    assert_eq!(guest.lookup(ROOT, "other").unwrap().node, sub);
    guest.rename((ROOT, "hello"), (sub, "deep")).unwrap();
    assert_eq!(guest.getattr(hello).unwrap().size, 13);
    assert_eq!(guest.getattr(deep).unwrap_err(), Errno::STALE, "it was replaced");
    assert_eq!(guest.rename((ROOT, "other"), (sub, "in")).unwrap_err(), Errno::INVAL);
    let exchange = Rename2In { new_directory: ROOT, flags: 2, padding: 0 };
    guest.ask(opcode::RENAME2, sub, &[exchange.as_bytes(), b"deep\0fifo\0"]).unwrap();
    assert_eq!(fs::read(guest.share().join("fifo")).unwrap(), b"from the host");
    assert_eq!(guest.getattr(hello).unwrap().size, 13);
    let whiteout = Rename2In { flags: 4, ..exchange };
    assert_eq!(guest.ask(opcode::RENAME2, ROOT, &[whiteout.as_bytes(), b"fifo\0x\0"]).unwrap_err(), Errno::INVAL);
}

#[test]
fn directories_and_links_are_made_and_removed() {
    let mut guest = guest(Access::ReadWrite);
    let make = MkdirIn { mode: 0o755, umask: 0 };
    let made = guest.get::<EntryOut>(opcode::MKDIR, ROOT, &[make.as_bytes(), b"made\0"]).unwrap();
    assert!(guest.share().join("made").is_dir());
    guest.get::<EntryOut>(opcode::SYMLINK, made.node, &[b"link\0/etc/passwd\0"]).unwrap();
    assert_eq!(fs::read_link(guest.share().join("made/link")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(guest.ask(opcode::RMDIR, ROOT, &[b"made\0"]).unwrap_err(), Errno::NOTEMPTY);
    guest.ask(opcode::UNLINK, made.node, &[b"link\0"]).unwrap();
    guest.ask(opcode::RMDIR, ROOT, &[b"made\0"]).unwrap();
    let hello = guest.lookup(ROOT, "hello").unwrap();
    let link = LinkIn { old_node: hello.node };
    let linked = guest.get::<EntryOut>(opcode::LINK, ROOT, &[link.as_bytes(), b"linked\0"]).unwrap();
    assert_eq!((linked.attr.ino, linked.attr.nlink), (hello.attr.ino, 2));
    assert_eq!(guest.ask(opcode::MKNOD, ROOT, &[&[0; 16], b"device\0"]).unwrap_err(), Errno::PERM);
}

#[test]
fn nodes_are_released_when_the_guest_forgets_them() {
    let mut guest = guest(Access::ReadOnly);
    let sub = guest.lookup(ROOT, "sub").unwrap().node;
    let deep = guest.lookup(sub, "deep").unwrap().node;
    guest.lookup(sub, "deep").unwrap();
    let mut forget = |node, lookups| {
        let batch = BatchForgetIn { count: 1, reserved: 0 };
        let header = InHeader { opcode: opcode::BATCH_FORGET, ..InHeader::default() };
        let one = ForgetOne { node, lookups };
        let request = [header.as_bytes(), batch.as_bytes(), one.as_bytes()].concat();
        assert!(!guest.server.answer(&request, &mut Vec::new()), "no reply");
        guest.server.nodes.count()
    };
    assert_eq!(forget(sub, 1), 3, "a directory stays while something in it is known");
    assert_eq!(forget(deep, 1), 3);
    assert_eq!(forget(ROOT, u64::MAX), 3);
    assert_eq!(forget(deep, u64::MAX), 1);
}

#[test]
fn versions_are_negotiated() {
    let mut guest = guest(Access::ReadOnly);
    let init = InitIn { major: 7, minor: 45, max_readahead: u32::MAX, flags: u32::MAX };
    let out = guest.get::<InitOut>(opcode::INIT, 0, &[init.as_bytes(), &[0xff; 48]]).unwrap();
    assert_eq!((out.major, out.minor, out.max_pages), (7, 31, 64));
    let older = InitIn { minor: 27, flags: 0, ..init };
    let out = guest.get::<InitOut>(opcode::INIT, 0, &[older.as_bytes()]).unwrap();
    assert_eq!((out.minor, out.flags), (27, 0));
    let oldest = InitIn { minor: 22, ..init };
    assert_eq!(guest.ask(opcode::INIT, 0, &[oldest.as_bytes()]).unwrap_err(), Errno::PROTO);
}

#[test]
fn open_files_and_sizes_are_bounded() {
    let mut guest = guest(Access::ReadWrite);
    let node = guest.lookup(ROOT, "hello").unwrap().node;
    let handle = guest.open(node, OFlags::RDWR).unwrap();
    assert_eq!(guest.read(opcode::READ, handle, 0, u32::MAX).unwrap_err(), Errno::INVAL);
    assert_eq!(guest.read(opcode::READ, handle, u64::MAX, 4096).unwrap_err(), Errno::INVAL);
    assert_eq!(guest.write(handle, i64::MAX as u64, b"x").unwrap_err(), Errno::INVAL);
    let short = WriteIn { handle, size: 4096, ..WriteIn::default() };
    assert_eq!(guest.ask(opcode::WRITE, node, &[short.as_bytes(), b"x"]).unwrap_err(), Errno::INVAL);
    assert_eq!(guest.read(opcode::READDIR, handle, 0, 4096).unwrap_err(), Errno::BADF);
    let error = loop {
        if let Err(error) = guest.open(node, OFlags::RDONLY) {
            break error;
        }
    };
    // The process may have a lower limit.
    assert!(matches!(error, Errno::NFILE | Errno::MFILE), "{error}");
    assert!(guest.server.handles.len() <= MAX_HANDLES);
}

/// A request that is nearly right, so that it gets far.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let names = prop::sample::select(vec![
        "hello",
        "sub",
        "deep",
        "way-out",
        "up",
        "fifo",
        "new",
        "..",
        "../outside",
        "outside",
        "/",
        "",
    ]);
    let small = prop_oneof![4 => 0u64..6, 1 => any::<u64>()];
    let body = (0usize..100, vec(small.clone(), 0..12), vec(names, 0..3), vec(any::<u8>(), 0..16));
    (0u32..55, small, body).prop_map(|(opcode, node, (cut, words, names, rest))| {
        let header = InHeader { opcode, node, ..InHeader::default() };
        let mut request = header.as_bytes().to_vec();
        words.iter().for_each(|word| request.extend(word.to_le_bytes()));
        request.truncate(request.len().saturating_sub(cut % 9).max(size_of::<InHeader>()));
        names.iter().for_each(|name| request.extend(format!("{name}\0").as_bytes()));
        request.extend(rest);
        request
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_requests_do_not_change_files_outside_of_the_share(
        requests in vec(prop_oneof![9 => request(), 1 => vec(any::<u8>(), 0..200)], 1..200),
    ) {
        let mut guest = guest(Access::ReadWrite);
        let mut reply = Vec::new();
        for request in requests {
            if guest.server.answer(&request, &mut reply) {
                let (out, _) = take::<OutHeader>(&reply).unwrap();
                prop_assert_eq!(out.length as usize, reply.len());
                prop_assert!(reply.len() <= MAX_DATA + size_of::<OutHeader>());
            }
        }
        let mut beside: Vec<_> = fs::read_dir(guest.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        beside.sort();
        prop_assert_eq!(beside, ["outside", "share"]);
        prop_assert_eq!(fs::read(guest.folder.path().join("outside")).unwrap(), b"secret");
        for node in 1..guest.server.nodes.count() as u64 {
            let _ = guest.server.nodes.path(node);
        }
    }
}
