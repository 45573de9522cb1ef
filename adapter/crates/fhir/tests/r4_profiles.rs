//! `profiles/r4/structure-definitions.ndjson` is what the generator makes of HL7's bundles, and each
//! of its definitions gets a snapshot.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

#[path = "../examples/r4_profiles.rs"]
mod generator;

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::process::Command;
use std::sync::Arc;

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::{Json, snapshot};

fn kept() -> String {
    let file = lumbar_testkit::root().join("profiles/r4/structure-definitions.ndjson");
    fs::read_to_string(file).unwrap()
}

#[test]
fn the_definitions_are_what_the_bundles_say() {
    let Some(shared) = lumbar_testkit::shared() else { return };
    let read = |file: &str| -> Result<Vec<u8>, Box<dyn Error>> {
        let path = shared.join("fhir/r4-core").join(format!("{file}.gz"));
        let output = Command::new("gzip").arg("-dc").arg(&path).output()?;
        if !output.status.success() {
            return Err(format!("{}: gzip failed", path.display()).into());
        }
        Ok(output.stdout)
    };
    let made = generator::lines(&read).unwrap();
    let kept = kept();
    let differs = kept.lines().zip(made.lines()).find(|(kept, made)| kept != made);
    assert_eq!(differs, None, "run the example r4_profiles");
    assert_eq!(kept.len(), made.len(), "run the example r4_profiles");
    let table = lumbar_testkit::root().join("profiles/r4/vital-signs.tsv");
    let table = fs::read_to_string(table).unwrap();
    assert_eq!(table, generator::vital_signs(&made).unwrap(), "run the example r4_profiles");
}

#[test]
fn each_gets_a_snapshot_from_the_tables() {
    let r4 = Definitions::r4();
    let mut known: HashMap<String, Arc<Json>> = HashMap::new();
    for kind in r4.types() {
        if let Some(made) = snapshot::of_type(&r4, kind.name) {
            known.insert(format!("{}{}", snapshot::CORE, kind.name), Arc::new(made));
        }
    }
    let kept = kept();
    let mut open: Vec<Json> =
        kept.lines().map(|line| Json::parse(line.as_bytes()).unwrap()).collect();
    assert_eq!(open.len(), 439);
    // Those that are bases of others come first.
    let mut issues = Vec::new();
    for _ in 0..8 {
        issues.clear();
        open.retain(|definition| {
            let made = snapshot::generate(definition, &|canonical| known.get(canonical).cloned());
            match made {
                Ok(made) => {
                    let url = made.str_at(&["url"]).unwrap().to_owned();
                    known.insert(url, Arc::new(made));
                    false
                }
                Err(found) => {
                    issues.extend(found);
                    true
                }
            }
        });
    }
    assert!(open.is_empty(), "{issues:#?}");
}
