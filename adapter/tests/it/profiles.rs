//! What the product makes conforms to the profiles that come with it, and their JSON Schemas are
//! served.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lumbar::facade::validation::{Asked, Known};
use lumbar::intake::{Format, convert};
use lumbar::rules::Rules;
use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::validate::Limits;
use lumbar_fhir::{Issue, Json, json};
use lumbar_testkit::{fixtures, shared};
use tempfile::TempDir;

use crate::app::{BEGIN, TestApp, link, on_both};
use crate::program::{Program, client, database};

const BASE: &str = "https://lumbar.example/fhir/StructureDefinition";

const UK_CORE: &str = "https://fhir.hl7.org.uk/StructureDefinition/UKCore-";

/// What is held against what.
struct Bench {
    definitions: Definitions,
    known: Known,
}

impl Bench {
    /// Everything that is known from the start, and UK Core where it is there.
    fn new() -> Bench {
        let mut known = Known::of(&Rules::embedded().unwrap());
        let folders = ["codesystems", "valuesets", "structuredefinitions"];
        let uk_core = shared().map(|shared| shared.join("fhir/ukcore"));
        for folder in uk_core.iter().flat_map(|all| folders.map(|name| all.join(name))) {
            for (_, bytes) in files(&folder, "json") {
                let definition = Json::parse(&bytes).unwrap();
                match definition.str_at(&["resourceType"]) {
                    Some("StructureDefinition") => drop(known.profiles.add(&definition)),
                    _ => drop(known.terminology.add(&definition)),
                }
            }
        }
        Bench { definitions: Definitions::r4(), known }
    }

    /// The errors of a resource as an instance of a profile.
    fn faults(&self, resource: &Json, profile: &str) -> Vec<String> {
        assert!(self.known.profiles.find(profile).is_some(), "{profile} is not there");
        let (definitions, resources) = (&self.definitions, &self.known.resources);
        let profiles = [profile.to_owned()];
        let asked = Asked::of(&profiles);
        let (issues, _) =
            self.known.look(definitions, resources, resource, asked, Limits::default(), BEGIN);
        let errors = issues.iter().filter(|issue| issue.is_error());
        let told = |issue: &Issue| {
            let place = issue.expression.as_deref().unwrap_or_default();
            format!("{place}: {} ({})", issue.text, issue.rule.as_deref().unwrap_or_default())
        };
        errors.map(told).collect()
    }
}

/// The profile that a resource of ours conforms to; `None` for what none of them is about.
fn profile_of(resource: &Json) -> Option<&'static str> {
    Some(match resource.str_at(&["resourceType"])? {
        "Appointment" => "back-pain-appointment",
        "CarePlan" => "back-pain-care-plan",
        "EpisodeOfCare" => "back-pain-episode",
        "Organization" => "back-pain-organization",
        "Patient" => "back-pain-patient",
        "Practitioner" => "back-pain-practitioner",
        "Provenance" => "back-pain-provenance",
        "Questionnaire" => "back-pain-questionnaire",
        "QuestionnaireResponse" => "back-pain-response",
        "Slot" => "back-pain-slot",
        "Task" => "back-pain-task",
        "ServiceRequest" if resource.get("instantiatesCanonical").is_some() => "matched-treatment",
        "ServiceRequest" => "back-pain-referral",
        "Observation" if resource.get("method").is_none() => return None,
        "Observation" if resource.get("valueCodeableConcept").is_some() => "risk-group",
        "Observation" => "outcome-score",
        _ => return None,
    })
}

