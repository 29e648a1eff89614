//! Rules about the content of a file.

use std::collections::BTreeMap;

use crate::modules::{Module, Tree};
use crate::source::{Source, tokens};

/// Files that may contain `unsafe`, in addition to those in [`UNSAFE_FOLDERS`].
const UNSAFE_FILES: [&str; 8] = [
    // Standard descriptors that were closed when the program was started.
    "src/cli/closed.rs",
    // Descriptors that systemd passes to the service.
    "src/cli/serve/inherited.rs",
    // Requests to the kernel that point to buffers.
    "src/block/ring.rs",
    "src/block/vectored.rs",
    "src/block/qcow2/guard.rs",
    // ioctls of taps.
    "src/net/tap/ioctl.rs",
    "src/net/tap/tests.rs",
    // An allocator that counts allocated bytes.
    "tests/leaves_nothing.rs",
];

/// Folders that may contain `unsafe`. The `mod.rs` of each says so.
const UNSAFE_FOLDERS: [&str; 3] = ["src/host/", "src/kvm/", "src/memory/"];

/// Public modules of the library. `internals` is hidden: it is for the package's own tests and benches.
const PUBLIC: [&str; 10] =
    ["config", "control", "fleet", "hyperv", "internals", "machine", "platform", "process", "vmbus", "vsp"];

/// Maximum number of lines of a file.
const MAX_LINES: usize = 500;

/// Files with more lines, and their number of lines.
const LONGER: [(&str, usize); 0] = [];

/// Maximum width of a line of code: `max_width` in `rustfmt.toml`. The formatter does not change lines that it cannot break.
const MAX_WIDTH: usize = 120;

/// Modules in which a guest, a peer or an image can cause a log line.
const REACHED_BY_GUESTS: [&str; 10] =
    ["block", "boot", "console", "engine", "hyperv", "kvm", "net", "platform", "vmbus", "vsp"];

/// Log lines without a rate limit in those modules, and the reason why no guest can repeat them.
const UNLIMITED: [(&str, usize, &str); 8] = [
    ("src/block/file.rs", 1, "once for each disk"),
    ("src/block/lock.rs", 1, "once for each disk, when it is opened"),
    ("src/block/qcow2/guard.rs", 1, "the disk takes no more requests after it"),
    ("src/block/qcow2/mod.rs", 1, "when the disk is closed"),
    ("src/engine/alarm.rs", 1, "when the machine ends"),
    ("src/kvm/timer.rs", 1, "when a VP's thread starts"),
    ("src/vmbus/bus/mod.rs", 1, "when the machine ends"),
    ("src/block/queue.rs", 1, "once for the process"),
];

/// Calls that panic.
const PANICS: [&str; 7] = ["unwrap", "expect", "unwrap_err", "expect_err", "panic", "todo", "unimplemented"];

/// Such calls in production code, and the reason why no guest, file or peer can cause the panic.
const ALLOWED_PANICS: [(&str, usize, &str); 4] = [
    ("src/net/user/link.rs", 1, "a constant: the compiler evaluates it"),
    ("src/platform/mod.rs", 2, "the ranges are constants, and a test attaches them"),
    ("src/vmbus/ring/mod.rs", 5, "offsets are reduced modulo the size of the ring, which is fixed when it is made"),
    ("src/vsp/video/testing.rs", 2, "helpers of tests, which the fuzzer of VNC uses too"),
];

/// Returns the files that contain `unsafe` and are not in the list.
fn unsafe_elsewhere<'a>(sources: impl Iterator<Item = &'a Source>) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        let is_room = UNSAFE_FOLDERS.iter().any(|folder| source.name().starts_with(folder));
        if is_room || UNSAFE_FILES.contains(&source.name()) {
            continue;
        }
        let mut tokens = tokens(&source.code).into_iter();
        if let Some((offset, token)) = tokens.find(|(_, token)| matches!(*token, "unsafe" | "unsafe_code")) {
            found.push(format!("{}:{}: {token}", source.name(), source.line(offset)));
        }
    }
    found
}

/// Returns the `unsafe` blocks and implementations without a comment about their soundness.
fn unsafe_without_reason(source: &Source) -> Vec<String> {
    let lines: Vec<_> = source.text.lines().collect();
    let tokens = tokens(&source.code);
    let mut found = Vec::new();
    for pair in tokens.windows(2).filter(|pair| pair[0].1 == "unsafe" && matches!(pair[1].1, "{" | "impl")) {
        let line = source.line(pair[0].0);
        // The comment is above the statement, which may begin some lines before the block.
        let above = lines[..line - 1].iter().rev().map(|line| line.trim());
        let begun = |line: &&str| !line.starts_with("//") && !line.ends_with([';', '{', '}', ',']);
        let comment = above.skip_while(begun).take_while(|line| line.starts_with("//") || line.starts_with("#["));
        let own = lines[line - 1];
        if !own.contains("// SAFETY:") && !comment.into_iter().any(|line| line.starts_with("// SAFETY:")) {
            found.push(format!("{}:{line}", source.name()));
        }
    }
    found
}

