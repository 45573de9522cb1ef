//! What wants to take time or memory without end is stopped, and that it was stopped is told.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::fs;
use std::sync::{Arc, LazyLock};
use std::thread;

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::format::json::MAX_DEPTH;
use lumbar_fhir::path::{Context, Expression, PathError, Tally, Value};
use lumbar_fhir::profile::Profiles;
use lumbar_fhir::questionnaire::Form;
use lumbar_fhir::terminology::Library;
use lumbar_fhir::validate::{Found, Limits, MAX_ISSUES, Missing, World, validate, validate_in};
use lumbar_fhir::{Issue, IssueType, Json, Severity, json};
use lumbar_testkit::fixtures;

#[expect(dead_code, reason = "the fuzzer's targets; one of them is used here")]
#[path = "../fuzz/src/targets.rs"]
mod targets;

static R4: LazyLock<Definitions> = LazyLock::new(Definitions::r4);

/// What a thread that answers requests has at least.
const STACK: usize = 2 << 20;

fn is_too_costly(issue: &Issue) -> bool {
    issue.code == IssueType::TooCostly
}

fn evaluate(text: &str, limit: u64) -> Result<usize, PathError> {
    let expression = Expression::parse(text)?;
    let context = Context::new(&R4);
    let tally = Tally::new(limit);
    let json = json!({"resourceType": "Patient", "birthDate": "not a date"});
    let found = expression.evaluate_within(&tally, &context, &[Value::node(&json)]);
    found.map(|found| found.len())
}

#[test]
fn texts_do_not_grow_without_end() {
    let chain = |step: &str, times: usize| format!("'<\"&'{}", step.repeat(times));
    for step in [".encode('hex')", ".encode('base64')", ".escape('json')"] {
        assert!(evaluate(&chain(step, 3), 1_000_000).is_ok(), "{step}");
        let error = evaluate(&chain(step, 2_000), 1_000_000_000).unwrap_err();
        assert!(error.reason.contains("longer than"), "{step}: {error}");
    }
    let long = "x".repeat(10_000);
    let items = "'a,".repeat(3_000);
    let joined = format!("'{}'.split(',').select('{long}').join()", items.replace('\'', ""));
    let error = evaluate(&joined, 1_000_000_000).unwrap_err();
    assert!(error.reason.contains("longer than"), "{error}");
}

#[test]
fn regular_expressions_cost_what_they_are_worth() {
    let steps = "takes too many steps";
    assert_eq!(evaluate("'abc'.matches('^[a-z]{1,5}$')", 1_000), Ok(1));
    // A large automaton of few letters, as a literal and as a text that is made.
    for large in [
        r"'a'.matches('\\w{9}')",
        r"'a'.matches('\\w' & '{9}')",
        r"'a'.matchesFull('\\w{9}')",
        r"'a'.replaceMatches('\\w{9}', '')",
    ] {
        let error = evaluate(large, 2_000).unwrap_err();
        assert!(error.reason.contains(steps), "{large}: {error}");
        assert!(evaluate(large, 1_000_000).is_ok(), "{large}");
    }
    // A long text.
    let text = "ab".repeat(5_000);
    let long = format!("'{text}'.matches('(a|b)*a(a|b)(a|b)(a|b)(a|b)c')");
    assert!(evaluate(&long, 5_000).unwrap_err().reason.contains(steps));
    let error = evaluate(r"'a'.matches('((a{99}){99}){99}')", u64::MAX).unwrap_err();
    assert!(error.reason.contains("too large"), "{error}");
}

/// A Questionnaire whose items ask for large regular expressions.
fn with_regexes(count: usize) -> Json {
    let item = |number: usize| {
        json!({"linkId": (number.to_string()), "type": "string", "extension": [
            {"url": "http://hl7.org/fhir/StructureDefinition/regex", "valueString": "([a-z]{40}){40}"},
        ]})
    };
    let items: Vec<Json> = (0..count).map(item).collect();
    json!({"resourceType": "Questionnaire", "status": "active", "item": (items)})
}

