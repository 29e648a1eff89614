//! `viridian measure`.

use serde_json::Value;

use super::table::table;
use super::{Done, ServiceSocket, failed, of_service, print, print_json, print_results};
use crate::cli::client::{PROMPT, encoded};

/// The options of `viridian measure`.
#[derive(clap::Args)]
#[command(after_help = "\
Processors are in percent of one processor, over the time for which the machine has run. Memory is that of the machine's process,
and the guest's. Peaks are those of samples every few seconds. Disk is what the host has allocated for the images. Bytes are
those of all disks and adapters, over all starts of the machine since the last --reset; IOPS are reads and writes per second, one
for each 8 KiB, and the latency is the average of all requests of disks.")]
pub struct Arguments {
    /// Names of machines of the service, several with commas, or patterns such as 'web*'
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,

    /// All machines of the service, and the sums
    #[arg(long, conflicts_with = "names")]
    all: bool,

    /// Begin to measure anew, after printing
    #[arg(long)]
    reset: bool,

    #[command(flatten)]
    service: ServiceSocket,

    /// Print JSON: an object for one NAME, else a list, with --all an object with the sums
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { names, all, reset, service, json }: Arguments) -> Done {
    let service = service.service()?;
    let sums = if all { service.get("/meter")? } else { Value::Null };
    let of_all = || sums["machines"].as_array().into_iter().flatten();
    let (names, is_one, mut code) = if all {
        (of_all().filter_map(|meter| meter["name"].as_str().map(str::to_owned)).collect(), false, 0)
    } else {
        of_service(&service, &names)?
    };
    let mut meters = Vec::new();
    for name in &names {
        let path = format!("/machines/{}/meter", encoded(name));
        let measured = service.get(&path).and_then(|meter| {
            if reset {
                service.request("DELETE", &path, None, PROMPT)?;
            }
            Ok(meter)
        });
        match measured {
            Ok(meter) => meters.push(meter),
            Err(failure) => code = code.max(failed(Some(name), &failure)),
        }
    }
    if !json {
        if code == 0 || !meters.is_empty() {
            print(&table(HEADINGS, meters.iter().map(row)))?;
        }
        return Ok(code);
    }
    if all {
        print_json(&serde_json::json!({ "total": sums["total"], "machines": meters }))?;
    } else {
        print_results(is_one, meters)?;
    }
    Ok(code)
}

const HEADINGS: [&str; 13] = [
    "name",
    "time",
    "CPU",
    "CPU peak",
    "memory",
    "memory peak",
    "disk",
    "read",
    "written",
    "IOPS",
    "latency",
    "received",
    "sent",
];

fn row(meter: &Value) -> [String; 13] {
    let percent = |key: &str| meter[key].as_f64().map_or("-".into(), |share| format!("{share:.1} %"));
    let size = |value: &Value| value.as_u64().map_or("-".into(), mebibytes);
    let time = meter["running-seconds"].as_f64().map_or("-".into(), |seconds| format!("{seconds:.0} s"));
    let latency = meter["disk-average-latency-seconds"].as_f64();
    [
        meter["name"].as_str().unwrap_or("-").to_owned(),
        time,
        percent("cpu-average-percent"),
        percent("cpu-peak-percent"),
        size(&meter["process-memory"]["average-bytes"]),
        size(&meter["process-memory"]["peak-bytes"]),
        size(&meter["disk-allocated-bytes"]),
        size(&meter["disk-read-bytes"]),
        size(&meter["disk-written-bytes"]),
        meter["disk-average-normalized-iops"].as_f64().map_or("-".into(), |rate| format!("{rate:.1}")),
        latency.map_or("-".into(), |seconds| format!("{:.3} ms", seconds * 1000.0)),
        size(&meter["network-received-bytes"]),
        size(&meter["network-sent-bytes"]),
    ]
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_meter_is_a_line_of_a_table() {
        let meter = json!({ "name": "web", "running-seconds": 12.4, "cpu-average-percent": 1.25, "cpu-peak-percent": 99.0,
            "process-memory": { "average-bytes": 3 << 19, "peak-bytes": null }, "disk-read-bytes": 0, "disk-written-bytes": 1 << 20,
            "network-received-bytes": 0, "network-sent-bytes": 0, "disk-average-normalized-iops": 2.5, "disk-average-latency-seconds": 0.000_25 });
        let text = table(HEADINGS, [row(&meter)]);
        let mut lines = text.lines();
        let mut starts = |start: &str| assert!(lines.next().is_some_and(|line| line.starts_with(start)), "{text}");
        starts("name  time  CPU    CPU peak  memory   memory peak  disk  read     written  IOPS  latency");
        starts("web   12 s  1.2 %  99.0 %    1.5 MiB  -            -     0.0 MiB  1.0 MiB  2.5   0.250 ms");
    }
}
