//! The tree of modules of the library and the program, and the paths that each module uses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::source::{FOR_TESTS, Source, tokens};

/// A path from the root of the crate: `["vsp", "storage"]`. The root is empty.
pub type ModulePath = Vec<String>;

pub struct Module {
    pub path: ModulePath,
    pub source: Source,
    /// The module exists in tests only.
    pub is_test: bool,
    /// Imported names, and their paths.
    imports: BTreeMap<String, ModulePath>,
    /// Paths that the module uses, with their lines.
    pub references: Vec<(usize, ModulePath)>,
}

/// All modules, by path.
pub struct Tree {
    pub modules: BTreeMap<ModulePath, Module>,
}

impl Tree {
    /// Reads the modules of the library and the program below `root`.
    pub fn read(root: &Path) -> Self {
        let read = |path: &Path| Source::read(root, path);
        let exists = |path: &Path| root.join(path).exists();
        Self::with(&read, &exists, &["src/lib.rs", "src/main.rs"])
    }

    /// Reads the modules from pairs of a path and a text.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let find = |path: &Path| files.iter().find(|(name, _)| Path::new(name) == path);
        let read = |path: &Path| Source::new(path, find(path).expect("the file is there").1);
        Self::with(&read, &|path| find(path).is_some(), &["src/lib.rs"])
    }

    fn with(read: &dyn Fn(&Path) -> Source, exists: &dyn Fn(&Path) -> bool, roots: &[&str]) -> Self {
        let mut modules = BTreeMap::new();
        for root in roots {
            // The program's modules are merged with the library's. No two have the same name.
            let path = if root.ends_with("main.rs") { vec!["main".to_owned()] } else { Vec::new() };
            let mut waiting = vec![(path, PathBuf::from(root), false)];
            while let Some((path, file, is_test)) = waiting.pop() {
                let source = read(&file);
                let parent = if path == ["main"] { Vec::new() } else { path.clone() };
                for declaration in declarations(&source) {
                    let child = [parent.clone(), vec![declaration.name.clone()]].concat();
                    let file = declaration.file(&file, exists);
                    waiting.push((child, file, is_test || declaration.is_test));
                }
                let module =
                    Module { path: path.clone(), source, is_test, imports: BTreeMap::new(), references: Vec::new() };
                modules.insert(path, module);
            }
        }
        let mut tree = Self { modules };
        tree.find_references();
        tree
    }

    /// Returns the modules that are not only for tests.
    pub fn production(&self) -> impl Iterator<Item = &Module> {
        self.modules.values().filter(|module| !module.is_test)
    }

    fn find_references(&mut self) {
        let paths: BTreeSet<_> = self.modules.keys().cloned().collect();
        for module in self.modules.values_mut() {
            let code = if module.is_test { &module.source.code } else { &module.source.production };
            let mut found = Vec::new();
            let mut imports = BTreeMap::new();
            let tokens = tokens(code);
            let mut in_use = false;
            let mut at = 0;
            while at < tokens.len() {
                let (offset, token) = tokens[at];
                match token {
                    "use" => in_use = true,
                    ";" => in_use = false,
                    _ => {}
                }
                let follows_path = at > 0 && tokens[at - 1].1 == "::";
                let starts_path = tokens.get(at + 1).is_some_and(|(_, next)| *next == "::") && !follows_path;
                let from = match token {
                    _ if !starts_path => None,
                    "crate" | "viridian" => Some(Vec::new()),
                    "self" => Some(module.path.clone()),
                    "super" => Some(module.path[..module.path.len().saturating_sub(1)].to_vec()),
                    word => {
                        let child = [module.path.clone(), vec![word.to_owned()]].concat();
                        paths.contains(&child).then_some(child)
                    }
                };
                at += 1;
                if let Some(from) = from {
                    let line = module.source.line(offset);
                    for (path, name) in trees(&tokens, &mut at, from) {
                        if in_use {
                            imports.insert(name, path.clone());
                        }
                        found.push((line, path));
                    }
                }
            }
            module.references = found;
            module.imports = imports;
        }
    }

    /// Returns the module that defines `path`, according to imports.
    pub fn resolve(&self, path: &[String]) -> ModulePath {
        // Follow imports of imports. More than this number would be a cycle.
        self.resolve_within(path, 16)
    }

    fn resolve_within(&self, path: &[String], depth: usize) -> ModulePath {
        let mut module = Vec::new();
        for (index, name) in path.iter().enumerate() {
            let child = [module.clone(), vec![name.clone()]].concat();
            if self.modules.contains_key(&child) {
                module = child;
                continue;
            }
            let import = self.modules.get(&module).and_then(|module| module.imports.get(name));
            return match import {
                Some(target) if depth > 0 && target[..] != path[..=index] => {
                    self.resolve_within(&[target, &path[index + 1..]].concat(), depth - 1)
                }
                _ => module,
            };
        }
        module
    }
}

