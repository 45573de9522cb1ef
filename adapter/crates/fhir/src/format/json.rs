//! JSON as FHIR uses it: <https://hl7.org/fhir/R4/json.html>.
//!
//! A lossless tree: the digits of a number, the order of members and members nobody knows survive
//! a round trip, because a decimal's written precision is part of its value in FHIR. Duplicate
//! member names, nesting deeper than [`MAX_DEPTH`] and bytes that are not UTF-8 are refused with
//! the place where they stand.
//!
//! Why not `serde_json::Value`: keeping digits there is a switch for the whole build
//! (`arbitrary_precision`) that changes every other library's numbers, and duplicate members are
//! dropped without a word.

use std::collections::HashSet;
use std::fmt;

use compact_str::CompactString;

/// Deepest nesting of arrays and objects that is read. R4's deepest official example has 15.
pub const MAX_DEPTH: usize = 100;

/// One JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`, which FHIR allows only inside arrays of primitives.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as it was written, digits and exponent untouched.
    Number(CompactString),
    /// A string, escapes resolved.
    String(CompactString),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(Object),
}

/// An object: members in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object(Vec<(CompactString, Json)>);

/// What stopped the reading of a JSON text, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at line {line}, column {column}")]
pub struct JsonError {
    /// A sentence part that names the fault.
    pub reason: String,
    /// Line of the fault, from 1.
    pub line: usize,
    /// Column of the fault in characters, from 1.
    pub column: usize,
    /// Path of the enclosing element, for example `Patient.name[0]`.
    pub path: String,
}

impl Json {
    /// Reads one JSON text.
    ///
    /// # Errors
    /// Bytes that are not UTF-8, a syntax fault, a repeated member name, nesting over
    /// [`MAX_DEPTH`], or anything after the value.
    pub fn parse(bytes: &[u8]) -> Result<Json, JsonError> {
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

    /// The member `name` of an object, or `None`.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.as_object()?.get(name)
    }

