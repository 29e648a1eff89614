//! The program's messages: `-v`, `-q` and `RUST_LOG`.

use std::io::Write;

use env_logger::{Builder, Target};
use log::LevelFilter;
use viridian::process::Marked;
use viridian::process::Records;

/// The names under which this program and its libraries log.
const PARTS: [&str; 4] = ["viridian", "smoltcp", "imago", "env_logger"];
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
    let mut builder = Builder::new();
    builder.filter_level(level);
    let wanted = std::env::var_os(VARIABLE).filter(|value| !value.is_empty());
    let problem = wanted.and_then(|value| match value.to_str() {
        None => Some("it is not UTF-8".to_owned()),
        Some(filters) => match misread(filters) {
            None => {
                builder.parse_filters(filters);
                None
            }
            wrong => wrong,
        },
    });
    // Uses the output that never waits for its reader.
    builder.target(Target::Pipe(Box::new(Records::standard_error().clone())));
    builder.format(|out, record| {
        let level = record.level().as_str().to_ascii_lowercase();
        // A line may contain text from a guest or an image.
        writeln!(out, "viridian: {level}: {}", Marked(&record.args().to_string()))
    });
    builder.init();
    if let Some(problem) = problem {
        log::warn!("{VARIABLE} is ignored: {problem}; write a level ({}), or viridian::PART=LEVEL", LEVELS.join(", "));
    }
}

/// Returns the problem of filters such as `warn,viridian::vmbus=debug/text`, or `None` if they are valid.
fn misread(filters: &str) -> Option<String> {
    let filters = filters.split('/').next().unwrap_or_default();
    let is_level = |word: &str| LEVELS.contains(&word.to_ascii_lowercase().as_str());
    let wrong = |filter: &&str| {
        let (part, level) = filter.split_once('=').map_or((*filter, None), |(part, level)| (part, Some(level)));
        match level {
            None if is_level(part) => false,
            Some(level) if !is_level(level) => true,
            _ => !PARTS.contains(&part.split("::").next().unwrap_or_default()),
        }
    };
    let filter = filters.split(',').map(str::trim).filter(|filter| !filter.is_empty()).find(wrong)?;
    Some(format!("`{filter}` is neither a level nor a part of this program"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_name_levels_and_parts() {
        for right in ["warn", "DEBUG", "viridian=trace", "viridian::vmbus", "off,viridian::vsp=debug", "info/text", ""]
        {
            assert_eq!(misread(right), None, "{right}");
        }
        for wrong in ["garbage", "viridian=loud", "warn,vmbus=debug", "3"] {
            assert!(misread(wrong).unwrap().contains("neither a level nor a part"), "{wrong}");
        }
    }
}
