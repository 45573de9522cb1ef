//! The profiles that come with the program: their examples, UK Core, and their JSON Schemas.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up must fail")]

mod loaded;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use lumbar_fhir::json_schema::{self, NoSchema, Sources};
use lumbar_fhir::validate::validate;
use lumbar_fhir::{Issue, Json, Severity, json};
use lumbar_testkit::{fixtures, root, shared};

use loaded::{Loaded, R4};

const BASE: &str = "https://lumbar.example/fhir/StructureDefinition";
const UK_CORE: &str = "https://fhir.hl7.org.uk/StructureDefinition";
/// Fewest examples of each profile that are valid and that are not.
const FEWEST: (usize, usize) = (3, 5);

/// The profile of UK Core that an instance of one of ours conforms to as well.
const ALSO: &[(&str, &str)] = &[
    ("back-pain-appointment", "UKCore-Appointment"),
    ("back-pain-care-plan", "UKCore-CarePlan"),
    ("back-pain-episode", "UKCore-EpisodeOfCare"),
    ("back-pain-organization", "UKCore-Organization"),
    ("back-pain-patient", "UKCore-Patient"),
    ("back-pain-practitioner", "UKCore-Practitioner"),
    ("back-pain-questionnaire", "UKCore-Questionnaire"),
    ("back-pain-referral", "UKCore-ServiceRequest"),
    ("back-pain-response", "UKCore-QuestionnaireResponse"),
    ("back-pain-slot", "UKCore-Slot"),
    ("back-pain-task", "UKCore-Task"),
    ("diary-entry", "UKCore-Observation"),
    ("matched-treatment", "UKCore-ServiceRequest"),
    ("outcome-score", "UKCore-Observation"),
    ("risk-group", "UKCore-Observation"),
];

static KNOWN: LazyLock<Loaded> = LazyLock::new(bundled);

/// R4 and what `profiles/` holds.
fn bundled() -> Loaded {
    let mut known = Loaded::r4();
    let folder = root().join("profiles");
    for path in ["structure", "terminology"].map(|name| sorted(&folder.join(name))).concat() {
        let issues = known.add(&read(&path));
        assert!(issues.is_empty(), "{}: {issues:?}", path.display());
    }
    let folders = sorted(&folder.join("instruments")).into_iter();
    for path in folders.filter(|path| path.is_dir()) {
        let form = read(&path.join("Questionnaire.json"));
        let [url, version] = ["url", "version"].map(|name| form.str_at(&[name]).unwrap());
        known.resources.put(format!("{url}|{version}"), Some(Arc::new(form)));
    }
    known
}

/// The same and UK Core.
fn with_uk_core(shared: &Path) -> Loaded {
    let mut known = KNOWN.clone();
    for folder in ["codesystems", "valuesets", "structuredefinitions"] {
        for path in sorted(&shared.join("fhir/ukcore").join(folder)) {
            known.add(&read(&path));
        }
    }
    known
}

