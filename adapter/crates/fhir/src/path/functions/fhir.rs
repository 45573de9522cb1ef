//! Functions that FHIR adds: <https://hl7.org/fhir/R4/fhirpath.html#functions>.

use super::{Call, Evaluated, Function, row, some, truth};
use crate::Json;
use crate::path::eval::Items;
use crate::path::operators::truth_value;
use crate::path::value::Value;
use crate::path::{PathError, navigate, operators};

pub(super) static FUNCTIONS: &[Function] = &[
    row("extension", (1, 1), extension),
    row("hasValue", (0, 0), |call| truth(matches!(call.focus, [item] if has_value(item)))),
    row("getValue", (0, 0), |call| {
        let item = operators::single(call.focus)?.filter(|item| has_value(item));
        some(item.map(Value::to_system))
    }),
    row("conformsTo", (1, 1), conforms_to),
    row("checkModifiers", (1, 16), check_modifiers),
];

fn has_value(item: &Value) -> bool {
    match item {
        Value::Node(node) => node.has_value(),
        _ => true,
    }
}

/// The profiles that define the types themselves are always known.
fn conforms_to<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let (Some(item), Some(url)) = (operators::single(call.focus)?, call.string(0)?) else {
        return Ok(Items::new());
    };
    let context = call.scope.context;
    let name = url.strip_prefix("http://hl7.org/fhir/StructureDefinition/");
    if let Some(name) = name.filter(|name| context.definitions.type_of(name).is_some()) {
        return truth(context.definitions.is_a(item.type_name(), name));
    }
    match context.environment {
        Some(world) => Ok(truth_value(call.scope.tally.note(world.conforms_to(item, &url)))),
        None => Err(PathError::new(format!("the profile {url} is not known here"))),
    }
}

fn extension<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let Some(url) = call.string(0)? else { return Ok(Items::new()) };
    let mut found = Items::new();
    for item in call.focus {
        navigate::plain_member(call.scope.context.definitions, item, "extension", &mut found);
    }
    found.retain(|item| {
        item.json().and_then(|json| json.get("url")).and_then(Json::as_str) == Some(url.as_ref())
    });
    Ok(found)
}

/// Only the extensions with these URLs may change the meaning of an item.
fn check_modifiers<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let mut known = Vec::new();
    for index in 0..call.arguments.len() {
        known.extend(call.string(index)?);
    }
    for item in call.focus {
        for extension in item.json().map_or(&[][..], |json| json.list("modifierExtension")) {
            let url = extension.str_at(&["url"]).unwrap_or_default();
            if !known.iter().any(|known| known == url) {
                let reason = format!("the modifier extension \"{url}\" is not understood");
                return Err(PathError::new(reason));
            }
        }
    }
    Ok(call.focus.into())
}
