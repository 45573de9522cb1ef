//! The language as a whole: `fixtures/search` by index and condition alone, limits, and that every
//! value finds itself.

use std::sync::LazyLock;

use lumbar_testkit::{cases, fixtures};
use proptest::prelude::*;

use super::*;
use crate::datetime::{DateTime, Micros};
use crate::definitions::Definitions;
use crate::{Issue, Json, json};

static R4: LazyLock<Definitions> = LazyLock::new(Definitions::r4);

const BASE: &str = "http://lumbar.test/fhir";

static NOTHING: Expansions = Expansions::new();

fn reading() -> Reading<'static> {
    Reading {
        definitions: &R4,
        base: BASE,
        strict: true,
        limits: Limits::default(),
        expansions: &NOTHING,
        now: Some(now()),
    }
}

fn now() -> Micros {
    DateTime::parse("2026-03-02T10:00:00Z").unwrap().bounds().0
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Resources as search sees them.
struct World(Vec<(String, String, Vec<IndexRow>)>);

impl World {
    fn new(resources: &[Json]) -> World {
        let row = |resource: &Json| {
            let text = |name| resource.str_at(&[name]).unwrap().to_owned();
            (text("resourceType"), text("id"), index(&R4, BASE, resource))
        };
        World(resources.iter().map(row).collect())
    }

    fn find(&self, of: &str, condition: &Condition) -> Vec<String> {
        let mut found: Vec<String> = self
            .0
            .iter()
            .filter(|(resource_type, ..)| resource_type == of)
            .filter(|resource| self.holds(resource, condition))
            .map(|(of, id, _)| format!("{of}/{id}"))
            .collect();
        found.sort();
        found
    }

    fn holds(
        &self,
        (of, id, rows): &(String, String, Vec<IndexRow>),
        condition: &Condition,
    ) -> bool {
        let candidate = Candidate { id, last_updated: now(), rows };
        let own = IndexValue::Key(format!("{of}/{id}"));
        matches(condition, candidate, &|condition, candidate| match condition {
            Condition::Refers(code, target, inner) => self.0.iter().any(|other| {
                let key = IndexValue::Key(format!("{}/{}", other.0, other.1));
                other.0 == *target
                    && candidate.rows.iter().any(|row| row.code == *code && row.value == key)
                    && self.holds(other, inner)
            }),
            Condition::ReferredBy(source, code, inner) => self.0.iter().any(|other| {
                other.0 == *source
                    && other.2.iter().any(|row| row.code == *code && row.value == own)
                    && self.holds(other, inner)
            }),
            _ => false,
        })
    }
}

/// What a search finds, or the code and text of its first issue.
fn ask(world: &World, search: &str) -> String {
    let (of, query) = search.split_once('?').unwrap();
    match parse(reading(), of, &pairs(query)) {
        Ok(search) => match world.find(of, &search.query.condition) {
            found if found.is_empty() => "-".to_owned(),
            found => found.join(" "),
        },
        Err(issues) => refusal(&issues),
    }
}

fn refusal(issues: &[Issue]) -> String {
    format!("! {} {}", issues[0].code.code(), issues[0].text)
}

/// Whether what was answered is what is expected; of a refusal the code and a part of the text.
fn is_expected(answer: &str, expected: &str) -> bool {
    let Some(refused) = expected.strip_prefix("! ") else { return answer == expected };
    let (code, part) = refused.split_once(' ').unwrap_or((refused, ""));
    let begin = format!("! {code} ");
    answer.strip_prefix(&begin).is_some_and(|text| text.contains(part))
}

#[test]
fn the_searches_find_what_they_must() {
    let mut wrong = Vec::new();
    let mut asked = 0;
    for case in cases(&fixtures().join("search")) {
        let name = case.name();
        let resources = case.read("resources.json").unwrap();
        let world = World::new(Json::parse(resources.as_bytes()).unwrap().as_array().unwrap());
        let searches = case.read("searches.tsv").unwrap();
        for line in searches.lines().filter(|line| !line.starts_with("# ")) {
            let (search, expected) = line.split_once('\t').unwrap();
            let answer = ask(&world, search);
            asked += 1;
            if !is_expected(&answer, expected) {
                wrong.push(format!(
                    "{name}: {search}\n    expected {expected}\n    found    {answer}"
                ));
            }
        }
    }
    // With CASE=name there are fewer.
    assert!(asked > 300 || std::env::var_os("CASE").is_some(), "{asked}");
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_is_needed_of_terminology_is_said_and_used() {
    let world = World::new(&[
        json!({"resourceType": "Observation", "id": "a", "code": {"coding": [{"system": "s", "code": "x"}]}}),
        json!({"resourceType": "Observation", "id": "b", "code": {"coding": [{"system": "s", "code": "y"}]}}),
        json!({"resourceType": "Observation", "id": "c", "status": "final", "code": {"text": "z"}}),
    ]);
    let value_set = Need::ValueSet("http://v.example|1".to_owned());
    let below = Need::Descendants { system: "s".to_owned(), code: "top".to_owned() };
    let above = Need::Ancestors { system: "s".to_owned(), code: "x".to_owned() };
    let status = Need::ValueSet("http://status.example".to_owned());
    let mut known = Expansions::new();
    let code = |code: &str| ("s".to_owned(), code.to_owned());
    known.insert(value_set.clone(), Ok(vec![code("x"), code("other")]));
    known.insert(below.clone(), Ok(vec![code("top"), code("y")]));
    let no = Issue::error(crate::IssueType::NotFound, "There is no such code system.");
    known.insert(above.clone(), Err(no));
    let status_codes = ("http://hl7.org/fhir/observation-status".to_owned(), "final".to_owned());
    known.insert(status.clone(), Ok(vec![status_codes]));
    let reading = Reading { expansions: &known, ..reading() };
    for (query, need, expected) in [
        ("code:in=http://v.example|1", &value_set, "Observation/a"),
        ("code:not-in=http://v.example|1", &value_set, "Observation/b Observation/c"),
        ("code:below=s|top", &below, "Observation/b"),
        ("code:below=s|top,s|top", &below, "Observation/b"),
        ("_filter=code in \"http://v.example|1\"", &value_set, "Observation/a"),
        ("_filter=not (code ss s|top)", &below, "Observation/a Observation/c"),
        ("status:in=http://status.example", &status, "Observation/c"),
        ("code:above=s|x", &above, "! not-found There is no such code system."),
    ] {
        assert_eq!(
            needs(reading, "Observation", &pairs(query)),
            std::slice::from_ref(need),
            "{query}"
        );
        let answer = match parse(reading, "Observation", &pairs(query)) {
            Ok(search) => world.find("Observation", &search.query.condition).join(" "),
            Err(issues) => refusal(&issues),
        };
        assert_eq!(answer, expected, "{query}");
    }
    assert_eq!(needs(reading, "Observation", &pairs("code=x&_filter=status eq final")), []);
    assert_eq!(
        needs(reading, "Patient", &pairs("_has:Observation:patient:code:below=s|top")),
        [below]
    );
}

#[test]
fn each_limit_is_told() {
    let limits =
        Limits { max_values: 3, max_parameters: 4, max_value_bytes: 70, ..Limits::default() };
    let reading = Reading { limits, ..reading() };
    for (query, code) in [
        ("status=a,b,c", None),
        ("status=a,b,c,d", Some("too-costly")),
        ("_id=a,b,c,d", Some("too-costly")),
        ("_list=a,b,c,d", Some("too-costly")),
        ("_lastUpdated=2020,2021,2022,2023", Some("too-costly")),
        ("_filter=status eq a or status eq b or status eq c", None),
        ("_filter=status eq a or status eq b or status eq c or status eq d", Some("too-costly")),
        ("status=a&status=b&status=c&status=d", None),
        ("status=a&status=b&status=c&status=d&status=e", Some("too-costly")),
        (
            "status=01234567890123456789012345678901234567890123456789012345678901234567890",
            Some("too-long"),
        ),
        ("patient.organization.partof.name=x", None),
        ("patient.organization.partof.partof.name=x", Some("too-costly")),
        ("_has:Observation:has-member:_has:Observation:has-member:status=x", None),
    ] {
        let refused = parse(reading, "Observation", &pairs(query)).err();
        let codes: Option<Vec<_>> =
            refused.map(|issues| issues.iter().map(|issue| issue.code.code()).collect());
        assert_eq!(codes, code.map(|code| vec![code]), "{query}");
    }
}

#[test]
fn a_chain_to_many_types_has_an_end() {
    for (query, is_read) in [
        ("subject.subject.subject.name=x", false),
        ("subject:Observation.subject:Patient.name=x", true),
        ("subject.identifier=x", false),
        ("patient.identifier=x", true),
    ] {
        match parse(reading(), "Task", &pairs(query)) {
            Ok(_) => assert!(is_read, "{query}"),
            Err(issues) => {
                assert!(!is_read, "{query}: {issues:?}");
                assert_eq!(issues[0].code, crate::IssueType::TooCostly, "{query}: {issues:?}");
            }
        }
    }
}

/// Texts of the kind that searches are made of, and others.
fn odd() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::collection::vec(
            proptest::sample::select(
                &[
                    "a",
                    "é",
                    " ",
                    "|",
                    ",",
                    "$",
                    "\\",
                    "\"",
                    "(",
                    ")",
                    "eq",
                    "ge",
                    "2013-01",
                    "5.4",
                    "http://x.example/a",
                    "Patient/",
                    "and",
                    "not",
                    "given",
                    ":",
                    "-",
                    "e9",
                    "#",
                    "\u{1}",
                    "\u{2}",
                    "/_history/",
                ][..]
            ),
            0..8
        )
        .prop_map(|parts| parts.concat()),
        ".{0,30}",
    ]
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if matches!(character, ',' | '|' | '$' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

fn finds(resource: &Json, search: (&str, String)) -> bool {
    let world = World::new(std::slice::from_ref(resource));
    let of = resource.str_at(&["resourceType"]).unwrap();
    let pair = [(search.0.to_owned(), search.1)];
    parse(reading(), of, &pair)
        .is_ok_and(|search| !world.find(of, &search.query.condition).is_empty())
}

proptest! {
    #[test]
    fn no_value_panics(
        of in proptest::sample::select(&["Observation", "Patient", "Location", "ValueSet",
            "MolecularSequence", "RiskAssessment", "Questionnaire"][..]),
        parameter in 0..60_usize,
        modifier in proptest::sample::select(&["", ":not", ":exact", ":above", ":below", ":text",
            ":of-type", ":identifier", ":Patient", ":missing", ".name", ":in"][..]),
        value in odd(),
        filter in odd()
    ) {
        let code = R4.search_parameters(of).nth(parameter).map_or("_id", |known| &known.code);
        let pair = [(format!("{code}{modifier}"), value.clone())];
        let _ = parse(reading(), of, &pair);
        let _ = needs(reading(), of, &pair);
        let _ = parse(reading(), of, &[("_filter".to_owned(), format!("{code} {filter}"))]);
        let _ = parse(reading(), of, &[("_filter".to_owned(), value.clone())]);
        let _ = parse(reading(), of, &[(value, filter)]);
    }

    #[test]
    fn a_value_finds_itself(text in odd(), system in odd()) {
        let sound: String = text.chars().filter(|c| !c.is_control()).collect();
        let system: String = system.chars().filter(|c| !c.is_control()).collect();
        prop_assume!(!key::fold(sound.trim()).is_empty());
        let coded = json!({
            "resourceType": "Observation", "id": "o",
            "code": {"coding": [{"system": (system.as_str()), "code": (sound.as_str())}], "text": (sound.as_str())},
            "valueString": (sound.as_str())
        });
        let (code, of) = (escaped(&sound), escaped(&system));
        for search in [
            ("code", code.clone()),
            ("code", format!("{of}|{code}")),
            ("code:text", code.clone()),
            ("value-string:exact", code.clone()),
            ("value-string:contains", code.clone()),
            ("value-string:text", code.clone()),
            ("code-value-string", format!("{code}${code}")),
            ("code-value-string", format!("{of}|{code}${code}")),
        ] {
            prop_assert!(finds(&coded, search.clone()), "{:?}", search);
        }
        let named = json!({"resourceType": "ValueSet", "id": "v", "url": (sound.as_str())});
        prop_assert!(finds(&named, ("url", code)));
    }

    #[test]
    fn a_number_finds_itself(digits in "-?[0-9]{1,9}(\\.[0-9]{1,6})?(e-?[0-9])?", unit in proptest::sample::select(&["g", "mg", "kg", "10*9/L", "mm[Hg]", "Cel", "%", "/min", "[iU]"][..])) {
        let value = Json::parse(digits.trim_start_matches('0').as_bytes()).or_else(|_| Json::parse(b"1")).unwrap();
        let text = value.to_string();
        let quantity = json!({"value": (value), "system": "http://unitsofmeasure.org", "code": (unit)});
        let observation = json!({"resourceType": "Observation", "id": "o", "code": {"coding": [{"code": "c"}]}, "valueQuantity": (quantity)});
        for prefix in ["", "eq", "ge", "le", "ap"] {
            for search in [
                ("value-quantity", format!("{prefix}{text}")),
                ("value-quantity", format!("{prefix}{text}||{unit}")),
                ("value-quantity", format!("{prefix}{text}|http://unitsofmeasure.org|{unit}")),
                ("code-value-quantity", format!("c${prefix}{text}|http://unitsofmeasure.org|{unit}")),
            ] {
                prop_assert!(finds(&observation, search.clone()), "{:?}", search);
            }
        }
        for prefix in ["ne", "gt", "lt", "sa", "eb"] {
            let search = ("value-quantity", format!("{prefix}{text}|http://unitsofmeasure.org|{unit}"));
            prop_assert!(!finds(&observation, search.clone()), "{:?}", search);
        }
    }

    #[test]
    fn a_date_finds_itself(date in "20[0-2][0-9](-(0[1-9]|1[0-2])(-(0[1-9]|1[0-9]|2[0-8])(T[01][0-9]:[0-5][0-9]:[0-5][0-9](Z|[+-]0[0-9]:00))?)?)?") {
        let observation = json!({"resourceType": "Observation", "id": "o", "effectiveDateTime": (date.as_str())});
        for prefix in ["", "eq", "ge", "le", "ap"] {
            let search = ("date", format!("{prefix}{date}"));
            prop_assert!(finds(&observation, search), "{}", prefix);
        }
        for prefix in ["ne", "gt", "lt", "sa", "eb"] {
            let search = ("date", format!("{prefix}{date}"));
            prop_assert!(!finds(&observation, search), "{}", prefix);
        }
    }
}
