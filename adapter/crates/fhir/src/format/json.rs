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

mod locate;
mod parse;
#[cfg(test)]
mod tests;

use std::fmt;

use compact_str::CompactString;

pub(super) use locate::locate;

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
        parse::parse(bytes)
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

/// The characters of a JSON text without the mark of its encoding.
pub(super) fn text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(text.strip_prefix('\u{feff}').unwrap_or(text))
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
