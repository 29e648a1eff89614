//! A machine's use of resources since a reset, over all of its processes.
//!
//! A sample is taken each time that the service asks the machine for its state, at least every few seconds. Counters of a sample are
//! those of the process, so what happens while no service runs is not lost.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use super::process::usage;

/// Shortest time whose use of processors counts as a peak: processor time is counted in hundredths of a second.
const SHORTEST: f64 = 1.0;
/// Counters in the summary of a machine.
pub const COUNTERS: [&str; 9] = [
    "disk-reads",
    "disk-read-bytes",
    "disk-writes",
    "disk-written-bytes",
    "network-received-bytes",
    "network-sent-bytes",
    "disk-requests",
    "disk-normalized-requests",
    "disk-latency-nanoseconds",
];
/// The places of some of them.
const REQUESTS: usize = 6;
const NORMALIZED: usize = 7;
const LATENCY: usize = 8;

/// The counters of a sample or a meter.
type Counters = [u64; COUNTERS.len()];

/// Reads counters as an earlier version may have written them, which had fewer.
fn counters<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Counters, D::Error> {
    let known = Vec::<u64>::deserialize(deserializer)?;
    let mut counters = Counters::default();
    counters.iter_mut().zip(known).for_each(|(counter, known)| *counter = known);
    Ok(counters)
}

/// A machine's use of resources up to one moment.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Sample {
    process: u64,
    /// Seconds since 1970.
    time: f64,
    /// Age of the process, in seconds.
    age: f64,
    cpu_seconds: f64,
    /// Resident memory. `None` for a machine of a lab, whose process is that of others, too.
    resident: Option<u64>,
    /// Memory of the guest. `None` for a lab.
    guest: Option<u64>,
    #[serde(deserialize_with = "counters")]
    counters: Counters,
    /// Bytes that the host has allocated for the images of all disks.
    #[serde(default)]
    allocated: Option<u64>,
}

impl Sample {
    /// Takes a sample of a machine, with the use of its process if that `is_own`. Returns `None` if the process has ended.
    pub fn of(summary: &Value, is_own: bool) -> Option<Self> {
        let process = summary["process"].as_u64()?;
        let used = usage(u32::try_from(process).ok()?)?;
        let counters = COUNTERS.map(|name| summary["totals"][name].as_u64().unwrap_or_default());
        Some(Self {
            process,
            time: now(),
            age: summary["seconds"].as_f64()?,
            cpu_seconds: if is_own { used.cpu_seconds } else { 0.0 },
            resident: is_own.then_some(used.resident_bytes),
            guest: summary["memory-assigned-bytes"].as_u64().or_else(|| summary["memory-bytes"].as_u64()),
            counters,
            allocated: summary["totals"]["disk-allocated-bytes"].as_u64(),
        })
    }
}

impl Sample {
    /// Takes a sample of the process of a lab, which has this age. Returns `None` if it has ended.
    pub fn of_process(process: u32, age: Duration) -> Option<Self> {
        let used = usage(process)?;
        Some(Self {
            process: process.into(),
            time: now(),
            age: age.as_secs_f64(),
            cpu_seconds: used.cpu_seconds,
            resident: Some(used.resident_bytes),
            guest: None,
            counters: Counters::default(),
            allocated: None,
        })
    }
}

/// An amount of memory over time.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Level {
    /// Byte seconds.
    sum: f64,
    minimum: Option<u64>,
    maximum: u64,
}

impl Level {
    fn add(&mut self, bytes: u64, seconds: f64) {
        self.sum += bytes as f64 * seconds;
        self.minimum = Some(self.minimum.map_or(bytes, |minimum| minimum.min(bytes)));
        self.maximum = self.maximum.max(bytes);
    }

    fn to_json(&self, seconds: f64) -> Value {
        let average = if seconds > 0.0 { self.sum / seconds } else { self.maximum as f64 };
        json!({
            "average-bytes": self.minimum.map(|_| average as u64),
            "minimum-bytes": self.minimum,
            "peak-bytes": self.minimum.map(|_| self.maximum),
        })
    }
}

