//! `viridian metrics`.

use serde_json::{Map, Value, json};

use super::{Done, ServiceSocket, failed, machines_of, of_service, print, print_json};
use crate::cli::client::encoded;

/// The options of `viridian metrics`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Running machines, several with commas, or patterns such as 'web*': their exits, disks, adapters and rings, instead of a summary of all machines
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// All running machines of the service
    #[arg(long, conflicts_with = "names")]
    all: bool,

    #[command(flatten)]
    service: ServiceSocket,

    /// Print JSON: a list of samples, each with its name, its labels and its value
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { names, all, service, json }: Arguments) -> Done {
    let service = service.service()?;
    let (names, mut code) = if all {
        (machines_of(&service, |runs| runs)?, 0)
    } else {
        let (names, _, code) = of_service(&service, &names)?;
        (names, code)
    };
    let mut texts = Vec::new();
    if names.is_empty() && !all {
        texts.push(service.text("/metrics")?);
    }
    for name in &names {
        match service.text(&format!("/machines/{}/metrics", encoded(name))) {
            Ok(text) => texts.push(text),
            Err(failure) => code = code.max(failed(Some(name), &failure)),
        }
    }
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

/// Returns a sample as JSON. The values of labels have no quotes and commas in them.
fn sample(line: &str) -> Option<Value> {
    let (metric, value) = line.rsplit_once(' ')?;
    let (name, labels) = metric.split_once('{').unwrap_or((metric, ""));
    let labels = labels.trim_end_matches('}').split(',').filter_map(|label| label.split_once('='));
    let labels: Map<_, _> = labels.map(|(key, value)| (key.to_owned(), json!(value.trim_matches('"')))).collect();
    Some(json!({ "name": name, "labels": labels, "value": value.parse::<f64>().ok()? }))
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
        assert_eq!(sample("b 1.5"), Some(json!({ "name": "b", "labels": {}, "value": 1.5 })));
    }
}
