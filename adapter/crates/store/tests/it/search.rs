use std::cmp::Ordering;
use std::collections::BTreeMap;

use lumbar_fhir::search::{
    Bound, Condition, Direction, IndexRow, IndexValue, Pattern, Query, Sort,
};
use lumbar_store::{Change, Commit, Error, Method, Store};

use crate::random::Random;
use crate::{change, commit, fresh, on_each, open};

/// What the model knows of a live resource.
#[derive(Clone)]
struct Known {
    order: usize,
    last_updated: i64,
    index: Vec<IndexRow>,
}

/// The store as two maps and plain loops.
#[derive(Default)]
struct Model {
    live: BTreeMap<(String, String), Known>,
    order: BTreeMap<(String, String), usize>,
    versions: BTreeMap<(String, String), i64>,
}

impl Model {
    fn holds(&self, key: &(String, String), condition: &Condition) -> bool {
        let (resource_type, id) = key;
        let known = &self.live[key];
        let values = |code: &str| -> Vec<&IndexValue> {
            known.index.iter().filter(|row| row.code == code).map(|row| &row.value).collect()
        };
        let keys = |code: &str| -> Vec<&str> {
            let mut keys = Vec::new();
            for value in values(code) {
                if let IndexValue::Key(key) = value {
                    keys.push(key.as_str());
                }
            }
            keys
        };
        match condition {
            Condition::All(list) => list.iter().all(|one| self.holds(key, one)),
            Condition::Any(list) => list.iter().any(|one| self.holds(key, one)),
            Condition::Not(one) => !self.holds(key, one),
            Condition::Id(ids) => ids.contains(id),
            Condition::LastUpdated(low, high) => within(&known.last_updated, low, high),
            Condition::Key(code, low, high) => {
                keys(code).iter().any(|key| within(&(*key).to_owned(), low, high))
            }
            Condition::KeyContains(code, text) => keys(code).iter().any(|key| {
                key.split_inclusive('\u{1}').next().unwrap_or("").contains(text.as_str())
            }),
            Condition::KeyLike(code, pattern) => keys(code).iter().any(|key| pattern.matches(key)),
            Condition::KeyEnds(code, text) => keys(code).iter().any(|key| key.ends_with(text)),
            Condition::Date(code, start, end) => values(code).iter().any(|value| match value {
                IndexValue::Date(low, high) => {
                    within(low, &start[0], &start[1]) && within(high, &end[0], &end[1])
                }
                _ => false,
            }),
            Condition::Number(code, low, high, unit) => {
                values(code).iter().any(|value| match value {
                    IndexValue::Number(from, to, of) => {
                        within(from, &low[0], &low[1])
                            && within(to, &high[0], &high[1])
                            && unit.as_ref().is_none_or(|unit| unit.matches(of))
                    }
                    _ => false,
                })
            }
            Condition::Present(code) => !values(code).is_empty(),
            Condition::Refers(code, target, one) => keys(code).iter().any(|reference| {
                let target = reference
                    .strip_prefix(&format!("{target}/"))
                    .map(|id| (target.clone(), id.to_owned()));
                target.is_some_and(|to| self.live.contains_key(&to) && self.holds(&to, one))
            }),
            Condition::ReferredBy(source, code, one) => self.live.iter().any(|(from, known)| {
                from.0 == *source
                    && known.index.contains(&IndexRow {
                        code: code.clone(),
                        value: IndexValue::Key(format!("{resource_type}/{id}")),
                    })
                    && self.holds(from, one)
            }),
        }
    }

    fn search(&self, query: &Query) -> Vec<String> {
        let mut found: Vec<_> = self
            .live
            .keys()
            .filter(|key| key.0 == query.resource_type && self.holds(key, &query.condition))
            .collect();
        found.sort_by(|one, two| {
            let by_sort = query.sort.iter().map(|sort| self.compare(one, two, sort));
            let (first, second) = (self.live[*one].order, self.live[*two].order);
            by_sort.fold(Ordering::Equal, Ordering::then).then(first.cmp(&second))
        });
        found.into_iter().map(|key| key.1.clone()).collect()
    }

