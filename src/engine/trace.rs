//! Traces: one line of text or JSON for each event, written by `--trace` or followed while the machine runs.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::live_trace::{LiveTrace, TraceFollower, Wanted};
use super::trace_kind::TraceKind;
use crate::host::records::Records;
use crate::hyperv::trace::Line;

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

/// The trace of a machine, for its output and its followers.
pub struct TraceWriter {
    start: Instant,
    output: Option<Output>,
    live: Arc<LiveTrace>,
}

/// The output of a trace.
pub struct Output {
    /// The kinds of events that are written.
    pub kinds: Vec<TraceKind>,
    /// The destination.
    pub records: Records,
    /// The format of lines.
    pub format: TraceFormat,
    /// Name of the partition.
    pub partition: String,
    /// `true` if lines of text begin with the partition's name, because other partitions use the same output.
    pub shared: bool,
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
    /// Creates the trace of a partition, perhaps with an output. Times count from now.
    pub fn new(output: Option<Output>) -> Self {
        Self { start: Instant::now(), output, live: Arc::default() }
    }

    /// Returns `true` if events of this kind are written to the output.
    pub fn writes(&self, kind: TraceKind) -> bool {
        self.output.as_ref().is_some_and(|output| output.kinds.contains(&kind))
    }

    /// Returns `true` if the output or a follower wants events of this kind.
    pub fn traces(&self, kind: TraceKind) -> bool {
        self.writes(kind) || self.live.wants(kind)
    }

    /// Writes one line about an event. Does not wait for the reader.
    pub fn line(&self, kind: TraceKind, event: impl fmt::Display) {
        let elapsed = self.start.elapsed();
        self.live.line(kind, elapsed, &event);
        if let Some(output) = self.output.as_ref().filter(|output| output.kinds.contains(&kind)) {
            output.line(elapsed, kind, event);
        }
    }

    /// Follows the trace from now on. Returns `None` if there are too many followers.
    pub fn follow(&self, wanted: Wanted) -> Option<TraceFollower> {
        self.live.follow(wanted)
    }

    /// Waits until all lines are written. Gives up if the reader has stopped reading.
    pub fn finish(&self) {
        self.live.finish();
        if let Some(output) = &self.output {
            output.records.finish();
        }
    }
}

impl Output {
    fn line(&self, elapsed: Duration, kind: TraceKind, event: impl fmt::Display) {
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
