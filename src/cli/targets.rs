//! The machines that the words of a command line name: one, several, or all.

use std::collections::BTreeSet;
use std::thread::ScopedJoinHandle;

use serde_json::Value;
use viridian::machine::code;
use viridian::process::Marked;

use super::client::{Failure, Remote};
use super::say;

/// A machine, or its guest, refuses what a verb asks for.
pub const REFUSED: u8 = 1;
/// A time limit has passed.
pub const TIMEOUT: u8 = 124;

/// The word for all machines, in the place of NAME.
pub const ALL: &str = "--all";

/// The message if all running machines are meant, and none runs.
pub const NONE_RUNS: &str = "no machine runs";

/// The machines of a verb that takes several names.
#[derive(clap::Args)]
pub struct Targets {
    /// Names of machines or labs, as viridian list prints them, several with commas, patterns such as 'web*', or paths of control sockets
    #[arg(value_name = "NAME", required_unless_present = "all")]
    names: Vec<String>,

    /// All running machines of this user
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

impl Targets {
    /// Returns the machines.
    pub fn machines(&self) -> Result<Machines, Failure> {
        if self.all { Machines::all() } else { Machines::named(&self.names) }
    }

    /// Returns the machines, also those of the service that are about to run, and its labs in place of their machines.
    pub fn with_coming(&self) -> Result<Machines, Failure> {
        let is_coming = |machine: &Value| {
            let is_lab = machine["machines"].is_array() && !machine["process"].is_null();
            is_lab || matches!(machine["state"].as_str(), Some("starting" | "waiting"))
        };
        let machines = if self.all {
            Machines::all_and(Remote::of_service(is_coming))
        } else {
            Machines::of(&self.names, Some(&is_coming))
        };
        machines.map(Machines::without_those_of_labs)
    }

    /// Returns the machines: all that run, or those with the names, also those of the service that do not run.
    pub fn with_known(&self) -> Result<Machines, Failure> {
        if self.all { Machines::all() } else { Machines::of(&self.names, Some(&is_idle)) }
    }

    /// Returns the single names, without patterns.
    pub fn plain_names(&self) -> impl Iterator<Item = &str> {
        let parts = self.names.iter().flat_map(|word| {
            let is_path = word.contains('/');
            word.split(move |letter| letter == ',' && !is_path)
        });
        parts.filter(|name| !name.is_empty() && !name.contains(['*', '?']))
    }
}

/// Returns `true` for a machine of the service, and for a lab that does not run: one that does is its machines.
fn is_idle(machine: &Value) -> bool {
    !machine["machines"].is_array() || machine["process"].is_null()
}

/// The machines of a verb that takes other words after the name.
#[derive(clap::Args)]
pub struct Place {
    /// The machine; several with commas, a pattern such as 'web*', or --all for all that run
    #[arg(value_name = "NAME|--all", allow_hyphen_values = true, value_parser = place)]
    name: String,
}

/// Parses the word in the place of a name.
pub fn place(word: &str) -> Result<String, String> {
    if word.starts_with('-') && word != ALL {
        return Err("it is no option of this command, and no name".into());
    }
    Ok(word.to_owned())
}

impl Place {
    /// Returns the machines.
    pub fn machines(&self) -> Result<Machines, Failure> {
        Machines::named(std::slice::from_ref(&self.name))
    }
}

/// The machines, or other things, that words name.
pub struct Found<T> {
    /// Those that exist, with their names.
    pub found: Vec<(String, T)>,
    /// The errors about the others.
    pub missing: Vec<Failure>,
    /// `true` if one plain name was given, so that JSON is an object, and not a list.
    pub is_one: bool,
}

/// Finds what words name. A word is a name. If nothing has this name, it is a list of names and patterns, with commas.
/// `known` returns all names, and `named` what has one.
///
/// Returns an error if one plain name was given, and there is nothing of that name.
pub fn find<T: Clone>(
    words: &[String],
    known: impl Fn() -> Result<Vec<(String, T)>, Failure>,
    named: impl Fn(&str) -> Result<T, Failure>,
) -> Result<Found<T>, Failure> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    let mut all = None;
    let mut is_one = words.len() == 1;
    for word in words {
        // The path of a socket is nothing else.
        if !word.contains([',', '*', '?']) || word.contains('/') {
            match named(word) {
                Ok(one) => found.push((word.clone(), one)),
                Err(failure) if is_one => return Err(failure),
                Err(failure) => missing.push(failure),
            }
            continue;
        }
        let all = match &all {
            Some(all) => all,
            None => all.insert(known()?),
        };
        if let Some(one) = all.iter().find(|(name, _)| name == word) {
            found.push(one.clone());
            continue;
        }
        is_one = false;
        let parts = word.split(',').filter(|part| !part.is_empty());
        let nothing = parts.clone().next().is_none().then_some(word.as_str());
        for part in parts.chain(nothing) {
            let before = found.len();
            found.extend(all.iter().filter(|(name, _)| matches(part, name)).cloned());
            if found.len() == before {
                let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
                let names =
                    if names.is_empty() { "there is none".into() } else { format!("there is {}", names.join(", ")) };
                missing.push(Failure::Other(code::USAGE, format!("there is no machine {part:?}; {names}")));
            }
        }
    }
    let mut seen = BTreeSet::new();
    found.retain(|(name, _)| seen.insert(name.clone()));
    Ok(Found { found, missing, is_one })
}

