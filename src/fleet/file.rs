//! A fleet from a TOML file, and what can be wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::{Fleet, Member};
use crate::config::Config;
use crate::config::file::{self, FileError, from_table, read};
use crate::machine::builder::Builder;
use crate::vsp::network::config::{NetworkOptionsError, check_all};
use crate::wire::size::Size;

/// The weight of a machine that is given none.
pub(super) const DEFAULT_WEIGHT: u32 = 100;
/// The greatest weight.
const MAX_WEIGHT: u32 = 10_000;

/// The reason why machines cannot be run together, with the file and the line where it was found.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct FleetError(#[from] Reason);

#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "{0}: these are settings of one machine, without a [[partition]]; run it with: viridian run --config {0}, or \
         write [[partition]] and a name above them"
    )]
    OneMachine(PathBuf),
    #[error("{path}: {problem}")]
    InFile { path: PathBuf, problem: Problem },
    #[error(transparent)]
    Problem(Problem),
}

/// A mistake in the description of a fleet.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// The file is not TOML, or the settings of a partition are wrong.
    #[error(transparent)]
    Toml(file::Problem),
    /// The file has the settings of one machine, without a table for it.
    #[error("there is no [[partition]] above the settings")]
    OneMachine,
    #[error("there is no [[partition]]")]
    Empty,
    /// The number of the partition, from 1.
    #[error("partition number {0} has no name; give each a name of its own")]
    Unnamed(usize),
    #[error("two partitions are called {0}; give each a name of its own")]
    SameName(String),
    #[error("{partition} is to start after {missing}, which does not exist")]
    Unknown { partition: String, missing: String },
    #[error("these wait for each other through after=, and none would start: {}", .0.join(", "))]
    Cycle(Vec<String>),
    #[error("{first} and {second} both write {path}; give one of them another file")]
    SameFile { first: String, second: String, path: PathBuf },
    #[error(
        "memory-budget = {budget} is less than the {needed} that the machines have together at their start; give them \
         smaller startup sizes, or a larger budget"
    )]
    Budget { budget: Size, needed: Size },
    #[error("{partition}: weight = {weight} is not between 1 and {MAX_WEIGHT}")]
    Weight { partition: String, weight: u32 },
    #[error(transparent)]
    Network(#[from] NetworkOptionsError),
}

impl Fleet {
    /// Reads a fleet from a file. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// Returns the first mistake in the file, with its line where it has one.
    pub fn load(path: &Path) -> Result<Self, FleetError> {
        let content = read(path).map_err(Reason::File)?;
        let wrong = |problem| match problem {
            Problem::Toml(problem) => Reason::File(problem.in_file(path)),
            Problem::OneMachine => Reason::OneMachine(path.to_owned()),
            problem => Reason::InFile { path: path.to_owned(), problem },
        };
        let Description { mut partitions, budget } = parse(&content).map_err(wrong)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        partitions.iter_mut().for_each(|partition| partition.config.rebase(folder));
        check_files(partitions.iter().map(|partition| &partition.config)).map_err(wrong)?;
        let member = |Partition { config, weight, .. }: Partition| Member {
            builder: Builder::from(config).label_console(),
            weight,
        };
        Ok(Self { members: partitions.into_iter().map(member).collect(), budget })
    }

    /// Makes a fleet of machines that start in this order.
    ///
    /// # Errors
    /// There is no machine, two have the same name or the same address on a network, or two write the same file.
    pub fn new(machines: impl IntoIterator<Item = Builder>) -> Result<Self, FleetError> {
        let members: Vec<_> = machines.into_iter().map(|builder| Member { builder, weight: DEFAULT_WEIGHT }).collect();
        let configs = || members.iter().map(|member| member.builder.config());
        let checked = match members.is_empty() {
            true => Err(Problem::Empty),
            false => check_names_and_networks(configs()).and_then(|()| check_files(configs())),
        };
        checked.map_err(Reason::Problem)?;
        Ok(Self { members, budget: None })
    }
}

/// The content of a file.
#[derive(Debug)]
pub(super) struct Description {
    /// Machines in the order in which they start.
    pub partitions: Vec<Partition>,
    /// The memory that they share, in bytes.
    pub budget: Option<u64>,
}

/// One machine of a file.
#[derive(Debug)]
pub(super) struct Partition {
    pub config: Config,
    /// The names of the machines that start before it.
    pub after: Vec<String>,
    /// Its weight when memory is scarce.
    pub weight: u32,
}

/// Reads the content of a file.
pub(super) fn parse(content: &str) -> Result<Description, Problem> {
    let toml = |error: &toml::de::Error| Problem::Toml(file::Problem::new(content, None, error));
    let mut table = DeTable::parse(content).map_err(|error| toml(&error))?.into_inner();
    let partitions = table.remove("partition");
    let budget =
        table.remove("memory-budget").map(|value| Size::deserialize(ValueDeserializer::from(value))).transpose();
    let budget = budget.map_err(|error| toml(&error))?;
    if let Some((key, _)) = table.iter().next() {
        let is_machine = partitions.is_none() && toml::from_str::<Config>(content).is_ok();
        return Err(match is_machine {
            true => Problem::OneMachine,
            false => Problem::Toml(file::Problem::unknown_key(content, key, &["partition", "memory-budget"])),
        });
    }
    let partitions = match partitions.map(|value| (value.span(), value.into_inner())) {
        None => Vec::new(),
        Some((_, DeValue::Array(partitions))) => partitions.into_iter().collect(),
        Some((span, table)) => vec![Spanned::new(span, table)],
    };
    let partitions = partitions.into_iter().zip(1..).map(|(value, number)| partition(content, value, number));
    let partitions = partitions.collect::<Result<Vec<_>, _>>()?;
    if partitions.is_empty() {
        return Err(Problem::Empty);
    }
    check_names_and_networks(partitions.iter().map(|partition| &partition.config))?;
    budget.map_or(Ok(()), |budget| check_budget(budget, &partitions))?;
    Ok(Description { partitions: in_order(partitions)?, budget: budget.map(|budget| budget.0) })
}

