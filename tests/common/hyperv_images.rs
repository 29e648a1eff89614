//! Checks of the Hyper-V images that fail today, by how their names begin, each with what is wrong.
//!
//! A check that is listed may fail; any other may not. Whoever mends one of these takes it off the list.

/// What the engines still do wrong.
const KNOWN: &[(&str, &str)] = &[
    // The user engine sends what is written to ICR, and does not keep it.
    ("user", "ICR reads as written"),
    // A refused value is INVALID_PARAMETER on the user engine, and taken by the kernel engine: it writes with the host's right.
    ("user", "a SINT's bad vector is refused"),
    ("kernel", "a SINT's bad vector is refused"),
    ("kernel", "the SINT has not changed"),
    ("kernel", "SVERSION cannot be written"),
    ("kernel", "VP_INDEX cannot be written"),
    ("kernel", "TIME_REF_COUNT cannot be written"),
    // The kernel engine takes none of the registers that it keeps itself.
    ("kernel", "CRASH_P"),
    ("kernel", "the MSR has the value"),
    ("kernel", "as it was written"),
    ("kernel", "neither has changed the register"),
    ("kernel", "five registers can be written at once"),
    // A doorbell that nobody hears is answered whoever rings it.
    ("user", "the doorbell of nobody, rung from a ring 3"),
    ("kernel", "the doorbell of nobody, rung from a ring 3"),
    // With KVM_CAP_HYPERV_SYNIC2 KVM leaves it to user space to clear the pages, and takes any address.
    ("kernel", "SIMP: KVM zeroes"),
    ("kernel", "SIEFP: KVM zeroes"),
    ("kernel", "SIMP cannot lie"),
    ("kernel", "SIEFP cannot lie"),
    ("kernel", "SIMP did not move"),
    ("kernel", "SIEFP did not move"),
    ("kernel", "one of them is seen"),
    ("kernel", "the other is still there"),
];

/// The checks that failed in an image's output and should not have. An image that did not come to its end has failed as well.
pub fn failures(engine: &str, output: &str) -> Vec<String> {
    let mut failures: Vec<String> = output
        .lines()
        .filter_map(|line| Some((line, line.strip_prefix("not ok ")?.split_once(" - ")?.1)))
        .filter(|(_, name)| !KNOWN.iter().any(|(on, known)| *on == engine && name.starts_with(known)))
        .map(|(line, _)| line.to_owned())
        .collect();
    if passed(output).is_none() {
        failures.push("the image did not come to its end".to_owned());
    }
    failures
}

/// How many checks an image counts as passed, if it came to its end.
pub fn passed(output: &str) -> Option<u32> {
    output.lines().find_map(|line| line.strip_suffix(" failed")?.split_once(" passed, ")?.0.parse().ok())
}
