//! One ElementDefinition laid over another:
//! <https://hl7.org/fhir/R4/elementdefinition.html#interpretation>.

use super::CORE;
use super::tree::Node;
use crate::{Json, Object, json};

/// How the types of FHIRPath begin.
const FHIRPATH: &str = "http://hl7.org/fhirpath/";

/// Texts to which a differential adds when its own begins with `...`.
const TEXTS: [&str; 7] = [
    "short",
    "definition",
    "comment",
    "requirements",
    "label",
    "meaningWhenMissing",
    "orderMeaning",
];
/// Lists to which a differential adds.
const LISTS: [&str; 7] =
    ["alias", "code", "condition", "constraint", "example", "extension", "mapping"];
/// Choices, of which a differential's replaces the base's whatever its type.
const CHOICES: [&str; 5] = ["defaultValue", "fixed", "maxValue", "minValue", "pattern"];
/// Members that say where an element stands, not what it is.
const PLACE: [&str; 4] = ["base", "id", "path", "sliceName"];
/// What an extension has of its definition, and not of the element that is extended.
const OF_EXTENSION: [&str; 6] =
    ["short", "definition", "comment", "requirements", "alias", "mapping"];
/// Types whose values can be bound to a value set.
const BINDABLE: [&str; 9] = [
    "code",
    "Coding",
    "CodeableConcept",
    "Quantity",
    "Duration",
    "Age",
    "string",
    "uri",
    "canonical",
];
/// Extensions that speak of the element where it is defined and are not inherited.
const NOT_INHERITED: [&str; 3] = [
    "structuredefinition-explicit-type-name",
    "structuredefinition-normative-version",
    "structuredefinition-standards-status",
];

/// Members in the order of the standard, those of a choice by their stem.
const ORDER: [&str; 38] = [
    "id",
    "extension",
    "modifierExtension",
    "path",
    "representation",
    "sliceName",
    "sliceIsConstraining",
    "label",
    "code",
    "slicing",
    "short",
    "definition",
    "comment",
    "requirements",
    "alias",
    "min",
    "max",
    "base",
    "contentReference",
    "type",
    "defaultValue",
    "meaningWhenMissing",
    "orderMeaning",
    "fixed",
    "pattern",
    "example",
    "minValue",
    "maxValue",
    "maxLength",
    "condition",
    "constraint",
    "mustSupport",
    "isModifier",
    "isModifierReason",
    "isSummary",
    "binding",
    "mapping",
    "",
];

/// Lays an element of a differential over the base's. `extension` is its definition, if it is an
/// extension.
pub(super) fn merge(base: &mut Object, own: &Object, extension: Option<&Node>, url: &str) {
    if let Some(definition) = extension {
        for name in OF_EXTENSION {
            match definition.element.get(name) {
                Some(value) => set(base, name, value.clone()),
                None => _ = base.remove(name),
            }
        }
    }
    if let Some(Json::Array(extensions)) = base.get_mut("extension") {
        extensions.retain(|extension| {
            let url = extension.str_at(&["url"]).unwrap_or_default();
            !NOT_INHERITED.iter().any(|name| url.strip_prefix(CORE) == Some(name))
        });
        if extensions.is_empty() {
            base.remove("extension");
        }
    }
    for (name, value) in own.iter() {
        let stem = name.strip_prefix('_').unwrap_or(name);
        if PLACE.contains(&stem) {
            continue;
        }
        if let Some(choice) = choice(stem) {
            let others: Vec<String> = base
                .iter()
                .map(|(known, _)| known)
                .filter(|known| is_choice(known, choice) && !own.iter().any(|(n, _)| n == *known))
                .map(str::to_owned)
                .collect();
            for other in others {
                base.remove(&other);
            }
            set(base, name, value.clone());
        } else if LISTS.contains(&name) {
            add(base, name, value, url);
        } else if TEXTS.contains(&name) {
            let before = base.get(name).and_then(Json::as_str);
            let value = match (value.as_str().and_then(|text| text.strip_prefix("...")), before) {
                (Some(more), Some(before)) => Json::from(format!("{before}\r\n{more}")),
                (Some(more), None) => Json::from(more),
                (None, _) => value.clone(),
            };
            set(base, name, value);
        } else if matches!(name, "binding" | "slicing") {
            let mut merged = base.get(name).and_then(Json::as_object).cloned().unwrap_or_default();
            for (part, value) in value.as_object().map(Object::iter).into_iter().flatten() {
                merged.set(part, value.clone());
            }
            set(base, name, Json::Object(merged));
        } else {
            set(base, name, value.clone());
        }
    }
}

