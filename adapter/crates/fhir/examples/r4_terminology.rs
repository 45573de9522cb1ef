//! Writes the tables of R4's own terminology in `profiles/r4` from HL7's definition bundles of R4
//! (4.0.1): `cargo run -p lumbar-fhir --example r4_terminology -- DIR`.
//!
//! DIR holds `valuesets.json`, `v2-tables.json`, `v3-codesystems.json` and `conceptmaps.json` as
//! HL7 publishes them, uncompressed. Only facts are taken: codes, displays, hierarchy, and what
//! value sets and maps are made of; no definitions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{env, error::Error, fs};

use lumbar_fhir::{Json, Object};

/// The files of HL7 that are read, in this order.
pub const INPUT: [&str; 4] = ["valuesets", "v2-tables", "v3-codesystems", "conceptmaps"];

#[allow(dead_code, reason = "the test that compares the tables includes this file")]
fn main() -> Result<(), Box<dyn Error>> {
    let input = env::args().nth(1).ok_or("the folder with the bundles is missing")?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../profiles/r4");
    let elements = fs::read_to_string(folder.join("elements.tsv"))?;
    let profiles = fs::read_to_string(folder.join("structure-definitions.ndjson"))?;
    let read = |name: &str| fs::read(Path::new(&input).join(format!("{name}.json")));
    let bundles = INPUT.iter().map(|name| read(name)).collect::<Result<Vec<_>, _>>()?;
    for (name, table) in tables(&elements, &profiles, &bundles)? {
        fs::write(folder.join(name), table)?;
    }
    Ok(())
}

type Urls<'a> = BTreeMap<&'a str, &'a Json>;

