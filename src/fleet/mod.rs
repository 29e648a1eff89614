//! Several machines from one file.
//!
//! ```toml
//! [[partition]]
//! name = "server"
//! kernel = "vmlinuz"
//! net = "switch=lab"
//! console = "file:server.log"
//!
//! [[partition]]
//! name = "client"
//! kernel = "vmlinuz"
//! net = "switch=lab"
//! after = ["server"]
//! ```
//!
//! Each partition has the settings of a machine, and with `after` the names of those that are to run before it starts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::config::Config;
use crate::config::file::{self, FileError, from_table, read};
use crate::vsp::network::config::{NetworkOptionsError, check_all};

/// One of several machines.
#[derive(Clone, Debug, PartialEq)]
pub struct Partition {
    /// Its settings.
    pub config: Config,
    /// The names of those that start before it.
    pub after: Vec<String>,
}

/// Several machines, in the order in which they start.
#[derive(Clone, Debug, PartialEq)]
pub struct Lab {
    /// None starts before those that it names.
    pub partitions: Vec<Partition>,
}

/// Why a file makes no lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Something in it is wrong.
    #[error("{path}: {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: Problem,
    },
}

/// What is wrong with a lab.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It is no TOML, or no lab, or the settings of a partition are wrong.
    #[error(transparent)]
    Toml(file::Problem),
    /// It has the settings of one machine.
    #[error(
        "these are settings of one machine, without a [[partition]]; run it with: viridian run --config FILE, or \
         write [[partition]] and a name above them"
    )]
    OneMachine,
    /// There is nothing to start.
    #[error("there is no [[partition]]")]
    Empty,
    /// A partition cannot be told from others.
    #[error("partition number {0} has no name; give each a name of its own")]
    Unnamed(usize),
    /// Two cannot be told from each other.
    #[error("two partitions are called {0}; give each a name of its own")]
    SameName(String),
    /// There is no such partition.
    #[error("{partition} is to start after {missing}, which does not exist")]
    Unknown {
        /// Who waits.
        partition: String,
        /// Whom it waits for.
        missing: String,
    },
    /// Some wait for each other.
    #[error("these wait for each other by after=, and none would start: {}", .0.join(", "))]
    Cycle(Vec<String>),
    /// Two would write over each other.
    #[error("{first} and {second} both write {path}; give one of them another file")]
    SameFile {
        /// Who writes it.
        first: String,
        /// Who does, too.
        second: String,
        /// The file.
        path: PathBuf,
    },
    /// Adapters are in each other's way.
    #[error(transparent)]
    Network(#[from] NetworkOptionsError),
}

impl Lab {
    /// Reads a file. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    /// What is wrong with it; see [`LabError`].
    pub fn load(path: &Path) -> Result<Self, LabError> {
        let content = read(path)?;
        let wrong = |problem| LabError::Content { path: path.to_owned(), problem };
        let mut lab = match Self::parse(&content) {
            Err(Problem::Toml(problem)) => return Err(problem.in_file(path).into()),
            other => other.map_err(wrong)?,
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        lab.partitions.iter_mut().for_each(|partition| partition.config.rebase(folder));
        check_files(&lab.partitions).map_err(wrong)?;
        Ok(lab)
    }

    /// Reads a file's content.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn parse(content: &str) -> Result<Self, Problem> {
        let toml = |error: &toml::de::Error| Problem::Toml(file::Problem::new(content, None, error));
        let mut table = DeTable::parse(content).map_err(|error| toml(&error))?.into_inner();
        let partitions = table.remove("partition");
        if let Some((key, _)) = table.iter().next() {
            let is_machine = partitions.is_none() && toml::from_str::<Config>(content).is_ok();
            return Err(match is_machine {
                true => Problem::OneMachine,
                false => Problem::Toml(file::Problem::unknown_key(content, key, &["partition"])),
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
        check(&partitions)?;
        Ok(Self { partitions: in_order(partitions)? })
    }
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
    let config = from_table(content, Spanned::new(span, table)).map_err(in_partition)?;
    Ok(Partition { config, after: after.unwrap_or_default() })
}

fn check(partitions: &[Partition]) -> Result<(), Problem> {
    let mut names = BTreeSet::new();
    for Partition { config, .. } in partitions {
        if !names.insert(&config.name) {
            return Err(Problem::SameName(config.name.clone()));
        }
    }
    for Partition { config, after } in partitions {
        if let Some(missing) = after.iter().find(|name| !names.contains(name)) {
            return Err(Problem::Unknown { partition: config.name.clone(), missing: missing.clone() });
        }
    }
    let adapters = partitions.iter().flat_map(|Partition { config, .. }| {
        config.networks.iter().enumerate().map(|(index, options)| (&*config.name, index, options))
    });
    Ok(check_all(adapters)?)
}

/// Expects that no file is written twice. Devices, such as `/dev/null`, may be.
fn check_files(partitions: &[Partition]) -> Result<(), Problem> {
    let mut writers = BTreeMap::new();
    for Partition { config, .. } in partitions {
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

/// Those first that wait for nobody, else as they are written.
fn in_order(mut waiting: Vec<Partition>) -> Result<Vec<Partition>, Problem> {
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

/// The names of some that wait for each other in a ring, of partitions that all wait for one of them.
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
#[path = "lab_tests.rs"]
mod tests;
