//! A path that leads nowhere is an error of the command line for each option that takes one.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::command::{Killed, Run, run_with};

/// A path that cannot be used.
struct Bad {
    path: String,
    /// A part of the remedy.
    remedy: &'static str,
}

/// Makes paths that cannot be used in a folder.
fn bad_paths(folder: &str) -> [Bad; 4] {
    symlink("loop", format!("{folder}/loop")).unwrap();
    fs::write(format!("{folder}/file"), "no directory").unwrap();
    [
        Bad { path: format!("{folder}/loop"), remedy: "circle" },
        Bad { path: format!("{folder}/file/below"), remedy: "directory" },
        Bad { path: format!("{folder}/missing/below"), remedy: "" },
        Bad { path: format!("{folder}/{}", "x".repeat(300)), remedy: "bytes" },
    ]
}

/// Expects that the command line is refused with these words, before a guest has printed anything.
#[track_caller]
fn refused(arguments: &[&str], words: &[&str]) {
    let run: Run = run_with(arguments);
    assert!(run.code == Some(2) && run.output.is_empty(), "{arguments:?}: {run:?}");
    assert!(words.iter().all(|word| run.errors.contains(word)), "{words:?} {arguments:?}: {run:?}");
    assert!(!run.errors.contains("panicked"), "{run:?}");
}

#[test]
fn each_option_refuses_a_path_that_leads_nowhere_with_its_name_and_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let vnc = format!("vnc=unix:{folder}/vnc");
    let password = format!("{vnc},password-file=PATH");
    let tls = format!("{vnc},tls-cert=PATH,tls-key=PATH");
    // The path is in place of PATH.
    let options: [&[&str]; 20] = [
        &["--kernel", "PATH"],
        &["--kernel", "flat:PATH,mode=32"],
        &["--initrd", "PATH"],
        &["--symbols", "PATH"],
        &["--disk", "PATH"],
        &["--disk", "PATH,readonly=on,format=raw"],
        &["--disk", "PATH,media=dvd"],
        &["--net", "none,pcap=PATH"],
        &["--console", "file:PATH"],
        &["--console", "unix:PATH"],
        &["--console-at-end", "PATH"],
        &["--trace", "vmbus=PATH"],
        &["--report", "PATH"],
        &["--vsock", "PATH"],
        &["--control", "PATH", "--console", "none"],
        &["--config", "PATH"],
        &["--display", "vnc=unix:PATH"],
        &["--display", &password],
        &["--display", &tls],
        &["--screenshot-at-end", "PATH", "--display", "on"],
    ];
    for Bad { path, remedy } in bad_paths(folder) {
        for option in options {
            // A socket does not follow a link in its place: the path is taken.
            let is_socket = option[1].contains("unix:PATH") || ["--vsock", "--control"].contains(&option[0]);
            let path = if is_socket && path.ends_with("/loop") { format!("{path}/below") } else { path.clone() };
            let arguments = option.iter().map(|argument| argument.replace("PATH", &path)).collect::<Vec<_>>();
            let arguments: Vec<_> = ["run"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
            refused(&arguments, &[option[0], remedy, &path]);
        }
        refused(&["up", &path], &[remedy, &path]);
    }
}

#[test]
fn a_program_that_runs_is_neither_a_disk_nor_an_output() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    fs::copy("/bin/sleep", &path).unwrap();
    let _running = Killed(Command::new(&path).arg("1000").spawn().unwrap());
    let path = path.to_str().unwrap();
    refused(&["run", "--disk", path], &["--disk", "a program runs from this file"]);
    refused(&["run", "--console", &format!("file:{path}")], &["--console", "a program runs from this file"]);
    assert_eq!(fs::metadata(path).unwrap().len(), fs::metadata("/bin/sleep").unwrap().len());
}

#[test]
fn a_path_with_a_nul_is_an_error_of_the_settings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vm.toml");
    for (setting, word) in [("disk", "--disk"), ("kernel", "--kernel"), ("initrd", "--initrd")] {
        fs::write(&path, format!("{setting} = \"a\\u0000b\"")).unwrap();
        refused(&["run", "--config", path.to_str().unwrap()], &[word, "NUL"]);
    }
}
