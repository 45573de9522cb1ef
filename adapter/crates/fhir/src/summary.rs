//! Parts of a resource: <https://hl7.org/fhir/R4/search.html#summary> and
//! <https://hl7.org/fhir/R4/search.html#elements>.
//!
//! What is left out follows from the definitions alone. What a summary keeps can still be held
//! against R4: elements that must be there and those that change a meaning stay, at every depth, and
//! so do contained resources that something kept refers to. Where a text asks for parts is decided
//! by whoever calls.

use crate::definitions::{Definitions, Element, ElementType, Kind, Type};
use crate::{Json, Object, json};

/// Code system and code of the tag that a part carries.
pub const SUBSETTED: (&str, &str) =
    ("http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "SUBSETTED");

/// Which part of a resource is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The elements that the standard marks for summaries.
    Summary,
    /// The narrative and what must be there.
    Text,
    /// All but the narrative.
    Data,
    /// These elements of the resource, and what must be there or changes the meaning.
    Elements(Vec<String>),
}

/// The part of `resource`, tagged as one.
pub fn part(definitions: &Definitions, resource: &Json, part: &Part) -> Json {
    let of = resource.str_at(&["resourceType"]).and_then(|name| definitions.type_of(name));
    let (Some(whole), Some(of)) = (resource.as_object(), of) else { return resource.clone() };
    let mut kept = match part {
        Part::Summary => summary(definitions, of, whole, true),
        Part::Data => members(whole, |name| name != "text"),
        Part::Text => members(whole, |name| {
            name == "text" || definitions.element(of, name).is_some_and(|element| element.min > 0)
        }),
        Part::Elements(names) => members(whole, |name| {
            let element = find(definitions, of, name);
            names.iter().any(|wanted| {
                wanted == name || element.is_some_and(|element| element.name == wanted)
            }) || element.is_some_and(|element| element.min > 0 || element.is_modifier)
        }),
    };
    keep_contained(whole, &mut kept);
    tag(&mut kept);
    Json::Object(kept)
}

/// Whether a resource says that it is only a part of one.
pub fn is_part(resource: &Json) -> bool {
    let (system, code) = SUBSETTED;
    let tags = resource.get("meta").map_or(&[][..], |meta| meta.list("tag"));
    tags.iter()
        .any(|tag| tag.str_at(&["code"]) == Some(code) && tag.str_at(&["system"]) == Some(system))
}

/// Whether resources of a type can have an element of this name, choices with or without type.
pub fn has_element(definitions: &Definitions, resource_type: &str, name: &str) -> bool {
    definitions.type_of(resource_type).is_some_and(|of| find(definitions, of, name).is_some())
}

/// The element that a JSON member or an element's name stands for.
fn find<'a>(definitions: &'a Definitions, of: &'a Type, name: &str) -> Option<&'a Element> {
    definitions.element(of, name).or_else(|| definitions.choice(of, name))
}

/// The name of the element's member that a member belongs to: `_birthDate` to `birthDate`.
fn plain(name: &str) -> &str {
    name.strip_prefix('_').unwrap_or(name)
}

/// The members that say what it is, and those wanted.
fn members(whole: &Object, wanted: impl Fn(&str) -> bool) -> Object {
    let mut kept = Object::new();
    for (name, value) in whole.iter() {
        let plain = plain(name);
        if matches!(plain, "resourceType" | "id" | "meta") || wanted(plain) {
            kept.set(name, value.clone());
        }
    }
    kept
}

fn summary(definitions: &Definitions, of: &Type, whole: &Object, is_resource: bool) -> Object {
    let mut kept = Object::new();
    for (name, value) in whole.iter() {
        if is_resource && matches!(name, "resourceType" | "id" | "meta") {
            kept.set(name, value.clone());
            continue;
        }
        let Some(element) = find(definitions, of, plain(name)) else { continue };
        let must = element.min > 0 || element.is_modifier;
        if !must && !element.is_summary {
            continue;
        }
        let content = (name == plain(name))
            .then(|| element.member(name))
            .flatten()
            .and_then(|kind| shortened(definitions, kind));
        let Some(content) = content else {
            kept.set(name, value.clone());
            continue;
        };
        match nested(definitions, content, value) {
            Some(shorter) => kept.set(name, shorter),
            None if must => kept.set(name, value.clone()),
            None => {}
        }
    }
    kept
}

