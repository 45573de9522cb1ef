//! Extraction of resources from responses: cases, and the official examples of SDC.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panic")]

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::LazyLock;

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::profile::Profiles;
use lumbar_fhir::questionnaire::Form;
use lumbar_fhir::questionnaire::extract::{Extracted, Origin};
use lumbar_fhir::terminology::Library;
use lumbar_fhir::validate::{Found, Limits, Missing, World, validate, validate_in};
use lumbar_fhir::{Issue, Json, json};
use lumbar_testkit::{Case, check, fixtures, shared};

static R4: LazyLock<Definitions> = LazyLock::new(Definitions::r4);

/// An id that follows from names, in the form of a UUID.
fn identify(names: &[&str]) -> String {
    let mut hasher = DefaultHasher::new();
    names.hash(&mut hasher);
    let number = hasher.finish();
    format!("{:08x}-0000-5000-8000-{:012x}", number >> 32, number & 0xffff_ffff)
}

fn read(path: &Path) -> Json {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Json::parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Extracts, and holds each resource against R4 and the profiles.
fn extract(questionnaire: &Json, response: &Json, profiles: &[Json]) -> Extracted {
    let mut known = Profiles::default();
    for profile in profiles {
        assert!(known.add(profile).is_empty(), "{profile}");
    }
    let (terminology, resources, missing) = (Library::r4(), Found::default(), Missing::default());
    let world = World {
        definitions: &R4,
        profiles: &known,
        terminology: &terminology,
        resources: &resources,
        missing: &missing,
        now: Some("2026-03-02T10:00:00Z"),
        vital_signs: lumbar_fhir::Severity::Warning,
        limits: Limits::default(),
    };
    let (form, faults) = Form::read(&R4, questionnaire);
    assert!(!faults.iter().any(Issue::is_error), "{faults:?}");
    let id = response.str_at(&["id"]).unwrap_or("r1");
    let origin = Origin { id, identify: &identify };
    let extracted = form.extract(&world, response, origin);
    assert_eq!(form.extract(&world, response, origin).entries, extracted.entries, "not the same");
    for entry in &extracted.entries {
        let resource = entry.get("resource").unwrap();
        let issues = validate_in(&world, resource, &[]);
        let errors: Vec<Issue> = issues.into_iter().filter(Issue::is_error).collect();
        assert!(errors.is_empty(), "{}\n{errors:#?}", resource.to_pretty());
    }
    let mut bundle = json!({"resourceType": "Bundle", "type": "transaction"});
    bundle.set("entry", extracted.entries.clone());
    let errors: Vec<Issue> = match extracted.entries.is_empty() {
        true => Vec::new(),
        false => validate(&R4, &bundle).into_iter().filter(Issue::is_error).collect(),
    };
    assert!(errors.is_empty(), "{errors:#?}");
    extracted
}

/// Each case is a Questionnaire, a response and maybe profiles.
#[test]
fn resources_are_extracted_as_the_questionnaire_says() {
    let run = |case: &Case| {
        let given = read(&case.path("json"));
        let (questionnaire, response) =
            (given.get("questionnaire").unwrap(), given.get("response").unwrap());
        for resource in [questionnaire, response] {
            let errors: Vec<Issue> =
                validate(&R4, resource).into_iter().filter(Issue::is_error).collect();
            if !errors.is_empty() {
                return Err(format!("R4 itself has something against it: {errors:#?}"));
            }
        }
        let extracted = extract(questionnaire, response, given.list("profiles"));
        let issue = |issue: &Issue| {
            let at = issue.expression.as_deref().unwrap_or("-");
            let text =
                format!("{} {} {at}: {}", issue.severity.code(), issue.code.code(), issue.text);
            Json::from(text.as_str())
        };
        let issues: Vec<Json> = extracted.issues.iter().map(issue).collect();
        let mut actual = json!({"entry": (Json::Array(extracted.entries))});
        actual.set("issues", issues);
        case.expect("expected.json", &(actual.to_pretty() + "\n"))
    };
    for mechanism in ["definition", "observation", "template"] {
        check(&fixtures().join("extraction").join(mechanism), run);
    }
}

/// Answers to the examples of SDC, which ask the same by different means.
fn complex_response(questionnaire: &Json) -> Json {
    let mut response = read(&fixtures().join("extraction/sdc-complex.response.json"));
    response.set("questionnaire", questionnaire.get("url").unwrap());
    response
}

#[test]
fn the_examples_of_sdc_extract_the_same_patient() {
    let Some(shared) = shared() else { return };
    for name in ["defn3", "template", "template2"] {
        let path = format!("fhir/sdc/Questionnaire/Questionnaire-extract-complex-{name}.json");
        let questionnaire = read(&shared.join(path));
        let response = complex_response(&questionnaire);
        let extracted = extract_leniently(&questionnaire, &response);
        let resources: Vec<&Json> =
            extracted.entries.iter().map(|entry| entry.get("resource").unwrap()).collect();
        let of = |kind: &str| -> Vec<&Json> {
            let all = resources.iter().filter(|r| r.str_at(&["resourceType"]) == Some(kind));
            all.copied().collect()
        };
        let (patients, relatives, observations) =
            (of("Patient"), of("RelatedPerson"), of("Observation"));
        let counts = (patients.len(), relatives.len(), observations.len());
        // Of the definitions, the last question forgets to open an Observation.
        let opened = if name == "defn3" { 2 } else { 3 };
        assert_eq!(counts, (1, 2, opened), "{name}: {extracted:#?}");
        let patient = patients[0];
        assert_eq!(patient.list("name").len(), 2, "{name}: {patient}");
        assert_eq!(patient.str_at(&["name", "text"]), Some("Ada May Sample"), "{name}");
        assert_eq!(patient.list("name")[0].list("given").len(), 2, "{name}: {patient}");
        assert_eq!(patient.str_at(&["identifier", "value"]), Some("8003608833357361"), "{name}");
        assert_eq!(patient.str_at(&["gender"]), Some("female"), "{name}");
        let url = |kind: &str| {
            let entry = extracted
                .entries
                .iter()
                .find(|entry| entry.str_at(&["resource", "resourceType"]) == Some(kind));
            entry.unwrap().str_at(&["fullUrl"]).unwrap().to_owned()
        };
        let person = url("Patient");
        assert!(person.starts_with("urn:uuid:"), "{name}: {person}");
        for relative in &relatives {
            assert_eq!(relative.str_at(&["patient", "reference"]), Some(person.as_str()), "{name}");
        }
        let values: Vec<&Json> = observations
            .iter()
            .map(|o| o.at(&["valueQuantity", "value"]).or(o.get("valueBoolean")).unwrap())
            .collect();
        assert_eq!(values[1].as_number(), Some("63.5"), "{name}");
        let no = values.get(2).map(|value| value.as_bool());
        assert!(no.is_none_or(|no| no == Some(false)), "{name}: a no is an answer");
        let urls: std::collections::HashSet<_> =
            extracted.entries.iter().map(|e| e.str_at(&["fullUrl"]).unwrap()).collect();
        assert_eq!(urls.len(), extracted.entries.len(), "{name}: each entry has its own url");
    }
    let path = "fhir/sdc/Questionnaire/Questionnaire-extract-complex-smap.json";
    let questionnaire = read(&shared.join(path));
    let extracted = extract_leniently(&questionnaire, &complex_response(&questionnaire));
    assert_eq!(extracted.entries, [] as [Json; 0]);
    assert!(extracted.issues[0].text.contains("StructureMap"), "{extracted:?}");
}

/// The examples put the use of a telephone number where its system belongs, so what comes of them
/// is not all valid.
fn extract_leniently(questionnaire: &Json, response: &Json) -> Extracted {
    let (terminology, resources, missing, profiles) =
        (Library::r4(), Found::default(), Missing::default(), Profiles::default());
    let world = World {
        definitions: &R4,
        profiles: &profiles,
        terminology: &terminology,
        resources: &resources,
        missing: &missing,
        now: Some("2026-03-02T10:00:00Z"),
        vital_signs: lumbar_fhir::Severity::Warning,
        limits: Limits::default(),
    };
    let form = Form::read(&R4, questionnaire).0;
    let id = response.str_at(&["id"]).unwrap();
    form.extract(&world, response, Origin { id, identify: &identify })
}

/// SDC's form of the PHQ-9 tags one of the codes of its total.
#[test]
fn a_tagged_code_of_the_phq_9_of_sdc_is_an_observation() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("fhir/sdc/example");
    let name = "Questionnaire-questionnaire-sdc-profile-example-cqf-PHQ9.json";
    let questionnaire = read(&folder.join(name));
    let link_id = questionnaire
        .list("item")
        .iter()
        .find(|item| item.str_at(&["type"]) == Some("integer"))
        .and_then(|item| item.str_at(&["linkId"]))
        .unwrap_or("TotalScore");
    let response = json!({"resourceType": "QuestionnaireResponse", "id": "phq",
        "questionnaire": (questionnaire.get("url").unwrap()), "status": "completed",
        "subject": {"reference": "Patient/p1"}, "authored": "2026-03-02T09:00:00Z",
        "item": [{"linkId": (link_id), "answer": [{"valueInteger": 0}]}]});
    let extracted = extract_leniently(&questionnaire, &response);
    let entry = &extracted.entries[0];
    assert_eq!(extracted.entries.len(), 1, "{extracted:#?}");
    let codes = entry.at(&["resource", "code"]).unwrap().list("coding");
    assert_eq!(codes.len(), 1, "the code without a tag stays out: {codes:?}");
    assert_eq!(codes[0].str_at(&["code"]), Some("44261-6"));
    assert_eq!(entry.at(&["resource", "valueInteger"]).unwrap().as_i64(), Some(0));
}

