//! The supervisor's part in the memory budget.
//!
//! Once a second, a thread computes the target of each machine from what the machines have last said. The thread of each machine passes
//! its target on, so one that hangs delays no other. A machine starts when there is room for its startup size: others with dynamic
//! memory are brought to less until there is.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use viridian::config::Size;

use super::budget::{Budget, INTERVAL, claim, is_soon_known};
use super::error::Problem;
use super::governor::Claim;
use super::supervisor::Supervisor;

/// Time for other machines to release what a machine needs at its start.
const ROOM: Duration = Duration::from_secs(30);
/// Stack of the thread.
const STACK: usize = 128 << 10;

fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

impl Supervisor {
    /// Computes the targets of machines from now on, if there is a budget.
    ///
    /// # Errors
    /// Returns an error if there is no thread.
    pub fn share_memory(self: &Arc<Self>) -> io::Result<()> {
        if self.budget.is_none() {
            return Ok(());
        }
        let supervisor = self.clone();
        let share = move || {
            while let Some(budget) = &supervisor.budget {
                supervisor.set_targets(budget);
                thread::sleep(INTERVAL);
            }
        };
        thread::Builder::new().name("memory".into()).stack_size(STACK).spawn(share).map(drop)
    }

    fn set_targets(&self, budget: &Budget) {
        let mut machines = self.machines();
        // Others keep what they have until it is known what a machine has that has soon answered.
        if machines.values().any(is_soon_known) {
            return;
        }
        let claims = machines.iter().filter_map(|(name, machine)| Some((name.clone(), claim(machine)?))).collect();
        for (name, target) in budget.step(&claims) {
            machines.get_mut(&name).into_iter().for_each(|machine| machine.memory_target = Some(target));
        }
    }

    /// Returns the memory that machines have, or may take.
    pub fn memory_in_use(&self) -> u64 {
        sum(self.machines().values().filter_map(claim).map(|claim| claim.reserved))
    }

    /// Waits until there is room for the memory that a machine has at its start, and keeps it for the machine.
    ///
    /// # Errors
    /// Returns an error if others cannot or do not make room.
    pub fn admit_memory(&self, name: &str, bytes: u64) -> Result<(), Problem> {
        let Some(budget) = &self.budget else { return Ok(()) };
        let begun = Instant::now();
        let mut machines = self.machines();
        loop {
            // Of those that wait, the first one for which there is room gets it.
            let others = machines.iter().filter(|(other, machine)| *other != name && !machine.waits_for_room);
            let others: Vec<Claim> = others.filter_map(|(_, machine)| claim(machine)).collect();
            let all = |size: fn(&Claim) -> u64| sum(others.iter().map(size));
            let (reserved, least) = (all(|claim| claim.reserved), all(Claim::least));
            let machine = machines.get_mut(name).ok_or_else(|| Problem::no_machine(name))?;
            machine.startup_bytes = Some(bytes);
            machine.waits_for_room = reserved.saturating_add(bytes) > budget.bytes;
            if !machine.waits_for_room {
                return Ok(());
            }
            let left = ROOM.saturating_sub(begun.elapsed());
            let reason = if least.saturating_add(bytes) > budget.bytes {
                format!("other machines keep at least {}", Size(least))
            } else if left.is_zero() {
                format!(
                    "other machines have {} and have not released enough within {} s",
                    Size(reserved),
                    ROOM.as_secs()
                )
            } else {
                // The governor counts this machine from now on.
                machines = self.changed.wait_timeout(machines, left);
                continue;
            };
            (machine.startup_bytes, machine.waits_for_room) = (None, false);
            let (bytes, all) = (Size(bytes), Size(budget.bytes));
            let message =
                format!("{name} needs {bytes} of memory at its start, and of the memory budget of {all}, {reason}");
            return Err(Problem::state(message).with_remedy(
                "stop another machine, give this one a smaller startup size, or start the service with a larger --memory-budget",
            ));
        }
    }
}
