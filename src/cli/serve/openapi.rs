//! `/openapi.json`: the description of the table of routes, for programs (OpenAPI 3.1).

use serde_json::{Map, Value, json};

use super::route::{Answer, Body, Route};
use super::schemas::{reference, schemas};

/// The largest number that JSON carries everywhere.
const MAX_NUMBER: u64 = (1 << 53) - 1;

/// Statuses that every request may have.
const COMMON: [u16; 9] = [400, 401, 403, 408, 411, 413, 429, 500, 503];

/// Returns the document for these routes.
pub fn document(routes: &[Route]) -> Value {
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

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "operationId": route.id,
        "summary": route.summary,
        "description": format!("Needs the role {}.", route.role.name()),
        "x-role": route.role.name(),
        "responses": responses(route),
    });
    if route.path.contains("{name}") {
        let of = if route.path.starts_with("/access") { "of somebody who has a role" } else { "of a machine" };
        operation["parameters"] = json!([{
            "name": "name",
            "in": "path",
            "required": true,
            "description": format!("The name {of}"),
            "schema": { "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$" },
        }]);
        if route.path.contains("{path}")
            && let Some(parameters) = operation["parameters"].as_array_mut()
        {
            parameters.push(json!({
                "name": "path",
                "in": "path",
                "required": true,
                "description": "The path of a resource of the machine; it may have slashes",
                "schema": { "type": "string", "minLength": 1 },
            }));
        }
    }
    if route.path.contains("{job}") {
        operation["parameters"] = json!([{
            "name": "job",
            "in": "path",
            "required": true,
            "description": "The number of a job",
            "schema": { "type": "integer", "minimum": 0, "maximum": MAX_NUMBER },
        }]);
    }
    if route.path.contains("{file}") {
        operation["parameters"] = json!([{
            "name": "file",
            "in": "path",
            "required": true,
            "description": "The path of a file, such as main.js",
            "schema": { "type": "string", "minLength": 1 },
        }]);
    }
    match route.body {
        Body::None => {}
        Body::Definition => {
            operation["requestBody"] = json!({
                "required": true,
                "description": "The settings file of a machine, as viridian run --config takes it, perhaps with a table [service]",
                "content": {
                    "application/toml": { "schema": { "type": "string", "minLength": 1 } },
                    "application/json": { "schema": reference("Definition") },
                },
            });
        }
        Body::Stop => {
            operation["requestBody"] =
                json!({ "required": false, "content": { "application/json": { "schema": reference("Stop") } } });
        }
        Body::Job => {
            operation["requestBody"] =
                json!({ "required": true, "content": { "application/json": { "schema": reference("NewJob") } } });
        }
        Body::Any => {
            operation["requestBody"] =
                json!({ "required": false, "content": { "application/json": { "schema": {} } } });
        }
        Body::Access => {
            operation["requestBody"] =
                json!({ "required": true, "content": { "application/json": { "schema": reference("NewAccess") } } });
        }
    }
    if route.answer == Answer::Page {
        operation["security"] = json!([]);
        operation["description"] = json!("Needs no token.");
    }
    operation
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
        Answer::Machine => _ = responses.insert("200".into(), content("application/json", json!({}))),
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
        let text = document(super::super::routes::ROUTES).to_string();
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