/// Reads a path that continues with `::` at `at`. Returns the named paths, and their names in a `use`.
fn trees(tokens: &[(usize, &str)], at: &mut usize, from: ModulePath) -> Vec<(ModulePath, String)> {
    let token = |at: usize| tokens.get(at).map_or("", |(_, token)| *token);
    let mut path = from;
    while token(*at) == "::" {
        *at += 1;
        match token(*at) {
            "{" => {
                *at += 1;
                let mut found = Vec::new();
                while !matches!(token(*at), "}" | "") {
                    let name = token(*at);
                    *at += 1;
                    match name {
                        "," => {}
                        "self" => {
                            let own = path.last().cloned().unwrap_or_default();
                            found.push((path.clone(), alias(tokens, at).unwrap_or(own)));
                        }
                        _ => found.extend(trees(tokens, at, [path.clone(), vec![name.to_owned()]].concat())),
                    }
                }
                *at += 1;
                return found;
            }
            "super" => _ = path.pop(),
            word if word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') => path.push(word.to_owned()),
            _ => break,
        }
        *at += 1;
    }
    let name = alias(tokens, at).unwrap_or_else(|| path.last().cloned().unwrap_or_default());
    vec![(path, name)]
}

fn alias(tokens: &[(usize, &str)], at: &mut usize) -> Option<String> {
    let is_alias = tokens.get(*at).is_some_and(|(_, token)| *token == "as");
    let name = is_alias.then(|| tokens.get(*at + 1))??.1.to_owned();
    *at += 2;
    Some(name)
}

/// A `mod name;` with its attributes.
struct Declaration {
    name: String,
    is_test: bool,
    /// What `#[path = "…"]` says.
    path: Option<String>,
}

impl Declaration {
    /// The file of a module that is declared in the file `parent`.
    fn file(&self, parent: &Path, exists: &dyn Fn(&Path) -> bool) -> PathBuf {
        let folder = parent.parent().unwrap_or(Path::new(""));
        if let Some(path) = &self.path {
            let mut file = folder.to_path_buf();
            for part in path.split('/') {
                match part {
                    ".." => _ = file.pop(),
                    _ => file.push(part),
                }
            }
            return file;
        }
        let stem = parent.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let folder = if matches!(stem, "mod" | "lib" | "main") { folder.to_path_buf() } else { folder.join(stem) };
        let file = folder.join(format!("{}.rs", self.name));
        if exists(&file) { file } else { folder.join(&self.name).join("mod.rs") }
    }
}

fn declarations(source: &Source) -> Vec<Declaration> {
    let tokens = tokens(&source.code);
    let mut found = Vec::new();
    let mut attributes: Vec<&str> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let next = |ahead: usize| tokens.get(at + ahead).map_or("", |(_, token)| *token);
        match next(0) {
            "#" if next(1) == "[" => {
                let start = tokens[at].0;
                while at < tokens.len() && tokens[at].1 != "]" {
                    at += 1;
                }
                let end = tokens.get(at).map_or(source.text.len(), |(offset, _)| *offset);
                attributes.push(&source.text[start..end]);
            }
            "mod" if next(2) == ";" => {
                let path = attributes.iter().find_map(|text| text.strip_prefix("#[path = \"")?.strip_suffix('"'));
                found.push(Declaration {
                    name: next(1).to_owned(),
                    is_test: attributes
                        .iter()
                        .any(|text| FOR_TESTS.iter().any(|start| text.starts_with(start.trim_end_matches(']')))),
                    path: path.map(str::to_owned),
                });
            }
            "pub" | "(" | "crate" | "super" | "in" | ")" => {}
            _ => attributes.clear(),
        }
        at += 1;
    }
    found
}

#[test]
fn modules_are_found_with_their_files() {
    let tree = Tree::of(&[
        ("src/lib.rs", "pub mod a;\n#[cfg(test)]\n#[path = \"../tests/need.rs\"]\nmod need;"),
        ("src/a/mod.rs", "mod b;\n#[cfg(test)] mod tests;"),
        ("src/a/b.rs", "pub(crate) mod c;"),
        ("src/a/b/c.rs", ""),
        ("src/a/tests.rs", ""),
        ("tests/need.rs", ""),
    ]);
    let names = |is_test| {
        let of_kind = tree.modules.values().filter(|module| module.is_test == is_test);
        of_kind.map(|module| module.source.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(false), ["src/lib.rs", "src/a/mod.rs", "src/a/b.rs", "src/a/b/c.rs"]);
    assert_eq!(names(true), ["src/a/tests.rs", "tests/need.rs"]);
}

#[test]
fn paths_are_followed_through_groups_parents_and_imports() {
    let tree = Tree::of(&[
        ("src/lib.rs", "mod a; mod b;"),
        (
            "src/a.rs",
            "use crate::b::{self, C, d::{D as E, f}};\nfn x() { super::b::g::<u8>(); b::d::h() }\npub(crate) fn y() {}",
        ),
        ("src/b/mod.rs", "pub use self::d::C;\npub mod d;\nfn z() { d::h() }"),
        ("src/b/d.rs", "// crate::a\nfn v() { self::w() }"),
    ]);
    let of = |path: &[&str]| {
        let path: ModulePath = path.iter().map(|name| (*name).to_owned()).collect();
        let found = tree.modules[&path].references.iter();
        found
            .map(|(line, path)| format!("{line} {} in {}", path.join("::"), tree.resolve(path).join("::")))
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&["a"]), ["1 b in b", "1 b::C in b::d", "1 b::d::D in b::d", "1 b::d::f in b::d", "2 b::g in b"]);
    assert_eq!(of(&["b"]), ["1 b::d::C in b::d", "3 b::d::h in b::d"]);
    assert_eq!(of(&["b", "d"]), ["2 b::d::w in b::d"]);
}
