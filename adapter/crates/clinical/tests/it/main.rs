//! Cases from folders: `fixtures/instruments`, `fixtures/pathways` and, where it is at hand, the
//! shared vectors.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod facts;
mod forms;
#[path = "../../examples/forms.rs"]
#[expect(dead_code, reason = "the example is a program of its own, too")]
mod generator;
mod instruments;
mod pathways;
mod properties;
mod rules;
mod vectors;

use std::path::{Path, PathBuf};

use lumbar_fhir::Json;

fn read(path: &Path) -> Json {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Json::parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What is in a folder, sorted.
fn list(folder: &Path) -> Vec<PathBuf> {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// Runs `run` on every `<case>.json` of every folder under `fixtures/<area>`, with the folder's
/// name, and compares its answer with `<case>.expected.json`.
fn cases(area: &str, run: impl Fn(&str, &Json) -> Json) {
    for folder in list(&lumbar_testkit::fixtures().join(area)).iter().filter(|path| path.is_dir()) {
        lumbar_testkit::check(folder, |case| {
            let actual = run(name(folder), &read(&case.path("json")));
            case.expect("expected.json", &(actual.to_pretty() + "\n"))
        });
    }
}