#[test]
fn regular_expressions_of_questionnaires_are_bounded() {
    let (_, issues) = Form::read(&R4, &with_regexes(3));
    assert!(!issues.iter().any(is_too_costly), "{issues:?}");
    let (form, issues) = Form::read(&R4, &with_regexes(400));
    assert!(issues.iter().any(is_too_costly));
    let answer = |number: usize| {
        let text = "x".repeat(1_000);
        json!({"linkId": (number.to_string()), "answer": [{"valueString": (text)}]})
    };
    let items: Vec<Json> = (0..400).map(answer).collect();
    let response = json!({"resourceType": "QuestionnaireResponse", "status": "completed",
        "questionnaire": "http://x.test/q", "item": (items)});
    let mut found = Found::default();
    found.put_form("http://x.test/q", Arc::new(form));
    let limits = Limits { steps: 1_000_000, ..Limits::default() };
    assert!(look(&Profiles::r4(), &found, &response, &[], limits).iter().any(is_too_costly));
}

fn look(
    profiles: &Profiles,
    resources: &Found,
    resource: &Json,
    given: &[&str],
    limits: Limits,
) -> Vec<Issue> {
    let (terminology, missing) = (Library::r4(), Missing::default());
    let terminology = &terminology;
    let missing = &missing;
    let definitions = &R4;
    let world = World {
        definitions,
        profiles,
        terminology,
        resources,
        missing,
        now: None,
        vital_signs: Severity::Error,
        limits,
    };
    validate_in(&world, resource, given)
}

/// Less work finds the same, or says that it is not all. Nothing is accepted because a slice or a
/// condition used the work up.
#[test]
fn that_the_work_was_too_much_is_always_told() {
    let mut stopped = 0;
    for entry in fs::read_dir(fixtures().join("fuzz/profile")).unwrap() {
        let path = entry.unwrap().path();
        let data = fs::read(&path).unwrap();
        let Some(all) = targets::held(&data, Limits::default()) else { continue };
        for most in [0, 1, 2, 4, 8, 16, 32, 64, 128] {
            for (steps, work) in [(most, u64::MAX), (u64::MAX, most)] {
                let limits = Limits { steps, work, ..Limits::default() };
                let issues = targets::held(&data, limits).unwrap();
                let is_told = issues.iter().any(is_too_costly);
                stopped += usize::from(is_told);
                assert!(is_told || issues == all, "{}: {limits:?}: {issues:?}", path.display());
            }
        }
    }
    assert!(stopped > 50, "only {stopped} were stopped");
}

#[test]
fn profiles_that_ask_for_each_other_twice_are_bounded() {
    let mut profiles = Profiles::r4();
    let url = |number: usize| format!("http://x.test/p{number}");
    for number in 0..30 {
        let next = url(number + 1);
        let twice = format!("conformsTo('{next}') and conformsTo('{next}')");
        profiles.add(&json!({"resourceType": "StructureDefinition", "url": (url(number)),
            "name": "P", "status": "draft", "kind": "resource", "abstract": false, "type": "Basic",
            "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Basic",
            "derivation": "constraint", "differential": {"element": [{"id": "Basic",
            "path": "Basic", "constraint": [{"key": "x-1", "severity": "error", "human": "x",
            "expression": (twice)}]}]}}));
    }
    let basic = json!({"resourceType": "Basic", "code": {"text": "x"}});
    let limits = Limits { steps: 20_000, work: 20_000, ..Limits::default() };
    let issues = look(&profiles, &Found::default(), &basic, &[&url(0)], limits);
    assert!(issues.iter().any(is_too_costly), "{issues:?}");
}