/// A machine's use of resources since a reset.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Meter {
    /// The time of the reset, in seconds since 1970.
    since: f64,
    /// Seconds for which it has run.
    running: f64,
    cpu_seconds: f64,
    /// Largest use of processors between two samples, in processors.
    cpu_peak: f64,
    resident: Level,
    guest: Level,
    #[serde(deserialize_with = "counters")]
    counters: Counters,
    last: Option<Sample>,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Meter {
    /// Creates a meter that begins now.
    pub fn new() -> Self {
        Self {
            since: now(),
            running: 0.0,
            cpu_seconds: 0.0,
            cpu_peak: 0.0,
            resident: Level::default(),
            guest: Level::default(),
            counters: [0; COUNTERS.len()],
            last: None,
        }
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        *self = Self { last: self.last.take(), ..Self::new() };
    }

    /// Adds what was used since the last sample.
    pub fn add(&mut self, sample: &Sample) {
        let is_same = |last: &&Sample| last.process == sample.process && last.cpu_seconds <= sample.cpu_seconds;
        let last = self.last.as_ref().filter(is_same);
        // A clock that was put back measures nothing.
        let seconds = last.map_or(sample.age, |last| sample.time - last.time).max(0.0);
        let cpu = sample.cpu_seconds - last.map_or(0.0, |last| last.cpu_seconds);
        for (index, counter) in self.counters.iter_mut().enumerate() {
            let before = last.map_or(0, |last| last.counters[index]);
            // What a disk that is detached has counted is not there any more.
            *counter = counter.saturating_add(sample.counters[index].saturating_sub(before));
        }
        if last.is_none() {
            // What has run before the service knew of it counts, too.
            self.since = self.since.min(sample.time - sample.age);
        }
        self.running += seconds;
        self.cpu_seconds += cpu;
        if seconds >= SHORTEST {
            self.cpu_peak = self.cpu_peak.max(cpu / seconds);
        }
        sample.resident.iter().for_each(|bytes| self.resident.add(*bytes, seconds));
        sample.guest.iter().for_each(|bytes| self.guest.add(*bytes, seconds));
        self.last = Some(sample.clone());
    }

    /// Returns what the host had allocated for the images of all disks at the last sample, in bytes, also of disks that were attached while
    /// the machine ran.
    pub fn allocated(&self) -> Option<u64> {
        self.last.as_ref()?.allocated
    }

    /// Returns what was used.
    pub fn to_json(&self, name: &str) -> Value {
        let percent = |share: f64| (share * 10_000.0).round() / 100.0;
        let average = if self.running > 0.0 { self.cpu_seconds / self.running } else { 0.0 };
        let mut shown = json!({
            "name": name,
            "since": self.since,
            "seconds": (now() - self.since).max(0.0),
            "running-seconds": self.running,
            "cpu-seconds": self.cpu_seconds,
            "cpu-average-percent": percent(average),
            // An average over a long time may be more exact than the peaks.
            "cpu-peak-percent": percent(self.cpu_peak.max(average)),
            "process-memory": self.resident.to_json(self.running),
            "guest-memory": self.guest.to_json(self.running),
        });
        for (name, counter) in COUNTERS.iter().zip(self.counters) {
            shown[name] = json!(counter);
        }
        let [requests, normalized, latency] = [REQUESTS, NORMALIZED, LATENCY].map(|place| self.counters[place] as f64);
        let rate = if self.running > 0.0 { normalized / self.running } else { 0.0 };
        shown["disk-average-normalized-iops"] = json!((rate * 100.0).round() / 100.0);
        shown["disk-average-latency-seconds"] = json!((requests > 0.0).then(|| latency / requests / 1e9));
        shown["disk-allocated-bytes"] = json!(self.allocated());
        shown
    }
}

