//! Scoring against vectors, an oracle and brute force.

use std::collections::{BTreeMap, BTreeSet};

use lumbar_clinical::{Answers, Scored, ScoringTable, Status, derive, score};
use lumbar_fhir::{Json, Object, json};
use lumbar_testkit::{root, shared};
use proptest::prelude::*;

use crate::{cases, list, name, read};

pub fn table(instrument: &str) -> ScoringTable {
    let path = root().join("profiles/instruments").join(instrument).join("scoring.json");
    ScoringTable::parse(&read(&path))
        .unwrap_or_else(|issue| panic!("{}: {issue:?}", path.display()))
}

/// Ids of the instruments that have a table.
pub fn instruments() -> Vec<String> {
    let folders = list(&root().join("profiles/instruments"));
    let folders = folders.iter().filter(|folder| folder.join("scoring.json").is_file());
    folders.map(|folder| name(folder).to_owned()).collect()
}

fn scored(table: &ScoringTable, answers: &Json) -> Scored {
    match Answers::from_map(table, answers) {
        Ok(answers) => score::score(table, &answers),
        Err(refused) => Scored::refused(&refused),
    }
}

#[test]
fn every_instrument_is_whole() {
    read(&root().join("profiles/schema/scoring.schema.json"));
    for id in instruments() {
        let folder = root().join("profiles/instruments").join(&id);
        let table = table(&id);
        assert_eq!(table.id, id);
        let questionnaire = read(&folder.join("Questionnaire.json"));
        assert_eq!(questionnaire.str_at(&["id"]), Some(id.as_str()));
        assert_eq!(questionnaire.str_at(&["url"]), Some(table.questionnaire.as_str()));
        assert!(questionnaire.str_at(&["copyright"]).is_some(), "{id} has no licence line");
        assert!(folder.join("README.md").is_file(), "{id} has no README.md");
    }
}

/// Every option that a Questionnaire offers is an answer that the table takes, with the same weight.
#[test]
fn questionnaires_and_tables_agree() {
    for id in instruments() {
        let folder = root().join("profiles/instruments").join(&id);
        let (rules, questionnaire) =
            (read(&folder.join("scoring.json")), read(&folder.join("Questionnaire.json")));
        let table = table(&id);
        let of = |json: &Json| -> Vec<String> {
            let items = json.list("item").iter().chain(json.list("items"));
            items.map(|item| item.str_at(&["linkId"]).unwrap().to_owned()).collect()
        };
        assert_eq!(of(&questionnaire), of(&rules), "{id}");
        for (item, rule) in questionnaire.list("item").iter().zip(rules.list("items")) {
            let link_id = item.str_at(&["linkId"]).unwrap();
            for option in item.list("answerOption") {
                let answer = json!([{"linkId": (link_id),
                    "answer": [{"valueCoding": (option.get("valueCoding").unwrap())}]}]);
                let read = Answers::from_response(&table, &json!({"item": (answer)}));
                assert!(read.is_ok(), "{id} {link_id}: {option}");
                let weight = option.list("extension").iter().find(|extension| {
                    extension.str_at(&["url"]).is_some_and(|url| url.ends_with("/itemWeight"))
                });
                let value = option.str_at(&["valueCoding", "code"]).unwrap().parse().unwrap();
                let points = points(rule, value);
                let weight = weight.and_then(|extension| extension.get("valueDecimal")?.as_i64());
                assert_eq!(weight, Some(points), "{id} {link_id} {value}");
            }
        }
    }
}

/// Points of an answer as the table's text says, read apart from the product's code.
fn points(rule: &Json, value: i64) -> i64 {
    let Some(ranges) = rule.get("points").and_then(Json::as_object) else { return value };
    let range = ranges.iter().find(|(range, _)| {
        let (first, last) = range.split_once("..").unwrap_or((range, range));
        (first.parse().unwrap()..=last.parse::<i64>().unwrap()).contains(&value)
    });
    range.unwrap().1.as_i64().unwrap()
}

