//! A machine as the service knows it: its definition, its state, and what is known of its process.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::definition::{Definition, Restart, Treatment};
use super::error::Problem;
use super::meter::Meter;

/// The delay before the first restart. It doubles with each that follows soon.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest delay before a restart.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// A machine that has run for this long does not count as one that fails again and again.
const GOOD_RUN: Duration = Duration::from_secs(60);

/// Time after a request to stop in which an end by the guest is what the user has requested, although the guest was late.
const LATE: Duration = Duration::from_secs(3600);

/// The states in which the service sees a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has no process.
    Stopped,
    /// It has a process, or gets one soon.
    Starting,
    /// Its process answers.
    Running,
    /// Its end was requested.
    Stopping,
    /// It has ended, and is started again at this time.
    Waiting(Instant),
}

/// A request of a user to stop the machine that the guest has not obeyed in its time.
struct Unheeded {
    /// Up to this time, it may still do so.
    until: Instant,
    /// The number of restarts of the guest. A guest that has restarted since does not know of the request.
    restarts: Value,
}

/// A process of a machine.
pub struct Running {
    /// Its number.
    pub id: u32,
    /// A handle to kill it.
    pub handle: OwnedFd,
}

/// A machine.
pub struct Machine {
    /// Its definition, or why it has none.
    pub definition: Result<Definition, Problem>,
    /// The lab whose process it runs in, if it is one of several machines.
    pub lab: Option<String>,
    /// The names of its machines, if it is a lab.
    pub members: Option<Vec<String>>,
    /// Its state.
    pub state: State,
    /// The supervisor has a thread for it.
    pub has_thread: bool,
    /// Its process.
    pub process: Option<Running>,
    /// Its process has answered the last request for a summary, or has had no time yet.
    pub answers: bool,
    /// The machine's last summary of itself.
    pub summary: Value,
    /// Memory that its guest has at the start of its process, if it has or gets one.
    pub startup_bytes: Option<u64>,
    /// The least and the most memory of the guest of a process that another service has started, which counts until the machine says what
    /// it has.
    pub adopted_bytes: Option<(u64, u64)>,
    /// It starts when others have released as much.
    pub waits_for_room: bool,
    /// Its share of the memory budget, until it is passed on.
    pub memory_target: Option<u64>,
    /// The share that was passed on, as long as the summary may not show it.
    pub memory_asked: Option<u64>,
    /// Its last end.
    pub end: Value,
    /// Number of restarts by the service.
    pub restarts: u64,
    /// Number of restarts since its last good run.
    attempts: u32,
    /// The last request to stop it, if the guest has not obeyed.
    unheeded: Option<Unheeded>,
    /// Its use of resources.
    pub meter: Meter,
    /// `true` if `meter` has changed since it was written down.
    pub is_meter_new: bool,
    /// When it was started, by this service or by a previous one.
    pub since: Option<Instant>,
}

impl Machine {
    /// Creates a machine that is stopped.
    pub fn new(definition: Result<Definition, Problem>) -> Self {
        Self {
            definition,
            lab: None,
            members: None,
            state: State::Stopped,
            has_thread: false,
            process: None,
            answers: true,
            summary: Value::Null,
            startup_bytes: None,
            adopted_bytes: None,
            waits_for_room: false,
            memory_target: None,
            memory_asked: None,
            end: Value::Null,
            restarts: 0,
            attempts: 0,
            unheeded: None,
            meter: Meter::new(),
            is_meter_new: false,
            since: None,
        }
    }

    /// Returns how the service treats it.
    pub fn treatment(&self) -> Treatment {
        self.definition.as_ref().map(|definition| definition.treatment).unwrap_or_default()
    }

    /// Returns the state as a word.
    pub fn state(&self) -> &'static str {
        match self.state {
            State::Stopped if self.definition.is_err() => "broken",
            State::Stopped => "stopped",
            State::Starting => "starting",
            State::Running if self.summary["state"] == "paused" => "paused",
            State::Running => "running",
            State::Stopping => "stopping",
            State::Waiting(_) => "waiting",
        }
    }

    /// Returns what is known without asking the machine.
    pub fn to_json(&self, name: &str) -> Value {
        let treatment = self.treatment();
        let mut all = json!({
            "name": name,
            "lab": self.lab,
            "machines": self.members,
            "state": self.state(),
            "autostart": treatment.autostart,
            "start-order": treatment.start_order,
            "start-delay": treatment.start_delay,
            "host-stop": treatment.host_stop,
            "restart": treatment.restart,
            "cpu": treatment.cpu,
            "memory": treatment.memory,
            "process": self.process.as_ref().map(|process| process.id),
            "answers": self.process.as_ref().map(|_| self.answers),
            "policy-restarts": self.restarts,
            "guest-restarts": self.summary["restarts"],
            "seconds": self.process.as_ref().and(self.since).map(|since| since.elapsed().as_secs_f64()),
            "end": self.end,
        });
        for key in ["engine", "vps", "memory-bytes", "heartbeat", "addresses"] {
            all[key] = self.summary[key].clone();
        }
        if let Err(problem) = &self.definition {
            all["problem"] = problem.body()["error"].clone();
        }
        if let State::Waiting(until) = self.state {
            all["starts-in-seconds"] = json!(until.saturating_duration_since(Instant::now()).as_secs_f64());
        }
        all
    }

    /// Notes that the process has ended, and decides what comes next.
    pub fn ended(&mut self, end: Value) {
        let restart = self.treatment().restart;
        let restarts = &self.summary["restarts"];
        let heard = |request: Unheeded| Instant::now() < request.until && request.restarts == *restarts;
        // Late, the guest has done what a user has asked it for.
        let obeys = self.unheeded.take().is_some_and(heard) && end["exit-code"] == 0;
        let ran = self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        self.process = None;
        self.answers = true;
        (self.startup_bytes, self.memory_target, self.memory_asked) = (None, None, None);
        (self.adopted_bytes, self.waits_for_room) = (None, false);
        self.summary = Value::Null;
        let again = match restart {
            Restart::Never => false,
            Restart::OnFailure => is_failure(&end),
            Restart::Always => !obeys,
        };
        self.end = end;
        self.state = if self.state == State::Stopping || !again {
            State::Stopped
        } else {
            self.attempts = if ran >= GOOD_RUN { 0 } else { self.attempts + 1 };
            State::Waiting(Instant::now() + delay(self.attempts))
        };
    }

    /// Notes that a user wants it to run, whatever has been. Returns `true` if it needs a thread.
    pub fn wanted(&mut self) -> bool {
        self.attempts = 0;
        self.kept(State::Starting)
    }

    /// Notes that it goes on after a request to stop it. If `was_asked`, its guest may still obey. Otherwise nobody wants that any more.
    pub fn goes_on(&mut self, was_asked: bool) {
        let request = || Unheeded { until: Instant::now() + LATE, restarts: self.summary["restarts"].clone() };
        self.unheeded = was_asked.then(request);
    }

    /// Notes that a thread keeps it from now on. Returns `true` if it had none.
    pub fn kept(&mut self, state: State) -> bool {
        self.state = state;
        !std::mem::replace(&mut self.has_thread, true)
    }
}

