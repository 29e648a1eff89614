//! `--trace`: what happens at the interface, one readable line an event.

use std::fmt;
use std::time::Instant;

use crate::host::records::Records;
use crate::hyperv::trace::Line;

/// A kind of event that can be traced. Whoever traces such events declares it, and `config` lists all kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceKind(&'static str);

impl TraceKind {
    /// Hypercalls that reach us.
    pub(crate) const HYPERCALL: Self = Self::named("hypercall");
    /// Accesses to synthetic MSRs that reach us.
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

/// How the lines of a trace are written.
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

/// Writes lines. Whoever does not trace has none.
pub struct Tracer {
    kinds: Vec<TraceKind>,
    start: Instant,
    records: Records,
    format: TraceFormat,
    /// Whose trace it is.
    partition: String,
    /// Lines of text name the partition, since others write to the same place.
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

impl Tracer {
    /// Traces `kinds` of a partition to `records`; times count from now. Lines of text begin with the partition's name if the
    /// output is `shared`.
    pub fn new(kinds: Vec<TraceKind>, format: TraceFormat, records: Records, partition: &str, shared: bool) -> Self {
        Self { kinds, start: Instant::now(), records, format, partition: partition.to_owned(), shared }
    }

    /// Returns `true` if events of that kind are traced.
    pub fn traces(&self, kind: TraceKind) -> bool {
        self.kinds.contains(&kind)
    }

    /// Writes one line about an event of that kind, without waiting for whoever reads it.
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

    /// Waits until the last line is written, but not for a reader that has stopped.
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
