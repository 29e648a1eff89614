//! The rules that keep the house as it is. Each has a test of its own, which says what to do when it fails; beside each
//! stands a test that the rule finds what it forbids.

mod code;
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

/// Everything in Rust that is written here.
static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let files = ["benches", "src", "tests"].into_iter().flat_map(|folder| files_below(root(), folder));
    files.map(|file| Source::read(root(), &file)).collect()
});

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