fn read(path: &Path) -> Json {
    let bytes = fs::read(path).unwrap();
    Json::parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// The examples of each profile, by its id: their names and what they hold.
fn examples() -> BTreeMap<String, Vec<(String, Json)>> {
    let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    let folders = sorted(&fixtures().join("profiles")).into_iter().filter(|path| path.is_dir());
    let of = |folder: &Path| {
        let files = sorted(folder).into_iter();
        let files = files.filter(|path| path.extension().is_some_and(|ext| ext == "json"));
        files.map(|path| (name(&path), read(&path))).collect()
    };
    folders.map(|folder| (name(&folder), of(&folder))).collect()
}

fn print(issues: &[&Issue]) -> String {
    let mut text = String::new();
    for issue in issues {
        let place = issue.expression.as_deref().unwrap_or("-");
        let (severity, code) = (issue.severity.code(), issue.code.code());
        let rule = issue.rule.as_deref().unwrap_or("-");
        writeln!(text, "    {severity} {code} {place}: {} ({rule})", issue.text).unwrap();
    }
    text
}

/// A row of `expected.tsv`.
fn row(name: &str, issue: &Issue) -> String {
    let place = issue.expression.as_deref().unwrap_or_default();
    let rule = issue.rule.as_deref().unwrap_or_default();
    format!("{name}\t{}\t{place}\t{rule}\n", issue.code.code())
}

#[test]
fn every_profile_has_examples() {
    let examples = examples();
    for path in sorted(&root().join("profiles/structure")) {
        let definition = read(&path);
        let is_profile = definition.str_at(&["derivation"]) == Some("constraint")
            && definition.str_at(&["type"]) != Some("Extension");
        if !is_profile {
            continue;
        }
        let id = definition.str_at(&["id"]).unwrap();
        let count = |kind: &str| {
            let of = examples.get(id).into_iter().flatten();
            of.filter(|(name, _)| name.starts_with(kind)).count()
        };
        let (good, bad) = (count("ok-"), count("bad-"));
        assert!(good >= FEWEST.0 && bad >= FEWEST.1, "{id}: {good} good and {bad} bad examples");
    }
}

/// `ok-*` have neither errors nor warnings, `bad-*` the one error that `expected.tsv` states.
#[test]
fn examples_are_valid_or_fail_for_their_reason() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let only = std::env::var("CASE").ok();
    let mut failures = String::new();
    for (id, examples) in examples() {
        if only.as_deref().is_some_and(|only| only != id) {
            continue;
        }
        let mut found = String::from("file\tcode\texpression\trule\n");
        for (name, resource) in examples {
            let issues = KNOWN.issues(&resource, &[&format!("{BASE}/{id}")]);
            let is_bad = name.starts_with("bad-");
            let least = if is_bad { Severity::Error } else { Severity::Warning };
            let told: Vec<&Issue> = issues.iter().filter(|issue| issue.severity >= least).collect();
            told.iter().filter(|_| is_bad).for_each(|issue| found.push_str(&row(&name, issue)));
            if told.len() != usize::from(is_bad) {
                writeln!(failures, "{id}/{name}:\n{}", print(&told)).unwrap();
            }
        }
        let path = fixtures().join("profiles").join(&id).join("expected.tsv");
        if update {
            fs::write(&path, &found).unwrap();
        } else if fs::read_to_string(&path).unwrap() != found {
            writeln!(failures, "{} is not:\n{found}", path.display()).unwrap();
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn good_examples_conform_to_uk_core() {
    let Some(shared) = shared() else { return };
    let known = with_uk_core(&shared);
    let mut failures = String::new();
    for (id, examples) in examples() {
        let Some((_, also)) = ALSO.iter().find(|(ours, _)| *ours == id) else { continue };
        for (name, resource) in examples.iter().filter(|(name, _)| name.starts_with("ok-")) {
            let issues = known.issues(resource, &[&format!("{UK_CORE}/{also}")]);
            let errors: Vec<&Issue> = issues.iter().filter(|issue| issue.is_error()).collect();
            if !errors.is_empty() {
                writeln!(failures, "{id}/{name} as {also}:\n{}", print(&errors)).unwrap();
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

/// A JSON Schema, ready to be used.
fn compiled(schema: &Json) -> jsonschema::Validator {
    let schema = serde_json::from_str(&schema.to_string()).unwrap();
    jsonschema::validator_for(&schema).unwrap_or_else(|error| panic!("{error}"))
}

fn sources(known: &Loaded) -> Sources<'_> {
    Sources { definitions: &R4, profiles: &known.profiles, terminology: &known.terminology }
}

/// Good examples are valid by the JSON Schema of their profile, too; the bad ones are not, but for
/// those that `beyond-json-schema.tsv` lists.
#[test]
fn json_schemas_say_what_they_can() {
    let path = fixtures().join("profiles/beyond-json-schema.tsv");
    let mut beyond = String::from("profile\tfile\n");
    let mut failures = String::new();
    for (id, examples) in examples() {
        let profile = KNOWN.profiles.find(&format!("{BASE}/{id}")).unwrap();
        let schema = json_schema::of_profile(sources(&KNOWN), profile).unwrap();
        let schema = compiled(&schema);
        for (name, resource) in examples {
            let resource = serde_json::from_str(&resource.to_string()).unwrap();
            let faults: Vec<String> =
                schema.iter_errors(&resource).map(|e| e.to_string()).collect();
            match (name.starts_with("ok-"), faults.is_empty()) {
                (true, false) => writeln!(failures, "{id}/{name}: {faults:#?}").unwrap(),
                (false, true) => writeln!(beyond, "{id}\t{name}").unwrap(),
                _ => {}
            }
        }
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &beyond).unwrap();
    }
    let listed = fs::read_to_string(&path).unwrap_or_default();
    if listed != beyond {
        writeln!(failures, "{} is not:\n{beyond}", path.display()).unwrap();
    }
    assert!(failures.is_empty(), "{failures}");
}

/// Every type of resource has a schema, and each of HL7's examples that is valid is valid by it.
#[test]
fn json_schemas_of_types_accept_the_examples_of_the_standard() {
    let mut schemas = BTreeMap::new();
    for name in R4.resource_types() {
        let schema = json_schema::of_type(sources(&KNOWN), name).unwrap();
        schemas.insert(name, compiled(&schema));
    }
    assert_eq!(json_schema::of_type(sources(&KNOWN), "Nothing"), Err(NoSchema::NoType));
    for wrong in [
        r#"{"resourceType":"Observation"}"#,
        r#"{"resourceType":"Patient","nickname":"x"}"#,
        r#"{"resourceType":"Patient","gender":"womanish"}"#,
        r#"{"resourceType":"Patient","birthDate":"1974-13-01"}"#,
        r#"{"resourceType":"Patient","name":{"family":"x"}}"#,
        r#"{"resourceType":"Patient","contact":[]}"#,
        r#"{"resourceType":"Patient","deceasedBoolean":true,"deceasedDateTime":"2026"}"#,
    ] {
        let schema =
            &schemas[if wrong.contains("Observation") { "Observation" } else { "Patient" }];
        assert!(!schema.is_valid(&serde_json::from_str(wrong).unwrap()), "{wrong}");
    }
    let Some(shared) = shared() else { return };
    let mut failures = String::new();
    let (mut looked_at, mut failed) = (0, 0);
    let folders = sorted(&shared.join("fhir/r4-examples"));
    for path in folders.iter().filter(|path| path.is_dir()).flat_map(|folder| sorted(folder)) {
        let bytes = fs::read(&path).unwrap_or_default();
        let Ok(resource) = Json::parse(&bytes) else { continue };
        let Some(name) = resource.str_at(&["resourceType"]) else { continue };
        if validate(&R4, &resource).iter().any(Issue::is_error) {
            continue;
        }
        looked_at += 1;
        let resource = serde_json::from_str(&resource.to_string()).unwrap();
        let faults: Vec<String> = schemas[name]
            .iter_errors(&resource)
            .map(|error| format!("{}: {error}", error.instance_path()).chars().take(300).collect())
            .collect();
        if !faults.is_empty() {
            failed += 1;
            writeln!(failures, "{}: {faults:#?}", path.display()).unwrap();
        }
    }
    assert!(looked_at > 100, "only {looked_at} examples");
    assert!(failures.is_empty(), "{failed} of {looked_at}:\n{failures}");
}

/// Every profile of R4 and UK Core has a schema that can be used, and what conforms to a profile of
/// UK Core is valid by its schema.
#[test]
fn json_schemas_of_uk_core_accept_its_examples() {
    let Some(shared) = shared() else { return };
    let known = with_uk_core(&shared);
    for profile in known.profiles.all() {
        match json_schema::of_profile(sources(&known), profile) {
            Ok(_) | Err(NoSchema::NoType) => {}
            Err(error) => panic!("{}: {error}", profile.url),
        }
    }
    let mut schemas = BTreeMap::new();
    let mut failures = String::new();
    let mut looked_at = 0;
    for path in sorted(&shared.join("fhir/ukcore/examples")) {
        let resource = read(&path);
        let Some(of) = resource.str_at(&["resourceType"]) else { continue };
        let url = format!("{UK_CORE}/UKCore-{of}");
        let Some(profile) = known.profiles.find(&url) else { continue };
        if known.issues(&resource, &[&url]).iter().any(Issue::is_error) {
            continue;
        }
        looked_at += 1;
        let schema = schemas.entry(url).or_insert_with(|| {
            compiled(&json_schema::of_profile(sources(&known), profile).unwrap())
        });
        let resource = serde_json::from_str(&resource.to_string()).unwrap();
        for error in schema.iter_errors(&resource) {
            let text: String = error.to_string().chars().take(300).collect();
            writeln!(failures, "{}: {}: {text}", path.display(), error.instance_path()).unwrap();
        }
    }
    assert!(looked_at > 50, "only {looked_at} examples");
    assert!(failures.is_empty(), "{failures}");
}

/// Each step of these goes into fifty types: what would be endless is refused.
#[test]
fn a_schema_without_end_is_refused() {
    let mut elements = vec![json!({"id": "Basic", "path": "Basic", "min": 0, "max": "*"})];
    let mut path = "Basic".to_owned();
    for _ in 0..12 {
        for name in ["extension", "value[x]"] {
            path = format!("{path}.{name}");
            elements.push(json!({"id": (&path), "path": (&path), "min": 1, "max": "1"}));
        }
    }
    let nested = elements.clone();
    elements.truncate(1);
    let discriminator = ["value.extension"; 12].join(".");
    elements.push(json!({
        "id": "Basic.extension", "path": "Basic.extension", "min": 0, "max": "*",
        "slicing": {"rules": "open", "discriminator": [{"type": "exists", "path": (discriminator)}]}
    }));
    elements.push(json!({
        "id": "Basic.extension:x", "path": "Basic.extension", "sliceName": "x", "min": 1, "max": "1",
        "type": [{"code": "Extension"}]
    }));
    // What the discriminator finds in the slice.
    let mut path = "Basic.extension".to_owned();
    for name in ["value[x]", "extension"].iter().cycle().take(24) {
        path = format!("{path}.{name}");
        let id = path.replacen("extension", "extension:x", 1);
        elements.push(json!({"id": (id), "path": (&path), "min": 1, "max": "1"}));
    }
    for (which, elements) in [nested, elements].into_iter().enumerate() {
        let mut known = KNOWN.clone();
        let url = "http://example.org/endless";
        known.add(&json!({
            "resourceType": "StructureDefinition", "url": url, "name": "Endless", "status": "draft",
            "kind": "resource", "abstract": false, "type": "Basic", "derivation": "constraint",
            "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Basic",
            "snapshot": {"element": (elements)}
        }));
        let profile = known.profiles.find(url).unwrap();
        let schema = json_schema::of_profile(sources(&known), profile);
        assert_eq!(schema.map(|schema| schema.to_string()), Err(NoSchema::TooLarge), "{which}");
    }
}

/// Each instrument's Questionnaire is one of ours, of SDC and of UK Core, without a warning.
#[test]
fn the_instruments_conform() {
    let mut known = KNOWN.clone();
    let own = format!("{BASE}/back-pain-questionnaire");
    let mut profiles = vec![own];
    if let Some(shared) = shared() {
        known = with_uk_core(&shared);
        for folder in ["CodeSystem", "ValueSet", "StructureDefinition"] {
            for path in sorted(&shared.join("fhir/sdc").join(folder)) {
                known.add(&read(&path));
            }
        }
        profiles.push(format!("{UK_CORE}/UKCore-Questionnaire"));
        for name in ["", "-render", "-behave"] {
            let base = "http://hl7.org/fhir/uv/sdc/StructureDefinition";
            profiles.push(format!("{base}/sdc-questionnaire{name}"));
        }
    }
    let (mut count, mut failures) = (0, String::new());
    for folder in sorted(&root().join("profiles/instruments")) {
        let path = folder.join("Questionnaire.json");
        if !path.is_file() {
            continue;
        }
        count += 1;
        let form = read(&path);
        for profile in &profiles {
            assert!(known.profiles.find(profile).is_some(), "{profile} is not there");
            let issues = known.issues(&form, &[profile.as_str()]);
            let told = issues.iter().filter(|issue| issue.severity >= Severity::Warning);
            let told: Vec<&Issue> = told.collect();
            if !told.is_empty() {
                writeln!(failures, "{} as {profile}:\n{}", path.display(), print(&told)).unwrap();
            }
        }
    }
    assert_eq!(count, 35);
    assert!(failures.is_empty(), "{failures}");
}
