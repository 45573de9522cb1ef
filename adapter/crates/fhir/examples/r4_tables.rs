//! Writes the tables of facts in `profiles/r4` from HL7's definition bundles of R4 (4.0.1):
//! `cargo run -p lumbar-fhir --example r4_tables -- DIR`.
//!
//! DIR holds `profiles-types.json`, `profiles-resources.json` and `search-parameters.json` as HL7
//! publishes them, uncompressed. Only facts are taken; no definition, comment or other sentence.

use std::collections::HashMap;
use std::path::Path;
use std::{env, error::Error, fs};

use lumbar_fhir::Json;

/// One table: file name and content.
pub type Table = (&'static str, String);
/// Gives the bytes of a bundle by its file name.
pub type Read<'a> = dyn Fn(&str) -> Result<Vec<u8>, Box<dyn Error>> + 'a;

#[allow(dead_code, reason = "the test that compares the tables includes this file")]
fn main() -> Result<(), Box<dyn Error>> {
    let input = env::args().nth(1).ok_or("the folder with the definition bundles is missing")?;
    let input = Path::new(&input);
    let output = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../profiles/r4");
    for (name, content) in tables(&|file| Ok(fs::read(input.join(file))?))? {
        fs::write(output.join(name), content)?;
    }
    Ok(())
}

/// All tables.
pub fn tables(read: &Read) -> Result<Vec<Table>, Box<dyn Error>> {
    let types = Json::parse(&read("profiles-types.json")?)?;
    let resources = Json::parse(&read("profiles-resources.json")?)?;
    let parameters = Json::parse(&read("search-parameters.json")?)?;
    let definitions: Vec<&Json> = entries(&types, "StructureDefinition")
        .chain(entries(&resources, "StructureDefinition"))
        .filter(|definition| definition.str_at(&["derivation"]) != Some("constraint"))
        .collect();
    let parameters: Vec<&Json> = entries(&parameters, "SearchParameter").collect();
    Ok(vec![
        ("types.tsv", types_table(&definitions)),
        ("elements.tsv", elements_table(&definitions)),
        ("invariants.tsv", invariants_table(&definitions)),
        ("search-parameters.tsv", parameters_table(&parameters)),
        ("compartments.tsv", compartments_table(&resources)),
    ])
}

fn types_table(definitions: &[&Json]) -> String {
    let mut out = String::from("name\tkind\tabstract\tbase\n");
    for definition in definitions {
        let is_abstract = definition.get("abstract").and_then(Json::as_bool) == Some(true);
        row(
            &mut out,
            &[
                text(definition, "name"),
                text(definition, "kind"),
                if is_abstract { "abstract" } else { "" },
                last_segment(text(definition, "baseDefinition")),
            ],
        );
    }
    out
}

/// An element that its type inherits without a change is left out.
fn elements_table(definitions: &[&Json]) -> String {
    let mut out = String::from("path\tmin\tmax\ttypes\tflags\tbinding\tregex\n");
    let mut rows: HashMap<&str, Vec<String>> = HashMap::new();
    let mut order = Vec::new();
    for element in definitions.iter().flat_map(|definition| elements(definition, "snapshot")) {
        let path = text(element, "path");
        rows.insert(path, facts(element));
        order.push((path, element.str_at(&["base", "path"]).unwrap_or(path)));
    }
    for (path, base) in order {
        let facts = &rows[path];
        if path == base || rows.get(base) != Some(facts) {
            let mut fields = vec![path];
            fields.extend(facts.iter().map(String::as_str));
            row(&mut out, &fields);
        }
    }
    out
}

fn facts(element: &Json) -> Vec<String> {
    let mut types: Vec<String> = element.list("type").iter().map(element_type).collect();
    if let Some(reference) = element.str_at(&["contentReference"]) {
        types.push(reference.to_string());
    }
    let flag = |name: &str, letter: &'static str| match element.get(name).and_then(Json::as_bool) {
        Some(true) => letter,
        _ => "",
    };
    let binding = match element.get("binding") {
        Some(binding) => {
            let value_set = text(binding, "valueSet");
            format!("{} {value_set}", text(binding, "strength")).trim_end().to_string()
        }
        None => String::new(),
    };
    let regex = element.list("type").iter().find_map(|kind| extension(kind, "/regex"));
    vec![
        element.get("min").and_then(Json::as_number).unwrap_or("0").to_string(),
        text(element, "max").to_string(),
        types.join(" "),
        [flag("isSummary", "s"), flag("isModifier", "m")].concat(),
        binding,
        regex.unwrap_or_default().to_string(),
    ]
}

