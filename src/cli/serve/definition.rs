//! A definition: the settings of a machine, and how the service treats it.

use std::fmt;
use std::path::Path;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use viridian::config::{Config, ConsoleConfig, FileError, OnReset};

use super::error::Problem;
use super::lab::{Lab, Member, full_name, is_lab};
use super::resources::{Cpu, Memory, Resources};
use super::written::{ON_RESET, relative, scratch};

/// Maximum length of a definition.
pub const MAX_LENGTH: usize = 64 << 10;

/// The key of the table that is for the service.
pub const TABLE: &str = "service";

/// When the service starts a machine again that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never
    #[default]
    Never,
    /// If it has failed: neither the guest nor a user has ended it
    OnFailure,
    /// Always, unless a user has ended it by stop, kill, the page or the API
    Always,
}

/// When the service starts a machine after the start of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Autostart {
    /// Never
    #[default]
    Never,
    /// If it was running when the host ended it
    IfRunning,
    /// Always
    Always,
}

impl<'de> Deserialize<'de> for Autostart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AutostartVisitor;
        impl Visitor<'_> for AutostartVisitor {
            type Value = Autostart;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a boolean or \"if-running\"")
            }
            fn visit_bool<E: de::Error>(self, always: bool) -> Result<Autostart, E> {
                Ok(if always { Autostart::Always } else { Autostart::Never })
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Autostart, E> {
                match text {
                    "never" => Ok(Autostart::Never),
                    "if-running" => Ok(Autostart::IfRunning),
                    "always" => Ok(Autostart::Always),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(AutostartVisitor)
    }
}

/// How a machine is stopped before the host shuts down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum HostStop {
    /// Its guest is asked to shut down
    #[default]
    ShutDown,
    /// It is ended at once
    TurnOff,
    /// Its guest is asked to hibernate, so that it continues where it was, and to shut down if it does not
    Hibernate,
}

impl<'de> Deserialize<'de> for HostStop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HostStopVisitor;
        impl Visitor<'_> for HostStopVisitor {
            type Value = HostStop;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("\"shut-down\", \"turn-off\" or \"hibernate\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<HostStop, E> {
                match text {
                    "shut-down" => Ok(HostStop::ShutDown),
                    "turn-off" => Ok(HostStop::TurnOff),
                    "hibernate" => Ok(HostStop::Hibernate),
                    "save" => Err(E::custom(
                        "the state of a machine cannot be saved by its host yet; with \"hibernate\", the guest saves its \
                         own on its disk, if it can, and otherwise shuts down",
                    )),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_str(HostStopVisitor)
    }
}

/// The longest delay of a start, in seconds.
const MAX_DELAY: u32 = 86_400;

/// The table `[service]` of a definition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Treatment {
    /// Start after the start of the host.
    pub autostart: Autostart,
    /// Machines with lower numbers start before those with higher ones.
    pub start_order: u32,
    /// Seconds to wait before that start.
    pub start_delay: u32,
    /// How it is stopped before the host shuts down.
    pub host_stop: HostStop,
    /// When the machine is started again.
    pub restart: Restart,
    /// Its share of the host's processors.
    pub cpu: Cpu,
    /// Its share of the host's memory.
    pub memory: Memory,
}

impl Treatment {
    /// Returns the machine's share of the host.
    pub fn resources(&self) -> Resources {
        Resources { cpu: self.cpu, memory: self.memory }
    }
}

/// A definition that is valid.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The text, as the user has written it.
    pub text: String,
    /// Start and restart by the service.
    pub treatment: Treatment,
    /// The settings of the machine, which are those of no machine if it is a lab.
    pub config: Config,
    /// The machines, if there are several.
    pub lab: Option<Lab>,
}

