//! What the fuzz targets do with some bytes. The fuzzer calls it (`fuzz.sh`), and so does the test
//! `fuzz` with each file of `fixtures/fuzz/`. A target fails by panicking, by taking seconds or by
//! taking memory without end; what is wrong with the input is of no interest.

use std::sync::{Arc, LazyLock};

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::format::position::{self, Syntax};
use lumbar_fhir::format::xml;
use lumbar_fhir::path::{Context, Expression, Tally, Value};
use lumbar_fhir::profile::Profiles;
use lumbar_fhir::questionnaire::Form;
use lumbar_fhir::snapshot;
use lumbar_fhir::terminology::Library;
use lumbar_fhir::validate::{Found, Limits, Missing, World, validate, validate_in};
use lumbar_fhir::{Issue, Json, Severity};

static R4: LazyLock<Definitions> = LazyLock::new(Definitions::r4);
static PROFILES: LazyLock<Profiles> = LazyLock::new(Profiles::r4);
static TERMINOLOGY: LazyLock<Library> = LazyLock::new(Library::r4);

/// The moment of every run, so that a finding can be found again.
const NOW: &str = "2026-03-02T10:42:00Z";

/// What evaluations look at.
const PATIENT: &str = r#"{"resourceType":"Patient","id":"p1","active":true,
    "name":[{"use":"official","family":"Green","given":["Ann","B"],"_given":[null,{"id":"g"}]}],
    "birthDate":"1970-03","_birthDate":{"extension":[{"url":"http://x.test/t","valueQuantity":
    {"value":1.50,"unit":"h","system":"http://unitsofmeasure.org","code":"h"}}]},
    "contained":[{"resourceType":"Observation","id":"o","status":"final","valueInteger":7,
    "effectiveDateTime":"2024-02-29T23:59:60+14:00","code":{"text":"x"}}],
    "managingOrganization":{"reference":"Organization/o1"}}"#;

/// What is asked.
const FORM: &str = r##"{"resourceType":"Questionnaire","status":"active","url":"http://x.test/q",
    "contained":[{"resourceType":"ValueSet","id":"v","status":"active","compose":{"include":
    [{"system":"http://x.test/s","concept":[{"code":"a"},{"code":"b"}]}]}}],
    "extension":[{"url":"http://hl7.org/fhir/StructureDefinition/variable","valueExpression":
    {"name":"n","language":"text/fhirpath","expression":"%resource.item.answer.value.ofType(integer).sum()"}}],
    "item":[
    {"linkId":"1","type":"integer","required":true,"extension":[
    {"url":"http://hl7.org/fhir/StructureDefinition/minValue","valueInteger":0},
    {"url":"http://hl7.org/fhir/StructureDefinition/maxValue","valueInteger":10}]},
    {"linkId":"2","type":"group","repeats":true,"enableBehavior":"any",
    "enableWhen":[{"question":"1","operator":">","answerInteger":3}],"item":[
    {"linkId":"2.1","type":"choice","answerValueSet":"#v","repeats":true},
    {"linkId":"2.2","type":"string","maxLength":5,"extension":[
    {"url":"http://hl7.org/fhir/StructureDefinition/regex","valueString":"[a-z]+"}]},
    {"linkId":"2.3","type":"decimal"},{"linkId":"2.4","type":"quantity"},
    {"linkId":"2.5","type":"dateTime"},{"linkId":"2.6","type":"attachment"},
    {"linkId":"2.7","type":"reference"},{"linkId":"2.8","type":"display"}]},
    {"linkId":"3","type":"open-choice","answerOption":[{"valueString":"x"},{"valueInteger":2}],
    "item":[{"linkId":"3.1","type":"boolean","enableWhen":[
    {"question":"3","operator":"exists","answerBoolean":true}]}]}]}"##;

static LOOKED_AT: LazyLock<Json> = LazyLock::new(|| read(PATIENT));
static ASKED: LazyLock<Found> = LazyLock::new(|| {
    let mut found = Found::default();
    let form = read(FORM);
    found.put_form("http://x.test/q", Arc::new(Form::read(&R4, &form).0));
    found
});

fn read(text: &str) -> Json {
    Json::parse(text.as_bytes()).unwrap_or(Json::Null)
}

/// Takes any bytes.
type Target = fn(&[u8]);

/// The targets by name.
pub const TARGETS: [(&str, Target); 6] = [
    ("fhirpath", fhirpath),
    ("json", json),
    ("profile", profile),
    ("questionnaire", questionnaire),
    ("resource", resource),
    ("xml", xml),
];