/// `code`, `code(target|target)` for references, `code{profile|profile}` for profiled types; a
/// type of FHIRPath carries the FHIR type it stands for: `System.String=uri`.
fn element_type(kind: &Json) -> String {
    let code = text(kind, "code");
    let mut out = match code.strip_prefix("http://hl7.org/fhirpath/") {
        Some(system) => match extension(kind, "/structuredefinition-fhir-type") {
            Some(fhir) => format!("{system}={fhir}"),
            None => system.to_string(),
        },
        None => code.to_string(),
    };
    for (name, open, close) in [("targetProfile", '(', ')'), ("profile", '{', '}')] {
        let profiles: Vec<&str> =
            kind.list(name).iter().filter_map(Json::as_str).map(last_segment).collect();
        if !profiles.is_empty() {
            out.push(open);
            out.push_str(&profiles.join("|"));
            out.push(close);
        }
    }
    out
}

/// The invariants that a definition itself adds.
fn invariants_table(definitions: &[&Json]) -> String {
    let mut out = String::from("path\tkey\tseverity\texpression\n");
    for element in definitions.iter().flat_map(|definition| elements(definition, "differential")) {
        for constraint in element.list("constraint") {
            row(
                &mut out,
                &[
                    text(element, "path"),
                    text(constraint, "key"),
                    text(constraint, "severity"),
                    text(constraint, "expression"),
                ],
            );
        }
    }
    out
}

fn parameters_table(parameters: &[&Json]) -> String {
    let mut out = String::from("url\tcode\ttype\tbase\ttarget\texpression\tcomponents\n");
    for parameter in parameters {
        let list = |name: &str| -> String {
            let items: Vec<&str> = parameter.list(name).iter().filter_map(Json::as_str).collect();
            items.join(" ")
        };
        let components: Vec<String> = parameter
            .list("component")
            .iter()
            .map(|part| format!("{} {}", text(part, "definition"), text(part, "expression")))
            .collect();
        row(
            &mut out,
            &[
                text(parameter, "url"),
                text(parameter, "code"),
                text(parameter, "type"),
                &list("base"),
                &list("target"),
                text(parameter, "expression"),
                &components.join(" ; "),
            ],
        );
    }
    out
}

/// A type that is never in a compartment is left out.
fn compartments_table(resources: &Json) -> String {
    let mut out = String::from("compartment\ttype\tparameters\n");
    for compartment in entries(resources, "CompartmentDefinition") {
        for member in compartment.list("resource") {
            let names: Vec<&str> = member.list("param").iter().filter_map(Json::as_str).collect();
            if !names.is_empty() {
                row(&mut out, &[text(compartment, "code"), text(member, "code"), &names.join(" ")]);
            }
        }
    }
    out
}

fn entries<'a>(bundle: &'a Json, resource_type: &'a str) -> impl Iterator<Item = &'a Json> {
    bundle
        .list("entry")
        .iter()
        .filter_map(|entry| entry.get("resource"))
        .filter(move |resource| resource.str_at(&["resourceType"]) == Some(resource_type))
}

fn elements<'a>(definition: &'a Json, view: &str) -> &'a [Json] {
    definition.get(view).map_or(&[], |view| view.list("element"))
}

fn extension<'a>(json: &'a Json, ending: &str) -> Option<&'a str> {
    let extension =
        json.list("extension").iter().find(|extension| text(extension, "url").ends_with(ending))?;
    ["valueUrl", "valueString"].iter().find_map(|name| extension.str_at(&[name]))
}

fn text<'a>(json: &'a Json, name: &str) -> &'a str {
    json.str_at(&[name]).unwrap_or_default()
}

fn last_segment(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

/// A tab or line break within a field becomes a blank.
fn row(out: &mut String, fields: &[&str]) {
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            out.push('\t');
        }
        out.extend(field.chars().map(|c| if matches!(c, '\t' | '\n' | '\r') { ' ' } else { c }));
    }
    out.push('\n');
}
