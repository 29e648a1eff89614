//! A budget of memory that the machines of the service share, by the model of `viridian up`.

use std::collections::BTreeMap;
use std::time::Duration;

use viridian::config::Memory;

use super::governor::{Claim, Governor};
use super::lock::Mutex;
use super::machine::Machine;

/// The interval at which targets are computed.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// The budget.
pub struct Budget {
    /// All memory that machines may have.
    pub bytes: u64,
    shares: Mutex<Shares>,
}

/// The governor, which knows machines by their places.
struct Shares {
    governor: Governor,
    places: BTreeMap<String, usize>,
    free: Vec<usize>,
    count: usize,
}

impl Budget {
    /// Creates a budget that nobody uses.
    pub fn new(bytes: u64) -> Self {
        let governor = Governor::new(bytes, 0);
        Self { bytes, shares: Mutex::new(Shares { governor, places: BTreeMap::new(), free: Vec::new(), count: 0 }) }
    }

    /// Returns the targets of machines that have memory.
    pub fn step(&self, claims: &BTreeMap<String, Claim>) -> BTreeMap<String, u64> {
        self.shares.lock().step(claims)
    }
}

impl Shares {
    fn step(&mut self, claims: &BTreeMap<String, Claim>) -> BTreeMap<String, u64> {
        for name in claims.keys().filter(|name| !self.places.contains_key(*name)).cloned().collect::<Vec<_>>() {
            let place = self.free.pop().unwrap_or_else(|| {
                self.count += 1;
                self.count - 1
            });
            self.places.insert(name, place);
        }
        // In this step, the governor forgets the share of a machine that has ended. Then another one may have its place.
        let gone = |name: &String, _: &mut usize| !claims.contains_key(name);
        self.free.extend(self.places.extract_if(.., gone).map(|(_, place)| place));
        let mut all = vec![None; self.count];
        for (name, place) in &self.places {
            all[*place] = claims.get(name).copied();
        }
        let targets = self.governor.step(&all);
        self.places.iter().filter_map(|(name, place)| Some((name.clone(), targets[*place]?))).collect()
    }
}

/// Returns the least and the most memory that a guest with these settings can have.
pub fn bounds(Memory { size, min, max, .. }: &Memory) -> (u64, u64) {
    (min.map_or(size.0, |min| min.0.min(size.0)), max.map_or(size.0, |max| max.0.max(size.0)))
}

/// Returns the claim of a machine that has memory, or is to have some.
pub fn claim(machine: &Machine) -> Option<Claim> {
    let weight = machine.treatment().memory.weight.0.into();
    let number = |key: &str| machine.summary["counters"]["memory"][key].as_u64();
    let dynamic = (number("minimum-bytes"), number("maximum-bytes"), number("assigned-bytes"));
    if let (Some(min), Some(max), Some(assigned)) = dynamic
        && min <= max
    {
        // A target that was requested may have been reached since.
        let reserved = number("reserved-bytes").max(machine.memory_asked).unwrap_or_default().max(assigned);
        return Some(Claim { min, max, weight, assigned, reserved, demand: number("demand-bytes") });
    }
    let known = machine.summary["memory-bytes"].as_u64();
    if let Some((min, max)) = machine.adopted_bytes.filter(|_| known.is_none()) {
        // It may have any size, and others may have to wait until it says which.
        return Some(Claim { min, max, weight, assigned: max, reserved: max, demand: Some(max) });
    }
    let fixed = known.or(machine.startup_bytes)?;
    Some(Claim { min: fixed, max: fixed, weight, assigned: fixed, reserved: fixed, demand: None })
}

/// Time for a machine that was found running to say what memory it has.
const GRACE: Duration = Duration::from_secs(15);

