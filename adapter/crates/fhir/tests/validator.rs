//! The base validator against cases, the official examples and damaged resources.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::validate::validate;
use lumbar_fhir::{Issue, Json, Object, json};
use lumbar_testkit::{Case, check, fixtures, shared};
use proptest::prelude::*;

static R4: LazyLock<Definitions> = LazyLock::new(Definitions::r4);

fn read(path: &Path) -> Result<Json, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Json::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

fn is_valid(json: &Json) -> bool {
    !validate(&R4, json).iter().any(Issue::is_error)
}

fn print(issues: &[Issue]) -> String {
    let line = |issue: &Issue| {
        let expression = issue.expression.as_deref().unwrap_or("-");
        let (severity, code) = (issue.severity.code(), issue.code.code());
        format!("{severity} {code} {expression}: {}\n", issue.text)
    };
    issues.iter().map(line).collect()
}

#[test]
fn wrong_resources_have_the_expected_issues() {
    check(&fixtures().join("validator/err"), |case: &Case| {
        let issues = validate(&R4, &read(&case.path("json"))?);
        if !issues.iter().any(Issue::is_error) {
            return Err("is accepted".into());
        }
        case.expect("issues", &print(&issues))
    });
}

/// A case whose name begins with `doubtful` has warnings, the others have no issues.
#[test]
fn right_resources_have_no_errors() {
    check(&fixtures().join("validator/ok"), |case: &Case| {
        let issues = validate(&R4, &read(&case.path("json"))?);
        if issues.iter().any(Issue::is_error) || issues.is_empty() == is_doubtful(case) {
            return Err(print(&issues));
        }
        if is_doubtful(case) { case.expect("issues", &print(&issues)) } else { Ok(()) }
    });
}

fn is_doubtful(case: &Case) -> bool {
    case.name().starts_with("doubtful")
}

/// The rows of `exceptions.tsv` for a suite: what it says differently from us, and why.
fn exceptions(suite: &str) -> BTreeMap<String, String> {
    let table = fs::read_to_string(fixtures().join("validator/exceptions.tsv")).unwrap();
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split('\t');
        let (of, case, reason) = (fields.next()?, fields.next()?, fields.next()?);
        (of == suite).then(|| (case.to_string(), reason.to_string()))
    });
    rows.collect()
}

/// Fails if the cases that differ are not those that `exceptions.tsv` lists.
fn compare(suite: &str, different: &BTreeSet<String>) {
    let listed: BTreeSet<String> = exceptions(suite).into_keys().collect();
    let new: Vec<&String> = different.difference(&listed).collect();
    let mended: Vec<&String> = listed.difference(different).collect();
    assert!(new.is_empty(), "{suite}: not as expected and not in exceptions.tsv: {new:#?}");
    assert!(mended.is_empty(), "{suite}: as expected now, take out of exceptions.tsv: {mended:#?}");
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
    found
}

#[test]
fn official_examples_are_accepted() {
    let Some(shared) = shared() else { return };
    let examples = files(&shared.join("fhir/r4-examples"));
    let refused = examples.iter().filter(|path| !is_valid(&read(path).unwrap()));
    let name = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    compare("r4-examples", &refused.map(name).collect());
}

/// The own artefacts and fixtures that are FHIR resources.
#[test]
fn our_own_resources_are_valid() {
    let root = lumbar_testkit::root();
    let mut count = 0;
    for path in files(&root.join("profiles")) {
        let Ok(json) = read(&path) else { continue };
        if json.get("resourceType").is_some() {
            let issues = validate(&R4, &json);
            assert!(issues.is_empty(), "{}\n{}", path.display(), print(&issues));
            count += 1;
        }
    }
    assert!(count > 10, "only {count} resources");
}

/// The `which`-th value of a tree after the root, and how often that is too many.
fn nth<'a>(json: &'a mut Json, which: &mut usize) -> Option<&'a mut Json> {
    if *which == 0 {
        return Some(json);
    }
    *which -= 1;
    match json {
        Json::Array(items) => items.iter_mut().find_map(|item| nth(item, which)),
        Json::Object(object) => object.iter_mut().find_map(|(_, value)| nth(value, which)),
        _ => None,
    }
}

fn size(json: &Json) -> usize {
    1 + match json {
        Json::Array(items) => items.iter().map(size).sum(),
        Json::Object(object) => object.iter().map(|(_, value)| size(value)).sum(),
        _ => 0,
    }
}

