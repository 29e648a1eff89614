//! The threads of one disk. They perform the requests that io_uring cannot, or all requests if io_uring is unavailable.
//!
//! Each disk has threads of its own, so a slow disk does not delay others. A [`Budget`] limits the threads of all disks of a
//! controller. Threads start when they are first needed. A thread survives a task that panics.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::budget::{Budget, LATE_NICE};
use crate::host::limited;
use crate::host::lock::{Condvar, Mutex};
use crate::host::panics::caught;
use crate::host::scheduling;

/// Maximum number of threads per disk.
const MAX_THREADS: usize = 4;

/// The settings of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Name of each thread.
    pub name: &'static str,
    /// Maximum number of threads.
    pub max_threads: usize,
    /// `true` if the threads give way to all others: see [`scheduling::give_way`].
    pub give_way: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { name: "disk", max_threads: MAX_THREADS, give_way: false }
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

/// A pool of threads. Dropping it waits until all of its tasks, including the queued ones, have run.
#[derive(Default)]
pub struct Pool {
    settings: Settings,
    shared: Arc<Shared>,
}

impl Pool {
    /// Creates a pool without threads.
    pub fn new(settings: Settings) -> Self {
        Self { settings, shared: Arc::default() }
    }

    /// Runs `task` on a thread of the pool. The caller must bound the number of queued tasks.
    pub fn run(&self, task: impl FnOnce() + Send + 'static) {
        self.run_within(None, task);
    }

    /// Runs `task` on a thread of the pool, which starts new threads only within the budget, if there is one.
    pub fn run_within(&self, budget: Option<&Arc<Budget>>, task: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.state.lock();
        state.tasks.push_back(Box::new(task));
        let is_first = state.threads.is_empty();
        let wants_thread = state.idle < state.tasks.len() && state.threads.len() < self.settings.max_threads;
        let part = budget.filter(|_| wants_thread).map(|budget| budget.take(is_first));
        let is_late = matches!(part, Some(None));
        if wants_thread && (is_first || !is_late) {
            let shared = self.shared.clone();
            let Settings { name, give_way, .. } = self.settings;
            let body = move || {
                let _part = part;
                let lowered = match (give_way, is_late) {
                    (true, _) => scheduling::give_way(),
                    (_, true) => rustix::process::setpriority_process(None, LATE_NICE).map_err(Into::into),
                    _ => Ok(()),
                };
                if let Err(error) = lowered {
                    log::debug!("a disk's thread keeps its priority: {error}");
                }
                shared.work();
            };
            let thread = std::thread::Builder::new().name(name.into()).spawn(body);
            match thread {
                Ok(thread) => state.threads.push(thread),
                Err(error) if state.threads.is_empty() => {
                    // Run the task on the caller's thread. That is slower, but the request completes.
                    limited::warn!("cannot start a thread for disk I/O, so a disk is slow: {error}");
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
            // One of the pool's own threads may be the last to use a disk. It cannot join itself.
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
                // The owner of the task reports the failure of its request. The thread continues with other tasks.
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