impl Definition {
    /// Parses a definition. The settings are written to the file `path`, from which the library reads them.
    ///
    /// # Errors
    /// Returns an error with the place of the mistake.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Problem> {
        if text.len() > MAX_LENGTH {
            let message = format!("a definition has at most {MAX_LENGTH} bytes, not {}", text.len());
            return Err(Problem::large(message));
        }
        let (settings, treatment) = split(text)?;
        if is_lab(&settings) {
            let lab = Some(Lab::parse(&settings, path)?);
            return Ok(Self { text: text.to_owned(), treatment, config: Config::default(), lab });
        }
        let loaded = scratch(&settings, path, Config::load)?;
        let mut config = loaded.map_err(|error| match error {
            FileError::Content { place, message, .. } => at(place.line, place.column, message),
            error => Problem::host(error.to_string()),
        })?;
        apply_defaults(&settings, &mut config);
        // Relative paths have become paths in the folder of the file.
        let folder = path.parent().unwrap_or(Path::new("/"));
        let all = config.to_toml().map_err(|error| Problem::invalid(error.to_string()))?;
        if let Some(path) = all.split('"').find_map(|part| relative(part, folder)) {
            return Err(Problem::invalid(format!("the path {path:?} is relative; a service has no current directory"))
                .with_remedy("write the whole path; viridian define does that by itself"));
        }
        Ok(Self { text: text.to_owned(), treatment, config, lab: None })
    }

    /// Returns the definitions of the machines of a lab with their whole names, or `None` if it is one machine.
    pub fn members(&self, lab: &str) -> Option<Vec<(String, Self)>> {
        let member = |member: &Member| {
            let memory = Memory { weight: member.weight, ..Memory::default() };
            let treatment = Treatment { memory, ..Treatment::default() };
            let own = Self { text: String::new(), treatment, config: member.config.clone(), lab: None };
            (full_name(lab, &member.name), own)
        };
        self.lab.as_ref().map(|lab| lab.members.iter().map(member).collect())
    }

    /// Returns the memory that its guest has, or its guests have together, at the start.
    pub fn startup_bytes(&self) -> u64 {
        self.lab.as_ref().map_or(self.config.memory.size.0, Lab::startup_bytes)
    }

    /// Returns the file of the guest's console, if there is one.
    pub fn console(&self) -> Option<&Path> {
        match &self.config.console {
            ConsoleConfig::File(path) => Some(path),
            _ => None,
        }
    }

    /// Returns the file that has the last output of the console after the end of the machine, if the definition names one.
    pub fn last_console(&self) -> Option<&Path> {
        self.console().or(self.config.console_at_end.as_deref())
    }
}

/// Applies the defaults that the service has instead of those of a single run: a guest that resets its machine starts again, as on
/// Hyper-V.
pub fn apply_defaults(settings: &str, config: &mut Config) {
    let has_own = settings.parse::<toml::Table>().is_ok_and(|table| table.contains_key(ON_RESET));
    if !has_own {
        config.on_reset = OnReset::Restart;
    }
}

fn at(line: usize, column: usize, message: String) -> Problem {
    Problem::invalid(message).with_place(format!("line {line}, column {column}"))
}

/// Takes the table for the service out of a definition. Lines keep their numbers.
///
/// # Errors
/// Returns an error with the place of the mistake if it is no TOML, or if the table is invalid.
pub fn split(text: &str) -> Result<(String, Treatment), Problem> {
    let wrong = |error: toml::de::Error| {
        let before = &text[..error.span().map_or(0, |span| span.start).min(text.len())];
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        at(1 + before.matches('\n').count(), 1 + before[line_start..].chars().count(), error.message().to_owned())
    };
    let mut all: toml::Table = toml::from_str(text).map_err(wrong)?;
    if !all.contains_key(TABLE) {
        return Ok((text.to_owned(), Treatment::default()));
    }
    #[derive(Deserialize)]
    struct ForService {
        service: Treatment,
    }
    let ForService { service } = toml::from_str(text).map_err(wrong)?;
    let delay = service.start_delay;
    let long = (delay > MAX_DELAY).then(|| format!("start-delay: {delay} is more than {MAX_DELAY} seconds"));
    if let Some(mistake) = long.or_else(|| service.resources().mistake()) {
        return Err(Problem::invalid(mistake).with_place("the table service"));
    }
    all.remove(TABLE);
    let mut within = false;
    let blanked: String = text
        .split_inclusive('\n')
        .map(|line| {
            if line.trim_start().starts_with('[') {
                let rest = line.trim_start().trim_start_matches('[').trim_start().strip_prefix(TABLE);
                within = rest.is_some_and(|rest| rest.trim_start().starts_with([']', '.']));
            }
            if within { "\n" } else { line }
        })
        .collect();
    // An inline table, or a line of a text that looks like a heading: the places of mistakes are lost.
    let settings = match toml::from_str::<toml::Table>(&blanked) {
        Ok(rest) if rest == all => blanked,
        _ => all.to_string(),
    };
    Ok((settings, service))
}

#[cfg(test)]
#[path = "definition_tests.rs"]
mod tests;
