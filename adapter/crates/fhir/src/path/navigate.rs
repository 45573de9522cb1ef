//! From an item to its elements: <https://hl7.org/fhir/R4/fhirpath.html#variables> and
//! <https://hl7.org/fhir/R4/json.html#primitive>.

use std::collections::{HashMap, HashSet};

use super::eval::Items;
use super::expr::Name;
use super::value::{NULL, Node, Typing, Value};
use crate::definitions::{Definitions, Element, ElementType, Kind, Type};
use crate::{Json, Object};

/// What it costs to find an element of an item beyond one step: an object is looked through from
/// its first member on.
pub(super) fn width(item: &Value<'_>) -> u64 {
    match item {
        Value::Node(Node { json: Json::Object(object), .. }) => object.len() as u64 / 16,
        _ => 0,
    }
}

/// Adds the elements `name` of an item.
pub(super) fn member<'a>(
    definitions: &'a Definitions,
    item: &Value<'a>,
    name: &Name,
    out: &mut Items<'a>,
) {
    if let Value::Node(node) = item
        && let (Typing::Known(kind), Json::Object(object)) = (node.typing, node.json)
        && !(kind.is_abstract && kind.kind == Kind::Resource)
    {
        if let Some(element) = name.memo.element(definitions, kind, &name.text) {
            typed_member(definitions, object, element, out);
        }
        return;
    }
    plain_member(definitions, item, &name.text, out);
}

/// [`member`] by a name that no expression keeps.
pub(super) fn plain_member<'a>(
    definitions: &'a Definitions,
    item: &Value<'a>,
    name: &str,
    out: &mut Items<'a>,
) {
    match item {
        Value::Node(node) => node_member(definitions, node, name, out),
        Value::Type { namespace, .. } if name == "namespace" => {
            out.push(Value::String((*namespace).into()));
        }
        Value::Type { name: type_name, .. } if name == "name" => {
            out.push(Value::String(type_name.clone()));
        }
        Value::Type { namespace, name: of } if name == "baseType" => {
            let base = match *namespace {
                "FHIR" => definitions.type_of(of).and_then(|kind| definitions.base(kind)),
                _ => None,
            };
            let base = base.map_or("System.Any".into(), |base| format!("FHIR.{}", base.name));
            out.push(Value::String(base.into()));
        }
        Value::Quantity(quantity) if name == "value" => out.push(Value::Decimal(quantity.value)),
        Value::Quantity(quantity) if name == "unit" => {
            out.push(Value::String(quantity.unit.clone()));
        }
        _ => {}
    }
}

fn node_member<'a>(definitions: &'a Definitions, node: &Node<'a>, name: &str, out: &mut Items<'a>) {
    match (typing(definitions, node), node.json) {
        (Typing::Unresolved(_), _) => {}
        (Typing::Known(kind), Json::Object(object)) => {
            if let Some(element) = definitions.element(kind, name) {
                typed_member(definitions, object, element, out);
            }
        }
        (_, Json::Object(object)) => {
            let sibling = sibling(object, name);
            if let Some(json) = object.get(name) {
                push_all(json, sibling, Typing::Unknown, definitions, out);
            } else if sibling.is_some() {
                push_all(&NULL, sibling, Typing::Unknown, definitions, out);
            }
        }
        // The id and extensions of a primitive.
        _ => {
            if let (Some(object), "id" | "extension") =
                (node.sibling.and_then(Json::as_object), name)
            {
                let kind = definitions.type_of("Element");
                if let Some(element) = kind.and_then(|kind| definitions.element(kind, name)) {
                    typed_member(definitions, object, element, out);
                }
            }
        }
    }
}

/// The type of a node, read from `resourceType` where a resource can stand.
pub(super) fn typing<'a>(definitions: &'a Definitions, node: &Node<'a>) -> Typing<'a> {
    let of_resource = |fallback| {
        let name = node.json.get("resourceType").and_then(Json::as_str);
        name.and_then(|name| definitions.type_of(name)).map_or(fallback, Typing::Known)
    };
    match node.typing {
        Typing::Open => of_resource(Typing::Unknown),
        Typing::Known(kind) if kind.is_abstract && kind.kind == Kind::Resource => {
            of_resource(node.typing)
        }
        typing => typing,
    }
}

/// The item with its type looked up, so that later steps need not do it again.
pub(super) fn resolved<'a>(definitions: &'a Definitions, item: &Value<'a>) -> Value<'a> {
    match item {
        Value::Node(node) => Value::Node(Node { typing: typing(definitions, node), ..*node }),
        other => other.clone(),
    }
}

fn typed_member<'a>(
    definitions: &'a Definitions,
    object: &'a Object,
    element: &'a Element,
    out: &mut Items<'a>,
) {
    if !element.is_choice {
        let Some(kind) = element.types.first() else { return };
        let is_primitive =
            definitions.content(kind).is_some_and(|content| content.kind == Kind::Primitive);
        let (json, sibling) = match is_primitive {
            true => with_sibling(object, element.name),
            false => (object.get(element.name), None),
        };
        match json {
            Some(json) => push(definitions, json, sibling, element, kind, out),
            None if sibling.is_some() => push(definitions, &NULL, sibling, element, kind, out),
            None => {}
        }
        return;
    }
    for (name, json) in object.iter() {
        if let Some(kind) = element.member(name) {
            return push(definitions, json, sibling(object, name), element, kind, out);
        }
    }
    for (name, json) in object.iter() {
        if let Some(kind) = name.strip_prefix('_').and_then(|name| element.member(name)) {
            return push(definitions, &NULL, Some(json), element, kind, out);
        }
    }
}

