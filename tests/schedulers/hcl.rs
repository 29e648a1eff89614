//! A strict reader of the part of HCL that the example for Nomad uses: attributes, blocks with labels, strings, numbers, lists.

use serde_json::{Map, Value, json};

/// Reads a file. An attribute is a field of the result, and the blocks of a kind are a list of objects with `labels` and `body`.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader { rest: text, line: 1 };
    let body = reader.body()?;
    if reader.rest.is_empty() { Ok(body) } else { Err(reader.wrong("a name")) }
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Reader<'a> {
    fn wrong(&self, expected: &str) -> String {
        format!("line {}: expected {expected} at {:?}", self.line, self.rest.lines().next().unwrap_or("the end"))
    }

    /// Skips spaces and comments, and with `lines` also ends of lines.
    fn skip(&mut self, lines: bool) {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t']);
            if self.rest.starts_with('#') || self.rest.starts_with("//") {
                self.rest = &self.rest[self.rest.find('\n').unwrap_or(self.rest.len())..];
            } else if lines && self.take("\n") {
                self.line += 1;
            } else {
                return;
            }
        }
    }

    fn take(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        if self.take(text) { Ok(()) } else { Err(self.wrong(text)) }
    }

    /// Takes the characters of a name or a number.
    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    fn body(&mut self) -> Result<Value, String> {
        let mut all = Map::new();
        loop {
            self.skip(true);
            if !self.rest.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
                return Ok(Value::Object(all));
            }
            let name = self.word();
            self.skip(false);
            if self.take("=") {
                self.skip(false);
                if all.insert(name.to_owned(), self.value()?).is_some() {
                    return Err(format!("line {}: {name} a second time", self.line));
                }
            } else {
                let block = self.block()?;
                match all.entry(name).or_insert(json!([])) {
                    Value::Array(blocks) if blocks.iter().all(Value::is_object) => blocks.push(block),
                    _ => return Err(format!("line {}: {name} is an attribute, too", self.line)),
                }
            }
            self.skip(false);
            if !self.rest.is_empty() && !self.rest.starts_with('\n') {
                return Err(self.wrong("the end of the line"));
            }
        }
    }

    fn block(&mut self) -> Result<Value, String> {
        let mut labels = Vec::new();
        while self.rest.starts_with('"') {
            labels.push(self.value()?);
            self.skip(false);
        }
        self.expect("{")?;
        let body = self.body()?;
        self.expect("}")?;
        Ok(json!({ "labels": labels, "body": body }))
    }

    fn value(&mut self) -> Result<Value, String> {
        if self.take("[") {
            let mut list = Vec::new();
            loop {
                self.skip(true);
                if self.take("]") {
                    return Ok(Value::Array(list));
                }
                list.push(self.value()?);
                self.skip(true);
                if !self.rest.starts_with(']') {
                    self.expect(",")?;
                }
            }
        }
        if self.rest.starts_with('"') {
            // The escapes are those of JSON, and a string ends on its line.
            let mut strings = serde_json::Deserializer::from_str(self.rest).into_iter::<String>();
            let text = strings.next().and_then(Result::ok).ok_or_else(|| self.wrong("a string"))?;
            self.rest = &self.rest[strings.byte_offset()..];
            return Ok(text.into());
        }
        match self.word() {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            word => word.parse::<u64>().map(Value::from).map_err(|_| self.wrong("a value")),
        }
    }
}

#[test]
fn mistakes_are_found_with_their_lines() {
    let read = parse("a = 1 # one\nb \"x\" \"y\" {\n  c = [\"1\",\n 2, ]\n}\nb {\n}\n").unwrap();
    assert_eq!(
        read,
        json!({ "a": 1, "b": [{ "labels": ["x", "y"], "body": { "c": ["1", 2] } }, { "labels": [], "body": {} }] })
    );
    for (text, words) in [
        ("a = 1\na = 2\n", "line 2: a a second time"),
        ("a = 1 b = 2\n", "line 1: expected the end of the line"),
        ("a {\n", "line 2: expected }"),
        ("a = [1 2]\n", "line 1: expected ,"),
        ("a = \"x\n", "line 1: expected a string"),
        ("a = x\n", "line 1: expected a value"),
        ("a = 1\na {\n}\n", "line 3: a is an attribute, too"),
        ("a = 1\n}\n", "line 2: expected a name"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.starts_with(words), "{text}: {error}");
    }
}
