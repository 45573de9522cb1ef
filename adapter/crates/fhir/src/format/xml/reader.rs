//! Well-formed XML, piece by piece: <https://www.w3.org/TR/xml/> and
//! <https://www.w3.org/TR/xml-names/>.
//!
//! The library finds the pieces and pairs the tags; what it lets pass and the standard does not is
//! checked here: names, attributes, characters, namespaces. A document type declaration ends the
//! reading at once.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::events::Event;

use super::{FHIR, XHTML, XmlError, is_char, shown};
use crate::IssueType;
use crate::format::line_and_column;

/// Most attributes of one element.
const MAX_ATTRIBUTES: usize = 64;
/// Most namespace declarations that are in force at one place.
const MAX_NAMESPACES: usize = 64;

/// The namespaces that mean something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Namespace {
    None,
    Fhir,
    Xhtml,
    /// `xsi:schemaLocation` and the like.
    SchemaInstance,
    /// `xml:lang` and the like.
    Xml,
    Other,
}

/// One attribute, as written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute<'a> {
    pub(super) namespace: Namespace,
    /// Name without its prefix.
    pub(super) name: &'a str,
    /// Name as written.
    pub(super) qualified: &'a str,
    /// Value as written, without its quotes; its references are known.
    pub(super) raw: &'a str,
}

/// The start of an element.
#[derive(Clone, Debug)]
pub(super) struct Tag<'a> {
    pub(super) namespace: Namespace,
    /// Name without its prefix.
    pub(super) name: &'a str,
    /// Whether it has a prefix.
    pub(super) is_prefixed: bool,
    /// The attributes, namespace declarations left out.
    pub(super) attributes: Vec<Attribute<'a>>,
    /// Whether it declares its own default namespace.
    pub(super) declares: bool,
    /// Whether it is `<name/>`; its end follows all the same.
    pub(super) is_empty: bool,
}

