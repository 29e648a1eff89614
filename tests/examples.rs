//! Checks of all programs in `examples/` without running them. `tests/guests/examples.rs` runs them.

use std::fs;

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