/// Checks that the machines can start within the budget.
fn check_budget(budget: Size, partitions: &[Partition]) -> Result<(), Problem> {
    let needed = partitions.iter().fold(0_u64, |sum, partition| sum.saturating_add(partition.config.memory.size.0));
    if needed > budget.0 { Err(Problem::Budget { budget, needed: Size(needed) }) } else { Ok(()) }
}

fn partition(content: &str, value: Spanned<DeValue<'_>>, number: usize) -> Result<Partition, Problem> {
    let span = value.span();
    let DeValue::Table(mut table) = value.into_inner() else {
        return Err(Problem::Toml(file::Problem::at(content, span.start, "write each partition as [[partition]]")));
    };
    let name = table.get("name").and_then(|name| name.get_ref().as_str()).filter(|name| !name.is_empty());
    let name = name.ok_or(Problem::Unnamed(number))?.to_owned();
    let in_partition = |problem: file::Problem| Problem::Toml(problem.with_context(&name));
    let after = table.remove("after").map(|value| Vec::deserialize(ValueDeserializer::from(value))).transpose();
    let after = after.map_err(|error| in_partition(file::Problem::new(content, None, &error)))?;
    let weight = table.remove("weight").map(|value| u32::deserialize(ValueDeserializer::from(value))).transpose();
    let weight =
        weight.map_err(|error| in_partition(file::Problem::new(content, None, &error)))?.unwrap_or(DEFAULT_WEIGHT);
    if !(1..=MAX_WEIGHT).contains(&weight) {
        return Err(Problem::Weight { partition: name, weight });
    }
    let config = from_table(content, Spanned::new(span, table)).map_err(in_partition)?;
    Ok(Partition { config, after: after.unwrap_or_default(), weight })
}

/// Checks that names are unique, and that adapters on one network have addresses of their own.
fn check_names_and_networks<'a>(configs: impl Iterator<Item = &'a Config> + Clone) -> Result<(), Problem> {
    let mut names = BTreeSet::new();
    if let Some(config) = configs.clone().find(|config| !names.insert(&config.name)) {
        return Err(Problem::SameName(config.name.clone()));
    }
    let adapters = configs
        .flat_map(|config| config.networks.iter().enumerate().map(|(index, options)| (&*config.name, index, options)));
    Ok(check_all(adapters)?)
}

/// Checks that no file is written by two machines. Devices, such as `/dev/null`, may be.
fn check_files<'a>(configs: impl Iterator<Item = &'a Config>) -> Result<(), Problem> {
    let mut writers = BTreeMap::new();
    for config in configs {
        let is_device = |path: &Path| std::fs::metadata(path).is_ok_and(|found| !found.is_file());
        for path in config.written_files().filter(|path| !is_device(path)) {
            if let Some(first) = writers.insert(path, &config.name) {
                let (first, second) = (first.clone(), config.name.clone());
                return Err(Problem::SameFile { first, second, path: path.to_owned() });
            }
        }
    }
    Ok(())
}

/// Sorts machines so that each follows those that it names, and otherwise keeps their order.
fn in_order(mut waiting: Vec<Partition>) -> Result<Vec<Partition>, Problem> {
    for Partition { config, after, .. } in &waiting {
        if let Some(missing) = after.iter().find(|name| !waiting.iter().any(|other| other.config.name == **name)) {
            return Err(Problem::Unknown { partition: config.name.clone(), missing: missing.clone() });
        }
    }
    let mut ordered: Vec<Partition> = Vec::new();
    while !waiting.is_empty() {
        let runs = |name: &String| ordered.iter().any(|partition| partition.config.name == *name);
        match waiting.iter().position(|partition| partition.after.iter().all(runs)) {
            Some(next) => ordered.push(waiting.remove(next)),
            None => return Err(Problem::Cycle(cycle(&waiting))),
        }
    }
    Ok(ordered)
}

/// Returns the names of partitions that wait for each other in a circle. Each of `waiting` waits for another of them.
fn cycle(waiting: &[Partition]) -> Vec<String> {
    let mut path: Vec<String> = Vec::new();
    let mut name = waiting.first().map(|partition| partition.config.name.clone());
    while let Some(next) = name {
        if let Some(start) = path.iter().position(|known| *known == next) {
            return path.split_off(start);
        }
        let partition = waiting.iter().find(|partition| partition.config.name == next);
        let is_waiting = |name: &&String| waiting.iter().any(|partition| partition.config.name == **name);
        name = partition.and_then(|partition| partition.after.iter().find(is_waiting).cloned());
        path.push(next);
    }
    path
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