/// Returns the sums of what several machines have used.
pub fn total(meters: &[Value]) -> Value {
    let mut sum = json!({ "machines": meters.len() });
    for key in ["running-seconds", "cpu-seconds"] {
        sum[key] = json!(meters.iter().filter_map(|meter| meter[key].as_f64()).sum::<f64>());
    }
    for key in COUNTERS.into_iter().chain(["disk-allocated-bytes"]) {
        sum[key] = json!(meters.iter().filter_map(|meter| meter[key].as_u64()).fold(0, u64::saturating_add));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(process: u64, time: f64, age: f64, cpu_seconds: f64, bytes: u64, count: u64) -> Sample {
        Sample {
            process,
            time,
            age,
            cpu_seconds,
            resident: Some(bytes),
            guest: Some(1 << 20),
            counters: [count; COUNTERS.len()],
            allocated: None,
        }
    }

    #[test]
    fn averages_peaks_and_totals_are_over_all_processes() {
        let mut meter = Meter { since: 100.0, ..Meter::new() };
        meter.add(&sample(7, 101.0, 0.0, 0.0, 100, 5));
        meter.add(&sample(7, 111.0, 10.0, 2.0, 300, 8));
        meter.add(&sample(7, 121.0, 20.0, 10.0, 200, 20));
        // Another process counts from nothing, and a short time makes no peak.
        meter.add(&sample(8, 130.0, 0.5, 0.5, 50, 3));
        let shown = meter.to_json("web");
        assert_eq!(shown["running-seconds"], 20.5);
        assert_eq!((&shown["cpu-seconds"], &shown["cpu-peak-percent"]), (&json!(10.5), &json!(80.0)));
        assert_eq!(shown["cpu-average-percent"], 51.22);
        let memory = &shown["process-memory"];
        assert_eq!((&memory["minimum-bytes"], &memory["peak-bytes"]), (&json!(50), &json!(300)));
        assert_eq!(memory["average-bytes"], (5025.0 / 20.5) as u64);
        assert_eq!((&shown["disk-reads"], &shown["network-sent-bytes"]), (&json!(23), &json!(23)));
        assert_eq!(shown["since"], 100.0);
        assert_eq!(shown["disk-average-normalized-iops"], 1.12, "23 in 20.5 s");
        // As many nanoseconds as requests.
        assert_eq!(shown["disk-average-latency-seconds"], 1e-9);
        assert_eq!(Meter::new().to_json("web")["disk-average-latency-seconds"], Value::Null);
    }

    #[test]
    fn what_is_allocated_is_that_of_the_last_sample_and_no_sum_over_time() {
        let mut meter = Meter::new();
        assert_eq!(meter.to_json("web")["disk-allocated-bytes"], Value::Null);
        for bytes in [7, 9, 8] {
            meter.add(&Sample { allocated: Some(bytes), ..sample(7, 111.0, 10.0, 4.0, 100, 5) });
        }
        assert_eq!(meter.to_json("web")["disk-allocated-bytes"], 8);
        meter.reset();
        let all = [meter.to_json("web"), Meter::new().to_json("db"), meter.to_json("shop")];
        assert_eq!((&all[0]["disk-allocated-bytes"], &total(&all)["disk-allocated-bytes"]), (&json!(8), &json!(16)));
    }

    #[test]
    fn a_meter_of_an_earlier_version_has_fewer_counters() {
        let mut meter = Meter::new();
        meter.add(&sample(7, 111.0, 10.0, 4.0, 100, 5));
        let mut old = serde_json::to_value(&meter).unwrap();
        for place in ["/counters", "/last/counters"] {
            old.pointer_mut(place).and_then(Value::as_array_mut).unwrap().truncate(6);
        }
        old["last"].as_object_mut().unwrap().remove("allocated");
        let read: Meter = serde_json::from_value(old).unwrap();
        assert_eq!(read.counters, [5, 5, 5, 5, 5, 5, 0, 0, 0]);
    }

    #[test]
    fn a_reset_begins_anew_with_the_same_process() {
        let mut meter = Meter { since: 100.0, ..Meter::new() };
        meter.add(&sample(7, 111.0, 10.0, 4.0, 100, 5));
        meter.reset();
        assert!(meter.since > 1e9 && meter.to_json("web")["disk-reads"] == 0);
        meter.add(&sample(7, 121.0, 20.0, 5.0, 100, 9));
        let shown = meter.to_json("web");
        assert_eq!((&shown["cpu-seconds"], &shown["disk-reads"]), (&json!(1.0), &json!(4)));
        assert_eq!(shown["running-seconds"], 10.0);
    }

    #[test]
    fn what_goes_back_takes_nothing_away() {
        let mut meter = Meter { since: 100.0, ..Meter::new() };
        meter.add(&sample(7, 111.0, 10.0, 4.0, 100, 50));
        // A disk was detached, and the clock was put back.
        meter.add(&sample(7, 105.0, 12.0, 4.5, 100, 20));
        meter.add(&sample(7, 106.0, 13.0, 5.0, 100, 25));
        let shown = meter.to_json("web");
        assert_eq!((&shown["disk-reads"], &shown["running-seconds"]), (&json!(55), &json!(11.0)));
        // A process with the number of one that has ended.
        meter.add(&sample(7, 200.0, 1.0, 0.1, 100, 1));
        assert_eq!(meter.to_json("web")["disk-reads"], 56);
    }

    #[test]
    fn a_meter_survives_the_service_and_nothing_is_unknown_without_a_sample() {
        let mut meter = Meter::new();
        assert_eq!(meter.to_json("web")["process-memory"]["average-bytes"], Value::Null);
        meter.add(&sample(7, 111.0, 10.0, 4.0, 100, 5));
        let text = serde_json::to_string(&meter).unwrap();
        assert_eq!(serde_json::from_str::<Meter>(&text).unwrap(), meter);
        let all = [meter.to_json("a"), meter.to_json("b")];
        let sum = total(&all);
        assert_eq!((&sum["machines"], &sum["cpu-seconds"], &sum["disk-writes"]), (&json!(2), &json!(8.0), &json!(10)));
    }
}
