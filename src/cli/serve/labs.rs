//! The supervisor's part in labs: several machines in one process, which start and end together.
//!
//! The lab is the machine that has the definition, the process and the policy. Its machines are in the list, too, each with a socket of its
//! own, a meter, and a thread that follows it; they are there as long as they are in the definition, or run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::budget::bounds;
use super::definition::Definition;
use super::error::Problem;
use super::following::SAVE;
use super::machine::{Machine, Running, State};
use super::meter::Sample;
use super::process::Process;
use super::supervisor::{Machines, RETRY, SLOW_RETRY, STACK, Supervisor};
use crate::cli::reach::connect;

/// No time: somebody listens at a socket or does not.
const INSTANT: Duration = Duration::from_millis(1);
/// Interval at which the use of a lab's process is measured.
const MEASURE: Duration = Duration::from_secs(5);

impl Supervisor {
    /// Returns the machines of a definition with their meters, or `None` if it is no lab.
    pub fn members_of(&self, lab: &str, definition: &Definition) -> Option<BTreeMap<String, Machine>> {
        let member = |(name, definition): (String, Definition)| {
            let mut machine = Machine::new(Ok(definition));
            machine.lab = Some(lab.to_owned());
            machine.meter = self.store.meter(&name);
            (name, machine)
        };
        Some(definition.members(lab)?.into_iter().map(member).collect())
    }

    /// Puts the machines of all labs into the list.
    pub fn place_all_members(&self) {
        let labs: Vec<_> = {
            let machines = self.machines();
            let known = machines.iter().filter_map(|(name, machine)| Some((name, machine.definition.as_ref().ok()?)));
            known.filter(|(_, own)| own.lab.is_some()).map(|(name, own)| (name.clone(), own.clone())).collect()
        };
        for (name, definition) in labs {
            let members = self.members_of(&name, &definition);
            Self::place_members(&mut self.machines(), &name, members);
        }
    }

    /// Replaces the machines of a lab that does not run by these, or by none if it is no lab any more. Another machine that has the
    /// name of one stays. Returns the removed machines.
    pub fn place_members(
        machines: &mut Machines,
        lab: &str,
        members: Option<BTreeMap<String, Machine>>,
    ) -> Vec<String> {
        match machines.get_mut(lab) {
            Some(machine) if machine.process.is_none() => {
                machine.members = members.as_ref().map(|members| members.keys().cloned().collect());
            }
            _ => return Vec::new(),
        }
        let members = members.unwrap_or_default();
        let is_old =
            |name: &String, other: &mut Machine| other.lab.as_deref() == Some(lab) && !members.contains_key(name);
        let gone = machines.extract_if(.., is_old).map(|(name, _)| name).collect();
        for (name, member) in members {
            match machines.get_mut(&name) {
                Some(known) if known.lab.as_deref() == Some(lab) => known.definition = member.definition,
                Some(_) => {}
                None => _ = machines.insert(name, member),
            }
        }
        gone
    }

    /// Replaces the machines of a lab that has ended by those of its definition, which may have changed since its start.
    pub fn place_again(&self, name: &str) {
        let definition = {
            let machines = self.machines();
            let Some(machine) = machines.get(name) else { return };
            let Ok(definition) = &machine.definition else { return };
            if definition.lab.is_none() && machine.members.is_none() {
                return;
            }
            definition.clone()
        };
        let members = self.members_of(name, &definition);
        let gone = Self::place_members(&mut self.machines(), name, members);
        self.forget_members(&gone);
    }

    /// Returns how a machine or a lab has ended, as its process has reported.
    pub fn end_of(&self, name: &str) -> Value {
        let is_lab = self.machines().get(name).is_some_and(|machine| machine.members.is_some());
        if is_lab { self.places.lab_end(name).0 } else { self.places.end(name) }
    }

    /// Forgets what is on disk of machines that a lab has no more.
    pub fn forget_members(&self, gone: &[String]) {
        for name in gone {
            self.places.remove(name);
            let _writer = self.meter_writer.lock();
            self.store.remove_meter(name);
        }
    }

