//! Several machines from one file: `viridian up`.

use std::fs;

use super::command::{Run, image, run_with};

/// Runs a lab in a folder of its own. `IMAGES/` in it stands for the folder of the guest images.
fn up(lab: &str) -> (Run, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lab.toml");
    let images = image("hello-pvh").parent().unwrap().to_str().unwrap().to_owned();
    fs::write(&path, lab.replace("IMAGES", &images)).unwrap();
    (run_with(["up", path.to_str().unwrap()]), folder)
}

#[track_caller]
fn refused(lab: &str, words: &[&str]) {
    let (run, _folder) = up(lab);
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(words.iter().all(|word| run.errors.contains(word)) && run.output.is_empty(), "{run:?}");
}

#[test]
fn consoles_have_their_partitions_names_and_a_table_says_how_each_ended() {
    let (run, folder) = up("[[partition]]\nname = 'second'\nafter = ['first']\nnet = 'switch=lab-test'\n\
         [[partition]]\nname = 'first'\nnet = 'switch=lab-test'\n\
         [[partition]]\nname = 'quiet'\nkernel = 'IMAGES/hello-pvh'\nconsole = 'file:quiet.log'");
    assert_eq!(run.code, Some(0), "{run:?}");
    for name in ["first", "second"] {
        assert!(run.output.contains(&format!("{name}: All is well; turning the machine off.\n")), "{run:?}");
        assert!(run.output.contains(&format!("{name}:     network      channel 2")), "{run:?}");
    }
    assert!(run.output.lines().all(|line| line.starts_with("first: ") || line.starts_with("second: ")), "{run:?}");
    assert!(fs::read_to_string(folder.path().join("quiet.log")).unwrap().contains("Hello"), "{run:?}");
    let mut table: Vec<_> = run.errors.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    table.sort_unstable();
    assert_eq!(table, ["first", "quiet", "second"], "{run:?}");
    assert_eq!(run.errors.matches(" s  the guest powered off\n").count(), 3, "{run:?}");
}

#[test]
fn the_code_is_that_of_the_first_that_fails_and_the_others_come_to_their_ends() {
    let (run, _folder) = up("[[partition]]\nname = 'bad'\nkernel = 'flat:IMAGES/flat32@0x100000,mode=32'\n\
         [[partition]]\nname = 'good'\n[[partition]]\nname = 'late'\nkernel = 'IMAGES/hostile'\n\
         cmdline = 'seconds=60'\ntimeout = 1.5");
    assert_eq!(run.code, Some(32), "{run:?}");
    assert!(run.output.contains("good: All is well"), "{run:?}");
    assert!(run.errors.contains("late") && run.errors.contains("the time ran out"), "{run:?}");
}

#[test]
fn a_partition_that_cannot_start_ends_those_that_run() {
    let (run, _folder) = up("[[partition]]\nname = 'runs'\nkernel = 'IMAGES/hostile'\ncmdline = 'seconds=60'\n\
         [[partition]]\nname = 'bad'\nkernel = 'nowhere'");
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.errors.contains("nowhere") && run.errors.contains("runs"), "{run:?}");
}

#[test]
fn labs_that_make_no_sense_are_refused_before_anything_starts() {
    refused(
        "[[partition]]\nname = 'a'\nafter = ['b']\n[[partition]]\nname = 'b'\nafter = ['a']",
        &["none would start: a, b"],
    );
    refused("[[partition]]\nname = 'a'\nafter = ['c']", &["lab.toml", "a is to start after c"]);
    refused("[[partition]]\nname = 'a'\nkernal = 'x'", &["did you mean `kernel`?"]);
    refused("this is no TOML", &["lab.toml"]);
    let run = run_with(["up", "/nowhere/lab.toml"]);
    assert_eq!(run.code, Some(2), "{run:?}");
}