/// JSON: what is read is written and read again as the same.
pub fn json(data: &[u8]) {
    match Json::parse(data) {
        Ok(json) => {
            assert_eq!(Json::parse(json.to_string().as_bytes()).as_ref(), Ok(&json));
            assert_eq!(Json::parse(json.to_pretty().as_bytes()).as_ref(), Ok(&json));
        }
        Err(error) => {
            let line = data.split(|byte| *byte == b'\n').nth(error.line - 1);
            assert!(line.is_some_and(|line| error.column <= line.len() + 1), "{error}");
        }
    }
}

/// XML: what is read is written and read again as the same, and can be validated.
pub fn xml(data: &[u8]) {
    let Ok(json) = xml::parse(&R4, data) else { return };
    if let Ok(written) = xml::write(&R4, &json) {
        let again = xml::parse(&R4, written.as_bytes());
        assert_eq!(again.as_ref().ok(), Some(&json), "{written}\n{again:?}");
    }
    let mut issues = validate(&R4, &json);
    position::locate(Syntax::Xml, data, "", &mut issues);
}

/// FHIRPath: read, checked and evaluated.
pub fn fhirpath(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(expression) = Expression::parse(text) else { return };
    let _ = expression.check(&R4, Some("Patient"));
    let focus = Value::node(&LOOKED_AT);
    let context = Context { resource: Some(focus.clone()), now: Some(NOW), ..Context::new(&R4) };
    let tally = Tally::new(200_000);
    let _ = expression.evaluate_within(&tally, &context, &[focus]);
}

/// A resource of any kind, with R4's profiles and a Questionnaire at hand.
pub fn resource(data: &[u8]) {
    let Ok(json) = Json::parse(data) else { return };
    let mut issues = validate(&R4, &json);
    position::locate(Syntax::Json, data, "", &mut issues);
    looked_at(&PROFILES, &TERMINOLOGY, &ASKED, &json, &[], Limits::default());
    if let Ok(written) = xml::write(&R4, &json) {
        let _ = xml::parse(&R4, written.as_bytes());
    }
}

/// A list of artefacts and, last, a resource that is held against all of these.
pub fn profile(data: &[u8]) {
    held(data, Limits::default());
}

/// What the artefacts of [`profile`] have against its resource.
pub fn held(data: &[u8], limits: Limits) -> Option<Vec<Issue>> {
    let json = Json::parse(data).ok()?;
    let (resource, artefacts) = json.as_array()?.split_last()?;
    let mut profiles = PROFILES.clone();
    let mut terminology = TERMINOLOGY.clone();
    for artefact in artefacts {
        match artefact.str_at(&["resourceType"]) {
            Some("StructureDefinition") => drop(profiles.add(artefact)),
            _ => drop(terminology.add(artefact)),
        }
    }
    let urls: Vec<&str> = artefacts.iter().filter_map(|json| json.str_at(&["url"])).collect();
    for artefact in artefacts {
        let base_of = |canonical: &str| {
            let known = profiles.find(canonical)?;
            match known.definition()? {
                given if given.get("snapshot").is_some() => Some(given.clone()),
                _ if urls.contains(&known.url.as_str()) => None,
                _ => known.snapshot(&profiles, &R4),
            }
        };
        let _ = snapshot::generate(artefact, &base_of);
    }
    for known in urls.iter().filter_map(|url| profiles.find(url)) {
        known.issues(&profiles, &R4);
    }
    Some(looked_at(&profiles, &terminology, &Found::default(), resource, &urls, limits))
}

/// A Questionnaire and a response to it.
pub fn questionnaire(data: &[u8]) {
    let Ok(json) = Json::parse(data) else { return };
    let Some([questionnaire, response]) = json.as_array() else { return };
    let (form, _) = Form::read(&R4, questionnaire);
    let mut found = Found::default();
    let canonical = response.str_at(&["questionnaire"]).unwrap_or_default();
    found.put_form(canonical, Arc::new(form));
    looked_at(&PROFILES, &TERMINOLOGY, &found, response, &[], Limits::default());
}

fn looked_at(
    profiles: &Profiles,
    terminology: &Library,
    resources: &Found,
    resource: &Json,
    given: &[&str],
    limits: Limits,
) -> Vec<Issue> {
    let missing = Missing::default();
    let world = World {
        definitions: &R4,
        profiles,
        terminology,
        resources,
        missing: &missing,
        now: Some(NOW),
        vital_signs: Severity::Error,
        limits,
    };
    let issues = validate_in(&world, resource, given);
    assert!(issues.len() <= limits.issues + 1, "{} issues", issues.len());
    issues
}
