//! The program's messages: `-v`, `-q` and `RUST_LOG`.

use log::{Level, LevelFilter, Log, Metadata, Record};
use viridian::process::{Marked, Records, limit_remedy};

/// The names under which this program and its libraries log.
const PARTS: [&str; 3] = ["viridian", "smoltcp", "imago"];
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
const VARIABLE: &str = "RUST_LOG";

/// Starts logging at the level for the options, or according to the variable `RUST_LOG`.
pub fn start(verbose: u8, quiet: bool) {
    let level = match (quiet, verbose) {
        (true, _) => LevelFilter::Error,
        (_, 0) => LevelFilter::Warn,
        (_, 1) => LevelFilter::Info,
        (_, 2) => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    let mut filters = Filters { rules: vec![(String::new(), level)], text: None };
    let wanted = std::env::var_os(VARIABLE).filter(|value| !value.is_empty());
    let problem = wanted.and_then(|value| match value.to_str().map(Filters::parse) {
        None => Some("it is not UTF-8".to_owned()),
        Some(Ok(found)) => {
            filters = found;
            None
        }
        Some(Err(problem)) => Some(problem),
    });
    let most = filters.rules.iter().map(|(_, level)| *level).max().unwrap_or(LevelFilter::Off);
    if log::set_boxed_logger(Box::new(filters)).is_ok() {
        log::set_max_level(most);
    }
    if let Some(problem) = problem {
        log::warn!("{VARIABLE} is ignored: {problem}; write a level ({}), or viridian::PART=LEVEL", LEVELS.join(", "));
    }
}

/// The messages that are printed.
struct Filters {
    /// Parts with their levels. The longest part that fits decides; the empty one fits always.
    rules: Vec<(String, LevelFilter)>,
    /// A text that must be in a message.
    text: Option<String>,
}

impl Filters {
    /// Parses filters such as `warn,viridian::vmbus=debug/text`. A part without a level has all of them.
    fn parse(filters: &str) -> Result<Self, String> {
        let (filters, text) = match filters.split_once('/') {
            Some((filters, text)) => (filters, Some(text.to_owned())),
            None => (filters, None),
        };
        let mut rules = vec![(String::new(), LevelFilter::Off)];
        for filter in filters.split(',').map(str::trim).filter(|filter| !filter.is_empty()) {
            let wrong = || format!("`{filter}` is neither a level nor a part of this program");
            let is_part = |part: &str| PARTS.contains(&part.split("::").next().unwrap_or_default());
            let rule = match (filter.split_once('='), filter.parse()) {
                (Some((part, level)), _) if is_part(part) => (part, level.parse().map_err(|_| wrong())?),
                (None, Ok(level)) => ("", level),
                (None, Err(_)) if is_part(filter) => (filter, LevelFilter::Trace),
                _ => return Err(wrong()),
            };
            rules.push((rule.0.to_owned(), rule.1));
        }
        Ok(Self { rules, text })
    }

    fn level(&self, target: &str) -> LevelFilter {
        let fits = |part: &str| target.starts_with(part);
        // Of two for the same part, the last one decides.
        let fitting = self.rules.iter().filter(|(part, _)| fits(part));
        fitting.max_by_key(|(part, _)| part.len()).map_or(LevelFilter::Off, |(_, level)| *level)
    }
}

impl Log for Filters {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level(metadata.target())
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let message = record.args().to_string();
        if self.text.as_ref().is_some_and(|text| !message.contains(text)) {
            return;
        }
        let level = record.level().as_str().to_ascii_lowercase();
        // A line may contain text from a guest or an image. The output never waits for its reader.
        let remedy = if record.level() <= Level::Warn { limit_remedy(&message) } else { String::new() };
        Records::standard_error().put(format!("viridian: {level}: {}{remedy}\n", Marked(&message)).as_bytes(), 1);
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(filters: &str) -> [LevelFilter; 3] {
        let filters = Filters::parse(filters).unwrap();
        ["viridian::vmbus::bus", "viridian::net", "imago"].map(|target| filters.level(target))
    }

    #[test]
    fn filters_name_levels_and_parts() {
        use LevelFilter::{Debug, Error, Info, Off, Trace, Warn};
        assert_eq!(levels("warn"), [Warn; 3]);
        assert_eq!(levels("DEBUG"), [Debug; 3]);
        assert_eq!(levels("viridian=trace"), [Trace, Trace, Off]);
        assert_eq!(levels("viridian::vmbus"), [Trace, Off, Off]);
        assert_eq!(levels("off,viridian::vmbus=debug"), [Debug, Off, Off]);
        assert_eq!(levels("viridian::vmbus=error, info,viridian=warn"), [Error, Warn, Info]);
        assert_eq!(levels("info,warn/text"), [Warn; 3]);
        assert_eq!(levels(""), [Off; 3]);
        assert_eq!(Filters::parse("info/text").unwrap().text, Some("text".into()));
        for wrong in ["garbage", "viridian=loud", "warn,vmbus=debug", "3"] {
            assert!(Filters::parse(wrong).err().unwrap().contains("neither a level nor a part"), "{wrong}");
        }
    }
}
