//! `viridian service`.

use serde_json::{Value, json};
use viridian::process::Marked;

use super::{Done, ServiceSocket, print, print_json};

/// The options of `viridian service`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    service: ServiceSocket,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(Arguments { service, json }: Arguments) -> Done {
    let service = service.service()?;
    let mut facts = service.get("/service")?;
    let machines = service.get("/machines")?;
    let all = || machines["machines"].as_array().into_iter().flatten();
    let broken = all().filter(|machine| machine["state"] == "broken");
    facts["broken"] =
        broken.map(|machine| json!({ "name": machine["name"], "problem": machine["problem"] })).collect::<Value>();
    facts["machines"] = json!(all().count());
    facts["running"] = json!(all().filter(|machine| !machine["process"].is_null()).count());
    if json {
        print_json(&facts)?;
    } else {
        print(&in_words(&facts))?;
    }
    Ok(0)
}

fn in_words(facts: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = vec![
        format!("version    {}", text(&facts["version"])),
        format!("process    {}, for {:.0} s", facts["process"], facts["seconds"].as_f64().unwrap_or_default()),
        format!("state      {}", text(&facts["state-directory"])),
        format!("memory     {}", memory(&facts["memory-in-use-bytes"], &facts["memory-budget-bytes"])),
        format!("machines   {}, of which {} run", facts["machines"], facts["running"]),
        format!("you are    {}, with the role {}", text(&facts["who"]), text(&facts["role"])),
    ];
    for machine in facts["broken"].as_array().into_iter().flatten() {
        let (name, problem) = (text(&machine["name"]), &machine["problem"]);
        let place = problem["where"].as_str().map(|place| format!("{place}: ")).unwrap_or_default();
        lines.push(format!("broken     {name}: {place}{}", text(&problem["message"])));
    }
    for file in facts["unknown-files"].as_array().into_iter().flatten() {
        lines.push(format!("unknown    {}: {}", text(&file["path"]), text(&file["reason"])));
    }
    lines.iter().map(|line| format!("{}\n", Marked(line))).collect()
}

/// Returns the memory of the machines in words.
fn memory(used: &Value, budget: &Value) -> String {
    let mebibytes = |bytes: &Value| format!("{} MiB", bytes.as_u64().unwrap_or_default() >> 20);
    let budget = if budget.is_null() { "there is no budget".to_owned() } else { format!("of {}", mebibytes(budget)) };
    format!("{}, {budget}", mebibytes(used))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_definitions_and_other_files_are_named() {
        let facts = json!({
            "version": "1", "process": 7, "seconds": 3.2, "state-directory": "/s", "who": "user 0", "role": "administer",
            "memory-in-use-bytes": 96 << 20, "memory-budget-bytes": 1 << 30, "machines": 2, "running": 1,
            "unknown-files": [{ "path": "/s/machines/x", "reason": "no name" }],
            "broken": [{ "name": "web", "problem": { "message": "unknown key", "where": "line 1" } }],
        });
        let text = in_words(&facts);
        assert!(text.contains("2, of which 1 run\n") && text.contains("process    7, for 3 s\n"), "{text}");
        assert!(text.contains("memory     96 MiB, of 1024 MiB\n"), "{text}");
        assert_eq!(memory(&json!(0), &Value::Null), "0 MiB, there is no budget");
        assert!(text.ends_with("broken     web: line 1: unknown key\nunknown    /s/machines/x: no name\n"), "{text}");
    }
}
