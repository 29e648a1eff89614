//! The schemas of what a machine itself takes and answers, for `/openapi.json`.

use serde_json::{Value, json};

use super::meter::COUNTERS;
use super::schemas::{object, reference};

/// Returns the schemas by name.
pub fn machine_schemas() -> Value {
    let string = || json!({ "type": "string" });
    let strings = || json!({ "type": "array", "items": { "type": "string" } });
    let integer = || json!({ "type": "integer" });
    let flag = || json!({ "type": "boolean" });
    let path = || json!({ "type": "string", "pattern": "^/", "description": "Absolute path of a file of the host" });
    let value = || json!({ "type": ["string", "integer"], "minimum": 0 });
    let item = object(json!({ "key": string(), "value": value() }), &["key", "value"]);
    let sums = COUNTERS.into_iter().chain(["disk-allocated-bytes"]);
    let sums: serde_json::Map<_, _> = sums.map(|name| (name.to_owned(), integer())).collect();
    json!({
        "Summary": object(
            json!({
                "protocol": { "const": 1 },
                "name": string(),
                "process": integer(),
                "state": { "enum": ["running", "paused", "ending"] },
                "engine": string(),
                "vps": integer(),
                "restarts": integer(),
                "memory-bytes": integer(),
                "memory-assigned-bytes": { "type": ["integer", "null"] },
                "totals": object(Value::Object(sums), &COUNTERS),
                "counters": { "type": "object" },
                "seconds": { "type": "number" },
                "heartbeat": { "type": ["string", "null"] },
                "addresses": strings(),
            }),
            &["protocol", "name", "process", "state", "engine", "vps", "restarts", "memory-bytes", "totals", "counters", "seconds", "addresses"],
        ),
        "Shutdown": object(
            json!({
                "kind": { "enum": ["power-off", "restart", "hibernate"] },
                "force": flag(),
                "text": string(),
                "limit-seconds": { "type": ["integer", "null"], "minimum": 0, "maximum": 86400 },
            }),
            &[],
        ),
        "Size": {
            "description": "A size with a unit, or a number of bytes, of which there are 4096 in a page",
            "oneOf": [
                { "type": "string", "pattern": "^[1-9][0-9]{0,5}[MG]$" },
                { "type": "integer", "minimum": 4096, "multipleOf": 4096 },
            ],
        },
        "MemoryTarget": object(
            json!({ "result": object(
                json!({ "target-bytes": integer(), "assigned-bytes": integer() }),
                &["target-bytes", "assigned-bytes"],
            ) }),
            &["result"],
        ),
        "Text": string(),
        "Path": path(),
        "Link": { "enum": ["up", "down"] },
        "Arguments": { "description": "What the command takes: docs/control.md" },
        "Result": object(json!({ "result": {} }), &["result"]),
        "Services": { "type": "array", "items": object(
            json!({
                "name": string(),
                "title": string(),
                "enabled": flag(),
                "status": { "type": ["object", "null"] },
            }),
            &["name", "title", "enabled", "status"],
        ) },
        "Switch": object(json!({ "enabled": flag() }), &["enabled"]),
        "Item": item,
        "Items": { "type": "array", "items": reference("Item") },
        "NewItem": object(json!({ "value": value() }), &["value"]),
        "Freeze": object(json!({ "limit-seconds": { "type": "integer", "minimum": 1, "maximum": 86400 } }), &[]),
        "Copy": object(
            json!({
                "source": path(),
                "target": { "type": "string", "minLength": 1, "description": "Absolute path in the guest" },
                "overwrite": flag(),
                "make-path": flag(),
            }),
            &["source", "target"],
        ),
        "Attach": object(
            json!({
                "what": { "type": "string", "description": "As after --disk or --net of viridian run" },
                "folder": { "type": "string", "description": "The folder to which paths are relative" },
            }),
            &["what", "folder"],
        ),
        "AttachedDisk": object(
            json!({ "device": string(), "controller": integer(), "lun": integer() }),
            &["device", "controller", "lun"],
        ),
        "AttachedAdapter": object(json!({ "device": string(), "number": integer() }), &["device", "number"]),
        "Resize": object(json!({ "size": reference("Size") }), &["size"]),
        "Addresses": object(
            json!({ "dhcp": flag(), "addresses": strings(), "gateways": strings(), "name-servers": strings() }),
            &[],
        ),
        "Wait": { "oneOf": [
            object(
                json!({ "text": { "type": "string", "minLength": 1 }, "limit-seconds": limit() }),
                &["text"],
            ),
            object(
                json!({
                    "picture": path(),
                    "tolerance": { "type": "integer", "minimum": 0, "maximum": 255 },
                    "difference": path(),
                    "limit-seconds": limit(),
                }),
                &["picture"],
            ),
        ] },
        "Seen": object(json!({ "seen": flag(), "message": string() }), &["seen"]),
        "Take": object(json!({ "take": flag() }), &[]),
    })
}

fn limit() -> Value {
    json!({ "type": ["number", "null"], "minimum": 0, "maximum": 86400 })
}
