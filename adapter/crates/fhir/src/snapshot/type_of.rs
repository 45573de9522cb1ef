//! The StructureDefinitions of R4's types from the tables:
//! <https://hl7.org/fhir/R4/structuredefinition.html>.

use super::{CORE, FHIR_TYPE, element};
use crate::definitions::{
    Definitions, Element, ElementType, Invariant, Kind, LANGUAGES, System, Type,
};
use crate::{Json, Object, json};

/// The version of the standard.
const VERSION: &str = "4.0.1";
/// What FHIRPath's own types are called in a definition.
const FHIRPATH: &str = "http://hl7.org/fhirpath/System.";
const MAX_VALUE_SET: &str = "http://hl7.org/fhir/StructureDefinition/elementdefinition-maxValueSet";
const REGEX: &str = "http://hl7.org/fhir/StructureDefinition/regex";

/// The StructureDefinition of an R4 type with its snapshot, made from the tables: no prose, no
/// mappings, no `representation`.
pub fn of_type(definitions: &Definitions, type_name: &str) -> Option<Json> {
    let kind = definitions.type_of(type_name).filter(|kind| kind.kind != Kind::Backbone)?;
    let mut elements = vec![root(definitions, kind)];
    children(definitions, kind, kind.name, &mut elements);
    let name = kind.name;
    let mut definition = json!({
        "resourceType": "StructureDefinition",
        "id": name,
        "url": (format!("{CORE}{name}")),
        "version": (VERSION),
        "name": name,
        "status": "active",
        "fhirVersion": (VERSION),
        "kind": (kind_code(kind)),
        "abstract": (kind.is_abstract),
        "type": name
    });
    if let Some(base) = definitions.base(kind) {
        definition.set("baseDefinition", format!("{CORE}{}", base.name));
        definition.set("derivation", "specialization");
    }
    definition.set("snapshot", json!({"element": elements}));
    Some(definition)
}

fn kind_code(kind: &Type) -> &'static str {
    match kind.kind {
        Kind::Resource => "resource",
        Kind::Primitive => "primitive-type",
        Kind::Complex | Kind::Backbone => "complex-type",
        Kind::Logical => "logical",
    }
}

fn root(definitions: &Definitions, kind: &Type) -> Json {
    let name = kind.name;
    let mut element = json!({
        "id": name, "path": name, "min": 0, "max": "*",
        "base": {"path": name, "min": 0, "max": "*"}
    });
    let constraints: Vec<Json> =
        lineage(definitions, kind).flat_map(|of| constraints(&of.invariants, of.name)).collect();
    if !constraints.is_empty() {
        element.set("constraint", constraints);
    }
    element.set("isModifier", false);
    element.set("isSummary", false);
    element
}

/// The type, its base and so on.
fn lineage<'a>(definitions: &'a Definitions, kind: &'a Type) -> impl Iterator<Item = &'a Type> {
    std::iter::successors(Some(kind), |kind| definitions.base(kind))
}

/// The depth of the standard's own elements bounds the recursion.
fn children(definitions: &Definitions, kind: &Type, path: &str, elements: &mut Vec<Json>) {
    for element in definitions.elements(kind.name) {
        let last = element.path.rsplit('.').next().unwrap_or(element.name);
        let path = format!("{path}.{last}");
        elements.push(Json::Object(definition_of(definitions, kind, element, &path)));
        let content = element.types.first().and_then(|of| definitions.content(of));
        if let Some(backbone) = content
            && backbone.kind == Kind::Backbone
            && backbone.name == element.path
        {
            children(definitions, backbone, &path, elements);
        }
    }
}

