//! Operations on machines: start, stop, kill and requests to the machine itself.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::error::Problem;
use super::job_worker::{self, Worker};
use super::jobs::STOP;
use super::machine::State;
use super::process;
use super::supervisor::Supervisor;
use crate::cli::client::{Failure, Remote};
use crate::cli::targets::at_once;

/// Time for a machine to start before the request is answered.
const START: Duration = Duration::from_secs(10);
/// Time for a machine to carry out what it is asked for at once.
const PROMPT: Duration = Duration::from_secs(2);
/// Time for a machine to say that it is there, before it is ended by force without the other steps.
const SILENCE: Duration = Duration::from_secs(5);
/// Time for a machine that is ended by force: its disks are flushed.
const FLUSH: Duration = Duration::from_secs(30);
/// Longest time limit that a request may have.
const LONGEST: f64 = 86_400.0;

/// The body of a request to stop a machine.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Stop {
    /// Time for the guest to shut down after the shutdown service has asked it.
    shutdown_seconds: f64,
    /// Time after the press of the power button.
    power_button_seconds: f64,
    /// End the machine by force after that.
    force: bool,
    /// Ask the guest to hibernate, and do nothing else if it does not.
    hibernate: bool,
    /// Time for the guest to hibernate before the other steps. Not for requests.
    #[serde(skip)]
    hibernate_seconds: f64,
}

/// A step of a stop: a request to the machine, and the time that its guest has then.
struct Step {
    path: &'static str,
    body: Option<Value>,
    limit: Duration,
    words: &'static str,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            shutdown_seconds: 60.0,
            power_button_seconds: 30.0,
            force: true,
            hibernate: false,
            hibernate_seconds: 0.0,
        }
    }
}

/// Starts a machine. Returns when it runs, or has ended, or after some time.
///
/// # Errors
/// Returns an error if it cannot run.
pub fn start(supervisor: &Arc<Supervisor>, name: &str) -> Result<(), Problem> {
    supervisor.begin(name)?;
    supervisor.wait(name, START, |machine| machine.state != State::Starting);
    has_started(supervisor, name)
}

/// Begins to start a machine, as a job that is done when it runs. A machine that runs is left as it is.
///
/// # Errors
/// Returns an error if it cannot begin.
pub fn begin_start(supervisor: &Arc<Supervisor>, machine: &str, who: &str) -> Result<u64, Problem> {
    supervisor.begin(machine)?;
    job_worker::start(supervisor, "start", machine, who, |worker| {
        worker.step("waiting until the machine runs");
        let (supervisor, name) = (&worker.supervisor, worker.machine.as_str());
        supervisor.wait(name, Duration::MAX, |machine| machine.state != State::Starting || worker.is_cancelled());
        if worker.is_cancelled() {
            // It may have ended, or have begun to run, meanwhile.
            let _ = kill(supervisor, name);
            return Err(job_worker::cancelled());
        }
        has_started(supervisor, name)?;
        let process = supervisor.machines().get(name).and_then(|machine| Some(machine.process.as_ref()?.id));
        Ok(json!({ "process": process }))
    })
}

/// Returns why a machine that was to start does not run.
fn has_started(supervisor: &Supervisor, name: &str) -> Result<(), Problem> {
    let machines = supervisor.machines();
    let machine = machines.get(name).ok_or_else(|| Problem::no_machine(name))?;
    let has_failed = matches!(machine.end["exit-code"].as_i64(), Some(2 | 125 | 126)) || machine.end["kind"] == "lost";
    if matches!(machine.state, State::Stopped | State::Waiting(_)) && has_failed {
        let message = machine.end["message"].as_str().unwrap_or("it has ended");
        return Err(Problem::state(format!("{name} does not run: {message}")));
    }
    Ok(())
}

impl Stop {
    /// Ends a machine by force, without asking its guest.
    pub fn at_once() -> Self {
        Self { shutdown_seconds: 0.0, power_button_seconds: 0.0, ..Self::default() }
    }