    /// Checks that a definition takes no name of another machine.
    ///
    /// # Errors
    /// Returns an error with the name that is taken.
    pub fn check_names(machines: &Machines, name: &str, definition: &Definition) -> Result<(), Problem> {
        if let Some(lab) = machines.get(name).and_then(|machine| machine.lab.as_ref()) {
            let message = format!("{name} is a machine of the lab {lab}");
            return Err(Problem::state(message).with_remedy(format!("define {lab}, or choose another name")));
        }
        for (member, _) in definition.members(name).into_iter().flatten() {
            if machines.get(&member).is_some_and(|other| other.lab.as_deref() != Some(name)) {
                let message = format!("there is another machine {member}, and the lab {name} has one of this name");
                return Err(Problem::state(message).with_remedy("remove it, or give one of them another name"));
            }
        }
        Ok(())
    }

    /// Returns why a machine cannot be started or removed by itself.
    pub fn of_lab(name: &str, machine: &Machine) -> Result<(), Problem> {
        match &machine.lab {
            None => Ok(()),
            Some(lab) => Err(Problem::state(format!("{name} is a machine of the lab {lab}, which starts as a whole"))
                .with_remedy(format!("use {lab}"))),
        }
    }

    /// Checks that a lab can start, and makes the machines of the definition its own.
    ///
    /// # Errors
    /// Returns an error if another machine has the name or the socket of one, or if there are two memory budgets.
    pub fn prepare_lab(&self, name: &str, definition: &Definition) -> Result<(), Problem> {
        let members = self.members_of(name, definition);
        let gone = {
            let mut machines = self.machines();
            Self::check_names(&machines, name, definition)?;
            Self::place_members(&mut machines, name, members)
        };
        self.forget_members(&gone);
        if self.budget.is_some() && definition.lab.as_ref().is_some_and(|lab| lab.has_budget) {
            let message = format!("{name} has a memory-budget of its own, and the service has one");
            return Err(Problem::state(message).with_remedy("remove it from the definition"));
        }
        for (member, _) in definition.members(name).into_iter().flatten() {
            // Its process would give it another name.
            if connect(&self.places.socket(&member), INSTANT).is_ok() {
                let message = format!("{}: another process listens there", self.places.socket(&member).display());
                return Err(Problem::state(message));
            }
        }
        Ok(())
    }

    /// Puts the machines of a lab that another service has started into the list, as its process has them.
    pub fn adopt_members(&self, machines: &mut Machines, lab: &str) {
        let Some(configs) = self.places.settings_of_lab(lab) else { return };
        let mut names = Vec::new();
        for config in configs {
            let (name, bytes) = (config.name.clone(), bounds(&config.memory));
            let known = machines.remove(&name).filter(|other| other.lab.as_deref() == Some(lab));
            let treatment = known.as_ref().map(Machine::treatment).unwrap_or_default();
            let definition = Definition { text: String::new(), treatment, config, lab: None };
            let meter = known.map_or_else(|| self.store.meter(&name), |known| known.meter);
            let mut machine = Machine::new(Ok(definition));
            (machine.lab, machine.meter, machine.adopted_bytes) = (Some(lab.to_owned()), meter, Some(bytes));
            machines.insert(name.clone(), machine);
            names.push(name);
        }
        names.sort();
        machines.retain(|name, other| other.lab.as_deref() != Some(lab) || names.contains(name));
        if let Some(machine) = machines.get_mut(lab) {
            machine.members = Some(names);
            // It is known of each of its machines.
            machine.adopted_bytes = None;
        }
    }

    /// Notes that the machines of a lab have its process.
    pub fn note_members(machines: &mut Machines, lab: &str, process: &Process) -> std::io::Result<()> {
        let Some(names) = machines.get_mut(lab).and_then(|machine| {
            // The memory is that of its machines from now on.
            machine.members.is_some().then(|| machine.startup_bytes = None)?;
            machine.members.clone()
        }) else {
            return Ok(());
        };
        for name in names {
            let Some(member) = machines.get_mut(&name) else { continue };
            member.kept(State::Starting);
            member.process = Some(Running { id: process.id, handle: process.handle()? });
            member.startup_bytes = member.definition.as_ref().ok().map(Definition::startup_bytes);
            member.since = Some(Instant::now());
        }
        Ok(())
    }

