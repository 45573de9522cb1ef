//! Writes the table of required codes in `profiles/r4` from HL7's expansions of R4 (4.0.1):
//! `cargo run -p lumbar-fhir --example r4_codes -- DIR`.
//!
//! DIR holds `valueset-expansions.json` as HL7 publishes it, uncompressed. Only systems and codes
//! are taken, of the value sets that `elements.tsv` names with the strength `required`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{env, error::Error, fs};

use lumbar_fhir::Json;

#[allow(dead_code, reason = "the test that compares the tables includes this file")]
fn main() -> Result<(), Box<dyn Error>> {
    let input = env::args().nth(1).ok_or("the folder with the expansions is missing")?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../profiles/r4");
    let elements = fs::read_to_string(folder.join("elements.tsv"))?;
    let expansions = fs::read(Path::new(&input).join("valueset-expansions.json"))?;
    fs::write(folder.join("codes.tsv"), table(&elements, &expansions)?)?;
    Ok(())
}

/// Value sets whose published expansion is a sample, although the set has more codes.
const SAMPLES: [&str; 1] = ["http://hl7.org/fhir/ValueSet/ucum-units"];

/// One row for each value set and system; a value set without a published expansion has none.
pub fn table(elements: &str, expansions: &[u8]) -> Result<String, Box<dyn Error>> {
    let required: BTreeSet<&str> = elements
        .lines()
        .filter_map(|line| line.split('\t').nth(5)?.strip_prefix("required "))
        .map(|canonical| canonical.split('|').next().unwrap_or(canonical))
        .filter(|url| !SAMPLES.contains(url))
        .collect();
    let bundle = Json::parse(expansions)?;
    let mut rows: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for set in bundle.list("entry").iter().filter_map(|entry| entry.get("resource")) {
        let url = set.str_at(&["url"]).unwrap_or_default();
        if !required.contains(url) {
            continue;
        }
        for concept in set.get("expansion").map_or(&[][..], |found| found.list("contains")) {
            let text = |name: &str| concept.str_at(&[name]).unwrap_or_default();
            rows.entry((url, text("system"))).or_default().push(text("code"));
        }
    }
    let mut out = String::from("value set\tsystem\tcodes\n");
    for ((url, system), codes) in rows {
        if let Some(code) = codes.iter().find(|code| code.contains(char::is_whitespace)) {
            return Err(format!("the code \"{code}\" of {url} has a blank").into());
        }
        out.push_str(&format!("{url}\t{system}\t{}\n", codes.join(" ")));
    }
    Ok(out)
}
