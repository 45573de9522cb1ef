//! XML as FHIR uses it: <https://hl7.org/fhir/R4/xml.html>.
//!
//! Both ways between XML and the tree of [`Json`], by the table of elements: what R4 does not
//! define has no XML form and is refused by name, never left out. Digits, ids and extensions of
//! primitives, the order of entries and narratives survive. Comments and processing instructions
//! outside of narratives do not.
//!
//! There is no document type declaration here, so there are no entities but the five of XML and
//! characters by number. Not done: validation beyond what the form needs, and encodings other than
//! UTF-8 and UTF-16.

mod locate;
mod narrative;
mod parse;
mod reader;
mod write;

use std::collections::HashMap;
use std::rc::Rc;

use crate::definitions::{Definitions, Element, ElementType, Kind, System, Type};
use crate::{Issue, IssueType, Json};
pub(super) use locate::locate;
pub(super) use parse::text;

/// The namespace of FHIR's elements.
const FHIR: &str = "http://hl7.org/fhir";
/// The namespace of narratives.
const XHTML: &str = "http://www.w3.org/1999/xhtml";

/// What is wrong with a text that [`is_char`] does not let pass.
const CONTROL: &str = "a control character stands here, which XML cannot hold";

/// What stopped the reading of an XML text, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at line {line}, column {column}")]
pub struct XmlError {
    /// What kind of fault it is.
    pub code: IssueType,
    /// A sentence part that names the fault.
    pub reason: String,
    /// Line of the fault, from 1.
    pub line: usize,
    /// Column of the fault in characters, from 1.
    pub column: usize,
    /// FHIRPath of the enclosing element, for example `Patient.name[0]`; empty outside of all.
    pub path: String,
}

/// Reads one resource.
///
/// # Errors
/// Bytes that are no well-formed XML, a document type declaration, nesting over
/// [`MAX_DEPTH`](super::json::MAX_DEPTH), and whatever R4 does not define: elements and attributes
/// that it does not know, or not there, or not in that order.
pub fn parse(definitions: &Definitions, bytes: &[u8]) -> Result<Json, XmlError> {
    parse::parse(definitions, bytes)
}

/// Writes one resource without line breaks.
///
/// # Errors
/// An issue for a member that has no XML form: one that R4 does not define, a value that is not of
/// its type, a control character, a narrative that is no XHTML.
pub fn write(definitions: &Definitions, resource: &Json) -> Result<String, Issue> {
    write::write(definitions, resource, None)
}

/// Writes one resource with line breaks and two blanks of indentation; narratives stay as they are.
///
/// # Errors
/// As [`write()`].
pub fn pretty(definitions: &Definitions, resource: &Json) -> Result<String, Issue> {
    write::write(definitions, resource, Some(0))
}

/// What the content of an element is.
#[derive(Clone, Copy)]
enum Content<'d> {
    /// A value, an id and extensions.
    Primitive(&'d Type),
    /// A `div`.
    Narrative,
    /// A resource of any type.
    Resource,
    /// Elements.
    Complex(&'d Type),
}

/// The elements of each type that was met, in the order of the standard.
struct Shapes<'d> {
    definitions: &'d Definitions,
    known: HashMap<&'d str, Shape<'d>>,
}

/// The elements of a type that are elements in XML, in order.
type Shape<'d> = Rc<[&'d Element]>;

impl<'d> Shapes<'d> {
    fn new(definitions: &'d Definitions) -> Self {
        Shapes { definitions, known: HashMap::new() }
    }

    fn of(&mut self, kind: &'d Type) -> Shape<'d> {
        let definitions = self.definitions;
        let shape = self.known.entry(kind.name).or_insert_with(|| {
            let mut elements = definitions.elements(kind.name);
            elements.retain(|element| !is_attribute(kind, element.name) && element.max != Some(0));
            elements.into()
        });
        shape.clone()
    }

    /// The resource type `name`, when it has instances.
    fn resource(&self, name: &str) -> Option<&'d Type> {
        self.definitions.type_of(name).filter(|_| self.definitions.is_resource(name))
    }

    fn content(&self, of: &ElementType) -> Option<Content<'d>> {
        let kind = self.definitions.content(of)?;
        Some(match (kind.kind, kind.name) {
            (_, "xhtml") => Content::Narrative,
            (Kind::Primitive, _) => Content::Primitive(kind),
            (Kind::Resource, _) => Content::Resource,
            _ => Content::Complex(kind),
        })
    }
}

/// The element of a shape that is called `name`, and its place in the order.
fn find<'d>(shape: &[&'d Element], name: &str) -> Option<(usize, &'d Element, &'d ElementType)> {
    shape
        .iter()
        .enumerate()
        .find_map(|(index, element)| element.member(name).map(|kind| (index, *element, kind)))
}

/// Whether an element of a type is an attribute in XML.
fn is_attribute(kind: &Type, name: &str) -> bool {
    match name {
        "id" => kind.kind != Kind::Resource,
        "url" => kind.name == "Extension",
        "value" => kind.kind == Kind::Primitive,
        _ => false,
    }
}

/// Whether an element is a list in JSON.
fn repeats(element: &Element) -> bool {
    element.max != Some(1)
}

/// Whether XML 1.0 can hold the character.
fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Whether the text is a number in JSON.
fn is_number(text: &str) -> bool {
    matches!(Json::parse(text.as_bytes()), Ok(Json::Number(digits)) if digits == text)
}

/// Whether a value of this type is a number in JSON.
fn is_numeric(kind: &Type) -> bool {
    matches!(kind.system, System::Integer | System::Decimal)
}

/// A name from outside, cut so that a message stays short.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}
