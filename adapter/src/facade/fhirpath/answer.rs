//! Values of FHIRPath as parts of Parameters: <https://hl7.org/fhir/R4/parameters.html>.

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::path::Value;
use lumbar_fhir::{Json, Object, json};

use super::JSON_VALUE;

/// A part for each item, named after its type.
pub(super) fn parts(definitions: &Definitions, items: &[Value<'_>]) -> Vec<Json> {
    items.iter().map(|item| part(definitions, item)).collect()
}

/// A type that `value[x]` of Parameters does not have is JSON in an extension.
fn part(definitions: &Definitions, item: &Value<'_>) -> Json {
    let of = item.type_name();
    let of = match of.strip_prefix("System.") {
        Some(of @ ("Quantity" | "TypeInfo" | "Any")) => of.to_owned(),
        Some(of) => with_first(of, char::to_ascii_lowercase),
        None => of.to_owned(),
    };
    let mut part = Object::new();
    part.set("name", of.as_str());
    if matches!(item, Value::Type { .. }) {
        return in_extension(part, item.to_json());
    }
    let value = item.to_json();
    if value.as_str() == Some("") {
        part.set("name", "empty-string");
        return Json::Object(part);
    }
    if definitions.is_resource(&of) && value.get("resourceType").is_some() {
        part.set("resource", value);
        return Json::Object(part);
    }
    let member = format!("value{}", with_first(&of, char::to_ascii_uppercase));
    if definitions.child("Parameters.parameter", &member).is_none() {
        return in_extension(part, value);
    }
    if value != Json::Null {
        part.set(&member, value);
    }
    if let Some(beside) = item.sibling() {
        part.set(&format!("_{member}"), beside.clone());
    }
    Json::Object(part)
}

fn in_extension(mut part: Object, value: Json) -> Json {
    let text = value.to_string();
    part.set_at(0, "extension", json!([{"url": (JSON_VALUE), "valueString": (text)}]));
    Json::Object(part)
}

fn with_first(text: &str, change: impl Fn(&char) -> char) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| change(&first)).into_iter().chain(letters).collect()
}
