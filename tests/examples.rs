//! Checks of all programs in `examples/` without running them. `tests/guests/examples.rs` runs them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Returns the text of a file in `examples/`.
fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the list of texts after a key, as JSON, YAML and HCL have it.
fn list(text: &str, key: &str) -> Vec<String> {
    let (_, rest) = text.split_once(key).unwrap_or_else(|| panic!("{key}: {text}"));
    let list = &rest[rest.find('[').unwrap()..=rest.find(']').unwrap()];
    // HCL has a comma after the last one, too.
    let list = list.trim_end_matches(']').trim_end().trim_end_matches(',').to_owned() + "]";
    serde_json::from_str(&list).unwrap_or_else(|error| panic!("{error}: {list}"))
}

/// Expects that the program knows these arguments of `viridian run`. They are read, and the machine does not run.
fn reads(example: &str, arguments: &[String]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_viridian"));
    let done = command.args(arguments).arg("--dump-config").stdin(Stdio::null()).output().unwrap();
    let settings = String::from_utf8(done.stdout).unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && settings.contains("memory"), "{example}: {arguments:?}: {settings}{said}");
}

/// Expects that the program knows the command and the options of a command line: of another command than `run`, with the help.
fn knows(example: &str, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_viridian"));
    let done = command.arg(arguments[0]).arg("--help").stdin(Stdio::null()).output().unwrap();
    let help = String::from_utf8(done.stdout).unwrap();
    assert!(done.status.success(), "{example}: {arguments:?}");
    for option in arguments[1..].iter().filter(|argument| argument.starts_with("--") && argument.len() > 2) {
        assert!(help.contains(option), "{example}: {} has no option {option}", arguments[0]);
    }
}

#[test]
fn the_program_knows_the_command_lines_of_the_examples_for_schedulers() {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    reads("pod.yaml", &list(&example("kubernetes/pod.yaml"), "args:"));
    let stop = list(&example("kubernetes/pod.yaml"), "command:");
    assert_eq!(stop[0], "viridian");
    knows("pod.yaml", &stop[1..].iter().map(String::as_str).collect::<Vec<_>>());
    reads("guest.nomad.hcl", &list(&example("nomad/guest.nomad.hcl"), "args ="));
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("web.toml");
    fs::write(&settings, "memory = \"64M\"\n").unwrap();
    let mut lines = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/systemd")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        for line in text.lines().filter(|line| line.starts_with("Exec")) {
            let Some((_, command)) = line.split_once("/usr/local/bin/viridian ") else { continue };
            let command = command.replace("/etc/viridian/%i.toml", settings.to_str().unwrap()).replace("%i", "web");
            match command.starts_with("run ") {
                true => reads(name, &words(&command)),
                false => knows(name, &command.split_whitespace().collect::<Vec<_>>()),
            }
            lines += 1;
        }
    }
    assert!(lines >= 4, "{lines}");
    let step = example("github-actions/guest.yml");
    let (_, step) = step.split_once("run: viridian ").unwrap();
    knows("guest.yml", &step.split_whitespace().take_while(|word| *word != "--").collect::<Vec<_>>());
}

#[test]
fn every_example_is_run_by_a_test_and_uses_only_what_is_public() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let tests = include_str!("guests/examples.rs");
    let mut programs = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(tests.contains(&format!("{name}::main()")), "{name} is not run by tests/guests/examples.rs");
            assert!(!fs::read_to_string(&path).unwrap().contains("internals"), "{name} uses internals");
            programs += 1;
        }
    }
    assert!(programs >= 4, "{programs}");
}
