//! `/metrics`: what Prometheus reads.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::lock::Mutex;
use super::process::Usage;
use super::supervisor::Machines;

/// The states that machines may have.
const STATES: [&str; 7] = ["broken", "stopped", "starting", "running", "paused", "stopping", "waiting"];

/// The requests, counted by status.
#[derive(Default)]
pub struct Requests(Mutex<BTreeMap<u16, u64>>);

impl Requests {
    /// Counts a request that is answered with this status.
    pub fn count(&self, status: u16) {
        *self.0.lock().entry(status).or_default() += 1;
    }
}

/// Returns the text.
pub fn text(machines: &Machines, used: &BTreeMap<String, Usage>, requests: &Requests, connections: usize) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: Vec<(String, f64)>| {
        let _ = writeln!(text, "# HELP viridian_{name} {help}\n# TYPE viridian_{name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "viridian_{name}{labels} {value}");
        }
    };
    let states = STATES.map(|state| {
        let count = machines.values().filter(|machine| machine.state() == state).count();
        (format!("{{state=\"{state}\"}}"), count as f64)
    });
    family("machines", "gauge", "Number of machines by state.", states.to_vec());
    // Names have no characters that need to be escaped.
    let each = |value: &dyn Fn(&super::machine::Machine) -> Option<f64>| -> Vec<_> {
        let samples = machines.iter();
        samples.filter_map(|(name, machine)| Some((format!("{{machine=\"{name}\"}}"), value(machine)?))).collect()
    };
    let up = each(&|machine| Some(f64::from(u8::from(machine.process.is_some()))));
    family("machine_up", "gauge", "1 if the machine has a process.", up);
    let restarts = each(&|machine| Some(machine.restarts as f64));
    family("machine_restarts_total", "counter", "Restarts of the machine by the service.", restarts);
    let seconds = each(&|machine| Some(machine.process.as_ref().and(machine.since)?.elapsed().as_secs_f64()));
    family("machine_uptime_seconds", "gauge", "Time since the start of the machine's process.", seconds);
    let memory = each(&|machine| machine.summary["memory-bytes"].as_f64());
    family("machine_memory_bytes", "gauge", "Size of the guest's memory.", memory);
    let processors = each(&|machine| machine.summary["vps"].as_f64());
    family("machine_processors", "gauge", "Virtual processors of the guest.", processors);
    let of_processes = |value: &dyn Fn(&Usage) -> f64| -> Vec<_> {
        used.iter().map(|(name, usage)| (format!("{{machine=\"{name}\"}}"), value(usage))).collect()
    };
    let time = of_processes(&|usage| usage.cpu_seconds);
    family("machine_cpu_seconds_total", "counter", "Processor time of the machine's process.", time);
    let resident = of_processes(&|usage| usage.resident_bytes as f64);
    family("machine_resident_bytes", "gauge", "Resident memory of the machine's process.", resident);
    let requests = requests.0.lock();
    let requests = requests.iter().map(|(status, count)| (format!("{{status=\"{status}\"}}"), *count as f64));
    family("requests_total", "counter", "Requests to the service by status.", requests.collect());
    family("connections", "gauge", "Open connections to the service.", vec![(String::new(), connections as f64)]);
    text
}

#[cfg(test)]
mod tests {
    use super::super::error::Problem;
    use super::super::machine::Machine;
    use super::*;

    #[test]
    fn each_family_has_its_type_and_its_samples() {
        let machines = Machines::from([("web".to_owned(), Machine::new(Err(Problem::host("x"))))]);
        let requests = Requests::default();
        requests.count(200);
        requests.count(200);
        let used = BTreeMap::from([("web".to_owned(), Usage { cpu_seconds: 1.5, resident_bytes: 4096 })]);
        let text = text(&machines, &used, &requests, 3);
        for line in [
            "# TYPE viridian_machines gauge",
            "viridian_machines{state=\"broken\"} 1",
            "viridian_machines{state=\"running\"} 0",
            "viridian_machine_up{machine=\"web\"} 0",
            "viridian_requests_total{status=\"200\"} 2",
            "# TYPE viridian_machine_cpu_seconds_total counter",
            "viridian_machine_cpu_seconds_total{machine=\"web\"} 1.5",
            "viridian_machine_resident_bytes{machine=\"web\"} 4096",
            "viridian_connections 3",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
        assert!(STATES.contains(&machines["web"].state()));
    }
}
