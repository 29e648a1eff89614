//! Definitions of labs: several machines of one file, which run in one process, a `viridian up`.
//!
//! A machine of a lab is reached as `LAB.MACHINE`. That is its name in the file of the process, too.

use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};
use viridian::config::{Config, ConsoleConfig, OnReset};
use viridian::fleet::Fleet;

use super::error::Problem;
use super::resources::Weight;
use super::written::{ON_RESET, check_name, relative, scratch};

/// The key of the machines of a lab.
pub const PARTITION: &str = "partition";
/// The key of a memory budget of a lab's own.
const BUDGET: &str = "memory-budget";

/// Maximum number of machines of a lab. The time to bring them into their order grows faster than their number.
const MAX_MEMBERS: usize = 100;

/// A machine of a lab.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name in the definition.
    pub name: String,
    /// Its settings.
    pub config: Config,
    /// Its weight when memory is scarce.
    pub weight: Weight,
}

/// The machines of a lab.
#[derive(Clone, Debug)]
pub struct Lab {
    /// The machines, in the order in which they start.
    pub members: Vec<Member>,
    /// They share a memory budget of their own.
    pub has_budget: bool,
}

/// Returns the name by which a machine of a lab is reached.
pub fn full_name(lab: &str, member: &str) -> String {
    format!("{lab}.{member}")
}

/// Returns `true` if these settings are those of several machines.
pub fn is_lab(settings: &str) -> bool {
    settings.parse::<Table>().is_ok_and(|table| table.contains_key(PARTITION))
}

impl Lab {
    /// Parses the settings of several machines, which are written to the file `path` for that.
    ///
    /// # Errors
    /// Returns an error with the place of the mistake, if it has one.
    pub fn parse(settings: &str, path: &Path) -> Result<Self, Problem> {
        let table: Table = settings.parse().unwrap_or_default();
        let count = partitions(&table).count();
        if count > MAX_MEMBERS {
            return Err(Problem::invalid(format!("a lab has at most {MAX_MEMBERS} machines, not {count}")));
        }
        let loaded = scratch(settings, path, Fleet::load)?;
        let fleet = loaded.map_err(|error| problem(&error.to_string(), path))?;
        let weight = |name: &str| {
            let own = partitions(&table).find(|own| own.get("name").and_then(Value::as_str) == Some(name))?;
            u16::try_from(own.get("weight")?.as_integer()?).ok().map(Weight)
        };
        let mut members = Vec::new();
        for config in fleet.configs() {
            let name = config.name.clone();
            check_name(&name)?;
            let all = config.to_toml().map_err(|error| Problem::invalid(error.to_string()))?;
            let folder = path.parent().unwrap_or(Path::new("/"));
            if let Some(path) = all.split('"').find_map(|part| relative(part, folder)) {
                let message = format!("{name}: the path {path:?} is relative; a service has no current directory");
                return Err(
                    Problem::invalid(message).with_remedy("write the whole path; viridian define does that by itself")
                );
            }
            members.push(Member { weight: weight(&name).unwrap_or_default(), config: config.clone(), name });
        }
        Ok(Self { members, has_budget: table.contains_key(BUDGET) })
    }

    /// Checks that the machines of the lab can have names that begin with its own.
    ///
    /// # Errors
    /// Returns an error if one of them is too long.
    pub fn check_names(&self, lab: &str) -> Result<(), Problem> {
        self.members.iter().try_for_each(|member| check_name(&full_name(lab, &member.name)))
    }

    /// Returns the memory that the guests have together at their start.
    pub fn startup_bytes(&self) -> u64 {
        self.members.iter().fold(0, |sum: u64, member| sum.saturating_add(member.config.memory.size.0))
    }
}

/// Returns the tables of the machines. A file with one machine may have a table instead of a list.
fn partitions(table: &Table) -> impl Iterator<Item = &Table> {
    let (list, one) = match table.get(PARTITION) {
        Some(Value::Array(list)) => (list.as_slice(), None),
        Some(Value::Table(one)) => (&[][..], Some(one)),
        _ => (&[][..], None),
    };
    list.iter().filter_map(Value::as_table).chain(one)
}