/// Each response would have the Questionnaire read anew.
#[test]
fn a_bundle_of_responses_shares_the_steps() {
    let item = |number: usize| json!({"linkId": (number.to_string()), "type": "string"});
    let items: Vec<Json> = (0..500).map(item).collect();
    let questionnaire = json!({"resourceType": "Questionnaire", "url": "http://x.test/b",
        "status": "active", "item": (items)});
    let response = json!({"resourceType": "QuestionnaireResponse", "status": "completed",
        "questionnaire": "http://x.test/b"});
    let mut entries = vec![json!({"resource": (questionnaire)})];
    entries.extend((0..100).map(|_| json!({"resource": (&response)})));
    let bundle = json!({"resourceType": "Bundle", "type": "collection", "entry": (entries)});
    let limits = Limits { steps: 100_000, ..Limits::default() };
    let r4 = Profiles::r4();
    assert!(look(&r4, &Found::default(), &bundle, &[], limits).iter().any(is_too_costly));
    let issues = look(&r4, &Found::default(), &bundle, &[], Limits::default());
    assert!(!issues.iter().any(is_too_costly), "{issues:?}");
}

/// `inner` within itself, `depth` times.
fn nested(before: &str, inner: &str, after: &str, depth: usize) -> String {
    format!("{}{inner}{}", before.repeat(depth), after.repeat(depth))
}

