//! The targets of `fuzz/` build and accept inputs. libFuzzer is no dependency of this package: a macro here stands for its own, so each
//! target is called with a few inputs instead of many.

// Targets name the crate of libFuzzer.
extern crate self as libfuzzer_sys;

use std::fs;
use std::path::Path;

/// Makes the function that libFuzzer would call.
#[macro_export]
macro_rules! fuzz_target {
    (|$bytes:ident: &[u8]| $body:expr) => {
        pub fn fuzz($bytes: &[u8]) {
            $body
        }
    };
}

// `#![no_main]` is for the program.
#[allow(unused_attributes)]
#[path = "../fuzz/fuzz_targets/vnc_viewer.rs"]
mod vnc_viewer;

/// A target's name, and what it does with an input.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 1] = [("vnc_viewer", vnc_viewer::fuzz)];

#[test]
fn each_target_accepts_a_few_inputs() {
    let all: Vec<u8> = (0..=255).collect();
    let inputs: [&[u8]; 5] = [&[], &[0], &[0xff; 300], &all, &all[1..]];
    for (_, fuzz) in TARGETS {
        inputs.into_iter().for_each(fuzz);
    }
}

#[test]
fn each_target_is_known_here_and_to_cargo_and_documented() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let read = |name| fs::read_to_string(folder.join(name)).unwrap();
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let binaries = manifest["bin"].as_array().unwrap();
    let mut built: Vec<_> = binaries.iter().map(|binary| binary["name"].as_str().unwrap().to_owned()).collect();
    let files = fs::read_dir(folder.join("fuzz_targets")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let mut here: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    for names in [&mut built, &mut files, &mut here] {
        names.sort();
    }
    assert_eq!(built, files, "fuzz/Cargo.toml has a [[bin]] for each file");
    assert_eq!(here, files, "this test has each file");
    let page = read("README.md");
    let unknown: Vec<_> = files.iter().filter(|name| !page.contains(&format!("| `{name}` |"))).collect();
    assert!(unknown.is_empty(), "fuzz/README.md has no row for {unknown:?}");
}