/// How much is gone through when a differential is laid over an element.
pub(super) fn work(base: &Object, own: &Object) -> usize {
    let length = |object: &Object, name: &str| {
        object.get(name).and_then(Json::as_array).map_or(0, <[Json]>::len)
    };
    let lists = LISTS.iter().chain(&["type"]);
    let works = lists.map(|name| {
        let (known, more) = (length(base, name), length(own, name));
        match more {
            0 => 0,
            // The list is copied, and each item is compared with those that are there.
            more => known.saturating_mul(16 + more).saturating_add(more.saturating_mul(more)),
        }
    });
    works.fold(0, usize::saturating_add)
}

/// Adds what is not there yet.
fn add(base: &mut Object, name: &str, more: &Json, url: &str) {
    let Some(more) = more.as_array() else { return };
    let mut list = base.get(name).and_then(Json::as_array).unwrap_or_default().to_vec();
    for item in more {
        let same = |known: &Json, names: &[&str]| names.iter().all(|n| known.get(n) == item.get(n));
        let at = match name {
            "constraint" => list.iter().position(|known| same(known, &["key", "expression"])),
            "extension" => list.iter().position(|known| same(known, &["url"])),
            _ => list.iter().position(|known| known == item),
        };
        let mut item = item.clone();
        if name == "constraint" && item.get("source").is_none() {
            item.set("source", url);
        }
        match at.and_then(|at| list.get_mut(at)) {
            Some(known) if name == "extension" => *known = item,
            Some(_) => {}
            None => list.push(item),
        }
    }
    set(base, name, Json::Array(list));
}

/// Sets a member in the place that the standard gives it.
pub(super) fn set(element: &mut Object, name: &str, value: Json) {
    let own = rank(name);
    let before = element.iter().position(|(known, _)| rank(known) > own);
    element.set_at(before.unwrap_or(usize::MAX), name, value);
}

fn rank(name: &str) -> usize {
    let stem = name.strip_prefix('_').unwrap_or(name);
    let stem = choice(stem).unwrap_or(stem);
    ORDER.iter().position(|known| *known == stem).unwrap_or(ORDER.len())
}

fn choice(name: &str) -> Option<&'static str> {
    CHOICES.into_iter().find(|choice| is_choice(name, choice))
}

fn is_choice(name: &str, choice: &str) -> bool {
    let stem = name.strip_prefix('_').unwrap_or(name);
    stem.strip_prefix(choice).is_some_and(|kind| kind.starts_with(|c: char| c.is_ascii_uppercase()))
}

/// Codes of an element's types, each once, and the profiles on them where there is one type. For a
/// plain value, which has a type of FHIRPath, the FHIR type that it stands for.
pub(super) fn types(element: &Object) -> (Vec<String>, Vec<String>) {
    let mut codes: Vec<String> = Vec::new();
    let mut profiles = Vec::new();
    for kind in element.get("type").and_then(Json::as_array).unwrap_or_default() {
        let fhir_type = || {
            let extensions = kind.list("extension").iter();
            let mut named = extensions.filter(|e| e.str_at(&["url"]) == Some(super::FHIR_TYPE));
            named.next()?.str_at(&["valueUrl"])
        };
        let code = kind.str_at(&["code"]);
        let code = code.filter(|code| !code.starts_with(FHIRPATH)).or_else(fhir_type);
        if let Some(code) = code.filter(|code| !codes.iter().any(|known| known == code)) {
            codes.push(code.to_owned());
        }
        profiles.extend(kind.list("profile").iter().filter_map(Json::as_str).map(str::to_owned));
    }
    if codes.len() != 1 || profiles.len() != 1 {
        profiles.clear();
    }
    (codes, profiles)
}

