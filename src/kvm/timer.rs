//! Timers that force a VP out of the guest, and the signal that they and other threads use for it.
//!
//! A [`VpTimer`] is a POSIX timer whose signal goes to the thread of one VP. When it expires, the kernel interrupts the
//! guest from its timer interrupt. No other thread has to be scheduled, and the cost counts as the VP's CPU time. A
//! separate thread that wakes VPs would compete with them for each expiration when all processors run guests.
//!
//! The signal can also arrive while the VP's thread is outside of the guest, about to enter it. So its handler sets
//! `immediate_exit`, which makes the next entry return at once.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use super::host::HostError;
use super::run_page::RunPage;

thread_local! {
    /// `immediate_exit` of the VP that the thread runs, or null.
    static IMMEDIATE_EXIT: Cell<*const AtomicU8> = const { Cell::new(ptr::null()) };
    /// A timer for this thread has expired.
    static EXPIRED: AtomicBool = const { AtomicBool::new(false) };
}

/// The signal that forces VPs out of the guest.
///
/// It is not a real-time signal, because the kernel cannot send those when the user's queue of signals is full
/// (RLIMIT_SIGPENDING). Of the other signals, this one is used least, and debuggers pass it on.
const KICK: libc::c_int = libc::SIGURG;

/// Sends the signal to a thread of this process.
pub(super) fn signal(thread: libc::pid_t) {
    // SAFETY: tgkill has no memory effects.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, KICK) };
}

/// Handles the signal. It can run between any two instructions of the thread, so it uses only atomics.
extern "C" fn kicked(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid `info` to a handler with SA_SIGINFO.
    if unsafe { (*info).si_code } == libc::SI_TIMER {
        EXPIRED.with(|expired| expired.store(true, Ordering::Relaxed));
    }
    let immediate_exit = IMMEDIATE_EXIT.get();
    if !immediate_exit.is_null() {
        // SAFETY: the pointer is set only while a `TimerTarget` of this thread keeps the mapping.
        unsafe { (*immediate_exit).store(1, Ordering::SeqCst) };
    }
}

/// Installs the handler of the signal that forces VPs out of the guest. Call it before the first VP runs.
pub fn prepare_kicks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: all zeros is a valid `sigaction`, and `kicked` does only what a signal handler may do.
        let installed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = kicked as *const () as usize;
            // Other system calls of a VP's thread continue. KVM_RUN returns in any case.
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
            libc::sigaction(KICK, &raw const action, ptr::null_mut())
        };
        if installed != 0 {
            log::error!("cannot handle the signal that stops processors: {}", io::Error::last_os_error());
        }
    });
}

/// Returns `true` if a timer for the calling thread has expired since the last [`take_expired`]. This is one load.
pub fn has_expired() -> bool {
    EXPIRED.with(|expired| expired.load(Ordering::Relaxed))
}

/// Returns the same as [`has_expired`], and clears it. Call it before looking at deadlines, not after.
pub fn take_expired() -> bool {
    EXPIRED.with(|expired| expired.swap(false, Ordering::Relaxed))
}

/// Returns the id of the calling thread.
pub fn own_thread() -> libc::pid_t {
    // SAFETY: gettid has no preconditions.
    unsafe { libc::gettid() }
}

/// Returns the CPU time of a thread of this process: zero for one that has ended.
pub fn cpu_time(thread: libc::pid_t) -> Duration {
    // The clock's id as the kernel defines it: a thread's clock (4) of the scheduler's kind (2).
    let clock = !thread << 3 | 4 | 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid during the call, which writes nothing else.
    match unsafe { libc::clock_gettime(clock, &raw mut time) } {
        0 => Duration::new(time.tv_sec as u64, time.tv_nsec as u32),
        _ => Duration::ZERO,
    }
}

/// Marks the current thread as the one that runs a VP. While it exists, the thread's timers force the VP out of the
/// guest.
pub struct TimerTarget {
    /// Keeps the mapping that the signal handler writes to.
    _page: Arc<RunPage>,
    /// Not `Send`: the drop must happen on the same thread.
    _not_send: PhantomData<*const ()>,
}

impl TimerTarget {
    pub(super) fn new(page: Arc<RunPage>) -> Self {
        take_expired();
        IMMEDIATE_EXIT.set(ptr::from_ref(page.immediate_exit()));
        Self { _page: page, _not_send: PhantomData }
    }
}

impl Drop for TimerTarget {
    fn drop(&mut self) {
        IMMEDIATE_EXIT.set(ptr::null());
    }
}

/// A timer that forces the VP of one thread out of the guest. After that, [`has_expired`] returns `true` on the thread.
pub struct VpTimer(libc::timer_t);

// SAFETY: `timer_t` is an id, with which every thread of the process may call the kernel.
unsafe impl Send for VpTimer {}
// SAFETY: as above.
unsafe impl Sync for VpTimer {}

impl VpTimer {
    /// Creates a timer for `thread`, a thread of this process. The timer is not set.
    ///
    /// # Errors
    /// Returns the error of the kernel. RLIMIT_SIGPENDING limits the number of timers.
    pub fn new(thread: libc::pid_t) -> Result<Self, HostError> {
        let mut timer: libc::timer_t = ptr::null_mut();
        // SAFETY: all zeros is a valid `sigevent`, and both pointers are valid during the call.
        let created = unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = KICK;
            event.sigev_notify_thread_id = thread;
            libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer)
        };
        match created {
            0 => Ok(Self(timer)),
            _ => Err(HostError::Call { call: "a VP's timer", source: io::Error::last_os_error() }),
        }
    }

    /// Makes the timer expire once, after `time`. `None` stops it.
    pub fn set(&self, time: Option<Duration>) {
        const LONGEST: Duration = Duration::from_secs(1 << 40);
        // For the kernel, zero means to stop the timer.
        let time = time.map(|time| time.clamp(Duration::from_nanos(1), LONGEST)).unwrap_or_default();
        let it_value = libc::timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
        let it_interval = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = libc::itimerspec { it_interval, it_value };
        // SAFETY: the timer exists as long as `self`, and the pointer is valid during the call.
        unsafe { libc::timer_settime(self.0, 0, &raw const value, ptr::null_mut()) };
    }
}

impl Drop for VpTimer {
    fn drop(&mut self) {
        // SAFETY: the timer exists, and nobody uses it after this.
        unsafe { libc::timer_delete(self.0) };
    }
}

#[cfg(test)]
#[path = "timer_tests.rs"]
mod tests;