    fn compare(&self, one: &(String, String), two: &(String, String), sort: &Sort) -> Ordering {
        fn last<T: PartialOrd>(one: Option<T>, two: Option<T>, direction: Direction) -> Ordering {
            match (one, two) {
                (Some(one), Some(two)) => {
                    let order = one.partial_cmp(&two).unwrap();
                    if direction == Direction::Ascending { order } else { order.reverse() }
                }
                (one, two) => one.is_none().cmp(&two.is_none()),
            }
        }
        fn edge<T: PartialOrd>(values: Vec<T>, direction: Direction) -> Option<T> {
            let less = |one: &T, two: &T| one.partial_cmp(two).unwrap();
            match direction {
                Direction::Ascending => values.into_iter().min_by(less),
                Direction::Descending => values.into_iter().max_by(less),
            }
        }
        let rows = |key, code: &str| -> Vec<IndexValue> {
            let rows = self.live[key].index.iter().filter(|row| row.code == code);
            rows.map(|row| row.value.clone()).collect()
        };
        match sort {
            Sort::Id(way) => last(Some(&one.1), Some(&two.1), *way),
            Sort::LastUpdated(way) => {
                last(Some(self.live[one].last_updated), Some(self.live[two].last_updated), *way)
            }
            Sort::Key(code, way) => {
                let [one, two] = [one, two].map(|key| {
                    let keys = rows(key, code).into_iter().filter_map(|value| match value {
                        IndexValue::Key(key) => Some(key),
                        _ => None,
                    });
                    edge(keys.collect(), *way)
                });
                last(one, two, *way)
            }
            Sort::Date(code, way) => {
                let [one, two] = [one, two].map(|key| {
                    let dates = rows(key, code).into_iter().filter_map(|value| match value {
                        IndexValue::Date(low, _) if *way == Direction::Ascending => Some(low),
                        IndexValue::Date(_, high) => Some(high),
                        _ => None,
                    });
                    edge(dates.collect(), *way)
                });
                last(one, two, *way)
            }
            Sort::Number(code, way) => {
                let [one, two] = [one, two].map(|key| {
                    let numbers = rows(key, code).into_iter().filter_map(|value| match value {
                        IndexValue::Number(low, ..) if *way == Direction::Ascending => Some(low),
                        IndexValue::Number(_, high, _) => Some(high),
                        _ => None,
                    });
                    edge(numbers.collect(), *way)
                });
                last(one, two, *way)
            }
        }
    }
}

fn within<T: PartialOrd>(value: &T, low: &Bound<T>, high: &Bound<T>) -> bool {
    let above = match low {
        Bound::Open => true,
        Bound::Included(low) => value >= low,
        Bound::Excluded(low) => value > low,
    };
    above
        && match high {
            Bound::Open => true,
            Bound::Included(high) => value <= high,
            Bound::Excluded(high) => value < high,
        }
}

fn pattern(random: &mut Random, texts: &[&str], parts: &[&str]) -> Pattern {
    let begin = random.pick(&["", "a", "mg", "mg\u{1}", "é", "mull", "a\u{1}s\u{2}"]).to_owned();
    let rest = random.pick(parts).to_owned();
    match random.below(4) {
        0 => Pattern::Equal(random.pick(texts).to_owned()),
        1 => Pattern::Begins(begin),
        2 => Pattern::Has(begin, rest),
        _ => Pattern::Ends(begin, rest),
    }
}

