//! What holds of every instrument, whatever the answers are.

use lumbar_clinical::{Answers, Instrument, Scored, Status, score};
use lumbar_fhir::{Json, Object, json};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use crate::instruments::{folder, ids, instrument};
use crate::read;

/// An instrument, and what its file says of each item, read apart from the product's code.
struct Sheet {
    instrument: Instrument,
    rules: Json,
    items: Vec<Question>,
}

struct Question {
    link_id: String,
    /// Plain values that it takes, from low to high where they are numbers.
    values: Vec<Json>,
    /// `None` where answers are no numbers.
    rises: Option<bool>,
    system: Option<String>,
}

impl Sheet {
    fn of(id: &str) -> Sheet {
        let rules = read(&folder().join(id).join("instrument.json"));
        let options = read(&folder().join("options.json"));
        let items = rules.list("items").iter().map(|item| question(item, &options)).collect();
        Sheet { instrument: instrument(id), rules, items }
    }

    /// Answers by the places of the values; `None` is a missing answer.
    fn map(&self, picks: &[Option<Index>]) -> Json {
        let mut answers = Object::new();
        for (item, pick) in self.items.iter().zip(picks) {
            if let Some(pick) = pick {
                answers.set(&item.link_id, pick.get(&item.values));
            }
        }
        Json::Object(answers)
    }

    fn score(&self, answers: &Json) -> Scored {
        score::score(&self.instrument, &Answers::from_map(&self.instrument, answers).unwrap())
    }
}

fn question(item: &Json, options: &Json) -> Question {
    let text = |name: &str| item.str_at(&[name]).unwrap_or_default();
    let set = options.at(&["sets", text("optionSet")]);
    let values: Vec<Json> = match text("type") {
        "choice" => {
            let value = |option: &Json| option.get("value").or(option.get("code")).cloned();
            set.unwrap().list("answers").iter().filter_map(value).collect()
        }
        "integer" => {
            let limit = |name: &str| item.get(name).and_then(Json::as_i64).unwrap();
            (limit("min")..=limit("max")).map(Json::from).collect()
        }
        "boolean" => vec![Json::from(false), Json::from(true)],
        "date" => vec![Json::from("2026-03-02"), Json::from("2026-03-09")],
        "string" => vec![Json::from("words")],
        other => panic!("no values for {other}"),
    };
    let is_number = values.iter().all(|value| !matches!(value, Json::String(_)));
    Question {
        link_id: text("linkId").to_owned(),
        rises: is_number.then(|| item.get("reverse").is_none()),
        system: set.and_then(|set| set.str_at(&["system"])).map(str::to_owned),
        values,
    }
}

/// Runs `property` on random forms of every instrument that is not refused.
fn on_every_form(
    missing: f64,
    property: impl Fn(&Sheet, &[Option<Index>], Index) -> Result<(), TestCaseError>,
) {
    for id in ids() {
        let sheet = Sheet::of(&id);
        if sheet.instrument.activation.refused.is_some() {
            continue;
        }
        let pick = prop::option::weighted(1.0 - missing, any::<Index>());
        let form = (prop::collection::vec(pick, sheet.items.len()), any::<Index>());
        let mut runner = TestRunner::new(Config { cases: 60, ..Config::default() });
        let result = runner.run(&form, |(picks, one)| property(&sheet, &picks, one));
        result.unwrap_or_else(|error| panic!("{id}: {error}"));
    }
}

/// A score is within its stated range, or it is absent; of contradicting answers there is none.
#[test]
fn no_score_leaves_its_range() {
    on_every_form(0.08, |sheet, picks, _| {
        let scored = sheet.score(&sheet.map(picks));
        if scored.status == Status::Error {
            prop_assert!(scored.scores.is_empty() && scored.categories.is_empty());
            return Ok(());
        }
        for (score, rule) in scored.scores.iter().zip(sheet.rules.list("scores")) {
            let Some(value) = score.value.as_ref().and_then(|value| value.number()) else {
                continue;
            };
            let limit = |name: &str| -> f64 {
                rule.get(name).unwrap().as_number().unwrap().parse().unwrap()
            };
            let value: f64 = value.to_string().parse().unwrap();
            prop_assert!((limit("min")..=limit("max")).contains(&value), "{} {value}", score.name);
        }
        Ok(())
    });
}

/// Where nothing is answered nothing is scored: no zero, no lowest band, no provisional category.
#[test]
fn absent_is_never_zero() {
    for id in ids() {
        let sheet = Sheet::of(&id);
        let scored = sheet.score(&json!({}));
        assert!(matches!(scored.status, Status::NotScored | Status::NotActivatable), "{id}");
        assert!(scored.scores.iter().all(|score| score.value.is_none()), "{id}");
        for category in &scored.categories {
            let said = category.value.as_ref().and_then(Json::as_str);
            assert!(said.is_none_or(|value| value == "unknown"), "{id} {}", category.name);
            assert!(category.provisional.is_none(), "{id} {}", category.name);
        }
    }
}

