//! From XML to the tree.

use std::borrow::Cow;

use super::reader::{Attribute, Cursor, Namespace, Piece, Tag, unescape};
use super::{
    CONTROL, Content, Shapes, XmlError, find, is_attribute, is_char, is_number, is_numeric,
};
use super::{narrative, repeats, shown};
use crate::definitions::{Definitions, Element, System, Type};
use crate::format::json::MAX_DEPTH;
use crate::{IssueType, Json, Object};

/// Reads one resource.
pub(super) fn parse(definitions: &Definitions, bytes: &[u8]) -> Result<Json, XmlError> {
    let text = text(bytes)?;
    let mut parser = Parser {
        shapes: Shapes::new(definitions),
        cursor: Cursor::new(&text, Namespace::None),
        text: &text,
        steps: Vec::new(),
    };
    if let Some(at) = text.find(|c| !is_char(c)) {
        return Err(fault_at(text.get(..at).unwrap_or_default().as_bytes(), CONTROL));
    }
    let result = parser.document();
    result.map_err(|error| XmlError { path: parser.path(), ..error })
}

/// The characters of a text. Line ends are one character in XML, however they are written (2.11).
pub(in super::super) fn text(bytes: &[u8]) -> Result<Cow<'_, str>, XmlError> {
    let text = decode(bytes)?;
    Ok(match text.contains('\r') {
        true => Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")),
        false => text,
    })
}

/// The characters of UTF-8, or of UTF-16 that begins with its mark.
fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, XmlError> {
    let utf16 = |bytes: &[u8], read: fn([u8; 2]) -> u16| {
        let (units, odd) = bytes.as_chunks::<2>();
        let units: Vec<u16> = units.iter().map(|unit| read(*unit)).collect();
        match String::from_utf16(&units) {
            Ok(text) if odd.is_empty() => Ok(Cow::Owned(text)),
            _ => Err(fault_at(b"", "the bytes are not valid UTF-16")),
        }
    };
    match bytes {
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        _ => {
            let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            let text = std::str::from_utf8(bytes).map_err(|error| {
                let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
                fault_at(valid, "the bytes are not valid UTF-8")
            });
            text.map(Cow::Borrowed)
        }
    }
}

fn fault_at(before: &[u8], reason: &str) -> XmlError {
    let (line, column) = crate::format::line_and_column(before);
    let (code, path) = (IssueType::Structure, String::new());
    XmlError { code, reason: reason.into(), line, column, path }
}

struct Parser<'a, 'd> {
    shapes: Shapes<'d>,
    cursor: Cursor<'a>,
    text: &'a str,
    /// The way to the present element; those that repeat have an index.
    steps: Vec<(&'a str, Option<usize>)>,
}

/// The items of one element, which stand side by side in XML.
struct Items<'a> {
    index: usize,
    name: &'a str,
    repeats: bool,
    /// Values, and what else a primitive has; `null` where there is none.
    values: Vec<Json>,
    extras: Vec<Json>,
}

impl Items<'_> {
    fn put(self, object: &mut Object) {
        let put = |object: &mut Object, name: &str, mut items: Vec<Json>| {
            if items.iter().all(|item| *item == Json::Null) {
                return;
            }
            match items.pop() {
                Some(item) if !self.repeats => object.set(name, item),
                last => {
                    items.extend(last);
                    object.set(name, items);
                }
            }
        };
        put(object, self.name, self.values);
        put(object, &format!("_{}", self.name), self.extras);
    }
}

impl<'a, 'd> Parser<'a, 'd> {
    fn document(&mut self) -> Result<Json, XmlError> {
        let mut resource = None;
        loop {
            match self.cursor.next()? {
                Piece::Open(tag) if resource.is_none() => resource = Some(self.resource(tag, 0)?),
                Piece::Aside(_) => {}
                Piece::Text(blank) if blank.trim().is_empty() => {}
                Piece::End => break,
                Piece::Open(_) => return Err(self.structure("a second resource stands here")),
                _ => return Err(self.structure("text stands outside of the resource")),
            }
        }
        resource.ok_or_else(|| self.structure("there is no resource"))
    }

    /// A resource whose tag was just read.
    fn resource(&mut self, tag: Tag<'a>, depth: usize) -> Result<Json, XmlError> {
        if tag.namespace != Namespace::Fhir {
            let text = "the resource is not in the namespace of FHIR; write for example \
                        <Patient xmlns=\"http://hl7.org/fhir\">";
            return Err(self.structure(text));
        }
        let Some(kind) = self.shapes.resource(tag.name) else {
            let text = format!("\"{}\" is not a resource type of FHIR R4", shown(tag.name));
            return Err(self.structure(text));
        };
        if self.steps.is_empty() {
            self.steps.push((tag.name, None));
        }
        let mut object = Object::new();
        object.set("resourceType", kind.name);
        self.elements(kind, &tag, &mut object, depth)?;
        Ok(Json::Object(object))
    }

