//! The files of the examples for Kubernetes, GitHub Actions and Nomad: they can be parsed, and have the fields that these know.
//! `tests/examples.rs` checks the command lines in them.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::hcl;
use crate::common::need::{Need, ready};

/// The package of Debian for Python's YAML.
const YAML: &str = "/usr/lib/python3/dist-packages/yaml/__init__.py";

/// Prints the documents of a YAML file as JSON. A key that is there twice is a mistake.
const TO_JSON: &str = r#"
import json, sys
sys.path.append("/usr/lib/python3/dist-packages")
import yaml

class Strict(yaml.SafeLoader):
    pass

def mapping(loader, node):
    keys = [loader.construct_object(key) for key, _ in node.value]
    assert len(keys) == len(set(keys)), "a key is there twice%s" % node.start_mark
    return loader.construct_mapping(node, deep=True)

Strict.add_constructor("tag:yaml.org,2002:map", mapping)
print(json.dumps(list(yaml.load_all(sys.stdin, Strict))))
"#;

fn example(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)).unwrap()
}

/// Returns the only document of a YAML text, or what is wrong with it.
fn yaml(text: &str) -> Result<Value, String> {
    let mut command = Command::new("python3");
    command.args(["-c", TO_JSON]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned());
    }
    match serde_json::from_slice(&done.stdout).unwrap() {
        Value::Array(mut documents) if documents.len() == 1 => Ok(documents.remove(0)),
        other => Err(format!("not one document: {other}")),
    }
}

/// Returns the fields of an object, after a check that it has exactly these.
#[track_caller]
fn fields<const N: usize>(object: &Value, names: [&str; N]) -> [Value; N] {
    let there: BTreeSet<_> =
        object.as_object().unwrap_or_else(|| panic!("{object}")).keys().map(String::as_str).collect();
    assert_eq!(there, BTreeSet::from(names), "{object}");
    names.map(|name| object[name].clone())
}

/// Returns the only item of a list.
#[track_caller]
fn only(list: &Value) -> &Value {
    let items = list.as_array().unwrap_or_else(|| panic!("{list}"));
    assert_eq!(items.len(), 1, "{list}");
    &items[0]
}

/// Returns the guest's memory on a command line, in MiB.
fn memory(arguments: &Value) -> u64 {
    let arguments: Vec<_> = arguments.as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()).collect();
    let size = arguments.windows(2).find(|pair| pair[0] == "--memory").unwrap()[1];
    size.strip_suffix('M').unwrap().parse().unwrap()
}

/// Memory of a machine's process beside the guest's, in MiB.
const PROCESS: u64 = 16;

#[test]
fn the_pod_of_kubernetes_has_the_fields_of_a_pod() {
    if !ready(&[Need::Tool("python3"), Need::Tool(YAML)]) {
        return;
    }
    let pod = yaml(&example("kubernetes/pod.yaml")).unwrap();
    let [version, kind, metadata, spec] = fields(&pod, ["apiVersion", "kind", "metadata", "spec"]);
    assert_eq!((version, kind), ("v1".into(), "Pod".into()));
    let [name] = fields(&metadata, ["name"]);
    let is_label = |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    assert!(name.as_str().is_some_and(is_label), "{name}");
    let [policy, grace, containers, volumes] =
        fields(&spec, ["restartPolicy", "terminationGracePeriodSeconds", "containers", "volumes"]);
    assert_eq!(policy, "Never");
    // `viridian stop` takes up to 90 s before it ends the machine by force.
    assert!(grace.as_u64().is_some_and(|seconds| seconds > 90), "{grace}");
    let container = ["name", "image", "args", "lifecycle", "resources", "volumeMounts"];
    let [_, _, arguments, lifecycle, resources, mounts] = fields(only(&containers), container);
    let [pre_stop] = fields(&lifecycle, ["preStop"]);
    let [exec] = fields(&pre_stop, ["exec"]);
    assert_eq!(fields(&exec, ["command"])[0][0], "viridian");
    let [limits] = fields(&resources, ["limits"]);
    let [limit, cpu, _] = fields(&limits, ["memory", "cpu", "devices.kubevirt.io/kvm"]);
    // Quantities are strings: Kubernetes takes a number, too, but a plugin's resource has to be a whole one.
    assert!(cpu.is_string(), "{cpu}");
    let limit: u64 = limit.as_str().and_then(|limit| limit.strip_suffix("Mi")).unwrap().parse().unwrap();
    assert!(limit >= memory(&arguments) + PROCESS, "{limit} Mi for {arguments}");
    let [mounted, path, read_only] = fields(only(&mounts), ["name", "mountPath", "readOnly"]);
    let [volume, host] = fields(only(&volumes), ["name", "hostPath"]);
    assert_eq!((&mounted, read_only), (&volume, true.into()));
    let kernel = format!("{}/vmlinuz", path.as_str().unwrap());
    assert!(arguments.as_array().unwrap().contains(&kernel.into()), "{arguments}");
    assert!(fields(&host, ["path"])[0].as_str().unwrap().starts_with('/'));
}

