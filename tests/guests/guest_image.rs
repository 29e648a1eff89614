//! `scripts/guest-image`: guests that are built outside of this source tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use viridian::Builder;

use super::command::{Run, limit, run};
use crate::common::need::{Need, ready};

/// A guest with a header of its own, two files, and an assembly function. Its greeting contains a macro from the command line.
const MAIN: &str = r#"
#include "greet.h"
#include "runtime.h"
#include "session.h"

int main(void)
{
    print("%s, %lu\n", GREETING, twice(21));
    return session_is_possible() && session_begin() && session_end() ? 7 : EXIT_FAILED;
}
"#;

fn script() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/guest-image"))
}

/// Runs the script in this folder.
fn build(folder: &Path, arguments: &[&str]) -> Run {
    script().current_dir(folder).args(arguments).output().unwrap().into()
}

/// A folder with the guest of [`MAIN`] in `my guest/`.
fn guest() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let sources = folder.path().join("my guest");
    fs::create_dir(&sources).unwrap();
    fs::write(sources.join("main.c"), MAIN).unwrap();
    fs::write(sources.join("greet.h"), "unsigned long twice(unsigned long number);\n").unwrap();
    // This file has the same name as a file of the runtime.
    fs::write(sources.join("text.c"), "#include \"greet.h\"\nunsigned long half(void) { return twice(1) / 2; }\n")
        .unwrap();
    fs::write(sources.join("twice.S"), ".globl twice\ntwice: lea (%rdi, %rdi), %rax\nret\n").unwrap();
    (folder, sources)
}

#[test]
fn a_users_own_guest_image_is_built_outside_of_the_tree_and_runs() {
    if !ready(&[Need::Tool("cc")]) {
        return;
    }
    let (folder, _) = guest();
    let built = build(folder.path(), &["my guest", "-o", "my-guest.elf", "--", "-DGREETING=\"Hello from outside\""]);
    assert_eq!((built.code, built.errors.as_str()), (Some(0), ""), "{built:?}");
    let image = folder.path().join("my-guest.elf");
    let run = run(&format!("run --timeout {} --net none --kernel {}", limit(60), image.display()));
    assert_eq!(run.code, Some(7), "{run:?}");
    assert!(run.output.contains("Hello from outside, 42"), "{run:?}");
    let end = Builder::new().kernel(&image).start().unwrap().wait();
    assert_eq!(end.exit_code(), 7, "{end}");
}

#[test]
fn errors_in_a_users_own_guest_image_are_reported_with_a_remedy() {
    if !ready(&[Need::Tool("cc")]) {
        return;
    }
    let (folder, sources) = guest();
    let wrong = |arguments: &[&str], code: i32, words: &[&str]| {
        let run = build(folder.path(), arguments);
        assert_eq!(run.code, Some(code), "{arguments:?}: {run:?}");
        words.iter().for_each(|word| assert!(run.errors.contains(word), "{arguments:?}: {run:?}"));
    };
    fs::create_dir(folder.path().join("empty")).unwrap();
    wrong(&[], 2, &["-o IMAGE is missing", "Usage: scripts/guest-image"]);
    wrong(&["-o", "x"], 2, &["name the folder of your guest"]);
    wrong(&["nowhere", "-o", "x"], 2, &["there is no file or folder nowhere"]);
    wrong(&["empty", "-o", "x"], 2, &["empty has no C files"]);
    wrong(&["my guest/greet.h", "-o", "x"], 2, &["greet.h is neither a folder nor a C file"]);
    wrong(&["my guest", "-o", "x", "-DA"], 2, &["there is no option -DA", "after --"]);
    wrong(&["my guest", "-o", "nowhere/x"], 1, &["nowhere, which is no folder"]);
    wrong(&["my guest", "-o", "empty"], 1, &["empty is a folder; name a file"]);
    // A message of the compiler itself.
    wrong(&["my guest", "-o", "x"], 1, &["main.c:", "GREETING", "the C compiler refuses"]);
    fs::remove_file(sources.join("main.c")).unwrap();
    wrong(&["my guest", "-o", "x"], 1, &["starts with `int main(void)`"]);
    let run: Run =
        script().args(["empty", "my guest/text.c", "-o", "x"]).current_dir(folder.path()).output().unwrap().into();
    assert_eq!(run.code, Some(2));
    let run: Run = script()
        .args(["my guest", "-o", "x"])
        .env("CC", "no-such-compiler")
        .current_dir(folder.path())
        .output()
        .unwrap()
        .into();
    assert!(run.code == Some(1) && run.errors.contains("name one in the environment variable CC"), "{run:?}");
    assert!(!folder.path().join("x").exists());
}
