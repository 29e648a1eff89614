//! The files that the guest knows, by their numbers: names beneath the shared directory, and no open files.
//!
//! So a large tree takes memory, but no descriptors. A number stays with its file: if the host gives the name to another
//! file, that one gets a new number.

use std::collections::HashMap;
use std::sync::Arc;

use rustix::io::Errno;

/// A state of a file's contents: when it was changed, and its size.
pub(super) type Version = (i64, u64, i64);

/// The number of the shared directory itself (`FUSE_ROOT_ID`).
pub const ROOT: u64 = 1;
/// Maximum number of files that a guest can know at a time. Each takes some 200 bytes.
const MAX_NODES: usize = 1 << 19;
/// The number of nodes after one that are looked at for its neighbors.
const LOOK_AHEAD: u64 = 32;
/// The kind of a regular file in an [`Identity`] (`S_IFREG`).
const REGULAR: u32 = 0o100_000;
/// Maximum length of a path (`PATH_MAX`).
const MAX_PATH: usize = 4096;

/// The identity of a file, as opposed to another file that gets its name later: device, inode, and kind of file.
pub type Identity = (u64, u64, u32);

struct Node {
    identity: Identity,
    /// Directory and name; none if the name is gone.
    place: Option<Place>,
    /// The number of replies with this node that the guest has not forgotten.
    lookups: u64,
    /// The number of nodes that have this one as their directory.
    children: u64,
    /// The contents that the guest's cache got last, without the guest's asking for them.
    stored: Option<Version>,
}

type Place = (u64, Arc<[u8]>);

/// The files that the guest knows.
pub struct Nodes {
    nodes: HashMap<u64, Node>,
    places: HashMap<Place, u64>,
    next: u64,
}

impl Nodes {
    pub fn new() -> Self {
        let root = Node { identity: (0, 0, 0), place: None, lookups: 1, children: 0, stored: None };
        Self { nodes: HashMap::from([(ROOT, root)]), places: HashMap::new(), next: ROOT + 1 }
    }

    /// Returns the path beneath the shared directory.
    ///
    /// # Errors
    /// Returns an error if the guest does not know the node, its name is gone, or the path is too long.
    pub fn path(&self, node: u64) -> Result<Vec<u8>, Errno> {
        let mut names = Vec::new();
        let mut length = 0;
        let mut at = node;
        while at != ROOT {
            let (parent, name) = self.nodes.get(&at).and_then(|node| node.place.as_ref()).ok_or(Errno::STALE)?;
            length += name.len() + 1;
            if length > MAX_PATH {
                return Err(Errno::NAMETOOLONG);
            }
            names.push(&**name);
            at = *parent;
        }
        names.reverse();
        if names.is_empty() { Ok(b".".to_vec()) } else { Ok(names.join(&b'/')) }
    }

    /// Returns the identity that a node had when the guest got it.
    pub fn identity(&self, node: u64) -> Option<Identity> {
        self.nodes.get(&node).map(|node| node.identity)
    }

    /// Returns the regular files in the same directory that the guest got to know soon after `node`, in that order, if their contents
    /// were not [stored](Self::store).
    pub fn next_unread(&self, node: u64) -> impl Iterator<Item = u64> {
        let directory = self.directory(node);
        (node.saturating_add(1)..=node.saturating_add(LOOK_AHEAD)).filter(move |next| {
            self.nodes.get(next).is_some_and(|known| {
                known.stored.is_none()
                    && known.identity.2 == REGULAR
                    && known.place.as_ref().map(|place| place.0) == directory
            })
        })
    }

    /// Returns the directory of a node that has a name.
    pub fn directory(&self, node: u64) -> Option<u64> {
        self.nodes.get(&node)?.place.as_ref().map(|place| place.0)
    }

    /// Records that the guest's cache gets these contents of a file. Returns `false` if it has got them already.
    pub fn store(&mut self, node: u64, version: Version) -> bool {
        self.nodes.get_mut(&node).is_some_and(|node| node.stored.replace(version) != Some(version))
    }

    /// Returns the node of a name, which the guest then knows once more.
    ///
    /// # Errors
    /// Returns an error if the directory is unknown, or the guest knows too many files.
    pub fn enter(&mut self, directory: u64, name: &[u8], identity: Identity) -> Result<u64, Errno> {
        let place = (directory, Arc::from(name));
        if let Some(known) = self.places.get(&place) {
            let known = *known;
            match self.nodes.get_mut(&known) {
                Some(node) if node.identity == identity => {
                    node.lookups = node.lookups.saturating_add(1);
                    return Ok(known);
                }
                _ => self.lose(directory, name),
            }
        }
        if self.nodes.len() >= MAX_NODES {
            return Err(Errno::NFILE);
        }
        self.nodes.get_mut(&directory).ok_or(Errno::STALE)?.children += 1;
        let number = self.next;
        self.next += 1;
        self.places.insert(place.clone(), number);
        self.nodes.insert(number, Node { identity, place: Some(place), lookups: 1, children: 0, stored: None });
        Ok(number)
    }

