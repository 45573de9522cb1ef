//! The value of an operation of a FHIRPath Patch: a `value[x]`, a resource, or parts that are named
//! after the elements of a type: <https://hl7.org/fhir/R4/fhirpatch.html#concept>.

use super::fhirpath_patch::Fault;
use crate::definitions::{Definitions, Element, ElementType, Kind, System, Type};
use crate::{IssueType, Json, Object};

/// What is to stand in an element.
pub(super) struct Content {
    /// The JSON member that it stands in, without underscore.
    pub(super) member: String,
    /// The value; `Json::Null` for a primitive that has only extensions.
    pub(super) json: Json,
    /// The id and extensions of a primitive.
    pub(super) sibling: Option<Json>,
}

/// Reads the part `value` of an operation on `element`.
pub(super) fn read_content(
    definitions: &Definitions,
    element: &Element,
    part: &Json,
) -> Result<Content, Fault> {
    let fault = |text: String| Err((IssueType::Value, text));
    let name = element.name;
    let members = part.as_object().map(Object::iter).into_iter().flatten();
    let mut values = members.filter(|(member, _)| {
        let member = member.strip_prefix('_').unwrap_or(member);
        matches!(member, "resource" | "part") || member.starts_with("value")
    });
    let one = "the part value must hold one value[x], one resource, or parts.";
    let Some((member, json)) = values.next() else { return fault(one.to_owned()) };
    let bare = member.strip_prefix('_').unwrap_or(member);
    let (mut json, mut sibling) =
        if member == bare { (json.clone(), None) } else { (Json::Null, Some(json)) };
    for (other, value) in values {
        match other.strip_prefix('_') {
            Some(other) if other == bare && sibling.is_none() => sibling = Some(value),
            None if other == bare && json == Json::Null => json = value.clone(),
            _ => return fault(one.to_owned()),
        }
    }
    let sibling = sibling.cloned();
    match bare {
        "part" => {
            let of_type = match element.types.as_slice() {
                [of_type] => definitions.content(of_type),
                _ => None,
            };
            let Some(kind) = of_type.filter(|kind| kind.kind != Kind::Primitive) else {
                return fault(format!("{name} is given as a value[x], not in parts."));
            };
            let json = in_parts(definitions, kind, part.list("part"))?;
            Ok(Content { member: name.to_owned(), json, sibling: None })
        }
        "resource" => {
            if !element.types.iter().any(|of_type| definitions.is_a("Basic", of_type.code)) {
                return fault(format!("{name} cannot hold a resource."));
            }
            Ok(Content { member: name.to_owned(), json, sibling: None })
        }
        _ => {
            let values = definitions.child("Parameters.parameter", "value");
            let Some(given) = values.and_then(|values| values.member(bare)) else {
                return fault(format!(
                    "{} is none of the types of R4.",
                    bare.chars().take(64).collect::<String>()
                ));
            };
            let member = match element.is_choice {
                true => format!("{name}{}", capitalised(given.code)),
                false => name.to_owned(),
            };
            let fits = match element.member(&member) {
                Some(of_type) if element.is_choice => of_type.code == given.code,
                Some(of_type) => fits(definitions, of_type, given),
                None => false,
            };
            if !fits {
                let types: Vec<&str> = element.types.iter().map(|of_type| of_type.code).collect();
                let text = format!(
                    "the value of {name} is of the type {}, not {}.",
                    types.join(", "),
                    given.code
                );
                return fault(text);
            }
            Ok(Content { member, json, sibling })
        }
    }
}

/// An object whose elements are the parts.
fn in_parts(definitions: &Definitions, kind: &Type, parts: &[Json]) -> Result<Json, Fault> {
    let mut object = Object::new();
    for part in parts {
        let name = part.str_at(&["name"]).unwrap_or_default();
        let Some(element) = definitions.child(kind.name, name.strip_suffix("[x]").unwrap_or(name))
        else {
            let name: String = name.chars().take(64).collect();
            return Err((IssueType::Value, format!("{} has no element {name}.", kind.name)));
        };
        let Content { member, json, sibling } = read_content(definitions, element, part)?;
        let beside = format!("_{member}");
        if element.max == Some(1) {
            if object.get(&member).is_some() || object.get(&beside).is_some() {
                let text = format!("{} is given more than once.", element.path);
                return Err((IssueType::Value, text));
            }
            if json != Json::Null {
                object.set(&member, json);
            }
            if let Some(sibling) = sibling {
                object.set(&beside, sibling);
            }
            continue;
        }
        let mut items = match object.remove(&member) {
            Some(Json::Array(items)) => items,
            _ => Vec::new(),
        };
        let before = items.len();
        items.push(json);
        object.set(&member, Json::Array(items));
        if sibling.is_some() || object.get(&beside).is_some() {
            let mut items = match object.remove(&beside) {
                Some(Json::Array(items)) => items,
                _ => Vec::new(),
            };
            items.resize(before, Json::Null);
            items.push(sibling.unwrap_or(Json::Null));
            object.set(&beside, Json::Array(items));
        }
    }
    Ok(Json::Object(object))
}

/// Whether a value of the type `given` may stand where `of_type` is asked for. A string may stand
/// for any primitive that is a text, whose form the validation of the result judges.
fn fits(definitions: &Definitions, of_type: &ElementType, given: &ElementType) -> bool {
    let (wanted, given) = (of_type.code, given.code);
    let system = |code: &str| definitions.type_of(code).map(|kind| kind.system);
    let is_text = matches!(
        system(wanted),
        Some(System::String | System::Date | System::DateTime | System::Time)
    );
    let is_primitive = definitions.type_of(wanted).is_some_and(|kind| kind.kind == Kind::Primitive);
    let has_children = definitions.content(of_type).is_some_and(|kind| kind.kind == Kind::Backbone);
    !has_children
        && (definitions.is_a(wanted, given)
            || definitions.is_a(given, wanted)
            || (given == "string" && is_primitive && is_text)
            || matches!(
                (given, wanted),
                ("date" | "instant", "dateTime") | ("dateTime", "instant")
            ))
}

fn capitalised(code: &str) -> String {
    let mut letters = code.chars();
    letters
        .next()
        .map_or(String::new(), |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}
