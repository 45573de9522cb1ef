pub mod model;
mod pages;

use lumbar_fhir::search::{Bound, Condition, Direction, IndexRow, IndexValue, Query, Sort};
use lumbar_store::{Change, Commit, Error, Store};

use crate::random::Random;
use crate::{change, commit, fresh, on_each, open};
use model::{Model, falls, fill, random_query};

#[tokio::test(flavor = "multi_thread")]
async fn searches_find_what_a_plain_loop_finds() {
    for seed in 1..=4 {
        let databases = fresh();
        let mut stores = Vec::new();
        for database in &databases {
            stores.push(open(&database.url).await);
        }
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut model = Model::default();
        fill(&mut random, &stores, &mut model).await;
        let mut telling = 0;
        for number in 0..250 {
            let query = random_query(&mut random);
            let wanted = model.search(&query);
            telling += usize::from(!wanted.is_empty() && wanted.len() < 12);
            for (store, database) in stores.iter().zip(&databases) {
                let context =
                    || format!("seed {seed}, query {number}, {}: {query:?}", database.url);
                let mut query = query.clone();
                let mut found = Vec::new();
                loop {
                    let page = store.resources.search(&query).await;
                    let page = page.unwrap_or_else(|error| panic!("{error:?}\n{}", context()));
                    found.extend(page.matches.iter().map(|found| found.id.clone()));
                    let all = u64::try_from(wanted.len()).ok();
                    let total = query.total || (query.cursor.is_none() && page.next.is_none());
                    assert_eq!(page.total, if total { all } else { None }, "{}", context());
                    assert!(found.len() <= wanted.len(), "{found:?}, {wanted:?}\n{}", context());
                    query.cursor = page.next;
                    if query.cursor.is_none() {
                        break;
                    }
                }
                assert_eq!(found, wanted, "{}", context());
            }
        }
        assert!(telling > 60, "only {telling} of the queries told matches from others");
        for store in stores {
            store.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_outlives_the_process() {
    for database in fresh() {
        let store = open(&database.url).await;
        let changes = (0..3).map(|number| change("Patient", &number.to_string(), 1, &[("k", "v")]));
        store.resources.commit(commit(changes)).await.unwrap();
        let mut query = query(equals("k", "v"), 2);
        query.cursor = store.resources.search(&query).await.unwrap().next;
        store.close().await;
        let store = open(&database.url).await;
        assert_eq!(found(&store, &query).await, ["2"]);
        store.close().await;
    }
}

fn query(condition: Condition, count: usize) -> Query {
    let resource_type = "Patient".into();
    Query { resource_type, condition, sort: Vec::new(), count, cursor: None, total: false }
}

fn equals(code: &str, key: &str) -> Condition {
    Condition::Key(code.into(), Bound::Included(key.into()), Bound::Included(key.into()))
}

async fn found(store: &Store, query: &Query) -> Vec<String> {
    let page = store.resources.search(query).await.unwrap();
    page.matches.into_iter().map(|found| found.id).collect()
}

/// More rows than a condition may count, so that every way of driving a search is taken.
#[tokio::test(flavor = "multi_thread")]
async fn every_driver_finds_the_same() {
    on_each(async |store: &Store| {
        let wide = "w\u{1}s";
        let changes = (0..3000).map(|number| {
            let rare = format!("r{}\u{1}s", number / 3);
            let id = format!("p{number:04}");
            let mut change = change("Patient", &id, 1, &[("wide", wide), ("rare", &rare)]);
            let value = IndexValue::Date(number, number);
            change.index.push(IndexRow { code: "date".into(), value });
            change
        });
        store.resources.commit(commit(changes)).await.unwrap();
        let wide_range = Condition::Key(
            "wide".into(),
            Bound::Included("w\u{1}".into()),
            Bound::Excluded("w\u{2}".into()),
        );
        let late = Condition::Date(
            "date".into(),
            [Bound::Open, Bound::Open],
            [Bound::Included(10), Bound::Open],
        );
        for condition in [
            equals("wide", wide),
            wide_range.clone(),
            late.clone(),
            Condition::All(vec![wide_range.clone(), late.clone()]),
            Condition::All(vec![equals("wide", wide), wide_range.clone()]),
            Condition::All(vec![]),
        ] {
            for sort in [
                vec![],
                vec![Sort::Id(Direction::Ascending)],
                vec![Sort::LastUpdated(Direction::Descending)],
                vec![Sort::Date("date".into(), Direction::Ascending)],
            ] {
                let mut query = query(condition.clone(), 1100);
                query.sort = sort;
                let mut all = Vec::new();
                loop {
                    let page = store.resources.search(&query).await.unwrap();
                    all.extend(page.matches.into_iter().map(|found| found.id));
                    query.cursor = page.next;
                    if query.cursor.is_none() {
                        break;
                    }
                }
                let first = 3000 - all.len();
                assert!(first == 0 || first == 10, "{query:?}");
                let mut wanted: Vec<_> =
                    (first..3000).map(|number| format!("p{number:04}")).collect();
                if falls(&query) {
                    wanted.reverse();
                }
                assert_eq!(all, wanted, "{query:?}");
            }
        }
        let both = Condition::All(vec![wide_range, late, equals("rare", "r5\u{1}s")]);
        assert_eq!(found(store, &query(both, 10)).await, ["p0015", "p0016", "p0017"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_and_odd_keys_are_found_again() {
    on_each(async |store: &Store| {
        let long = "ä".repeat(3000);
        let keys = [format!("{long}1"), format!("{long}2"), "nul\0".to_owned(), String::new()];
        for (number, key) in keys.iter().enumerate() {
            let change = change("Patient", &number.to_string(), 1, &[("k", key), ("k", key)]);
            store.resources.commit(commit([change])).await.unwrap();
        }
        for (number, key) in keys.iter().enumerate() {
            let ids = found(store, &query(equals("k", key), 9)).await;
            assert_eq!(ids, [number.to_string()]);
        }
        let starts = Bound::Included("ä".repeat(100));
        let begins =
            Condition::Key("k".into(), starts, Bound::Excluded(format!("{}å", "ä".repeat(99))));
        assert_eq!(found(store, &query(begins, 9)).await, ["0", "1"]);
        assert!(found(store, &query(Condition::Id(vec!["\0".into()]), 9)).await.is_empty());
        let endless = IndexValue::Number(f64::NEG_INFINITY, f64::INFINITY, String::new());
        let none = IndexValue::Number(f64::NAN, 1.0, String::new());
        let rows = [endless, none].map(|value| IndexRow { code: "n".into(), value });
        let change = Change { index: rows.to_vec(), ..change("Patient", "n", 1, &[]) };
        store.resources.commit(commit([change])).await.unwrap();
        let any = [Bound::Open, Bound::Included(f64::INFINITY)];
        let any = Condition::Number("n".into(), any, [Bound::Open, Bound::Open], None);
        let mut sorted = query(any, 1);
        sorted.sort = vec![Sort::Number("n".into(), Direction::Descending)];
        assert_eq!(found(store, &sorted).await, ["n"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_may_send_is_refused_politely() {
    on_each(async |store: &Store| {
        let changes = (0..5).map(|number| change("Patient", &number.to_string(), 1, &[("k", "v")]));
        store.resources.commit(commit(changes)).await.unwrap();
        let mut first = query(Condition::All(vec![]), 2);
        first.sort = vec![Sort::Key("k".into(), Direction::Ascending)];
        let good = store.resources.search(&first).await.unwrap().next.unwrap();
        let mut bad: Vec<String> =
            ["", "x", "é", "0", "00", "zz", &"f".repeat(34)].map(str::to_owned).into();
        bad.extend((0..good.len()).map(|end| good[..end].to_owned()));
        bad.push(format!("{good}00"));
        bad.push(good.to_uppercase());
        // Whoever changes a cursor has no key to sign it with.
        bad.extend((0..good.len()).map(|place| {
            let other = if &good[place..=place] == "0" { "1" } else { "0" };
            format!("{}{other}{}", &good[..place], &good[place + 1..])
        }));
        for cursor in bad {
            let query = Query { cursor: Some(cursor.clone()), ..first.clone() };
            let result = store.resources.search(&query).await;
            assert!(matches!(result, Err(Error::Cursor)), "{cursor}: {result:?}");
        }
        let unsorted = Query { sort: Vec::new(), cursor: Some(good), ..first.clone() };
        assert!(matches!(store.resources.search(&unsorted).await, Err(Error::Cursor)));

        let mut deep = Condition::Present("k".into());
        for _ in 0..10_000 {
            deep = Condition::Not(Box::new(deep));
        }
        let result = store.resources.search(&query(deep, 1)).await;
        assert!(matches!(result, Err(Error::TooComplex)));
        let broad = Condition::All(vec![Condition::Present("k".into()); 10_000]);
        let result = store.resources.search(&query(broad, 1)).await;
        assert!(matches!(result, Err(Error::TooComplex)));
        let ids = Condition::Id((0..100_000).map(|number| number.to_string()).collect());
        let result = store.resources.search(&query(ids, 1)).await;
        assert!(matches!(result, Err(Error::TooComplex)));
        // As many as are let through must run.
        let most = Condition::All(vec![Condition::Present("k".into()); 250]);
        assert_eq!(store.resources.search(&query(most, 9)).await.unwrap().total, Some(5));
        let ids = Condition::Id((0..9_000).map(|number| number.to_string()).collect());
        assert_eq!(store.resources.search(&query(ids, 9)).await.unwrap().total, Some(5));

        let mut none = query(Condition::All(vec![]), 0);
        let page = store.resources.search(&none).await.unwrap();
        assert_eq!((page.matches.len(), page.next, page.total), (0, None, None));
        none.total = true;
        assert_eq!(store.resources.search(&none).await.unwrap().total, Some(5));
        let unknown = Query { resource_type: "Unknown".into(), ..none };
        assert_eq!(store.resources.search(&unknown).await.unwrap().total, Some(0));
        store.resources.commit(Commit::default()).await.unwrap();
    })
    .await;
}