/// Looks at all of them: each names the profile that it is about, but for those that are `short` of
/// what it asks for, and is valid by it and by the profile of UK Core. Every profile of `named` is
/// named by one.
fn conform(resources: &[Json], named: &[&str], short: &[&str]) {
    let bench = Bench::new();
    let (mut found, mut incomplete) = (BTreeSet::new(), BTreeSet::new());
    let mut failures = Vec::new();
    let mut fail = |resource: &Json, profile: &str, faults: &[String]| {
        failures.push(format!("{profile}: {resource}\n  {}", faults.join("\n  ")));
    };
    for resource in resources {
        let of = resource.str_at(&["resourceType"]).unwrap();
        let uk_core = format!("{UK_CORE}{of}");
        if bench.known.profiles.find(&uk_core).is_some() {
            let faults = bench.faults(resource, &uk_core);
            if !faults.is_empty() {
                fail(resource, &uk_core, &faults);
            }
        }
        let Some(profile) = profile_of(resource) else { continue };
        let url = format!("{BASE}/{profile}");
        let claims = resource.get("meta").map_or(&[][..], |meta| meta.list("profile"));
        let is_claimed = claims.iter().any(|claim| claim.as_str() == Some(&url));
        let faults = bench.faults(resource, &url);
        match (is_claimed, faults.is_empty()) {
            (true, true) => drop(found.insert(profile)),
            (false, true) => fail(resource, profile, &["it conforms and does not say so".into()]),
            (false, false) if short.contains(&profile) => drop(incomplete.insert(profile)),
            (_, false) => fail(resource, profile, &faults),
        }
    }
    assert!(failures.is_empty(), "{} do not conform:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(found, named.iter().copied().collect());
    assert!(incomplete.iter().eq(short), "only {incomplete:?} are short of something");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_demonstration_makes_conforms() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    let mut program = Program::serve(&database(&folder), &["--demo"], "info", &log);
    while !program.line().starts_with("Look at ") {}
    let mut all: Vec<Json> = Vec::new();
    for of in Definitions::r4().resource_types() {
        let mut next = Some(format!("{}/fhir/{of}?_count=500", program.root));
        while let Some(url) = next {
            let page = client().get(url).send().await.unwrap().bytes().await.unwrap();
            let page = Json::parse(&page).unwrap();
            all.extend(resources(&page));
            next = link(&page, "next");
        }
    }
    let named = [
        "back-pain-appointment",
        "back-pain-episode",
        "back-pain-organization",
        "back-pain-patient",
        "back-pain-practitioner",
        "back-pain-provenance",
        "back-pain-questionnaire",
        "back-pain-referral",
        "back-pain-response",
        "back-pain-slot",
        "back-pain-task",
        "matched-treatment",
        "outcome-score",
        "risk-group",
    ];
    conform(&all, &named, &[]);
    program.terminate();
    assert_eq!(program.end().code(), Some(0));
}

/// Files of a folder with their names.
fn files(folder: &Path, extension: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn resources(bundle: &Json) -> impl Iterator<Item = Json> {
    bundle.list("entry").iter().filter_map(|entry| entry.get("resource").cloned())
}

/// What is converted of all folders, each by itself.
fn converted(from: Format, extension: &str, folders: &[PathBuf]) -> Vec<Json> {
    let mut all = Vec::new();
    for folder in folders {
        let converted = convert(from, Format::Fhir, "test".to_owned(), files(folder, extension));
        all.extend(resources(&Json::parse(converted.unwrap().output.as_bytes()).unwrap()));
    }
    all
}

/// Folders of samples, where they are there.
fn samples(folder: &str, names: &[&str]) -> Vec<PathBuf> {
    let samples = shared().map(|shared| shared.join("formats/samples").join(folder));
    samples.iter().flat_map(|samples| names.iter().map(|name| samples.join(name))).collect()
}

/// Rows that were cut off or have unknown values lack a sex, a date of birth or of registration.
#[test]
fn what_is_converted_of_emis_conforms() {
    let mut folders = vec![fixtures().join("demo/emis")];
    let cases = ["quirks", "rebooking", "truncated", "unknown-header"];
    folders.extend(cases.map(|case| fixtures().join("translate/emis").join(case)));
    folders.extend(samples("synthetic-emis", &["bulk-v5.4", "bulk-v8.2", "delta-v8.2", "bad"]));
    let named = [
        "back-pain-appointment",
        "back-pain-episode",
        "back-pain-organization",
        "back-pain-patient",
        "back-pain-practitioner",
        "back-pain-provenance",
        "back-pain-referral",
        "back-pain-slot",
    ];
    let short = ["back-pain-episode", "back-pain-patient"];
    conform(&converted(Format::Emis, "csv", &folders), &named, &short);
}

/// A message may leave out gender and date of birth, and a form of another system names no version
/// of its questionnaire.
#[test]
fn what_is_converted_of_hl7_v2_conforms() {
    let mut folders = vec![fixtures().join("translate/hl7v2/map")];
    folders.extend(samples("synthetic-hl7v2", &["", "bad"]));
    let named = [
        "back-pain-organization",
        "back-pain-patient",
        "back-pain-practitioner",
        "back-pain-provenance",
        "back-pain-referral",
        "back-pain-task",
    ];
    let short = ["back-pain-patient", "back-pain-response"];
    conform(&converted(Format::Hl7v2, "hl7", &folders), &named, &short);
}

/// The list has no column for a person's gender, and may leave out the name of a clinician. An
/// appointment without an end, which it may leave out, too, is none by R4 itself.
#[test]
fn what_is_converted_of_a_list_conforms() {
    let mut folders = vec![fixtures().join("translate/csv")];
    folders.extend(samples("synthetic-booking", &["csv-lists"]));
    let named = ["back-pain-appointment", "back-pain-practitioner"];
    let mut resources = converted(Format::Csv, "csv", &folders);
    resources.retain(|resource| resource.get("start").is_none() || resource.get("end").is_some());
    conform(&resources, &named, &["back-pain-patient", "back-pain-practitioner"]);
}

#[tokio::test]
async fn the_json_schema_of_a_profile_is_served() {
    on_both(async |app: &TestApp| {
        app.app.serve_artefacts().await.unwrap();
        let own = "StructureDefinition/outcome-score/$json-schema";
        let by_url = |url: &str| format!("StructureDefinition/$json-schema?url={url}");
        for path in [own.to_owned(), by_url(&format!("{BASE}/outcome-score|1.0.0"))] {
            let reply = app.get(&path).await.is(200);
            assert_eq!(reply.header("content-type"), Some("application/schema+json"), "{path}");
            let schema = reply.json();
            let dialect = "https://json-schema.org/draft/2020-12/schema";
            assert_eq!(schema.str_at(&["$schema"]), Some(dialect), "{path}");
        }
        let accept = [("accept", "application/schema+json")];
        app.call("GET", &format!("/fhir/{own}"), &accept, "").await.is(200);
        let accept = [("accept", "application/fhir+json")];
        let binary = app.call("GET", &format!("/fhir/{own}"), &accept, "").await.is(200).json();
        assert_eq!(binary.str_at(&["contentType"]), Some("application/schema+json"));

        // One that a client stored, made of one of ours, and one of R4's own types.
        let profile = json!({
            "resourceType": "StructureDefinition", "id": "mine",
            "url": "http://example.org/fhir/StructureDefinition/mine",
            "name": "Mine", "status": "draft", "kind": "resource", "abstract": false,
            "type": "Patient", "derivation": "constraint",
            "baseDefinition": (format!("{BASE}/back-pain-patient")),
            "differential": {"element": [
                {"id": "Patient.photo", "path": "Patient.photo", "max": "0"}
            ]}
        });
        app.call("PUT", "/fhir/StructureDefinition/mine", &[], profile.to_string()).await.is(201);
        let schema = app.get("StructureDefinition/mine/$json-schema").await.is(200).text;
        assert!(schema.contains("\"photo\":false"), "{schema}");
        assert!(schema.contains("https://fhir.nhs.uk/Id/nhs-number"), "{schema}");
        let core = by_url("http://hl7.org/fhir/StructureDefinition/Slot");
        assert!(app.get(&core).await.is(200).text.contains("busy-tentative"));

        app.get("StructureDefinition/none/$json-schema").await.is(404);
        app.get(&by_url("http://example.org/none")).await.is(404);
        app.get("StructureDefinition/$json-schema").await.is(400);
        app.get("Patient/p1/$json-schema").await.is(404);
    })
    .await;
}

#[test]
fn json_that_is_no_fhir_has_a_schema() {
    use lumbar::schema;
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut failures = Vec::new();
    for document in lumbar::rules::documents() {
        let faults = schema::faults(document.schema, document.text);
        failures.extend(faults.iter().map(|fault| format!("{}: {fault}", document.path)));
    }
    let mut folders: Vec<_> = std::fs::read_dir(fixtures().join("schema"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let mut files: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let (mut good, mut bad) = (0, 0);
        let mut found = String::from("file\tfault\n");
        for path in files.iter().filter(|path| path.extension().is_some_and(|e| e == "json")) {
            let file = path.file_stem().unwrap().to_string_lossy().into_owned();
            let faults = schema::faults(&name, &std::fs::read_to_string(path).unwrap());
            let is_bad = file.starts_with("bad-");
            *(if is_bad { &mut bad } else { &mut good }) += 1;
            if faults.len() != usize::from(is_bad) {
                failures.push(format!("{name}/{file}: {faults:#?}"));
            }
            found.extend(faults.iter().map(|fault| format!("{file}\t{fault}\n")));
        }
        assert!(good >= 3 && bad >= 5, "{name}: {good} good and {bad} bad examples");
        let path = folder.join("expected.tsv");
        if update {
            std::fs::write(&path, &found).unwrap();
        }
        if std::fs::read_to_string(&path).unwrap_or_default() != found {
            failures.push(format!("{} is not:\n{found}", path.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Every key of the configuration is in its schema, and nothing else.
#[test]
fn the_configuration_schema_has_every_option() {
    use clap::Args as _;
    let command = lumbar::config::Options::augment_args(clap::Command::new("serve"));
    let mut options: Vec<String> = command
        .get_arguments()
        .filter_map(|argument| argument.get_long().map(str::to_owned))
        .collect();
    let schema = lumbar::rules::schema("configuration").unwrap();
    let schema = Json::parse(schema.as_bytes()).unwrap();
    let members = schema.get("properties").and_then(Json::as_object).unwrap().iter();
    let mut keys: Vec<String> = members.map(|(name, _)| name.to_owned()).collect();
    options.sort();
    keys.sort();
    assert_eq!(keys, options);
}
