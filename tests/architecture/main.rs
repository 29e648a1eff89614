//! The rules of the architecture. Each has a test of its own, whose failure has a remedy. A second test for each rule checks
//! that the rule finds violations.

mod code;
mod documents;
mod exit_code;
mod floors;
mod modules;
mod packages;
mod source;

use std::path::Path;
use std::sync::LazyLock;

use modules::Tree;
use source::{Source, files_below};

/// The modules of the library and the program.
static TREE: LazyLock<Tree> = LazyLock::new(|| Tree::read(root()));

/// All Rust files of the repository.
static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let files = ["benches", "src", "tests"].into_iter().flat_map(|folder| files_below(root(), folder));
    files.map(|file| Source::read(root(), &file)).collect()
});

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
