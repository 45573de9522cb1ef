//! Profiles: our own cases for each kind of rule, and the examples of packages.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

mod cases;
mod loaded;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use cases::{exceptions, print, read, sorted};
use loaded::{Loaded, R4};
use lumbar_fhir::validate::Limits;
use lumbar_fhir::{Issue, IssueType, Json, Object, json};
use lumbar_testkit::{fixtures, shared};
use proptest::prelude::*;

/// Each folder is a case: `profile.json` and other artefacts, `ok*.json` without errors and
/// `bad*.json` with the issues of the file beside it.
#[test]
fn rules_are_kept_and_broken_as_expected() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut failures = Vec::new();
    for folder in sorted(&fixtures().join("validator/profile")) {
        let mut loaded = Loaded::r4();
        let mut url = None;
        let mut instances = Vec::new();
        for path in sorted(&folder) {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let json = read(&path).unwrap();
            if name.starts_with("ok") || name.starts_with("bad") {
                instances.push((name, path, json));
                continue;
            }
            if name == "profile" {
                url = json.str_at(&["url"]).map(str::to_owned);
            }
            loaded.add(&json);
        }
        for (name, path, json) in instances {
            let given: Vec<&str> = url.as_deref().into_iter().collect();
            let given = if json.at(&["meta", "profile"]).is_some() { &[][..] } else { &given };
            let issues = loaded.issues(&json, given);
            let has_errors = issues.iter().any(Issue::is_error);
            if name.starts_with("ok") == has_errors {
                let what = if has_errors { "has errors" } else { "is accepted" };
                failures.push(format!("{} {what}:\n{}", path.display(), print(&issues)));
            }
            let expected = path.with_extension("issues");
            let printed = print(&issues);
            if update && (has_errors || expected.exists()) {
                fs::write(&expected, &printed).unwrap();
            }
            let expected = fs::read_to_string(&expected).unwrap_or_default();
            if (has_errors || !expected.is_empty()) && expected != printed {
                let path = path.display();
                failures.push(format!("{path}:\nexpected\n{expected}found\n{printed}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// All JSON files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for path in sorted(&folder) {
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|ext| ext == "json") => found.push(path),
                false => {}
            }
        }
    }
    found
}

/// The examples of a package with its definitions loaded: those that have errors are listed.
fn examples(suite: &str, definitions: &[PathBuf], examples: &Path) {
    let mut loaded = Loaded::r4();
    for folder in definitions {
        for path in files(folder) {
            let Ok(json) = read(&path) else { continue };
            let kind = json.str_at(&["resourceType"]);
            if matches!(kind, Some("StructureDefinition" | "ValueSet" | "CodeSystem")) {
                loaded.add(&json);
            }
        }
    }
    let only = std::env::var("CASE").ok();
    let mut different = BTreeSet::new();
    let examples = files(examples);
    for path in &examples {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let issues = loaded.issues(&read(path).unwrap(), &[]);
        let errors: Vec<Issue> = issues.into_iter().filter(Issue::is_error).collect();
        if !errors.is_empty() {
            println!("{suite} {name}\n{}", print(&errors));
            different.insert(name);
        }
    }
    println!("{suite}: {} of {} examples have errors", different.len(), examples.len());
    let listed: BTreeSet<String> = exceptions(suite).into_keys().collect();
    if only.is_none() {
        let new: Vec<&String> = different.difference(&listed).collect();
        let mended: Vec<&String> = listed.difference(&different).collect();
        assert!(new.is_empty(), "{suite}: have errors and are not in exceptions.tsv: {new:#?}");
        assert!(mended.is_empty(), "{suite}: take out of exceptions.tsv: {mended:#?}");
    }
}

#[test]
fn official_examples_keep_the_profiles_and_extensions_of_r4() {
    let Some(shared) = shared() else { return };
    examples("r4-examples-profiles", &[], &shared.join("fhir/r4-examples"));
}

#[test]
fn examples_of_uk_core_are_valid() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("fhir/ukcore");
    let definitions = ["structuredefinitions", "valuesets", "codesystems"];
    let definitions = definitions.map(|name| folder.join(name));
    examples("ukcore", &definitions, &folder.join("examples"));
}

#[test]
fn examples_of_sdc_are_valid() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("fhir/sdc");
    let definitions = ["StructureDefinition", "ValueSet", "CodeSystem"];
    let definitions = definitions.map(|name| folder.join(name));
    examples("sdc", &definitions, &folder.join("example"));
}

/// Every definition can be used: those of R4, UK Core and SDC.
#[test]
fn every_definition_has_rules() {
    let mut loaded = Loaded::r4();
    if let Some(shared) = shared() {
        for folder in ["ukcore/structuredefinitions", "sdc/StructureDefinition"] {
            for path in files(&shared.join("fhir").join(folder)) {
                loaded.add(&read(&path).unwrap());
            }
        }
    }
    let mut wrong = Vec::new();
    for profile in loaded.profiles.all() {
        if profile.of_type().is_none_or(|of| R4.type_of(of).is_none()) {
            println!("not of a type of R4: {}", profile.url);
        } else {
            wrong.extend(profile.issues(&loaded.profiles, &R4));
        }
    }
    let wrong = print(&wrong);
    println!("{wrong}");
    assert!(!wrong.contains("error"), "{wrong}");
}

/// The artefacts and instances of all our cases.
static CASES: LazyLock<(Vec<Json>, Vec<Json>)> = LazyLock::new(|| {
    let all = files(&fixtures().join("validator/profile"));
    let all = all.iter().map(|path| read(path).unwrap());
    all.partition(|json| json.str_at(&["resourceType"]) == Some("StructureDefinition"))
});

