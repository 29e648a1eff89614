//! The number, the origin and the licences of the crate's dependencies.

use std::process::Command;

/// Maximum number of packages in the lock file, including our own. Each is code that users must trust and compile.
const MAX_PACKAGES: usize = 143;

/// Licences that require no more of users than our own.
const LICENCES: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Returns the names and sources of the packages in a lock file.
fn locked(lock: &str) -> Vec<(&str, Option<&str>)> {
    fn field<'a>(package: &'a str, name: &str) -> Option<&'a str> {
        package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"'))
    }
    let packages = lock.split("[[package]]").skip(1);
    packages.map(|package| (field(package, "name").unwrap_or_default(), field(package, "source"))).collect()
}

/// Returns the packages that come neither from this repository nor from the registry.
fn strangers<'a>(packages: &[(&'a str, Option<&str>)]) -> Vec<&'a str> {
    let is_stranger = |source: &Option<&str>| source.is_some_and(|source| !source.starts_with("registry+"));
    packages.iter().filter(|(_, source)| is_stranger(source)).map(|(name, _)| *name).collect()
}

/// Returns `true` if [`LICENCES`] satisfy a package's licence expression. `AND` binds stronger than `OR`.
fn is_allowed(expression: &str) -> bool {
    // Some old packages separate alternatives by a slash.
    let expression = expression.replace('/', " OR ");
    match Parser(expression.replace('(', " ( ").replace(')', " ) ").split_whitespace().collect()).either() {
        Some((allowed, rest)) => allowed && rest.is_empty(),
        None => false,
    }
}

/// The remaining words of a licence expression.
struct Parser<'a>(Vec<&'a str>);

impl<'a> Parser<'a> {
    fn either(self) -> Option<(bool, Vec<&'a str>)> {
        let (mut allowed, mut rest) = self.both()?;
        while rest.first() == Some(&"OR") {
            let (other, after) = Parser(rest.split_off(1)).both()?;
            (allowed, rest) = (allowed | other, after);
        }
        Some((allowed, rest))
    }

    fn both(self) -> Option<(bool, Vec<&'a str>)> {
        let (mut allowed, mut rest) = self.one()?;
        while rest.first() == Some(&"AND") {
            let (other, after) = Parser(rest.split_off(1)).one()?;
            (allowed, rest) = (allowed & other, after);
        }
        Some((allowed, rest))
    }

    fn one(mut self) -> Option<(bool, Vec<&'a str>)> {
        if self.0.first() == Some(&"(") {
            let (allowed, mut rest) = Parser(self.0.split_off(1)).either()?;
            return (rest.first() == Some(&")")).then(|| (allowed, rest.split_off(1)));
        }
        let length = if self.0.get(1) == Some(&"WITH") { 3 } else { 1 };
        let rest = (self.0.len() >= length).then(|| self.0.split_off(length))?;
        Some((LICENCES.contains(&self.0.join(" ").as_str()), rest))
    }
}

#[test]
fn packages_come_from_the_registry_and_their_number_is_limited() {
    let lock = std::fs::read_to_string(crate::root().join("Cargo.lock")).unwrap();
    let packages = locked(&lock);
    assert!(packages.iter().any(|(name, source)| *name == "viridian" && source.is_none()), "{packages:?}");
    assert_eq!(strangers(&packages), Vec::<&str>::new(), "packages that are not from the registry");
    let count = packages.len();
    assert!(
        count <= MAX_PACKAGES,
        "{count} packages, but at most {MAX_PACKAGES} are allowed: remove one, or raise the limit with a reason"
    );
}

#[test]
fn the_licence_of_every_package_is_in_the_list() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // The packages that are built here. `--offline` works because they had to be in cargo's cache to build this test.
    let arguments = ["tree", "--offline", "--locked", "-e", "all", "--prefix", "none", "--format", "{p}\t{l}"];
    let output = Command::new(cargo).args(arguments).current_dir(crate::root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let licences: Vec<_> = text.lines().filter_map(|line| line.trim_end_matches(" (*)").split_once('\t')).collect();
    assert!(licences.len() > 50, "{text}");
    let wrong: Vec<_> = licences.iter().filter(|(_, licence)| !is_allowed(licence)).collect();
    assert!(
        wrong.is_empty(),
        "these licences are not in the list; check that they are compatible with MIT OR Apache-2.0: {wrong:?}"
    );
}

#[test]
fn licence_expressions_are_evaluated_correctly() {
    for allowed in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-2.0 OR MIT",
        "(MIT OR GPL-2.0) AND ISC",
        "GPL-3.0 OR MIT AND ISC",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(is_allowed(allowed), "{allowed}");
    }
    for refused in [
        "",
        "GPL-2.0",
        "MIT AND GPL-2.0",
        "(MIT OR ISC) AND GPL-2.0",
        "MIT WITH Strings-attached",
        "MIT ISC",
        "(MIT",
        "MIT OR",
    ] {
        assert!(!is_allowed(refused), "{refused}");
    }
}

#[test]
fn a_package_from_a_repository_is_found() {
    let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1\"\n\n[[package]]\nname = \"b\"\nsource = \"git+https://b\"\n\n[[package]]\nname = \"c\"\nsource = \"registry+https://c\"\n";
    let packages = locked(lock);
    assert_eq!(packages.len(), 3);
    assert_eq!(strangers(&packages), ["b"]);
}
