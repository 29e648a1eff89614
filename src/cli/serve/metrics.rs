//! `/metrics`: what Prometheus reads of the service and, without asking them, of all machines.

use std::collections::BTreeMap;

use super::exposition::Exposition;
use super::exposition::Kind::{Counter, Gauge};
use super::lock::Mutex;
use super::machine_metrics;
use super::process::Usage;
use super::supervisor::Machines;

/// The states that machines may have.
const STATES: [&str; 7] = ["broken", "stopped", "starting", "running", "paused", "stopping", "waiting"];
/// The states of a heartbeat, with the start of Hyper-V's words for them.
const HEARTBEATS: [(&str, &str); 3] = [("ok", "Ok"), ("lost", "Lost"), ("no-contact", "NoContact")];

/// The requests, counted by status.
#[derive(Default)]
pub struct Requests(Mutex<BTreeMap<u16, u64>>);

impl Requests {
    /// Counts a request that is answered with this status.
    pub fn count(&self, status: u16) {
        *self.0.lock().entry(status).or_default() += 1;
    }
}

/// Returns the text. What is in it of a machine that runs is what the machine has last said, some seconds ago.
pub fn text(machines: &Machines, used: &BTreeMap<String, Usage>, requests: &Requests, connections: usize) -> String {
    let mut all = Exposition::default();
    for state in STATES {
        let count = machines.values().filter(|machine| machine.state() == state).count();
        all.add("machines", Gauge, "Number of machines by state.", &[("state", state)], Some(count as f64));
    }
    for (name, machine) in machines {
        let own: &[(&'static str, &str)] = &[("machine", name)];
        let up = f64::from(u8::from(machine.process.is_some()));
        all.add("machine_up", Gauge, "1 if the machine has a process.", own, Some(up));
        let restarts = Some(machine.restarts as f64);
        all.add("machine_restarts_total", Counter, "Restarts of the machine by the service.", own, restarts);
        let seconds = machine.process.as_ref().and(machine.since).map(|since| since.elapsed().as_secs_f64());
        all.add("machine_uptime_seconds", Gauge, "Time since the start of the machine's process.", own, seconds);
        let answers = machine.process.as_ref().map(|_| f64::from(u8::from(machine.answers)));
        all.add("machine_answers", Gauge, "1 if the machine's process answers.", own, answers);
        let memory = machine.summary["memory-bytes"].as_f64();
        all.add("machine_memory_bytes", Gauge, "Size of the guest's memory.", own, memory);
        let processors = machine.summary["vps"].as_f64();
        all.add("machine_processors", Gauge, "Virtual processors of the guest.", own, processors);
        if let Some(heartbeat) = machine.summary["heartbeat"].as_str() {
            for (state, start) in HEARTBEATS {
                let is_it = Some(f64::from(u8::from(heartbeat.starts_with(start))));
                let labels = &[("machine", name.as_str()), ("state", state)];
                all.add("machine_heartbeat", Gauge, "1 for the state of the guest's heartbeat.", labels, is_it);
            }
        }
        machine_metrics::add_devices(&mut all, name, &machine.summary["counters"]);
        if let Some(usage) = used.get(name) {
            let time = Some(usage.cpu_seconds);
            all.add("machine_cpu_seconds_total", Counter, "Processor time of the machine's process.", own, time);
            let resident = Some(usage.resident_bytes as f64);
            all.add("machine_resident_bytes", Gauge, "Resident memory of the machine's process.", own, resident);
        }
    }
    for (status, count) in requests.0.lock().iter() {
        let status = status.to_string();
        let labels = &[("status", status.as_str())];
        all.add("requests_total", Counter, "Requests to the service by status.", labels, Some(*count as f64));
    }
    all.add("connections", Gauge, "Open connections to the service.", &[], Some(connections as f64));
    all.text()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::error::Problem;
    use super::super::exposition_reader::parse;
    use super::super::machine::Machine;
    use super::*;

    #[test]
    fn each_machine_has_its_samples_in_the_format() {
        let machine = |summary| {
            let mut machine = Machine::new(Err(Problem::host("x")));
            machine.summary = summary;
            machine
        };
        let counters = |reads: u32| {
            let counters = json!({ "reads": reads, "latency": [reads, 0, 1], "latency-nanoseconds": 3000 });
            json!({ "disk0.0": { "image": { "counters": counters } } })
        };
        let web = json!({ "heartbeat": "OkApplicationsUnknown", "counters": counters(2), "vps": 2 });
        let machines = Machines::from([
            ("db".to_owned(), machine(json!({ "heartbeat": "LostCommunication", "counters": counters(4) }))),
            ("off".to_owned(), machine(json!(null))),
            ("web".to_owned(), machine(web)),
        ]);
        let requests = Requests::default();
        requests.count(200);
        requests.count(200);
        let used = BTreeMap::from([("web".to_owned(), Usage { cpu_seconds: 1.5, resident_bytes: 4096 })]);
        let text = text(&machines, &used, &requests, 3);
        parse(&text).unwrap();
        for line in [
            "# TYPE viridian_machines gauge",
            "viridian_machines{state=\"broken\"} 3",
            "viridian_machines{state=\"running\"} 0",
            "viridian_machine_up{machine=\"web\"} 0",
            "viridian_machine_heartbeat{machine=\"web\",state=\"ok\"} 1",
            "viridian_machine_heartbeat{machine=\"db\",state=\"ok\"} 0",
            "viridian_machine_heartbeat{machine=\"db\",state=\"lost\"} 1",
            "viridian_machine_disk_requests_total{machine=\"db\",disk=\"disk0.0\",operation=\"read\"} 4",
            "viridian_machine_disk_latency_seconds_count{machine=\"web\",disk=\"disk0.0\"} 3",
            "viridian_requests_total{status=\"200\"} 2",
            "# TYPE viridian_machine_cpu_seconds_total counter",
            "viridian_machine_cpu_seconds_total{machine=\"web\"} 1.5",
            "viridian_machine_resident_bytes{machine=\"web\"} 4096",
            "viridian_connections 3",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
        assert!(!text.contains("heartbeat{machine=\"off\""), "{text}");
        assert!(STATES.contains(&machines["web"].state()));
    }
}