/// Calls a function for the table of each machine.
fn change_partitions(table: &mut Table, mut change: impl FnMut(&mut Table)) {
    match table.get_mut(PARTITION) {
        Some(Value::Array(list)) => list.iter_mut().filter_map(Value::as_table_mut).for_each(change),
        Some(Value::Table(one)) => change(one),
        _ => {}
    }
}

/// Returns the problem that an error of the library describes, without the name of the file that was written for it.
fn problem(error: &str, path: &Path) -> Problem {
    let file = path.display().to_string();
    let rest = error.strip_prefix(&file).unwrap_or(error);
    let mut parts = rest.trim_start_matches(':').splitn(3, ':');
    let mut number = || parts.next()?.trim().parse::<u32>().ok();
    if let (Some(line), Some(column)) = (number(), number()) {
        let message = parts.next().unwrap_or_default().trim();
        return Problem::invalid(message).with_place(format!("line {line}, column {column}"));
    }
    Problem::invalid(rest.trim_start_matches(':').trim().replace(&file, "the definition"))
}

/// Returns the settings file of the process: the machines with their whole names, and with the defaults of the service. `last_console`
/// returns the file that gets the last output of a console.
pub fn settings_file(
    lab: &str,
    settings: &str,
    members: &Lab,
    last_console: impl Fn(&str) -> PathBuf,
) -> Result<String, toml::ser::Error> {
    let mut table: Table = settings.parse().unwrap_or_default();
    change_partitions(&mut table, |own| {
        let name = own.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(member) = members.members.iter().find(|member| member.name == name) else { return };
        let full = full_name(lab, &name);
        if let Some(Value::Array(after)) = own.get_mut("after") {
            let names = after.iter().filter_map(Value::as_str);
            *after = names.map(|name| Value::String(full_name(lab, name))).collect();
        }
        let mut set = |key: &str, value: String| _ = own.insert(key.to_owned(), Value::String(value));
        if member.config.console == ConsoleConfig::Stdio {
            set("console", "none".into());
        }
        if !matches!(member.config.console, ConsoleConfig::File(_)) && member.config.console_at_end.is_none() {
            set("console-at-end", last_console(&full).display().to_string());
        }
        set("name", full);
        if !own.contains_key(ON_RESET) {
            // As on Hyper-V, a guest that resets its machine starts again.
            own.insert(ON_RESET.to_owned(), Value::String("restart".into()));
        }
    });
    toml::to_string(&table)
}

/// Returns the definition with the settings of the machines in `configs`, whose paths are absolute.
///
/// # Errors
/// Returns an error if the settings of a machine do not fit into a file.
pub fn rewritten(settings: &str, configs: &[Config]) -> Result<String, String> {
    let mut table: Table = settings.parse().unwrap_or_default();
    let mut problem = None;
    change_partitions(&mut table, |own| {
        let name = own.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let Some(config) = configs.iter().find(|config| config.name == name) else { return };
        let mut config = config.clone();
        if !own.contains_key(ON_RESET) {
            config.on_reset = OnReset::Restart;
        }
        match config
            .to_toml()
            .map_err(|error| error.to_string())
            .and_then(|text| text.parse::<Table>().map_err(|error| error.to_string()))
        {
            Ok(mut all) => {
                // What belongs to the lab, and not to the machine.
                for key in ["after", "weight"] {
                    all.extend(own.remove(key).map(|value| (key.to_owned(), value)));
                }
                *own = all;
            }
            Err(error) => problem = Some(error),
        }
    });
    problem.map_or_else(|| toml::to_string(&table).map_err(|error| error.to_string()), Err)
}