/// Returns `true` if a name matches a pattern: `*` is any text, and `?` any character.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<_>, Vec<_>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut place) = (0, 0);
    // The last star, and the place in the name up to which it reaches. If the rest does not match, it reaches further.
    let mut star = None;
    while place < name.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == name[place] => (at, place) = (at + 1, place + 1),
            _ => {
                let Some((before, reached)) = star else { return false };
                star = Some((before, reached + 1));
                (at, place) = (before + 1, reached + 1);
            }
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

/// The machines of a command.
pub struct Machines {
    machines: Vec<Remote>,
    /// The exit code for the names that do not exist.
    code: u8,
    is_one: bool,
}

impl Machines {
    /// Returns all machines that run.
    pub fn all() -> Result<Self, Failure> {
        Self::all_and(Vec::new())
    }

    fn all_and(others: Vec<Remote>) -> Result<Self, Failure> {
        let mut machines = Remote::all()?;
        machines.extend(others);
        let mut seen = BTreeSet::new();
        machines.retain(|machine| seen.insert(machine.name.clone()));
        if machines.is_empty() {
            say!("{NONE_RUNS}");
        }
        Ok(Self { machines, code: 0, is_one: false })
    }

    /// Returns the machines that words name, and reports names that do not exist.
    ///
    /// Returns an error if one machine was named, and it does not run.
    pub fn named(words: &[String]) -> Result<Self, Failure> {
        Self::of(words, None)
    }

    /// Returns the machines that words name, as [`named`](Self::named) does, also those machines and labs of the service that are meant.
    /// Another lab stands for its machines that run.
    fn of(words: &[String], is_meant: Option<&dyn Fn(&Value) -> bool>) -> Result<Self, Failure> {
        if words.iter().any(|word| word == ALL) {
            return Self::all();
        }
        let others = || is_meant.map(Remote::of_service).unwrap_or_default();
        let known = || {
            let all = Remote::all()?.into_iter().chain(others());
            Ok(all.map(|machine| (machine.name.clone(), vec![machine])).collect())
        };
        let named = |word: &str| match Remote::named(word) {
            // A lab has no socket. At a service that was chosen, it is found as a machine is.
            Ok(machine) if !machine.is_elsewhere() => Ok(vec![machine]),
            Err(failure) if !matches!(failure, Failure::NoMachine(..)) => Err(failure),
            found => {
                let meant = || others().into_iter().find(|machine| machine.name == word);
                let of_lab = || Remote::of_lab(word).filter(|machines| !machines.is_empty());
                match meant().map(|machine| vec![machine]).or_else(of_lab) {
                    Some(machines) => Ok(machines),
                    None => found.map(|machine| vec![machine]),
                }
            }
        };
        let Found { found, missing, is_one } = find(words, known, named)?;
        let code = missing.iter().map(|failure| failed(None, failure)).max().unwrap_or_default();
        let machines: Vec<_> = found.into_iter().flat_map(|(_, machines)| machines).collect();
        let is_one = is_one && machines.len() == 1;
        Ok(Self { machines, code, is_one })
    }

