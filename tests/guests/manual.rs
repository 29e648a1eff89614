//! Completions and man pages.

use std::process::Command;

use super::command::{run, run_with};

#[test]
fn bash_completes_commands_and_options() {
    let run = run("completion bash");
    assert_eq!(run.code, Some(0), "{run:?}");
    let folder = tempfile::tempdir().unwrap();
    let completes = |words: &[&str]| {
        let (last, before) = words.split_last().unwrap();
        let script = format!(
            "{}\nCOMP_WORDS=({}) COMP_CWORD={}; _viridian viridian {last} {}; echo \"${{COMPREPLY[@]}}\"",
            run.output,
            words.join(" "),
            before.len(),
            before.last().unwrap()
        );
        // It is too long for an argument.
        let file = folder.path().join("script");
        std::fs::write(&file, script).unwrap();
        let done = Command::new("bash").arg("--norc").arg(file).output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
        String::from_utf8(done.stdout).unwrap().trim_end().to_owned()
    };
    assert_eq!(completes(&["viridian", "screen"]), "screenshot");
    assert_eq!(completes(&["viridian", "run", "--screenshot"]), "--screenshot-at-end");
}

#[test]
fn every_shell_has_a_script_and_others_are_named() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = run_with(["completion", shell]);
        assert!(run.code == Some(0) && run.output.contains("screenshot"), "{shell}: {run:?}");
    }
    let run = run("completion tcsh");
    assert!(run.code == Some(2) && run.errors.contains("bash"), "{run:?}");
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    let run = run_with(["man".as_ref(), pages.as_os_str()]);
    assert_eq!(run.code, Some(0), "{run:?}");
    for (page, words) in [
        ("viridian.1", "viridian\\-screenshot(1)"),
        ("viridian-run.1", "\\-\\-kernel"),
        ("viridian-disk-attach.1", "NAME"),
    ] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.contains(words), "{page}: {text}");
    }
    let run = run_with(["man", "/dev/null/man1"]);
    assert!(run.code == Some(125) && run.errors.contains("/dev/null/man1"), "{run:?}");
}