#[test]
fn own_cases() {
    cases("instruments", |instrument, input| {
        let table = table(instrument);
        let Some(answers) = input.get("answers") else {
            return match derive::derive(&table, input, input.str_at(&["id"]).unwrap()) {
                Ok(derived) => json!({
                    "scored": (derived.scored.to_json()),
                    "observations": (derived.observations),
                    "retracted": (derived.retracted.iter().map(Json::from).collect::<Vec<_>>()),
                    "issues": (derived.issues.iter().map(|i| i.to_json()).collect::<Vec<_>>())
                }),
                Err(refused) => json!({
                    "flag": (refused.flag),
                    "issues": (refused.issues.iter().map(|i| i.to_json()).collect::<Vec<_>>())
                }),
            };
        };
        scored(&table, answers).to_json()
    });
}

#[test]
fn shared_vectors() {
    let Some(shared) = shared() else { return };
    let vectors = read(&shared.join("instruments/vectors.json"));
    let known = instruments();
    let mut without: BTreeMap<&str, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut passed = 0;
    for vector in vectors.list("vectors") {
        let text = |name| vector.str_at(&[name]).unwrap_or_default();
        if text("kind") != "score" {
            continue;
        }
        if !known.iter().any(|id| id == text("instrument")) {
            *without.entry(text("instrument")).or_default() += 1;
            continue;
        }
        let actual = scored(&table(text("instrument")), vector.get("answers").unwrap()).to_json();
        let expected = vector.get("expected").unwrap();
        if matches(expected, &actual) {
            passed += 1;
        } else {
            failures.push(format!("{} ({}): {actual}", text("id"), text("why")));
        }
    }
    let left_out: Vec<String> = without.iter().map(|(id, n)| format!("{id} {n}")).collect();
    println!("{passed} vectors passed; without a table: {}", left_out.join(", "));
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(passed > 0);
}

/// The comparison that the vectors' header asks for.
fn matches(expected: &Json, actual: &Json) -> bool {
    let set = |json: &Json| -> BTreeSet<String> {
        json.list("flags").iter().map(ToString::to_string).collect()
    };
    let members = expected.as_object().unwrap();
    set(expected) == set(actual)
        && expected.get("provisional").is_some() == actual.get("provisional").is_some()
        && members
            .iter()
            .filter(|(name, _)| *name != "flags")
            .all(|(name, expected)| actual.get(name).is_some_and(|actual| close(expected, actual)))
}

fn close(expected: &Json, actual: &Json) -> bool {
    match (expected, actual) {
        (Json::Number(a), Json::Number(b)) => {
            (a.parse::<f64>().unwrap() - b.parse::<f64>().unwrap()).abs() <= 0.0005
        }
        (Json::Object(a), _) => {
            a.iter().all(|(name, value)| actual.get(name).is_some_and(|other| close(value, other)))
        }
        _ => expected == actual,
    }
}

/// STarT Back by hand: total, psychosocial, risk.
fn oracle(answers: &[i64; 9]) -> (i64, i64, &'static str) {
    let bother = i64::from(answers[8] >= 3);
    let total = answers[..8].iter().sum::<i64>() + bother;
    let psychosocial = answers[4..8].iter().sum::<i64>() + bother;
    let risk = match (total, psychosocial) {
        (_, 4..) => "high",
        (4.., _) => "medium",
        _ => "low",
    };
    (total, psychosocial, risk)
}

/// All 2^8 × 5 complete sets of answers.
fn complete_sets() -> impl Iterator<Item = [i64; 9]> {
    (0..256 * 5).map(|n| std::array::from_fn(|i| if i < 8 { (n >> i) & 1 } else { n / 256 }))
}

fn to_map(answers: &[Option<i64>; 9]) -> Json {
    let mut map = Object::new();
    for (index, answer) in answers.iter().enumerate() {
        if let Some(answer) = answer {
            map.set(&format!("sb9-{}", index + 1), *answer);
        }
    }
    Json::Object(map)
}

#[test]
fn every_complete_start_back_form() {
    let table = table("start-back-9");
    let mut count = 0;
    for answers in complete_sets() {
        let (total, psychosocial, risk) = oracle(&answers);
        let scored = scored(&table, &to_map(&answers.map(Some))).to_json();
        let expected = json!({"total": (total), "psychosocial": (psychosocial)});
        assert_eq!(scored.get("scores"), Some(&expected), "{answers:?}");
        assert_eq!(scored.str_at(&["categories", "risk"]), Some(risk), "{answers:?}");
        assert_eq!(scored.str_at(&["status"]), Some("scored"));
        assert!(scored.get("provisional").is_none());
        count += 1;
    }
    assert_eq!(count, 1_280);
}

