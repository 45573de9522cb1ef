//! `$translate`: <https://hl7.org/fhir/R4/conceptmap-operation-translate.html>.
//!
//! A target with `dependsOn` counts only when the request states each of these dependencies.
//! In reverse, `wider` and `narrower`, `subsumes` and `specializes` change places.

use std::collections::HashSet;

use super::{Canonical, Coding, ConceptMap, Input, Refusal, parameter, parameters, shown};
use crate::{Issue, IssueType, Json, Object, json};

/// Longest chain of maps of which each names the next one for codes it does not have.
const MAX_CHAIN: usize = 4;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct Translate {
    /// The codes to translate.
    pub codings: Vec<Coding>,
    /// The value set of the codes, or of the translations when they are reversed.
    pub source: Option<String>,
    /// The value set of the translations.
    pub target: Option<String>,
    /// The system of the translations.
    pub target_system: Option<String>,
    /// Whether targets are translated to sources.
    pub reverse: bool,
    dependencies: Vec<Dependency>,
}

#[derive(Clone, Debug)]
struct Dependency {
    element: String,
    codings: Vec<Coding>,
    text: Option<String>,
}

impl Translate {
    /// Reads the parameters.
    ///
    /// # Errors
    /// One of them is missing or cannot be read.
    pub fn read(input: &Input) -> Result<Translate, Refusal> {
        let codings = input.codings("version")?;
        if codings.iter().any(|coding| coding.system.is_none()) {
            return Err(input.required(
                "system",
                "A code needs its system, as in system=http://hl7.org/fhir/administrative-gender.",
            ));
        }
        let text = |name: &str| Ok::<_, Refusal>(input.text(name)?.map(str::to_owned));
        Ok(Translate {
            codings,
            source: text("source")?,
            target: text("target")?,
            target_system: text("targetsystem")?,
            reverse: input.flag("reverse")?.unwrap_or(false),
            dependencies: input.all("dependency").map(dependency).collect(),
        })
    }

    /// Whether a map is about the value sets that are asked for.
    pub fn concerns(&self, map: &ConceptMap) -> bool {
        let (from, to) = if self.reverse { ("target", "source") } else { ("source", "target") };
        let same = |asked: &Option<String>, side: &str| {
            let Some(asked) = asked else { return true };
            let asked = Canonical::parse(asked);
            map.side(side).is_some_and(|stated| {
                let stated = Canonical::parse(stated);
                stated.url == asked.url
                    && (asked.version.is_none() || stated.version == asked.version)
            })
        };
        same(&self.source, from) && same(&self.target, to)
    }
}

/// What the maps make of the codes. `others` finds a map that another one names for what it lacks.
pub fn translate<'m>(
    maps: &[&'m ConceptMap],
    asked: &Translate,
    others: &dyn Fn(&str) -> Option<&'m ConceptMap>,
) -> Json {
    let mut matches: Vec<Json> = Vec::new();
    let mut told: HashSet<String> = HashSet::new();
    for coding in &asked.codings {
        for map in maps {
            let found = match asked.reverse {
                true => backwards(map, coding, asked),
                false => forwards(map, coding, asked, others, 0),
            };
            for item in found {
                if told.insert(item.to_string()) {
                    matches.push(item);
                }
            }
        }
    }
    let is_match = |item: &Json| {
        let equivalence = item.list("part").first().and_then(|part| part.str_at(&["valueCode"]));
        !matches!(equivalence, Some("unmatched" | "disjoint"))
    };
    let result = matches.iter().any(is_match);
    let mut list = vec![parameter("result", "valueBoolean", result)];
    if !result {
        let codes: Vec<String> = asked.codings.iter().map(|coding| shown(&coding.code)).collect();
        let message = format!("There is no translation of {}.", codes.join(", "));
        list.push(parameter("message", "valueString", message));
    }
    list.extend(matches);
    parameters(list)
}

/// The maps that a map names for the codes it lacks.
pub fn other_maps(map: &ConceptMap) -> impl Iterator<Item = &str> {
    map.groups().iter().filter_map(|group| {
        let unmapped = group.get("unmapped")?;
        let is_other = unmapped.str_at(&["mode"]) == Some("other-map");
        unmapped.str_at(&["url"]).filter(|_| is_other)
    })
}

fn forwards<'m>(
    map: &'m ConceptMap,
    coding: &Coding,
    asked: &Translate,
    others: &dyn Fn(&str) -> Option<&'m ConceptMap>,
    depth: usize,
) -> Vec<Json> {
    let mut found = Vec::new();
    let mut answered: Vec<&Json> = Vec::new();
    for (group, element) in map.by_source(&coding.code).filter(|(g, _)| fits(g, coding, asked)) {
        answered.push(group);
        if element.list("target").is_empty() {
            found.push(item("unmatched", None, &[], map));
        }
        for target in element.list("target").iter().filter(|target| asked.allows(target)) {
            let concept = target
                .str_at(&["code"])
                .map(|code| concept(group, "target", code, target.str_at(&["display"])));
            let equivalence = target.str_at(&["equivalence"]).unwrap_or("relatedto");
            found.push(item(equivalence, concept, target.list("product"), map));
        }
    }
    for group in map.groups().iter().filter(|group| fits(group, coding, asked)) {
        let Some(unmapped) = group.get("unmapped") else { continue };
        if answered.iter().any(|known| std::ptr::eq(*known, group)) {
            continue;
        }
        let text = |name: &str| unmapped.str_at(&[name]);
        match text("mode") {
            Some("provided") => {
                let same = concept(group, "target", &coding.code, coding.display.as_deref());
                found.push(item("equal", Some(same), &[], map));
            }
            Some("fixed") => {
                if let Some(code) = text("code") {
                    let fixed = concept(group, "target", code, text("display"));
                    found.push(item("relatedto", Some(fixed), &[], map));
                }
            }
            Some("other-map") if depth < MAX_CHAIN => {
                if let Some(other) = text("url").and_then(others) {
                    found.extend(forwards(other, coding, asked, others, depth + 1));
                }
            }
            _ => {}
        }
    }
    found
}

