//! `htmlChecks()`: the rules for a narrative's XHTML,
//! <https://hl7.org/fhir/R4/narrative.html#Narrative>.
//!
//! A narrative has HTML 4's formatting elements (chapters 7 to 11 without insertions and deletions,
//! and 15), links, images and style attributes; no scripts, forms, frames or outside styles. The
//! names of entities and the contents of styles are not judged.

use super::{Call, Evaluated, Function, row};
use crate::Json;
use crate::path::operators::{self, truth_value};

pub(super) static FUNCTIONS: &[Function] = &[row("htmlChecks", (0, 0), checks)];

fn checks<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let text = operators::single(call.focus)?.and_then(|item| item.json()).and_then(Json::as_str);
    Ok(truth_value(text.map(|text| is_narrative(text).is_some())))
}

const NAMESPACE: &str = "http://www.w3.org/1999/xhtml";
/// Deepest nesting of elements.
const MAX_DEPTH: usize = 200;

const ELEMENTS: [&str; 57] = [
    "a",
    "abbr",
    "acronym",
    "address",
    "b",
    "bdo",
    "big",
    "blockquote",
    "br",
    "caption",
    "cite",
    "code",
    "col",
    "colgroup",
    "dd",
    "dfn",
    "dir",
    "div",
    "dl",
    "dt",
    "em",
    "font",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "img",
    "kbd",
    "li",
    "menu",
    "ol",
    "p",
    "pre",
    "q",
    "s",
    "samp",
    "small",
    "span",
    "strike",
    "strong",
    "sub",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "tt",
    "u",
    "ul",
    "var",
];

const ATTRIBUTES: [&str; 51] = [
    "abbr",
    "accesskey",
    "align",
    "alt",
    "axis",
    "bgcolor",
    "border",
    "cellpadding",
    "cellspacing",
    "char",
    "charoff",
    "charset",
    "cite",
    "class",
    "clear",
    "color",
    "colspan",
    "compact",
    "coords",
    "dir",
    "face",
    "frame",
    "headers",
    "height",
    "href",
    "hreflang",
    "hspace",
    "id",
    "lang",
    "longdesc",
    "name",
    "noshade",
    "nowrap",
    "rel",
    "rev",
    "rowspan",
    "rules",
    "scope",
    "size",
    "span",
    "src",
    "start",
    "style",
    "summary",
    "tabindex",
    "title",
    "type",
    "valign",
    "value",
    "vspace",
    "width",
];

/// `Some` for one well-formed `div` that keeps the rules and says something.
fn is_narrative(text: &str) -> Option<()> {
    let mut rest = text.trim();
    let mut open: Vec<&str> = Vec::new();
    let mut says_something = false;
    let mut is_root = true;
    while is_root || !open.is_empty() {
        let at = rest.find('<')?;
        let (words, markup) = rest.split_at(at);
        if is_root && !words.is_empty() {
            return None;
        }
        says_something |= !words.trim().is_empty();
        if let Some(comment) = markup.strip_prefix("<!--") {
            rest = comment.split_once("-->")?.1;
            continue;
        }
        if let Some(end) = markup.strip_prefix("</") {
            let (name, after) = end.split_once('>')?;
            if open.pop()? != name.trim_end() {
                return None;
            }
            rest = after;
            continue;
        }
        let tag = Tag::read(markup)?;
        if is_root && (tag.name != "div" || tag.namespace != Some(NAMESPACE)) {
            return None;
        }
        if !ELEMENTS.contains(&tag.name) || open.len() >= MAX_DEPTH {
            return None;
        }
        says_something |= tag.name == "img";
        if !tag.is_closed {
            open.push(tag.name);
        }
        is_root = false;
        rest = tag.after;
    }
    (says_something && rest.is_empty()).then_some(())
}

struct Tag<'t> {
    name: &'t str,
    namespace: Option<&'t str>,
    is_closed: bool,
    after: &'t str,
}

impl<'t> Tag<'t> {
    /// Reads `<name attribute="…"…>` and refuses attributes that a narrative must not have.
    fn read(markup: &'t str) -> Option<Tag<'t>> {
        let markup = markup.strip_prefix('<')?;
        let end = markup.find(|c: char| !c.is_ascii_alphanumeric())?;
        let (name, mut rest) = markup.split_at(end);
        let mut namespace = None;
        loop {
            let trimmed = rest.trim_start();
            let is_closed = trimmed.starts_with("/>");
            if let Some(after) = trimmed.strip_prefix("/>").or_else(|| trimmed.strip_prefix('>')) {
                return Some(Tag { name, namespace, is_closed, after });
            }
            let (attribute, after) = trimmed.split_once('=')?;
            // A blank must stand before an attribute.
            if trimmed.len() == rest.len() {
                return None;
            }
            let after = after.trim_start();
            let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            let (value, after) = after.get(1..)?.split_once(quote)?;
            if value.contains('<') {
                return None;
            }
            match attribute.trim_end() {
                "xmlns" => namespace = Some(value),
                "href" | "src" if is_script(value) => return None,
                "xml:lang" | "xml:space" => {}
                name if name.starts_with("xmlns:") || ATTRIBUTES.contains(&name) => {}
                _ => return None,
            }
            rest = after;
        }
    }
}

fn is_script(url: &str) -> bool {
    let scheme: String = url.chars().filter(|c| !c.is_whitespace() && !c.is_control()).collect();
    let scheme = scheme.to_ascii_lowercase();
    ["javascript:", "vbscript:"].iter().any(|bad| scheme.starts_with(bad))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(content: &str) -> bool {
        is_narrative(&format!("<div xmlns=\"{NAMESPACE}\">{content}</div>")).is_some()
    }

    #[test]
    fn formatting_links_and_images_are_allowed() {
        for content in [
            "<p>Back pain &gt; 6 weeks<br/>and <b class=\"x\">leg</b> pain</p>",
            "<a href=\"#x\" title='y'>x</a>",
            "<img src=\"#i\" alt=\"\" />",
            "<!-- a comment --><table><tr><td colspan=\"2\">1</td></tr></table>",
        ] {
            assert!(within(content), "{content}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for content in [
            "",
            "  ",
            "<p></p>",
            "<script>x</script>",
            "<p onclick=\"x\">x</p>",
            "<p>x",
            "<p>x</b>",
            "<a href=\" java\nscript:x\">x</a>",
            "<![CDATA[x]]>x",
            "<p class=x>x</p>",
            "<p class=\"x\"id=\"y\">x</p>",
            "</div>x<div>",
        ] {
            assert!(!within(content), "{content}");
        }
        for text in ["", "x", "<div>x</div>", "<p xmlns=\"http://www.w3.org/1999/xhtml\">x</p>"] {
            assert!(is_narrative(text).is_none(), "{text}");
        }
    }
}