/// Returns the modules that the root of the library declares as `pub`.
fn public_modules(root: &Source) -> Vec<&str> {
    let tokens = tokens(&root.production);
    let public = tokens.windows(3).filter(|tokens| tokens[0].1 == "pub" && tokens[1].1 == "mod");
    let mut names: Vec<_> = public.map(|tokens| tokens[2].1).collect();
    names.sort_unstable();
    names
}

/// Returns the files that are too long, and exceptions that are no longer needed.
fn too_long<'a>(sources: impl Iterator<Item = &'a Source>, longer: &[(&str, usize)]) -> Vec<String> {
    let counted = sources.map(|source| (source.name().to_owned(), source.text.lines().count()));
    let long: BTreeMap<_, _> = counted.filter(|(_, lines)| *lines > MAX_LINES).collect();
    differences(&long, longer.iter().map(|(name, lines)| (*name, *lines)), "lines")
}

/// Returns the lines that are too wide, even without their comments and the contents of their literals.
/// Tests are exempt, because a table of examples is easier to read with one example per line.
fn too_wide(source: &Source) -> Vec<String> {
    let width = |(text, line): (&str, &str)| {
        let indentation = text.len() - text.trim_start().len();
        line.split_whitespace().map(|part| part.len() + 1).sum::<usize>() + indentation
    };
    let lines = source.text.lines().zip(source.production.lines());
    let wide = lines.enumerate().filter(|(_, line)| width(*line) > MAX_WIDTH + 1);
    wide.map(|(number, _)| format!("{}:{}", source.name(), number + 1)).collect()
}

/// Counts the matches of `matches` in the production code of each module. It gets three tokens at a time.
fn count<'a>(
    modules: impl Iterator<Item = &'a Module>,
    matches: impl Fn([&str; 3]) -> bool,
) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for module in modules {
        let tokens = tokens(&module.source.production);
        let count = tokens.windows(3).filter(|three| matches([three[0].1, three[1].1, three[2].1])).count();
        if count > 0 {
            counts.insert(module.source.name().to_owned(), count);
        }
    }
    counts
}

fn unlimited_lines(tree: &Tree) -> BTreeMap<String, usize> {
    let reached = |module: &&Module| module.path.first().is_some_and(|name| REACHED_BY_GUESTS.contains(&name.as_str()));
    let is_line = |three: [&str; 3]| three[..2] == ["log", "::"] && matches!(three[2], "warn" | "error" | "info");
    count(tree.production().filter(reached), is_line)
}

fn panics(tree: &Tree) -> BTreeMap<String, usize> {
    let is_call = |name: &str, next: &str| PANICS.contains(&name) && matches!(next, "(" | "!");
    count(tree.production(), |three| (matches!(three[0], "." | "::") || three[2] == "!") && is_call(three[1], three[2]))
}

/// Returns the differences between what was found and what is allowed.
fn differences<'a>(
    found: &BTreeMap<String, usize>,
    allowed: impl Iterator<Item = (&'a str, usize)>,
    unit: &str,
) -> Vec<String> {
    let allowed: BTreeMap<_, _> = allowed.collect();
    let names = found.keys().map(String::as_str).chain(allowed.keys().copied());
    let names: std::collections::BTreeSet<_> = names.collect();
    let counts = names.into_iter().map(|name| {
        (name, found.get(name).copied().unwrap_or_default(), allowed.get(name).copied().unwrap_or_default())
    });
    let different = counts.filter(|(_, found, allowed)| found != allowed);
    different.map(|(name, found, allowed)| format!("{name}: {found} {unit}, the list has {allowed}")).collect()
}

fn none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn every_file_belongs_to_a_module() {
    let known: Vec<_> = crate::TREE.modules.values().map(|module| &module.source.path).collect();
    let strays =
        crate::SOURCES.iter().filter(|source| source.path.starts_with("src") && !known.contains(&&source.path));
    none(&strays.map(|source| source.name().to_owned()).collect::<Vec<_>>(), "no `mod` declares these files");
}

#[test]
fn unsafe_code_is_only_in_the_listed_files() {
    none(&unsafe_elsewhere(crate::SOURCES.iter()), "`unsafe` belongs into host/, kvm/ and memory/");
    for file in UNSAFE_FILES {
        let source = crate::SOURCES.iter().find(|source| source.name() == file);
        assert!(source.is_some_and(|source| source.code.contains("unsafe")), "{file} has no unsafe code any more");
    }
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let found: Vec<_> = crate::SOURCES.iter().flat_map(unsafe_without_reason).collect();
    none(&found, "`unsafe` without `// SAFETY:`");
}

#[test]
fn the_public_modules_are_those_of_the_list() {
    assert_eq!(public_modules(&crate::TREE.modules[&Vec::new()].source), PUBLIC);
}

#[test]
fn no_file_exceeds_the_maximum_number_of_lines() {
    none(&too_long(crate::SOURCES.iter(), &LONGER), &format!("a file has at most {MAX_LINES} lines"));
}