    /// Leaves out the machines of labs that are among the machines themselves.
    fn without_those_of_labs(mut self) -> Self {
        // The service is asked only if a name begins with that of another machine: `shop.server` may be one of the lab `shop`.
        let all: Vec<_> = self.machines.iter().map(|machine| machine.name.clone()).collect();
        let is_of =
            |name: &str, lab: &String| name.strip_prefix(lab.as_str()).is_some_and(|rest| rest.starts_with('.'));
        if self.machines.iter().any(|machine| all.iter().any(|lab| is_of(&machine.name, lab))) {
            let labs: Vec<_> = all.into_iter().filter(|name| Remote::of_lab(name).is_some()).collect();
            self.machines.retain(|machine| !labs.iter().any(|lab| is_of(&machine.name, lab)));
        }
        self
    }

    /// Returns the only machine, for a command that is about one.
    ///
    /// Returns an error with `advice` if there are several, or none.
    pub fn one(mut self, advice: &str) -> Result<Remote, Failure> {
        match self.machines.pop() {
            Some(machine) if self.machines.is_empty() && self.code == 0 => Ok(machine),
            Some(_) => Err(Failure::Other(code::USAGE, advice.to_owned())),
            None => Err(Failure::Other(code::USAGE, "there is no such machine".into())),
        }
    }

    /// Returns `true` if one plain name was given.
    pub fn is_one(&self) -> bool {
        self.is_one
    }

    /// Calls a function for each machine, at the same time. Reports failures, and returns the exit code, which is that of the worst,
    /// and the results of the others with their names.
    pub fn each<T: Send>(&self, work: impl Fn(&Remote) -> Result<T, Failure> + Sync) -> (u8, Vec<(String, T)>) {
        let results = at_once(&self.machines, work);
        let (mut code, mut values) = (self.code, Vec::new());
        for (machine, result) in self.machines.iter().zip(results) {
            match result {
                Ok(value) => values.push((machine.name.clone(), value)),
                Err(failure) => code = code.max(failed(Some(&machine.name), &failure)),
            }
        }
        (code, values)
    }

    /// Prints the JSON of the results: that of the only machine that was named, or a list.
    pub fn print_json(&self, values: Vec<Value>) -> Result<(), Failure> {
        print_results(self.is_one, values)
    }

    /// Prints a text about a machine: as it is if one was named, else with the name before each line.
    pub fn print(&self, name: &str, text: &str) -> Result<(), Failure> {
        if self.is_one { print(text) } else { print(&labelled(name, text)) }
    }

    /// Prints a part of what has no end, as [`print`](Self::print), or as JSON with the name in the field `machine`. Ends the program if
    /// nobody reads it.
    pub fn print_event(
        &self,
        name: &str,
        mut event: Value,
        words: Option<&dyn Fn(&Value) -> String>,
    ) -> Result<(), Failure> {
        let text = match words.map(|words| words(&event)) {
            Some(words) if self.is_one => words,
            Some(words) => labelled(name, &words),
            None if self.is_one => format!("{event}\n"),
            None => {
                event["machine"] = name.into();
                format!("{event}\n")
            }
        };
        print_endless(&text)
    }
}

fn unprintable(error: anyhow::Error) -> Failure {
    Failure::Other(code::FAILED, format!("{error:#}"))
}

/// Returns the lines of a text, each with a name before it.
pub fn labelled(name: &str, text: &str) -> String {
    text.lines().map(|line| format!("{}: {line}\n", Marked(name))).collect()
}

/// Calls a function for each machine, at the same time.
pub fn at_once<M: Sync, T: Send>(
    machines: &[M],
    work: impl Fn(&M) -> Result<T, Failure> + Sync,
) -> Vec<Result<T, Failure>> {
    if let [machine] = machines {
        return vec![work(machine)];
    }
    std::thread::scope(|scope| {
        let work = &work;
        let start = |machine| {
            let started = std::thread::Builder::new().spawn_scoped(scope, move || work(machine));
            // A host that starts no more threads has them done one after the other.
            started.map_err(|_| work(machine))
        };
        let started: Vec<_> = machines.iter().map(start).collect();
        let panicked = |_| Err(Failure::Other(code::FAILED, "this program's own code panicked".into()));
        let end = |started: Result<ScopedJoinHandle<'_, _>, _>| {
            started.map_or_else(|done| done, |thread| thread.join().unwrap_or_else(panicked))
        };
        started.into_iter().map(end).collect()
    })
}

