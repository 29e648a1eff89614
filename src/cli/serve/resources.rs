//! The share of the host's processors and memory that a machine gets, in Hyper-V's terms: weight, reserve and limit.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use viridian::config::Size;

/// The largest weight, of Hyper-V and of cgroup v2.
const MAX_WEIGHT: u16 = 10_000;
/// The largest share: 4,096 processors.
const MAX_PERCENT: u32 = 409_600;

/// A share of the host's processors relative to other machines, from 1 to 10,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(pub u16);

impl Default for Weight {
    fn default() -> Self {
        Self(100)
    }
}

/// A share of processor time, in percent of one processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
pub struct Percent(pub u32);

/// The share of the host's processors that a machine gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cpu {
    /// Its share relative to other machines.
    pub weight: Weight,
    /// Processor time that it can always have.
    pub reserve: Option<Percent>,
    /// Processor time that it has at most.
    pub limit: Option<Percent>,
}

/// The share of the host's memory that a machine's process gets. The memory of the guest is a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// Memory that the host does not reclaim.
    pub reserve: Option<Size>,
    /// Memory that the process has at most. The host ends it if it needs more.
    pub limit: Option<Size>,
    /// Its share of a memory budget relative to other machines, if memory is scarce.
    pub weight: Weight,
}

/// All shares of a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub cpu: Cpu,
    pub memory: Memory,
}

impl Resources {
    /// Returns a reason why these cannot be the resources of a machine, or `None` if they can.
    pub fn mistake(&self) -> Option<String> {
        let Self { cpu, memory } = self;
        if let (Some(reserve), Some(limit)) = (cpu.reserve, cpu.limit)
            && reserve > limit
        {
            return Some(format!("cpu: the reserve {reserve} is more than the limit {limit}"));
        }
        if let (Some(reserve), Some(limit)) = (memory.reserve, memory.limit)
            && reserve > limit
        {
            return Some(format!("memory: the reserve {reserve} is more than the limit {limit}"));
        }
        None
    }
}

/// Returns the weights with which each machine gets its reserve, and a part of the rest by its own weight.
///
/// `processors` is the number of the host's processors. The reserves together must not be more than these have.
pub fn weights(machines: &[Cpu], processors: u32) -> Vec<Weight> {
    let own = |cpu: &Cpu| u64::from(cpu.weight.0);
    let reserve = |cpu: &Cpu| u64::from(cpu.reserve.unwrap_or_default().0);
    let reserved: u64 = machines.iter().map(reserve).sum();
    if reserved == 0 {
        return machines.iter().map(|cpu| cpu.weight).collect();
    }
    let all = u64::from(processors) * 100;
    let rest = all.saturating_sub(reserved);
    let sum = machines.iter().map(own).sum::<u64>().max(1);
    let weight = |cpu: &Cpu| {
        let percent_of_sum = reserve(cpu) * sum + rest * own(cpu);
        let weight = percent_of_sum * u64::from(MAX_WEIGHT) / (all * sum).max(1);
        Weight(weight.clamp(1, u64::from(MAX_WEIGHT)) as u16)
    };
    machines.iter().map(weight).collect()
}

impl fmt::Display for Percent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}%", self.0)
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PercentVisitor;
        impl Visitor<'_> for PercentVisitor {
            type Value = Percent;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "a percentage of one processor such as \"150%\", up to {MAX_PERCENT}%")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Percent, E> {
                let number = text.strip_suffix('%').and_then(|number| number.parse().ok());
                let percent = number.filter(|percent| (1..=MAX_PERCENT).contains(percent));
                percent.map(Percent).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(PercentVisitor)
    }
}

impl Serialize for Weight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.0)
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let weight = i64::deserialize(deserializer)?;
        let valid = u16::try_from(weight).ok().filter(|weight| (1..=MAX_WEIGHT).contains(weight));
        let expected = format!("a weight from 1 to {MAX_WEIGHT}");
        valid.map(Self).ok_or_else(|| de::Error::invalid_value(de::Unexpected::Signed(weight), &&*expected))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn machine(weight: u16, reserve: u32) -> Cpu {
        Cpu { weight: Weight(weight), reserve: Some(Percent(reserve)), limit: None }
    }

    #[test]
    fn without_reserves_the_weights_are_those_of_the_definitions() {
        let machines = [machine(100, 0), machine(300, 0), Cpu::default()];
        assert_eq!(weights(&machines, 2), [Weight(100), Weight(300), Weight(100)]);
        assert!(weights(&[], 2).is_empty());
    }

    #[test]
    fn a_reserve_comes_first_and_the_rest_is_shared_by_weight() {
        // Of 200 %, 80 are reserved. The rest is shared 1:3, so the machines get 80 + 30 and 90.
        assert_eq!(weights(&[machine(100, 80), machine(300, 0)], 2), [Weight(5500), Weight(4500)]);
        assert_eq!(weights(&[machine(100, 100), machine(100, 100)], 2), [Weight(5000), Weight(5000)]);
    }

    proptest! {
        #[test]
        fn every_machine_gets_its_reserve(
            machines in prop::collection::vec((1..=MAX_WEIGHT, 0..=100_u32), 1..20), more in 0..4_u32,
        ) {
            let reserved: u32 = machines.iter().map(|(_, reserve)| reserve).sum();
            let processors = reserved.div_ceil(100).max(1) + more;
            let machines: Vec<_> = machines.into_iter().map(|(weight, reserve)| machine(weight, reserve)).collect();
            let weights = weights(&machines, processors);
            let sum: f64 = weights.iter().map(|weight| f64::from(weight.0)).sum();
            for (machine, weight) in machines.iter().zip(&weights) {
                let percent = f64::from(weight.0) / sum * f64::from(processors) * 100.0;
                let reserve = f64::from(machine.reserve.unwrap().0);
                // Weights are integers, of which one is 1/10,000 of the host.
                prop_assert!(percent >= reserve - f64::from(processors) * 0.25, "{percent} of {reserve}");
            }
        }
    }

    #[test]
    fn shares_are_read_with_their_units() {
        let percent = |text: &str| serde_json::from_str::<Percent>(text);
        assert_eq!(percent("\"25%\"").unwrap(), Percent(25));
        assert_eq!(serde_json::to_string(&Percent(250)).unwrap(), "\"250%\"");
        for wrong in ["\"0%\"", "\"25\"", "\"-1%\"", "\"409601%\"", "25", "\"%\""] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
        let weight = |text: &str| serde_json::from_str::<Weight>(text);
        assert_eq!(weight("10000").unwrap(), Weight(10_000));
        for wrong in ["0", "10001", "-1", "\"100\"", "1e3"] {
            assert!(weight(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_reserve_above_the_limit_is_a_mistake() {
        let mistake = |text: &str| {
            let cpu_and_memory: (Cpu, Memory) = serde_json::from_str(text).unwrap();
            Resources { cpu: cpu_and_memory.0, memory: cpu_and_memory.1 }.mistake()
        };
        let cpu = mistake(r#"[{"reserve": "50%", "limit": "25%"}, {}]"#);
        assert_eq!(cpu.unwrap(), "cpu: the reserve 50% is more than the limit 25%");
        let memory = mistake(r#"[{}, {"reserve": "2G", "limit": "1G"}]"#);
        assert_eq!(memory.unwrap(), "memory: the reserve 2G is more than the limit 1G");
        assert_eq!(mistake(r#"[{"weight": 7, "reserve": "50%", "limit": "50%"}, {"limit": "1G"}]"#), None);
    }
}