    /// The member `name`, for change.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Json> {
        match self {
            Json::Object(object) => object.get_mut(name),
            _ => None,
        }
    }

    /// The value reached by following member names; an array on the way stands for its first item.
    pub fn at(&self, path: &[&str]) -> Option<&Json> {
        path.iter().try_fold(self, |value, name| match value.get(name)? {
            Json::Array(items) => items.first(),
            other => Some(other),
        })
    }

    /// [`Json::at`] as text.
    pub fn str_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.as_str()
    }

    /// The member `name` as a list: the items of an array, the one value that is no array, or none.
    pub fn list(&self, name: &str) -> &[Json] {
        match self.get(name) {
            Some(Json::Array(items)) => items,
            Some(other) => std::slice::from_ref(other),
            None => &[],
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    /// The truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Json::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The digits of a number as written.
    pub fn as_number(&self) -> Option<&str> {
        match self {
            Json::Number(digits) => Some(digits),
            _ => None,
        }
    }

    /// The number as a whole number; `None` for fractions and values outside `i64`.
    pub fn as_i64(&self) -> Option<i64> {
        self.as_number()?.parse().ok()
    }

    /// The items of an array.
    pub fn as_array(&self) -> Option<&[Json]> {
        match self {
            Json::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The object.
    pub fn as_object(&self) -> Option<&Object> {
        match self {
            Json::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The object, for change.
    pub fn as_object_mut(&mut self) -> Option<&mut Object> {
        match self {
            Json::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Sets the member `name` of an object; does nothing to any other value.
    pub fn set(&mut self, name: &str, value: impl Into<Json>) {
        if let Json::Object(object) = self {
            object.set(name, value);
        }
    }

    /// Adds to the array `name` of an object, making it first if it is not there.
    pub fn push(&mut self, name: &str, value: impl Into<Json>) {
        let Json::Object(object) = self else { return };
        match object.get_mut(name) {
            Some(Json::Array(items)) => items.push(value.into()),
            _ => object.set(name, Json::Array(vec![value.into()])),
        }
    }

    /// The value as JSON text with line breaks and two blanks of indentation.
    pub fn to_pretty(&self) -> String {
        let mut out = String::new();
        write_value(&mut out, self, Some(0));
        out
    }

    /// Adds the value as JSON text without blanks to `out`.
    pub fn write(&self, out: &mut String) {
        write_value(out, self, None);
    }
}

/// JSON text without blanks.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        write_value(&mut out, self, None);
        f.write_str(&out)
    }
}

impl Object {
    /// An object without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// The member `name`.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The member `name`, for change.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Json> {
        self.0.iter_mut().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Sets the member `name`, in its place if it is there, else at the end.
    pub fn set(&mut self, name: &str, value: impl Into<Json>) {
        match self.get_mut(name) {
            Some(old) => *old = value.into(),
            None => self.0.push((name.into(), value.into())),
        }
    }

    /// Sets the member `name`, in its place if it is there, else at position `index`.
    pub fn set_at(&mut self, index: usize, name: &str, value: impl Into<Json>) {
        match self.get_mut(name) {
            Some(old) => *old = value.into(),
            None => self.0.insert(index.min(self.0.len()), (name.into(), value.into())),
        }
    }

    /// Takes the member `name` out.
    pub fn remove(&mut self, name: &str) -> Option<Json> {
        let index = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.remove(index).1)
    }

    /// The members in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Json)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The members in order, values for change.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&str, &mut Json)> {
        self.0.iter_mut().map(|(key, value)| (key.as_str(), value))
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(CompactString, Json)> for Object {
    fn from_iter<I: IntoIterator<Item = (CompactString, Json)>>(members: I) -> Self {
        let mut object = Object::new();
        for (name, value) in members {
            object.set(&name, value);
        }
        object
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Json::String(text.into())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Json::String(text.into())
    }
}

impl From<&String> for Json {
    fn from(text: &String) -> Self {
        Json::String(text.as_str().into())
    }
}

impl From<CompactString> for Json {
    fn from(text: CompactString) -> Self {
        Json::String(text)
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Json::Bool(value)
    }
}

impl From<Object> for Json {
    fn from(object: Object) -> Self {
        Json::Object(object)
    }
}

impl From<Vec<Json>> for Json {
    fn from(items: Vec<Json>) -> Self {
        Json::Array(items)
    }
}

impl From<&Json> for Json {
    fn from(value: &Json) -> Self {
        value.clone()
    }
}

macro_rules! from_integer {
    ($($type:ty)*) => {$(
        impl From<$type> for Json {
            fn from(value: $type) -> Self {
                Json::Number(compact_str::format_compact!("{value}"))
            }
        }
    )*};
}
from_integer!(i32 i64 u8 u16 u32 u64 usize);

/// Builds a [`Json`] from JSON notation; a Rust expression stands in parentheses.
///
/// ```
/// use lumbar_fhir::json;
/// let id = "p1";
/// let patient = json!({"resourceType": "Patient", "id": (id), "active": true});
/// assert_eq!(patient.to_string(), r#"{"resourceType":"Patient","id":"p1","active":true}"#);
/// ```
#[macro_export]
macro_rules! json {
    (null) => { $crate::Json::Null };
    ([ $($item:tt),* $(,)? ]) => { $crate::Json::Array(vec![ $( $crate::json!($item) ),* ]) };
    ({ $($name:literal : $value:tt),* $(,)? }) => {{
        #[allow(unused_mut)]
        let mut object = $crate::Object::new();
        $( object.set($name, $crate::json!($value)); )*
        $crate::Json::Object(object)
    }};
    (($value:expr)) => { $crate::Json::from($value) };
    ($value:expr) => { $crate::Json::from($value) };
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

fn line_and_column(before: &[u8]) -> (usize, usize) {
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
    let column = before[start..].iter().filter(|byte| (**byte as i8) >= -0x40).count() + 1;
    (line, column)
}

fn write_value(out: &mut String, value: &Json, indent: Option<usize>) {
    match value {
        Json::Null => out.push_str("null"),
        Json::Bool(true) => out.push_str("true"),
        Json::Bool(false) => out.push_str("false"),
        Json::Number(digits) => out.push_str(digits),
        Json::String(text) => write_string(out, text),
        Json::Array(items) => {
            write_sequence(out, '[', ']', items.iter(), indent, |out, item, indent| {
                write_value(out, item, indent);
            });
        }
        Json::Object(object) => {
            write_sequence(out, '{', '}', object.iter(), indent, |out, (name, value), indent| {
                write_string(out, name);
                out.push_str(if indent.is_some() { ": " } else { ":" });
                write_value(out, value, indent);
            });
        }
    }
}

fn write_sequence<T>(
    out: &mut String,
    open: char,
    close: char,
    items: impl ExactSizeIterator<Item = T>,
    indent: Option<usize>,
    mut write: impl FnMut(&mut String, T, Option<usize>),
) {
    out.push(open);
    let inner = indent.map(|level| level + 1);
    let empty = items.len() == 0;
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(',');
        }
        if let Some(level) = inner {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", level));
        }
        write(out, item, inner);
    }
    if let (Some(level), false) = (indent, empty) {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", level));
    }
    out.push(close);
}

/// Adds `text` to `out` as a JSON string with its quotes.
pub fn write_string(out: &mut String, text: &str) {
    out.push('"');
    let mut run = 0;
    for (index, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => {
                out.push_str(&text[run..index]);
                out.push_str(&format!("\\u{byte:04x}"));
                run = index + 1;
                continue;
            }
            _ => continue,
        };
        out.push_str(&text[run..index]);
        out.push_str(escape);
        run = index + 1;
    }
    out.push_str(&text[run..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    fn check(text: &str, expected: Expect) {
        let shown = match Json::parse(text.as_bytes()) {
            Ok(value) => value.to_string(),
            Err(error) => format!("{error} in {:?}", error.path),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn digits_order_and_unknown_members_survive() {
        check(
            r#"{"z": 1.00, "a": [1E+3, -0, 12345678901234567890.10], "ü": null}"#,
            expect![[r#"{"z":1.00,"a":[1E+3,-0,12345678901234567890.10],"ü":null}"#]],
        );
        check(r#""\u00e9\ud83d\ude00\/\n\u0001""#, expect![[r#""é😀/\n\u0001""#]]);
    }

    #[test]
    fn faults_name_their_place() {
        check(
            "{\"name\": [{\"family\": \"A\",\n \"family\": \"B\"}]}",
            expect![[
                r#"the member "family" stands twice in one object at line 2, column 2 in "name[0]""#
            ]],
        );
        check(
            "{\"a\": 01}",
            expect![[r#"a number must not begin with a superfluous 0 at line 1, column 8 in "a""#]],
        );
        check(
            "{\"a\": \"\\ud800x\"}",
            expect![[r#"half a surrogate pair stands in a string at line 1, column 14 in "a""#]],
        );
        check(
            "",
            expect![[r#"the text ends where a JSON value was expected at line 1, column 1 in """#]],
        );
        check(
            "{} x",
            expect![[r#"there is text after the end of the JSON value at line 1, column 4 in """#]],
        );
        check(
            "[1,",
            expect![[
                r#"the text ends where a JSON value was expected at line 1, column 4 in "[1]""#
            ]],
        );
        check(
            "{\"a\" 1}",
            expect![[r#"a colon was expected after the member name at line 1, column 6 in """#]],
        );
    }

    #[test]
    fn bytes_that_are_not_utf8_are_located() {
        let error = Json::parse(b"{\"a\":\n \"\xff\"}").unwrap_err();
        assert_eq!(error.to_string(), "the bytes are not valid UTF-8 at line 2, column 3");
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert!(Json::parse(deep(MAX_DEPTH + 1).as_bytes()).is_ok());
        let error = Json::parse(deep(100_000).as_bytes()).unwrap_err();
        assert!(error.reason.contains("deeper"), "{error}");
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            any::<i64>().prop_map(Json::from),
            (any::<i32>(), 0u32..100_000)
                .prop_map(|(a, b)| Json::Number(compact_str::format_compact!("{a}.{b}"))),
            any::<String>().prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Json::Array),
                prop::collection::vec((any::<String>(), inner), 0..6).prop_map(|members| {
                    Json::Object(members.into_iter().map(|(n, v)| (n.into(), v)).collect())
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn written_text_reads_back(value in any_json()) {
            prop_assert_eq!(&Json::parse(value.to_string().as_bytes()).unwrap(), &value);
            prop_assert_eq!(&Json::parse(value.to_pretty().as_bytes()).unwrap(), &value);
        }

        #[test]
        fn another_reader_agrees(value in any_json()) {
            let text = value.to_string();
            let other: serde_json::Value = serde_json::from_str(&text).unwrap();
            let again = Json::parse(other.to_string().as_bytes()).unwrap();
            let third: serde_json::Value = serde_json::from_str(&again.to_string()).unwrap();
            prop_assert_eq!(other, third);
        }

        #[test]
        fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Json::parse(&bytes);
        }

        #[test]
        fn accepts_what_another_reader_accepts(text in r#"[\[\]{}:,"0-9eE.+\-truefalsn \\u]{0,24}"#) {
            // Ours also refuses repeated members, which such short random text does not make.
            let other = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            let repeated = matches!(Json::parse(text.as_bytes()), Err(e) if e.reason.contains("twice"));
            if !repeated {
                prop_assert_eq!(Json::parse(text.as_bytes()).is_ok(), other, "{}", text);
            }
        }
    }
}
