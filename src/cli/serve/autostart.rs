//! Machines that start after the start of the host, and are stopped before its end.
//!
//! The service cannot tell the end of the host from its own restart, so the stop is a request of its own: `viridian host-stop`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::definition::{Autostart, HostStop};
use super::machine::{Machine, State};
use super::operations::{self, Stop};
use super::supervisor::Supervisor;

/// Time for a machine to start before those of the next order start.
const START: Duration = Duration::from_secs(60);
/// Stack of a thread that only waits.
const STACK: usize = 128 << 10;

impl Supervisor {
    /// Starts the machines that are to start now, in their order, on a thread of its own.
    ///
    /// # Errors
    /// Returns an error if the state directory cannot be read, or if there is no thread.
    pub fn autostart(self: &Arc<Self>) -> std::io::Result<()> {
        let were_running = self.store.running()?;
        let mut orders: BTreeMap<u32, Vec<(String, Duration)>> = BTreeMap::new();
        for (name, machine) in self.machines().iter() {
            let Ok(definition) = &machine.definition else { continue };
            let treatment = definition.treatment;
            let starts = match treatment.autostart {
                Autostart::Never => false,
                Autostart::IfRunning => were_running.contains(name),
                Autostart::Always => true,
            };
            // A machine that has ended since the start of the host has ended for a reason.
            if starts && machine.state == State::Stopped && !self.places.was_started(name) {
                let delay = Duration::from_secs(treatment.start_delay.into());
                orders.entry(treatment.start_order).or_default().push((name.clone(), delay));
            }
        }
        if orders.is_empty() {
            return Ok(());
        }
        let supervisor = self.clone();
        let start = move || orders.into_values().for_each(|machines| supervisor.start_all(&machines));
        thread::Builder::new().name("autostart".into()).stack_size(STACK).spawn(start).map(drop)
    }

    /// Starts machines, and waits until they run or have ended.
    fn start_all(self: &Arc<Self>, machines: &[(String, Duration)]) {
        machines.iter().for_each(|(name, delay)| self.start_after(name, *delay));
        let begun = Instant::now();
        for (name, delay) in machines {
            let left = (*delay + START).saturating_sub(begun.elapsed());
            let has_begun = |machine: &Machine| {
                machine.end != Value::Null || !matches!(machine.state, State::Waiting(_) | State::Starting)
            };
            self.wait(name, left, has_begun);
        }
    }

    /// Begins to stop all machines as their definitions say. They count as running for the next start of the host.
    pub fn stop_for_host(self: &Arc<Self>) {
        let running: Vec<_> = {
            let machines = self.machines();
            let running = machines.iter().filter(|(_, machine)| machine.process.is_some() && machine.lab.is_none());
            running.map(|(name, machine)| (name.clone(), machine.treatment().host_stop)).collect()
        };
        for (name, how) in running {
            let how = match how {
                HostStop::ShutDown => Stop::default(),
                HostStop::TurnOff => Stop::at_once(),
                HostStop::Hibernate => Stop::after_hibernation(),
            };
            if let Err(problem) = operations::begin_stop(self, &name, "host-stop", &how) {
                log::warn!("{name}: {problem}");
            }
        }
    }

    /// Writes down whether a machine counts as running when the host starts again, if that decides about its start.
    pub fn mark(&self, name: &str, is_running: bool) {
        let matters = |machine: &Machine| machine.treatment().autostart == Autostart::IfRunning;
        if is_running && !self.machines().get(name).is_some_and(matters) {
            return;
        }
        if let Err(error) = self.store.set_running(name, is_running) {
            log::warn!("{name}: whether it runs is not written down: {error}");
        }
    }
}