    /// Asks the guest to hibernate first. All of it fits into the time of `viridian host-stop`.
    pub fn after_hibernation() -> Self {
        Self { hibernate_seconds: 75.0, shutdown_seconds: 45.0, power_button_seconds: 0.0, ..Self::default() }
    }

    /// Returns the steps before the end by force.
    fn steps(&self) -> Result<Vec<Step>, Problem> {
        let limit = |seconds: f64, field: &str| {
            let limit = Duration::try_from_secs_f64(seconds).ok().filter(|_| seconds <= LONGEST);
            limit
                .ok_or_else(|| Problem::invalid(format!("{field}: {seconds} is not a time of up to {LONGEST} seconds")))
        };
        let shutdown = limit(self.shutdown_seconds, "shutdown-seconds")?;
        let power_button = limit(self.power_button_seconds, "power-button-seconds")?;
        let body = Some(json!({ "kind": "hibernate" }));
        let hibernate = |limit| Step { path: "/shutdown", body, limit, words: "asking the guest to hibernate" };
        if self.hibernate {
            return Ok(vec![hibernate(shutdown)]);
        }
        Ok(vec![
            hibernate(limit(self.hibernate_seconds, "hibernate-seconds")?),
            Step { path: "/shutdown", body: None, limit: shutdown, words: "asking the guest to shut down" },
            Step { path: "/power-button", body: None, limit: power_button, words: "pressing the power button" },
        ])
    }
}

/// Begins to stop a machine for a user.
///
/// # Errors
/// Returns an error if it does not run.
pub fn stop(supervisor: &Arc<Supervisor>, name: &str, who: &str, how: &Stop) -> Result<Option<u64>, Problem> {
    let job = begin_stop(supervisor, name, who, how)?;
    supervisor.mark(name, false);
    Ok(job)
}

/// Begins to stop a machine. Its guest is asked to shut down, then the power button is pressed, then it is ended by force; or it is asked
/// to hibernate, and no more. Returns the job, if there is one.
///
/// # Errors
/// Returns an error if it does not run.
pub fn begin_stop(owner: &Arc<Supervisor>, machine: &str, who: &str, how: &Stop) -> Result<Option<u64>, Problem> {
    let steps = how.steps()?;
    if !is_stopping(owner, machine)? {
        return Ok(None);
    }
    let force = how.force && !how.hibernate;
    let job = job_worker::start(owner, STOP, machine, who, move |worker| take_steps(worker, steps, force));
    job.map(Some).inspect_err(|_| goes_on(owner, machine, false))
}

/// Takes the steps of a stop, until one of them ends the machine.
fn take_steps(worker: &Worker, steps: Vec<Step>, force: bool) -> Result<Value, Problem> {
    let (supervisor, name) = (&worker.supervisor, worker.machine.as_str());
    // Those of a lab are asked at the same time.
    let ask = |method: &str, path: &str, body: Option<&Value>, limit: Duration| {
        let remotes: Vec<_> = supervisor.targets(name).iter().map(|name| worker.remote_of(name)).collect();
        at_once(&remotes, |remote| remote.request(method, path, body, limit))
    };
    let (mut reason, mut was_asked) = (None, false);
    // A machine that hangs does not ask its guest for anything.
    let is_slow = |answer: &Result<Value, Failure>| matches!(answer, Err(Failure::Slow(_)));
    let hangs = force && ask("GET", "/", None, SILENCE).iter().all(is_slow);
    let steps = if hangs { Vec::new() } else { steps };
    for Step { path, body, limit, words } in steps.into_iter().filter(|step| !step.limit.is_zero()) {
        worker.step(words);
        let answers = ask("POST", path, body.as_ref(), limit);
        let is_asked = |answer: &Result<Value, Failure>| answer.as_ref().err().is_none_or(Failure::is_end);
        let is_any_asked = answers.iter().any(is_asked);
        reason = answers.into_iter().find_map(Result::err).filter(|_| !is_any_asked);
        if is_any_asked {
            was_asked = true;
            supervisor.wait(name, limit, |machine| machine.process.is_none() || worker.is_cancelled());
        }
        if has_ended(supervisor, name) {
            return Ok(json!({ "stopped-by": path.trim_start_matches('/') }));
        }
        if worker.is_cancelled() {
            break;
        }
    }
    if !force || !worker.commit() {
        // It is as before, but for what its guest does about the requests.
        goes_on(supervisor, name, was_asked && !worker.is_cancelled());
        return Err(reason.map_or_else(|| Problem::guest("the guest has not shut down"), problem));
    }
    worker.step("ending the machine by force");
    end(supervisor, name, &supervisor.socket(name));
    let problem = || Problem::host("its process cannot be ended");
    has_ended(supervisor, name).then(|| json!({ "stopped-by": "kill" })).ok_or_else(problem)
}

