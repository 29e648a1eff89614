//! A trace for those who follow it while the machine runs.
//!
//! Nobody pays for it while nobody follows: a thread that might trace something reads one flag. Each follower has a queue with a bound.
//! One that reads too slowly loses the oldest lines, and is told how many.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::trace_kind::TraceKind;
use crate::host::lock::{Condvar, Mutex, RwLock};

/// Maximum number of followers of a machine.
const MAX_FOLLOWERS: usize = 8;
/// Maximum number of lines that wait for a follower.
const MAX_LINES: usize = 1024;
/// Maximum number of bytes of these lines.
const MAX_BYTES: usize = 256 << 10;

/// The followers of a machine's trace.
#[derive(Default)]
pub(super) struct LiveTrace {
    /// Somebody follows.
    is_on: AtomicBool,
    followers: RwLock<Vec<Arc<Queue>>>,
    /// No more lines come.
    is_over: AtomicBool,
}

/// The events that a follower wants.
pub struct Wanted {
    /// The kinds of events.
    pub kinds: Vec<TraceKind>,
    /// Words that all lines have, in lower case. One that ends with a digit is not followed by another: "channel 1" is not in "channel 12".
    pub words: Vec<String>,
}

impl Wanted {
    fn takes(&self, line: &str) -> bool {
        if self.words.is_empty() {
            return true;
        }
        let line = line.to_lowercase();
        let is_whole = |word: &str, end: usize| {
            let next = line.as_bytes().get(end);
            !(word.ends_with(|last: char| last.is_ascii_digit()) && next.is_some_and(u8::is_ascii_digit))
        };
        self.words.iter().all(|word| line.match_indices(word).any(|(start, _)| is_whole(word, start + word.len())))
    }
}

/// A line of the trace.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceLine {
    /// Time since the start of the machine.
    pub time: Duration,
    /// The kind of the event.
    pub kind: &'static str,
    /// The event.
    pub text: String,
}

/// Lines that wait for a follower.
struct Queue {
    wanted: Wanted,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<TraceLine>,
    bytes: usize,
    dropped: u64,
    is_over: bool,
}

/// One who follows the trace, until this is dropped.
pub struct TraceFollower {
    queue: Arc<Queue>,
    trace: Weak<LiveTrace>,
}

/// The next lines for a follower.
#[derive(Debug, PartialEq)]
pub enum Traced {
    /// These lines, after so many that were dropped.
    Lines(u64, VecDeque<TraceLine>),
    /// There was nothing in the given time.
    Nothing,
    /// The machine has ended.
    Over,
}

impl LiveTrace {
    /// Returns `true` if events of this kind are followed.
    pub fn wants(&self, kind: TraceKind) -> bool {
        let is_wanted = |queue: &Arc<Queue>| queue.wanted.kinds.contains(&kind);
        self.is_on.load(Ordering::Relaxed) && self.followers.read().iter().any(is_wanted)
    }

    /// Passes an event on.
    pub fn line(&self, kind: TraceKind, time: Duration, event: &impl fmt::Display) {
        if !self.is_on.load(Ordering::Relaxed) {
            return;
        }
        let mut text = None;
        for queue in self.followers.read().iter().filter(|queue| queue.wanted.kinds.contains(&kind)) {
            let text = text.get_or_insert_with(|| event.to_string());
            if queue.wanted.takes(text) {
                queue.add(TraceLine { time, kind: kind.name(), text: text.clone() });
            }
        }
    }

    /// Follows the trace from now on. Returns `None` if there are too many followers.
    pub fn follow(self: &Arc<Self>, wanted: Wanted) -> Option<TraceFollower> {
        let queue = Arc::new(Queue { wanted, state: Mutex::default(), changed: Condvar::default() });
        let mut followers = self.followers.write();
        if followers.len() >= MAX_FOLLOWERS {
            return None;
        }
        followers.push(queue.clone());
        self.is_on.store(true, Ordering::Relaxed);
        queue.state.lock().is_over = self.is_over.load(Ordering::SeqCst);
        Some(TraceFollower { queue, trace: Arc::downgrade(self) })
    }

    fn forget(&self, queue: &Arc<Queue>) {
        let mut followers = self.followers.write();
        followers.retain(|other| !Arc::ptr_eq(other, queue));
        self.is_on.store(!followers.is_empty(), Ordering::Relaxed);
    }

    /// Tells all who follow that the machine has ended.
    pub fn finish(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        for queue in self.followers.read().iter() {
            queue.state.lock().is_over = true;
            queue.changed.notify_all();
        }
    }
}