fn definition_of(definitions: &Definitions, kind: &Type, element: &Element, path: &str) -> Object {
    // Where the element was first defined.
    let first = lineage(definitions, kind)
        .filter_map(|of| of.elements.iter().find(|known| known.name == element.name))
        .last()
        .unwrap_or(element);
    let max = |of: &Element| of.max.map_or("*".to_owned(), |max| max.to_string());
    let mut out = Object::new();
    out.set("id", path);
    out.set("path", path);
    out.set("min", element.min);
    out.set("max", max(element));
    out.set("base", json!({"path": (first.path), "min": (first.min), "max": (max(first))}));
    let reference = element.types.first().and_then(|of| definitions.content(of));
    let reference = reference.filter(|of| of.kind == Kind::Backbone && of.name != element.path);
    let mut invariants: Vec<Json> = Vec::new();
    if let Some(target) = reference {
        out.set("contentReference", format!("#{}", target.name));
    } else if !element.types.is_empty() {
        let types: Vec<Json> =
            element.types.iter().map(|of| type_entry(kind, element, of)).collect();
        out.set("type", types);
    }
    if !is_plain(kind, element) {
        invariants.extend(inherited(definitions, element));
    }
    let own = lineage(definitions, kind)
        .filter(|of| of.elements.iter().any(|known| known.name == element.name));
    let own_name = own.map(|of| of.name).next().unwrap_or(kind.name);
    let own_name = own_name.split('.').next().unwrap_or(own_name);
    invariants.extend(constraints(&element.invariants, own_name));
    if !invariants.is_empty() {
        out.set("constraint", invariants);
    }
    out.set("isModifier", element.is_modifier);
    out.set("isSummary", element.is_summary);
    if let Some(binding) = &element.binding {
        let mut value = json!({"strength": (binding.strength)});
        let [common, all] = LANGUAGES;
        if binding.value_set == common {
            let max = json!({"url": (MAX_VALUE_SET), "valueCanonical": all});
            value.set("extension", json!([max]));
        }
        if !binding.value_set.is_empty() {
            value.set("valueSet", binding.value_set);
        }
        out.set("binding", value);
    }
    out
}

/// Whether an element is a plain value, of a type of FHIRPath: an id, the url of an extension and
/// the value of a primitive.
fn is_plain(kind: &Type, element: &Element) -> bool {
    (element.name == "id" && element.path.matches('.').count() == 1)
        || element.path == "Extension.url"
        || (kind.kind == Kind::Primitive && element.name == "value")
}

fn type_entry(kind: &Type, element: &Element, of: &ElementType) -> Json {
    if is_plain(kind, element) {
        let system = match kind.system {
            System::Boolean => "Boolean",
            System::Integer => "Integer",
            System::Decimal => "Decimal",
            System::Date => "Date",
            System::DateTime => "DateTime",
            System::Time => "Time",
            System::None | System::String | System::Quantity => "String",
        };
        let system = if element.name == "value" { system } else { "String" };
        let mut entry = Object::new();
        let mut extensions = Vec::new();
        if of.code.starts_with(|c: char| c.is_ascii_lowercase()) {
            extensions.push(json!({"url": (FHIR_TYPE), "valueUrl": (of.code)}));
        }
        if let Some(regex) = element.regex {
            extensions.push(json!({"url": (REGEX), "valueString": regex}));
        }
        if !extensions.is_empty() {
            entry.set("extension", extensions);
        }
        entry.set("code", format!("{FHIRPATH}{system}"));
        return Json::Object(entry);
    }
    let mut entry = json!({"code": (of.code)});
    let canonicals = |names: &mut dyn Iterator<Item = &'static str>| -> Vec<Json> {
        names.map(|name| Json::from(element::canonical(name))).collect()
    };
    for (name, list) in [
        ("profile", canonicals(&mut of.profiles())),
        ("targetProfile", canonicals(&mut of.targets())),
    ] {
        if !list.is_empty() {
            entry.set(name, list);
        }
    }
    entry
}

/// The invariants that hold for whatever is an Element or an Extension.
fn inherited(definitions: &Definitions, element: &Element) -> Vec<Json> {
    let Some(code) = element.types.first().map(|of| of.code) else { return Vec::new() };
    let names = ["Element", "Extension"];
    let of = names.into_iter().filter(|name| definitions.is_a(code, name));
    of.filter_map(|name| definitions.type_of(name))
        .flat_map(|of| constraints(&of.invariants, of.name))
        .collect()
}

fn constraints(invariants: &[Invariant], source: &str) -> Vec<Json> {
    let entry = |invariant: &Invariant| {
        json!({
            "key": (invariant.key),
            "severity": (if invariant.is_error { "error" } else { "warning" }),
            "expression": (invariant.expression),
            "source": (format!("{CORE}{source}"))
        })
    };
    invariants.iter().map(entry).collect()
}