/// Renames a member of an object, makes a text empty or gives a value another JSON kind.
fn damage(value: &mut Json, kind: u8, which: usize) -> bool {
    match (kind, &*value) {
        (0, Json::Object(object)) => {
            let renamed = |(index, (name, value)): (usize, (&str, &Json))| {
                let name =
                    if index == which % object.len() { format!("{name}x") } else { name.into() };
                (name.into(), value.clone())
            };
            *value = Json::Object(object.iter().enumerate().map(renamed).collect::<Object>());
        }
        (1, Json::String(_)) => *value = json!(""),
        (2, Json::Object(_) | Json::Array(_)) => *value = json!("x"),
        (2, Json::Null) => return false,
        (2, _) => *value = json!({"x": 1}),
        (3, Json::Object(_)) => *value = json!({}),
        (3, Json::Array(_)) => *value = json!([]),
        (3, _) => *value = json!([[]]),
        _ => return false,
    }
    true
}

static EXAMPLES: LazyLock<Vec<Json>> = LazyLock::new(|| {
    let mut paths = files(&fixtures().join("validator/ok"));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    if let Some(shared) = shared() {
        let is_small = |path: &PathBuf| fs::metadata(path).is_ok_and(|data| data.len() < 20_000);
        paths.extend(files(&shared.join("fhir/r4-examples")).into_iter().filter(is_small));
    }
    let examples = paths.iter().map(|path| read(path).unwrap());
    examples.filter(is_valid).collect()
});

/// Any tree, with names and texts that matter to the validator.
fn any_json() -> impl Strategy<Value = Json> {
    let word = prop::sample::select(vec![
        "resourceType",
        "Patient",
        "Bundle",
        "Parameters",
        "QuestionnaireResponse",
        "Observation",
        "id",
        "_id",
        "extension",
        "url",
        "value",
        "valueString",
        "_valueString",
        "contained",
        "entry",
        "resource",
        "fullUrl",
        "item",
        "answer",
        "text",
        "div",
        "reference",
        "#",
        "",
        "name",
        "given",
        "_given",
        "birthDate",
        "_birthDate",
        "parameter",
        "part",
        "code",
        "é",
        "1974-12-25T",
        "meta",
        "versionId",
        "urn:uuid:",
        "subject",
        "identifier",
        "type",
        "_",
    ]);
    let leaf = prop_oneof![
        word.clone().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<bool>().prop_map(Json::from),
        Just(Json::Null),
        ".{0,12}".prop_map(Json::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        let member = (word.clone(), inner.clone()).prop_map(|(name, value)| (name.into(), value));
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Json::Array),
            (prop::option::of(0..4_usize), prop::collection::vec(member, 0..6)).prop_map(
                |(kind, members)| {
                    let mut object: Object = members.into_iter().collect();
                    let kinds = ["Patient", "Bundle", "Observation", "QuestionnaireResponse"];
                    if let Some(name) = kind.and_then(|kind| kinds.get(kind)) {
                        object.set("resourceType", *name);
                    }
                    Json::Object(object)
                }
            ),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_damaged_resource_is_refused(
        example in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        kind in 0_u8..4,
        which in 0_usize..32,
    ) {
        let mut json = example.get(&EXAMPLES).clone();
        let mut place = place.index(size(&json));
        let Some(value) = nth(&mut json, &mut place) else { return Ok(()) };
        if damage(value, kind, which) {
            prop_assert!(!is_valid(&json), "accepted: {json}");
        }
    }

    #[test]
    fn no_tree_panics(json in any_json()) {
        let issues = validate(&R4, &json);
        prop_assert!(issues.iter().all(|issue| !issue.text.is_empty()));
    }
}

#[test]
fn depth_and_number_of_issues_are_bounded() {
    let mut item = json!({"linkId": "x"});
    for _ in 0..2_000 {
        item = json!({"linkId": "x", "item": [(item)]});
    }
    let deep = json!({"resourceType": "QuestionnaireResponse", "status": "completed",
        "item": [(item)]});
    let issues = validate(&R4, &deep);
    assert!(issues.iter().any(|issue| issue.text.contains("deeper")), "{}", print(&issues));
    let names: Vec<Json> = (0..5_000).map(|_| json!({})).collect();
    let issues = validate(&R4, &json!({"resourceType": "Patient", "name": (names)}));
    assert_eq!(issues.len(), lumbar_fhir::validate::MAX_ISSUES + 1);
}
