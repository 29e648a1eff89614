//! Expected output of the checks in the Hyper-V images.

/// The checks that failed in an image's output. An image that did not come to its end has failed as well.
pub fn failures(output: &str) -> Vec<String> {
    let mut failures: Vec<String> =
        output.lines().filter(|line| line.starts_with("not ok ")).map(ToOwned::to_owned).collect();
    if passed(output).is_none() {
        failures.push("the image did not come to its end".to_owned());
    }
    failures
}

/// How many checks an image counts as passed, if it came to its end.
pub fn passed(output: &str) -> Option<u32> {
    output.lines().find_map(|line| line.strip_suffix(" failed")?.split_once(" passed, ")?.0.parse().ok())
}
