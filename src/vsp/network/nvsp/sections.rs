//! The ownership of the receive buffer's sections.
//!
//! A section is free, or belongs to the guest. A packet passes several sections to the guest as one transaction, and
//! the guest's completion of that transaction returns all of them. A guest can return only what it has, and only once.

/// Marks the end of a chain.
const END: u32 = u32::MAX;

/// The state of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    Free,
    /// Owned by the guest; not the first of its transaction.
    Follower,
    /// Owned by the guest; the first of its transaction. It must be returned on this channel.
    Head {
        channel: u16,
    },
}

/// Identifies the sections that were passed to the guest in one packet. It is the number of the first of them, so that no
/// look-up is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transaction(pub u64);

/// A completion of a transaction that the guest does not have on this channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("channel {channel} completes transaction {transaction:#x}, which is not its own")]
pub struct NotOwned {
    /// The channel of the completion.
    pub channel: u16,
    /// The transaction.
    pub transaction: u64,
}

/// The sections of one receive buffer.
#[derive(Clone, Debug)]
pub struct Sections {
    states: Vec<Section>,
    /// For each section, the next one in its chain: of free sections, or of a transaction.
    next: Vec<u32>,
    first_free: u32,
    free: usize,
}

impl Sections {
    /// Creates `count` free sections.
    pub fn new(count: u32) -> Self {
        let next = (1..count).chain([END]).take(count as usize).collect();
        let first_free = if count == 0 { END } else { 0 };
        Self { states: vec![Section::Free; count as usize], next, first_free, free: count as usize }
    }

    /// Returns the number of sections.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Returns `true` if there are no sections at all.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Returns the number of free sections.
    pub fn free(&self) -> usize {
        self.free
    }

    /// Takes a free section for a packet on `channel`. The first section of a packet begins a transaction; pass its number as
    /// `transaction` for the others.
    pub fn take(&mut self, channel: u16, transaction: Option<Transaction>) -> Option<u32> {
        let section = self.first_free;
        let index = section as usize;
        let after = *self.next.get(index)?;
        match transaction {
            None => {
                self.states[index] = Section::Head { channel };
                self.next[index] = END;
            }
            // Inserted behind the head, because the order of the chain does not matter.
            Some(Transaction(head)) => {
                let head = usize::try_from(head).ok().filter(|head| *head < self.states.len())?;
                self.states[index] = Section::Follower;
                self.next[index] = self.next[head];
                self.next[head] = section;
            }
        }
        self.first_free = after;
        self.free -= 1;
        Some(section)
    }

    /// Takes back all sections of a transaction, and returns their number.
    ///
    /// # Errors
    /// Returns an error if the guest does not have them, or has them on another channel.
    pub fn give_back(&mut self, channel: u16, transaction: Transaction) -> Result<usize, NotOwned> {
        let refused = NotOwned { channel, transaction: transaction.0 };
        let head = u32::try_from(transaction.0).map_err(|_| refused)?;
        if self.states.get(head as usize) != Some(&Section::Head { channel }) {
            return Err(refused);
        }
        let mut count = 0;
        let mut section = head;
        while let Some(state) = self.states.get_mut(section as usize) {
            *state = Section::Free;
            let after = self.next[section as usize];
            self.next[section as usize] = self.first_free;
            self.first_free = section;
            section = after;
            count += 1;
        }
        self.free += count;
        Ok(count)
    }

    /// Takes back all sections of a channel, because it was closed.
    pub fn give_back_all(&mut self, channel: u16) {
        for head in 0..self.states.len() {
            if self.states[head] == (Section::Head { channel }) {
                let _ = self.give_back(channel, Transaction(head as u64));
            }
        }
    }
}

#[cfg(test)]
#[path = "sections_tests.rs"]
mod tests;
