//! `--trace`: what is traced, and where to.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::text;
use crate::engine::TraceKind;
use crate::{vmbus, vsp};

/// The kinds of events that can be traced.
const KINDS: [TraceKind; 6] = [
    TraceKind::HYPERCALL,
    TraceKind::MSR,
    TraceKind::SYNIC,
    vmbus::trace::KIND,
    vsp::storage::trace::KIND,
    vsp::network::trace::KIND,
];

/// `--trace KIND[,KIND…][=FILE]`: a line for each event, on standard error or into a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Trace {
    /// The kinds of events to trace.
    pub kinds: Vec<TraceKind>,
    /// The output file; standard error if `None`.
    pub file: Option<PathBuf>,
}

impl FromStr for Trace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kinds, file) = match text.split_once('=') {
            Some((_, "")) => return Err(format!("`{text}` has no file name after the equals sign")),
            Some((kinds, file)) => (kinds, Some(PathBuf::from(file))),
            None => (text, None),
        };
        if kinds == "all" {
            return Ok(Self { kinds: KINDS.into(), file });
        }
        let mut names = KINDS.map(TraceKind::name).to_vec();
        names.push("all");
        let kind = |word: &str| {
            let known = KINDS.into_iter().find(|kind| kind.name() == word);
            known.ok_or_else(|| text::unknown("kind of trace", word, &names))
        };
        Ok(Self { kinds: kinds.split(',').map(kind).collect::<Result<_, _>>()?, file })
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match KINDS.iter().all(|kind| self.kinds.contains(kind)) {
            true => formatter.write_str("all")?,
            false => {
                let names: Vec<_> = self.kinds.iter().map(|kind| kind.name()).collect();
                formatter.write_str(&names.join(","))?;
            }
        }
        self.file.as_ref().map_or(Ok(()), |file| write!(formatter, "={}", file.display()))
    }
}

impl TryFrom<String> for Trace {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Trace> for String {
    fn from(trace: Trace) -> Self {
        trace.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_kinds_are_separated_by_commas_and_may_be_followed_by_a_file() {
        let trace: Trace = "msr,vmbus=/tmp/a=b".parse().unwrap();
        assert_eq!(trace, Trace { kinds: vec![TraceKind::MSR, vmbus::trace::KIND], file: Some("/tmp/a=b".into()) });
        assert_eq!(trace.to_string(), "msr,vmbus=/tmp/a=b");
        assert_eq!("all".parse::<Trace>().unwrap().to_string(), "all");
        assert_eq!("mrs".parse::<Trace>().unwrap_err(), "unknown kind of trace `mrs`; did you mean `msr`?");
        assert!("msr=".parse::<Trace>().is_err());
    }

    #[test]
    fn trace_kinds_have_distinct_names() {
        for (index, kind) in KINDS.iter().enumerate() {
            assert!(!KINDS[..index].contains(kind), "{}", kind.name());
        }
    }
}