/// Name and text of each table.
pub fn tables(
    elements: &str,
    profiles: &str,
    bundles: &[Vec<u8>],
) -> Result<[(&'static str, String); 4], Box<dyn Error>> {
    let bundles = bundles.iter().map(|b| Json::parse(b)).collect::<Result<Vec<Json>, _>>()?;
    let resources = || {
        let bundles = bundles.iter().enumerate();
        bundles.flat_map(|(file, bundle)| {
            bundle.list("entry").iter().filter_map(move |e| Some((file, e.get("resource")?)))
        })
    };
    let of_type = |name: &str| -> Urls<'_> {
        let named = |(_, r): &(usize, &Json)| r.str_at(&["resourceType"]) == Some(name);
        resources().filter(named).map(|(_, r)| (url(r), r)).collect()
    };
    let (systems, sets, maps) = (of_type("CodeSystem"), of_type("ValueSet"), of_type("ConceptMap"));
    let of_profiles =
        profiles.lines().map(|line| Json::parse(line.as_bytes())).collect::<Result<Vec<_>, _>>()?;
    let mut bindings: Vec<(&str, &str)> =
        elements.lines().filter_map(|line| line.split('\t').nth(5)?.split_once(' ')).collect();
    for profile in &of_profiles {
        let elements = profile.get("differential").map_or(&[][..], |found| found.list("element"));
        bindings.extend(elements.iter().filter_map(|element| {
            let part = |name: &str| element.str_at(&["binding", name]);
            Some((part("strength")?, part("valueSet")?))
        }));
    }
    let without_version = |url: &'_ str| url.split('|').next().unwrap_or_default().to_owned();
    let bound: BTreeSet<String> = bindings.iter().map(|(_, url)| without_version(url)).collect();
    // An example asks for nothing.
    bindings.retain(|(strength, _)| *strength != "example");
    let asked: BTreeSet<String> = bindings.iter().map(|(_, url)| without_version(url)).collect();
    let of_r4 = |file: usize| file == 0;
    let wanted = resources().filter(|(file, r)| of_r4(*file) || bound.contains(url(r)));
    let usable = |system: &str| systems.get(system).is_some_and(|system| is_usable(system));

    let mut kept_sets: Urls<'_> = BTreeMap::new();
    let mut kept_systems: BTreeSet<&str> = BTreeSet::new();
    for (_, resource) in wanted {
        match text(resource, "resourceType") {
            "CodeSystem" if is_usable(resource) => {
                kept_systems.insert(url(resource));
            }
            "ValueSet" if resource.get("compose").is_some() => {
                let (mut named, mut imported) = (BTreeSet::new(), BTreeSet::new());
                let whole = closure(&sets, url(resource), &mut named, &mut imported);
                let is_known = |(system, is_listed): &(&str, bool)| {
                    let is_asked = || asked.contains(url(resource));
                    usable(system) || (*is_listed && is_asked() && !OF_OTHERS.contains(system))
                };
                if whole && named.iter().all(is_known) {
                    kept_systems
                        .extend(named.iter().map(|(url, _)| *url).filter(|url| usable(url)));
                    kept_sets.extend(imported.into_iter().map(|url| (url, sets[url])));
                }
            }
            _ => {}
        }
    }

    let mut heads = String::from("url\tversion\tname\n");
    let mut concepts = String::from("system\tlevel\tflags\tcode\tdisplay\tparents\n");
    for system in &kept_systems {
        let system = systems[system];
        if system.get("caseSensitive").and_then(Json::as_bool) == Some(false) {
            return Err(format!("{}: the tables do not say that case is free", url(system)).into());
        }
        heads.push_str(&format!("{}\n", head(system)?));
        let mut rows = Vec::new();
        nested(system.list("concept"), 0, &mut rows);
        let mut parents: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (_, concept) in &rows {
            for child in values(concept, "child") {
                parents.entry(child).or_default().push(text(concept, "code"));
            }
        }
        let mut first = url(system);
        for (level, concept) in rows {
            let code = text(concept, "code");
            let mut flags = String::new();
            let not_selectable = |p: &Json| {
                matches!(text(p, "code"), "notSelectable" | "abstract")
                    && p.get("valueBoolean").and_then(Json::as_bool) == Some(true)
            };
            if concept.list("property").iter().any(not_selectable) {
                flags.push('a');
            }
            if values(concept, "status").any(|status| matches!(status, "retired" | "inactive")) {
                flags.push('i');
            }
            let parents = parents.get(code).map_or(String::new(), |codes| codes.join(" "));
            let row = [first, &level.to_string(), &flags, code, text(concept, "display"), &parents];
            concepts.push_str(&line(&row)?);
            first = "";
        }
    }
    let mut value_sets = String::from("url\tversion\tname\tcompose\n");
    for set in kept_sets.values() {
        let mut compose = facts(set.get("compose").ok_or("no compose")?);
        for part in ["include", "exclude"] {
            if let Some(Json::Array(parts)) = compose.get_mut(part) {
                parts.iter_mut().for_each(|part| drop_stale_version(part, &systems));
            }
        }
        value_sets.push_str(&format!("{}\t{compose}\n", head(set)?));
    }
    let mut concept_maps = String::from("url\tversion\tname\tsource\ttarget\tgroups\n");
    for map in maps.values() {
        let side = |name: &str| {
            let members = [format!("{name}Canonical"), format!("{name}Uri")];
            members.iter().find_map(|m| map.str_at(&[m])).unwrap_or_default()
        };
        let groups = Json::from(map.list("group").iter().map(facts).collect::<Vec<_>>());
        let (source, target) = (side("source"), side("target"));
        concept_maps.push_str(&format!("{}\t{source}\t{target}\t{groups}\n", head(map)?));
    }
    Ok([
        ("code-systems.tsv", heads),
        ("concepts.tsv", concepts),
        ("value-sets.tsv", value_sets),
        ("concept-maps.tsv", concept_maps),
    ])
}

/// Code systems of which no list is kept: their publishers license each use of the codes, or they
/// are a grammar and R4 lists what is common only.
const OF_OTHERS: [&str; 3] = ["http://loinc.org", "http://snomed.info/sct", "urn:ietf:bcp:47"];

