//! What others want done to a VP that only its own thread can do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::host::lock::Mutex;
use crate::hyperv::hypercall::InitialVpContext;
use crate::hyperv::status::{HvResult, HvStatus};

/// A VP's start, from the call to the answer.
pub(super) enum Start {
    /// Nobody asked.
    None,
    /// Somebody asked, and waits.
    Asked(Box<InitialVpContext>),
    /// The VP's thread has answered.
    Answered(HvResult<()>),
}

/// Starts that the VP has to do with.
struct Starts {
    own: Start,
    /// It waits for another VP's start: so it runs, and cannot be started itself. Nor could it answer.
    awaits_another: bool,
}

/// One VP's inbox.
pub(super) struct Inbox {
    full: AtomicBool,
    starts: Mutex<Starts>,
    /// Interrupts that count as acknowledged when they are delivered: AutoEOI.
    owed: [AtomicU64; 4],
}

impl Default for Inbox {
    fn default() -> Self {
        let starts = Starts { own: Start::None, awaits_another: false };
        Self { full: AtomicBool::new(false), starts: Mutex::new(starts), owed: Default::default() }
    }
}

impl Inbox {
    /// Whether there is something in it.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::SeqCst)
    }

    /// Marks it looked at. Look after this, not before: what comes in between marks it again.
    pub fn open(&self) {
        self.full.store(false, Ordering::SeqCst);
    }

    /// Marks it: the VP's thread shall look again. Kick the VP after this.
    pub fn mark(&self) {
        self.full.store(true, Ordering::SeqCst);
    }

    /// Asks for a start. False while another asks, and while the VP itself waits for another.
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

    /// The VP is about to wait for another's start, or has done so. Until then who asks for its own is refused, and so is
    /// whoever has asked: two that start each other would wait for ever. True if somebody has to be told so.
    pub fn await_another(&self, awaits: bool) -> bool {
        let mut starts = self.starts();
        starts.awaits_another = awaits;
        let refused = awaits && matches!(starts.own, Start::Asked(_));
        if refused {
            starts.own = Start::Answered(Err(HvStatus::INVALID_VP_STATE));
        }
        refused
    }

    /// The start that is asked for, for the VP's thread.
    pub fn asked(&self) -> Option<InitialVpContext> {
        match &self.starts().own {
            Start::Asked(context) => Some(**context),
            _ => None,
        }
    }

    /// Answers whoever asked.
    pub fn answer(&self, result: HvResult<()>) {
        self.starts().own = Start::Answered(result);
    }

    /// Whether the answer is there.
    pub fn is_answered(&self) -> bool {
        matches!(self.starts().own, Start::Answered(_))
    }

    /// Takes the answer, or withdraws the question.
    pub fn take_answer(&self) -> Option<HvResult<()>> {
        match std::mem::replace(&mut self.starts().own, Start::None) {
            Start::Answered(result) => Some(result),
            _ => None,
        }
    }

    /// Puts an interrupt in.
    pub fn owe(&self, vector: u8) {
        self.owed[usize::from(vector / 64)].fetch_or(1 << (vector % 64), Ordering::SeqCst);
        self.mark();
    }

    /// The interrupt of highest priority that is in.
    pub fn owed(&self) -> Option<u8> {
        (0..4u8).rev().find_map(|word| {
            let bits = self.owed[usize::from(word)].load(Ordering::SeqCst);
            (bits != 0).then(|| word * 64 + bits.ilog2() as u8)
        })
    }

    /// Takes an interrupt out.
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
