//! `--cpus`: how many VPs, how they sit in packages, and where on the host they run.

use serde::{Deserialize, Serialize};

use crate::kvm::cpuid::Topology;

/// The most VPs that a machine can have. Sixty-four make one bank of a Hyper-V VP set.
pub const MAX_VPS: u32 = 64;

/// The processors of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cpus {
    /// Virtual processors in all.
    pub count: u32,
    /// Packages; by default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sockets: Option<u32>,
    /// Cores in a package; by default what is left over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// Threads in a core; by default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// A host processor for each VP, in their order: `0-3`, or `0:2:4-5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<String>,
}

impl Default for Cpus {
    fn default() -> Self {
        Self { count: 1, sockets: None, cores: None, threads: None, affinity: None }
    }
}

/// Why a machine cannot have these processors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CpusError {
    /// Too many, or none.
    #[error("--cpus {0}: a machine has 1 to {MAX_VPS} virtual processors")]
    Count(u32),
    /// The topology does not multiply to the count.
    #[error(
        "--cpus {count}: {sockets} sockets of {cores} cores of {threads} threads are {product} processors, not {count}"
    )]
    Topology {
        /// VPs in all.
        count: u32,
        /// Packages.
        sockets: u32,
        /// Cores in a package.
        cores: u32,
        /// Threads in a core.
        threads: u32,
        /// What they multiply to.
        product: u64,
    },
    /// The affinity list does not read.
    #[error("--cpus affinity={list}: `{entry}` is not a host processor's number or a range such as 0-3")]
    Affinity {
        /// The whole list.
        list: String,
        /// The entry that is wrong.
        entry: String,
    },
    /// The host has no such processor, or keeps it from this process.
    #[error("--cpus affinity: VP {vp} cannot run on host processor {processor}: this process may use {usable}")]
    NoProcessor {
        /// The VP's index.
        vp: u32,
        /// The processor that is named.
        processor: usize,
        /// Those that there are, as a list such as `0-3`.
        usable: String,
    },
    /// The affinity list names another number of processors than there are VPs.
    #[error("--cpus affinity={list} names {named} host processors; it must name one for each of the {count} VPs")]
    AffinityCount {
        /// The whole list.
        list: String,
        /// How many it names.
        named: usize,
        /// VPs in all.
        count: u32,
    },
}

impl Cpus {
    /// Returns how the VPs sit in packages.
    ///
    /// # Errors
    /// A count that no machine has, or a topology that does not multiply to it.
    pub fn topology(&self) -> Result<Topology, CpusError> {
        let count = self.count;
        if !(1..=MAX_VPS).contains(&count) {
            return Err(CpusError::Count(count));
        }
        let threads = self.threads.unwrap_or(1);
        let rest = |known: u64| u32::try_from(u64::from(count) / known.max(1)).unwrap_or(count).max(1);
        let (sockets, cores) = match (self.sockets, self.cores) {
            (Some(sockets), Some(cores)) => (sockets, cores),
            (Some(sockets), None) => (sockets, rest(u64::from(sockets) * u64::from(threads))),
            (None, Some(cores)) => (rest(u64::from(cores) * u64::from(threads)), cores),
            (None, None) => (1, rest(threads.into())),
        };
        let product = u64::from(sockets).saturating_mul(cores.into()).saturating_mul(threads.into());
        match product == u64::from(count) {
            true => Ok(Topology { sockets, cores, threads }),
            false => Err(CpusError::Topology { count, sockets, cores, threads, product }),
        }
    }

    /// Returns the host processor that each VP is bound to, in their order; none where the host decides.
    ///
    /// # Errors
    /// A list that does not read, or does not name a processor for each VP.
    pub fn host_processors(&self) -> Result<Option<Vec<usize>>, CpusError> {
        let Some(list) = &self.affinity else { return Ok(None) };
        let mut processors = Vec::new();
        for entry in list.split(':') {
            let wrong = || CpusError::Affinity { list: list.clone(), entry: entry.to_owned() };
            let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
            let number = |text: &str| text.parse::<u16>().map(usize::from).map_err(|_| wrong());
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(wrong());
            }
            processors.extend(first..=last);
        }
        match processors.len() == self.count as usize {
            true => Ok(Some(processors)),
            false => {
                let (list, named) = (list.clone(), processors.len());
                Err(CpusError::AffinityCount { list, named, count: self.count })
            }
        }
    }
}

#[cfg(test)]
#[path = "cpus_tests.rs"]
mod tests;
