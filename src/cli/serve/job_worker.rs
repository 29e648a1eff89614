//! The thread of a job.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::error::Problem;
use super::jobs::State;
use super::supervisor::Supervisor;
use crate::cli::client::Remote;

/// Stack of the thread. It makes requests, and no more.
const STACK: usize = 256 << 10;

/// A job, for the function that does it.
pub struct Worker {
    /// The supervisor.
    pub supervisor: Arc<Supervisor>,
    /// The machine.
    pub machine: String,
    id: u64,
}

/// Starts a job on a thread of its own, and returns its number.
///
/// # Errors
/// Returns an error if there are too many, or if there is no thread. Then the job has not begun.
pub fn start(
    supervisor: &Arc<Supervisor>,
    kind: &'static str,
    machine: &str,
    who: &str,
    work: impl FnOnce(&Worker) -> Result<Value, Problem> + Send + 'static,
) -> Result<u64, Problem> {
    let id = supervisor.jobs.add(kind, machine, who)?;
    let worker = Worker { supervisor: supervisor.clone(), machine: machine.to_owned(), id };
    worker.tell(State::Running);
    let work = move || {
        // A panic is printed, and ends this job alone.
        let outcome = catch_unwind(AssertUnwindSafe(|| work(&worker)));
        let outcome = outcome.unwrap_or_else(|_| Err(Problem::host("the service's own code panicked")));
        let state = worker.supervisor.jobs.end(id, outcome);
        worker.tell(state);
    };
    match thread::Builder::new().name("job".into()).stack_size(STACK).spawn(work) {
        Ok(_) => Ok(id),
        Err(error) => {
            supervisor.jobs.discard(id);
            Err(Problem::host(format!("no thread can be started: {error}")))
        }
    }
}

impl Worker {
    /// Tells those who follow the events of the service.
    fn tell(&self, state: State) {
        let Ok(job) = self.supervisor.jobs.get(self.id) else { return };
        let mut event = json!({
            "event": "job",
            "job": self.id,
            "kind": job["kind"],
            "machine": self.machine,
            "state": state.name(),
        });
        if !job["problem"].is_null() {
            event["problem"] = job["problem"].clone();
        }
        self.supervisor.events.add(event);
    }

    /// Says what is done now.
    pub fn step(&self, words: &str) {
        self.supervisor.jobs.change(self.id, |job| job.step = words.to_owned());
    }

    /// Says how many bytes are done, of how many.
    pub fn progress(&self, done: u64, total: u64) {
        self.supervisor.jobs.change(self.id, |job| job.progress = Some((done, total)));
    }

    /// Returns `true` if somebody wants the job to end.
    pub fn is_cancelled(&self) -> bool {
        self.supervisor.jobs.is_cancelled(self.id)
    }

    /// Notes that the job cannot be cancelled from now on. Returns `false` if it was cancelled before.
    pub fn commit(&self) -> bool {
        let committed = self.supervisor.jobs.change(self.id, |job| {
            job.is_final = !job.is_cancelled;
            job.is_final
        });
        committed == Some(true)
    }

    /// Waits. Returns `false` if somebody wants the job to end.
    pub fn pause(&self, time: Duration) -> bool {
        self.supervisor.jobs.pause(self.id, time)
    }

    /// Returns the machine's socket. Its requests end when the job is cancelled.
    pub fn remote(&self) -> Remote {
        self.remote_of(&self.machine)
    }

    /// Returns the socket of a machine of the lab that the job is about. Its requests end when the job is cancelled.
    pub fn remote_of(&self, machine: &str) -> Remote {
        let (supervisor, id) = (self.supervisor.clone(), self.id);
        self.supervisor.socket(machine).watched(Arc::new(move |connection| {
            let connection = connection.try_clone()?;
            let held = supervisor.jobs.change(id, |job| {
                job.connection = Some(connection);
                job.is_cancelled
            });
            if held == Some(false) { Ok(()) } else { Err(std::io::ErrorKind::ConnectionAborted.into()) }
        }))
    }
}

/// The problem of a job that was cancelled.
pub fn cancelled() -> Problem {
    Problem::state("the job was cancelled")
}
