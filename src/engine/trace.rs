//! Traces (`--trace`): one line of text or JSON for each event.

use std::fmt;
use std::time::Instant;

use crate::host::records::Records;
use crate::hyperv::trace::Line;

/// A kind of event that can be traced. The module that traces such events declares it, and `config` lists all kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceKind(&'static str);

impl TraceKind {
    /// Hypercalls that reach Viridian.
    pub(crate) const HYPERCALL: Self = Self::named("hypercall");
    /// Accesses to synthetic MSRs that reach Viridian.
    pub(crate) const MSR: Self = Self::named("msr");
    /// Messages, event flags and interrupts.
    pub(crate) const SYNIC: Self = Self::named("synic");

    /// Creates a kind. The name is a word of `--trace`.
    pub(crate) const fn named(name: &'static str) -> Self {
        Self(name)
    }

    /// Returns the name.
    pub(crate) const fn name(self) -> &'static str {
        self.0
    }
}

/// The format of trace lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum TraceFormat {
    /// For people: time and event
    #[default]
    Text,
    /// For programs: a JSON object on each line, with the fields time (in seconds), partition, kind and event
    Json,
}

/// Writes the trace of a machine to an output.
pub struct TraceWriter {
    kinds: Vec<TraceKind>,
    start: Instant,
    records: Records,
    format: TraceFormat,
    /// Name of the partition.
    partition: String,
    /// `true` if lines of text begin with the partition's name, because other partitions use the same output.
    shared: bool,
}

/// Text as a JSON string.
struct JsonText<T>(T);

impl<T: fmt::Display> fmt::Display for JsonText<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("\"")?;
        for character in self.0.to_string().chars() {
            match character {
                '"' | '\\' => write!(formatter, "\\{character}")?,
                '\0'..'\x20' => write!(formatter, "\\u{:04x}", u32::from(character))?,
                _ => write!(formatter, "{character}")?,
            }
        }
        formatter.write_str("\"")
    }
}

impl TraceWriter {
    /// Creates a writer that traces `kinds` of a partition to `records`. Times count from now. Lines of text begin with the
    /// partition's name if the output is `shared`.
    pub fn new(kinds: Vec<TraceKind>, format: TraceFormat, records: Records, partition: &str, shared: bool) -> Self {
        Self { kinds, start: Instant::now(), records, format, partition: partition.to_owned(), shared }
    }

    /// Returns `true` if events of this kind are traced.
    pub fn traces(&self, kind: TraceKind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Writes one line about an event. Does not wait for the reader.
    pub fn line(&self, kind: TraceKind, event: impl fmt::Display) {
        let elapsed = self.start.elapsed();
        let line = match self.format {
            TraceFormat::Text => {
                let line = Line { time: (elapsed.as_nanos() / 100) as u64, event };
                if self.shared { format!("{}: {line}\n", self.partition) } else { format!("{line}\n") }
            }
            TraceFormat::Json => {
                let (time, partition) = (elapsed.as_secs_f64(), JsonText(&self.partition));
                let (kind, event) = (JsonText(kind.name()), JsonText(event));
                format!("{{\"time\":{time:.7},\"partition\":{partition},\"kind\":{kind},\"event\":{event}}}\n")
            }
        };
        self.records.put(line.as_bytes(), 1);
    }

    /// Waits until all lines are written. Gives up if the reader has stopped reading.
    pub fn finish(&self) {
        self.records.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::JsonText;

    #[test]
    fn any_text_is_a_json_string() {
        for text in ["", "plain", "a \"quote\" and \\", "line\nline\t\u{1}\u{7f}\u{2028}ü"] {
            let json = JsonText(text).to_string();
            assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text, "{json}");
        }
    }
}
