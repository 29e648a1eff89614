//! `/openapi.json`: the description of the table of routes, for programs (OpenAPI 3.1).

use serde_json::{Map, Value, json};

use super::machine_schemas::machine_schemas;
use super::route::{Answer, Body, Route};
use super::schemas::{self, reference};

/// The largest number that JSON carries everywhere.
const MAX_NUMBER: u64 = (1 << 53) - 1;

/// Statuses that every request may have.
const COMMON: [u16; 9] = [400, 401, 403, 408, 411, 413, 429, 500, 503];

/// Returns the document for these routes.
pub fn document(routes: impl Iterator<Item = &'static Route>) -> Value {
    let mut paths = Map::new();
    for route in routes {
        let resource = paths.entry(route.path).or_insert_with(|| json!({}));
        resource[route.method.to_lowercase()] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Viridian",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The service viridian serve: definitions of machines, and what they do.",
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas(),
        },
    })
}

/// Returns all schemas by name.
fn schemas() -> Value {
    let mut all = schemas::schemas();
    if let (Value::Object(all), Value::Object(more)) = (&mut all, machine_schemas()) {
        all.extend(more);
    }
    all
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "description": format!("Needs the role {}.", route.role.name()),
        "x-role": route.role.name(),
        "responses": responses(route),
    });
    let parameters: Vec<_> = route.parameters().map(|name| parameter(route, name)).collect();
    if !parameters.is_empty() {
        operation["parameters"] = json!(parameters);
    }
    match route.body {
        Body::None => {}
        Body::Definition => {
            operation["requestBody"] = json!({
                "required": true,
                "description": "The settings file of a machine, as viridian run --config takes it, or of several, as viridian up takes it, perhaps with a table [service]",
                "content": {
                    "application/toml": { "schema": { "type": "string", "minLength": 1 } },
                    "application/json": { "schema": reference("Definition") },
                },
            });
        }
        Body::Json(schema) => operation["requestBody"] = json_body(schema, true),
        Body::Optional(schema) => operation["requestBody"] = json_body(schema, false),
    }
    if route.answer == Answer::Page {
        operation["security"] = json!([]);
        operation["description"] = json!("Needs no token.");
    }
    operation
}

fn json_body(schema: &str, required: bool) -> Value {
    json!({ "required": required, "content": { "application/json": { "schema": reference(schema) } } })
}

/// Returns the description of an open part of a path.
fn parameter(route: &Route, name: &str) -> Value {
    let any = || json!({ "type": "string", "minLength": 1 });
    let like = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let (description, schema) = match name {
        "name" => {
            let of = if route.path.starts_with("/access") { "of somebody who has a role" } else { "of a machine" };
            (format!("The name {of}"), like("^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$"))
        }
        "job" => ("The number of a job".into(), json!({ "type": "integer", "minimum": 0, "maximum": MAX_NUMBER })),
        "file" => ("The path of a file, such as main.js".into(), any()),
        "service" => {
            let services = ["shutdown", "time", "heartbeat", "kvp", "vss", "file-copy"];
            ("The name of an integration service".into(), json!({ "enum": services }))
        }
        "pool" => ("The name of a pool".into(), json!({ "enum": ["external", "guest", "intrinsic", "host"] })),
        "key" => ("The key of an item".into(), any()),
        "disk" => ("The name of a disk, such as disk0.1".into(), like("^disk[0-9]{1,3}\\.[0-9]{1,3}$")),
        "adapter" => ("The name of a network adapter, such as net0".into(), like("^net[0-9]{1,3}$")),
        "device" => ("The name of a device".into(), any()),
        "port" => ("A port of AF_VSOCK, or a GUID".into(), any()),
        "kinds" => ("The kinds of what is traced, such as vmbus,storage".into(), any()),
        "text" => ("A text that all lines have; parts with ; between them must all be there".into(), any()),
        other => (format!("The {other}"), any()),
    };
    json!({ "name": name, "in": "path", "required": true, "description": description, "schema": schema })
}

fn responses(route: &Route) -> Value {
    let content =
        |kind: &str, schema: Value| json!({ "description": "Done", "content": { kind: { "schema": schema } } });
    let text = || json!({ "type": "string" });
    let mut responses = Map::new();
    match route.answer {
        Answer::Page => _ = responses.insert("200".into(), content("text/*", text())),
        Answer::Json(schema) => _ = responses.insert("200".into(), content("application/json", reference(schema))),
        Answer::Created(schema) => {
            responses.insert("200".into(), content("application/json", reference(schema)));
            responses.insert("201".into(), content("application/json", reference(schema)));
        }
        Answer::Text(kind) => _ = responses.insert("200".into(), content(kind, text())),
        Answer::Stream => _ = responses.insert("101".into(), json!({ "description": "The WebSocket is open" })),
        Answer::Bytes(kind) => _ = responses.insert("200".into(), content(kind, json!({}))),
        Answer::Events => _ = responses.insert("200".into(), content("text/event-stream", text())),
    }
    for status in COMMON.iter().chain(route.problems) {
        let problem =
            json!({ "description": "Not done", "content": { "application/json": { "schema": reference("Problem") } } });
        responses.insert(status.to_string(), problem);
    }
    Value::Object(responses)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::error::Problem;
    use super::super::machine::{Machine, State};
    use super::*;

    #[test]
    fn a_machine_has_the_properties_of_its_schema() {
        let schema = &schemas()["Machine"];
        let mut machine = Machine::new(Err(Problem::host("x")));
        machine.state = State::Waiting(Instant::now());
        let mut shown = machine.to_json("web");
        super::super::api::add_usage(&mut shown);
        let shown: Vec<_> = shown.as_object().unwrap().keys().collect();
        for key in &shown {
            assert!(schema["properties"].get(key).is_some(), "{key} is not in the schema");
        }
        for key in schema["required"].as_array().unwrap() {
            assert!(shown.iter().any(|shown| *shown == key), "{key} is missing");
        }
        let others = ["messages"];
        for key in schema["properties"].as_object().unwrap().keys() {
            assert!(shown.contains(&key) || others.contains(&key.as_str()), "no machine has {key}");
        }
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        let text = document(super::super::routes::all()).to_string();
        let known = schemas();
        let mut count = 0;
        for rest in text.split("#/components/schemas/").skip(1) {
            let name = rest.split('"').next().unwrap();
            assert!(known.get(name).is_some(), "{name}");
            count += 1;
        }
        assert!(count > 50);
    }
}
