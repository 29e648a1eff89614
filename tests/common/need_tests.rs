//! The tests of `need.rs`. They run with the unit tests, and so once instead of in each test binary.

use crate::need::*;

#[test]
fn reasons_name_a_known_requirement() {
    let read = parse("qemu-img: no package: here; nested host: no QEMU;").unwrap();
    let wanted = [("qemu-img", "no package: here"), ("nested host", "no QEMU")];
    assert_eq!(read, wanted.map(|(name, reason)| (name.to_owned(), reason.to_owned())));
    assert_eq!(parse(" ; "), Ok(vec![]));
    for mistake in ["qemuimg: no package", "qemu-img", "qemu-img:", ": no name"] {
        assert_eq!(parse(mistake), Err(Mistake(mistake.to_owned())));
    }
    let text = Mistake("qemuimg: none".into()).to_string();
    assert!(text.contains("qemu-img, ") && text.contains("nested host"), "{text}");
}

#[test]
fn the_error_for_a_missing_requirement_says_how_to_provide_it() {
    assert!(path_of("sh").is_some() && path_of("no-such-program").is_none());
    assert!(path_of("/etc/passwd").is_some() && path_of("/etc/no-such-file").is_none());
    assert!(tools().all(|(program, package)| !program.is_empty() && !package.is_empty()));
    assert!(std::panic::catch_unwind(|| Need::Tool("no-such-program").missing()).is_err(), "it is not on the list");
}
