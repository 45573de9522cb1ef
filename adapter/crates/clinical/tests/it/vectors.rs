//! The shared vectors, all kinds but the measures.

use std::collections::{BTreeMap, BTreeSet};

use lumbar_clinical::vectors::Bench;
use lumbar_clinical::{Schedule, ValueSets};
use lumbar_fhir::Json;
use lumbar_testkit::{fixtures, root, shared};

use crate::instruments::all;
use crate::read;

/// Runs vectors through the bench; how many of each kind passed, and what failed.
fn run(vectors: &[Json], value_sets: &ValueSets) -> (BTreeMap<String, usize>, Vec<String>) {
    let mut instruments = all();
    instruments.iter_mut().for_each(|instrument| instrument.supply(value_sets));
    let schedule = Schedule::parse(&read(&root().join("profiles/schedule.json"))).unwrap();
    let bench = Bench { instruments: &instruments, schedule: &schedule, value_sets };
    let mut passed: BTreeMap<String, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for vector in vectors {
        let text = |name| vector.str_at(&[name]).unwrap_or_default();
        if text("kind") == "measure" {
            continue;
        }
        let actual = bench.actual(vector);
        if matches(vector.get("expected").unwrap(), &actual) {
            *passed.entry(text("kind").to_owned()).or_default() += 1;
        } else {
            let (kind, instrument) = (text("kind"), text("instrument"));
            failures.push(format!(
                "{} {kind} {instrument} ({}): {actual}",
                text("id"),
                text("why")
            ));
        }
    }
    (passed, failures)
}

#[test]
fn shared_vectors() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("instruments");
    let value_sets = ValueSets::parse(&read(&folder.join("eq5d5l-value-sets.json"))).unwrap();
    let vectors = read(&folder.join("vectors.json"));
    let (passed, failures) = run(vectors.list("vectors"), &value_sets);
    println!("passed: {passed:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(passed.values().sum::<usize>(), 307);
}

/// What follows from several results, from dates and from series of figures.
#[test]
fn several_results() {
    let vectors = read(&fixtures().join("instruments/several-results.json"));
    let vectors = vectors.as_array().unwrap();
    let (passed, failures) = run(vectors, &ValueSets::default());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(passed.values().sum::<usize>(), vectors.len());
}

/// The comparison that the vectors' header asks for.
pub fn matches(expected: &Json, actual: &Json) -> bool {
    let set = |json: &Json| -> BTreeSet<String> {
        json.list("flags").iter().map(ToString::to_string).collect()
    };
    let members = expected.as_object().unwrap();
    let flags = expected.get("flags").is_none() || set(expected) == set(actual);
    flags
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
        (Json::Object(a), Json::Object(b)) => {
            a.is_empty() == b.is_empty()
                && a.iter()
                    .all(|(name, value)| b.get(name).is_some_and(|other| close(value, other)))
        }
        _ => expected == actual,
    }
}