/// Whether an element is a plain value, with a type of FHIRPath.
pub(super) fn is_plain(element: &Object) -> bool {
    let types = element.get("type").and_then(Json::as_array).unwrap_or_default();
    types.iter().any(|kind| kind.str_at(&["code"]).is_some_and(|code| code.starts_with(FHIRPATH)))
}

/// A choice that is named with a type has that type only.
pub(super) fn only_choice(node: &mut Node, index: usize) {
    let Some(slice) = node.children.get(index) else { return };
    let (codes, _) = types(&slice.element);
    let unsliced = node.find(&slice.name.clone(), None);
    let unsliced = unsliced.and_then(|unsliced| node.children.get_mut(unsliced));
    if let (Some(unsliced), [code]) = (unsliced, codes.as_slice()) {
        narrow(&mut unsliced.element, code);
        if let Some(slicing) = unsliced.element.get_mut("slicing") {
            slicing.set("rules", "closed");
        }
    }
}

/// The canonical of a type, which may be named by it.
pub(super) fn canonical(code: &str) -> String {
    if code.contains('/') { code.to_owned() } else { format!("{CORE}{code}") }
}

/// Leaves an element only the type `code`.
pub(super) fn narrow(element: &mut Object, code: &str) {
    if let Some(Json::Array(types)) = element.get_mut("type") {
        types.retain(|kind| kind.str_at(&["code"]) == Some(code));
    }
    if !BINDABLE.contains(&code) {
        element.remove("binding");
    }
}

/// What a slice does not have of the element that it slices.
pub(super) fn begin_slice(element: &mut Object) {
    element.remove("slicing");
    set(element, "min", Json::from(0));
}

/// The slicing that need not be stated: of extensions by url, of choices by type.
pub(super) fn implied_slicing(name: &str) -> Option<Json> {
    if name.ends_with("[x]") {
        return Some(json!({
            "discriminator": [{"type": "type", "path": "$this"}],
            "ordered": false, "rules": "open"
        }));
    }
    matches!(name, "extension" | "modifierExtension").then(|| {
        json!({
            "discriminator": [{"type": "value", "path": "url"}],
            "ordered": false, "rules": "open"
        })
    })
}

/// A new element of a specialization before its differential is laid over it.
pub(super) fn added(differential: &Object, constraints: Vec<Json>) -> Object {
    let mut element = Object::new();
    if !constraints.is_empty() {
        set(&mut element, "constraint", Json::Array(constraints));
    }
    for (name, default) in [("min", Json::from(0)), ("max", Json::from("1"))] {
        let value = differential.get(name).cloned().unwrap_or(default);
        set(&mut element, name, value);
    }
    element
}

/// Says that an element is what it was first defined as.
pub(super) fn own_base(element: &mut Object, path: &str) {
    let mut base = Object::new();
    base.set("path", path);
    for name in ["min", "max"] {
        if let Some(value) = element.get(name) {
            base.set(name, value.clone());
        }
    }
    set(element, "base", Json::Object(base));
}

/// Says of each constraint that has no source that it is of `url`.
pub(super) fn state_source(element: &mut Object, url: &str) {
    if let Some(Json::Array(constraints)) = element.get_mut("constraint") {
        for constraint in constraints {
            if constraint.get("source").is_none() {
                constraint.set("source", url);
            }
        }
    }
}

/// Fills what every element of a snapshot has.
pub(super) fn finish(element: &mut Object, path: &str) {
    if element.get("base").is_none() {
        own_base(element, path);
    }
    for name in ["isModifier", "isSummary"] {
        if element.get(name).is_none() {
            set(element, name, Json::Bool(false));
        }
    }
}
