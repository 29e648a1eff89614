//! Time limits that grow with the slowness of the host.
//!
//! A limit tells a test that hangs from one that goes on, so it is chosen for a quiet host of the kind that the tests
//! were written on. [`slowness`] measures how much slower this host is now, and a [`Patience`] measures again while
//! it waits: time in which the host was busy with other things does not count.
#![allow(dead_code)] // Each user takes its part.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Steps of the calculation that [`slowness`] times: long enough to be interrupted where others want the processor.
const STEPS: u64 = 1_000_000;
/// What they took, in a build without optimization, on a quiet host.
const STEPS_TOOK: Duration = Duration::from_millis(8);
/// Times that two threads hand something to each other.
const HANDOVERS: u32 = 50;
/// What those took there.
const HANDOVERS_TOOK: Duration = Duration::from_millis(2);
/// How long a measurement counts.
const FRESH: Duration = Duration::from_secs(2);
/// No host is slower than this.
pub const MOST: f64 = 200.0;
/// How long a wait may last before it looks at its patience again.
const SLICE: Duration = Duration::from_millis(250);
/// How often somebody who waits looks.
const GLANCE: Duration = Duration::from_millis(1);

/// Returns how many times slower this host is now than one that limits are chosen for: 1 or more.
pub fn slowness() -> f64 {
    static LAST: Mutex<Option<(Instant, f64)>> = Mutex::new(None);
    // One measurement at a time: several would find each other.
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

/// Returns `limit` as it is on this host now, for what takes a limit and cannot measure again while it waits. It is doubled, in
/// case the host becomes busier meanwhile.
pub fn grown(limit: Duration) -> Duration {
    limit.mul_f64(2.0 * slowness())
}

/// Returns the word by which a guest image is told to be as patient.
pub fn patience() -> String {
    format!("patience={:.0}", slowness().ceil())
}

/// A time limit that has begun.
#[derive(Debug)]
pub struct Patience {
    left: Duration,
    pub looked: Instant,
}

impl Patience {
    /// Begins to wait, on a quiet host not longer than `limit`.
    pub fn new(limit: Duration) -> Self {
        Self { left: limit, looked: Instant::now() }
    }

    /// Returns how long to wait before the next [`Patience::is_over`].
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
        // Whoever should have looked a slice later and looks an hour later did not run meanwhile, and nor did others.
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
            // The last look may have been a while ago.
            return condition();
        }
        std::thread::sleep(GLANCE);
    }
}

/// Receives from `receiver`, for `limit` on a quiet host.
///
/// # Errors
/// Those of `recv_timeout`.
pub fn receive_within<T>(receiver: &Receiver<T>, limit: Duration) -> Result<T, RecvTimeoutError> {
    let mut patience = Patience::new(limit);
    loop {
        match receiver.recv_timeout(patience.slice()) {
            Err(RecvTimeoutError::Timeout) if !patience.is_over() => {}
            end => return end,
        }
    }
}
