//! How SQLite goes about searches: it must never go through a whole table.

use lumbar_fhir::search::{
    Bound, Condition, Direction, IndexRow, IndexValue, Pattern, Query, Sort,
};

use super::{Driver, Search};
use crate::cursor::Cursor;
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
    let fresh = Fresh::default();
    for condition in &conditions {
        for sort in &sorts {
            let query = Query {
                resource_type: "Patient".into(),
                condition: Condition::All(vec![condition.clone(), equal.clone()]),
                sort: sort.clone(),
                count: 10,
                cursor: None,
                total: false,
            };
            let known = store.resources.names.known(&fresh);
            let search = Search { query: &query, known, type_id: 1, dialect: Dialect::Sqlite };
            let all = search.conditions();
            let cursor = Cursor { row_id: 7, values: vec![None; sort.len()] };
            let mut drivers = vec![Driver::Key(&all[1]), Driver::Type];
            if search.builder().rows(&all[0], search.subject()).unwrap().is_some() {
                drivers.push(Driver::Rows(&all[0]));
            }
            for driver in drivers {
                for cursor in [None, Some(&cursor)] {
                    let steps = plan(&store, search.page(driver, cursor).unwrap()).await;
                    let bad = steps.iter().find(|step| {
                        let scan = step.starts_with("SCAN") && *step != "SCAN m";
                        let values = step.starts_with("SEARCH v USING") && step.contains("INDEX");
                        // Only what drives the search may go by values.
                        scan || values && !matches!(driver, Driver::Rows(_))
                    });
                    assert!(bad.is_none(), "{bad:?} of {steps:#?}\n{query:?}");
                }
            }
        }
    }
    store.close().await;
}