#[test]
fn deep_nesting_ends_before_the_stack_does() {
    let shapes = [
        (r#"{"resourceType":"Bundle","type":"collection","entry":[{"resource":"#, "{}", "}]}"),
        (r#"{"resourceType":"Basic","contained":["#, "{}", "]}"),
        (r#"{"resourceType":"Parameters","parameter":[{"name":"a","resource":"#, "{}", "}]}"),
    ];
    let members = [
        ("Questionnaire", "item", r#"{"linkId":"a","type":"group","item":["#, "]}"),
        ("Parameters", "parameter", r#"{"name":"a","part":["#, "]}"),
        ("Basic", "extension", r#"{"url":"http://x.test","extension":["#, "]}"),
        ("ValueSet", "expansion", r#"{"contains":["#, "]}"),
        ("CodeSystem", "concept", r#"{"code":"a","concept":["#, "]}"),
    ];
    let mut texts: Vec<(String, usize)> = Vec::new();
    for depth in [MAX_DEPTH / 4, MAX_DEPTH / 2 - 4, 10_000] {
        for (before, inner, after) in shapes {
            texts.push((nested(before, inner, after, depth), depth));
        }
        for (of, member, before, after) in members {
            let inner = nested(before, "", after, depth);
            texts.push((format!(r#"{{"resourceType":"{of}","{member}":[{inner}]}}"#), depth));
        }
    }
    for (text, depth) in texts {
        let run = move || match Json::parse(text.as_bytes()) {
            Err(_) => assert!(depth > MAX_DEPTH / 4, "{depth} levels are refused"),
            Ok(json) => {
                assert!(depth <= MAX_DEPTH);
                let form = Arc::new(Form::read(&R4, &json).0);
                let mut found = Found::default();
                found.put_form("http://x.test/q", form);
                validate(&R4, &json);
                look(&Profiles::r4(), &found, &json, &[], Limits::default());
            }
        };
        thread::Builder::new().stack_size(STACK).spawn(run).unwrap().join().unwrap();
    }
}

#[test]
fn no_more_issues_than_anybody_reads() {
    let names: Vec<Json> = (0..2_000).map(|_| json!({"nonsense": 1})).collect();
    let patient = json!({"resourceType": "Patient", "name": (names)});
    let issues = validate(&R4, &patient);
    assert_eq!(issues.len(), MAX_ISSUES + 1);
    assert!(issues.last().is_some_and(is_too_costly));
}

#[test]
fn many_contained_resources_are_looked_at_once_each() {
    let contained: Vec<Json> = (0..20_000)
        .map(|n| json!({"resourceType": "Basic", "id": (format!("b{n}")), "code": {"text": "x"}}))
        .collect();
    let basic = json!({"resourceType": "Basic", "code": {"text": "x"}, "contained": (contained)});
    let issues = look(&Profiles::r4(), &Found::default(), &basic, &[], Limits::default());
    assert_eq!(issues.len(), MAX_ISSUES + 1);
}

/// A StructureDefinition of the test with more of what is given.
fn constraint(of: &str, name: &str, more: &[(&str, Json)]) -> Json {
    let mut made = json!({"resourceType": "StructureDefinition", "name": "P", "status": "draft",
        "url": (format!("http://x.test/{name}")), "kind": "resource", "abstract": false,
        "type": (of), "derivation": "constraint",
        "baseDefinition": (format!("http://hl7.org/fhir/StructureDefinition/{of}"))});
    for (name, value) in more {
        made.set(name, value.clone());
    }
    made
}

/// What is said of a Basic with some identifiers that claims the profile.
fn claimed(definition: &Json, identifiers: usize) -> Vec<Issue> {
    let mut profiles = Profiles::r4();
    let issues = profiles.add(definition);
    assert!(issues.is_empty(), "{issues:?}");
    let url = definition.str_at(&["url"]).unwrap();
    let identifier = |n: usize| json!({"system": (format!("http://x.test/{n}")), "value": "x"});
    let identifiers: Vec<Json> = (0..identifiers).map(identifier).collect();
    let mut basic = json!({"resourceType": "Basic", "code": {"text": "x"}});
    if !identifiers.is_empty() {
        basic.set("identifier", identifiers);
    }
    look(&profiles, &Found::default(), &basic, &[url], Limits::default())
}

/// Slices of `Basic.identifier`, each with its system.
fn slices(count: usize) -> Vec<Json> {
    let mut elements = vec![
        json!({"id": "Basic", "path": "Basic"}),
        json!({"id": "Basic.identifier", "path": "Basic.identifier", "min": 0, "max": "*",
            "slicing": {"discriminator": [{"type": "value", "path": "system"}], "rules": "closed"}}),
    ];
    for n in 0..count {
        elements.push(json!({"id": (format!("Basic.identifier:s{n}")), "min": 0, "max": "1",
            "path": "Basic.identifier", "sliceName": (format!("s{n}"))}));
        elements
            .push(json!({"id": (format!("Basic.identifier:s{n}.system")), "min": 1, "max": "1",
            "path": "Basic.identifier.system", "fixedUri": (format!("http://y.test/{n}"))}));
    }
    elements
}

fn elements(of: &str, elements: Vec<Json>) -> [(&str, Json); 1] {
    [(of, json!({"element": (elements)}))]
}

#[test]
fn profiles_that_are_too_large_are_told_and_not_used() {
    let constraints = |count: usize| {
        let rule = |n: usize| {
            json!({"key": (format!("k-{n}")), "severity": "error", "human": "x",
                "expression": "false"})
        };
        let rules: Vec<Json> = (0..count).map(rule).collect();
        vec![json!({"id": "Basic", "path": "Basic", "constraint": (rules)})]
    };
    let many = |count: usize| -> Vec<Json> {
        let element = |n: usize| {
            json!({"id": (format!("Basic.extension:s{n}")), "path": "Basic.extension",
                "sliceName": (format!("s{n}"))})
        };
        let root = json!({"id": "Basic", "path": "Basic"});
        std::iter::once(root).chain((0..count).map(element)).collect()
    };
    for (name, most, [(kind, value)]) in [
        ("small", false, elements("snapshot", slices(3))),
        ("snapshot", true, elements("snapshot", many(20_001))),
        ("differential", true, elements("differential", many(20_001))),
        ("slices", true, elements("differential", many(7_000))),
        ("constraints", true, elements("differential", constraints(6_000))),
    ] {
        let issues = claimed(&constraint("Basic", name, &[(kind, value)]), 0);
        assert_eq!(issues.iter().any(is_too_costly), most, "{name}: {issues:?}");
        assert!(issues.len() < 5, "{name}: {} issues", issues.len());
    }
    let long = constraint("Basic", &"x".repeat(3_000), &[]);
    assert_eq!(Profiles::r4().add(&long).first().map(|issue| issue.code), Some(IssueType::TooLong));
}

/// Each value is held against each slice, and what is said of it names slices.
#[test]
fn many_values_and_slices_are_bounded_and_told_shortly() {
    let definition = constraint("Basic", "s", &elements("snapshot", slices(400)));
    let issues = claimed(&definition, 400);
    assert!(issues.len() <= MAX_ISSUES + 1);
    let longest = issues.iter().map(|issue| issue.text.len()).max();
    assert!(longest.is_some_and(|longest| longest < 1_000), "{longest:?}");
    let definition = constraint("Basic", "s", &elements("snapshot", slices(4_000)));
    let issues = claimed(&definition, 4_000);
    assert!(issues.iter().any(is_too_costly));
}

/// Names of a profile may be long; what is told of it is not.
#[test]
fn what_is_told_is_cut() {
    let long = "x".repeat(100_000);
    let value = json!({"id": (format!("Basic.identifier.value{long}")), "min": 1, "max": "1",
        "path": "Basic.identifier.value", "fixedString": (&long)});
    let identifier =
        json!({"id": "Basic.identifier", "path": "Basic.identifier", "min": 0, "max": "*"});
    let root = json!({"id": "Basic", "path": "Basic"});
    let definition = constraint("Basic", "l", &elements("snapshot", vec![root, identifier, value]));
    let issues = claimed(&definition, 600);
    assert_eq!(issues.len(), MAX_ISSUES + 1);
    for issue in &issues {
        let rule = issue.rule.as_deref().unwrap_or_default();
        assert!(issue.text.len() < 5_000 && rule.len() < 1_000, "{}", issue.text.len());
    }
}

/// As many entries as one likes may have one fullUrl, and all of them may refer to it.
#[test]
fn entries_of_one_full_url_are_linked_once_each() {
    let url = "urn:uuid:3fdc72f4-a11d-4a9d-9260-a9f745779e1d";
    let basic = json!({"fullUrl": (url), "resource": {"resourceType": "Basic",
        "code": {"text": "x"}, "subject": {"reference": (url)}}});
    let section = json!({"entry": [{"reference": (url)}]});
    let mut entries =
        vec![json!({"resource": {"resourceType": "Composition", "section": [(section)]}})];
    entries.extend(std::iter::repeat_n(basic, 20_000));
    let bundle = json!({"resourceType": "Bundle", "type": "document", "entry": (entries)});
    let issues = validate(&R4, &bundle);
    assert!(issues.iter().any(is_too_costly));
    let alone = |issue: &Issue| issue.code == IssueType::BusinessRule;
    assert!(!issues.iter().any(alone), "all are reached from the Composition");
}

/// The nearest of thousands of codes is looked for a few times only.
#[test]
fn wrong_codes_are_compared_a_few_times() {
    let coding = |n: usize| {
        json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
            "code": (format!("aulse{n}"))})
    };
    let codings: Vec<Json> = (0..5_000).map(coding).collect();
    let basic = json!({"resourceType": "Basic", "code": {"coding": (codings)}});
    let issues = look(&Profiles::r4(), &Found::default(), &basic, &[], Limits::default());
    assert_eq!(issues.len(), MAX_ISSUES + 1);
}

/// What lies in a resource that no definition knows costs what it takes to look through it.
#[test]
fn wide_objects_cost_what_they_are_worth() {
    let mut wide = json!({"resourceType": "Patient"});
    if let Json::Object(object) = &mut wide {
        *object = (0..2_000).map(|n| (format!("m{n}").as_str().into(), Json::from(n))).collect();
        object.set("resourceType", "Patient");
        object.set("birthDate", "1970");
    }
    let evaluate = |text: &str, limit: u64| {
        let expression = Expression::parse(text).unwrap();
        let focus = Value::node(&wide);
        let context = Context { resource: Some(focus.clone()), ..Context::new(&R4) };
        let tally = Tally::new(limit);
        expression.evaluate_within(&tally, &context, &[focus]).map(|found| found.len())
    };
    assert_eq!(evaluate("children().count()", 10_000), Ok(1));
    assert_eq!(evaluate("children().select(%resource.birthDate).count()", 1_000_000), Ok(1));
    assert!(evaluate("children().select(%resource.birthDate).count()", 100_000).is_err());
}
