//! Responses against their Questionnaires: cases and official examples.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panic")]

mod generated;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::profile::Profiles;
use lumbar_fhir::questionnaire::{self, Form};
use lumbar_fhir::terminology::{Canonical, Library, ValueSet};
use lumbar_fhir::validate::{Found, Limits, Missing, Need, World, validate};
use lumbar_fhir::{Issue, Json, Severity, json};
use lumbar_testkit::{Case, check, fixtures, root, shared};

static R4: LazyLock<Definitions> = LazyLock::new(Definitions::r4);
static PROFILES: LazyLock<Profiles> = LazyLock::new(Profiles::default);

/// What the check of one response draws on.
#[derive(Default)]
struct Given {
    terminology: Library,
    resources: Found,
    missing: Missing,
}

impl Given {
    fn world(&self) -> World<'_> {
        World {
            definitions: &R4,
            profiles: &PROFILES,
            terminology: &self.terminology,
            resources: &self.resources,
            missing: &self.missing,
            now: None,
            vital_signs: Severity::Error,
            limits: Limits::default(),
        }
    }

    fn check(&self, form: &Form, response: &Json) -> Vec<Issue> {
        form.check(&self.world(), response, &[])
    }
}

fn read(path: &Path) -> Json {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Json::parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn print(issues: &[Issue]) -> String {
    let line = |issue: &Issue| {
        let at = issue.expression.as_deref().unwrap_or("-");
        let rule = issue.rule.as_deref().unwrap_or("-");
        let (severity, code) = (issue.severity.code(), issue.code.code());
        format!("{severity} {code} {at} {rule}: {}\n", issue.text)
    };
    issues.iter().map(line).collect()
}

fn form(questionnaire: &Json) -> Form {
    Form::read(&R4, questionnaire).0
}

/// Each folder is a Questionnaire (`questionnaire.json`, and what is wrong with it in
/// `questionnaire.issues`), the value sets that it needs (`valueset-*.json`), responses that are
/// right (`ok-*.json`) or draw warnings (`doubtful-*.json`), and wrong ones (`bad-*.json`).
#[test]
fn responses_have_the_expected_issues() {
    check(&fixtures().join("validator/response"), |case: &Case| {
        let path = case.path("json");
        let folder = path.parent().unwrap();
        let mut given = Given::default();
        for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("valueset-") {
                let json = read(&file);
                let canonical = Canonical::parse(json.str_at(&["url"]).unwrap());
                let set = ValueSet::read(&json).map_err(|issue| issue.text)?;
                given.terminology.put_value_set(canonical, Some(Arc::new(set)));
            }
        }
        let json = read(&path);
        let base = validate(&R4, &json);
        if case.name() != "questionnaire" && !base.is_empty() {
            return Err(format!("R4 itself has something against it\n{}", print(&base)));
        }
        let (form, faults) = Form::read(&R4, &read(&folder.join("questionnaire.json")));
        let name = case.name();
        let issues = match name.as_str() {
            "questionnaire" => faults,
            other if other.starts_with("valueset-") => return Ok(()),
            _ => given.check(&form, &json),
        };
        let is_wrong = issues.iter().any(Issue::is_error);
        match name.split('-').next().unwrap() {
            "ok" if !issues.is_empty() => Err(print(&issues)),
            "ok" => Ok(()),
            "questionnaire" if issues.is_empty() => Ok(()),
            "bad" if !is_wrong => Err(format!("is accepted\n{}", print(&issues))),
            "doubtful" if is_wrong => Err(print(&issues)),
            _ => case.expect("issues", &print(&issues)),
        }
    });
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => found.push(path),
            }
        }
    }
    found.sort();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    found
}