    /// The attributes and elements of something whose tag was just read, to its end. Returns the
    /// attribute `value`.
    fn elements(
        &mut self,
        kind: &'d Type,
        tag: &Tag<'a>,
        object: &mut Object,
        depth: usize,
    ) -> Result<Option<String>, XmlError> {
        if depth > MAX_DEPTH {
            return Err(self.structure(format!("the nesting is deeper than {MAX_DEPTH} levels")));
        }
        let (mut url, mut value) = (None, None);
        for attribute in &tag.attributes {
            match attribute.name {
                _ if is_about_schema(attribute) => {}
                name if attribute.namespace == Namespace::None && is_attribute(kind, name) => {
                    let text = self.attribute(attribute)?;
                    match name {
                        "id" => object.set("id", text),
                        "url" => url = Some(text),
                        _ => value = Some(text),
                    }
                }
                name => {
                    let name = shown(name);
                    let text = format!("the attribute \"{name}\" is not known here; leave it out");
                    return Err(self.structure(text));
                }
            }
        }
        let shape = self.shapes.of(kind);
        let mut items: Option<Items<'a>> = None;
        loop {
            let tag = match self.cursor.next()? {
                Piece::Open(tag) => tag,
                Piece::Close => break,
                Piece::Aside(_) => continue,
                Piece::Text(blank) if blank.trim().is_empty() => continue,
                _ => {
                    let text = "text stands where only elements may; a value is written as in \
                                <birthDate value=\"1970-01-01\"/>";
                    return Err(self.structure(text));
                }
            };
            let is_ours = tag.namespace == Namespace::Fhir || narrative::is_div(&tag);
            let Some((index, element, of)) = find(&shape, tag.name).filter(|_| is_ours) else {
                let text = match tag.namespace {
                    Namespace::Fhir => {
                        format!("{} has no element \"{}\"", kind.name, shown(tag.name))
                    }
                    _ => format!("\"{}\" is not in the namespace of FHIR", shown(tag.name)),
                };
                return Err(self.fault(IssueType::Structure, text, tag.name, None));
            };
            match &items {
                Some(before) if index < before.index => {
                    let text = format!(
                        "\"{}\" stands after \"{}\"; the standard wants it before",
                        tag.name, before.name
                    );
                    return Err(self.fault(IssueType::Structure, text, tag.name, None));
                }
                Some(before) if index == before.index && !before.repeats => {
                    let text = format!("{} may stand there only once", element.path);
                    return Err(self.fault(IssueType::Structure, text, tag.name, None));
                }
                Some(before) if index == before.index => {}
                _ => {
                    let begun = Items {
                        index,
                        name: tag.name,
                        repeats: repeats(element),
                        values: Vec::new(),
                        extras: Vec::new(),
                    };
                    if let Some(done) = items.replace(begun) {
                        done.put(object);
                    }
                }
            }
            let Some(present) = &mut items else { continue };
            let at = present.repeats.then_some(present.values.len());
            let depth = depth + if present.repeats { 2 } else { 1 };
            self.steps.push((tag.name, at));
            let (value, extra) = self.element(element, self.shapes.content(of), tag, depth)?;
            self.steps.pop();
            present.values.push(value);
            present.extras.push(extra);
        }
        if let Some(done) = items {
            done.put(object);
        }
        if let Some(url) = url {
            // The order of the table: after id and extension.
            let before = ["id", "extension"].iter().filter(|name| object.get(name).is_some());
            object.set_at(before.count(), "url", url);
        }
        Ok(value)
    }