/// Returns the settings of the machines in the file of a process.
pub fn running(path: &Path) -> Option<Vec<Config>> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    Some(Fleet::load(path).ok()?.configs().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Lab, Problem> {
        let folder = tempfile::tempdir().unwrap();
        let parsed = Lab::parse(text, &folder.path().join("scratch"));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing is left");
        parsed
    }

    const LAB: &str = "[[partition]]\nname = \"client\"\nafter = [\"server\"]\nnet = \"switch=a\"\nweight = 300\n\
        [[partition]]\nname = \"server\"\nnet = \"switch=a\"\nmemory = \"64M\"\nconsole = \"file:/log\"\non-reset = \"exit\"\n";

    #[test]
    fn the_machines_of_a_lab_have_its_name_before_theirs() {
        let lab = parse(LAB).unwrap();
        let names: Vec<_> = lab.members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["server", "client"], "in the order of their start");
        assert_eq!((lab.startup_bytes(), lab.has_budget), ((64 + 256) << 20, false));
        assert_eq!([lab.members[0].weight, lab.members[1].weight], [Weight(100), Weight(300)]);
        let file = settings_file("shop", LAB, &lab, |name| PathBuf::from(format!("/run/{name}.console"))).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.toml");
        fs::write(&path, &file).unwrap();
        let configs = running(&path).unwrap_or_else(|| panic!("{file}"));
        let [server, client]: [Config; 2] = configs.try_into().unwrap_or_else(|_| panic!("{file}"));
        assert_eq!((&*server.name, &*client.name), ("shop.server", "shop.client"));
        assert_eq!((server.on_reset, client.on_reset), (OnReset::Exit, OnReset::Restart));
        assert_eq!((server.console_at_end, client.console), (None, ConsoleConfig::None));
        assert_eq!(client.console_at_end, Some("/run/shop.client.console".into()));
        assert!(lab.check_names("shop").is_ok() && lab.check_names(&"x".repeat(42)).is_err());
        assert!(is_lab(LAB) && !is_lab("kernel = \"/k\"\n") && !is_lab("["));
    }

    #[test]
    fn mistakes_have_their_places_and_no_name_of_a_file() {
        let many = "[[partition]]\nname = \"a\"\n".repeat(101);
        for (text, place, words) in [
            ("[[partition]]\nname = \"a\"\nmemroy = 1\n", Some("line 3, column 1"), "a: unknown key"),
            ("[[partition]]\nkernel = \"/k\"\n", None, "partition number 1 has no name"),
            ("[[partition]]\nname = \"a/b\"\n", None, "cannot be the name of a machine"),
            ("[[partition]]\nname = \"a\"\nkernel = \"k\"\n", None, "a: the path \"k\" is relative"),
            ("[[partition]]\nname = \"a\"\nafter = [\"b\"]\n", None, "a is to start after b, which does not exist"),
            ("partition = 3\n", Some("line 1, column 13"), "write each partition as [[partition]]"),
            ("partition = []\n", None, "there is no [[partition]]"),
            (many.as_str(), None, "at most 100 machines, not 101"),
        ] {
            let problem = parse(text).unwrap_err();
            assert_eq!((problem.status, problem.place.as_deref()), (400, place), "{text}: {problem:?}");
            assert!(problem.message.contains(words) && !problem.message.contains("scratch"), "{problem:?}");
        }
    }

    #[test]
    fn a_lab_that_is_written_anew_has_all_settings_of_its_machines() {
        let configs: Vec<_> = parse(LAB).unwrap().members.into_iter().map(|member| member.config).collect();
        let text = rewritten(LAB, &configs).unwrap();
        let lab = parse(&text).unwrap_or_else(|problem| panic!("{problem}: {text}"));
        assert_eq!(lab.members[1].weight, Weight(300));
        assert_eq!(
            lab.members.iter().map(|member| member.config.on_reset).collect::<Vec<_>>(),
            [OnReset::Exit, OnReset::Restart]
        );
        assert_eq!(lab.members[0].config.console, ConsoleConfig::File("/log".into()));
    }
}
