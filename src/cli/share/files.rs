//! Files that are open.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

/// Maximum number of files that stay open because the guest may go on to read them without opening them. A file that the host
/// replaces meanwhile can still be read.
const MAX_RECENT: usize = 64;

/// A file or directory that the guest has open.
pub(super) struct Handle {
    pub node: u64,
    pub file: OwnedFd,
    pub is_directory: bool,
}

/// The files that the guest has read without opening them. The last one was used last.
#[derive(Default)]
pub(super) struct Recent(VecDeque<(u64, OwnedFd)>);

impl Recent {
    /// Returns the open file of a node.
    pub fn get(&self, node: u64) -> Option<&OwnedFd> {
        self.0.iter().find(|(known, _)| *known == node).map(|(_, file)| file)
    }

    /// Closes the file of a node.
    pub fn remove(&mut self, node: u64) {
        self.0.retain(|(known, _)| *known != node);
    }

    /// Takes the file of a node out, to be added again.
    pub fn take(&mut self, node: u64) -> Option<OwnedFd> {
        let place = self.0.iter().rposition(|(known, _)| *known == node)?;
        self.0.remove(place).map(|(_, file)| file)
    }

    pub fn add(&mut self, node: u64, file: OwnedFd) {
        if self.0.len() >= MAX_RECENT {
            self.0.pop_front();
        }
        self.0.push_back((node, file));
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