#[test]
fn the_workflow_of_github_has_steps_that_use_an_action_or_run_a_command() {
    if !ready(&[Need::Tool("python3"), Need::Tool(YAML)]) {
        return;
    }
    let workflow = yaml(&example("github-actions/guest.yml")).unwrap();
    // YAML 1.1 reads the key `on` as a boolean. GitHub does not.
    let [_, triggers, jobs] = fields(&workflow, ["name", "true", "jobs"]);
    assert_eq!(only(&triggers), "push");
    let [job] = fields(&jobs, ["guest"]);
    let [host, limit, steps] = fields(&job, ["runs-on", "timeout-minutes", "steps"]);
    assert!(host.is_string() && limit.is_u64(), "{job}");
    let mut commands = Vec::new();
    for step in steps.as_array().unwrap() {
        match step.get("uses") {
            Some(action) => {
                assert!(action.as_str().unwrap().contains('@'), "an action has a version: {action}");
                fields(step, ["uses"]);
            }
            None => commands.push(fields(step, ["name", "run"])[1].as_str().unwrap().to_owned()),
        }
    }
    assert!(commands.len() == 2 && commands[1].starts_with("viridian linux "), "{commands:?}");
    // The check finds what it is for.
    assert!(yaml("a: 1\na: 2\n").unwrap_err().contains("a key is there twice"));
    assert!(yaml("a: [1\n").is_err() && yaml("a: 1\n---\nb: 2\n").is_err());
}

#[test]
fn the_job_of_nomad_has_the_blocks_and_attributes_of_a_job() {
    let file = hcl::parse(&example("nomad/guest.nomad.hcl")).unwrap();
    /// Returns the only block of a list, which has as many labels.
    #[track_caller]
    fn block(blocks: &Value, labels: usize) -> Value {
        let [own, body] = fields(only(blocks), ["labels", "body"]);
        assert_eq!(own.as_array().map(Vec::len), Some(labels), "{own}");
        body
    }
    let [job] = fields(&file, ["job"]);
    let [kind, group] = fields(&block(&job, 1), ["type", "group"]);
    assert_eq!(kind, "batch");
    let [count, task] = fields(&block(&group, 1), ["count", "task"]);
    assert!(count.is_u64(), "{count}");
    let task = block(&task, 1);
    let [driver, config, signal, timeout, resources] =
        fields(&task, ["driver", "config", "kill_signal", "kill_timeout", "resources"]);
    assert_eq!((driver, signal), ("raw_exec".into(), "SIGTERM".into()));
    let seconds = timeout.as_str().and_then(|time| time.strip_suffix('s')).and_then(|time| time.parse::<u32>().ok());
    assert!(seconds > Some(1), "{timeout}");
    let [command, arguments] = fields(&block(&config, 0), ["command", "args"]);
    assert!(command.as_str().unwrap().ends_with("/viridian"), "{command}");
    let [cores, limit] = fields(&block(&resources, 0), ["cores", "memory"]);
    assert!(cores.is_u64() && limit.as_u64().unwrap() >= memory(&arguments) + PROCESS, "{resources}");
}
