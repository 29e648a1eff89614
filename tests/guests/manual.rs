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
fn bash_completes_the_names_of_machines_of_the_host_that_is_meant() {
    let script = run("completion bash").output;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // Another program of the name says what it was asked.
    let program = "#!/bin/sh\nprintf '%s\\n' \"$*\" >>\"$0.asked\"; printf 'web\\nweb-2\\nshop\\n$(touch owned)\\n'\n";
    std::fs::write(path("viridian"), program).unwrap();
    std::fs::set_permissions(path("viridian"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let completes = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        let (last, before) = words.split_last().unwrap();
        let quoted: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
        let text = format!(
            "{script}\nCOMP_LINE='{line}' COMP_POINT={}\nCOMP_WORDS=({}) COMP_CWORD={}\n\
             _viridian_with_machines viridian '{last}' '{}'; echo \"${{COMPREPLY[@]}}\"",
            line.len(),
            quoted.join(" "),
            before.len(),
            before.last().unwrap()
        );
        std::fs::write(path("script"), text).unwrap();
        let search = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        let done = command.arg("--norc").arg(path("script")).env("PATH", search).current_dir(&folder).output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
        String::from_utf8(done.stdout).unwrap().trim_end().to_owned()
    };
    assert_eq!(completes("viridian stop w"), "web web-2");
    assert_eq!(completes("viridian --host https://b:1 console sh"), "shop");
    assert!(completes("viridian stop --no-f").contains("--no-force"));
    assert_eq!(completes("viridian console x"), "");
    completes("viridian stop ");
    assert!(!path("owned").exists(), "a name is no command");
    let asked = std::fs::read_to_string(path("viridian.asked")).unwrap();
    assert!(asked.starts_with("names\nnames --host https://b:1\n"), "{asked}");
    let zsh = run("completion zsh").output;
    assert!(zsh.contains(
        "'*::names -- Names of machines, as viridian list prints them, several with commas, patterns such as '\\''web*'\\'', or \
         paths of control sockets:_viridian_machines'"
    ));
    assert!(zsh.starts_with("#compdef viridian\n\n_viridian_machines() {"));
    assert!(run("completion fish").output.contains("__fish_viridian_using_subcommand exec list inspect stop pause"));
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
    assert!(run.code == Some(2) && run.errors.contains("/dev/null/man1"), "{run:?}");
}