const TYPES: [&str; 2] = ["Observation", "Patient"];
const TOKENS: [&str; 7] = [
    "a\u{1}s",
    "a\u{1}t",
    "b\u{1}",
    "b\u{1}s",
    "é%_\u{1}s",
    "a\u{1}s\u{2}b\u{1}s",
    "a\u{1}t\u{2}bb\u{1}",
];
const PARTS: [&str; 6] = ["", "s", "\u{1}s", "\u{2}b\u{1}", "u", "longer than any of them"];
const NAMES: [&str; 4] = ["muller\u{1}Müller", "mull\u{1}Mull", "ån%\u{1}Ån%", "x'\"\u{1}X'\""];
const UNITS: [&str; 5] = ["", "mg\u{1}u", "mg\u{1}v", "a\u{1}s\u{2}mg\u{1}u", "a\u{1}s\u{2}"];

fn key(code: &str, key: &str) -> IndexRow {
    IndexRow { code: code.into(), value: IndexValue::Key(key.into()) }
}

fn random_index(random: &mut Random, resource_type: &str) -> Vec<IndexRow> {
    let mut index = Vec::new();
    for _ in 0..random.below(3) {
        index.push(key("code", random.pick(&TOKENS)));
    }
    for _ in 0..random.below(3) {
        index.push(key("name", random.pick(&NAMES)));
    }
    if resource_type == "Observation" {
        for _ in 0..random.below(3) {
            let target = random.pick(&["Patient/", "Observation/", "http://x/Patient/"]);
            index.push(key("subject", &format!("{target}{}", random.below(20))));
        }
    }
    for _ in 0..random.below(3) {
        let low = i64::try_from(random.below(20)).unwrap();
        let high = low + i64::try_from(random.below(5)).unwrap();
        index.push(IndexRow { code: "date".into(), value: IndexValue::Date(low, high) });
    }
    for _ in 0..random.below(3) {
        let (low, unit) = (number(random), random.pick(&UNITS).to_owned());
        let high = low + if random.chance(2) { 0.0 } else { 0.5 };
        index.push(IndexRow { code: "value".into(), value: IndexValue::Number(low, high, unit) });
    }
    index
}

fn number(random: &mut Random) -> f64 {
    f64::from(u32::try_from(random.below(12)).unwrap()) / 2.0 - 1.0
}

fn bound<T>(random: &mut Random, value: impl FnOnce(&mut Random) -> T) -> Bound<T> {
    match random.below(3) {
        0 => Bound::Open,
        1 => Bound::Included(value(random)),
        _ => Bound::Excluded(value(random)),
    }
}