/// Changes the `which`-th value of a tree.
fn damage(json: &mut Json, which: &mut usize, kind: u8) {
    if *which == 0 {
        *json = match (kind, &*json) {
            (0, _) => Json::Null,
            (1, _) => json!("Patient.identifier:a/b.c[x]"),
            (2, Json::Object(object)) => {
                let members = object.iter().map(|(name, value)| (name.into(), value.clone()));
                Json::Object(members.skip(1).collect::<Object>())
            }
            (3, Json::Array(items)) => Json::Array(items.iter().rev().cloned().collect()),
            (4, other) => json!([(other.clone()), (other.clone())]),
            (5, _) => json!({"code": "Reference", "path": "$this.resolve().extension('x').value"}),
            _ => json!(7),
        };
        *which = usize::MAX;
        return;
    }
    if *which == usize::MAX {
        return;
    }
    *which -= 1;
    match json {
        Json::Array(items) => items.iter_mut().for_each(|item| damage(item, which, kind)),
        Json::Object(object) => {
            object.iter_mut().for_each(|(_, value)| damage(value, which, kind));
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_definition_panics(
        which in any::<prop::sample::Index>(),
        damages in prop::collection::vec((0_usize..120, 0_u8..7), 1..4),
    ) {
        let (definitions, instances) = &*CASES;
        let mut definition = which.get(definitions).clone();
        for (mut place, kind) in damages {
            damage(&mut definition, &mut place, kind);
        }
        let mut loaded = Loaded::r4();
        definitions.iter().for_each(|json| drop(loaded.add(json)));
        let url = which.get(definitions).str_at(&["url"]).unwrap().to_owned();
        definition.set("url", url.as_str());
        loaded.profiles.add(&definition);
        for instance in instances.iter().skip(which.index(7)).step_by(7) {
            let issues = loaded.issues(instance, &[&url]);
            prop_assert!(issues.iter().all(|issue| !issue.text.is_empty()));
        }
    }

    #[test]
    fn no_instance_panics(
        which in any::<prop::sample::Index>(),
        damages in prop::collection::vec((0_usize..40, 0_u8..7), 1..4),
    ) {
        let (definitions, instances) = &*CASES;
        let mut loaded = Loaded::r4();
        definitions.iter().for_each(|json| drop(loaded.add(json)));
        let mut instance = which.get(instances).clone();
        for (mut place, kind) in damages {
            damage(&mut instance, &mut place, kind);
        }
        for definition in definitions.iter().skip(which.index(5)).step_by(5) {
            let url = definition.str_at(&["url"]).unwrap();
            loaded.issues(&instance, &[url]);
        }
    }
}

/// A profile that is derived from itself, two that are derived from each other and two whose types
/// are each other.
#[test]
fn circles_of_definitions_end() {
    let derived = |name: &str, base: &str, of: &str| {
        json!({"resourceType": "StructureDefinition", "url": (format!("urn:x:{name}")),
            "name": name, "status": "draft", "kind": "resource", "abstract": false,
            "type": "Patient", "baseDefinition": base, "derivation": "constraint",
            "differential": {"element": [{"path": "Patient.name", "min": 1},
                {"path": "Patient.contained", "type": [{"code": "Patient", "profile": [of]}]},
                {"path": "Patient.contained.gender", "min": 1}]}})
    };
    let patient = "http://hl7.org/fhir/StructureDefinition/Patient";
    let mut loaded = Loaded::r4();
    for (name, base, of) in [
        ("self", "urn:x:self", "urn:x:self"),
        ("a", "urn:x:b", "urn:x:b"),
        ("b", "urn:x:a", "urn:x:a"),
        ("c", patient, "urn:x:d"),
        ("d", patient, "urn:x:c"),
    ] {
        loaded.add(&derived(name, base, of));
    }
    let instance = json!({"resourceType": "Patient", "active": true,
        "contained": [{"resourceType": "Patient", "id": "a", "link": [
            {"other": {"reference": "#"}, "type": "refer"}]}]});
    for (url, expected) in [
        ("urn:x:self", "cannot be used"),
        ("urn:x:a", "cannot be used"),
        ("urn:x:c", "Patient.name is required"),
    ] {
        let issues = loaded.issues(&instance, &[url]);
        assert!(issues.iter().any(|issue| issue.text.contains(expected)), "{}", print(&issues));
    }
}

#[test]
fn limits_are_told() {
    let names: Vec<Json> = (0..200).map(|_| json!({"text": "x"})).collect();
    let profile = json!({"resourceType": "StructureDefinition", "url": "urn:x:limits",
        "name": "limits", "status": "draft", "kind": "resource", "abstract": false,
        "type": "Patient", "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
        "derivation": "constraint", "differential": {"element": [
            {"path": "Patient.name", "constraint": [{"key": "t-1", "severity": "error",
                "human": "x", "expression": "%resource.name.all(text.exists())"}]},
            {"path": "Patient.name.family", "min": 1}]}});
    let mut loaded = Loaded::r4();
    loaded.add(&profile);
    let instance = json!({"resourceType": "Patient", "name": (names)});
    let told = |limits: Limits| {
        let issues = loaded.issues_within(limits, &instance, &["urn:x:limits"]);
        issues.iter().filter(|issue| issue.code == IssueType::TooCostly).count()
    };
    assert_eq!(told(Limits::default()), 0);
    assert_eq!(told(Limits { issues: 10, ..Limits::default() }), 1);
    assert_eq!(told(Limits { steps: 1_000, ..Limits::default() }), 1);
    assert_eq!(told(Limits { work: 100, ..Limits::default() }), 1);
    assert_eq!(told(Limits { profiles: 0, ..Limits::default() }), 1);
    // At each place that is too deep.
    assert_eq!(told(Limits { depth: 0, ..Limits::default() }), 200);
}
