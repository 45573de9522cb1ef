//! Patches: the cases of `fixtures/patch`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panic")]

use std::sync::LazyLock;

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::patch::{Patch, PatchError};
use lumbar_fhir::{Issue, Json};
use lumbar_testkit::{Case, check, fixtures};

static R4: LazyLock<Definitions> = LazyLock::new(Definitions::r4);

fn patched(case: &Json) -> Result<Json, PatchError> {
    let resource = case.get("resource").unwrap();
    let resource_type = resource.str_at(&["resourceType"]).unwrap_or("Basic");
    Patch::read(&R4, resource_type, case.get("patch").unwrap())?.apply(&R4, resource)
}

fn complaint(case: &Json) -> Option<String> {
    let begins = |kind: &str, issue: &Issue| {
        case.str_at(&[kind]).is_some_and(|text| issue.text.starts_with(text))
    };
    match patched(case) {
        Ok(after) if case.get("result") == Some(&after) => None,
        Err(PatchError::Malformed(issue)) if begins("malformed", &issue) => None,
        Err(PatchError::NotApplicable(issue)) if begins("refused", &issue) => None,
        Ok(after) => Some(format!("gives {after}")),
        Err(error) => Some(format!("gives {error:?}")),
    }
}

fn run(case: &Case) -> Result<(), String> {
    let text = case.read("json").ok_or("no .json file")?;
    let cases = Json::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let failed = cases.as_array().unwrap().iter().filter_map(|case| {
        complaint(case).map(|complaint| format!("{}: {complaint}", case.get("name").unwrap()))
    });
    let failed: Vec<String> = failed.collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

#[test]
fn cases() {
    check(&fixtures().join("patch"), run);
}
