//! Reading JSON text: <https://www.rfc-editor.org/rfc/rfc8259>.

use std::collections::HashSet;

use compact_str::CompactString;

use super::super::line_and_column;
use super::{Json, JsonError, MAX_DEPTH, Object};

/// Reads one JSON text.
pub(super) fn parse(bytes: &[u8]) -> Result<Json, JsonError> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = &bytes[..error.valid_up_to()];
            let (line, column) = line_and_column(valid);
            return Err(JsonError {
                reason: "the bytes are not valid UTF-8".into(),
                line,
                column,
                path: String::new(),
            });
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser { text, bytes: text.as_bytes(), at: 0, steps: Vec::new() };
    let value = parser.value(0)?;
    parser.blank();
    if parser.at < parser.bytes.len() {
        return Err(parser.fault("there is text after the end of the JSON value"));
    }
    Ok(value)
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    steps: Vec<Step<'a>>,
}

enum Step<'a> {
    Member(&'a str),
    Item(usize),
}

impl<'a> Parser<'a> {
    fn value(&mut self, depth: usize) -> Result<Json, JsonError> {
        if depth > MAX_DEPTH {
            return Err(self.fault(format!("the nesting is deeper than {MAX_DEPTH} levels")));
        }
        self.blank();
        match self.bytes.get(self.at) {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Json::String(self.string()?)),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err(self.fault("a JSON value was expected")),
            None => Err(self.fault("the text ends where a JSON value was expected")),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Json, JsonError> {
        self.at += 1;
        let mut members: Vec<(CompactString, Json)> = Vec::new();
        let mut names: HashSet<CompactString> = HashSet::new();
        self.blank();
        if self.eat(b'}') {
            return Ok(Json::Object(Object::new()));
        }
        loop {
            self.blank();
            if self.bytes.get(self.at) != Some(&b'"') {
                return Err(self.fault("a member name in double quotes was expected"));
            }
            let start = self.at;
            let name = self.string()?;
            // A linear look for the usual dozen members, a set beyond, so that many members
            // cannot cost quadratic time.
            let repeated = if members.len() < 16 {
                members.iter().any(|(other, _)| *other == name)
            } else {
                if names.is_empty() {
                    names.extend(members.iter().map(|(other, _)| other.clone()));
                }
                !names.insert(name.clone())
            };
            if repeated {
                self.at = start;
                return Err(self.fault(format!("the member \"{name}\" stands twice in one object")));
            }
            self.blank();
            if !self.eat(b':') {
                return Err(self.fault("a colon was expected after the member name"));
            }
            self.steps.push(Step::Member(&self.text[start + 1..(self.at - 1).max(start + 1)]));
            let value = self.value(depth + 1)?;
            self.steps.pop();
            members.push((name, value));
            self.blank();
            if self.eat(b'}') {
                return Ok(Json::Object(Object(members)));
            }
            if !self.eat(b',') {
                return Err(self.fault("a comma or the end of the object was expected"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<Json, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        self.blank();
        if self.eat(b']') {
            return Ok(Json::Array(items));
        }
        loop {
            self.steps.push(Step::Item(items.len()));
            items.push(self.value(depth + 1)?);
            self.steps.pop();
            self.blank();
            if self.eat(b']') {
                return Ok(Json::Array(items));
            }
            if !self.eat(b',') {
                return Err(self.fault("a comma or the end of the array was expected"));
            }
        }
    }

    fn string(&mut self) -> Result<CompactString, JsonError> {
        self.at += 1;
        let start = self.at;
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => {
                    let text = CompactString::from(&self.text[start..self.at]);
                    self.at += 1;
                    return Ok(text);
                }
                b'\\' => return self.string_with_escapes(start),
                0..=0x1f => return Err(self.fault("a control character stands in a string")),
                _ => self.at += 1,
            }
        }
        Err(self.fault("a string is not closed"))
    }

    fn string_with_escapes(&mut self, start: usize) -> Result<CompactString, JsonError> {
        let mut out = CompactString::from(&self.text[start..self.at]);
        let mut run = self.at;
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => {
                    out.push_str(&self.text[run..self.at]);
                    self.at += 1;
                    return Ok(out);
                }
                b'\\' => {
                    out.push_str(&self.text[run..self.at]);
                    self.at += 1;
                    out.push(self.escape()?);
                    run = self.at;
                }
                0..=0x1f => return Err(self.fault("a control character stands in a string")),
                _ => self.at += 1,
            }
        }
        Err(self.fault("a string is not closed"))
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let Some(&byte) = self.bytes.get(self.at) else {
            return Err(self.fault("a string is not closed"));
        };
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex()?;
                let code = if (0xd800..0xdc00).contains(&first) {
                    if !(self.eat(b'\\') && self.eat(b'u')) {
                        return Err(self.fault("half a surrogate pair stands in a string"));
                    }
                    let second = self.hex()?;
                    if !(0xdc00..0xe000).contains(&second) {
                        return Err(self.fault("half a surrogate pair stands in a string"));
                    }
                    0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                } else {
                    first
                };
                char::from_u32(code)
                    .ok_or_else(|| self.fault("half a surrogate pair stands in a string"))?
            }
            _ => {
                self.at -= 1;
                return Err(self.fault("an unknown escape stands in a string"));
            }
        })
    }

    fn hex(&mut self) -> Result<u32, JsonError> {
        let digits = self.bytes.get(self.at..self.at + 4).unwrap_or_default();
        let code = digits.iter().try_fold(0u32, |code, byte| {
            char::from(*byte).to_digit(16).map(|digit| code * 16 + digit)
        });
        match code {
            Some(code) if digits.len() == 4 => {
                self.at += 4;
                Ok(code)
            }
            _ => Err(self.fault("four hexadecimal digits were expected after \\u")),
        }
    }

    fn number(&mut self) -> Result<Json, JsonError> {
        let start = self.at;
        self.eat(b'-');
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.fault("a digit was expected")),
        }
        if self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            return Err(self.fault("a number must not begin with a superfluous 0"));
        }
        if self.eat(b'.') {
            if !self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
                return Err(self.fault("a digit was expected after the decimal point"));
            }
            self.digits();
        }
        if self.eat(b'e') || self.eat(b'E') {
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            if !self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
                return Err(self.fault("a digit was expected in the exponent"));
            }
            self.digits();
        }
        Ok(Json::Number(self.text[start..self.at].into()))
    }

    fn digits(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json, JsonError> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.fault("a JSON value was expected"))
        }
    }

    fn blank(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(found);
        found
    }

    fn fault(&self, reason: impl Into<String>) -> JsonError {
        let (line, column) = line_and_column(&self.bytes[..self.at.min(self.bytes.len())]);
        JsonError { reason: reason.into(), line, column, path: self.path() }
    }

    /// The path of the value being read; the first step is the resource type once it is known.
    fn path(&self) -> String {
        let mut path = String::new();
        for step in &self.steps {
            match step {
                Step::Member(name) => {
                    let name = name.split('"').next().unwrap_or_default();
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(name);
                }
                Step::Item(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }
}
