//! The dispositions of signals.

use std::mem::MaybeUninit;

/// Returns `true` if this process ignores the signal at present.
pub fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with a null pointer for the new action, this only writes the present one. It fills `action` if it succeeds.
    let action = unsafe {
        if libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) != 0 {
            return false;
        }
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_ignored_or_not_and_an_unknown_one_is_not() {
        // Rust's runtime ignores SIGPIPE. SIGKILL cannot be ignored.
        assert!(is_ignored(libc::SIGPIPE));
        assert!(!is_ignored(libc::SIGKILL));
        assert!(!is_ignored(1000));
    }
}