/// Returns the delay before a restart, the first of which has number 1.
fn delay(attempt: u32) -> Duration {
    FIRST_DELAY.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(LONGEST_DELAY)
}

/// Returns `true` if the machine was ended by TERM, as a host does that shuts down.
pub fn is_by_host(end: &Value) -> bool {
    end["kind"] == "terminated"
}

/// Returns `true` if neither the guest nor a user has wanted the end.
fn is_failure(end: &Value) -> bool {
    let by_user = ["interrupted", "terminated", "hung-up", "quit"];
    end["exit-code"] != 0 && !end["kind"].as_str().is_some_and(|kind| by_user.contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(restart: Restart) -> Machine {
        let treatment = Treatment { restart, ..Treatment::default() };
        let definition = Definition { text: String::new(), treatment, config: Default::default(), lab: None };
        let mut machine = Machine::new(Ok(definition));
        machine.state = State::Running;
        machine
    }

    /// Returns the state after an end.
    fn after(restart: Restart, kind: &str, code: Option<i32>) -> &'static str {
        let mut machine = machine(restart);
        machine.ended(json!({ "kind": kind, "exit-code": code }));
        machine.state()
    }

    #[test]
    fn the_policy_decides_after_each_end() {
        let ends = [("powered-off", Some(0)), ("exited", Some(3)), ("terminated", Some(143)), ("lost", None)];
        let states = |restart| ends.map(|(kind, code)| after(restart, kind, code));
        assert_eq!(states(Restart::Never), ["stopped"; 4]);
        assert_eq!(states(Restart::OnFailure), ["stopped", "waiting", "stopped", "waiting"]);
        assert_eq!(states(Restart::Always), ["waiting"; 4]);
        let mut stopped = machine(Restart::Always);
        stopped.state = State::Stopping;
        stopped.ended(json!({ "kind": "lost" }));
        assert_eq!(stopped.state(), "stopped", "a user wants it");
    }

    #[test]
    fn a_guest_that_obeys_late_stays_off_and_other_ends_count_as_before() {
        let (off, failed) = (json!({ "kind": "powered-off", "exit-code": 0 }), json!({ "kind": "lost" }));
        let after = |change: &dyn Fn(&mut Machine), end: &Value| {
            let mut machine = machine(Restart::Always);
            machine.summary = json!({ "restarts": 2 });
            machine.goes_on(true);
            change(&mut machine);
            machine.ended(end.clone());
            (machine.state(), machine.unheeded.is_some())
        };
        assert_eq!(after(&|_| {}, &off), ("stopped", false));
        assert_eq!(after(&|_| {}, &failed), ("waiting", false));
        assert_eq!(after(&|machine| machine.summary = json!({ "restarts": 3 }), &off), ("waiting", false));
        assert_eq!(after(&|machine| machine.goes_on(false), &off), ("waiting", false), "the stop was cancelled");
        let is_long_ago = |machine: &mut Machine| machine.unheeded.as_mut().unwrap().until = Instant::now();
        assert_eq!(after(&is_long_ago, &off), ("waiting", false));
    }

    #[test]
    fn delays_grow_until_a_good_run() {
        assert_eq!([1, 2, 3, 7, 40].map(|attempt| delay(attempt).as_secs()), [1, 2, 4, 60, 60]);
        let mut machine = machine(Restart::Always);
        let wait = |machine: &mut Machine, ran: Duration| {
            machine.state = State::Running;
            machine.since = Instant::now().checked_sub(ran);
            machine.ended(json!({ "kind": "lost" }));
            let State::Waiting(until) = machine.state else { panic!("it waits") };
            until.saturating_duration_since(Instant::now()).as_secs_f64().ceil() as u64
        };
        assert_eq!([(); 3].map(|()| wait(&mut machine, Duration::ZERO)), [1, 2, 4]);
        assert_eq!(wait(&mut machine, GOOD_RUN), 1);
    }
}
