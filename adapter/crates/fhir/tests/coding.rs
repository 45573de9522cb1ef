//! Codings and bindings with everything that is bundled: the official examples and those of UK
//! Core.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::fs;
use std::path::Path;

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::profile::Profiles;
use lumbar_fhir::terminology::Library;
use lumbar_fhir::validate::{Found, Limits, Missing, World, validate_in};
use lumbar_fhir::{Issue, IssueType, Json, Severity, json};
use lumbar_testkit::shared;

/// All issues with what R4 itself has, but no profile.
fn validated(library: &Library, definitions: &Definitions, resource: &Json) -> Vec<Issue> {
    let (profiles, resources, missing) =
        (Profiles::default(), Found::default(), Missing::default());
    let world = World {
        definitions,
        profiles: &profiles,
        terminology: library,
        resources: &resources,
        missing: &missing,
        now: None,
        vital_signs: Severity::Error,
        limits: Limits::default(),
    };
    validate_in(&world, resource, &[])
}

/// The resources of a folder and of those in it, with their names.
fn resources(folder: &Path) -> Vec<(String, Json)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(json) = Json::parse(&fs::read(&path).unwrap()) {
                found.push((path.file_stem().unwrap().to_string_lossy().into_owned(), json));
            }
        }
    }
    found.sort_by(|(one, _), (two, _)| one.cmp(two));
    found
}

/// Examples with a code that cannot be one, which they have by a slip of their authors.
const WRONG: [&str; 1] = ["Bundle-father"]; // the unit "tbl"

#[test]
fn the_examples_of_the_standard_and_of_uk_core_have_right_codes() {
    let Some(shared) = shared() else { return };
    let definitions = Definitions::r4();
    let mut library = Library::r4();
    for folder in ["fhir/ukcore/valuesets", "fhir/ukcore/codesystems"] {
        for (name, resource) in resources(&shared.join(folder)) {
            library.add(&resource).unwrap_or_else(|issue| panic!("{name}: {}", issue.text));
        }
    }
    let mut count = 0;
    let mut wrong = Vec::new();
    for folder in ["fhir/r4-examples", "fhir/ukcore/examples"] {
        for (name, resource) in resources(&shared.join(folder)) {
            count += 1;
            let issues = validated(&library, &definitions, &resource);
            let told =
                issues.iter().filter(|issue| issue.text.starts_with("Codes were not")).count();
            assert!(told <= 1, "{name}: told {told} times what was not looked up");
            if issues.iter().any(|issue| issue.is_error() && issue.code == IssueType::CodeInvalid) {
                wrong.push(name);
            }
        }
    }
    assert!(count > 400, "only {count} resources");
    assert_eq!(wrong, WRONG);
}

#[test]
fn a_language_is_one_of_bcp_47() {
    let definitions = Definitions::r4();
    let library = Library::r4();
    for (language, expected) in [("en-GB", 0), ("cy", 0), ("en_GB", 2)] {
        let concept = json!({"coding": [{"system": "urn:ietf:bcp:47", "code": (language)}]});
        let patient = json!({"resourceType": "Patient", "language": (language),
            "communication": [{"language": (concept)}]});
        let issues = validated(&library, &definitions, &patient);
        let of_codes = issues.iter().filter(|issue| issue.code == IssueType::CodeInvalid);
        let errors = of_codes.filter(|issue| issue.is_error()).count();
        assert_eq!(errors, expected, "{language}: {issues:?}");
    }
}