/// Whether a code system is whole, and HL7's own or the purposes of signatures of ASTM E1762, of
/// which R4 lists all. Of others that it calls complete (DICOM) it lists a part.
fn is_usable(system: &Json) -> bool {
    let own = ["http://hl7.org/", "http://terminology.hl7.org/", "urn:iso-astm:E1762-95:2013"];
    own.iter().any(|base| url(system).starts_with(base)) && text(system, "content") == "complete"
}

/// The systems that a value set needs, each with whether the set lists the codes that it takes,
/// and the value sets; `false` when one of the sets is not there or filters by what is not kept.
fn closure<'a>(
    sets: &Urls<'a>,
    set: &'a str,
    systems: &mut BTreeSet<(&'a str, bool)>,
    seen: &mut BTreeSet<&'a str>,
) -> bool {
    let Some(resource) = sets.get(set) else { return false };
    if !seen.insert(set) {
        return true;
    }
    let Some(compose) = resource.get("compose") else { return false };
    let parts = compose.list("include").iter().chain(compose.list("exclude"));
    let mut whole = true;
    for part in parts {
        let is_listed = !part.list("concept").is_empty();
        systems.extend(part.str_at(&["system"]).map(|system| (system, is_listed)));
        // Of properties only the hierarchy is kept.
        whole &= part.list("filter").iter().all(|filter| text(filter, "property") == "concept");
        for import in part.list("valueSet").iter().filter_map(Json::as_str) {
            let import = import.split('|').next().unwrap_or(import);
            whole &= closure(sets, import, systems, seen);
        }
    }
    whole
}

/// Some definitions state a version that their system had before R4 was published.
fn drop_stale_version(part: &mut Json, systems: &Urls<'_>) {
    let system = part.str_at(&["system"]).and_then(|url| systems.get(url));
    if let (Some(system), Some(part)) = (system, part.as_object_mut())
        && part.get("version") != system.get("version")
    {
        part.remove("version");
    }
}

fn nested<'a>(concepts: &'a [Json], level: usize, rows: &mut Vec<(usize, &'a Json)>) {
    for concept in concepts {
        rows.push((level, concept));
        nested(concept.list("concept"), level + 1, rows);
    }
}

/// The values of a concept's property.
fn values<'a>(concept: &'a Json, property: &'a str) -> impl Iterator<Item = &'a str> {
    let properties = concept.list("property").iter();
    let of_name = properties.filter(move |p| p.str_at(&["code"]) == Some(property));
    of_name.filter_map(|p| p.str_at(&["valueCode"]).or_else(|| p.str_at(&["valueString"])))
}

fn head(resource: &Json) -> Result<String, Box<dyn Error>> {
    let fields = [url(resource), text(resource, "version"), text(resource, "name")];
    Ok(line(&fields)?.trim_end_matches('\n').to_owned())
}

fn line(fields: &[&str]) -> Result<String, Box<dyn Error>> {
    if let Some(field) = fields.iter().find(|field| field.contains(['\t', '\n'])) {
        return Err(format!("\"{field}\" has a tab or a line break").into());
    }
    Ok(format!("{}\n", fields.join("\t")))
}

/// The value without what is no fact: extensions, comments and ids of elements.
fn facts(value: &Json) -> Json {
    match value {
        Json::Array(items) => Json::Array(items.iter().map(facts).collect()),
        Json::Object(members) => {
            let mut kept = Object::new();
            for (name, value) in members.iter() {
                let is_fact = !matches!(name, "extension" | "id" | "comment" | "designation");
                if is_fact && !name.starts_with('_') {
                    kept.set(name, facts(value));
                }
            }
            Json::Object(kept)
        }
        other => other.clone(),
    }
}

fn url(resource: &Json) -> &str {
    text(resource, "url")
}

fn text<'a>(value: &'a Json, name: &str) -> &'a str {
    value.str_at(&[name]).unwrap_or_default()
}
