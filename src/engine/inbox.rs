//! Requests for a VP that only its own thread can perform.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::host::lock::Mutex;
use crate::hyperv::hypercall::InitialVpContext;
use crate::hyperv::status::{HvResult, HvStatus};

/// A VP's start, from the call to the answer.
pub(super) enum Start {
    /// No start was requested.
    None,
    /// A caller has requested the start, and waits.
    Asked(Box<InitialVpContext>),
    /// The VP's thread has answered.
    Answered(HvResult<()>),
}

/// The starts in which the VP is involved.
struct Starts {
    own: Start,
    /// `true` while the VP waits for the start of another VP. It is running then, so it cannot be started, and could not answer
    /// a request.
    awaits_another: bool,
}

/// One VP's inbox.
pub(super) struct Inbox {
    full: AtomicBool,
    starts: Mutex<Starts>,
    /// Pending interrupts with AutoEOI, as a bitmap of vectors.
    owed: [AtomicU64; 4],
}

impl Default for Inbox {
    fn default() -> Self {
        let starts = Starts { own: Start::None, awaits_another: false };
        Self { full: AtomicBool::new(false), starts: Mutex::new(starts), owed: Default::default() }
    }
}

impl Inbox {
    /// Returns `true` if there may be something in the inbox.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    /// Clears the mark. The caller must read the inbox after this call, so that a later request marks it again.
    pub fn open(&self) {
        self.full.store(false, Ordering::SeqCst);
    }

    /// Marks the inbox, so that the VP's thread reads it. The caller must kick the VP afterwards.
    pub fn mark(&self) {
        self.full.store(true, Ordering::SeqCst);
    }

    /// Requests a start. Returns `false` if there is another request, or if the VP waits for the start of another VP.
    pub fn ask(&self, context: &InitialVpContext) -> bool {
        let mut starts = self.starts();
        if starts.awaits_another || !matches!(starts.own, Start::None) {
            return false;
        }
        starts.own = Start::Asked(Box::new(*context));
        drop(starts);
        self.mark();
        true
    }

    /// Records whether the VP waits for the start of another VP. While it does, requests to start it are refused, including one
    /// that was made before, because two VPs that start each other would wait forever. Returns `true` if a caller must be
    /// notified of the refusal.
    pub fn await_another(&self, awaits: bool) -> bool {
        let mut starts = self.starts();
        starts.awaits_another = awaits;
        let refused = awaits && matches!(starts.own, Start::Asked(_));
        if refused {
            starts.own = Start::Answered(Err(HvStatus::INVALID_VP_STATE));
        }
        refused
    }

    /// Returns the requested start. Called by the VP's thread.
    pub fn asked(&self) -> Option<InitialVpContext> {
        match &self.starts().own {
            Start::Asked(context) => Some(**context),
            _ => None,
        }
    }

    /// Sets the result for the caller.
    pub fn answer(&self, result: HvResult<()>) {
        self.starts().own = Start::Answered(result);
    }

    /// Returns `true` if there is a result.
    pub fn is_answered(&self) -> bool {
        matches!(self.starts().own, Start::Answered(_))
    }

    /// Returns the result of the request, or withdraws the request if there is none.
    pub fn take_answer(&self) -> Option<HvResult<()>> {
        match std::mem::replace(&mut self.starts().own, Start::None) {
            Start::Answered(result) => Some(result),
            _ => None,
        }
    }

    /// Adds an interrupt.
    pub fn owe(&self, vector: u8) {
        self.owed[usize::from(vector / 64)].fetch_or(1 << (vector % 64), Ordering::SeqCst);
        self.mark();
    }

    /// Returns the pending interrupt with the highest priority.
    pub fn owed(&self) -> Option<u8> {
        (0..4u8).rev().find_map(|word| {
            let bits = self.owed[usize::from(word)].load(Ordering::SeqCst);
            (bits != 0).then(|| word * 64 + bits.ilog2() as u8)
        })
    }

    /// Removes an interrupt.
    pub fn paid(&self, vector: u8) {
        self.owed[usize::from(vector / 64)].fetch_and(!(1 << (vector % 64)), Ordering::SeqCst);
    }

    fn starts(&self) -> crate::host::lock::MutexGuard<'_, Starts> {
        self.starts.lock()
    }
}

#[cfg(test)]
#[path = "inbox_tests.rs"]
mod tests;
