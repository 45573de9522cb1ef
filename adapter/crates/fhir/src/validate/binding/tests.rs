//! Bindings and codings as cases: `fixtures/validator/binding/<case>.json` has resources for the
//! library, a binding, the type and values; `<case>.issues` what is found of each value.

use lumbar_testkit::{Case, check, fixtures};

use super::*;
use crate::terminology::Library;
use crate::validate::world::Missing;

fn line(at: &str, issue: &Issue) -> String {
    let at = if at.is_empty() { String::new() } else { format!("{at} ") };
    format!("  {} {} {at}: {}\n", issue.severity.code(), issue.code.code(), issue.text)
}

/// All that is found of one value.
fn found(library: &Library, bound: Bound<'_>, of_type: &str, value: &Json) -> String {
    let missing = Missing::default();
    let terms = Terms::new(library, &missing);
    let mut out = String::new();
    let codes = Codes { of_type, value };
    for coding in codes.parts().iter().filter_map(Json::as_object) {
        for (at, issue) in terms.coding(coding, is_quantity(of_type)) {
            out.push_str(&line(at, &issue));
        }
    }
    if let Some(issue) = terms.binding(bound, of_type, value) {
        out.push_str(&line("", &issue));
    }
    if let Some(issue) = terms.unchecked() {
        out.push_str(&line("", &issue));
    }
    for need in missing.take() {
        out.push_str(&format!("  needs {need:?}\n"));
    }
    if out.is_empty() { "  nothing\n".to_owned() } else { out }
}

#[test]
fn values_have_the_expected_issues() {
    check(&fixtures().join("validator/binding"), |case: &Case| {
        let text = case.read("json").ok_or("there is no .json")?;
        let json = Json::parse(text.as_bytes()).map_err(|error| error.to_string())?;
        let mut library = Library::r4().asking(json.get("asking").is_some());
        for resource in json.list("library") {
            library.add(resource).map_err(|issue| issue.text)?;
        }
        for absent in json.list("absent").iter().filter_map(Json::as_str) {
            library.put_code_system(crate::terminology::Canonical::parse(absent), None);
        }
        let text = |name: &str| json.str_at(&[name]).unwrap_or_default();
        let bound = Bound {
            path: text("path"),
            strength: text("strength"),
            value_set: text("valueSet"),
            max: json.str_at(&["max"]),
        };
        let mut out = String::new();
        for value in json.list("values") {
            out.push_str(&format!("{value}\n"));
            out.push_str(&found(&library, bound, text("type"), value));
        }
        case.expect("issues", &out)
    });
}