    /// Follows a lab to the end of its process, and returns how it has ended.
    pub fn watch_lab(self: &Arc<Self>, lab: &str, mut process: Process, members: &[String], is_new: bool) -> Value {
        for name in members {
            self.keep_member(lab, name, &process, is_new);
        }
        let (id, begun) = (process.id, Instant::now());
        let (mut measured, mut saved) = (None, begun);
        while !process.wait((begun.elapsed() / 8).clamp(RETRY, SLOW_RETRY)) {
            self.note_whether_up(lab, members);
            if measured.is_none_or(|measured: Instant| measured.elapsed() >= MEASURE) {
                self.measure_lab(lab, id);
                self.places.limit_messages(lab);
                measured = Some(Instant::now());
            }
            if saved.elapsed() >= SAVE {
                self.save_meter(lab);
                saved = Instant::now();
            }
        }
        let (end, mut ends) = self.places.lab_end(lab);
        for name in members {
            let lost = || json!({ "kind": "lost", "exit-code": null, "message": "the process of its lab has ended" });
            self.member_ended(name, id, ends.remove(name).unwrap_or_else(lost));
        }
        end
    }

    /// Notes that a lab runs when none of its machines is about to start any more.
    fn note_whether_up(&self, lab: &str, members: &[String]) {
        let since = {
            let machines = self.machines();
            let members = || members.iter().filter_map(|name| machines.get(name));
            let is_starting = machines.get(lab).is_some_and(|machine| machine.state == State::Starting);
            if !is_starting || members().any(|member| member.state == State::Starting) {
                return;
            }
            members().filter_map(|member| member.since).min()
        };
        let _ = self.change(lab, |machine| {
            if machine.state == State::Starting {
                machine.state = State::Running;
                machine.since = since.or(machine.since);
            }
            Ok(())
        });
    }

    /// Adds what the process of a lab has used to its meter.
    fn measure_lab(&self, lab: &str, process: u32) {
        let since = self.machines().get(lab).and_then(|machine| machine.since);
        let Some(sample) = Sample::of_process(process, since.map(|since| since.elapsed()).unwrap_or_default()) else {
            return;
        };
        let _ = self.change(lab, |machine| {
            machine.meter.add(&sample);
            machine.is_meter_new = true;
            Ok(())
        });
    }

    /// Starts the thread that follows a machine of a lab.
    fn keep_member(self: &Arc<Self>, lab: &str, name: &str, process: &Process, is_new: bool) {
        let (supervisor, lab, member) = (self.clone(), lab.to_owned(), name.to_owned());
        let started = process.share().and_then(|process| {
            let follow = move || supervisor.watch_member(&lab, &member, process, is_new);
            thread::Builder::new().name("machine".into()).stack_size(STACK).spawn(follow)
        });
        if let Err(error) = started {
            // It runs, and nothing is known of it.
            log::warn!("{name}: it cannot be followed: {error}");
        }
    }

    /// Follows a machine of a lab to its end, or to that of the process.
    fn watch_member(&self, lab: &str, name: &str, mut process: Process, mut is_new: bool) {
        let (remote, begun) = (self.socket(name), Instant::now());
        while !process.wait((begun.elapsed() / 8).clamp(RETRY, SLOW_RETRY)) {
            if self.meet(name, &remote, process.id) {
                self.follow(name, &remote, is_new);
                is_new = false;
            } else if let Some(end) = self.places.lab_end(lab).1.remove(name) {
                // The others go on.
                self.member_ended(name, process.id, end);
                return;
            }
        }
    }

    /// Notes the end of a machine of a lab, unless it is known.
    fn member_ended(&self, name: &str, process: u32, end: Value) {
        let is_news = self.change(name, |machine| {
            let is_news = machine.process.as_ref().is_some_and(|running| running.id == process);
            if is_news {
                machine.ended(end);
                machine.has_thread = false;
            }
            Ok(is_news)
        });
        if is_news == Ok(true) {
            self.save_meter(name);
        }
    }

    /// Returns the machines to which requests for a machine go: itself, or those of a lab that run.
    pub fn targets(&self, name: &str) -> Vec<String> {
        let machines = self.machines();
        match machines.get(name).and_then(|machine| machine.members.as_ref()) {
            None => vec![name.to_owned()],
            Some(members) => {
                let runs = |name: &&String| machines.get(*name).is_some_and(|member| member.process.is_some());
                members.iter().filter(runs).cloned().collect()
            }
        }
    }
}
