//! The documentation names only tests that exist.

use std::collections::BTreeSet;

use super::source::Source;

/// The page whose tables have a test in each row.
const HOSTILE: &str = "docs/hostile.md";

/// Returns the names of the tests in the last column of the tables of a page, and the rows without any.
fn named_tests(page: &str) -> (BTreeSet<&str>, Vec<&str>) {
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let is_header = |row: &str| row.ends_with("| test |");
    let (mut names, mut without) = (BTreeSet::new(), Vec::new());
    for row in rows.filter(|row| !is_header(row)) {
        let last = row.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap_or_default();
        let found: Vec<_> = last.split('`').skip(1).step_by(2).collect();
        if found.is_empty() {
            without.push(row);
        }
        names.extend(found);
    }
    (names, without)
}

/// Returns the names of functions that are tests.
fn tests<'a>(sources: impl Iterator<Item = &'a Source>) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    for source in sources {
        for (at, _) in source.code.match_indices("#[test]") {
            let name = source.code[at..].split_once("fn ").and_then(|(_, rest)| rest.split(['(', '<']).next());
            found.extend(name);
        }
    }
    found
}

#[test]
fn each_row_about_what_is_hostile_names_tests_that_exist() {
    let page = std::fs::read_to_string(crate::root().join(HOSTILE)).unwrap();
    let (names, without) = named_tests(&page);
    assert!(names.len() > 20, "{HOSTILE}: {names:?}");
    assert!(without.is_empty(), "{HOSTILE}: rows without a test: {without:#?}");
    let known = tests(crate::SOURCES.iter());
    let missing: Vec<_> = names.difference(&known).collect();
    assert!(missing.is_empty(), "{HOSTILE} names tests that do not exist: {missing:#?}");
}

#[test]
fn rows_without_a_test_and_names_of_other_functions_are_found() {
    let page =
        "| a | b | test |\n| --- | --- | --- |\n| x `no` | y | `one`, *`two`* |\n| z | `w` | nothing |\ntext `three`\n";
    let (names, without) = named_tests(page);
    assert_eq!((names.into_iter().collect::<Vec<_>>(), without), (vec!["one", "two"], vec!["| z | `w` | nothing |"]));
    let source = Source::new(
        "a.rs",
        "#[test]\n#[ignore]\nfn one() {}\nfn other() {}\n#[test] fn two(x: u8) {} // #[test] fn three()",
    );
    assert_eq!(tests([source].iter()).into_iter().collect::<Vec<_>>(), ["one", "two"]);
}
