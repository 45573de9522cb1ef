//! Scoring against vectors, an oracle and brute force.

use std::collections::{BTreeMap, BTreeSet};

use lumbar_clinical::form::questionnaire;
use lumbar_clinical::{Answers, Instrument, OptionSets, Scored, Status, derive, score};
use lumbar_fhir::{Json, Object, json};
use lumbar_testkit::root;
use proptest::prelude::*;

use crate::{cases, list, name, read};

pub fn folder() -> std::path::PathBuf {
    root().join("profiles/instruments")
}

/// Ids of the instruments.
pub fn ids() -> Vec<String> {
    let folders = list(&folder());
    folders.iter().filter(|path| path.is_dir()).map(|path| name(path).to_owned()).collect()
}

pub fn instrument(id: &str) -> Instrument {
    let options = OptionSets::parse(&read(&folder().join("options.json"))).unwrap();
    let path = folder().join(id).join("instrument.json");
    Instrument::parse(&read(&path), &options)
        .unwrap_or_else(|issue| panic!("{}: {issue:?}", path.display()))
}

/// All of them.
pub fn all() -> Vec<Instrument> {
    ids().iter().map(|id| instrument(id)).collect()
}

fn scored(instrument: &Instrument, answers: &Json) -> Scored {
    match Answers::from_map(instrument, answers) {
        Ok(answers) => score::score(instrument, &answers),
        Err(refused) => Scored::refused(&refused),
    }
}

#[test]
fn every_instrument_is_whole() {
    let all = all();
    assert_eq!(all.len(), 35);
    for (id, instrument) in ids().iter().zip(&all) {
        assert_eq!(*instrument.id, **id);
        let url = format!("https://lumbar.example/fhir/Questionnaire/{id}");
        assert_eq!(instrument.questionnaire, url);
        assert!(!instrument.about.sources.is_empty(), "{id} names no source");
        for reuse in &instrument.about.reuses {
            let other = all.iter().find(|other| *other.id == *reuse.instrument);
            let other = other.unwrap_or_else(|| panic!("{id} reuses {}", reuse.instrument));
            assert_eq!(other.about.validity_days, Some(reuse.days), "{id} reuses {}", other.id);
            let (own, other) = (questionnaire(instrument, &[]), questionnaire(other, &[]));
            for link_id in &reuse.items {
                let options = |form: &Json| {
                    let item = form
                        .list("item")
                        .iter()
                        .find(|item| item.str_at(&["linkId"]) == Some(link_id));
                    item.and_then(|item| item.get("answerOption")).cloned()
                };
                assert!(options(&own).is_some(), "{id} has no {link_id}");
                assert_eq!(options(&own), options(&other), "{id} {link_id}");
            }
        }
    }
}

#[test]
fn own_cases() {
    cases("instruments", |id, input| {
        let instrument = instrument(id);
        let Some(answers) = input.get("answers") else {
            return match derive::derive(&instrument, input, input.str_at(&["id"]).unwrap()) {
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
        scored(&instrument, answers).to_json()
    });
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
    let instrument = instrument("start-back-9");
    let mut count = 0;
    for answers in complete_sets() {
        let (total, psychosocial, risk) = oracle(&answers);
        let scored = scored(&instrument, &to_map(&answers.map(Some))).to_json();
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
    let instrument = instrument("start-back-9");
    let mut possible: BTreeMap<[Option<i64>; 9], BTreeSet<&str>> = BTreeMap::new();
    for answers in complete_sets() {
        let risk = oracle(&answers).2;
        for mask in (1u32..512).filter(|mask| mask.count_ones() <= 3) {
            let form = std::array::from_fn(|i| (mask >> i & 1 == 0).then_some(answers[i]));
            possible.entry(form).or_default().insert(risk);
        }
    }
    for (form, risks) in &possible {
        let scored = scored(&instrument, &to_map(form));
        assert_eq!(scored.status, Status::NotScored, "{form:?}");
        assert!(scored.scores.iter().all(|score| score.value.is_none()), "{form:?}");
        assert!(scored.categories.iter().all(|category| category.value.is_none()), "{form:?}");
        let certain = (risks.len() == 1).then(|| Json::from(*risks.first().unwrap()));
        let given = scored.category("risk").unwrap().provisional.clone();
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
        match derive::derive(&instrument("start-back-9"), &response, "r1") {
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
        let scored = scored(&instrument("start-back-9"), &Json::Object(answers));
        if scored.status != Status::Scored {
            prop_assert!(scored.scores.iter().all(|score| score.value.is_none()));
        }
    }
}