/// Prints why a command failed, and returns the exit code.
pub fn failed(name: Option<&str>, failure: &Failure) -> u8 {
    match name {
        Some(name) => say!("{}", Marked(&format!("{name}: {failure}"))),
        None => say!("{}", Marked(&failure.to_string())),
    }
    match failure {
        Failure::NoMachine(..) => code::USAGE,
        Failure::Refused { kind, .. } if kind == "invalid" || kind == "not-found" => code::USAGE,
        Failure::Refused { kind, .. } if kind == "timeout" => TIMEOUT,
        Failure::Refused { .. } => REFUSED,
        Failure::Slow(_) => TIMEOUT,
        Failure::NoDirectory(_) | Failure::Lost(_) => code::FAILED,
        Failure::Other(code, _) => *code,
    }
}

/// Prints a text on standard output.
pub fn print(text: &str) -> Result<(), Failure> {
    super::print(text).map_err(unprintable)
}

/// Prints a part of what has no end. Ends the program if nobody reads it.
pub fn print_endless(text: &str) -> Result<(), Failure> {
    if !super::print_part(text.as_bytes()).map_err(unprintable)? {
        super::end_unread();
    }
    Ok(())
}

/// Writes bytes to standard output.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    super::print_part(bytes).map(drop).map_err(unprintable)
}

/// Prints JSON.
pub fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}

/// Prints the JSON of results: that of the only machine that was named, if it is there, or a list.
pub fn print_results(is_one: bool, mut values: Vec<Value>) -> Result<(), Failure> {
    match is_one {
        true => values.pop().map_or(Ok(()), |value| print_json(&value)),
        false => print_json(&Value::Array(values)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text_and_a_question_mark_any_character() {
        for (pattern, name, is_match) in [
            ("web", "web", true),
            ("web", "web-2", false),
            ("web*", "web", true),
            ("web*", "web-2", true),
            ("*-2", "web-2-2", true),
            ("*b*2", "web-2", true),
            ("*b*2", "web-3", false),
            ("we?", "web", true),
            ("we?", "we", false),
            ("?", "ü", true),
            ("*", "", true),
            ("", "", true),
            ("**a**", "bab", true),
        ] {
            assert_eq!(matches(pattern, name), is_match, "{pattern} {name}");
        }
        // The time does not grow with the number of combinations.
        assert!(!matches(&"*a".repeat(500), &"a".repeat(499)));
    }

    fn names(words: &[&str]) -> Result<(Vec<String>, usize, bool), Failure> {
        let known = ["db", "web", "web-2", "a,b"].map(|name| (name.to_owned(), ()));
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let named = |word: &str| match known.iter().any(|(name, ())| name == word) {
            true => Ok(()),
            false => Err(Failure::NoMachine(word.to_owned(), String::new())),
        };
        let found = find(&words, || Ok(known.to_vec()), named)?;
        Ok((found.found.into_iter().map(|(name, ())| name).collect(), found.missing.len(), found.is_one))
    }

    #[test]
    fn words_are_names_and_patterns_with_commas_and_each_machine_is_found_once() {
        let expect = |words: &[&str], found: &[&str], missing, is_one| {
            let found = found.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(names(words).unwrap(), (found, missing, is_one), "{words:?}");
        };
        expect(&["web"], &["web"], 0, true);
        expect(&["web", "db"], &["web", "db"], 0, false);
        expect(&["web,db"], &["web", "db"], 0, false);
        expect(&["web*", "web"], &["web", "web-2"], 0, false);
        expect(&["db*"], &["db"], 0, false);
        expect(&["a,b"], &["a,b"], 0, true);
        expect(&["web,", "none", "x*"], &["web"], 2, false);
        expect(&["*"], &["db", "web", "web-2", "a,b"], 0, false);
        expect(&[","], &[], 1, false);
        assert!(matches!(names(&["none"]), Err(Failure::NoMachine(..))));
    }
}
