//! Tests of the files that a guest opens, and of those that it reads without opening them.

use super::*;
use crate::cli::share::wire::{NOTIFY_STORE, NotifyStoreOut};

/// A guest that reads files of a read-only share without opening them.
fn reader() -> Guest {
    let mut guest = guest(Access::ReadOnly);
    guest.init(ability::NO_OPEN_SUPPORT);
    guest
}

impl Guest {
    fn init(&mut self, flags: u32) {
        let init = InitIn { major: MAJOR, minor: MINOR, max_readahead: 0, flags };
        self.ask(opcode::INIT, 0, &[init.as_bytes()]).unwrap();
    }

    /// Reads a file that the guest has not opened.
    fn read_node(&mut self, node: u64, size: u32) -> Result<Vec<u8>, Errno> {
        self.ask(opcode::READ, node, &[ReadIn { size, ..ReadIn::default() }.as_bytes()])
    }

    /// Opens a file, and returns the contents that the guest's cache gets with that.
    fn stored(&mut self, node: u64, flags: OFlags) -> (u64, Option<Vec<u8>>) {
        let handle = self.open(node, flags).unwrap();
        let notice = self.server.notice();
        if notice.is_empty() {
            return (handle, None);
        }
        let (out, rest) = take::<OutHeader>(notice).unwrap();
        assert_eq!((out.length as usize, out.error, out.unique), (notice.len(), NOTIFY_STORE, 0));
        let (store, data) = take::<NotifyStoreOut>(rest).unwrap();
        assert_eq!((store.node, store.offset, store.size as usize), (node, 0, data.len()));
        (handle, Some(data.to_vec()))
    }

    /// Returns the nodes and the contents of the files that come behind the last reply.
    fn ahead(&self) -> Vec<(u64, Vec<u8>)> {
        let (mut files, mut rest) = (Vec::new(), self.server.ahead());
        while !rest.is_empty() {
            let (out, body) = take::<OutHeader>(rest).unwrap();
            assert_eq!((out.error, out.unique), (NOTIFY_STORE, PASSES));
            let (store, data) = take::<NotifyStoreOut>(body).unwrap();
            files.push((store.node, data[..store.size as usize].to_vec()));
            assert_eq!(out.length as usize, 16 + 24 + store.size as usize);
            rest = &rest[out.length as usize..];
        }
        files
    }

    fn release(&mut self, handle: u64) {
        let release = ReleaseIn { handle, ..ReleaseIn::default() };
        self.ask(opcode::RELEASE, ROOT, &[release.as_bytes()]).unwrap();
    }
}

#[test]
fn a_read_only_share_is_read_without_opening_files() {
    let mut guest = reader();
    let node = guest.lookup(ROOT, "hello").unwrap().node;
    assert_eq!(guest.open(node, OFlags::RDONLY).unwrap_err(), Errno::NOSYS);
    assert_eq!(guest.open(node, OFlags::RDWR).unwrap_err(), Errno::ROFS);
    assert_eq!(guest.read_node(node, 4096).unwrap(), b"from the host");
    assert_eq!(guest.read_node(node, 4).unwrap(), b"from");
    for name in ["fifo", "way-out", "sub"] {
        let node = guest.lookup(ROOT, name).unwrap().node;
        guest.read_node(node, 4).unwrap_err();
    }
    guest.read_node(12345, 4).unwrap_err();
    assert_eq!(guest.names(opcode::READDIRPLUS).len(), 7, "directories are opened");
}

#[test]
fn a_file_that_is_replaced_can_be_read_while_it_was_read_recently() {
    let mut guest = reader();
    let node = guest.lookup(ROOT, "hello").unwrap().node;
    guest.read_node(node, 4).unwrap();
    let share = guest.share();
    fs::write(share.join("new"), "new").unwrap();
    fs::rename(share.join("new"), share.join("hello")).unwrap();
    assert_eq!(guest.read_node(node, 4).unwrap(), b"from");
    assert_eq!(guest.getattr(node).unwrap().size, 13);
    let now = guest.lookup(ROOT, "hello").unwrap().node;
    assert_eq!(guest.read_node(now, 4).unwrap(), b"new");
    let header = InHeader { opcode: opcode::FORGET, node, ..InHeader::default() };
    assert!(!guest.server.answer(&[header.as_bytes(), ForgetIn { lookups: 1 }.as_bytes()].concat(), &mut Vec::new()));
    assert_eq!(guest.server.recent.len(), 1, "what the guest has forgotten is closed");
    guest.read_node(node, 4).unwrap_err();
}

