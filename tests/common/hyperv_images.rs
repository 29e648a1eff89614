//! Expected output of the checks in the Hyper-V images.

/// Returns the checks that failed according to an image's output. An image without a summary line has failed as well.
pub fn failures(output: &str) -> Vec<String> {
    let mut failures: Vec<String> =
        output.lines().filter(|line| line.starts_with("not ok ")).map(ToOwned::to_owned).collect();
    if passed(output).is_none() {
        failures.push("the image did not print its summary line".to_owned());
    }
    failures
}

/// Returns the number of passed checks from an image's summary line, or `None` if there is none.
pub fn passed(output: &str) -> Option<u32> {
    output.lines().find_map(|line| line.strip_suffix(" failed")?.split_once(" passed, ")?.0.parse().ok())
}
