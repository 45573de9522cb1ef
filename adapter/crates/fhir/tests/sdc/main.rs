//! SDC's operations on forms as functions: cases, the guide's own examples, and any form.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panic")]

mod any_form;
mod guide;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::profile::Profiles;
use lumbar_fhir::questionnaire::{
    Assembled, Form, Parts, Populated, Population, Searches, Sources, Wanted, assemble,
    next_question, populate,
};
use lumbar_fhir::terminology::Library;
use lumbar_fhir::validate::{Found, Limits, Missing, World};
use lumbar_fhir::{Issue, Json, Severity};
use lumbar_testkit::{Case, check, fixtures};

static R4: LazyLock<Definitions> = LazyLock::new(Definitions::r4);
static PROFILES: LazyLock<Profiles> = LazyLock::new(Profiles::default);

/// What there is besides the form.
struct Given {
    terminology: Library,
    resources: Found,
    missing: Missing,
    now: String,
}

impl Given {
    fn new(now: &str) -> Given {
        Given {
            terminology: Library::r4(),
            resources: Found::default(),
            missing: Missing::default(),
            now: now.to_owned(),
        }
    }

    fn world(&self) -> World<'_> {
        World {
            definitions: &R4,
            profiles: &PROFILES,
            terminology: &self.terminology,
            resources: &self.resources,
            missing: &self.missing,
            now: Some(&self.now),
            vital_signs: Severity::Error,
            limits: Limits::default(),
        }
    }
}

const NOW: &str = "2026-03-02T10:00:00.000Z";

fn read(path: &Path) -> Json {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Json::parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn members(json: Option<&Json>) -> Vec<(String, Json)> {
    let members = json.and_then(Json::as_object).into_iter().flat_map(|object| object.iter());
    members.map(|(name, value)| (name.to_owned(), value.clone())).collect()
}

/// A line for each answer of a response: the linkIds on the way, and the value.
fn answers(element: &Json, way: &str, out: &mut String) {
    for item in element.list("item") {
        let way = format!("{way}/{}", item.str_at(&["linkId"]).unwrap());
        if item.get("answer").is_none() && item.get("item").is_none() {
            writeln!(out, "{way} (empty)").unwrap();
        }
        for answer in item.list("answer") {
            let member = answer.as_object().unwrap().iter().next();
            let (name, value) = member.unwrap();
            writeln!(out, "{way} {name} {value}").unwrap();
            answers(answer, &way, out);
        }
        answers(item, &way, out);
    }
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

/// Populates a form from what a case gives.
fn populated(json: &Json) -> (Form, Populated) {
    let given = Given::new(json.str_at(&["now"]).unwrap_or(NOW));
    let form = Form::read(&R4, json.get("questionnaire").unwrap()).0;
    let population = Population::read(Arc::new(form.clone()));
    let context: Vec<(String, Vec<Arc<Json>>)> = members(json.get("context"))
        .into_iter()
        .map(|(name, all)| (name, all.as_array().unwrap().iter().cloned().map(Arc::new).collect()))
        .collect();
    let mut searches = Searches::default();
    for (search, found) in members(json.get("searches")) {
        match found {
            Json::Null => {}
            Json::String(reason) => searches.put(search, Err(reason.to_string())),
            found => searches.put(search, Ok(Arc::new(found))),
        }
    }
    let is_local = json.get("searches").is_none_or(|searches| *searches != Json::Null);
    let sources = Sources {
        subject: json.get("subject"),
        context: &context,
        data: json.list("data"),
        searches: is_local.then_some(&searches),
    };
    let populated = populate(&population, &given.world(), &sources);
    (form, populated)
}

/// Each case is a form and what is known (`<case>.json`); `<case>.out` has the answers, the issues
/// and the searches that are wanted.
#[test]
fn forms_are_populated() {
    check(&fixtures().join("questionnaire/populate"), |case: &Case| {
        let (form, populated) = populated(&read(&case.path("json")));
        let mut out = String::new();
        if populated.has_failed {
            out.push_str("failed\n");
        }
        answers(&populated.response, "", &mut out);
        out.push_str(&print(&populated.issues));
        for wanted in &populated.wanted {
            writeln!(out, "wanted {wanted}").unwrap();
        }
        let given = Given::new(NOW);
        let wrong = form.check(&given.world(), &populated.response, &[]);
        let wrong: Vec<Issue> = wrong.into_iter().filter(Issue::is_error).collect();
        if !wrong.is_empty() && !populated.has_failed {
            return Err(format!("the response is not valid\n{}", print(&wrong)));
        }
        case.expect("out", &out)
    });
}

/// Each case is a form and its parts; `<case>.out` has the assembled form and the issues.
#[test]
fn forms_are_assembled() {
    check(&fixtures().join("questionnaire/assemble"), |case: &Case| {
        let json = read(&case.path("json"));
        let mut parts = Parts::default();
        for (name, of) in [("parts", "Questionnaire"), ("definitions", "StructureDefinition")] {
            for (canonical, found) in members(json.get(name)) {
                let found = (found != Json::Null).then(|| Arc::new(found));
                parts.put(Wanted { resource_type: of, canonical }, found);
            }
        }
        let done = assemble(&Given::new(NOW).world(), &parts, json.get("questionnaire").unwrap());
        let Assembled { questionnaire, issues, wanted } = done;
        let mut out = print(&issues);
        for wanted in wanted {
            writeln!(out, "wanted {} {}", wanted.resource_type, wanted.canonical).unwrap();
        }
        if let Some(questionnaire) = questionnaire {
            out.push_str(&questionnaire.to_pretty());
            out.push('\n');
        }
        case.expect("out", &out)
    });
}

/// Each case is a form and a response so far; `<case>.out` has the response with the next question,
/// or what is wrong.
#[test]
fn adaptive_forms_have_a_next_question() {
    check(&fixtures().join("questionnaire/next_question"), |case: &Case| {
        let json = read(&case.path("json"));
        let form = Form::read(&R4, json.get("questionnaire").unwrap()).0;
        let given = Given::new(NOW);
        let out = match next_question(&form, &given.world(), json.get("response").unwrap()) {
            Ok(response) => response.to_pretty() + "\n",
            Err(issues) => print(&issues),
        };
        case.expect("out", &out)
    });
}
