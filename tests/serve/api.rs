//! The API of `viridian serve`, tested against its own description.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::need::{Need, ready};

#[test]
fn requests_that_schemathesis_makes_from_the_description_are_answered_as_it_says() {
    if !ready(&[Need::Kvm, Need::Tool("python3"), Need::Tool("pip3")]) {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/check-api");
    let program = env!("CARGO_BIN_EXE_viridian");
    // A few examples of each operation, always the same ones.
    let done = Command::new(script).args(["--quick", program]).stdin(Stdio::null()).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{}: {}", done.status, String::from_utf8_lossy(&said));
}
