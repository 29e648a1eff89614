//! Metrics as text, as Prometheus reads them: its text format, version 0.0.4.

use std::fmt::Write;

/// The media type of the text.
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The start of all names.
const PREFIX: &str = "viridian_";

/// The kinds of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number that only grows, but for a start from 0. Its name ends with `_total`.
    Counter,
    /// A number that grows and shrinks.
    Gauge,
    /// The number of observations up to each of some bounds, their number and their sum.
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The labels of a sample: names and values.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// A metric with its samples, which are lines.
struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    samples: String,
}

/// Metrics in the order of their first samples. All samples of a metric follow each other, in whatever order they are added.
#[derive(Default)]
pub struct Exposition(Vec<Family>);

impl Exposition {
    /// Adds a metric. One that is known stays as it is.
    fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) -> &mut String {
        let place = self.0.iter().position(|family| family.name == name).unwrap_or_else(|| {
            self.0.push(Family { name, kind, help, samples: String::new() });
            self.0.len() - 1
        });
        &mut self.0[place].samples
    }

    /// Adds a sample of a counter or a gauge, if there is a value.
    pub fn add(&mut self, name: &'static str, kind: Kind, help: &'static str, labels: Labels<'_>, value: Option<f64>) {
        let Some(value) = value else { return };
        sample(self.family(name, kind, help), name, "", labels, None, value);
    }

    /// Adds a histogram. `buckets` has the number of observations from each bound to the next, with the upper bound. The last bucket,
    /// which has no bound, has the rest.
    pub fn add_histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Labels<'_>,
        buckets: &[(Option<f64>, f64)],
        sum: f64,
    ) {
        let samples = self.family(name, Kind::Histogram, help);
        let mut count = 0.0;
        for (bound, number) in buckets {
            count += number;
            if let Some(bound) = bound {
                sample(samples, name, "_bucket", labels, Some(&bound.to_string()), count);
            }
        }
        sample(samples, name, "_bucket", labels, Some("+Inf"), count);
        sample(samples, name, "_sum", labels, None, sum);
        sample(samples, name, "_count", labels, None, count);
    }

    /// Returns the text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Family { name, kind, help, samples } in &self.0 {
            let _ = writeln!(text, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {}", kind.name());
            text.push_str(samples);
        }
        text
    }
}

/// Writes a sample.
fn sample(text: &mut String, name: &str, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: f64) {
    let _ = write!(text, "{PREFIX}{name}{suffix}");
    let bound = bound.map(|bound| ("le", bound));
    for (number, (label, value)) in labels.iter().copied().chain(bound).enumerate() {
        let separator = if number == 0 { '{' } else { ',' };
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{separator}{label}=\"{value}\"");
    }
    if !labels.is_empty() || bound.is_some() {
        text.push('}');
    }
    let _ = writeln!(text, " {value}");
}

#[cfg(test)]
#[path = "exposition_tests.rs"]
mod tests;
