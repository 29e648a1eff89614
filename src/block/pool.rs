//! A few threads for one disk: for what the ring cannot do, and for everything where there is no ring.
//!
//! Each disk has its own, so a slow one holds up nobody else; a [`Budget`] bounds what all disks of a controller have. Threads
//! start when they are first needed. A task that panics costs its thread nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::budget::{Budget, LATE_NICE};
use crate::host::limited;
use crate::host::lock::{Condvar, Mutex};
use crate::host::panics::caught;

/// How many threads a disk has at most.
const MAX_THREADS: usize = 4;

/// What the threads of a pool are like.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The name of each thread.
    pub name: &'static str,
    /// How many threads there are at most.
    pub max_threads: usize,
    /// Their nice value: 0 for ordinary threads, 19 for the least weight.
    pub nice: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { name: "disk", max_threads: MAX_THREADS, nice: 0 }
    }
}

type Task = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    idle: usize,
    closed: bool,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// See the module's description. Dropping it waits for what it has begun and what waits.
#[derive(Default)]
pub struct Pool {
    settings: Settings,
    shared: Arc<Shared>,
}

impl Pool {
    /// Returns a pool whose threads are as `settings` say.
    pub fn new(settings: Settings) -> Self {
        Self { settings, shared: Arc::default() }
    }

    /// Has a thread do `task`. How many tasks wait is bounded by whoever makes them.
    pub fn run(&self, task: impl FnOnce() + Send + 'static) {
        self.run_within(None, task);
    }

    /// The same with as many threads as the budget allows, if there is one.
    pub fn run_within(&self, budget: Option<&Arc<Budget>>, task: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.state.lock();
        state.tasks.push_back(Box::new(task));
        let is_first = state.threads.is_empty();
        let wants_thread = state.idle < state.tasks.len() && state.threads.len() < self.settings.max_threads;
        let part = budget.filter(|_| wants_thread).map(|budget| budget.take(is_first));
        let is_late = matches!(part, Some(None));
        if wants_thread && (is_first || !is_late) {
            let shared = self.shared.clone();
            let Settings { name, nice, .. } = self.settings;
            let nice = if is_late { LATE_NICE } else { nice };
            let body = move || {
                let _part = part;
                if nice != 0
                    && let Err(error) = rustix::process::setpriority_process(None, nice)
                {
                    log::debug!("a disk's thread keeps its priority: {error}");
                }
                shared.work();
            };
            let thread = std::thread::Builder::new().name(name.into()).spawn(body);
            match thread {
                Ok(thread) => state.threads.push(thread),
                Err(error) if state.threads.is_empty() => {
                    // Slow is better than never.
                    limited::warn!("cannot start a thread for disk I/O: {error}");
                    let task = state.tasks.pop_back();
                    drop(state);
                    task.into_iter().for_each(|task| task());
                    return;
                }
                Err(_) => {}
            }
        }
        drop(state);
        self.shared.changed.notify_one();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let threads = {
            let mut state = self.shared.state.lock();
            state.closed = true;
            std::mem::take(&mut state.threads)
        };
        self.shared.changed.notify_all();
        let own = std::thread::current().id();
        for thread in threads {
            // The last user of a disk may be one of its own threads.
            if thread.thread().id() != own {
                let _ = thread.join();
            }
        }
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(task) = state.tasks.pop_front() {
                drop(state);
                // Whoever made the task answers for it; the thread is needed for others.
                if let Err(message) = caught(task) {
                    limited::error!("a task of a disk panicked: {message}");
                }
                state = self.state.lock();
            } else if state.closed {
                return;
            } else {
                state.idle += 1;
                state = self.changed.wait(state);
                state.idle -= 1;
            }
        }
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
