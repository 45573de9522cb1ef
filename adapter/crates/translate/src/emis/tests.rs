use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use lumbar_fhir::definitions::Definitions;

use super::*;
use crate::local_time;

static MAPPING: LazyLock<Mapping> = LazyLock::new(|| mapping().unwrap());
static DEFINITIONS: LazyLock<Definitions> = LazyLock::new(Definitions::r4);

fn settings(base: &str, source: &str) -> Settings<'static> {
    Settings {
        base: base.into(),
        source: source.into(),
        zone: local_time::zone(local_time::LONDON).unwrap(),
        now: "2026-04-01T09:00:00+01:00".into(),
        software: "Lumbar".into(),
        provenance: true,
        wait: false,
        definitions: &DEFINITIONS,
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

fn shared() -> Option<PathBuf> {
    let place = std::env::var("LUMBAR_SHARED").map_or_else(|_| root().join("../shared"), PathBuf::from);
    if place.is_dir() {
        return Some(place);
    }
    println!("left out: the shared samples are not here (set LUMBAR_SHARED)");
    None
}

fn folder(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "csv"))
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_string(), std::fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn run(files: &[(String, Vec<u8>)], settings: &Settings<'_>) -> (Json, Report) {
    let files = files.iter().map(|(name, bytes)| (name.clone(), bytes.as_slice())).collect();
    let (bundle, report) = convert(&MAPPING, files, settings);
    assert!(report.is_balanced(), "{}", report.to_json().to_pretty());
    (bundle, report)
}

#[test]
fn zz_show() {
    let Some(shared) = shared() else { return };
    let samples = shared.join("formats/samples/synthetic-emis");
    let name = std::env::var("SHOW").unwrap_or("bulk-v8.2".into());
    let (bundle, report) = run(&folder(&samples.join(&name)), &settings("https://adapter.example", &name));
    println!("{}\n{}", bundle.to_pretty(), report.to_json().to_pretty());
}
