//! Facts about each instrument, in `fixtures/instruments/<id>.json`: the floor, the ceiling and the
//! cut-offs of every score and category, every number of missing answers, every flag, every
//! refusal. They were derived from the published rules apart from this code.
//!
//! `first..last` stands for a row of items that have the same answer.

use std::collections::BTreeSet;

use lumbar_clinical::{Answers, Instrument, Scored, score};
use lumbar_fhir::{Json, Object};
use lumbar_testkit::fixtures;

use crate::instruments::{folder, ids, instrument};
use crate::read;
use crate::vectors::matches;

/// The linkIds of an instrument's file, in order.
fn link_ids(json: &Json) -> Vec<String> {
    let items = json.list("items").iter();
    items.map(|item| item.str_at(&["linkId"]).unwrap().to_owned()).collect()
}

fn expand(answers: &Json, link_ids: &[String]) -> Json {
    let mut result = Object::new();
    for (name, value) in answers.as_object().unwrap().iter() {
        let Some((first, last)) = name.split_once("..") else {
            result.set(name, value);
            continue;
        };
        let at = |name: &str| link_ids.iter().position(|link_id| link_id == name).unwrap();
        for link_id in &link_ids[at(first)..=at(last)] {
            result.set(link_id, value);
        }
    }
    Json::Object(result)
}

fn actual(instrument: &Instrument, fact: &Json, link_ids: &[String]) -> Json {
    let answers = fact.get("answers").or(fact.get("input")).unwrap();
    let is_triage = fact.get("input").is_some();
    match Answers::from_map(instrument, &expand(answers, link_ids)) {
        Ok(answers) if is_triage => instrument.triage(&answers).unwrap().to_json(),
        Ok(answers) => score::score(instrument, &answers).to_json(),
        Err(refused) => Scored::refused(&refused).to_json(),
    }
}

#[test]
fn facts() {
    let mut failures = Vec::new();
    let mut count = 0;
    for id in ids() {
        let path = fixtures().join("instruments").join(format!("{id}.json"));
        if !path.is_file() {
            continue;
        }
        let instrument = instrument(&id);
        let link_ids = link_ids(&read(&folder().join(&id).join("instrument.json")));
        let facts = read(&path);
        for (index, fact) in facts.as_array().unwrap().iter().enumerate() {
            let actual = actual(&instrument, fact, &link_ids);
            if !matches(fact.get("expected").unwrap(), &actual) {
                let why = fact.str_at(&["why"]).unwrap();
                failures.push(format!("{id} {index} ({why}): {actual}"));
            }
            count += 1;
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(count > 800, "{count}");
}

/// Each instrument that scores has facts, and they touch every score, category and flag it has.
#[test]
fn the_facts_touch_every_rule() {
    let elsewhere = ["activity-diary", "training-status"];
    for id in ids() {
        let rules = read(&folder().join(&id).join("instrument.json"));
        if rules.at(&["activation", "refused"]).is_some() || elsewhere.contains(&&*id) {
            continue;
        }
        let facts = read(&fixtures().join("instruments").join(format!("{id}.json")));
        let mut seen: BTreeSet<String> = BTreeSet::new();
        for fact in facts.as_array().unwrap() {
            let expected = fact.get("expected").unwrap();
            for flag in expected.list("flags").iter().chain(expected.list("reasons")) {
                seen.insert(flag.as_str().unwrap().to_owned());
            }
            for (name, value) in members(expected, "scores") {
                seen.insert(name.to_owned());
                seen.insert(format!("{name} {value}"));
            }
            for (name, value) in members(expected, "categories") {
                seen.insert(format!("{name} {value}"));
            }
        }
        let mut wanted = BTreeSet::new();
        for flag in rules.list("flags").iter().filter(|_| rules.get("triage").is_none()) {
            wanted.insert(flag.str_at(&["flag"]).unwrap().to_owned());
        }
        for rule in rules.get("triage").map_or(&[][..], |triage| triage.list("rules")) {
            wanted.insert(rule.str_at(&["reason"]).unwrap().to_owned());
        }
        for score in rules.list("scores") {
            let name = score.str_at(&["name"]).unwrap();
            wanted.insert(name.to_owned());
            for limit in ["min", "max"].iter().filter_map(|limit| score.get(limit)) {
                wanted.insert(format!("{name} {limit}"));
            }
        }
        for category in rules.list("categories") {
            let name = category.str_at(&["name"]).unwrap();
            for value in category.list("values") {
                wanted.insert(format!("{name} {}", value.get("value").unwrap()));
            }
        }
        let left: Vec<&String> = wanted.difference(&seen).collect();
        assert!(left.is_empty(), "{id}: {left:?}");
    }
}

fn members<'a>(json: &'a Json, name: &str) -> impl Iterator<Item = (&'a str, &'a Json)> {
    json.get(name).and_then(Json::as_object).into_iter().flat_map(|object| object.iter())
}
