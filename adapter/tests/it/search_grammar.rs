//! Half-valid searches, <https://hl7.org/fhir/R4/search.html>: whatever is asked, the answer is a
//! Bundle or an OperationOutcome that tells what is wrong, and never a fault of the service.

use lumbar::config::Validation;
use lumbar_fhir::{Json, json};
use lumbar_testkit::fixtures;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use crate::app::{Reply, TestApp, on_both_with, read_json};

const TYPES: [&str; 10] = [
    "Observation",
    "Patient",
    "Encounter",
    "Practitioner",
    "RiskAssessment",
    "List",
    "Location",
    "QuestionnaireResponse",
    "Nothing",
    "",
];

const CODES: [&str; 34] = [
    "patient",
    "subject",
    "performer",
    "encounter",
    "organization",
    "general-practitioner",
    "code",
    "status",
    "name",
    "family",
    "birthdate",
    "date",
    "value-quantity",
    "code-value-quantity",
    "near",
    "url",
    "questionnaire",
    "item",
    "probability",
    "identifier",
    "_id",
    "_lastUpdated",
    "_tag",
    "_profile",
    "_security",
    "_source",
    "_list",
    "_text",
    "_content",
    "_query",
    "_type",
    "nothing",
    "",
    "phonetic",
];

const SHAPES: [&str; 16] = [
    "_count",
    "_sort",
    "_total",
    "_include",
    "_include:iterate",
    "_revinclude",
    "_revinclude:iterate",
    "_summary",
    "_elements",
    "_contained",
    "_containedType",
    "_filter",
    "_cursor",
    "_format",
    "_pretty",
    "_type",
];

const MODIFIERS: [&str; 22] = [
    "missing",
    "exact",
    "contains",
    "text",
    "not",
    "in",
    "not-in",
    "above",
    "below",
    "of-type",
    "identifier",
    "iterate",
    "Patient",
    "Observation",
    "Practitioner",
    "Nothing",
    "",
    ":",
    "#",
    "*",
    "_contained",
    "code",
];

const VALUES: [&str; 62] = [
    "eq",
    "ne",
    "gt",
    "lt",
    "ge",
    "le",
    "sa",
    "eb",
    "ap",
    "1",
    "0",
    "-1",
    "80",
    "5.40",
    "1e3",
    "1e999",
    "99999999999999999999",
    "2026",
    "2026-02",
    "2026-02-30",
    "2026-13",
    "2026-02-03T10:00",
    "2026-02-03T10:00:00.123456Z",
    "T",
    "Z",
    "-24:00",
    "true",
    "false",
    "both",
    "contained",
    "container",
    "count",
    "data",
    "accurate",
    "estimate",
    "Patient/s",
    "Patient/",
    "/_history/1",
    "#p",
    "#Patient.0.0",
    "http://loinc.org",
    "http://unitsofmeasure.org",
    "kg",
    "urn:uuid:x",
    "|",
    ",",
    "$",
    "\\",
    "\\,",
    "*",
    ":",
    "-",
    "quill",
    "é",
    "\u{1}",
    "\u{0}",
    "\u{10ffff}",
    "(",
    ")",
    "name eq \"x\"",
    " and ",
    " not ",
];

/// A name of a parameter, or nearly one.
fn name() -> impl Strategy<Value = String> {
    let step = (select(&CODES[..]), proptest::option::weighted(0.3, select(&MODIFIERS[..])))
        .prop_map(|(code, modifier)| {
            modifier.map_or(code.to_owned(), |modifier| format!("{code}:{modifier}"))
        });
    let has = (select(&TYPES[..]), select(&CODES[..]))
        .prop_map(|(of, code)| format!("_has:{of}:{code}:"));
    let path = (proptest::collection::vec(has, 0..2), proptest::collection::vec(step, 1..4))
        .prop_map(|(has, steps)| format!("{}{}", has.concat(), steps.join(".")));
    prop_oneof![4 => path, 3 => select(&SHAPES[..]).prop_map(str::to_owned), 1 => ".{0,12}"]
}

/// A value, or nearly one.
fn value() -> impl Strategy<Value = String> {
    let parts = proptest::collection::vec(select(&VALUES[..]), 0..5).prop_map(|all| all.concat());
    let path = (select(&TYPES[..]), select(&CODES[..]), select(&TYPES[..]))
        .prop_map(|(of, code, to)| format!("{of}:{code}:{to}"));
    let codes = proptest::collection::vec(select(&CODES[..]), 1..4).prop_map(|all| all.join(",-"));
    let filter = (name(), select(&["eq", "co", "ge", "in", "pr", "re", "xx"][..]), parts.clone())
        .prop_map(|(name, operator, value)| {
            format!("{name} {operator} \"{value}\" or ({name} {operator} {value})")
        });
    prop_oneof![5 => parts, 2 => path, 1 => codes, 1 => filter, 1 => ".{0,20}"]
}

