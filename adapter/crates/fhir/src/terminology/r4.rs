//! The code systems, value sets and concept maps that R4 itself defines, from the tables in
//! `profiles/r4`: <https://hl7.org/fhir/R4/terminologies-systems.html>.
//!
//! Left out are definitions, properties, and what others publish (SNOMED CT, LOINC, UCUM).

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{Canonical, CodeSystem, Concept, ConceptMap, ValueSet};
use crate::{Json, json};

const CODE_SYSTEMS: &str = include_str!("../../../../../profiles/r4/code-systems.tsv");
const CONCEPTS: &str = include_str!("../../../../../profiles/r4/concepts.tsv");
const VALUE_SETS: &str = include_str!("../../../../../profiles/r4/value-sets.tsv");
const CONCEPT_MAPS: &str = include_str!("../../../../../profiles/r4/concept-maps.tsv");

/// The rows of a table by their url, which is the first field.
type Rows = HashMap<&'static str, &'static str>;

fn rows(table: &'static str) -> Rows {
    let rows = table.lines().skip(1);
    rows.filter_map(|row| Some((row.split('\t').next()?, row))).collect()
}

static HEADS: LazyLock<Rows> = LazyLock::new(|| rows(CODE_SYSTEMS));
static SETS: LazyLock<Rows> = LazyLock::new(|| rows(VALUE_SETS));
static MAPS: LazyLock<Rows> = LazyLock::new(|| rows(CONCEPT_MAPS));

/// Where the concepts of a system begin.
static CONCEPTS_OF: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    let mut places = HashMap::new();
    let mut rest = CONCEPTS;
    while let Some((row, after)) = rest.split_once('\n') {
        if let Some(url) = row.split('\t').next().filter(|url| !url.is_empty()) {
            places.insert(url, rest);
        }
        rest = after;
    }
    places
});

/// The row of `canonical`, when the version is the one of R4 or none.
fn row<const N: usize>(rows: &Rows, canonical: &Canonical) -> Option<[&'static str; N]> {
    let mut fields = [""; N];
    for (field, text) in fields.iter_mut().zip(rows.get(canonical.url.as_str())?.split('\t')) {
        *field = text;
    }
    let version = fields.get(1).copied().unwrap_or_default();
    canonical.version.as_deref().is_none_or(|wanted| wanted == version).then_some(fields)
}

/// A code system.
pub fn code_system(canonical: &Canonical) -> Option<CodeSystem> {
    let [url, version, name] = row(&HEADS, canonical)?;
    let mut system = CodeSystem::empty(url, Some(version));
    system.name = name.to_owned();
    let mut above: Vec<u32> = Vec::new();
    let mut links = Vec::new();
    let table = CONCEPTS_OF.get(url).copied().unwrap_or_default();
    for (index, line) in table.lines().enumerate() {
        let mut fields = [""; 6];
        for (field, text) in fields.iter_mut().zip(line.split('\t')) {
            *field = text;
        }
        let [next, level, flags, code, display, parents] = fields;
        if index > 0 && !next.is_empty() {
            break;
        }
        let concept = Concept {
            code: code.into(),
            display: Some(display.into()).filter(|_| !display.is_empty()),
            is_abstract: flags.contains('a'),
            inactive: flags.contains('i'),
            ..Concept::default()
        };
        above.truncate(level.parse().unwrap_or(0));
        let place = system.add(concept, above.last().copied()).ok()?;
        above.push(place);
        links.extend(parents.split(' ').filter(|parent| !parent.is_empty()).map(|p| (p, code)));
    }
    for (parent, child) in links {
        system.link(parent, child);
    }
    Some(system.finished())
}

/// A value set.
pub fn value_set(canonical: &Canonical) -> Option<ValueSet> {
    let [url, version, name, compose] = row(&SETS, canonical)?;
    let compose = Json::parse(compose.as_bytes()).ok()?;
    let mut resource = head("ValueSet", [url, version, name]);
    resource.set("compose", compose);
    ValueSet::read(&resource).ok()
}

/// A concept map.
pub fn concept_map(canonical: &Canonical) -> Option<ConceptMap> {
    let [url, version, name, source, target, groups] = row(&MAPS, canonical)?;
    let mut resource = head("ConceptMap", [url, version, name]);
    for (member, value) in [("sourceUri", source), ("targetUri", target)] {
        if !value.is_empty() {
            resource.set(member, value);
        }
    }
    resource.set("group", Json::parse(groups.as_bytes()).ok()?);
    Some(ConceptMap::read(&resource))
}

/// The urls of the concept maps that have a group with this system on a side: `source` or `target`.
pub fn concept_maps(side: &str, system: &str) -> Vec<&'static str> {
    let text = json!(system).to_string();
    let named = format!("\"{side}\":{text}");
    let rows = MAPS.iter().filter(|(_, row)| row.contains(&named));
    let mut urls: Vec<&str> = rows.map(|(url, _)| *url).collect();
    urls.sort_unstable();
    urls
}

/// The urls of the value sets.
pub fn value_sets() -> impl Iterator<Item = &'static str> {
    SETS.keys().copied()
}

fn head(resource_type: &str, [url, version, name]: [&str; 3]) -> Json {
    let mut resource = json!({"resourceType": (resource_type), "url": (url)});
    for (member, value) in [("version", version), ("name", name)] {
        if !value.is_empty() {
            resource.set(member, value);
        }
    }
    resource.set("status", "active");
    resource
}
