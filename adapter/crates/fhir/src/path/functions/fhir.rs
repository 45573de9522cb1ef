//! Functions that FHIR adds: <https://hl7.org/fhir/R4/fhirpath.html#functions>.

use super::{Call, Evaluated, Function, row, some, truth};
use crate::Json;
use crate::path::eval::Items;
use crate::path::value::{Node, Typing, Value};
use crate::path::{PathError, navigate, operators};

pub(super) static FUNCTIONS: &[Function] = &[
    row("extension", (1, 1), extension),
    row("hasValue", (0, 0), |call| truth(matches!(call.focus, [item] if has_value(item)))),
    row("getValue", (0, 0), |call| {
        let item = operators::single(call.focus)?.filter(|item| has_value(item));
        some(item.map(Value::to_system))
    }),
    row("resolve", (0, 0), resolve),
    row("conformsTo", (1, 1), conforms_to),
];

fn has_value(item: &Value) -> bool {
    match item {
        Value::Node(node) => node.has_value(),
        _ => true,
    }
}

/// Only the profiles that define the types themselves are known.
fn conforms_to<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let (Some(item), Some(url)) = (operators::single(call.focus)?, call.string(0)?) else {
        return Ok(Vec::new());
    };
    let name = url.strip_prefix("http://hl7.org/fhir/StructureDefinition/");
    let definitions = call.scope.context.definitions;
    match name.filter(|name| definitions.type_of(name).is_some()) {
        Some(name) => truth(definitions.is_a(item.type_name(), name)),
        None => Err(PathError::new(format!("the profile {url} is not known here"))),
    }
}

fn extension<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let Some(url) = call.string(0)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for item in call.focus {
        navigate::member(call.scope.context.definitions, item, "extension", &mut found);
    }
    found.retain(|item| {
        item.json().and_then(|json| json.get("url")).and_then(Json::as_str) == Some(url.as_str())
    });
    Ok(found)
}

/// A reference that nothing resolves still shows the type that its text names.
fn resolve<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let mut found: Items<'a> = Vec::new();
    for item in call.focus {
        let Value::Node(node) = item else { continue };
        let text = match node.json {
            Json::String(text) => Some(text.as_str()),
            json => json.str_at(&["reference"]),
        };
        let Some(text) = text.filter(|text| !text.is_empty()) else { continue };
        let contained = || contained(call, text.strip_prefix('#')?);
        if let Some(json) = contained().or_else(|| (call.scope.context.resolve?)(text)) {
            found.push(Value::node(json));
        } else if let Some(kind) = referenced_type(call, node, text) {
            found.push(Value::Node(Node { json: node.json, sibling: None, typing: kind }));
        }
    }
    Ok(found)
}

/// `#id` is a contained resource, `#` the resource that contains them.
fn contained<'a>(call: &Call<'_, 'a>, id: &str) -> Option<&'a Json> {
    let resource = call.scope.context.resource.as_ref()?.json()?;
    if id.is_empty() {
        return Some(resource);
    }
    resource.list("contained").iter().find(|json| json.str_at(&["id"]) == Some(id))
}

fn referenced_type<'a>(call: &Call<'_, 'a>, node: &Node<'a>, text: &str) -> Option<Typing<'a>> {
    let definitions = call.scope.context.definitions;
    let named = node.json.str_at(&["type"]);
    let path = text.split("/_history/").next().unwrap_or(text);
    let name =
        named.or_else(|| path.rsplit('/').nth(1)).filter(|name| definitions.is_resource(name))?;
    definitions.type_of(name).map(Typing::Unresolved)
}