/// A higher answer never lowers a score that counts it, a higher answer to a reversed question
/// never raises one.
#[test]
fn scores_follow_their_answers() {
    on_every_form(0.05, |sheet, picks, one| {
        let index = one.index(sheet.items.len());
        let item = &sheet.items[index];
        let Some(rises) = item.rises.filter(|_| item.values.len() > 1) else { return Ok(()) };
        let Some(pick) = picks[index] else { return Ok(()) };
        let place = pick.index(item.values.len() - 1);
        let mut answers = sheet.map(picks);
        answers.set(&item.link_id, &item.values[place]);
        let low = sheet.score(&answers);
        answers.set(&item.link_id, &item.values[place + 1]);
        let high = sheet.score(&answers);
        for (low, high) in low.scores.iter().zip(&high.scores) {
            if let (Some(low), Some(high)) = (low.exact, high.exact) {
                let (least, most) = if rises { (low, high) } else { (high, low) };
                prop_assert!(least <= most, "{} {place}: {low} {high}", item.link_id);
            }
        }
        Ok(())
    });
}

/// A provisional category is the one that every way to answer the missing questions gives, and it
/// is given whenever there is such a one.
#[test]
fn provisional_categories_are_certain() {
    let mut seen = 0;
    for id in ["start-msk-10", "ompsq-10", "phq-2", "gad-2"] {
        let sheet = Sheet::of(id);
        let asked: Vec<&Question> =
            sheet.items.iter().filter(|item| !item.link_id.ends_with("-na")).collect();
        let form = prop::collection::vec(any::<Index>(), asked.len());
        let gaps = prop::collection::vec(any::<Index>(), 1..3);
        let mut runner = TestRunner::new(Config { cases: 150, ..Config::default() });
        let count = std::cell::Cell::new(0);
        let result = runner.run(&(form, gaps), |(picks, gaps)| {
            let mut answers = Object::new();
            for (item, pick) in asked.iter().zip(&picks) {
                answers.set(&item.link_id, pick.get(&item.values));
            }
            let gaps: Vec<usize> = gaps.iter().map(|gap| gap.index(asked.len())).collect();
            for gap in &gaps {
                answers.remove(&asked[*gap].link_id);
            }
            let scored = sheet.score(&Json::Object(answers.clone()));
            let mut found: Vec<Json> = Vec::new();
            for first in &asked[gaps[0]].values {
                for second in &asked[gaps[gaps.len() - 1]].values {
                    answers.set(&asked[gaps[gaps.len() - 1]].link_id, second);
                    answers.set(&asked[gaps[0]].link_id, first);
                    let whole = sheet.score(&Json::Object(answers.clone()));
                    let value = whole.categories[0].value.clone().unwrap();
                    if !found.contains(&value) {
                        found.push(value);
                    }
                }
            }
            let certain = (found.len() == 1).then(|| found[0].clone());
            count.set(count.get() + usize::from(certain.is_some()));
            prop_assert_eq!(&scored.categories[0].provisional, &certain);
            prop_assert_eq!(&scored.categories[0].value, &None);
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{id}: {error}"));
        seen += count.get();
    }
    assert!(seen > 20, "hardly any certain category was met: {seen}");
}

/// A response and a plain object with the same answers give the same, with our codings, with
/// numbers, and in whatever order and groups the items stand.
#[test]
fn responses_and_objects_agree() {
    on_every_form(0.1, |sheet, picks, one| {
        let mut items = Vec::new();
        for (item, pick) in sheet.items.iter().zip(picks) {
            let Some(value) = pick.map(|pick| pick.get(&item.values)) else { continue };
            let answer = match (&item.system, value) {
                (Some(system), value) => {
                    let code = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    json!({"valueCoding": {"system": (system), "code": (code)}})
                }
                (None, Json::Bool(_)) => json!({"valueBoolean": (value)}),
                (None, Json::Number(_)) => json!({"valueInteger": (value)}),
                (None, value) if value.as_str() == Some("words") => json!({"valueString": (value)}),
                (None, value) => json!({"valueDate": (value)}),
            };
            items.push(json!({"linkId": (&item.link_id), "answer": [(answer)]}));
        }
        if !items.is_empty() {
            let middle = one.index(items.len());
            items.rotate_left(middle);
            let inner = items.split_off(middle);
            items.push(json!({"linkId": "a-group", "item": (inner)}));
        }
        let response = json!({"resourceType": "QuestionnaireResponse", "item": (items)});
        let answers = Answers::from_response(&sheet.instrument, &response);
        let read = Answers::from_map(&sheet.instrument, &sheet.map(picks));
        prop_assert_eq!(answers, read);
        Ok(())
    });
}