fn has_ended(supervisor: &Supervisor, name: &str) -> bool {
    supervisor.machines().get(name).is_none_or(|machine| machine.process.is_none())
}

/// Notes that a machine was not stopped. If `was_asked`, its guest may still obey.
fn goes_on(supervisor: &Supervisor, name: &str, was_asked: bool) {
    let _ = supervisor.change(name, |machine| {
        if machine.state == State::Stopping {
            machine.state = State::Running;
            machine.goes_on(was_asked);
            supervisor.places.set_stopping(name, false);
        }
        Ok(())
    });
    supervisor.mark(name, true);
}

/// Ends a machine at once, without asking its guest.
///
/// # Errors
/// Returns an error if it does not run.
pub fn kill(supervisor: &Supervisor, name: &str) -> Result<(), Problem> {
    is_stopping(supervisor, name)?;
    supervisor.mark(name, false);
    end(supervisor, name, &supervisor.socket(name));
    if let Some(lab) =
        supervisor.machines().get(name).and_then(|machine| machine.process.as_ref().and(machine.lab.clone()))
    {
        let message = format!("{name} does not end, and its process is that of the lab {lab}");
        return Err(Problem::state(message).with_remedy(format!("kill {lab}")));
    }
    Ok(())
}

/// Notes that a machine is to end. Returns `false` if that was noted before, or if it has no process.
fn is_stopping(supervisor: &Supervisor, name: &str) -> Result<bool, Problem> {
    // A process that is being started is soon there.
    supervisor.wait(name, PROMPT, |machine| machine.state != State::Starting || machine.process.is_some());
    supervisor.change(name, |machine| {
        let result = match machine.state {
            State::Stopped => return Err(Problem::state(format!("{name} is {}", machine.state()))),
            State::Waiting(_) => {
                machine.state = State::Stopped;
                Ok(false)
            }
            State::Starting if machine.process.is_none() => {
                return Err(Problem::state(format!("{name} is starting")).with_remedy("try again"));
            }
            State::Stopping => Ok(false),
            State::Starting | State::Running => {
                machine.state = State::Stopping;
                Ok(true)
            }
        };
        // The next service is not to start it again.
        supervisor.places.set_stopping(name, true);
        result
    })
}

/// Ends a machine: by its socket, so that its disks are flushed, and otherwise by a signal.
fn end(supervisor: &Supervisor, name: &str, remote: &Remote) {
    let (is_lab, is_of_lab) = {
        let machines = supervisor.machines();
        let machine = machines.get(name);
        (machine.is_some_and(|machine| machine.members.is_some()), machine.is_some_and(|machine| machine.lab.is_some()))
    };
    let is_asked = if is_lab {
        let machines = supervisor.machines();
        let process = machines.get(name).and_then(|machine| machine.process.as_ref());
        process.map(|process| process::terminate(&process.handle)).is_some()
    } else {
        remote.request("POST", "/kill", None, PROMPT).is_ok()
    };
    // The process of a machine of a lab is that of others, too.
    if is_asked && ends(supervisor, name, FLUSH) || is_of_lab {
        return;
    }
    if let Some(process) = supervisor.machines().get(name).and_then(|machine| machine.process.as_ref()) {
        process::kill(&process.handle);
    }
    ends(supervisor, name, PROMPT);
}

