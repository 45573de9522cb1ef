//! The types of R4 in JSON: <https://hl7.org/fhir/R4/json.html>.

use super::{Builder, all_of, any_of, has, items};
use crate::definitions::{Element, ElementType, Kind, System, Type};
use crate::{Json, Object, json};

impl<'a> Builder<'a> {
    /// The schema of a type, or of the content of a backbone element.
    pub(super) fn type_schema(&mut self, name: &'a str) -> Json {
        let definitions = self.sources.definitions;
        let Some(kind) = definitions.type_of(name) else { return Json::Bool(true) };
        match kind.kind {
            Kind::Primitive => self.primitive(kind),
            // Each of all resources: what it is, its own schema says.
            Kind::Resource if kind.is_abstract => json!({
                "type": "object",
                "properties": {"resourceType": {"type": "string"}},
                "required": ["resourceType"]
            }),
            _ => self.object(kind),
        }
    }

    fn primitive(&self, kind: &Type) -> Json {
        let range = |min: i64| {
            let max = i64::from(i32::MAX);
            json!({"type": "integer", "minimum": (min), "maximum": (max)})
        };
        match (kind.system, kind.name) {
            (System::Boolean, _) => json!({"type": "boolean"}),
            (System::Integer, "positiveInt") => range(1),
            (System::Integer, "unsignedInt") => range(0),
            (System::Integer, _) => range(i64::from(i32::MIN)),
            (System::Decimal, _) => json!({"type": "number"}),
            // The standard's own expression takes exponential time in some engines.
            (_, "base64Binary") => json!({"type": "string", "pattern": "^[0-9A-Za-z+/=\\s]+$"}),
            (_, "markdown") => json!({"type": "string", "pattern": "\\S"}),
            _ => {
                let value = self.sources.definitions.element(kind, "value");
                let mut schema = json!({"type": "string", "minLength": 1});
                if let Some(regex) = value.and_then(|value| value.regex) {
                    schema.set("pattern", format!("^(?:{regex})$"));
                }
                schema
            }
        }
    }

    fn object(&mut self, kind: &'a Type) -> Json {
        let mut properties = Object::new();
        let mut required: Vec<Json> = Vec::new();
        let mut all = Vec::new();
        if kind.kind == Kind::Resource {
            properties.set("resourceType", json!({"const": (kind.name)}));
            required.push("resourceType".into());
        }
        for element in self.sources.definitions.elements(kind.name) {
            if element.max == Some(0) || element.types.is_empty() {
                continue;
            }
            let mut ways = Vec::new();
            let mut names = Vec::new();
            for (name, of) in members(element) {
                let has_sibling = self.is_primitive(of) && !is_plain(element);
                properties.set(&name, self.member(element, of));
                if has_sibling {
                    let sibling = self.of("Element");
                    properties.set(&format!("_{name}"), self.sibling(element, sibling));
                }
                ways.extend(has(&name, has_sibling));
                names.push(name);
            }
            match ways.len() {
                1 if element.min > 0 => required.extend(names.iter().map(Json::from)),
                _ if element.min > 0 => all.push(any_of(ways)),
                _ => {}
            }
            if names.len() > 1 {
                all.push(at_most_one(&names));
            }
        }
        let mut schema = json!({"type": "object", "properties": (properties)});
        schema.set("additionalProperties", false);
        schema.set("minProperties", 1_u32);
        if !required.is_empty() {
            schema.set("required", required);
        }
        if !all.is_empty() {
            schema.set("allOf", all);
        }
        schema
    }

    /// The value of a JSON member.
    fn member(&mut self, element: &'a Element, of: &'a ElementType) -> Json {
        let Some(kind) = self.sources.definitions.content(of) else { return Json::Bool(true) };
        let mut all = vec![self.of(kind.name)];
        if let Some(binding) = element.binding.filter(|binding| binding.strength == "required") {
            all.extend(self.bound(binding.value_set, kind.name));
        }
        let value = all_of(all);
        if element.max == Some(1) {
            return value;
        }
        let is_primitive = kind.kind == Kind::Primitive;
        json!({"type": "array", "minItems": 1, "items": (items(value, is_primitive))})
    }

    /// The value of the member that holds ids and extensions of a primitive.
    fn sibling(&self, element: &Element, of: Json) -> Json {
        if element.max == Some(1) {
            return of;
        }
        json!({"type": "array", "minItems": 1, "items": (items(of, true))})
    }

    pub(super) fn is_primitive(&self, of: &ElementType) -> bool {
        let kind = self.sources.definitions.content(of);
        kind.is_some_and(|kind| kind.kind == Kind::Primitive)
    }
}

/// The JSON members of an element, each with its type.
pub(super) fn members(element: &Element) -> Vec<(String, &ElementType)> {
    let name = |of: &ElementType| {
        let (first, rest) = of.code.split_at_checked(1).unwrap_or((of.code, ""));
        format!("{}{}{rest}", element.name, first.to_ascii_uppercase())
    };
    match element.is_choice {
        true => element.types.iter().map(|of| (name(of), of)).collect(),
        false => element.types.iter().take(1).map(|of| (element.name.to_owned(), of)).collect(),
    }
}

/// Whether an element is a value without id and extensions: an id, the url of an extension.
fn is_plain(element: &Element) -> bool {
    let is_id = element.name == "id" && element.path.matches('.').count() == 1;
    is_id || matches!(element.path, "Extension.url" | "Narrative.div")
}

/// Only one of the members of a choice may be there.
fn at_most_one(names: &[String]) -> Json {
    let mut ways: Vec<Json> = names.iter().map(|name| any_of(has(name, true))).collect();
    ways.push(json!({"not": {"anyOf": (ways.clone())}}));
    json!({"oneOf": (ways)})
}