impl Queue {
    fn add(&self, line: TraceLine) {
        let mut state = self.state.lock();
        state.bytes += line.text.len();
        state.lines.push_back(line);
        while state.lines.len() > MAX_LINES || state.bytes > MAX_BYTES {
            let Some(oldest) = state.lines.pop_front() else { break };
            state.bytes -= oldest.text.len();
            state.dropped += 1;
        }
        drop(state);
        self.changed.notify_all();
    }
}

impl TraceFollower {
    /// Waits for lines until the time is over.
    pub fn next(&self, limit: Duration) -> Traced {
        let begun = Instant::now();
        let mut state = self.queue.state.lock();
        loop {
            if !state.lines.is_empty() || state.dropped > 0 {
                state.bytes = 0;
                return Traced::Lines(std::mem::take(&mut state.dropped), std::mem::take(&mut state.lines));
            }
            if state.is_over {
                return Traced::Over;
            }
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Traced::Nothing;
            }
            state = self.queue.changed.wait_timeout(state, left);
        }
    }
}

impl Drop for TraceFollower {
    fn drop(&mut self) {
        if let Some(trace) = self.trace.upgrade() {
            trace.forget(&self.queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: TraceKind = TraceKind::named("vmbus");

    fn wanted(words: &[&str]) -> Wanted {
        Wanted { kinds: vec![KIND], words: words.iter().map(|word| (*word).to_owned()).collect() }
    }

    fn follow(trace: &Arc<LiveTrace>, words: &[&str]) -> Option<TraceFollower> {
        trace.follow(wanted(words))
    }

    fn texts(follower: &TraceFollower) -> (u64, Vec<String>) {
        match follower.next(Duration::ZERO) {
            Traced::Lines(dropped, lines) => (dropped, lines.into_iter().map(|line| line.text).collect()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_of_the_wanted_kinds_and_words_reach_a_follower_while_it_is_there() {
        let trace = Arc::new(LiveTrace::default());
        assert!(!trace.wants(KIND));
        let (all, some) = (follow(&trace, &[]).unwrap(), follow(&trace, &["channel 1", "guest"]).unwrap());
        assert!(trace.wants(KIND) && !trace.wants(TraceKind::MSR));
        for text in ["Channel 1 guest: a", "channel 12 guest: b", "channel 1 host: c", "guest of channel 1"] {
            trace.line(KIND, Duration::from_secs(1), &text);
        }
        trace.line(TraceKind::MSR, Duration::ZERO, &"an MSR");
        assert_eq!(texts(&all).1.len(), 4);
        assert_eq!(texts(&some), (0, vec!["Channel 1 guest: a".into(), "guest of channel 1".into()]));
        assert_eq!(all.next(Duration::ZERO), Traced::Nothing);
        drop(some);
        assert!(trace.wants(KIND));
        drop(all);
        assert!(!trace.wants(KIND) && trace.followers.read().is_empty());
    }

    #[test]
    fn a_slow_follower_loses_the_oldest_lines_and_is_told_how_many() {
        let trace = Arc::new(LiveTrace::default());
        let follower = follow(&trace, &[]).unwrap();
        for number in 0..MAX_LINES + 5 {
            trace.line(KIND, Duration::ZERO, &number);
        }
        let (dropped, lines) = texts(&follower);
        assert_eq!((dropped, lines.len(), lines[0].as_str()), (5, MAX_LINES, "5"));
        let long = "x".repeat(MAX_BYTES / 2);
        (0..3).for_each(|_| trace.line(KIND, Duration::ZERO, &long));
        let (dropped, lines) = texts(&follower);
        assert_eq!((dropped, lines.len()), (1, 2));
    }

    #[test]
    fn followers_are_bounded_and_learn_of_the_end() {
        let trace = Arc::new(LiveTrace::default());
        let all: Vec<_> = (0..MAX_FOLLOWERS).map(|_| follow(&trace, &[]).unwrap()).collect();
        assert!(follow(&trace, &[]).is_none());
        trace.line(KIND, Duration::ZERO, &"the last");
        trace.finish();
        assert_eq!(texts(&all[0]).1, ["the last"]);
        assert_eq!(all[0].next(Duration::from_secs(600)), Traced::Over);
        drop(all);
        assert_eq!(follow(&trace, &[]).unwrap().next(Duration::from_secs(600)), Traced::Over);
    }
}