fn ends(supervisor: &Supervisor, name: &str, limit: Duration) -> bool {
    supervisor.wait(name, limit, |machine| machine.process.is_none())
}

/// Sends a request to a machine that it carries out at once, such as `/pause`.
///
/// # Errors
/// Returns an error if it does not run, or refuses.
pub fn ask(supervisor: &Supervisor, name: &str, path: &str) -> Result<(), Problem> {
    let ask = |name: &str| {
        let remote = supervisor.remote(name)?;
        remote.post(path, None).map_err(problem)?;
        supervisor.refresh(name, &remote).map_err(problem)
    };
    members(supervisor, name, ask).map(drop)
}

/// Does something with a machine, or with those of a lab that run, at the same time. Returns what came of it, or the first problem.
fn members<T: Send>(
    supervisor: &Supervisor,
    name: &str,
    work: impl Fn(&str) -> Result<T, Problem> + Sync,
) -> Result<Vec<(String, T)>, Problem> {
    let names = supervisor.targets(name);
    if names.is_empty() {
        return Err(Problem::state(format!("no machine of {name} runs")).with_remedy("start it first"));
    }
    let results = at_once(&names, |name| Ok(work(name)));
    let results = names.iter().zip(results).filter_map(|(name, result)| Some((name.clone(), result.ok()?)));
    results.map(|(name, result)| result.map(|value| (name, value))).collect()
}

/// Returns the machine's tree of devices and their states.
///
/// # Errors
/// Returns an error if it does not run, or does not answer.
pub fn inspect(supervisor: &Supervisor, name: &str) -> Result<Value, Problem> {
    let is_lab = supervisor.machines().get(name).is_some_and(|machine| machine.members.is_some());
    let trees = members(supervisor, name, |name| supervisor.remote(name)?.get("/inspect").map_err(problem))?;
    if is_lab {
        return Ok(json!({ "name": name, "machines": trees.into_iter().collect::<Map<_, _>>() }));
    }
    trees.into_iter().next().map(|(_, tree)| tree).ok_or_else(|| Problem::no_machine(name))
}

/// Returns the problem of a request to a machine.
pub fn problem(failure: Failure) -> Problem {
    match failure {
        Failure::Refused { kind, message } => match kind.as_str() {
            "invalid" => Problem::invalid(message),
            "not-found" => Problem::not_found(message),
            "state" => Problem::state(message),
            "busy" => Problem::busy(message),
            "ended" => Problem::state(message).with_remedy("start it first"),
            _ => Problem::guest(message),
        },
        Failure::Slow(limit) => {
            Problem::timeout(format!("the machine has not answered within {} seconds", limit.as_secs()))
                .with_remedy("look at it again later, or kill it")
        }
        failure if failure.is_end() => Problem::state("the machine has ended").with_remedy("start it first"),
        failure => Problem::host(failure.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(stop: &Stop) -> Vec<(&'static str, u64)> {
        let steps = stop.steps().unwrap().into_iter().filter(|step| !step.limit.is_zero());
        steps.map(|step| (step.words, step.limit.as_secs())).collect()
    }

    #[test]
    fn each_stop_has_its_steps() {
        let (ask, press) = ("asking the guest to shut down", "pressing the power button");
        assert_eq!(steps(&Stop::default()), [(ask, 60), (press, 30)]);
        assert!(steps(&Stop::at_once()).is_empty());
        assert_eq!(steps(&Stop::after_hibernation()), [("asking the guest to hibernate", 75), (ask, 45)]);
        let hibernate = Stop { hibernate: true, ..Stop::default() };
        assert_eq!(steps(&hibernate), [("asking the guest to hibernate", 60)]);
        assert!(serde_json::from_str::<Stop>(r#"{"hibernate-seconds": 3}"#).is_err());
    }
}
