//! What the product makes conforms to the profiles that come with it, and their JSON Schemas are
//! served.

use std::collections::BTreeMap;
use std::path::Path;

use lumbar::facade::validation::Known;
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

/// Everything that is known from the start.
struct Bench {
    definitions: Definitions,
    known: Known,
}

impl Bench {
    fn new() -> Bench {
        let rules = Rules::embedded().unwrap();
        Bench { definitions: Definitions::r4(), known: Known::of(&rules) }
    }

    /// The errors of a resource as an instance of its profile.
    fn faults(&self, resource: &Json, profile: &str) -> Vec<String> {
        let profile = format!("{BASE}/{profile}");
        assert!(self.known.profiles.find(&profile).is_some(), "{profile} is not there");
        let (definitions, resources) = (&self.definitions, &self.known.resources);
        let (issues, _) =
            self.known.look(definitions, resources, resource, &[profile], Limits::default(), BEGIN);
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

/// Looks at all of them; lists those that do not conform, and returns how many of each profile do.
fn conform<'a>(resources: impl Iterator<Item = &'a Json>) -> BTreeMap<&'static str, usize> {
    let bench = Bench::new();
    let mut counts = BTreeMap::new();
    let mut failures = Vec::new();
    for resource in resources {
        let Some(profile) = profile_of(resource) else { continue };
        let faults = bench.faults(resource, profile);
        match faults.is_empty() {
            true => *counts.entry(profile).or_insert(0) += 1,
            false => failures.push(format!("{profile}: {resource}\n  {}", faults.join("\n  "))),
        }
    }
    assert!(failures.is_empty(), "{} do not conform:\n{}", failures.len(), failures.join("\n"));
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_demonstration_makes_conforms() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    let mut program = Program::serve(&database(&folder), &["--demo"], "info", &log);
    while !program.line().starts_with("Look at ") {}
    let mut all: Vec<Json> = Vec::new();
    for of in [
        "Appointment",
        "EpisodeOfCare",
        "Observation",
        "Organization",
        "Patient",
        "Practitioner",
        "Provenance",
        "Questionnaire",
        "QuestionnaireResponse",
        "ServiceRequest",
        "Slot",
        "Task",
    ] {
        let mut next = Some(format!("{}/fhir/{of}?_count=500", program.root));
        while let Some(url) = next {
            let page = client().get(url).send().await.unwrap().bytes().await.unwrap();
            let page = Json::parse(&page).unwrap();
            all.extend(
                page.list("entry").iter().filter_map(|entry| entry.get("resource").cloned()),
            );
            next = link(&page, "next");
        }
    }
    let counts = conform(all.iter());
    for profile in ["matched-treatment", "outcome-score", "risk-group"] {
        let claims = |resource: &&Json| {
            let named = resource.get("meta").map_or(&[][..], |meta| meta.list("profile"));
            named.iter().any(|url| url.as_str() == Some(&format!("{BASE}/{profile}")))
        };
        let claimed = all.iter().filter(claims).count();
        assert!(claimed > 0, "no {profile} says that it is one");
        assert_eq!(Some(&claimed), counts.get(profile), "{profile}");
    }
    for profile in ["back-pain-patient", "back-pain-referral", "back-pain-task"] {
        assert!(counts.contains_key(profile), "no {profile} in {counts:?}");
    }
    program.terminate();
    assert_eq!(program.end().code(), Some(0));
}

fn extract(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "csv"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[test]
fn what_is_converted_of_emis_conforms() {
    let mut folders = vec![fixtures().join("demo/emis")];
    if let Some(shared) = shared() {
        let samples = shared.join("formats/samples/synthetic-emis");
        folders.extend(["bulk-v5.4", "bulk-v8.2"].map(|name| samples.join(name)));
    }
    let mut resources = Vec::new();
    for folder in folders {
        let converted = convert(Format::Emis, Format::Fhir, "test".to_owned(), extract(&folder));
        let bundle = Json::parse(converted.unwrap().output.as_bytes()).unwrap();
        let entries = bundle.list("entry").iter();
        resources.extend(entries.filter_map(|entry| entry.get("resource").cloned()));
    }
    let counts = conform(resources.iter());
    for profile in ["back-pain-organization", "back-pain-patient", "back-pain-practitioner"] {
        assert!(counts.contains_key(profile), "no {profile} in {counts:?}");
    }
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
