//! `/meter` and `/machines/NAME/meter`: what machines have used.

use serde_json::{Value, json};

use super::api::{Answered, Call, Reply};
use super::error::Problem;
use super::meter::total;
use super::supervisor::Supervisor;

/// Asks a machine that runs for what it has used until now.
fn refresh(supervisor: &Supervisor, name: &str) {
    if let Ok(remote) = supervisor.remote(name) {
        // One that does not answer has what was known of it.
        let _ = supervisor.refresh(name, &remote);
    }
}

fn show(call: &Call<'_>) -> Result<Value, Problem> {
    let machines = call.service.supervisor.machines();
    let machine = machines.get(call.name).ok_or_else(|| Problem::no_machine(call.name))?;
    Ok(machine.meter.to_json(call.name))
}

/// Returns what a machine has used.
pub fn get(call: &Call<'_>) -> Answered {
    refresh(&call.service.supervisor, call.name);
    show(call).map(Reply::Json)
}

/// Begins to measure a machine anew.
pub fn reset(call: &Call<'_>) -> Answered {
    let supervisor = &call.service.supervisor;
    refresh(supervisor, call.name);
    supervisor.change(call.name, |machine| {
        machine.meter.reset();
        Ok(())
    })?;
    supervisor.save_meter(call.name);
    show(call).map(Reply::Json)
}

/// Returns what all machines have used, as far as it is known without asking them, and the sums.
pub fn all(call: &Call<'_>) -> Answered {
    let machines = call.service.supervisor.machines();
    let meters: Vec<_> = machines.iter().map(|(name, machine)| machine.meter.to_json(name)).collect();
    drop(machines);
    Ok(Reply::Json(json!({ "total": total(&meters), "machines": meters })))
}
