//! The tables in `profiles/r4` are what the generator makes of HL7's bundles.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

#[path = "../examples/r4_tables.rs"]
mod generator;

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use lumbar_fhir::Json;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

/// HL7's bundles; without the shared reference data none.
fn bundles() -> Option<PathBuf> {
    let shared = env::var_os("LUMBAR_SHARED").map_or(root().join("../shared"), PathBuf::from);
    let bundles = shared.join("fhir/r4-core");
    if !bundles.is_dir() {
        println!("skipped: the shared reference data are not there");
        return None;
    }
    Some(bundles)
}

fn unpacked(bundles: &Path, file: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let path = bundles.join(format!("{file}.gz"));
    let output = Command::new("gzip").arg("-dc").arg(&path).output()?;
    if !output.status.success() {
        return Err(format!("{}: gzip failed", path.display()).into());
    }
    Ok(output.stdout)
}

fn table(name: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("profiles/r4").join(name)).unwrap();
    text.lines().skip(1).map(|line| line.split('\t').map(String::from).collect()).collect()
}

#[test]
fn the_tables_are_what_the_bundles_say() {
    let Some(bundles) = bundles() else { return };
    let read = |file: &str| unpacked(&bundles, file);
    for (name, content) in generator::tables(&read).unwrap() {
        let kept = fs::read_to_string(root().join("profiles/r4").join(name)).unwrap();
        let differs = kept.lines().zip(content.lines()).find(|(kept, made)| kept != made);
        assert_eq!(differs, None, "{name}: run the example r4_tables");
        assert_eq!(kept.len(), content.len(), "{name}: run the example r4_tables");
    }
}

#[test]
fn every_invariant_has_one_sentence() {
    let invariants = table("invariants.tsv");
    let mut open: BTreeSet<(&str, &str)> =
        invariants.iter().map(|row| (row[1].as_str(), row[0].as_str())).collect();
    for row in table("invariant-sentences.tsv") {
        let [key, path, sentence] = row.as_slice() else { panic!("three columns: {row:?}") };
        let meant: Vec<_> = open
            .iter()
            .filter(|(of, on)| of == key && (path.is_empty() || on == path))
            .copied()
            .collect();
        assert_eq!(meant.len(), 1, "{key} {path}: a sentence is for one invariant");
        open.remove(&meant[0]);
        assert!(sentence.ends_with('.'), "{key}: {sentence}");
    }
    assert!(open.is_empty(), "no sentence: {open:?}");
}

/// The standard's own words are not ours to show.
#[test]
fn no_sentence_is_the_published_one() {
    let Some(bundles) = bundles() else { return };
    let plain = |text: &str| -> String {
        text.chars().filter(|char| char.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    let mut published: HashMap<String, String> = HashMap::new();
    for file in ["profiles-types.json", "profiles-resources.json", "profiles-others.json"] {
        let bundle = Json::parse(&unpacked(&bundles, file).unwrap()).unwrap();
        for element in bundle
            .list("entry")
            .iter()
            .filter_map(|entry| entry.at(&["resource", "snapshot"]))
            .flat_map(|snapshot| snapshot.list("element"))
        {
            for constraint in element.list("constraint") {
                let text = |name: &str| constraint.str_at(&[name]).unwrap().to_owned();
                published.insert(plain(&text("human")), text("key"));
            }
        }
    }
    assert!(published.len() > 150, "only {} are published", published.len());
    for row in table("invariant-sentences.tsv") {
        let same = published.get(&plain(&row[2]));
        assert_eq!(same, None, "{}: {}", row[0], row[2]);
    }
}
