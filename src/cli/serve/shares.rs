//! The supervisor's part in the shares of the host: admission, weights, and changes while a machine runs.

use super::error::Problem;
use super::resources::{Cpu, Memory, Resources, Weight};
use super::supervisor::Supervisor;

impl Supervisor {
    /// Checks that a machine can get its share of the host.
    pub fn admit(&self, name: &str, resources: &Resources) -> Result<(), Problem> {
        let Some(groups) = &self.groups else {
            // The weight of its memory is for the memory budget, which needs no control group.
            let memory = Memory { weight: Weight::default(), ..resources.memory };
            if (Resources { memory, ..*resources }) == Resources::default() {
                return Ok(());
            }
            let message =
                format!("{name} has a share of the host, which needs a control group, and the service has none");
            return Err(Problem::state(message)
                .with_remedy("start the service with --cgroup /sys/fs/cgroup/viridian, or remove cpu and memory"));
        };
        let Some(reserve) = resources.cpu.reserve else { return Ok(()) };
        let others = self.running().into_iter().filter(|(other, _)| other != name);
        let reserved: u32 = others.map(|(_, cpu)| cpu.reserve.unwrap_or_default().0).sum();
        if reserved.saturating_add(reserve.0) > groups.percent() {
            return Err(Problem::state(format!(
                "{name} reserves {reserve} of a processor, other machines {reserved}%, and the host has {}%",
                groups.percent()
            )));
        }
        Ok(())
    }

    /// Returns the machines that have a process, with their shares of the processors.
    fn running(&self) -> Vec<(String, Cpu)> {
        let machines = self.machines();
        let running = machines.iter().filter(|(_, machine)| machine.process.is_some() && machine.lab.is_none());
        running.map(|(name, machine)| (name.clone(), machine.treatment().cpu)).collect()
    }

    /// Gives a machine that runs the share of its new definition.
    pub fn share_anew(&self, name: &str, resources: &Resources) {
        let runs = self.machines().get(name).is_some_and(|machine| machine.process.is_some());
        if runs {
            self.mark(name, true);
        }
        let Some(groups) = self.groups.as_ref().filter(|_| runs) else { return };
        if let Err(error) = groups.limit(name, resources) {
            log::warn!("{name}: its limits stay as they were: {error}");
        }
        self.balance();
    }

    /// Sets the weights of the machines that run.
    pub fn balance(&self) {
        if let Some(groups) = &self.groups {
            groups.balance(|| self.running());
        }
    }
}