fn backwards(map: &ConceptMap, coding: &Coding, asked: &Translate) -> Vec<Json> {
    let mut found = Vec::new();
    for (group, element, target) in map.by_target(&coding.code) {
        let same_system = group.str_at(&["target"]) == coding.system.as_deref();
        let wanted = asked.target_system.as_deref();
        let same_target = wanted.is_none_or(|wanted| group.str_at(&["source"]) == Some(wanted));
        if !(same_system && same_target && asked.allows(target)) {
            continue;
        }
        let Some(code) = element.str_at(&["code"]) else { continue };
        let concept = concept(group, "source", code, element.str_at(&["display"]));
        let equivalence = match target.str_at(&["equivalence"]).unwrap_or("relatedto") {
            "wider" => "narrower",
            "narrower" => "wider",
            "subsumes" => "specializes",
            "specializes" => "subsumes",
            other => other,
        };
        found.push(item(equivalence, Some(concept), &[], map));
    }
    found
}

/// Whether a group is about the code's system and version and the system that is asked for.
fn fits(group: &Json, coding: &Coding, asked: &Translate) -> bool {
    let version = group.str_at(&["sourceVersion"]);
    let other_version =
        matches!((version, coding.version.as_deref()), (Some(one), Some(two)) if one != two);
    group.str_at(&["source"]) == coding.system.as_deref()
        && !other_version
        && asked
            .target_system
            .as_deref()
            .is_none_or(|wanted| group.str_at(&["target"]) == Some(wanted))
}

impl Translate {
    /// Whether the request states what a target depends on.
    fn allows(&self, target: &Json) -> bool {
        target.list("dependsOn").iter().all(|needed| {
            let text = |name: &str| needed.str_at(&[name]);
            self.dependencies.iter().any(|given| {
                let same_code = |coding: &Coding| {
                    Some(coding.code.as_str()) == text("value")
                        && text("system").is_none_or(|url| coding.system.as_deref() == Some(url))
                };
                Some(given.element.as_str()) == text("property")
                    && (given.codings.iter().any(same_code)
                        || given.text.as_deref().is_some_and(|given| Some(given) == text("value")))
            })
        })
    }
}

fn dependency(parameter: &Json) -> Dependency {
    let part = |name: &str| {
        parameter.list("part").iter().find(|part| part.str_at(&["name"]) == Some(name))
    };
    let value = |part: &Json| {
        let value = part.as_object()?.iter().find(|(member, _)| member.starts_with("value"));
        value.map(|(_, value)| value.clone())
    };
    let element = part("element").and_then(value);
    let concept = part("concept").and_then(value).unwrap_or(Json::Null);
    let text = concept.as_str().or_else(|| concept.str_at(&["text"])).map(str::to_owned);
    Dependency {
        element: element.as_ref().and_then(Json::as_str).unwrap_or_default().to_owned(),
        codings: concept.list("coding").iter().filter_map(Coding::read).collect(),
        text,
    }
}

fn concept(group: &Json, side: &str, code: &str, display: Option<&str>) -> Json {
    let mut coding = Object::new();
    if let Some(system) = group.str_at(&[side]) {
        coding.set("system", system);
    }
    if let Some(version) = group.str_at(&[&format!("{side}Version")]) {
        coding.set("version", version);
    }
    coding.set("code", code);
    if let Some(display) = display {
        coding.set("display", display);
    }
    Json::Object(coding)
}

fn item(equivalence: &str, concept: Option<Json>, products: &[Json], map: &ConceptMap) -> Json {
    let mut parts = vec![parameter("equivalence", "valueCode", equivalence)];
    parts.extend(concept.map(|concept| parameter("concept", "valueCoding", concept)));
    for product in products {
        let mut coding = Object::new();
        for (from, to) in [("system", "system"), ("value", "code"), ("display", "display")] {
            if let Some(text) = product.str_at(&[from]) {
                coding.set(to, text);
            }
        }
        let element = product.str_at(&["property"]).unwrap_or_default();
        let inner = vec![
            parameter("element", "valueUri", element),
            parameter("concept", "valueCoding", Json::Object(coding)),
        ];
        parts.push(json!({"name": "product", "part": (inner)}));
    }
    if let Some(url) = map.url() {
        let source = Canonical::new(url, map.version()).to_string();
        parts.push(parameter("source", "valueUri", source));
    }
    json!({"name": "match", "part": (parts)})
}

/// A map that is asked for and not known.
pub fn unknown_map(canonical: &Canonical) -> Refusal {
    let text = format!(
        "The concept map {} is not known here; load it as a ConceptMap.",
        shown(&canonical.to_string())
    );
    Refusal::Unknown(Issue::error(IssueType::NotFound, text))
}
