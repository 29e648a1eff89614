//! The schemas of what is sent and received, for `/openapi.json`.

use serde_json::{Value, json};

use super::meter::COUNTERS;

/// Returns a reference to one of the schemas.
pub fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// Returns the schema of an object that has these properties, of which some must be there, and no others.
pub fn object(properties: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "additionalProperties": false, "properties": properties, "required": required })
}

/// Returns the schemas of the service by name.
pub fn schemas() -> Value {
    let string = || json!({ "type": "string" });
    let optional = |kind: &str| json!({ "type": [kind, "null"] });
    let error = object(
        json!({ "kind": string(), "message": string(), "where": string(), "remedy": string() }),
        &["kind", "message"],
    );
    let seconds = json!({ "type": "number", "minimum": 0, "maximum": 86400 });
    let machine = json!({
        "name": string(),
        "lab": { "type": ["string", "null"], "description": "The lab whose process it runs in" },
        "machines": { "type": ["array", "null"], "items": string(), "description": "Its machines, if it is a lab" },
        "state": { "enum": ["broken", "stopped", "starting", "running", "paused", "stopping", "waiting"] },
        "autostart": { "enum": ["never", "if-running", "always"] },
        "start-order": { "type": "integer" },
        "start-delay": { "type": "integer" },
        "host-stop": { "enum": ["shut-down", "turn-off", "hibernate"] },
        "restart": { "enum": ["never", "on-failure", "always"] },
        "cpu": object(
            json!({ "weight": { "type": "integer" }, "reserve": optional("string"), "limit": optional("string") }),
            &["weight", "reserve", "limit"],
        ),
        "memory": object(
            json!({ "reserve": optional("string"), "limit": optional("string"), "weight": { "type": "integer" } }),
            &["reserve", "limit", "weight"],
        ),
        "process": optional("integer"),
        "answers": optional("boolean"),
        "policy-restarts": { "type": "integer" },
        "guest-restarts": optional("integer"),
        "seconds": optional("number"),
        "end": optional("object"),
        "cpu-seconds": optional("number"),
        "resident-bytes": optional("integer"),
        "engine": optional("string"),
        "vps": optional("integer"),
        "memory-bytes": optional("integer"),
        "heartbeat": optional("string"),
        "addresses": { "type": ["array", "null"], "items": string() },
        "problem": error,
        "starts-in-seconds": { "type": "number" },
        "messages": string(),
    });
    let role = json!({ "enum": ["read", "operate", "administer"] });
    let access = json!({
        "name": string(),
        "role": role,
        "kind": { "enum": ["token", "certificate", "common-name"] },
        "created": { "type": "integer" },
        "expires": optional("integer"),
        "expired": { "type": "boolean" },
        "certificate": string(),
        "common-name": string(),
        "token": string(),
    });
    let always: Vec<_> = [
        "name",
        "lab",
        "machines",
        "state",
        "autostart",
        "start-order",
        "start-delay",
        "host-stop",
        "restart",
        "cpu",
        "memory",
        "process",
        "answers",
        "policy-restarts",
        "guest-restarts",
        "seconds",
        "end",
    ]
    .into_iter()
    .chain(["cpu-seconds", "resident-bytes", "engine", "vps", "memory-bytes", "heartbeat", "addresses"])
    .collect();
    json!({
        "Problem": object(json!({ "error": error }), &["error"]),
        "Machine": object(machine, &always),
        "Machines": object(
            json!({ "machines": { "type": "array", "items": reference("Machine") }, "last-event": { "type": "integer" } }),
            &["machines", "last-event"],
        ),
        "Service": object(
            json!({
                "version": string(),
                "process": { "type": "integer" },
                "seconds": { "type": "number" },
                "state-directory": string(),
                "memory-budget-bytes": optional("integer"),
                "memory-in-use-bytes": { "type": "integer" },
                "who": string(),
                "role": role,
                "unknown-files": {
                    "type": "array",
                    "items": object(json!({ "path": string(), "reason": string() }), &["path", "reason"]),
                },
            }),
            &[
                "version",
                "process",
                "seconds",
                "state-directory",
                "memory-budget-bytes",
                "memory-in-use-bytes",
                "who",
                "role",
                "unknown-files",
            ],
        ),
        "Ticket": object(
            json!({ "ticket": string(), "seconds": { "type": "integer" } }),
            &["ticket", "seconds"],
        ),
        "Settings": object(
            json!({ "settings": { "type": "array", "items": object(
                json!({
                    "table": string(),
                    "name": string(),
                    "kind": { "enum": ["boolean", "number", "text"] },
                    "help": string(),
                    "value-name": optional("string"),
                    "choices": {
                        "type": ["array", "null"],
                        "items": object(json!({ "name": string(), "help": optional("string") }), &["name"]),
                    },
                    "repeats": { "type": "boolean" },
                }),
                &["table", "name", "kind", "help", "value-name", "choices", "repeats"],
            ) } }),
            &["settings"],
        ),
        "Values": object(json!({ "values": { "type": "object" } }), &["values"]),
        "Definition": object(json!({ "definition": string() }), &["definition"]),
        "Stop": object(
            json!({
                "shutdown-seconds": seconds,
                "power-button-seconds": seconds,
                "force": { "type": "boolean" },
                "hibernate": { "type": "boolean" },
            }),
            &[],
        ),
        "Session": object(json!({ "token": string() }), &["token"]),
        "Access": object(access, &["name", "role", "kind", "created", "expires", "expired"]),
        "AccessList": object(json!({ "access": { "type": "array", "items": reference("Access") } }), &["access"]),
        "NewAccess": either_null(object(
            json!({
                "role": role,
                "expires-seconds": { "type": ["integer", "null"], "minimum": 1, "maximum": 316_224_000 },
                "certificate": { "type": ["string", "null"], "pattern": "^(sha256:)?[0-9a-fA-F]{64}$" },
                "common-name": { "type": ["string", "null"], "minLength": 1, "maxLength": 64 },
            }),
            &["role"],
        ), "certificate", "common-name"),
        "Job": object(
            json!({
                "job": { "type": "integer" },
                "kind": { "enum": ["start", "stop", "copy", "memory", "attach"] },
                "machine": string(),
                "who": string(),
                "state": { "enum": ["running", "done", "failed", "cancelled"] },
                "cancelling": { "type": "boolean" },
                "step": string(),
                "progress": { "oneOf": [{ "type": "null" }, object(
                    json!({ "done-bytes": { "type": "integer" }, "total-bytes": { "type": "integer" } }),
                    &["done-bytes", "total-bytes"],
                )] },
                "result": optional("object"),
                "begun": { "type": "number" },
                "ended": optional("number"),
                "problem": error,
            }),
            &["job", "kind", "machine", "who", "state", "cancelling", "step", "progress", "result", "begun", "ended"],
        ),
        "Jobs": object(json!({ "jobs": { "type": "array", "items": reference("Job") } }), &["jobs"]),
        "NewJob": { "oneOf": [
            new_job("start", object(json!({}), &[]), false),
            new_job("stop", reference("Stop"), false),
            new_job("attach", json!({ "oneOf": [
                object(json!({ "disk": { "type": "string", "description": "As after --disk" } }), &["disk"]),
                object(json!({ "adapter": { "type": "string", "description": "As after --net" } }), &["adapter"]),
            ] }), true),
            new_job("copy", object(
                json!({
                    "source": { "type": "string", "pattern": "^/", "description": "Absolute path of a file of this host" },
                    "target": { "type": "string", "minLength": 1, "description": "Absolute path in the guest" },
                    "overwrite": { "type": "boolean" },
                    "make-path": { "type": "boolean" },
                }),
                &["source", "target"],
            ), true),
            new_job("memory", object(
                json!({
                    "size": { "type": "string", "pattern": "^[1-9][0-9]{0,5}[MG]$", "description": "Such as 1G" },
                    "limit-seconds": seconds,
                }),
                &["size"],
            ), true),
        ] },
        "Meter": meter(),
        "Meters": object(
            json!({
                "total": object(
                    totals(json!({ "machines": { "type": "integer" }, "disk-allocated-bytes": { "type": "integer" } })),
                    &["machines"],
                ),
                "machines": { "type": "array", "items": reference("Meter") },
            }),
            &["total", "machines"],
        ),
        "Tree": { "type": "object" },
        "Document": { "type": "object" },
        "Nothing": object(json!({}), &[]),
    })
}