/// Returns `true` for a machine that another service has started and that has had no time yet to say what memory it has.
pub fn is_soon_known(machine: &Machine) -> bool {
    let is_new = machine.since.is_none_or(|since| since.elapsed() < GRACE);
    machine.adopted_bytes.is_some() && machine.summary.is_null() && machine.answers && is_new
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::{Value, json};

    use super::super::error::Problem;
    use super::*;

    const MIB: u64 = 1 << 20;

    fn machine(summary: Value) -> Machine {
        let mut machine = Machine::new(Err(Problem::host("x")));
        machine.summary = summary;
        machine
    }

    fn dynamic(min: u64, max: u64, assigned: u64, demand: u64) -> Machine {
        let memory = json!({ "minimum-bytes": min * MIB, "maximum-bytes": max * MIB, "assigned-bytes": assigned * MIB,
            "reserved-bytes": assigned * MIB, "demand-bytes": demand * MIB });
        machine(json!({ "memory-bytes": max * MIB, "counters": { "memory": memory } }))
    }

    fn claims(machines: &[(&str, Machine)]) -> BTreeMap<String, Claim> {
        machines.iter().filter_map(|(name, machine)| Some(((*name).to_owned(), claim(machine)?))).collect()
    }

    #[test]
    fn a_claim_is_what_a_machine_has_said_or_what_it_starts_with() {
        assert_eq!(claim(&machine(Value::Null)), None, "it is stopped");
        let fixed =
            |bytes| Claim { min: bytes, max: bytes, weight: 100, assigned: bytes, reserved: bytes, demand: None };
        let mut starting = machine(Value::Null);
        starting.startup_bytes = Some(64 * MIB);
        assert_eq!(claim(&starting), Some(fixed(64 * MIB)));
        assert_eq!(claim(&machine(json!({ "memory-bytes": 9 * MIB }))), Some(fixed(9 * MIB)));
        // One that was found running has all that it can have until it says something else.
        let mut adopted = dynamic(96, 160, 128, 100);
        let known = claim(&adopted);
        (adopted.startup_bytes, adopted.adopted_bytes) = (Some(128 * MIB), Some((96 * MIB, 160 * MIB)));
        assert!(claim(&adopted) == known && !is_soon_known(&adopted));
        adopted.summary = Value::Null;
        let own = claim(&adopted).unwrap();
        assert_eq!((own.reserved, own.least(), is_soon_known(&adopted)), (160 * MIB, 96 * MIB, true));
        adopted.since = Instant::now().checked_sub(GRACE);
        assert!(claim(&adopted) == Some(own) && !is_soon_known(&adopted), "it says nothing");
        (adopted.since, adopted.answers) = (None, false);
        assert!(claim(&adopted) == Some(own) && !is_soon_known(&adopted), "it hangs");
        let mut asked = dynamic(96, 160, 128, 100);
        asked.memory_asked = Some(150 * MIB);
        let own = claim(&asked).unwrap();
        assert_eq!((own.min, own.max, own.assigned, own.demand), (96 * MIB, 160 * MIB, 128 * MIB, Some(100 * MIB)));
        assert_eq!(own.reserved, 150 * MIB);
        assert_eq!(claim(&dynamic(200, 100, 128, 100)).map(|claim| claim.max), Some(100 * MIB), "it is nonsense");
    }

    #[test]
    fn machines_come_and_go_and_each_keeps_its_own_share() {
        let budget = Budget::new(256 * MIB);
        let mib = |machines: &[(&str, Machine)]| {
            let targets = budget.step(&claims(machines));
            targets.into_iter().map(|(name, bytes)| (name, bytes / MIB)).collect::<Vec<_>>()
        };
        let expected =
            |all: &[(&str, u64)]| all.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect::<Vec<_>>();
        let two = mib(&[("a", dynamic(96, 160, 128, 60)), ("b", dynamic(96, 160, 128, 160))]);
        // The second one grows when the first has released its memory.
        assert_eq!(two, expected(&[("a", 96), ("b", 128)]));
        let two = mib(&[("a", dynamic(96, 160, 96, 60)), ("b", dynamic(96, 160, 128, 160))]);
        assert_eq!(two, expected(&[("a", 96), ("b", 160)]));
        // Another one has the place of the first, and not its share.
        assert_eq!(mib(&[("b", dynamic(96, 160, 160, 160))]), expected(&[("b", 160)]));
        let two = mib(&[("b", dynamic(96, 160, 160, 160)), ("c", dynamic(64, 96, 64, 70))]);
        assert_eq!(two, expected(&[("b", 160), ("c", 84)]));
        assert_eq!(mib(&[]), expected(&[]));
    }
}
