//! How SQLite goes about searches: it must never go through a whole table.

use lumbar_fhir::search::{
    Bound, Condition, Direction, IndexRow, IndexValue, Pattern, Query, Sort,
};

use super::Search;
use super::order::{First, Order};
use crate::cursor::{self, Place, Way};
use crate::dialect::{Dialect, Value};
use crate::names::Fresh;
use crate::{Change, Commit, Method, Options, Store};

async fn store() -> Store {
    let store = Store::open("sqlite::memory:", Options::default()).await.unwrap();
    let row = |code: &str, value| IndexRow { code: code.into(), value };
    let index = vec![
        row("key", IndexValue::Key("Patient/1".into())),
        row("date", IndexValue::Date(1, 2)),
        row("number", IndexValue::Number(1.0, 2.0, String::new())),
    ];
    let change = Change {
        resource_type: "Patient".into(),
        id: "1".into(),
        expected: None,
        version: 1,
        last_updated: 1,
        method: Method::Create,
        body: Some("{}".into()),
        index,
    };
    let commit = Commit { changes: vec![change], ..Commit::default() };
    store.resources.commit(commit).await.unwrap();
    store
}

/// The steps of a statement.
async fn plan(store: &Store, (sql, values): (String, Vec<Value>)) -> Vec<String> {
    let rows = store.resources.pool.fetch(format!("EXPLAIN QUERY PLAN {sql}"), values).await;
    rows.unwrap().iter().map(|row| row.text(3).unwrap().to_owned()).collect()
}

#[tokio::test]
async fn no_search_goes_through_a_table() {
    let store = store().await;
    let key = |low: Bound<&str>, high: Bound<&str>| {
        let owned = |bound| match bound {
            Bound::Open => Bound::Open,
            Bound::Included(text) => Bound::Included(String::from(text)),
            Bound::Excluded(text) => Bound::Excluded(String::from(text)),
        };
        Condition::Key("key".into(), owned(low), owned(high))
    };
    let equal = key(Bound::Included("a"), Bound::Included("a"));
    let late = [Bound::Included(5), Bound::Open];
    let open = [Bound::Open, Bound::Open];
    let high = [Bound::Open, Bound::Excluded(1.5)];
    let other = Box::new(equal.clone());
    let conditions = [
        equal.clone(),
        key(Bound::Included("a"), Bound::Excluded("b")),
        Condition::Any(vec![equal.clone(), key(Bound::Included("b"), Bound::Included("b"))]),
        Condition::Id(vec!["1".into(), "2".into()]),
        Condition::Date("date".into(), open, late),
        Condition::Number("number".into(), [Bound::Open, Bound::Open], high, None),
        Condition::Number(
            "number".into(),
            [Bound::Open, Bound::Open],
            high,
            Some(Pattern::Has("a".into(), "b".into())),
        ),
        Condition::KeyLike("key".into(), Pattern::Ends("a".into(), "b".into())),
        Condition::KeyContains("key".into(), "a".into()),
        Condition::Present("date".into()),
        Condition::Refers("key".into(), "Patient".into(), other.clone()),
        Condition::ReferredBy("Patient".into(), "key".into(), other.clone()),
        Condition::Not(other),
    ];
    let sorts = [
        vec![],
        vec![Sort::Id(Direction::Ascending)],
        vec![Sort::LastUpdated(Direction::Descending)],
        vec![Sort::Key("key".into(), Direction::Descending)],
        vec![Sort::Date("date".into(), Direction::Descending)],
        vec![Sort::Number("number".into(), Direction::Ascending)],
    ];
    let several = vec![
        Sort::Date("date".into(), Direction::Descending),
        Sort::Key("key".into(), Direction::Ascending),
    ];
    let fresh = Fresh::default();
    for condition in &conditions {
        for sort in sorts.iter().chain([&several]) {
            let query = Query {
                resource_type: "Patient".into(),
                condition: Condition::All(vec![condition.clone(), equal.clone()]),
                sort: sort.clone(),
                count: 10,
                cursor: None,
                total: false,
            };
            let known = store.resources.names.known(&fresh);
            for way in [Way::Forward, Way::Backward] {
                let order = Order::new(cursor::order(std::slice::from_ref(&query)), way);
                let dialect = Dialect::Sqlite;
                let search = Search { query: &query, known, type_id: 1, dialect, order };
                let has_value = |sort: &Sort| match sort {
                    Sort::Id(_) | Sort::Key(..) => Value::from("a"),
                    Sort::LastUpdated(_) | Sort::Date(..) => Value::from(3),
                    Sort::Number(..) => Value::from(1.5),
                };
                let places = [
                    None,
                    Some(sort.iter().map(|sort| Some(has_value(sort))).collect()),
                    Some(vec![None; sort.len()]),
                ];
                for values in places {
                    if values.as_ref().is_some_and(|values: &Vec<Option<Value>>| {
                        let never =
                            matches!(sort.first(), Some(Sort::Id(_) | Sort::LastUpdated(_)));
                        never && values == &[None]
                    }) {
                        continue;
                    }
                    let place = values.map(|values| Place { values, row_id: 7 });
                    look(&store, &search, place.as_ref()).await;
                }
            }
        }
    }
    store.close().await;
}

/// Looks at every statement that may give a page after a place.
async fn look(store: &Store, search: &Search<'_>, place: Option<&Place>) {
    let query = search.query;
    let all = search.conditions();
    if search.builder().rows(&all[0], search.subject()).unwrap().is_some() {
        let steps = plan(store, search.gather(&all[0], place, 10).unwrap()).await;
        let bad = steps.iter().find(|step| is_scan(step, "SCAN m"));
        assert!(bad.is_none(), "{bad:?} of {steps:#?}\n{query:?}");
    }
    let mut keys = vec![None];
    keys.extend(query.sort.is_empty().then(|| Some(&all[1])));
    for key in keys {
        for (source, place) in search.sources(key, place) {
            let statement = match query.sort.len() {
                0 | 1 => search.step(source, place, 10, 100).unwrap(),
                _ => search.sorted(source, place, 10).unwrap(),
            };
            let steps = plan(store, statement).await;
            let bad = steps.iter().find(|step| {
                let scan = is_scan(step, "SCAN m") && **step != *"SCAN w";
                // Only what leads the walk may go by values, and it is never sorted as a whole.
                let values = ["SEARCH v USING", "SEARCH e USING"];
                let values = values.iter().any(|start| step.starts_with(start));
                let sorted = **step == *"USE TEMP B-TREE FOR ORDER BY";
                let sorted = sorted || query.sort.len() < 2 && step.contains("TEMP B-TREE");
                // What has no value of the first key is sorted by the others.
                let sorted = sorted && (query.sort.len() < 2 || source.first() == First::Present);
                scan || values || sorted
            });
            assert!(bad.is_none(), "{bad:?} of {steps:#?}\n{source:?} {query:?}");
            if query.sort.len() < 2 {
                let steps = plan(store, search.end(source, place, 100).unwrap()).await;
                let bad = steps.iter().find(|step| !step.starts_with("SEARCH"));
                assert!(bad.is_none(), "{bad:?} of {steps:#?}\n{source:?} {query:?}");
            }
        }
    }
}

/// Whether a step goes through more than what was gathered, or than the values of one row.
fn is_scan(step: &str, gathered: &str) -> bool {
    step.starts_with("SCAN") && step != gathered && !step.contains("VIRTUAL TABLE INDEX")
}