#[test]
fn files_that_are_read_without_opening_them_are_bounded() {
    let mut guest = reader();
    for number in 0..100 {
        let name = format!("file {number}");
        fs::write(guest.share().join(&name), &name).unwrap();
        let node = guest.lookup(ROOT, &name).unwrap().node;
        assert_eq!(guest.read_node(node, 64).unwrap(), name.as_bytes());
    }
    assert_eq!(guest.server.recent.len(), 64);
}

#[test]
fn a_share_that_can_be_written_has_files_opened() {
    let mut guest = guest(Access::ReadWrite);
    guest.init(u32::MAX);
    let node = guest.lookup(ROOT, "hello").unwrap().node;
    guest.open(node, OFlags::RDONLY).unwrap();
    guest.read_node(node, 4).unwrap_err();
}

#[test]
fn a_small_file_comes_with_its_opening_once() {
    let mut guest = guest(Access::ReadWrite);
    let share = guest.share();
    let node = guest.lookup(ROOT, "hello").unwrap().node;
    let (first, data) = guest.stored(node, OFlags::RDONLY);
    assert_eq!(data.as_deref(), Some(&b"from the host"[..]));
    guest.getattr(node).unwrap();
    assert_eq!(guest.server.notice(), b"", "it is sent once");
    guest.release(first);
    let (second, data) = guest.stored(node, OFlags::RDONLY);
    assert_eq!(data, None, "the guest has it");
    fs::write(share.join("hello"), "changed").unwrap();
    assert_eq!(guest.stored(node, OFlags::RDONLY).1, None, "a program of the guest has it open");
    guest.release(second);
    guest.release(second + 1);
    assert_eq!(guest.stored(node, OFlags::RDWR).1.as_deref(), Some(&b"changed"[..]));
    for (name, size) in [("empty", 0), ("large", 40_000)] {
        fs::write(share.join(name), vec![1; size]).unwrap();
        let node = guest.lookup(ROOT, name).unwrap().node;
        assert_eq!(guest.stored(node, OFlags::RDONLY).1, None, "{name}");
    }
    let deep = guest.lookup(ROOT, "sub").unwrap().node;
    let deep = guest.lookup(deep, "deep").unwrap().node;
    assert_eq!(guest.stored(deep, OFlags::WRONLY).1, None, "nobody reads it");
}

#[test]
fn the_files_behind_those_that_a_guest_reads_come_without_a_request() {
    let mut guest = reader();
    let share = guest.share();
    let name = |number: usize| format!("sub/{number}");
    let mut nodes = Vec::new();
    let sub = guest.lookup(ROOT, "sub").unwrap().node;
    for number in 0..20 {
        fs::write(share.join(name(number)), name(number)).unwrap();
        nodes.push(guest.lookup(sub, &number.to_string()).unwrap().node);
    }
    fs::write(share.join(name(3)), vec![1; 40_000]).unwrap();
    let file = |number: usize| (nodes[number], name(number).into_bytes());
    guest.read_node(nodes[0], 4096).unwrap();
    assert!(guest.ahead().is_empty(), "one file says nothing");
    guest.read_node(nodes[1], 4096).unwrap();
    assert_eq!(guest.ahead(), [file(2)], "the next two, but not the large one");
    guest.read_node(nodes[1], 4).unwrap();
    assert_eq!(guest.ahead(), [file(4), file(5), file(6)], "each once");
    fs::write(share.join(name(8)), "").unwrap();
    guest.read_node(nodes[7], 4096).unwrap();
    assert_eq!(guest.ahead(), [9, 10, 11, 12, 13, 14, 15].map(file), "no more than eight");
    // Another directory: this could be anything.
    let node = guest.lookup(ROOT, "hello").unwrap().node;
    guest.read_node(node, 4096).unwrap();
    assert!(guest.ahead().is_empty());
    guest.getattr(node).unwrap();
    assert!(guest.ahead().is_empty());
}
