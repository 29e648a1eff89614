//! Cancellation of requests: a reset, a removal or the end of a queue makes long requests stop at their next step.
//!
//! A flag is set once and never cleared. A device replaces its flag when it is reset, so that later requests are not
//! affected; a queue has one flag for its whole life.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::hold::Hold;

/// A flag that tells requests to stop. Clones are the same flag.
#[derive(Clone, Debug, Default)]
pub struct Flag(Arc<AtomicBool>);

impl Flag {
    /// Signals the requests that have this flag to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Returns `true` once the flag is set.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The flags of one request.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    /// Set when the target of the request is reset or removed.
    pub target: Flag,
    /// Set when the request's queue is closed. Short requests, such as plain reads and writes, ignore it and complete.
    pub queue: Flag,
    /// Set when the guest is gone and nothing waits for the request.
    pub guest: Flag,
    /// Holds the request while its machine is paused.
    pub hold: Hold,
}

impl Cancel {
    /// Returns the flags for a short request, which completes although its queue is closed.
    pub fn of_short(mut self) -> Self {
        self.queue = Flag::default();
        self
    }

    /// Returns `true` if the request is cancelled.
    pub fn is_set(&self) -> bool {
        self.target.is_set() || self.queue.is_set() || self.guest.is_set()
    }

    /// Runs `work` on this thread. Meanwhile, [`current_is_set`] reports the state of these flags.
    pub fn scope<R>(&self, work: impl FnOnce() -> R) -> R {
        struct Restore(Option<Cancel>);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.with(|current| current.replace(self.0.take()));
            }
        }
        let _restore = Restore(CURRENT.with(|current| current.replace(Some(self.clone()))));
        work()
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Cancel>> = const { RefCell::new(None) };
}

/// Returns `true` if the request that this thread performs is cancelled. For code that has no access to its [`Cancel`].
pub fn current_is_set() -> bool {
    CURRENT.with(|current| current.borrow().as_ref().is_some_and(Cancel::is_set))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_cancelled_by_any_of_its_flags_and_only_within_its_scope() {
        for which in 0..3 {
            let cancel = Cancel::default();
            assert!(!cancel.scope(current_is_set));
            [&cancel.target, &cancel.queue, &cancel.guest][which].set();
            assert_eq!(cancel.clone().of_short().is_set(), which != 1);
            assert!(cancel.is_set() && cancel.scope(current_is_set) && !current_is_set());
        }
    }

    #[test]
    fn a_scope_ends_with_a_panic_too() {
        let cancel = Cancel::default();
        cancel.target.set();
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            cancel.scope(|| std::panic::resume_unwind(Box::new(())));
        }));
        assert!(unwound.is_err() && !current_is_set());
    }
}
