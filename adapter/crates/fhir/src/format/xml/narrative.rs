//! Narratives: <https://hl7.org/fhir/R4/narrative.html#xhtml>. In JSON a `div` is the text of an
//! XML element that stands alone; in XML it is that element.
//!
//! The text stays as it is written, unless it would mean something else in the other format: then
//! prefixes are resolved, CDATA becomes text, and the namespace is declared on the `div`. Whether
//! the elements are allowed is the validator's.

use super::reader::{Cursor, Namespace, Piece, Tag, escape};
use super::{CONTROL, XHTML, XmlError, is_char};
use crate::IssueType;
use crate::format::json::MAX_DEPTH;

/// The text of a `div` whose tag was just read; `source` is the text that the cursor reads.
pub(super) fn text(
    cursor: &mut Cursor<'_>,
    tag: Tag<'_>,
    source: &str,
) -> Result<String, XmlError> {
    let mut text = Text { out: String::new(), is_changed: !tag.declares };
    let (start, outside) = (cursor.span().0, cursor.depth());
    let mut open: Vec<(&str, bool)> = vec![(tag.name, tag.is_empty)];
    text.open(cursor, &tag, true)?;
    while let Some((name, is_empty)) = open.last().copied() {
        match cursor.next()? {
            Piece::Open(tag) => {
                if cursor.depth() - outside > MAX_DEPTH {
                    let reason = format!("the nesting is deeper than {MAX_DEPTH} levels");
                    return Err(cursor.fault(IssueType::Structure, reason));
                }
                text.open(cursor, &tag, false)?;
                open.push((tag.name, tag.is_empty));
            }
            Piece::Close => {
                if !is_empty {
                    text.out.push_str("</");
                    text.out.push_str(name);
                    text.out.push('>');
                }
                open.pop();
            }
            Piece::Text(raw) | Piece::Aside(raw) => text.out.push_str(raw),
            Piece::Unescaped(raw) => {
                text.is_changed = true;
                escape(&mut text.out, raw);
            }
            Piece::End => return Err(cursor.fault(IssueType::Structure, "the div is not closed")),
        }
    }
    match source.get(start..cursor.span().1) {
        Some(written) if !text.is_changed => Ok(written.to_owned()),
        _ => Ok(text.out),
    }
}

/// The `div` of a JSON text as it stands in XML.
pub(super) fn from_json(div: &str) -> Result<String, XmlError> {
    // A div that forgot its namespace means XHTML; what is sent says so.
    let mut cursor = Cursor::new(div, Namespace::Xhtml);
    if !div.chars().all(is_char) {
        return Err(cursor.fault(IssueType::Value, CONTROL));
    }
    let mut found = None;
    loop {
        match cursor.next()? {
            Piece::Open(tag) if found.is_none() && is_div(&tag) => {
                found = Some(text(&mut cursor, tag, div)?);
            }
            Piece::Aside(_) => {}
            Piece::Text(blank) if blank.trim().is_empty() => {}
            Piece::End => break,
            _ => return Err(cursor.fault(IssueType::Structure, "the narrative must be one div")),
        }
    }
    found.ok_or_else(|| cursor.fault(IssueType::Structure, "the narrative must be one div"))
}

/// Whether a tag begins a narrative.
pub(super) fn is_div(tag: &Tag<'_>) -> bool {
    tag.namespace == Namespace::Xhtml && tag.name == "div"
}

struct Text {
    out: String,
    /// Whether `out` differs from what was written.
    is_changed: bool,
}

impl Text {
    fn open(&mut self, cursor: &Cursor<'_>, tag: &Tag<'_>, first: bool) -> Result<(), XmlError> {
        if tag.namespace != Namespace::Xhtml {
            let reason =
                "a narrative is made of XHTML elements only; this one has another namespace";
            return Err(cursor.fault(IssueType::Structure, reason));
        }
        self.is_changed |= tag.is_prefixed;
        self.out.push('<');
        self.out.push_str(tag.name);
        if first {
            self.out.push_str(&format!(" xmlns=\"{XHTML}\""));
        }
        for attribute in &tag.attributes {
            if !matches!(attribute.namespace, Namespace::None | Namespace::Xml) {
                let reason = "an attribute of a narrative has another namespace; leave it out";
                return Err(cursor.fault(IssueType::Structure, reason));
            }
            self.out.push(' ');
            self.out.push_str(match attribute.namespace {
                Namespace::Xml => attribute.qualified,
                _ => attribute.name,
            });
            self.out.push_str("=\"");
            self.out.push_str(&attribute.raw.replace('"', "&quot;"));
            self.out.push('"');
        }
        self.out.push_str(if tag.is_empty { "/>" } else { ">" });
        Ok(())
    }
}
