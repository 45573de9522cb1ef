//! Where an extension may be used: <https://hl7.org/fhir/R4/defining-extensions.html#context>.

use super::outline::Outline;
use crate::Json;
use crate::path::Expression;

/// Where the published words say something else than the standard's own examples and text.
const CORRECTIONS: &str = include_str!("../../../../../profiles/r4/extension-corrections.tsv");

/// What is used for a part of an extension's definition.
fn corrected<'t>(url: &str, kind: &str, published: &'t str) -> &'t str {
    let mut rows = CORRECTIONS.lines().skip(1).map(|row| row.split('\t'));
    let used = rows.find_map(|mut fields| {
        let is_it = [url, kind, published].iter().all(|wanted| fields.next() == Some(wanted));
        fields.next().filter(|_| is_it)
    });
    used.unwrap_or(published)
}

/// What a definition says about the use of an extension.
#[derive(Debug)]
pub(crate) struct Extension {
    /// The extension stands in one of these.
    pub contexts: Vec<Context>,
    /// What must be true of the element that has it, as written and parsed.
    pub invariants: Vec<(String, Option<Expression>)>,
    /// Whether it changes the meaning of what has it.
    pub is_modifier: bool,
    /// Whether it consists of extensions.
    pub is_complex: bool,
    /// The urls of these.
    pub parts: Vec<String>,
}

/// A place where an extension may stand.
#[derive(Debug)]
pub(crate) enum Context {
    /// A type or the path of an element.
    Element(String),
    /// Another extension, by its url.
    Extension(String),
    /// The elements that an expression selects, from the resource.
    Path(String, Option<Expression>),
}

impl Extension {
    /// `None` for a definition of anything else.
    pub fn read(definition: &Json, outline: Option<&Outline>) -> Option<Extension> {
        if definition.str_at(&["type"]) != Some("Extension") {
            return None;
        }
        let url = definition.str_at(&["url"]).unwrap_or_default();
        let context = |json: &Json| -> Vec<Context> {
            let (Some(kind), Some(published)) =
                (json.str_at(&["type"]), json.str_at(&["expression"]))
            else {
                return Vec::new();
            };
            let expression = corrected(url, "context", published);
            match kind {
                // A correction may name several.
                "element" => {
                    expression.split(", ").map(|path| Context::Element(path.to_owned())).collect()
                }
                "extension" => vec![Context::Extension(expression.to_owned())],
                "fhirpath" => {
                    vec![Context::Path(expression.to_owned(), Expression::parse(expression).ok())]
                }
                _ => Vec::new(),
            }
        };
        let invariants = definition.list("contextInvariant").iter().filter_map(Json::as_str);
        let root = outline.map_or(&Json::Null, |outline| outline.element(0));
        let value = outline.and_then(|outline| Some(outline.element(outline.child(0, "value")?)));
        Some(Extension {
            contexts: definition.list("context").iter().flat_map(context).collect(),
            invariants: invariants
                .map(|text| corrected(url, "invariant", text))
                .map(|text| (text.to_owned(), Expression::parse(text).ok()))
                .collect(),
            is_modifier: root.get("isModifier").and_then(Json::as_bool) == Some(true),
            parts: outline.map(parts).unwrap_or_default(),
            is_complex: value.and_then(|value| value.str_at(&["max"])) == Some("0"),
        })
    }
}

/// The urls of the extensions within an extension.
fn parts(outline: &Outline) -> Vec<String> {
    let list = outline.child(0, "extension").and_then(|list| outline.nodes.get(list));
    let slices = list.map_or(&[][..], |list| &list.slices).iter();
    let fixed = |slice: &usize| {
        let url = outline.element(outline.child(*slice, "url")?);
        url.str_at(&["fixedUri"]).map(str::to_owned)
    };
    slices.filter_map(fixed).collect()
}