/// However large the answers make it, an extraction ends.
#[test]
fn an_extraction_is_bounded() {
    let item = |n: usize| json!({"linkId": "a", "answer": [{"valueString": (format!("{n}"))}]});
    let answers: Vec<Json> = (0..1_100).map(|n| json!({"valueString": (format!("{n}"))})).collect();
    let sdc = "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-";
    let url = |name: &str| format!("{sdc}{name}");
    let questionnaire = json!({"resourceType": "Questionnaire", "status": "active",
        "url": "http://lumbar.test/q",
        "contained": [{"resourceType": "Basic", "id": "t", "code": {"coding": [
            {"extension": [{"url": (url("templateExtractContext")),
                "valueString": "%resource.item.answer.value"}],
                "_code": {"extension": [{"url": (url("templateExtractValue")),
                    "valueString": "%resource.item.answer.value"}]}}]}}],
        "extension": [{"url": (url("templateExtract")), "extension": [
            {"url": "template", "valueReference": {"reference": "#t"}}]}],
        "item": [{"linkId": "a", "type": "string", "repeats": true, "extension": [
            {"url": (url("definitionExtract")), "extension": [{"url": "definition",
                "valueCanonical": "http://hl7.org/fhir/StructureDefinition/Basic"}]}]}]});
    let mut response = json!({"resourceType": "QuestionnaireResponse", "id": "r", "status":
        "completed", "questionnaire": "http://lumbar.test/q", "item": [(item(0))]});
    response.set("item", json!([{"linkId": "a", "answer": (Json::Array(answers))}]));
    let extracted = extract_leniently(&questionnaire, &response);
    assert!(extracted.entries.len() <= lumbar_fhir::questionnaire::extract::MAX_ENTRIES);
    let is_told = extracted.issues.iter().any(|issue| issue.code.code() == "too-costly");
    assert!(is_told, "{:?}", extracted.issues);
}