fn random_condition(random: &mut Random, depth: usize) -> Condition {
    let moment = |random: &mut Random| i64::try_from(random.below(24)).unwrap();
    let code = random.pick(&["code", "name", "subject", "never"]).to_owned();
    let any_key = |random: &mut Random| -> String {
        match random.below(3) {
            0 => random.pick(&TOKENS).to_owned(),
            1 => random.pick(&NAMES).to_owned(),
            _ => format!("Patient/{}", random.below(20)),
        }
    };
    let some = |random: &mut Random| -> Vec<Condition> {
        (0..random.below(4)).map(|_| random_condition(random, depth - 1)).collect()
    };
    match random.below(if depth == 0 { 9 } else { 15 }) {
        0 => Condition::Id((0..random.below(4)).map(|_| random.below(20).to_string()).collect()),
        1 => Condition::LastUpdated(bound(random, moment), bound(random, moment)),
        2 | 3 => {
            let key = any_key(random);
            Condition::Key(code, Bound::Included(key.clone()), Bound::Included(key))
        }
        4 => match random.below(4) {
            0 | 1 => Condition::KeyLike(code, pattern(random, &TOKENS, &PARTS)),
            2 => Condition::Key(code, bound(random, any_key), bound(random, any_key)),
            _ => {
                let text = random.pick(&["a", "b", "mull", "Patient/"]).to_owned();
                let last = format!("{text}\u{2}");
                Condition::Key(code, Bound::Included(text), Bound::Excluded(last))
            }
        },
        5 => {
            let text = random
                .pick(&["ull", "ü", "n%", "a", "é%_", "s", "zz", "", "a\u{1}", "r\u{1}"])
                .to_owned();
            match random.below(2) {
                0 => Condition::KeyContains(code, text),
                _ => Condition::KeyEnds(
                    code,
                    random
                        .pick(&["\u{1}s", "\u{1}", "\u{1}X'\"", "longer than any of them"])
                        .to_owned(),
                ),
            }
        }
        6 => {
            let mut pair = || [bound(random, moment), bound(random, moment)];
            Condition::Date("date".into(), pair(), pair())
        }
        7 => {
            let mut pair = || [bound(random, number), bound(random, number)];
            let (low, high) = (pair(), pair());
            let unit = (!random.chance(3)).then(|| pattern(random, &UNITS, &PARTS));
            Condition::Number("value".into(), low, high, unit)
        }
        8 => Condition::Present(random.pick(&["code", "date", "value", "never"]).to_owned()),
        9 => Condition::All(some(random)),
        10 => Condition::Any(some(random)),
        11 => {
            let one = |random: &mut Random| {
                let key = random.pick(&TOKENS).to_owned();
                Condition::Key("code".into(), Bound::Included(key.clone()), Bound::Included(key))
            };
            Condition::Any((0..random.below(4)).map(|_| one(random)).collect())
        }
        12 => Condition::Not(Box::new(random_condition(random, depth - 1))),
        13 => {
            let target = random.pick(&["Patient", "Observation", "Never"]).to_owned();
            Condition::Refers(
                "subject".into(),
                target,
                Box::new(random_condition(random, depth - 1)),
            )
        }
        _ => {
            let source = random.pick(&["Observation", "Patient", "Never"]).to_owned();
            let one = Box::new(random_condition(random, depth - 1));
            Condition::ReferredBy(source, "subject".into(), one)
        }
    }
}

fn random_query(random: &mut Random) -> Query {
    let mut sort = Vec::new();
    while random.chance(2) && sort.len() < 3 {
        let way = random.pick(&[Direction::Ascending, Direction::Descending]);
        sort.push(match random.below(5) {
            0 => Sort::Id(way),
            1 => Sort::LastUpdated(way),
            2 => Sort::Key(random.pick(&["code", "name", "never"]).into(), way),
            3 => Sort::Date("date".into(), way),
            _ => Sort::Number("value".into(), way),
        });
    }
    Query {
        resource_type: random.pick(&TYPES).into(),
        condition: random_condition(random, 3),
        sort,
        count: 1 + random.below(9),
        cursor: None,
        total: random.chance(2),
    }
}

async fn fill(random: &mut Random, stores: &[Store], model: &mut Model) {
    for step in 0..160 {
        let key = (random.pick(&TYPES).to_owned(), random.below(20).to_string());
        let version = model.versions.get(&key).map_or(1, |version| version + 1);
        let deleted = version > 1 && random.chance(5);
        let index = random_index(random, &key.0);
        let last_updated = step / 8;
        let write = Change {
            resource_type: key.0.clone(),
            id: key.1.clone(),
            expected: (version > 1).then_some(version - 1),
            version,
            last_updated,
            method: if deleted { Method::Delete } else { Method::Update },
            body: (!deleted).then(|| "{}".into()),
            index: index.clone(),
        };
        for store in stores {
            store.resources.commit(commit([write.clone()])).await.unwrap();
        }
        let order = model.order.len();
        let order = *model.order.entry(key.clone()).or_insert(order);
        model.versions.insert(key.clone(), version);
        if deleted {
            model.live.remove(&key);
        } else {
            model.live.insert(key, Known { order, last_updated, index });
        }
    }
}

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
                let wanted: Vec<_> = (first..3000).map(|number| format!("p{number:04}")).collect();
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
        let long = Bound::Included(long.clone());
        let begins = Condition::Key("k".into(), long, Bound::Excluded("ä".repeat(2999) + "å"));
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