#[test]
fn official_questionnaires_are_sound() {
    let Some(shared) = shared() else { return };
    let mut count = 0;
    let mut complaints = BTreeMap::new();
    for path in files(&shared.join("fhir")) {
        let Ok(json) = Json::parse(&fs::read(&path).unwrap()) else { continue };
        if json.str_at(&["resourceType"]) != Some("Questionnaire") {
            continue;
        }
        count += 1;
        let (_, issues) = Form::read(&R4, &json);
        if path.ends_with("Questionnaire-questionnaire-sdc-test-initialvalue-multiple.json") {
            // An initial Coding of a question of type text: a bug of the example.
            assert!(issues.iter().any(Issue::is_error));
            continue;
        }
        let errors: Vec<Issue> = issues.into_iter().filter(Issue::is_error).collect();
        if !errors.is_empty() {
            complaints.insert(path, print(&errors));
        }
    }
    assert!(count > 5, "only {count} Questionnaires");
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// The instruments themselves, and each answer that they offer.
#[test]
fn our_own_instruments_are_sound_and_their_options_are_answers() {
    let mut count = 0;
    for path in files(&root().join("profiles/instruments")) {
        let json = read(&path);
        if json.str_at(&["resourceType"]) != Some("Questionnaire") {
            continue;
        }
        count += 1;
        let (form, issues) = Form::read(&R4, &json);
        assert!(issues.is_empty(), "{}\n{}", path.display(), print(&issues));
        for which in 0..2 {
            let response = answered(&json, which);
            let issues = Given::default().check(&form, &response);
            assert!(issues.is_empty(), "{}\n{}", path.display(), print(&issues));
        }
        let mut empty = answered(&json, 0);
        empty.as_object_mut().unwrap().remove("item");
        empty.set("status", "in-progress");
        assert!(Given::default().check(&form, &empty).is_empty(), "{}", path.display());
    }
    assert!(count > 0);
}

/// A response that gives the option `which` of each question, counted from the last; questions that
/// are asked after certain answers only are left out.
fn answered(questionnaire: &Json, which: usize) -> Json {
    let answer = |item: &Json| {
        let options = item.list("answerOption");
        if !item.list("enableWhen").is_empty() {
            return None;
        }
        let option = options.get(options.len().checked_sub(1 + which)?)?;
        let value = option.get("valueCoding")?;
        let link_id = item.str_at(&["linkId"])?;
        Some(json!({"linkId": (link_id), "answer": [{"valueCoding": (value)}]}))
    };
    let items: Vec<Json> = questionnaire.list("item").iter().filter_map(answer).collect();
    let url = questionnaire.str_at(&["url"]).unwrap();
    json!({"resourceType": "QuestionnaireResponse", "questionnaire": (url), "status": "completed",
        "item": (items)})
}

#[test]
fn the_questionnaire_is_found_or_missed() {
    let questionnaire = json!({"resourceType": "Questionnaire", "id": "q", "url": "http://x.org/q",
        "version": "2", "status": "active",
        "item": [{"linkId": "a", "type": "boolean", "required": true}]});
    let response = |canonical: &str| {
        json!({"resourceType": "QuestionnaireResponse", "questionnaire": (canonical),
            "status": "completed", "contained": [(questionnaire.clone())]})
    };
    let mut given = Given::default();
    given.resources.put("http://x.org/q", Some(Arc::new(questionnaire.clone())));
    given.resources.put_form("http://x.org/q|2", Arc::new(form(&questionnaire)));
    given.resources.put("http://x.org/p", Some(Arc::new(json!({"resourceType": "Patient"}))));
    given.resources.put("http://x.org/none", None);
    for (canonical, expected) in [
        ("http://x.org/q", "required"),
        ("http://x.org/q|2", "required"),
        ("#q", "required"),
        ("#other", "not-found"),
        ("http://x.org/p", "invalid"),
        ("http://x.org/none", "not-found"),
        ("http://x.org/q|1", "not-found"),
        ("http://hl7.org/fhir/ValueSet/example", "invalid"),
    ] {
        let issues = questionnaire::check(&given.world(), &response(canonical), None);
        let codes: Vec<&str> = issues.iter().map(|issue| issue.code.code()).collect();
        assert_eq!(codes, [expected], "{canonical}");
    }
    assert_eq!(given.missing.take(), [Need::Questionnaire("http://x.org/q|1".to_owned())]);
}

#[test]
fn what_a_value_set_needs_is_told() {
    let questionnaire = json!({"resourceType": "Questionnaire", "status": "active",
        "item": [{"linkId": "a", "type": "choice", "answerValueSet": "http://x.org/vs|1"}]});
    let response = json!({"resourceType": "QuestionnaireResponse", "status": "completed",
        "item": [{"linkId": "a", "answer": [{"valueCoding": {"system": "s", "code": "c"}}]}]});
    let given = Given::default();
    let issues = given.check(&form(&questionnaire), &response);
    assert_eq!(issues.len(), 1, "{}", print(&issues));
    assert!(!issues.iter().any(Issue::is_error));
    assert_eq!(given.missing.take().len(), 1);
}

#[test]
fn hostile_forms_and_responses_are_bounded() {
    // Every item depends on all others by way of the next one.
    let number = 3_000;
    let items: Vec<Json> = (0..number)
        .map(|index| {
            let next = format!("i{}", (index + 1) % number);
            json!({"linkId": (format!("i{index}")), "type": "string", "required": true,
                "enableWhen": [{"question": (next), "operator": "exists", "answerBoolean": true}]})
        })
        .collect();
    let questionnaire =
        json!({"resourceType": "Questionnaire", "status": "active", "item": (items)});
    let answers: Vec<Json> = (0..number)
        .rev()
        .map(|index| json!({"linkId": (format!("i{index}")), "answer": [{"valueString": "x"}]}))
        .collect();
    let response = json!({"resourceType": "QuestionnaireResponse", "status": "completed",
        "item": (answers)});
    let issues = Given::default().check(&form(&questionnaire), &response);
    assert!(issues.iter().any(Issue::is_error));
    assert!(issues.len() <= Limits::default().issues + 1);

    let mut deep = json!({"linkId": "x", "type": "group"});
    let mut answer = json!({"linkId": "x"});
    for _ in 0..200 {
        deep = json!({"linkId": "x", "type": "group", "item": [(deep)]});
        answer = json!({"linkId": "x", "item": [(answer)]});
    }
    let deep = json!({"resourceType": "Questionnaire", "status": "active", "item": [(deep)]});
    let (form, issues) = Form::read(&R4, &deep);
    assert!(issues.iter().any(|issue| issue.code.code() == "too-costly"));
    let response = json!({"resourceType": "QuestionnaireResponse", "status": "completed",
        "item": [(answer)]});
    assert!(Given::default().check(&form, &response).iter().any(Issue::is_error));
}