#[test]
fn no_line_of_production_code_exceeds_the_formatters_width() {
    let settings = std::fs::read_to_string(crate::root().join("rustfmt.toml")).unwrap();
    assert!(settings.contains(&format!("max_width = {MAX_WIDTH}\n")), "{settings}");
    none(
        &crate::TREE.production().flat_map(|module| too_wide(&module.source)).collect::<Vec<_>>(),
        "the formatter gives up on these lines",
    );
}

#[test]
fn messages_that_a_guest_can_cause_are_logged_with_a_rate_limit() {
    let allowed = UNLIMITED.iter().map(|(name, count, _)| (*name, *count));
    let found = differences(&unlimited_lines(&crate::TREE), allowed, "log lines without a limit");
    none(&found, "use `limited::warn!`, or add to the list why a guest cannot repeat the line");
}

#[test]
fn locks_are_those_of_the_host_floor() {
    let elsewhere = |module: &&Module| module.source.name() != "src/host/lock.rs";
    let found = count(crate::TREE.production().filter(elsewhere), |three| three[0] == "PoisonError");
    none(&differences(&found, [].into_iter(), "locks that can fail"), "use those of `crate::host::lock`");
}

#[test]
fn production_code_does_not_panic() {
    let allowed = ALLOWED_PANICS.iter().map(|(name, count, _)| (*name, *count));
    none(
        &differences(&panics(&crate::TREE), allowed, "calls that panic"),
        "return an error, or add to the list why not",
    );
}

#[test]
fn unsafe_code_in_another_place_is_found() {
    let source = |path: &str| Source::new(path, "// unsafe\n\nfn f() { unsafe { g() } }");
    let sources = ["src/vsp/a.rs", "src/kvm/b.rs", "src/kvmlike.rs", "src/block/ring.rs"].map(source);
    assert_eq!(unsafe_elsewhere(sources.iter()), ["src/vsp/a.rs:3: unsafe", "src/kvmlike.rs:3: unsafe"]);
    let allowing = Source::new("src/vsp/a.rs", "#![allow(unsafe_code)]");
    assert_eq!(unsafe_elsewhere([allowing].iter()), ["src/vsp/a.rs:1: unsafe_code"]);
}

#[test]
fn an_unsafe_block_without_a_reason_is_found() {
    let reasons = "fn f() {\n    // SAFETY: it is.\n    let a =\n        unsafe { g() };\n    // SAFETY: too\n    // long.\n    #[allow(x)]\n    unsafe { h() }\n}";
    assert_eq!(unsafe_without_reason(&Source::new("a.rs", reasons)), Vec::<String>::new());
    let none = "// SAFETY: of another.\nfn a() {}\n\nunsafe impl Send for X {}\nfn f() {\n    // Reads.\n    unsafe { g() }\n}\nunsafe fn h() {}";
    assert_eq!(unsafe_without_reason(&Source::new("a.rs", none)), ["a.rs:4", "a.rs:7"]);
}

#[test]
fn public_modules_are_recognised() {
    let root = Source::new("src/lib.rs", "mod a;\npub mod c;\npub(crate) mod d;\n#[cfg(test)]\npub mod e;\npub mod b;");
    assert_eq!(public_modules(&root), ["b", "c"]);
}

#[test]
fn long_files_and_wide_lines_are_found() {
    let files = [Source::new("a.rs", "\n".repeat(501)), Source::new("b.rs", "\n".repeat(500))];
    assert_eq!(too_long(files.iter(), &[]), ["a.rs: 501 lines, the list has 0"]);
    assert_eq!(
        too_long(files.iter(), &[("b.rs", 502)]),
        ["a.rs: 501 lines, the list has 0", "b.rs: 0 lines, the list has 502"]
    );
    let wide = format!("{};\n// {}\nlet a = \"{}\";\n", "f() + ".repeat(20) + "g()", "x".repeat(130), "y".repeat(130));
    assert_eq!(too_wide(&Source::new("a.rs", wide)), ["a.rs:1"]);
}

#[test]
fn log_lines_without_a_limit_are_counted_where_guests_reach() {
    let text =
        "fn f() { log::warn!(\"\"); log::debug!(\"\"); limited::warn!(\"\"); crate::host::limited::info!(\"\") }";
    let tree = Tree::of(&[("src/lib.rs", "mod vsp; mod fleet;"), ("src/vsp.rs", text), ("src/fleet.rs", text)]);
    assert_eq!(unlimited_lines(&tree), BTreeMap::from([("src/vsp.rs".to_owned(), 1)]));
}

#[test]
fn calls_that_panic_are_counted_in_production_code() {
    let text = "fn f() { a.unwrap(); b.unwrap_or(0); Option::expect(c, \"\"); panic!(\"x\"); // .unwrap()\n self.expect = 1 }\n#[cfg(test)]\nmod tests { fn g() { a.unwrap() } }";
    let tree = Tree::of(&[("src/lib.rs", "mod a; #[cfg(test)] mod b;"), ("src/a.rs", text), ("src/b.rs", text)]);
    assert_eq!(panics(&tree), BTreeMap::from([("src/a.rs".to_owned(), 3)]));
}
