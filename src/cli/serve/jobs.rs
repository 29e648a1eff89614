//! Jobs: long operations, which continue when the client that has begun them disconnects.
//!
//! This module has the jobs that run, and those that have ended, within bounds of number and age. `job_worker` has their threads,
//! `job_work` and `operations` what they do, and `job_requests` the handlers.

use std::collections::BTreeMap;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::error::Problem;
use super::lock::{Condvar, Mutex};

/// The kind of jobs that stop a machine.
pub const STOP: &str = "stop";
/// Maximum number of other jobs that run. Each has a thread.
const MAX_RUNNING: usize = 128;
/// Maximum number of jobs that have ended and are kept.
const MAX_KEPT: usize = 256;
/// Time for which they are kept.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// How far a job has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running,
    /// It has done what it was to do.
    Done,
    /// It has not.
    Failed,
    /// It has not, because somebody wanted its end.
    Cancelled,
}

impl State {
    /// Returns the name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A job.
pub struct Job {
    kind: &'static str,
    machine: String,
    who: String,
    state: State,
    /// The current step, in words.
    pub step: String,
    /// Bytes that are done, and all of them.
    pub progress: Option<(u64, u64)>,
    /// Why it has failed.
    problem: Option<Problem>,
    result: Value,
    begun: f64,
    ended: Option<(f64, Instant)>,
    /// Somebody wants it to end.
    pub is_cancelled: bool,
    /// It has done what cannot be undone.
    pub is_final: bool,
    /// The connection of its request.
    pub connection: Option<UnixStream>,
    /// Number of its changes.
    version: u64,
}

impl Job {
    fn to_json(&self, id: u64) -> Value {
        let progress = self.progress.map(|(done, total)| json!({ "done-bytes": done, "total-bytes": total }));
        let mut shown = json!({
            "job": id,
            "kind": self.kind,
            "machine": self.machine,
            "who": self.who,
            "state": self.state.name(),
            "cancelling": self.is_cancelled && self.state == State::Running,
            "step": self.step,
            "progress": progress,
            "result": self.result,
            "begun": self.begun,
            "ended": self.ended.map(|(time, _)| time),
        });
        if let Some(problem) = &self.problem {
            shown["problem"] = problem.body()["error"].clone();
        }
        shown
    }

