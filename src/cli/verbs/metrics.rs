//! `viridian metrics`.

use serde_json::{Map, Value, json};

use super::{Done, Machines, ServiceSocket, failed, machines_where, of_service, print, print_json};
use crate::cli::client::{Failure, Remote, encoded};
use crate::cli::host::chosen;
use crate::cli::serve::metrics_of;

/// The options of `viridian metrics`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Running machines, several with commas, or patterns such as 'web*': their exits, disks, adapters and rings, instead of a summary of all machines
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// All running machines of this user, or of the service that --host or --service names
    #[arg(long, conflicts_with = "names")]
    all: bool,

    #[command(flatten)]
    service: ServiceSocket,

    /// Print JSON: a list of samples, each with its name, its labels and its value
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { names, all, service, json }: Arguments) -> Done {
    let (code, texts) = match (all || !names.is_empty(), chosen().is_some() || service.is_given()) {
        (false, _) => (0, vec![service.service()?.text("/metrics")?]),
        (true, true) => of_those_at(&service.service()?, &names, all)?,
        // Any machine of this user, whoever has started it.
        (true, false) => {
            let machines = if all { Machines::all()? } else { Machines::named(&names)? };
            let (code, texts) = machines.each(|machine| {
                let tree = machine.get("/inspect")?;
                Ok(metrics_of(&machine.name, &tree))
            });
            (code, texts.into_iter().map(|(_, text)| text).collect())
        }
    };
    let families = families(&texts);
    if json {
        let lines = families.iter().flat_map(|family| &family.samples);
        print_json(&lines.filter_map(|line| sample(line)).collect())?;
    } else {
        let lines = families.iter().flat_map(|family| family.head.iter().chain(&family.samples));
        print(&lines.map(|line| format!("{line}\n")).collect::<String>())?;
    }
    Ok(code)
}

/// Returns the metrics of machines of a service, and the exit code for those that have none, which are reported.
fn of_those_at(service: &Remote, names: &[String], all: bool) -> Result<(u8, Vec<String>), Failure> {
    let (names, mut code) = if all {
        // A lab itself has none: its machines have.
        let has_some = |machine: &Value| !machine["process"].is_null() && !machine["machines"].is_array();
        (machines_where(service, has_some)?, 0)
    } else {
        let (names, _, code) = of_service(service, names)?;
        (names, code)
    };
    let mut texts = Vec::new();
    for name in &names {
        match service.text(&format!("/machines/{}/metrics", encoded(name))) {
            Ok(text) => texts.push(text),
            Err(failure) => code = code.max(failed(Some(name), &failure)),
        }
    }
    Ok((code, texts))
}

/// A metric with its samples, in the format of Prometheus.
#[derive(Default)]
struct Family<'a> {
    name: &'a str,
    /// The lines with its help and its type.
    head: Vec<&'a str>,
    samples: Vec<&'a str>,
}

/// Returns the metrics of several texts. Samples of the same metric follow each other, as the format demands.
fn families(texts: &[String]) -> Vec<Family<'_>> {
    let mut families: Vec<Family<'_>> = Vec::new();
    for text in texts {
        // The family of the last heading.
        let mut current = 0;
        for line in text.lines() {
            let mut words = line.split(' ');
            if words.next() != Some("#") {
                if let Some(family) = families.get_mut(current) {
                    family.samples.push(line);
                }
                continue;
            }
            let name = words.nth(1).unwrap_or_default();
            current = families.iter().position(|family| family.name == name).unwrap_or_else(|| {
                families.push(Family { name, ..Family::default() });
                families.len() - 1
            });
            let family = &mut families[current];
            if !family.head.contains(&line) {
                family.head.push(line);
            }
        }
    }
    families
}

/// Returns a sample as JSON.
fn sample(line: &str) -> Option<Value> {
    let (metric, value) = line.rsplit_once(' ')?;
    let (name, rest) = metric.split_once('{').unwrap_or((metric, ""));
    let mut labels = Map::new();
    let mut rest = rest.trim_end_matches('}');
    while let Some((key, quoted)) = rest.split_once("=\"") {
        let (value, after) = unquoted(quoted)?;
        labels.insert(key.trim_start_matches(',').to_owned(), json!(value));
        rest = after;
    }
    Some(json!({ "name": name, "labels": labels, "value": value.parse::<f64>().ok()? }))
}

/// Returns the text before the closing quote, without its escapes, and what follows the quote.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    loop {
        match characters.next()? {
            (end, '"') => return Some((value, &text[end + 1..])),
            (_, '\\') => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            (_, other) => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_several_machines_are_grouped_by_their_metric() {
        let one = |name: &str| {
            format!("# HELP a All.\n# TYPE a counter\na{{machine=\"{name}\",reason=\"x\"}} 3\n# TYPE b gauge\nb 1.5\n")
        };
        let texts = [one("web"), one("db")];
        let families = families(&texts);
        assert_eq!(families.iter().map(|family| family.name).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!((families[0].head.len(), families[0].samples.len()), (2, 2));
        let expected = json!({ "name": "a", "labels": { "machine": "db", "reason": "x" }, "value": 3.0 });
        assert_eq!(sample(families[0].samples[1]), Some(expected));
        let strange = json!({ "name": "a", "labels": { "machine": "x\"},\\\n", "reason": "" }, "value": 3.0 });
        assert_eq!(sample(r#"a{machine="x\"},\\\n",reason=""} 3"#), Some(strange));
        assert_eq!(sample("b 1.5"), Some(json!({ "name": "b", "labels": {}, "value": 1.5 })));
    }
}
