//! A strict reader of the text format of Prometheus, for tests.

use std::collections::{BTreeMap, BTreeSet};

/// A sample of a text: its name, its labels in their order, and its value.
type Sample = (String, Vec<(String, String)>, f64);

/// Reads a text as strictly as the format allows. Returns the samples.
///
/// # Errors
/// Returns an error with the line for what a reader of the format might refuse, and for names against Prometheus's conventions.
pub fn parse(text: &str) -> Result<Vec<Sample>, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line has no end".into());
    }
    let mut samples: Vec<Sample> = Vec::new();
    let mut families: Vec<(String, String)> = Vec::new();
    let mut help: Option<String> = None;
    let mut series = BTreeSet::new();
    for line in text.lines() {
        let wrong = |reason: &str| Err(format!("{reason}: {line}"));
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let Some((name, words)) = rest.split_once(' ') else { return wrong("a help without text") };
            let is_plain = words.ends_with('.') && !words.contains('\\');
            if help.is_some() || !is_plain || families.iter().any(|(known, _)| known == name) {
                return wrong("a second help, or one that is no sentence");
            }
            help = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let Some((name, kind)) = rest.split_once(' ') else { return wrong("a type without a kind") };
            if help.take().as_deref() != Some(name) {
                return wrong("the type does not follow the help");
            }
            check_name(name, kind).map_err(|reason| format!("{reason}: {line}"))?;
            families.push((name.to_owned(), kind.to_owned()));
        } else {
            let (name, labels, value) = sample(line).ok_or_else(|| format!("no sample: {line}"))?;
            let Some((family, kind)) = families.last().filter(|_| help.is_none()) else { return wrong("no type yet") };
            let suffix = name.strip_prefix(family.as_str());
            let is_member = match kind.as_str() {
                "histogram" => matches!(suffix, Some("_bucket" | "_sum" | "_count")),
                _ => suffix == Some(""),
            };
            let has_bound = labels.iter().any(|(label, _)| label == "le");
            if !is_member || has_bound != (kind == "histogram" && suffix == Some("_bucket")) {
                return wrong("it is of another metric");
            }
            if kind != "gauge" && value < 0.0 {
                return wrong("less than nothing");
            }
            let mut sorted = labels.clone();
            sorted.sort();
            if sorted.windows(2).any(|pair| pair[0].0 == pair[1].0) || !series.insert((name.clone(), sorted)) {
                return wrong("it was there before");
            }
            samples.push((name, labels, value));
        }
    }
    families
        .iter()
        .filter(|(_, kind)| kind == "histogram")
        .try_for_each(|(name, _)| check_histogram(name, &samples))?;
    if help.is_some() { Err("a help without its type".into()) } else { Ok(samples) }
}

/// Checks a name against <https://prometheus.io/docs/practices/naming/>.
fn check_name(name: &str, kind: &str) -> Result<(), String> {
    if !is_name(name) || !name.starts_with("viridian_") {
        return Err("an invalid name".into());
    }
    match (kind, name.ends_with("_total")) {
        ("counter", true) | ("gauge" | "histogram", false) => {}
        _ => return Err("counters, and no other kinds, end with _total".into()),
    }
    let unit = name.trim_end_matches("_total");
    let reserved = ["_bucket", "_sum", "_count", "_info", "_created"];
    let others = [
        "_milliseconds",
        "_microseconds",
        "_nanoseconds",
        "_ms",
        "_us",
        "_minutes",
        "_kib",
        "_mib",
        "_kilobytes",
        "_percent",
    ];
    match reserved.iter().chain(&others).find(|end| unit.ends_with(**end)) {
        Some(end) => Err(format!("the end {end} means something else, or is no base unit")),
        None => Ok(()),
    }
}

/// The samples of a histogram with the same labels.
#[derive(Debug, Default)]
struct Histogram {
    /// Bounds and numbers.
    buckets: Vec<(f64, f64)>,
    sums: u32,
    count: Option<f64>,
}

/// Checks that bounds and numbers grow, and that the last bucket has as many as there are.
fn check_histogram(name: &str, samples: &[Sample]) -> Result<(), String> {
    let mut all: BTreeMap<Vec<(String, String)>, Histogram> = BTreeMap::new();
    for (own, labels, value) in samples {
        let Some(suffix) = own.strip_prefix(name) else { continue };
        let bound = labels.iter().find(|(label, _)| label == "le").map(|(_, bound)| number(bound).ok_or(bound));
        let rest: Vec<_> = labels.iter().filter(|(label, _)| label != "le").cloned().collect();
        let histogram = all.entry(rest).or_default();
        match (suffix, bound) {
            ("_bucket", Some(Ok(bound))) => histogram.buckets.push((bound, *value)),
            ("_sum", None) => histogram.sums += 1,
            ("_count", None) => histogram.count = Some(*value),
            other => return Err(format!("{name}: {other:?}")),
        }
    }
    for (labels, histogram) in all {
        let Histogram { buckets, sums, count } = &histogram;
        let grows = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        let last = buckets.last().is_some_and(|(bound, number)| *bound == f64::INFINITY && Some(*number) == *count);
        if !grows || !last || *sums != 1 {
            return Err(format!("{name} {labels:?}: {histogram:?}"));
        }
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    let starts = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    starts && text.chars().all(|other| other.is_ascii_alphanumeric() || other == '_')
}

/// Reads a number as the format has it, which has other words for infinity than Rust.
fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        _ => text.parse().ok().filter(|number: &f64| number.is_finite()),
    }
}

/// Reads a line `name{label="value",...} number`.
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let mut labels = Vec::new();
    let rest = match rest.strip_prefix('{') {
        None => rest,
        Some(mut rest) => loop {
            let (label, quoted) = rest.split_once("=\"")?;
            let (value, after) = unquoted(quoted)?;
            if !is_name(label) || label.starts_with("__") {
                return None;
            }
            labels.push((label.to_owned(), value));
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => break after.strip_prefix('}')?,
            }
        },
    };
    Some((name.to_owned(), labels, number(rest.strip_prefix(' ')?)?)).filter(|(name, ..)| is_name(name))
}

/// Returns the text up to the closing quote, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    loop {
        match characters.next()? {
            (end, '"') => return Some((value, &text[end + 1..])),
            (_, '\\') => value.push(match characters.next()?.1 {
                'n' => '\n',
                kept @ ('\\' | '"') => kept,
                _ => return None,
            }),
            (_, other) => value.push(other),
        }
    }
}
