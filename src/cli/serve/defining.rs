//! The supervisor's part in definitions: they are written, replaced and removed.

use std::time::Duration;

use serde_json::json;

use super::error::Problem;
use super::machine::{Machine, State};
use super::supervisor::Supervisor;
use super::written::check_name;

/// Maximum number of machines.
const MAX_MACHINES: usize = 1000;
/// Time for the thread of a machine to end after the machine.
const LAST_STEPS: Duration = Duration::from_secs(2);

impl Supervisor {
    /// Writes a definition. Returns `true` if there was none of this name.
    ///
    /// # Errors
    /// Returns an error if it is not valid or cannot be written.
    pub fn define(&self, name: &str, text: &str) -> Result<bool, Problem> {
        check_name(name)?;
        let definition = self.store.parse(text)?;
        definition.lab.as_ref().map_or(Ok(()), |lab| lab.check_names(name))?;
        let resources = definition.treatment.resources();
        let _writing = self.writing.lock();
        let members = self.members_of(name, &definition);
        {
            let machines = self.machines();
            Self::check_names(&machines, name, &definition)?;
            let more = members.iter().flat_map(|members| members.keys()).filter(|name| !machines.contains_key(*name));
            let more = more.count() + usize::from(!machines.contains_key(name));
            if more > 0 && machines.len() + more > MAX_MACHINES {
                let message = format!("there are {} machines already, of {MAX_MACHINES}", machines.len());
                return Err(Problem::state(message).with_remedy("remove some"));
            }
        }
        self.store.put(name, &definition).map_err(|error| Problem::host(error.to_string()))?;
        let mut machines = self.machines();
        let is_new = match machines.get_mut(name) {
            Some(machine) => {
                machine.definition = Ok(definition);
                false
            }
            None => machines.insert(name.to_owned(), Machine::new(Ok(definition))).is_none(),
        };
        // One that just starts has the machines of the definition that it has read.
        let is_starting = machines.get(name).is_some_and(|machine| machine.state == State::Starting);
        let gone = if is_starting { Vec::new() } else { Self::place_members(&mut machines, name, members) };
        drop(machines);
        self.forget_members(&gone);
        self.events.add(json!({ "event": "defined", "machine": name, "new": is_new }));
        self.share_anew(name, &resources);
        Ok(is_new)
    }

    /// Removes a definition.
    ///
    /// # Errors
    /// Returns an error if there is none, or if the machine is not stopped.
    pub fn remove(&self, name: &str) -> Result<(), Problem> {
        // The thread of a machine that has just been stopped soon ends.
        self.wait(name, LAST_STEPS, |machine| machine.state != State::Stopped || !machine.has_thread);
        let _writing = self.writing.lock();
        let machine = {
            let mut machines = self.machines();
            let machine = machines.get(name).ok_or_else(|| Problem::no_machine(name))?;
            Self::of_lab(name, machine)?;
            if machine.state != State::Stopped || machine.has_thread {
                return Err(Problem::state(format!("{name} is {}", machine.state())).with_remedy("stop it first"));
            }
            machines.remove(name)
        };
        if let Err(error) = self.store.delete(name) {
            self.machines().extend(machine.map(|machine| (name.to_owned(), machine)));
            return Err(Problem::host(error.to_string()));
        }
        let mut gone: Vec<_> = {
            let is_member = |_: &String, other: &mut Machine| other.lab.as_deref() == Some(name);
            self.machines().extract_if(.., is_member).map(|(name, _)| name).collect()
        };
        gone.push(name.to_owned());
        self.forget_members(&gone);
        self.mark(name, false);
        self.events.add(json!({ "event": "removed", "machine": name }));
        Ok(())
    }
}