/// The type of an element whose children are looked at. The others are kept or not as a whole.
fn shortened<'a>(definitions: &'a Definitions, kind: &ElementType) -> Option<&'a Type> {
    let content = definitions.content(kind)?;
    let has_parts = matches!(content.kind, Kind::Complex | Kind::Backbone);
    (has_parts && !matches!(content.name, "Extension" | "Meta" | "Narrative")).then_some(content)
}

/// The summary of an element's value or values; `None` when nothing of it is left.
fn nested(definitions: &Definitions, content: &Type, value: &Json) -> Option<Json> {
    match value {
        Json::Object(object) => {
            let shorter = summary(definitions, content, object, false);
            (!shorter.is_empty()).then_some(Json::Object(shorter))
        }
        Json::Array(items) => {
            let shorter: Vec<Json> =
                items.iter().filter_map(|item| nested(definitions, content, item)).collect();
            (!shorter.is_empty()).then_some(Json::Array(shorter))
        }
        other => Some(other.clone()),
    }
}

/// Keeps the contained resources that the part refers to, and those that these refer to.
fn keep_contained(whole: &Object, kept: &mut Object) {
    let Some(contained) = whole.get("contained").and_then(Json::as_array) else { return };
    if kept.get("contained").is_some() {
        return;
    }
    let mut wanted: Vec<String> = Vec::new();
    kept.iter().for_each(|(_, value)| local_references(value, &mut wanted));
    let mut chosen = vec![false; contained.len()];
    let mut next = 0;
    while let Some(id) = wanted.get(next).cloned() {
        next += 1;
        for (resource, chosen) in contained.iter().zip(&mut chosen) {
            if !*chosen && resource.str_at(&["id"]) == Some(id.as_str()) {
                *chosen = true;
                local_references(resource, &mut wanted);
            }
        }
    }
    let contained: Vec<Json> = contained
        .iter()
        .zip(&chosen)
        .filter(|(_, chosen)| **chosen)
        .map(|(resource, _)| resource.clone())
        .collect();
    if contained.is_empty() {
        return;
    }
    // In the place where it stood.
    let before = |(name, _): &(&str, &Json)| *name != "contained";
    let place = whole.iter().take_while(before).filter(|(name, _)| kept.get(name).is_some());
    kept.set_at(place.count(), "contained", contained);
}

