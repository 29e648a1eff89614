//! Rust source as the rules use it: without comments, contents of literals, and tests.
//!
//! Offsets and lines are those of the file, because removed parts are replaced by spaces.

use std::path::{Path, PathBuf};

/// The beginnings of attributes that restrict an item to tests.
pub const FOR_TESTS: [&str; 2] = ["#[cfg(test)]", "#[cfg(all(test,"];

/// A source file.
pub struct Source {
    /// Path from the root of the repository.
    pub path: PathBuf,
    /// The unchanged file.
    pub text: String,
    /// The file without comments and without the contents of literals.
    pub code: String,
    /// [`Self::code`] without the items that are `#[cfg(test)]`.
    pub production: String,
}

impl Source {
    pub fn read(root: &Path, path: &Path) -> Self {
        let text = std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self::new(path, text)
    }

    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let code = without_literals(&text);
        let production = without_tests(&code);
        Self { path, text, code, production }
    }

    /// The path as text, for lists and messages.
    pub fn name(&self) -> &str {
        self.path.to_str().expect("the paths of the repository are UTF-8")
    }

    /// Returns the number of the line at `offset`. The first line is 1.
    pub fn line(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

/// Returns all Rust files below `directory`, sorted.
pub fn files_below(root: &Path, directory: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from(directory)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder)).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let entry = entry.expect("the folder can be read");
            let path = folder.join(entry.file_name());
            if entry.file_type().expect("the type of a file").is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Replaces comments and the contents of string and character literals by spaces.
pub fn without_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => end_of_line(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => end_of_block_comment(bytes, at),
            b'"' => end_of_string(bytes, at),
            b'r' if !continues_a_word(bytes, at) => end_of_raw_string(bytes, at).unwrap_or(at + 1),
            b'\'' => end_of_character(text, at).unwrap_or(at + 1),
            _ => at + 1,
        };
        if end > at + 1 {
            code[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        }
        at = end;
    }
    String::from_utf8(code).expect("characters are replaced as a whole")
}

/// Returns `true` if the byte before `at` belongs to a word other than the `b` or `c` before a literal.
fn continues_a_word(bytes: &[u8], at: usize) -> bool {
    let is_word = |at: usize| bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_';
    let prefixed = at >= 1 && matches!(bytes[at - 1], b'b' | b'c') && (at < 2 || !is_word(at - 2));
    at >= 1 && is_word(at - 1) && !prefixed
}

fn end_of_line(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

fn end_of_block_comment(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn end_of_raw_string(bytes: &[u8], start: usize) -> Option<usize> {
    let hashes = bytes[start + 1..].iter().take_while(|byte| **byte == b'#').count();
    let quote = start + 1 + hashes;
    if bytes.get(quote) != Some(&b'"') {
        return None;
    }
    let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let length = bytes[quote + 1..].windows(end.len()).position(|window| window == end)?;
    Some(quote + 1 + length + end.len())
}

/// Returns the end of a character literal, or `None` if `start` is a lifetime or a label.
fn end_of_character(text: &str, start: usize) -> Option<usize> {
    let rest = &text[start + 1..];
    let first = rest.chars().next()?;
    if first == '\\' {
        let length = rest.char_indices().skip(2).find(|(_, character)| *character == '\'')?.0;
        return Some(start + 1 + length + 1);
    }
    let end = start + 1 + first.len_utf8();
    text[end..].starts_with('\'').then_some(end + 1)
}

/// Replaces items that are `#[cfg(test)]` by spaces.
pub fn without_tests(code: &str) -> String {
    let mut production = code.as_bytes().to_vec();
    let mut at = 0;
    while let Some(found) = FOR_TESTS.iter().filter_map(|attribute| code[at..].find(attribute)).min() {
        let start = at + found;
        let end = end_of_item(code.as_bytes(), end_of_item(code.as_bytes(), start + 1));
        production[start..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at = end;
    }
    String::from_utf8(production).expect("characters are replaced as a whole")
}

/// Returns the end of the item at `start`: after its `;`, its block, or the comma of a field.
fn end_of_item(code: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.iter().enumerate().skip(start) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' if depth == 0 => return at,
            b'}' if depth == 1 => return at + 1,
            b']' if depth == 1 && code[start] == b'[' => return at + 1,
            b')' | b']' | b'}' => depth -= 1,
            b';' | b',' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Returns the words, `::` and other characters of `code`, each with its offset.
pub fn tokens(code: &str) -> Vec<(usize, &str)> {
    let bytes = code.as_bytes();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = match bytes[at] {
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            byte if is_word(byte) => bytes[at..].iter().take_while(|byte| is_word(**byte)).count(),
            b':' if bytes[at..].starts_with(b"::") => 2,
            _ => code[at..].chars().next().map_or(1, char::len_utf8),
        };
        tokens.push((at, &code[at..at + length]));
        at += length;
    }
    tokens
}

#[test]
fn comments_and_literals_are_not_code() {
    let text = "let a = \"x::y \\\" z\"; // unsafe\nlet b = r#\"un\"safe\"#; /* a /* b */ c */ let c = 'x'; '\\u{1}' b'\\'' br\"k\" 'a: for";
    let code = without_literals(text);
    assert_eq!(code.len(), text.len());
    let words: Vec<_> = tokens(&code).into_iter().map(|(_, token)| token).collect();
    assert_eq!(words.join(" "), "let a = ; let b = ; let c = ; b b ' a : for");
}

#[test]
fn items_for_tests_are_not_production_code() {
    let code = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { x } }\nstruct S { #[cfg(test)] t: [u8; 2], u: u8 }\n#[cfg(test)]\nuse z;\nfn c() {}";
    let words: Vec<_> = tokens(&without_tests(code)).into_iter().map(|(_, token)| token.to_owned()).collect();
    assert_eq!(words.join(" "), "fn a ( ) { } struct S { u : u8 } fn c ( ) { }");
}
