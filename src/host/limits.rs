//! Limits of the host, as the errors of a machine name them.
//!
//! Descriptors, threads and memory are needed in many places, and some of their errors are only text by the time that they are
//! reported. So a limit is recognized by the number of the error, which is in the text of each error of the host.

/// The errors of limits, by the end of their text, with remedies.
const REMEDIES: [(&str, &str); 4] = [
    ("(os error 24)", "raise the limit on open files of the process: ulimit -n"),
    ("(os error 23)", "the host has as many open files as it can: raise it with sysctl fs.file-max"),
    (
        "(os error 11)",
        "raise the limits on threads (ulimit -u, the host's kernel.threads-max, or pids.max of the cgroup) and on memory (ulimit -v)",
    ),
    (
        "(os error 12)",
        "the host has too little memory, or a limit is too low: ulimit -v, ulimit -l, or memory.max of the cgroup",
    ),
];

/// Returns the remedy, to be appended to the text of an error, if the error is that of a limit of the host. Otherwise, and if the
/// text has a remedy for a limit already, returns an empty string.
pub fn remedy(text: &str) -> String {
    let has_one = |remedy: &str| text.contains("ulimit") || text.contains(remedy);
    let found = REMEDIES.iter().find(|(error, _)| text.contains(error));
    found.filter(|(_, remedy)| !has_one(remedy)).map_or(String::new(), |(_, remedy)| format!("; {remedy}"))
}

/// Returns `true` if the text of an error is that of a limit of the host.
pub fn is_reached(text: &str) -> bool {
    REMEDIES.iter().any(|(error, _)| text.contains(error))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_error_of_a_limit_gets_its_remedy_once() {
        for (number, named) in [
            (libc::EMFILE, "ulimit -n"),
            (libc::ENFILE, "fs.file-max"),
            (libc::EAGAIN, "ulimit -u"),
            (libc::ENOMEM, "ulimit -v"),
        ] {
            let text = format!("cannot start: {}", io::Error::from_raw_os_error(number));
            let whole = format!("{text}{}", remedy(&text));
            assert!(is_reached(&text) && whole.contains(named), "{whole}");
            assert_eq!(remedy(&whole), "");
        }
        let text = format!("cannot open it: {}; raise ulimit -n", io::Error::from_raw_os_error(libc::EMFILE));
        assert_eq!(remedy(&text), "");
        let other = io::Error::from_raw_os_error(libc::ENOENT).to_string();
        assert!(!is_reached(&other) && remedy(&other).is_empty());
    }
}