    fn is_over(&self) -> bool {
        self.state != State::Running
    }
}

/// A job as a follower sees it.
pub struct Seen {
    /// The job.
    pub job: Value,
    /// Number of its changes until now.
    pub version: u64,
    /// No change follows.
    pub is_over: bool,
}

/// All jobs, by number. Numbers grow also from one service to the next.
pub struct Jobs {
    jobs: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    jobs: BTreeMap<u64, Job>,
    next: u64,
}

impl Table {
    /// Forgets jobs that have ended: the old ones, and the oldest if there are too many.
    fn forget(&mut self, now: Instant) {
        let is_old = |job: &Job| job.ended.is_some_and(|(_, at)| now.saturating_duration_since(at) >= MAX_AGE);
        self.jobs.retain(|_, job| !is_old(job));
        let ended: Vec<_> = self.jobs.iter().filter(|(_, job)| job.is_over()).map(|(id, _)| *id).collect();
        for id in &ended[..ended.len().saturating_sub(MAX_KEPT)] {
            self.jobs.remove(id);
        }
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Jobs {
    /// Creates a list without jobs.
    pub fn new() -> Self {
        // A clock that was put back costs nothing but numbers that were given before.
        let next = (now() * 1000.0) as u64;
        Self { jobs: Mutex::new(Table { next, ..Table::default() }), changed: Condvar::default() }
    }

    /// Adds a job that runs.
    ///
    /// # Errors
    /// Returns an error if there are too many.
    pub fn add(&self, kind: &'static str, machine: &str, who: &str) -> Result<u64, Problem> {
        let mut table = self.jobs.lock();
        table.forget(Instant::now());
        // A machine has one stop at most, and all of them may have one when the host shuts down.
        let counts = |job: &&Job| !job.is_over() && job.kind != STOP;
        if kind != STOP && table.jobs.values().filter(counts).count() >= MAX_RUNNING {
            return Err(
                Problem::busy(format!("{MAX_RUNNING} jobs run already")).with_remedy("cancel one, or try later")
            );
        }
        let id = table.next;
        table.next += 1;
        let job = Job {
            kind,
            machine: machine.to_owned(),
            who: who.to_owned(),
            state: State::Running,
            step: String::new(),
            progress: None,
            problem: None,
            result: Value::Null,
            begun: now(),
            ended: None,
            is_cancelled: false,
            is_final: false,
            connection: None,
            version: 0,
        };
        table.jobs.insert(id, job);
        Ok(id)
    }

    /// Removes a job that was never begun.
    pub fn discard(&self, id: u64) {
        self.jobs.lock().jobs.remove(&id);
    }

    /// Changes a job, and tells all who follow it. Returns `None` if it is not there.
    pub fn change<T>(&self, id: u64, how: impl FnOnce(&mut Job) -> T) -> Option<T> {
        let mut table = self.jobs.lock();
        let job = table.jobs.get_mut(&id)?;
        let result = how(job);
        job.version += 1;
        drop(table);
        self.changed.notify_all();
        Some(result)
    }

    /// Returns all jobs, the oldest first.
    pub fn list(&self) -> Vec<Value> {
        let mut table = self.jobs.lock();
        table.forget(Instant::now());
        table.jobs.iter().map(|(id, job)| job.to_json(*id)).collect()
    }

    /// Returns a job.
    ///
    /// # Errors
    /// Returns an error if there is none with this number.
    pub fn get(&self, id: u64) -> Result<Value, Problem> {
        let mut table = self.jobs.lock();
        table.forget(Instant::now());
        table.jobs.get(&id).map(|job| job.to_json(id)).ok_or_else(|| none(id))
    }

    /// Returns the job that runs for a machine and is of this kind.
    pub fn running(&self, kind: &str, machine: &str) -> Option<u64> {
        let table = self.jobs.lock();
        let is_it = |job: &Job| !job.is_over() && job.kind == kind && job.machine == machine;
        table.jobs.iter().find(|(_, job)| is_it(job)).map(|(id, _)| *id)
    }

    /// Waits until a job has changed more often than `version` says, or until the time is over. Returns `None` in the latter case.
    ///
    /// # Errors
    /// Returns an error if there is no such job.
    pub fn after(&self, id: u64, version: Option<u64>, limit: Duration) -> Result<Option<Seen>, Problem> {
        let begun = Instant::now();
        let mut table = self.jobs.lock();
        loop {
            let job = table.jobs.get(&id).ok_or_else(|| none(id))?;
            if version.is_none_or(|version| job.version > version) {
                return Ok(Some(Seen { job: job.to_json(id), version: job.version, is_over: job.is_over() }));
            }
            let left = limit.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            table = self.changed.wait_timeout(table, left);
        }
    }

    /// Returns `true` if somebody wants a job to end.
    pub fn is_cancelled(&self, id: u64) -> bool {
        self.jobs.lock().jobs.get(&id).is_none_or(|job| job.is_cancelled)
    }

    /// Waits. Returns `false` at once if somebody wants the job to end.
    pub fn pause(&self, id: u64, time: Duration) -> bool {
        let begun = Instant::now();
        let mut table = self.jobs.lock();
        loop {
            if table.jobs.get(&id).is_none_or(|job| job.is_cancelled) {
                return false;
            }
            let left = time.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return true;
            }
            table = self.changed.wait_timeout(table, left);
        }
    }

    /// Requests the end of a job. It ends soon.
    ///
    /// # Errors
    /// Returns an error if there is no such job, or if it has ended or cannot be ended any more.
    pub fn cancel(&self, id: u64) -> Result<(), Problem> {
        let cancelled = self.change(id, |job| {
            if job.is_over() {
                return Err(Problem::state(format!("the job has ended: it is {}", job.state.name())));
            }
            if job.is_final {
                return Err(Problem::state("the job has done what cannot be undone").with_remedy("wait for its end"));
            }
            job.is_cancelled = true;
            // A request that waits for its answer ends now.
            if let Some(connection) = job.connection.take() {
                let _ = connection.shutdown(Shutdown::Both);
            }
            Ok(())
        });
        cancelled.unwrap_or_else(|| Err(none(id)))
    }

    /// Notes the end of a job, and returns its state.
    pub fn end(&self, id: u64, outcome: Result<Value, Problem>) -> State {
        let ended = self.change(id, |job| {
            job.ended = Some((now(), Instant::now()));
            job.connection = None;
            job.state = match outcome {
                Ok(result) => {
                    job.result = result;
                    State::Done
                }
                Err(_) if job.is_cancelled => State::Cancelled,
                Err(problem) => {
                    job.problem = Some(problem);
                    State::Failed
                }
            };
            job.state
        });
        ended.unwrap_or(State::Failed)
    }
}

fn none(id: u64) -> Problem {
    Problem::not_found(format!("there is no job {id}"))
        .with_remedy("GET /jobs lists what there is; jobs that have ended are kept for an hour")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_that_have_ended_are_forgotten_by_number_and_by_age() {
        let jobs = Jobs::new();
        let first = jobs.add("copy", "web", "x").unwrap();
        for _ in 0..MAX_KEPT + 3 {
            let id = jobs.add("copy", "web", "x").unwrap();
            assert_eq!(jobs.end(id, Ok(json!({}))), State::Done);
        }
        assert_eq!(jobs.list().len(), MAX_KEPT + 1, "one runs");
        assert!(jobs.get(first).is_ok() && jobs.get(first + 1).is_err() && jobs.get(first + 4).is_ok());
        let later = Instant::now() + MAX_AGE;
        jobs.jobs.lock().forget(later);
        assert_eq!(jobs.list().len(), 1);
    }

    #[test]
    fn only_so_many_jobs_run() {
        let jobs = Jobs::new();
        let all: Vec<_> = (0..MAX_RUNNING).map(|_| jobs.add("copy", "web", "x").unwrap()).collect();
        assert_eq!(jobs.add("copy", "web", "x").unwrap_err().status, 503);
        assert!(jobs.add(STOP, "web", "x").is_ok(), "the host shuts down");
        jobs.end(all[0], Err(Problem::host("x")));
        assert!(jobs.add("copy", "web", "x").is_ok());
    }

    #[test]
    fn a_job_is_cancelled_once_and_not_after_its_end() {
        let jobs = Jobs::new();
        let id = jobs.add("stop", "web", "x").unwrap();
        let (own, other) = UnixStream::pair().unwrap();
        jobs.change(id, |job| job.connection = Some(own));
        assert_eq!(jobs.get(id).unwrap()["cancelling"], false);
        jobs.cancel(id).unwrap();
        assert_eq!(jobs.get(id).unwrap()["cancelling"], true);
        assert_eq!(std::io::Read::read(&mut &other, &mut [0]).unwrap(), 0, "its request ends");
        assert_eq!(jobs.end(id, Err(Problem::host("lost"))), State::Cancelled);
        assert_eq!(jobs.cancel(id).unwrap_err().status, 409);
        assert_eq!(jobs.cancel(1).unwrap_err().status, 404);
        let late = jobs.add("stop", "web", "x").unwrap();
        jobs.change(late, |job| job.is_final = true);
        assert_eq!(jobs.cancel(late).unwrap_err().status, 409);
        // What was done in spite of the wish is done.
        let quick = jobs.add("copy", "web", "x").unwrap();
        jobs.cancel(quick).unwrap();
        assert_eq!(jobs.end(quick, Ok(json!({}))), State::Done);
    }

    #[test]
    fn a_follower_sees_each_change_or_a_later_one() {
        let jobs = Jobs::new();
        let id = jobs.add("copy", "web", "x").unwrap();
        let first = jobs.after(id, None, Duration::ZERO).unwrap().unwrap();
        assert!(!first.is_over && jobs.after(id, Some(first.version), Duration::ZERO).unwrap().is_none());
        std::thread::scope(|scope| {
            let follower = scope.spawn(|| jobs.after(id, Some(first.version), Duration::from_secs(600)));
            jobs.change(id, |job| job.progress = Some((1, 2)));
            let seen = follower.join().unwrap().unwrap().unwrap();
            assert_eq!(seen.job["progress"], json!({ "done-bytes": 1, "total-bytes": 2 }));
        });
        jobs.end(id, Err(Problem::state("full")));
        let last = jobs.after(id, Some(first.version), Duration::ZERO).unwrap().unwrap();
        assert!(last.is_over && last.job["problem"]["message"] == "full", "{}", last.job);
        assert!(jobs.after(1, None, Duration::ZERO).is_err());
    }
}
