//! `GET /settings`: the settings of a machine, for forms. They come from the definition of which the command line and the settings file
//! are made, too.

use clap::builder::PossibleValue;
use clap::{ArgAction, Args, ValueEnum};
use serde_json::{Value, json};
use viridian::config::Config;

use super::api::{Answered, Call, Reply};
use super::definition::{Autostart, HostStop, MAX_LENGTH, Restart, TABLE};
use super::error::Problem;
use super::written::ON_RESET;

/// Returns the settings.
pub fn list(_: &Call<'_>) -> Answered {
    Ok(Reply::Json(json!({ "settings": all() })))
}

/// Returns the values in a definition.
pub fn read(call: &Call<'_>) -> Answered {
    let text = call.definition()?;
    if text.len() > MAX_LENGTH {
        return Err(Problem::large(format!("a definition has at most {MAX_LENGTH} bytes")));
    }
    values(&text).map(|values| Reply::Json(json!({ "values": values })))
}

fn values(text: &str) -> Result<Value, Problem> {
    let table = text.parse::<toml::Table>().map_err(|error| {
        let lines = |end: usize| text.get(..end).unwrap_or_default();
        let start = error.span().map_or("", |span| lines(span.start));
        let (line, column) =
            (start.matches('\n').count() + 1, start.chars().rev().take_while(|it| *it != '\n').count() + 1);
        Problem::invalid(error.message().to_owned()).with_place(format!("line {line}, column {column}"))
    })?;
    serde_json::to_value(table).map_err(|error| Problem::invalid(error.to_string()))
}

fn all() -> Vec<Value> {
    let command = Config::augment_args(clap::Command::new("settings"));
    let settings = command.get_arguments().filter_map(|argument| {
        let name = argument.get_long()?;
        let mut help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        if name == ON_RESET {
            help = help.replace("[default: exit]", "[default: restart]");
        }
        let values = argument.get_value_names().unwrap_or_default().first().map(ToString::to_string);
        let kind = match argument.get_action() {
            ArgAction::SetTrue => "boolean",
            _ if takes(name, "1") && !takes(name, "\"1\"") => "number",
            _ => "text",
        };
        let choices = if kind == "boolean" { Vec::new() } else { argument.get_possible_values() };
        let repeats = matches!(argument.get_action(), ArgAction::Append);
        Some(setting("", name, kind, &help, values, &choices, repeats))
    });
    let choice = |name, help, choices: &[PossibleValue]| setting(TABLE, name, "text", help, None, choices, false);
    let number = |name, help| setting(TABLE, name, "number", help, None, &[], false);
    let share = |name, help, value: &str| setting(TABLE, name, "text", help, Some(value.into()), &[], false);
    settings
        .chain([
            choice("autostart", "When the machine starts after the start of the host", &choices::<Autostart>()),
            number("start-order", "Machines with lower numbers start before the others [default: 0]"),
            number("start-delay", "Seconds to wait before that start [default: 0]"),
            choice("host-stop", "How the machine is stopped before the host shuts down", &choices::<HostStop>()),
            choice("restart", "When the service starts the machine again", &choices::<Restart>()),
            number(
                "cpu.weight",
                "Share of the host's processors relative to other machines, 1 to 10000 [default: 100]",
            ),
            share("cpu.reserve", "Processor time that it can always have, in percent of one processor", "50%"),
            share("cpu.limit", "Processor time that it has at most, in percent of one processor", "150%"),
            share("memory.reserve", "Memory of its process that the host does not reclaim", "1G"),
            share("memory.limit", "Memory that its process has at most; the host ends it if it needs more", "2G"),
            number("memory.weight", "Share of the memory budget relative to other machines, 1 to 10000 [default: 100]"),
        ])
        .collect()
}

/// Returns the values that a setting may have.
fn choices<T: ValueEnum>() -> Vec<PossibleValue> {
    T::value_variants().iter().filter_map(ValueEnum::to_possible_value).collect()
}