/// Percent-encoded, most of it as it should be.
fn encoded(text: &str, odd: u8) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b':' | b',' | b'|'
                if odd != 1 =>
            {
                out.push(char::from(byte));
            }
            b' ' if odd == 2 => out.push('+'),
            byte => out.push_str(&format!("%{byte:02x}")),
        }
    }
    match odd {
        3 => out.push('%'),
        4 => out.push_str("%C3"),
        5 => out.push_str("%zz"),
        6 => out.push_str("&&=&x"),
        _ => {}
    }
    out
}

fn url() -> impl Strategy<Value = String> {
    let odd = || prop_oneof![12 => Just(0_u8), 4 => 1..7_u8];
    let pair =
        (name(), odd(), value(), odd(), 0..20_u8).prop_map(|(name, of, value, odd, equals)| {
            let equals = if equals == 0 { "" } else { "=" };
            format!("{}{equals}{}", encoded(&name, of), encoded(&value, odd))
        });
    let scope = prop_oneof![
        8 => select(&TYPES[..]).prop_map(str::to_owned),
        1 => Just("Patient/s/Observation".to_owned()),
        1 => Just("Patient/s/*".to_owned()),
    ];
    (scope, proptest::collection::vec(pair, 0..5))
        .prop_map(|(scope, pairs)| format!("/fhir/{scope}?{}", pairs.join("&")))
}

/// What is wrong with an answer.
fn fault(reply: &Reply) -> Option<&'static str> {
    if reply.status >= 500 {
        return Some("a fault of the service");
    }
    if reply.header("content-type").is_some_and(|form| form.contains("xml")) {
        return None;
    }
    let Ok(body) = Json::parse(reply.text.as_bytes()) else { return Some("no JSON") };
    match (reply.status, body.str_at(&["resourceType"])) {
        (200, Some("Bundle")) => None,
        (400..500, Some("OperationOutcome")) if !body.list("issue").is_empty() => None,
        _ => Some("neither a Bundle nor an OperationOutcome"),
    }
}

async fn fill(app: &TestApp) {
    for case in ["chain", "contained", "quantity"] {
        let resources = read_json(&fixtures().join(format!("search/{case}.resources.json")));
        for resource in resources.as_array().unwrap() {
            let reply = app.put(resource).await;
            assert!(matches!(reply.status, 200 | 201), "{}", reply.text);
        }
    }
}

/// Searches for each database; `PROPTEST_CASES` says otherwise.
const SEARCHES: usize = 400;

#[test]
fn no_search_is_a_fault_of_the_service() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    let asked = asked.unwrap_or(SEARCHES);
    let config = Config { failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let mut urls = Vec::with_capacity(asked);
    for _ in 0..asked {
        urls.push(url().new_tree(&mut runner).unwrap().current());
    }
    runtime.block_on(on_both_with(
        |settings| settings.policy.validation = Validation::Off,
        async |app: &TestApp| {
            fill(app).await;
            let mut answered = 0;
            for (number, url) in urls.iter().enumerate() {
                let strict = [("prefer", "handling=strict")];
                let headers = if number % 2 == 0 { &strict[..] } else { &[] };
                let reply = app.call("GET", url, headers, "").await;
                answered += usize::from(reply.status == 200);
                if let Some(fault) = fault(&reply) {
                    panic!("{fault}: {url} on {}: {} {}", app.database, reply.status, reply.text);
                }
            }
            assert!(answered > asked / 20, "{answered} of {asked} are searches");
        },
    ));
}

#[tokio::test]
async fn parameters_come_and_go_while_searches_run() {
    on_both_with(
        |settings| settings.policy.validation = Validation::Off,
        async |app: &TestApp| {
            fill(app).await;
            let write = async {
                for number in 0..12 {
                    let status = if number % 3 == 2 { "retired" } else { "active" };
                    let expression = ["Observation.code", "Observation.category"][number % 2];
                    app.put(&json!({
                        "resourceType": "SearchParameter", "id": "own", "name": "Own",
                        "url": "http://t.example/own", "code": "own", "base": ["Observation"],
                        "status": (status), "type": "token", "description": "x",
                        "expression": (expression)
                    }))
                    .await;
                    while app.app.facade.reindex(3).await.unwrap() {
                        tokio::task::yield_now().await;
                    }
                }
            };
            let search = async {
                for number in 0..60 {
                    let query = [
                        "Observation?own=x",
                        "Observation?patient.family=quill",
                        "Observation?_has:List:item:own=x",
                        "Patient?_has:Observation:patient:own:not=x",
                        "Patient?_contained=true&_containedType=contained&_count=2",
                    ][number % 5];
                    let reply = app.get(query).await;
                    assert!(matches!(reply.status, 200 | 400 | 503), "{query}: {}", reply.text);
                    tokio::task::yield_now().await;
                }
            };
            tokio::join!(write, search);
            app.get("Observation?own=x").await.is(200);
        },
    )
    .await;
}