/// A piece of XML.
#[derive(Clone, Debug)]
pub(super) enum Piece<'a> {
    Open(Tag<'a>),
    Close,
    /// Text and references, as written.
    Text(&'a str),
    /// The text of a CDATA section.
    Unescaped(&'a str),
    /// A comment or processing instruction, as written.
    Aside(&'a str),
    End,
}

/// Takes a text apart.
pub(super) struct Cursor<'a> {
    text: &'a str,
    reader: Reader<&'a [u8]>,
    /// Where the present piece begins and ends.
    start: usize,
    end: usize,
    /// Prefix (empty for the default) and namespace of each declaration, and the depth of its
    /// element.
    declared: Vec<(usize, &'a str, Namespace)>,
    depth: usize,
    closes: bool,
}

impl<'a> Cursor<'a> {
    /// A cursor before a text; elements without a prefix are in `default` until they say otherwise.
    pub(super) fn new(text: &'a str, default: Namespace) -> Cursor<'a> {
        let mut reader = Reader::from_str(text);
        let config = reader.config_mut();
        config.check_comments = true;
        config.check_end_names = true;
        config.trim_markup_names_in_closing_tags = true;
        let declared = vec![(0, "xml", Namespace::Xml), (0, "", default)];
        Cursor { text, reader, start: 0, end: 0, declared, depth: 0, closes: false }
    }

    /// The next piece.
    pub(super) fn next(&mut self) -> Result<Piece<'a>, XmlError> {
        if self.closes {
            self.closes = false;
            self.leave();
            return Ok(Piece::Close);
        }
        self.start = self.position();
        let event = self.reader.read_event();
        self.end = self.position();
        let raw = self.text.get(self.start..self.end).unwrap_or_default();
        match event {
            Ok(Event::Start(_)) => Ok(Piece::Open(self.open(raw, false)?)),
            Ok(Event::Empty(_)) => {
                self.closes = true;
                Ok(Piece::Open(self.open(raw, true)?))
            }
            Ok(Event::End(_)) => {
                self.leave();
                Ok(Piece::Close)
            }
            Ok(Event::Text(_)) if raw.contains("]]>") => {
                Err(self.fault(IssueType::Structure, "]]> stands in a text"))
            }
            Ok(Event::Text(_) | Event::GeneralRef(_)) => {
                self.characters(raw)?;
                Ok(Piece::Text(raw))
            }
            Ok(Event::CData(_)) => {
                let inner = raw.strip_prefix("<![CDATA[").and_then(|raw| raw.strip_suffix("]]>"));
                Ok(Piece::Unescaped(inner.unwrap_or_default()))
            }
            Ok(Event::Decl(_)) if self.start == 0 => {
                self.declaration(raw)?;
                Ok(Piece::Aside(raw))
            }
            Ok(Event::Decl(_)) => {
                Err(self.fault(IssueType::Structure, "an XML declaration stands within the text"))
            }
            Ok(Event::Comment(_) | Event::PI(_)) => Ok(Piece::Aside(raw)),
            Ok(Event::DocType(_)) => Err(self.doctype()),
            Ok(Event::Eof) if self.depth > 0 => {
                Err(self.fault(IssueType::Structure, "the text ends before its last element does"))
            }
            Ok(Event::Eof) => Ok(Piece::End),
            // The library reads a declaration with an inner subset to its end first.
            Err(_) if self.rest().starts_with("<!DOCTYPE") => Err(self.doctype()),
            Err(error) => {
                self.start = usize::try_from(self.reader.error_position()).unwrap_or(self.start);
                Err(self.fault(IssueType::Structure, format!("this is not well-formed: {error}")))
            }
        }
    }

    /// A fault at the present piece.
    pub(super) fn fault(&self, code: IssueType, reason: impl Into<String>) -> XmlError {
        let before = self.text.as_bytes().get(..self.start).unwrap_or_default();
        let (line, column) = line_and_column(before);
        XmlError { code, reason: reason.into(), line, column, path: String::new() }
    }

    /// Where the present piece begins and ends in the text.
    pub(super) fn span(&self) -> (usize, usize) {
        (self.start, self.end)
    }

    /// How many elements are open.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    fn doctype(&self) -> XmlError {
        self.fault(
            IssueType::Structure,
            "a document type declaration is not allowed in FHIR; leave it out",
        )
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.start..).unwrap_or_default()
    }

    fn position(&self) -> usize {
        usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX)
    }

    fn leave(&mut self) {
        while self.declared.last().is_some_and(|(depth, ..)| *depth == self.depth && *depth > 0) {
            self.declared.pop();
        }
        self.depth = self.depth.saturating_sub(1);
    }

    /// Takes a tag apart: `<name a="…" b='…'>`.
    fn open(&mut self, raw: &'a str, is_empty: bool) -> Result<Tag<'a>, XmlError> {
        self.depth += 1;
        let broken = "the tag cannot be read: after its name attributes follow, each a name, = and \
                      a value in quotes, with blanks between them";
        let fault = |cursor: &Self| cursor.fault(IssueType::Structure, broken);
        let inner = raw.strip_prefix('<').and_then(|raw| raw.strip_suffix('>'));
        let inner =
            inner.map(|inner| inner.strip_suffix('/').filter(|_| is_empty).unwrap_or(inner));
        let (qualified, mut rest) = name(inner.unwrap_or_default()).ok_or_else(|| fault(self))?;
        let mut attributes: Vec<Attribute<'a>> = Vec::new();
        let mut declares = false;
        loop {
            let next = rest.trim_start_matches(BLANK);
            if next.is_empty() {
                break;
            }
            if next.len() == rest.len() {
                return Err(fault(self));
            }
            let (qualified, next) = name(next).ok_or_else(|| fault(self))?;
            let next = next.trim_start_matches(BLANK).strip_prefix('=');
            let next = next.ok_or_else(|| fault(self))?.trim_start_matches(BLANK);
            let quote = next.chars().next().filter(|quote| matches!(quote, '"' | '\''));
            let quote = quote.ok_or_else(|| fault(self))?;
            let next = next.get(1..).unwrap_or_default();
            let (raw, next) = next.split_once(quote).ok_or_else(|| fault(self))?;
            rest = next;
            if raw.contains('<') {
                return Err(
                    self.fault(IssueType::Structure, "< stands in the value of an attribute")
                );
            }
            self.characters(raw)?;
            let (prefix, local) = split(qualified);
            match (prefix, local) {
                ("", "xmlns") => {
                    declares = true;
                    self.declare("", raw)?;
                }
                ("xmlns", prefix) => self.declare(prefix, raw)?,
                _ => {
                    let namespace = Namespace::None;
                    attributes.push(Attribute { namespace, name: local, qualified, raw });
                }
            }
            if attributes.len() > MAX_ATTRIBUTES {
                let text = format!("an element has more than {MAX_ATTRIBUTES} attributes");
                return Err(self.fault(IssueType::TooCostly, text));
            }
        }
        for attribute in &mut attributes {
            let (prefix, _) = split(attribute.qualified);
            // An attribute without a prefix is in no namespace.
            if !prefix.is_empty() {
                attribute.namespace = self.resolve(prefix)?;
            }
        }
        for (index, attribute) in attributes.iter().enumerate() {
            let before = attributes.iter().take(index);
            if before.clone().any(|other| other.qualified == attribute.qualified) {
                return Err(
                    self.fault(IssueType::Structure, "an attribute stands twice in one tag")
                );
            }
        }
        let (prefix, local) = split(qualified);
        let namespace = self.resolve(prefix)?;
        let is_prefixed = !prefix.is_empty();
        Ok(Tag { namespace, name: local, is_prefixed, attributes, declares, is_empty })
    }

    fn declare(&mut self, prefix: &'a str, raw: &'a str) -> Result<(), XmlError> {
        let depth = self.depth;
        if self
            .declared
            .iter()
            .rev()
            .take_while(|(at, ..)| *at == depth)
            .any(|(_, p, _)| *p == prefix)
        {
            return Err(
                self.fault(IssueType::Structure, "a namespace is declared twice in one tag")
            );
        }
        if self.declared.len() >= MAX_NAMESPACES {
            let text = format!("more than {MAX_NAMESPACES} namespaces are declared");
            return Err(self.fault(IssueType::TooCostly, text));
        }
        let namespace = match raw {
            "" => Namespace::None,
            FHIR => Namespace::Fhir,
            XHTML => Namespace::Xhtml,
            "http://www.w3.org/2001/XMLSchema-instance" => Namespace::SchemaInstance,
            "http://www.w3.org/XML/1998/namespace" => Namespace::Xml,
            _ => Namespace::Other,
        };
        self.declared.push((depth, prefix, namespace));
        Ok(())
    }

    fn resolve(&self, prefix: &str) -> Result<Namespace, XmlError> {
        let known = self.declared.iter().rev().find(|(_, known, _)| *known == prefix);
        known.map(|(.., namespace)| *namespace).ok_or_else(|| {
            let text = format!("the prefix {} has no namespace; declare it", shown(prefix));
            self.fault(IssueType::Structure, text)
        })
    }

    /// Refuses references to anything but the five entities of XML and characters.
    fn characters(&self, raw: &str) -> Result<(), XmlError> {
        match unescape(raw) {
            Some(_) => Ok(()),
            None => Err(self.fault(
                IssueType::Structure,
                "& begins no known character; write &amp; for itself, and others as themselves or \
                 by number, for example &#160;",
            )),
        }
    }

    /// Reads `<?xml version="1.0" encoding="UTF-8"?>`.
    fn declaration(&mut self, raw: &'a str) -> Result<(), XmlError> {
        let value = |name: &str| {
            let (_, rest) = raw.split_once(name)?;
            let rest = rest.trim_start_matches(BLANK).strip_prefix('=')?.trim_start_matches(BLANK);
            let quote = rest.chars().next()?;
            rest.get(1..)?.split_once(quote).map(|(value, _)| value)
        };
        if value("version") != Some("1.0") {
            return Err(self.fault(IssueType::Structure, "the version of XML must be 1.0"));
        }
        let known = ["UTF-8", "UTF-16", "US-ASCII"];
        match value("encoding") {
            Some(other) if !known.iter().any(|known| known.eq_ignore_ascii_case(other)) => {
                let text = "the encoding is not known here; send UTF-8";
                Err(self.fault(IssueType::NotSupported, text))
            }
            _ => Ok(()),
        }
    }
}

/// What stands between the parts of a tag.
pub(super) const BLANK: [char; 4] = [' ', '\t', '\n', '\r'];

/// A name at the beginning of a text, and what follows. Letters of other alphabets, which XML
/// allows, are in no name of FHIR or XHTML.
fn name(text: &str) -> Option<(&str, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    let end = text.find(|c: char| !is_part(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    let begins = |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let (prefix, local) = name.split_once(':').unwrap_or(("_", name));
    (begins(prefix) && begins(local) && !local.contains(':')).then_some((name, rest))
}

fn split(qualified: &str) -> (&str, &str) {
    qualified.split_once(':').unwrap_or(("", qualified))
}

/// The text that XML stands for; `None` for references that are not known.
pub(super) fn unescape(raw: &str) -> Option<Cow<'_, str>> {
    let text = quick_xml::escape::unescape(raw).ok()?;
    text.chars().all(is_char).then_some(text)
}

/// Writes a text so that XML reads the same back, in an attribute's value or between tags.
pub(super) fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            c => out.push(c),
        }
    }
}
