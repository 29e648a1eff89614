//! The dependencies of the library without the program.

use std::collections::BTreeSet;
use std::process::Command;

/// The packages that a dependent gets with these features of the crate.
fn packages(features: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = Command::new(cargo)
        .args(["tree", "--offline", "--locked", "-e", "normal", "--prefix", "none", "--format", "{p}"])
        .args(features)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let lines = String::from_utf8(tree.stdout).unwrap();
    lines.lines().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty()).map(String::from).collect()
}

#[test]
fn the_library_builds_without_the_dependencies_of_the_program() {
    let of_the_program =
        ["anyhow", "clap", "clap_builder", "clap_complete", "clap_derive", "clap_mangen", "ring", "rustls"];
    let (library, program) = (packages(&["--no-default-features"]), packages(&[]));
    for name in of_the_program {
        assert!(program.contains(name), "the program does not use {name} any more: {program:?}");
        assert!(!library.contains(name), "{name} comes with the library: {library:?}");
    }
    assert!(library.contains("kvm-ioctls"), "{library:?}");
}
