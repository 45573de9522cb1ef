//! `$lookup`: <https://hl7.org/fhir/R4/codesystem-operation-lookup.html>, and `$subsumes`:
//! <https://hl7.org/fhir/R4/codesystem-operation-subsumes.html>.

use super::expand::Member;
use super::{CodeSystem, Concept, Refusal, parameter, parameters, shown};
use crate::{Issue, IssueType, Json, Object, json};

/// What is known of a code: `wanted` are the properties that are asked for, empty for all.
///
/// # Errors
/// The system has no such code.
pub fn lookup(
    system: &CodeSystem,
    code: &str,
    wanted: &[&str],
    language: Option<&str>,
) -> Result<Json, Refusal> {
    let concept = find(system, code)?;
    let is_wanted = |name: &str| wanted.is_empty() || wanted.contains(&name);
    let mut list = vec![parameter("name", "valueString", &system.name)];
    if let Some(version) = &system.version {
        list.push(parameter("version", "valueString", version));
    }
    let display = Member::new(&system.url, concept).display(language).unwrap_or(&concept.code);
    list.push(parameter("display", "valueString", display));
    for designation in &concept.designations {
        let tag = designation.str_at(&["language"]);
        let by_language = tag.is_some_and(|tag| wanted.contains(&format!("lang.{tag}").as_str()));
        if is_wanted("designation") || by_language {
            list.push(self::designation(designation));
        }
    }
    let mut property = |name: &str, value_name: &str, value: Json| {
        let parts = [parameter("code", "valueCode", name), parameter("value", value_name, value)];
        list.push(json!({"name": "property", "part": (parts.to_vec())}));
    };
    if let Some(definition) = concept.definition.as_ref().filter(|_| is_wanted("definition")) {
        property("definition", "valueString", Json::from(definition.as_str()));
    }
    if concept.inactive && is_wanted("inactive") {
        property("inactive", "valueBoolean", Json::Bool(true));
    }
    for (name, places) in [("parent", &concept.parents), ("child", &concept.children)] {
        for place in places.iter().filter(|_| is_wanted(name)) {
            property(name, "valueCode", Json::from(system.concept_at(*place).code.as_str()));
        }
    }
    for carried in &concept.properties {
        let name = carried.str_at(&["code"]).unwrap_or_default();
        let told = matches!(system.meaning(name), "parent" | "child" | "inactive");
        let value = carried.as_object().into_iter().flat_map(Object::iter);
        if let Some((value_name, value)) =
            value.into_iter().find(|(member, _)| member.starts_with("value"))
            && !told
            && is_wanted(name)
        {
            property(name, value_name, value.clone());
        }
    }
    Ok(parameters(list))
}

/// How two codes of a system stand to each other.
///
/// # Errors
/// The system lacks one of them.
pub fn subsumes(system: &CodeSystem, a: &str, b: &str) -> Result<Json, Refusal> {
    let (a_code, b_code) = (&find(system, a)?.code, &find(system, b)?.code);
    let is_below = |below: &str, above: &str| {
        system.related(below, true).is_some_and(|codes| codes.contains(&above))
    };
    let outcome = if a_code == b_code {
        "equivalent"
    } else if is_below(b_code, a_code) {
        "subsumes"
    } else if is_below(a_code, b_code) {
        "subsumed-by"
    } else {
        "not-subsumed"
    };
    Ok(parameters(vec![parameter("outcome", "valueCode", outcome)]))
}

fn find<'s>(system: &'s CodeSystem, code: &str) -> Result<&'s Concept, Refusal> {
    system.get(code).ok_or_else(|| {
        let text = format!("The code system {} has no code {}.", shown(&system.url), shown(code));
        Refusal::Unknown(Issue::error(IssueType::NotFound, text))
    })
}

fn designation(designation: &Json) -> Json {
    let mut parts = Vec::new();
    for (name, value_name) in
        [("language", "valueCode"), ("use", "valueCoding"), ("value", "valueString")]
    {
        parts.extend(designation.get(name).map(|value| parameter(name, value_name, value)));
    }
    json!({"name": "designation", "part": (parts)})
}
