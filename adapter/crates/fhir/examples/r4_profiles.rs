//! Writes `profiles/r4/structure-definitions.ndjson` and `vital-signs.tsv` from HL7's definition bundles of R4 (4.0.1):
//! `cargo run -p lumbar-fhir --example r4_profiles -- DIR`.
//!
//! DIR holds `extension-definitions.json`, `profiles-others.json` and `profiles-types.json` as HL7
//! publishes them, uncompressed. Of each StructureDefinition that constrains a type the differential
//! is taken, facts only: no definition, comment, mapping or other sentence.

use std::path::Path;
use std::{env, error::Error, fs};

use lumbar_fhir::{Json, Object, json};

/// Gives the bytes of a bundle by its file name.
pub type Read<'a> = dyn Fn(&str) -> Result<Vec<u8>, Box<dyn Error>> + 'a;

/// What is kept of a definition, `url` and `version` first.
const MEMBERS: [&str; 10] = [
    "url",
    "version",
    "name",
    "kind",
    "abstract",
    "context",
    "contextInvariant",
    "type",
    "baseDefinition",
    "derivation",
];

/// What is left out of an element and what stands in it.
const SENTENCES: [&str; 18] = [
    "alias",
    "code",
    "comment",
    "definition",
    "description",
    "example",
    "human",
    "isModifierReason",
    "isSummary",
    "label",
    "mapping",
    "meaningWhenMissing",
    "mustSupport",
    "orderMeaning",
    "representation",
    "requirements",
    "short",
    "xpath",
];

/// Bindings with another strength than the published one, each with its element. Of a vital sign's
/// components R4 asks for one of twelve units, which rules the flow of oxygen out that goes with a
/// saturation; HL7's own validator holds R4 to `extensible` there, and so do we.
const STRENGTHS: [(&str, &str, &str); 1] = [(
    "http://hl7.org/fhir/StructureDefinition/vitalsigns",
    "Observation.component.value[x]",
    "extensible",
)];

#[allow(dead_code, reason = "the test that compares the file includes this one")]
fn main() -> Result<(), Box<dyn Error>> {
    let input = env::args().nth(1).ok_or("the folder with the definition bundles is missing")?;
    let input = Path::new(&input);
    let output = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../profiles/r4");
    let lines = lines(&|file| Ok(fs::read(input.join(file))?))?;
    fs::write(output.join("vital-signs.tsv"), vital_signs(&lines)?)?;
    fs::write(output.join("structure-definitions.ndjson"), lines)?;
    Ok(())
}

/// The LOINC codes that make an Observation a vital sign, each with the profile that fixes it.
pub fn vital_signs(lines: &str) -> Result<String, Box<dyn Error>> {
    const BASE: &str = "http://hl7.org/fhir/StructureDefinition/vitalsigns";
    let mut rows = Vec::new();
    for line in lines.lines() {
        let profile = Json::parse(line.as_bytes())?;
        if profile.str_at(&["baseDefinition"]) != Some(BASE) {
            continue;
        }
        let url = profile.str_at(&["url"]).unwrap_or_default();
        for element in profile.get("differential").map_or(&[][..], |d| d.list("element")) {
            if element.str_at(&["path"]) == Some("Observation.code.coding.code") {
                rows.extend(element.str_at(&["fixedCode"]).map(|code| format!("{code}\t{url}\n")));
            }
        }
    }
    rows.sort();
    Ok(format!("code\tprofile\n{}", rows.concat()))
}

/// A definition on each line, in the order of their urls.
pub fn lines(read: &Read) -> Result<String, Box<dyn Error>> {
    let mut lines = Vec::new();
    for file in ["extension-definitions.json", "profiles-others.json", "profiles-types.json"] {
        let bundle = Json::parse(&read(file)?)?;
        for definition in bundle.list("entry").iter().filter_map(|entry| entry.get("resource")) {
            let is = |name: &str, value: &str| definition.str_at(&[name]) == Some(value);
            if is("resourceType", "StructureDefinition") && is("derivation", "constraint") {
                lines.push(line(definition));
            }
        }
    }
    lines.sort();
    lines.dedup();
    Ok(lines.concat())
}

fn line(definition: &Json) -> String {
    let mut out = Object::new();
    out.set("resourceType", "StructureDefinition");
    for name in MEMBERS {
        if let Some(value) = definition.get(name) {
            out.set(name, value.clone());
        }
    }
    let differential = definition.get("differential").map_or(&[][..], |d| d.list("element"));
    let url = definition.str_at(&["url"]).unwrap_or_default();
    let elements: Vec<Json> = differential.iter().map(|of| corrected(url, element(of))).collect();
    out.set("differential", json!({"element": elements}));
    format!("{}\n", Json::Object(out))
}

fn corrected(url: &str, mut element: Json) -> Json {
    let path = element.str_at(&["path"]).unwrap_or_default();
    let is_meant = |(of, at, _): &&(&str, &str, &str)| *of == url && *at == path;
    let strength = STRENGTHS.iter().find(is_meant).map(|(_, _, strength)| *strength);
    if let (Some(strength), Some(binding)) = (strength, element.get_mut("binding")) {
        binding.set("strength", strength);
    }
    element
}

/// An id that says no more than the path is left out, too, and extensions but those of a binding
/// and a type, which are rules.
fn element(element: &Json) -> Json {
    let mut out = Object::new();
    for (name, value) in element.as_object().map(Object::iter).into_iter().flatten() {
        let value = match name {
            "id" if element.get("path") == Some(value) => continue,
            "extension" => continue,
            "binding" | "constraint" | "slicing" => without_sentences(value),
            _ if SENTENCES.contains(&name) => continue,
            _ => value.clone(),
        };
        out.set(name, value);
    }
    Json::Object(out)
}

fn without_sentences(value: &Json) -> Json {
    const NAMES: &str = "http://hl7.org/fhir/StructureDefinition/elementdefinition-bindingName";
    match value {
        Json::Array(items) => Json::Array(items.iter().map(without_sentences).collect()),
        Json::Object(object) => {
            let mut out = Object::new();
            for (name, value) in object.iter().filter(|(name, _)| !SENTENCES.contains(name)) {
                if name == "extension" {
                    let rules = value.as_array().unwrap_or_default().iter();
                    let rules = rules.filter(|rule| rule.str_at(&["url"]) != Some(NAMES));
                    let rules: Vec<Json> = rules.cloned().collect();
                    if !rules.is_empty() {
                        out.set(name, rules);
                    }
                } else {
                    out.set(name, without_sentences(value));
                }
            }
            Json::Object(out)
        }
        other => other.clone(),
    }
}
