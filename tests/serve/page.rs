//! The page of `viridian serve`, used in a browser.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::need::{Need, ready};

#[test]
fn a_user_defines_starts_and_removes_machines_in_a_browser() {
    if !ready(&[Need::Kvm, Need::Tool("chromium"), Need::Tool("node"), Need::Tool("npm")]) {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/check-page");
    let done = Command::new(script).arg(env!("CARGO_BIN_EXE_viridian")).stdin(Stdio::null()).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{}: {}", done.status, String::from_utf8_lossy(&said));
}