/// Ids of contained resources that a value names: `#id` as a reference, canonical or uri.
fn local_references(value: &Json, ids: &mut Vec<String>) {
    match value {
        Json::String(text) => {
            if let Some(id) = text.strip_prefix('#').filter(|id| !id.is_empty()) {
                ids.push(id.to_owned());
            }
        }
        Json::Array(items) => items.iter().for_each(|item| local_references(item, ids)),
        Json::Object(object) => object.iter().for_each(|(_, value)| local_references(value, ids)),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

fn tag(resource: &mut Object) {
    let (system, code) = SUBSETTED;
    if resource.get("meta").and_then(Json::as_object).is_none() {
        let place = 1 + usize::from(resource.get("id").is_some());
        resource.set_at(place, "meta", Object::new());
    }
    let Some(meta) = resource.get_mut("meta") else { return };
    let tagged =
        |tag: &Json| tag.str_at(&["code"]) == Some(code) && tag.str_at(&["system"]) == Some(system);
    if !meta.list("tag").iter().any(tagged) {
        meta.push("tag", json!({"system": (system), "code": (code)}));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::validate::validate;

    static R4: LazyLock<Definitions> = LazyLock::new(Definitions::r4);

    fn shaped(resource: &str, wanted: &Part) -> String {
        part(&R4, &Json::parse(resource.as_bytes()).unwrap(), wanted).to_string()
    }

    const TAG: &str = r#"{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}"#;

    #[test]
    fn each_part_keeps_what_the_standard_says() {
        let observation = concat!(
            r#"{"resourceType":"Observation","id":"o","language":"en","text":{"status":"empty","div":"<div/>"},"#,
            r##""contained":[{"resourceType":"Patient","id":"p","link":[{"other":{"reference":"#q"}}]},"##,
            r##"{"resourceType":"Patient","id":"q"},{"resourceType":"Patient","id":"r"}],"##,
            r#""status":"final","_status":{"id":"s"},"code":{"text":"x","extension":[{"url":"u"}]},"#,
            r##""subject":{"reference":"#p"},"valueQuantity":{"value":1.10},"note":[{"text":"n"}],"##,
            r#""component":[{"code":{"text":"c"},"valueInteger":1,"referenceRange":[{"text":"r"}]}]}"#
        );
        let meta = format!(r#""meta":{{"tag":[{TAG}]}}"#);
        assert_eq!(
            shaped(observation, &Part::Summary),
            format!(
                concat!(
                    r#"{{"resourceType":"Observation","id":"o",{},"#,
                    r##""contained":[{{"resourceType":"Patient","id":"p","link":[{{"other":{{"reference":"#q"}}}}]}},"##,
                    r##"{{"resourceType":"Patient","id":"q"}}],"##,
                    r##""status":"final","_status":{{"id":"s"}},"code":{{"text":"x"}},"subject":{{"reference":"#p"}},"##,
                    r#""valueQuantity":{{"value":1.10}},"component":[{{"code":{{"text":"c"}},"valueInteger":1}}]}}"#
                ),
                meta
            )
        );
        assert_eq!(
            shaped(observation, &Part::Text),
            format!(
                r#"{{"resourceType":"Observation","id":"o",{meta},"text":{{"status":"empty","div":"<div/>"}},"status":"final","_status":{{"id":"s"}},"code":{{"text":"x","extension":[{{"url":"u"}}]}}}}"#
            )
        );
        assert!(!shaped(observation, &Part::Data).contains("div"));
        assert!(shaped(observation, &Part::Data).contains(r#""language":"en""#));
        for name in ["value", "valueQuantity"] {
            assert_eq!(
                shaped(observation, &Part::Elements(vec![name.to_owned()])),
                format!(
                    r#"{{"resourceType":"Observation","id":"o",{meta},"status":"final","_status":{{"id":"s"}},"code":{{"text":"x","extension":[{{"url":"u"}}]}},"valueQuantity":{{"value":1.10}}}}"#
                )
            );
        }
    }

    #[test]
    fn what_changes_a_meaning_stays() {
        let patient = r#"{"resourceType":"Patient","modifierExtension":[{"url":"u","valueCode":"x"}],"active":false,"contact":[{"name":{"family":"x"}}],"photo":[{"data":"AAAA"}]}"#;
        let tagged = format!(
            r#"{{"resourceType":"Patient","meta":{{"tag":[{TAG}]}},"modifierExtension":[{{"url":"u","valueCode":"x"}}],"active":false}}"#
        );
        assert_eq!(shaped(patient, &Part::Summary), tagged);
        assert_eq!(shaped(patient, &Part::Elements(vec!["name".into()])), tagged);
    }

    #[test]
    fn a_part_is_tagged_once_and_known_as_one() {
        let once = part(&R4, &json!({"resourceType": "Basic", "id": "b"}), &Part::Data);
        assert!(is_part(&once));
        assert!(!is_part(
            &json!({"resourceType": "Basic", "meta": {"tag": [{"code": "SUBSETTED"}]}})
        ));
        assert_eq!(part(&R4, &once, &Part::Data), once);
    }

    #[test]
    fn the_summary_of_each_example_is_valid() {
        let Some(shared) = lumbar_testkit::shared() else { return };
        let mut wrong = Vec::new();
        let mut count = 0;
        let mut folders = vec![shared.join("fhir/r4-examples")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let Ok(example) = Json::parse(&std::fs::read(&path).unwrap()) else { continue };
                if example.get("resourceType").is_none() {
                    continue;
                }
                count += 1;
                let before = validate(&R4, &example);
                let shorter = part(&R4, &example, &Part::Summary);
                let new = validate(&R4, &shorter).into_iter().filter(|issue| {
                    issue.is_error() && !before.iter().any(|known| known.text == issue.text)
                });
                wrong.extend(new.map(|issue| format!("{}: {issue:?}", path.display())));
                assert!(shorter.to_string().len() <= example.to_string().len() + 140);
            }
        }
        assert!(count > 300, "{count}");
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