    /// The value of an element whose tag was just read, and what else it has when it is primitive.
    fn element(
        &mut self,
        element: &Element,
        content: Option<Content<'d>>,
        tag: Tag<'a>,
        depth: usize,
    ) -> Result<(Json, Json), XmlError> {
        if depth > MAX_DEPTH {
            return Err(self.structure(format!("the nesting is deeper than {MAX_DEPTH} levels")));
        }
        match content {
            Some(Content::Narrative) => {
                if !narrative::is_div(&tag) {
                    let text = "the div is not in the namespace of XHTML; write \
                                <div xmlns=\"http://www.w3.org/1999/xhtml\">";
                    return Err(self.structure(text));
                }
                let div = narrative::text(&mut self.cursor, tag, self.text)?;
                Ok((Json::from(div), Json::Null))
            }
            _ if tag.namespace != Namespace::Fhir => {
                Err(self.structure("this is not in the namespace of FHIR"))
            }
            Some(Content::Resource) => {
                if let Some(attribute) = tag.attributes.iter().find(|a| !is_about_schema(a)) {
                    let name = shown(attribute.name);
                    return Err(
                        self.structure(format!("the attribute \"{name}\" is not known here"))
                    );
                }
                Ok((self.inner_resource(depth)?, Json::Null))
            }
            Some(Content::Complex(kind)) => {
                let mut object = Object::new();
                self.elements(kind, &tag, &mut object, depth)?;
                Ok((Json::Object(object), Json::Null))
            }
            Some(Content::Primitive(kind)) => {
                let mut extra = Object::new();
                let start = self.cursor.span();
                let value = self.elements(kind, &tag, &mut extra, depth)?;
                let value = match value {
                    Some(text) => self.value(kind, text, start)?,
                    None if extra.is_empty() => {
                        let text = format!("{} has neither a value nor extensions", element.path);
                        return Err(XmlError { code: IssueType::Required, ..self.structure(text) });
                    }
                    None => Json::Null,
                };
                let extra = if extra.is_empty() { Json::Null } else { Json::Object(extra) };
                Ok((value, extra))
            }
            None => Err(self.structure("R4 does not say what this element holds")),
        }
    }

    /// The one resource inside an element, to the element's end.
    fn inner_resource(&mut self, depth: usize) -> Result<Json, XmlError> {
        let mut resource = None;
        loop {
            match self.cursor.next()? {
                Piece::Open(tag) if resource.is_none() => {
                    resource = Some(self.resource(tag, depth)?);
                }
                Piece::Aside(_) => {}
                Piece::Text(blank) if blank.trim().is_empty() => {}
                Piece::Close => break,
                _ => return Err(self.structure("exactly one resource must stand here")),
            }
        }
        resource.ok_or_else(|| self.structure("a resource must stand here"))
    }

    /// The value of a primitive, as JSON writes it.
    fn value(&self, kind: &Type, text: String, at: (usize, usize)) -> Result<Json, XmlError> {
        let wrong = |form: &str| {
            let before = self.text.as_bytes().get(..at.0).unwrap_or_default();
            let reason = format!("the value is no {}; write {form}", kind.name);
            XmlError { code: IssueType::Value, ..fault_at(before, &reason) }
        };
        match text.as_str() {
            "true" if kind.system == System::Boolean => Ok(Json::Bool(true)),
            "false" if kind.system == System::Boolean => Ok(Json::Bool(false)),
            _ if kind.system == System::Boolean => Err(wrong("true or false")),
            digits if is_numeric(kind) && is_number(digits) => Ok(Json::Number(digits.into())),
            _ if is_numeric(kind) => Err(wrong("digits, for example 72")),
            _ => Ok(Json::from(text)),
        }
    }

    /// The value of an attribute: blanks and line ends are single blanks, unless they are written
    /// by number (3.3.3).
    fn attribute(&self, attribute: &Attribute<'_>) -> Result<String, XmlError> {
        let raw = match attribute.raw.contains(['\t', '\n']) {
            true => Cow::Owned(attribute.raw.replace(['\t', '\n'], " ")),
            false => Cow::Borrowed(attribute.raw),
        };
        let text = unescape(&raw).map(Cow::into_owned);
        text.ok_or_else(|| self.structure("the value of an attribute cannot be read"))
    }

    fn structure(&self, reason: impl Into<String>) -> XmlError {
        self.cursor.fault(IssueType::Structure, reason)
    }

    /// A fault in the element `name` below the present one.
    fn fault(
        &mut self,
        code: IssueType,
        reason: String,
        name: &'a str,
        index: Option<usize>,
    ) -> XmlError {
        self.steps.push((name, index));
        self.cursor.fault(code, reason)
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for (name, index) in &self.steps {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&shown(name));
            if let Some(index) = index {
                path.push_str(&format!("[{index}]"));
            }
        }
        path
    }
}

/// Whether an attribute says where a schema is, which changes nothing.
fn is_about_schema(attribute: &Attribute<'_>) -> bool {
    attribute.namespace == Namespace::SchemaInstance
        && matches!(attribute.name, "schemaLocation" | "noNamespaceSchemaLocation")
}