/// Returns `true` if a settings file may have this value.
fn takes(name: &str, value: &str) -> bool {
    toml::from_str::<Config>(&format!("{name} = {value}")).is_ok()
}

fn setting(
    table: &str,
    name: &str,
    kind: &str,
    help: &str,
    value_name: Option<String>,
    choices: &[PossibleValue],
    repeats: bool,
) -> Value {
    let choice = |value: &PossibleValue| {
        let help = value.get_help().map(ToString::to_string);
        json!({ "name": value.get_name(), "help": help })
    };
    let choices: Vec<_> = choices.iter().map(choice).collect();
    json!({
        "table": table,
        "name": name,
        "kind": kind,
        "help": help,
        "value-name": value_name,
        "choices": (!choices.is_empty()).then_some(choices),
        "repeats": repeats,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::definition::Treatment;
    use super::*;

    #[test]
    fn a_definition_has_values_or_a_place_of_its_mistake() {
        let text = "memory = \"1G\" # enough\ndisk = [\"a\", \"b\"]\n[service]\nautostart = true\n";
        let expected = json!({ "memory": "1G", "disk": ["a", "b"], "service": { "autostart": true } });
        assert_eq!(values(text).unwrap(), expected);
        let problem = values("memory = \"1G\"\ndisk = ]\n").unwrap_err();
        assert_eq!((problem.status, problem.place.as_deref()), (400, Some("line 2, column 8")), "{problem}");
    }

    /// Returns the names of the values in a table, with those of the tables in it: `cpu.weight`.
    fn names(table: &Value, prefix: &str) -> BTreeSet<String> {
        let values = table.as_object().unwrap().iter();
        let inner = values.map(|(name, value)| match value.is_object() {
            true => names(value, &format!("{prefix}{name}.")),
            false => BTreeSet::from([format!("{prefix}{name}")]),
        });
        inner.flatten().collect()
    }

    #[test]
    fn a_form_has_all_keys_of_the_table_for_the_service() {
        let all = all();
        let of_service: Vec<_> = all.iter().filter(|setting| setting["table"] == TABLE).collect();
        let shown: BTreeSet<_> = of_service.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(shown, names(&json!(Treatment::default()), ""));
        // A definition takes what the form writes: dotted keys.
        for setting in of_service {
            let (name, first) = (setting["name"].as_str().unwrap(), &setting["choices"][0]["name"]);
            let value = match (setting["kind"].as_str(), &setting["value-name"]) {
                (Some("number"), _) => "1".to_owned(),
                (_, Value::Null) => first.to_string(),
                (_, example) => example.to_string(),
            };
            let text = format!("[{TABLE}]\n{name} = {value}\n");
            assert!(super::super::definition::split(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn each_setting_says_what_its_value_is() {
        let all = all();
        let find = |name: &str| all.iter().find(|setting| setting["name"] == name).unwrap_or_else(|| panic!("{name}"));
        for (name, kind) in [
            ("kernel", "text"),
            ("memory", "text"),
            ("cpus", "text"),
            ("timeout", "number"),
            ("test-device", "boolean"),
        ] {
            assert_eq!(find(name)["kind"], kind, "{name}");
        }
        assert_eq!(find("disk")["repeats"], true);
        assert_eq!(find("engine")["choices"][0]["name"], "auto");
        assert_eq!(find("restart")["table"], "service");
        assert!(find("memory")["help"].as_str().unwrap().contains("[default: 256M]"));
        assert!(
            find("on-reset")["help"].as_str().unwrap().ends_with("[default: restart]"),
            "the service has another one"
        );
        // A file takes what the form writes.
        for setting in all.iter().filter(|setting| setting["table"] == "") {
            let name = setting["name"].as_str().unwrap();
            for choice in setting["choices"].as_array().into_iter().flatten() {
                assert!(takes(name, &choice["name"].to_string()), "{name} = {choice}");
            }
            let repeats = setting["repeats"].as_bool().unwrap();
            assert!(!repeats || takes(name, "[\"none\"]"), "{name} takes a list");
        }
    }
}
