//! The code systems, value sets and concept maps that R4 itself defines, from the tables in
//! `profiles/r4`: <https://hl7.org/fhir/R4/terminologies-systems.html>.
//!
//! Left out are definitions, properties, and what others publish (SNOMED CT, LOINC, UCUM). Each is
//! read when it is first used, and then kept.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock};

use super::{Canonical, CodeSystem, Concept, ConceptMap, ValueSet};
use crate::{Json, json};

const CODE_SYSTEMS: &str = include_str!("../../../../../profiles/r4/code-systems.tsv");
const CONCEPTS: &str = include_str!("../../../../../profiles/r4/concepts.tsv");
const VALUE_SETS: &str = include_str!("../../../../../profiles/r4/value-sets.tsv");
const CODES: &str = include_str!("../../../../../profiles/r4/codes.tsv");
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

/// Version of what R4 defines.
const VERSION: &str = "4.0.1";

/// Value sets of R4 that are all codes of a system that is a grammar.
const GRAMMARS: [(&str, &str); 4] = [
    ("http://hl7.org/fhir/ValueSet/all-languages", "urn:ietf:bcp:47"),
    ("http://hl7.org/fhir/ValueSet/languages", "urn:ietf:bcp:47"),
    ("http://hl7.org/fhir/ValueSet/mimetypes", "urn:ietf:bcp:13"),
    ("http://hl7.org/fhir/ValueSet/ucum-units", "http://unitsofmeasure.org"),
];

/// Something that is read when it is first used.
type Once<T> = OnceLock<Option<Arc<T>>>;

static KEPT_SYSTEMS: LazyLock<HashMap<&'static str, Once<CodeSystem>>> =
    LazyLock::new(|| HEADS.keys().map(|url| (*url, OnceLock::new())).collect());

/// The value sets of the table of value sets, of that of required codes, and the grammars; each
/// with a number of its own.
static KEPT_SETS: LazyLock<HashMap<&'static str, (usize, Once<ValueSet>)>> = LazyLock::new(|| {
    let mut urls: Vec<&'static str> = SETS.keys().copied().collect();
    urls.extend(GRAMMARS.iter().map(|(url, _)| *url));
    urls.extend(REQUIRED.keys().copied());
    urls.sort_unstable();
    urls.dedup();
    urls.into_iter().enumerate().map(|(at, url)| (url, (at, OnceLock::new()))).collect()
});

/// The codes of a value set, with a blank between them, by their system.
type Codes = Vec<(&'static str, &'static str)>;

/// Value sets that elements require, worked out.
static REQUIRED: LazyLock<HashMap<&'static str, Codes>> = LazyLock::new(|| {
    let mut sets: HashMap<&str, Codes> = HashMap::new();
    for line in CODES.lines().skip(1) {
        let mut fields = line.split('\t');
        if let (Some(url), Some(system), Some(codes)) =
            (fields.next(), fields.next(), fields.next())
        {
            sets.entry(url).or_default().push((system, codes));
        }
    }
    sets
});

/// Whether a value set that an element requires takes codes from a system.
pub(crate) fn is_system_of(value_set: &str, system: &str) -> bool {
    let url = value_set.split('|').next().unwrap_or_default();
    REQUIRED.get(url).is_some_and(|codes| codes.iter().any(|(of, _)| *of == system))
}

/// How many value sets [`kept_value_set`] may give.
pub(super) fn number_of_sets() -> usize {
    KEPT_SETS.len()
}

/// A code system.
pub(super) fn kept_code_system(
    url: &str,
    version: Option<&str>,
) -> Option<&'static Arc<CodeSystem>> {
    let (url, kept) = KEPT_SYSTEMS.get_key_value(url)?;
    let read = || code_system(&Canonical::new(url, None)).map(Arc::new);
    let system = kept.get_or_init(read).as_ref()?;
    is_version(version, system.version.as_deref()).then_some(system)
}

/// A value set and its number.
pub(super) fn kept_value_set(
    url: &str,
    version: Option<&str>,
) -> Option<(usize, &'static Arc<ValueSet>)> {
    let (url, (number, kept)) = KEPT_SETS.get_key_value(url)?;
    let set = kept.get_or_init(|| any_value_set(url).map(Arc::new)).as_ref()?;
    is_version(version, set.version()).then_some((*number, set))
}

/// The urls of the code systems.
pub(super) fn code_systems() -> impl Iterator<Item = &'static str> {
    HEADS.keys().copied()
}

fn is_version(wanted: Option<&str>, version: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| version == Some(wanted))
}

/// A value set of one of the tables.
fn any_value_set(url: &str) -> Option<ValueSet> {
    if let Some(set) = value_set(&Canonical::new(url, None)) {
        return Some(set);
    }
    let mut include = Vec::new();
    if let Some((_, system)) = GRAMMARS.iter().find(|(of, _)| *of == url) {
        include.push(json!({"system": (*system)}));
    }
    for (system, codes) in REQUIRED.get(url).into_iter().flatten() {
        let concepts: Vec<Json> = codes.split(' ').map(|code| json!({"code": (code)})).collect();
        include.push(json!({"system": (*system), "concept": (concepts)}));
    }
    let mut resource = head("ValueSet", [url, VERSION, ""]);
    resource.set("compose", json!({"include": (include)}));
    ValueSet::read(&resource).ok()
}

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
