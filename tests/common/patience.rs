//! Time limits that grow with the slowness of the host.
//!
//! A limit only has to detect a test that hangs. It is chosen for a quiet host of the kind that the tests were written on.
//! [`slowness`] measures how much slower this host is now, and a [`Patience`] repeats the measurement while it waits, so
//! that time in which the host was busy with other work does not count.
#![allow(dead_code)] // Each test binary uses only a part.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Steps of the calculation that [`slowness`] times: enough to be preempted if other threads need the processor.
const STEPS: u64 = 7_000_000;
/// Time that these steps take on a quiet host, in a build as optimized as `[profile.dev]` wants it.
const STEPS_TOOK: Duration = Duration::from_millis(8);
/// Number of handovers between two threads that [`slowness`] times.
const HANDOVERS: u32 = 50;
/// Time that these handovers take on a quiet host.
const HANDOVERS_TOOK: Duration = Duration::from_millis(2);
/// Time for which a measurement is used.
const FRESH: Duration = Duration::from_millis(500);
/// Upper bound of [`slowness`].
pub const MOST: f64 = 200.0;
/// Maximum time between two checks of a time limit.
const SLICE: Duration = Duration::from_millis(250);
/// Time between two checks of a condition.
const GLANCE: Duration = Duration::from_millis(1);

/// Returns how many times slower this host is now than the quiet host that limits are chosen for. Never below 1.
pub fn slowness() -> f64 {
    static LAST: Mutex<Option<(Instant, f64)>> = Mutex::new(None);
    // Only one measurement at a time: several would slow each other down.
    let mut last = LAST.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match *last {
        Some((when, slowness)) if when.elapsed() < FRESH => slowness,
        _ => {
            let slowness = measure();
            *last = Some((Instant::now(), slowness));
            slowness
        }
    }
}

fn measure() -> f64 {
    let ratio = |took: Duration, usual: Duration| took.as_secs_f64() / usual.as_secs_f64();
    let begin = Instant::now();
    let mut value = 1u64;
    for step in 0..STEPS {
        value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step));
    }
    let steps = ratio(begin.elapsed(), STEPS_TOOK);

    let (there, from_here) = channel();
    let (back, from_there) = channel();
    let echo = std::thread::spawn(move || from_here.iter().all(|()| back.send(()).is_ok()));
    let begin = Instant::now();
    for _ in 0..HANDOVERS {
        there.send(()).expect("the other thread waits");
        from_there.recv().expect("the other thread answers");
    }
    let handovers = ratio(begin.elapsed(), HANDOVERS_TOOK);
    drop(there);
    let _ = echo.join();
    steps.max(handovers).clamp(1.0, MOST)
}

/// Returns `limit` scaled for this host, for callers that cannot measure again while they wait. It is doubled in case the
/// host becomes busier meanwhile.
pub fn grown(limit: Duration) -> Duration {
    limit.mul_f64(2.0 * slowness())
}

/// Returns the word for a guest image's command line that scales its own time limits.
pub fn patience() -> String {
    format!("patience={:.0}", slowness().ceil())
}

/// A running time limit.
#[derive(Debug)]
pub struct Patience {
    left: Duration,
    pub looked: Instant,
}

impl Patience {
    /// Starts a time limit of `limit` on a quiet host.
    pub fn new(limit: Duration) -> Self {
        Self { left: limit, looked: Instant::now() }
    }

    /// Returns the time to wait before the next call of [`Patience::is_over`].
    pub fn slice(&self) -> Duration {
        self.left.clamp(GLANCE, SLICE)
    }

    /// Returns `true` once the limit is reached.
    pub fn is_over(&mut self) -> bool {
        let passed = self.looked.elapsed();
        if self.left.is_zero() {
            return true;
        }
        if passed < SLICE && passed < self.left {
            return false;
        }
        self.looked = Instant::now();
        // If this check comes much later than after one slice, this thread did not run, and probably no other did.
        let passed = passed.min(2 * SLICE).div_f64(slowness());
        self.left = self.left.saturating_sub(passed);
        self.left.is_zero()
    }
}

/// Waits until `condition` holds; returns `false` if that takes longer than `limit` on a quiet host.
pub fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let mut patience = Patience::new(limit);
    loop {
        if condition() {
            return true;
        }
        if patience.is_over() {
            // The last check may have been a while ago.
            return condition();
        }
        std::thread::sleep(GLANCE);
    }
}

/// Receives from `receiver`, for `limit` on a quiet host.
///
/// # Errors
/// Returns the errors of `recv_timeout`.
pub fn receive_within<T>(receiver: &Receiver<T>, limit: Duration) -> Result<T, RecvTimeoutError> {
    let mut patience = Patience::new(limit);
    loop {
        match receiver.recv_timeout(patience.slice()) {
            Err(RecvTimeoutError::Timeout) if !patience.is_over() => {}
            end => return end,
        }
    }
}