/// Returns the schema of a request to begin a job of this kind.
fn new_job(kind: &str, arguments: Value, needs_arguments: bool) -> Value {
    let required = ["kind", "machine", "arguments"];
    object(
        json!({ "kind": { "const": kind }, "machine": { "type": "string" }, "arguments": arguments }),
        &required[..2 + usize::from(needs_arguments)],
    )
}

/// Adds to the schema of an object that one of two properties, or both, are null or missing.
fn either_null(mut object: Value, one: &str, other: &str) -> Value {
    let is_null = |name: &str| json!({ "properties": { name: { "type": "null" } } });
    object["anyOf"] = json!([is_null(one), is_null(other)]);
    object
}

/// Adds the properties of what is added up.
fn totals(mut properties: Value) -> Value {
    for name in ["running-seconds", "cpu-seconds"] {
        properties[name] = json!({ "type": "number" });
    }
    for name in COUNTERS {
        properties[name] = json!({ "type": "integer" });
    }
    properties
}

/// Returns the schema of what a machine has used.
fn meter() -> Value {
    let number = || json!({ "type": "number" });
    let level = || {
        let bytes = json!({ "type": ["integer", "null"] });
        object(
            json!({ "average-bytes": bytes, "minimum-bytes": bytes, "peak-bytes": bytes }),
            &["average-bytes", "minimum-bytes", "peak-bytes"],
        )
    };
    let properties = totals(json!({
        "name": { "type": "string" },
        "since": number(),
        "seconds": number(),
        "cpu-average-percent": number(),
        "cpu-peak-percent": number(),
        "process-memory": level(),
        "guest-memory": level(),
        "disk-average-normalized-iops": number(),
        "disk-average-latency-seconds": { "type": ["number", "null"] },
        "disk-allocated-bytes": { "type": ["integer", "null"] },
    }));
    let all: Vec<_> = properties.as_object().into_iter().flat_map(|all| all.keys().cloned()).collect();
    json!({ "type": "object", "additionalProperties": false, "properties": properties, "required": all })
}