/// `Resource.id` is an `id`; HL7's table says `string` for it.
fn push<'a>(
    definitions: &'a Definitions,
    json: &'a Json,
    sibling: Option<&'a Json>,
    element: &'a Element,
    kind: &'a ElementType,
    out: &mut Items<'a>,
) {
    let content = match element.path {
        "Resource.id" => definitions.type_of("id"),
        _ => definitions.content(kind),
    };
    push_all(json, sibling, content.map_or(Typing::Unknown, Typing::Known), definitions, out);
}

fn push_all<'a>(
    json: &'a Json,
    sibling: Option<&'a Json>,
    typing: Typing<'a>,
    definitions: &'a Definitions,
    out: &mut Items<'a>,
) {
    // Where any resource can stand, each item tells what it is.
    let is_open = match typing {
        Typing::Known(kind) => kind.is_abstract && kind.kind == Kind::Resource,
        _ => true,
    };
    let mut push = |json: &'a Json, sibling: Option<&'a Json>| {
        let sibling = sibling.filter(|sibling| !matches!(sibling, Json::Null));
        if matches!(json, Json::Null) && sibling.is_none() {
            return;
        }
        let mut node = Node { json, sibling, typing };
        if is_open {
            node.typing = self::typing(definitions, &node);
        }
        out.push(Value::Node(node));
    };
    match (json, sibling) {
        (Json::Array(items), sibling) => {
            let siblings = sibling.and_then(Json::as_array).unwrap_or_default();
            for (index, item) in items.iter().enumerate() {
                push(item, siblings.get(index));
            }
            for sibling in siblings.iter().skip(items.len()) {
                push(&NULL, Some(sibling));
            }
        }
        (Json::Null, Some(Json::Array(siblings))) => {
            for sibling in siblings {
                push(&NULL, Some(sibling));
            }
        }
        (json, sibling) => push(json, sibling),
    }
}

/// A primitive's member and the one that holds its id and extensions.
fn with_sibling<'a>(object: &'a Object, name: &str) -> (Option<&'a Json>, Option<&'a Json>) {
    let (mut json, mut sibling) = (None, None);
    for (member, value) in object.iter() {
        if member == name {
            json = Some(value);
        } else if member.as_bytes().first() == Some(&b'_') && member.get(1..) == Some(name) {
            sibling = Some(value);
        }
    }
    (json, sibling)
}

fn sibling<'a>(object: &'a Object, name: &str) -> Option<&'a Json> {
    let is_it = |key: &str| key.as_bytes().first() == Some(&b'_') && key.get(1..) == Some(name);
    object.iter().find(|(key, _)| is_it(key)).map(|(_, json)| json)
}

/// Whether a value can have an id and extensions beside it.
fn can_have_sibling(json: &Json) -> bool {
    match json {
        Json::Object(_) => false,
        Json::Array(items) => !matches!(items.first(), Some(Json::Object(_))),
        _ => true,
    }
}

/// Adds all elements of an item in the order in which they stand.
pub(super) fn children<'a>(definitions: &'a Definitions, item: &Value<'a>, out: &mut Items<'a>) {
    let Value::Node(node) = item else { return };
    let typing = typing(definitions, node);
    if matches!(typing, Typing::Unresolved(_)) {
        return;
    }
    let Json::Object(object) = node.json else {
        for name in ["id", "extension"] {
            node_member(definitions, node, name, out);
        }
        return;
    };
    // Tables, as an object may have more members than can be looked through for each of them.
    let siblings: HashMap<&str, &'a Json> =
        object.iter().filter_map(|(name, json)| Some((name.strip_prefix('_')?, json))).collect();
    let names: HashSet<&str> = match siblings.is_empty() {
        true => HashSet::new(),
        false => object.iter().map(|(name, _)| name).collect(),
    };
    for (name, json) in object.iter() {
        let (name, json, sibling) = match name.strip_prefix('_') {
            Some(name) if names.contains(name) => continue,
            Some(name) => (name, &NULL, Some(json)),
            None if can_have_sibling(json) => (name, json, siblings.get(name).copied()),
            None => (name, json, None),
        };
        match typing {
            Typing::Known(_) if name == "resourceType" => {}
            Typing::Known(kind) => match json_member(definitions, kind, name) {
                Some((element, kind)) => push(definitions, json, sibling, element, kind, out),
                None => push_all(json, sibling, Typing::Unknown, definitions, out),
            },
            _ => push_all(json, sibling, Typing::Unknown, definitions, out),
        }
    }
}

/// The element that a JSON member belongs to, and the type that its name gives it.
fn json_member<'a>(
    definitions: &'a Definitions,
    kind: &'a Type,
    name: &str,
) -> Option<(&'a Element, &'a ElementType)> {
    let plain = definitions.element(kind, name).filter(|element| !element.is_choice);
    let element = plain.or_else(|| definitions.choice(kind, name))?;
    Some((element, element.member(name)?))
}