    /// The guest has forgotten a node that many times.
    pub fn forget(&mut self, node: u64, lookups: u64) {
        if node == ROOT {
            return;
        }
        if let Some(known) = self.nodes.get_mut(&node) {
            known.lookups = known.lookups.saturating_sub(lookups);
        }
        self.collect(node);
    }

    /// The name is gone. The guest may go on to use the file through its handles.
    pub fn lose(&mut self, directory: u64, name: &[u8]) {
        let Some(node) = self.places.remove(&(directory, Arc::from(name))) else { return };
        if let Some(node) = self.nodes.get_mut(&node) {
            node.place = None;
        }
        self.leave(directory);
        self.collect(node);
    }

    /// A name has moved, and replaced what had the new one; with `exchange`, each has the other's name now.
    pub fn rename(&mut self, from: (u64, &[u8]), to: (u64, &[u8]), exchange: bool) {
        if from == to {
            return;
        }
        let moved = self.take(from);
        let replaced = self.take(to);
        if let Some(node) = moved {
            self.put(node, to);
        }
        match replaced {
            Some(node) if exchange => self.put(node, from),
            Some(node) => self.collect(node),
            None => {}
        }
        for directory in [from.0, to.0] {
            self.collect(directory);
        }
    }

    /// Returns `false` if `directory` is the named entry or beneath it, as far as the guest knows.
    pub fn can_move(&self, (parent, name): (u64, &[u8]), directory: u64) -> bool {
        let Some(moved) = self.places.get(&(parent, Arc::from(name))) else { return true };
        let mut at = directory;
        // This ends: each step leads to a parent, and this function prevents cycles.
        while at != *moved {
            match self.nodes.get(&at).and_then(|node| node.place.as_ref()) {
                Some((parent, _)) => at = *parent,
                None => return true,
            }
        }
        false
    }

    fn take(&mut self, (directory, name): (u64, &[u8])) -> Option<u64> {
        let node = self.places.remove(&(directory, Arc::from(name)))?;
        self.nodes.get_mut(&node)?.place = None;
        if let Some(parent) = self.nodes.get_mut(&directory) {
            parent.children -= 1;
        }
        Some(node)
    }

    fn put(&mut self, node: u64, (directory, name): (u64, &[u8])) {
        let (Some(_), Some(parent)) = (self.nodes.get(&node).map(|_| ()), self.nodes.get_mut(&directory)) else {
            return;
        };
        parent.children += 1;
        let place: Place = (directory, Arc::from(name));
        self.places.insert(place.clone(), node);
        if let Some(node) = self.nodes.get_mut(&node) {
            node.place = Some(place);
        }
    }

    fn leave(&mut self, directory: u64) {
        if let Some(parent) = self.nodes.get_mut(&directory) {
            parent.children -= 1;
        }
        self.collect(directory);
    }

    /// Removes a node that is no longer referenced, then its parents in the same way.
    fn collect(&mut self, mut node: u64) {
        while node != ROOT {
            let Some(known) = self.nodes.get(&node).filter(|node| node.lookups == 0 && node.children == 0) else {
                return;
            };
            let place = known.place.clone();
            self.nodes.remove(&node);
            let Some(place) = place else { return };
            self.places.remove(&place);
            node = place.0;
            if let Some(parent) = self.nodes.get_mut(&node) {
                parent.children -= 1;
            }
        }
    }

    /// Checks that numbers, places and counts belong together. Returns the number of nodes.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        for (number, node) in &self.nodes {
            let beneath =
                self.nodes.values().filter(|other| other.place.as_ref().is_some_and(|place| place.0 == *number));
            assert_eq!(beneath.count() as u64, node.children, "children of {number}");
            assert!(*number == ROOT || node.lookups > 0 || node.children > 0, "nobody needs {number}");
            assert!(node.place.as_ref().is_none_or(|place| self.places.get(place) == Some(number)), "{number}");
        }
        let placed = self.nodes.values().filter(|node| node.place.is_some()).count();
        assert_eq!(placed, self.places.len());
        self.nodes.len()
    }
}
