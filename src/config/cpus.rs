//! `--cpus`: the number of VPs, their topology, and the host processors that they run on.

use serde::{Deserialize, Serialize};

use crate::kvm::cpuid::Topology;

/// The maximum number of VPs of a machine. Sixty-four fill one bank of a Hyper-V VP set.
pub const MAX_VPS: u32 = 64;

/// The processors of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Cpus {
    /// Number of virtual processors.
    pub count: u32,
    /// Number of packages; one by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sockets: Option<u32>,
    /// Cores per package; by default as many as the count needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// Threads per core; one by default.
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

/// An invalid setting for the processors of a machine.
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
        /// Number of VPs.
        count: u32,
        /// Packages.
        sockets: u32,
        /// Cores per package.
        cores: u32,
        /// Threads per core.
        threads: u32,
        /// Their product.
        product: u64,
    },
    /// The affinity list is malformed.
    #[error("--cpus affinity={list}: `{entry}` is not a host processor's number or a range such as 0-3")]
    Affinity {
        /// The whole list.
        list: String,
        /// The malformed entry.
        entry: String,
    },
    /// The host has no such processor, or this process may not use it.
    #[error("--cpus affinity: VP {vp} cannot run on host processor {processor}: this process may use {usable}")]
    NoProcessor {
        /// The VP's index.
        vp: u32,
        /// The processor that is named.
        processor: usize,
        /// The usable processors, as a list such as `0-3`.
        usable: String,
    },
    /// The affinity list does not name one processor for each VP.
    #[error("--cpus affinity={list} names {named} host processors; it must name one for each of the {count} VPs")]
    AffinityCount {
        /// The whole list.
        list: String,
        /// Number of processors in the list.
        named: usize,
        /// Number of VPs.
        count: u32,
    },
}

impl Cpus {
    /// Returns the topology of the VPs.
    ///
    /// # Errors
    /// Returns an error if the count is out of range, or if the topology does not multiply to it.
    pub(crate) fn topology(&self) -> Result<Topology, CpusError> {
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

    /// Returns the host processor that each VP is bound to, in VP order, or `None` if the VPs are not bound.
    ///
    /// # Errors
    /// Returns an error if the list is malformed, or does not name one processor for each VP.
    pub(crate) fn host_processors(&self) -> Result<Option<Vec<usize>>, CpusError> {
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
