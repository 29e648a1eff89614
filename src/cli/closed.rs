//! Detects that standard output was closed when the process started.
//!
//! Rust's runtime opens `/dev/null` in place of a closed standard descriptor before `main`, and the guest's output
//! would be lost silently. So this code checks before the runtime starts.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};

static CLOSED: AtomicBool = AtomicBool::new(false);

extern "C" fn look() {
    // SAFETY: fcntl with F_GETFD takes no pointer, and accepts a descriptor that is not open.
    let closed = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) } < 0;
    CLOSED.store(closed, Ordering::Relaxed);
}

// SAFETY: the dynamic linker calls the functions of this section before main, one after the other. This one does not
// use Rust's runtime.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

/// Returns an error if standard output was closed.
pub fn expect_open() -> anyhow::Result<()> {
    anyhow::ensure!(
        !CLOSED.load(Ordering::Relaxed),
        "standard output is closed; redirect it to /dev/null, or give run --console none, to run without one"
    );
    Ok(())
}