/// Each form with one, two or three answers missing, against every way in which they could be given.
#[test]
fn every_start_back_form_with_gaps() {
    let table = table("start-back-9");
    let mut possible: BTreeMap<[Option<i64>; 9], BTreeSet<&str>> = BTreeMap::new();
    for answers in complete_sets() {
        let risk = oracle(&answers).2;
        for mask in (1u32..512).filter(|mask| mask.count_ones() <= 3) {
            let form = std::array::from_fn(|i| (mask >> i & 1 == 0).then_some(answers[i]));
            possible.entry(form).or_default().insert(risk);
        }
    }
    for (form, risks) in &possible {
        let scored = scored(&table, &to_map(form));
        assert_eq!(scored.status, Status::NotScored, "{form:?}");
        assert!(scored.scores.iter().all(|(_, value)| value.is_none()), "{form:?}");
        assert!(scored.categories.iter().all(|(_, value)| value.is_none()), "{form:?}");
        let certain = (risks.len() == 1).then(|| Json::from(*risks.first().unwrap()));
        let given = scored.provisional.first().map(|(_, value)| value.clone());
        assert_eq!(given, certain, "{form:?}");
    }
    println!("{} forms with gaps", possible.len());
}

/// What may stand where an answer's value is expected.
fn any_value() -> impl Strategy<Value = Json> {
    let texts = ["", "0", "1", "4", "5", "x", "https://lumbar.example/fhir/CodeSystem/bother-0-4"];
    let numbers = [
        "0",
        "1",
        "4",
        "5",
        "-1",
        "1.0",
        "2.5",
        "1e0",
        "1e28",
        "9e400",
        "1e-400",
        "123456789012345678901234567890123",
    ];
    prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        prop::sample::select(numbers.to_vec()).prop_map(|n| Json::parse(n.as_bytes()).unwrap()),
        prop::sample::select(texts.to_vec()).prop_map(Json::from),
        (prop::sample::select(texts.to_vec()), prop::sample::select(texts.to_vec()))
            .prop_map(|(system, code)| json!({"system": (system), "code": (code)})),
        Just(json!([])),
    ]
}

fn any_item() -> impl Strategy<Value = Json> {
    let link_id = prop::sample::select(vec!["sb9-1", "sb9-5", "sb9-9", "group", ""]);
    let name = prop::sample::select(vec![
        "valueCoding",
        "valueInteger",
        "valueDecimal",
        "valueBoolean",
        "valueString",
        "other",
    ]);
    let answers = prop::collection::vec((name, any_value()), 0..3);
    let leaf = (link_id, answers).prop_map(|(link_id, answers)| {
        let mut item = json!({"linkId": (link_id)});
        for (name, value) in answers {
            let mut answer = Object::new();
            answer.set(name, value);
            item.push("answer", answer);
        }
        item
    });
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop::collection::vec(inner, 0..3)
            .prop_map(|items| json!({"linkId": "group", "item": (items)}))
    })
}

proptest! {
    /// Whatever a response holds, it is scored, or it is refused with an issue; a form without
    /// nine answers has no score.
    #[test]
    fn no_response_panics(items in prop::collection::vec(any_item(), 0..6)) {
        let response = json!({"status": "completed", "item": (items)});
        match derive::derive(&table("start-back-9"), &response, "r1") {
            Ok(derived) => prop_assert!(derived.observations.is_empty()),
            Err(refused) => prop_assert!(!refused.issues.is_empty()),
        }
    }

    #[test]
    fn no_plain_answers_panic(values in prop::collection::vec(any_value(), 9)) {
        let mut answers = Object::new();
        for (index, value) in values.into_iter().enumerate() {
            answers.set(&format!("sb9-{}", index + 1), value);
        }
        let scored = scored(&table("start-back-9"), &Json::Object(answers));
        if scored.status != Status::Scored {
            prop_assert!(scored.scores.iter().all(|(_, value)| value.is_none()));
        }
    }
}
