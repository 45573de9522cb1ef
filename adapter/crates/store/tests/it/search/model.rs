//! The store as two maps and plain loops, and random resources and searches.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use lumbar_fhir::search::{
    Bound, Condition, Direction, IndexRow, IndexValue, Pattern, Query, Sort,
};
use lumbar_store::{Change, Method, Store};

use crate::commit;
use crate::random::Random;

/// What the model knows of a live resource.
#[derive(Clone)]
pub struct Known {
    pub order: usize,
    pub last_updated: i64,
    pub index: Vec<IndexRow>,
}

/// The store as two maps and plain loops.
#[derive(Default)]
pub struct Model {
    pub live: BTreeMap<(String, String), Known>,
    pub order: BTreeMap<(String, String), usize>,
    pub versions: BTreeMap<(String, String), i64>,
}

impl Model {
    pub fn holds(&self, key: &(String, String), condition: &Condition) -> bool {
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

    pub fn search(&self, query: &Query) -> Vec<String> {
        let mut found: Vec<_> = self
            .live
            .keys()
            .filter(|key| key.0 == query.resource_type && self.holds(key, &query.condition))
            .collect();
        found.sort_by(|one, two| {
            let by_sort = query.sort.iter().map(|sort| self.compare(one, two, sort));
            let rows = self.live[*one].order.cmp(&self.live[*two].order);
            let rows = if falls(query) { rows.reverse() } else { rows };
            by_sort.fold(Ordering::Equal, Ordering::then).then(rows)
        });
        found.into_iter().map(|key| key.1.clone()).collect()
    }

    pub fn compare(&self, one: &(String, String), two: &(String, String), sort: &Sort) -> Ordering {
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

pub fn within<T: PartialOrd>(value: &T, low: &Bound<T>, high: &Bound<T>) -> bool {
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

/// Whether the first key of a search descends: then equal values go against the order of rows.
pub fn falls(query: &Query) -> bool {
    matches!(
        query.sort.first(),
        Some(
            Sort::Id(Direction::Descending)
                | Sort::LastUpdated(Direction::Descending)
                | Sort::Key(_, Direction::Descending)
                | Sort::Date(_, Direction::Descending)
                | Sort::Number(_, Direction::Descending)
        )
    )
}

pub const TYPES: [&str; 2] = ["Observation", "Patient"];
const PARTS: [&str; 6] = ["", "s", "\u{1}s", "\u{2}b\u{1}", "u", "longer than any of them"];
pub const TOKENS: [&str; 7] = [
    "a\u{1}s",
    "a\u{1}t",
    "b\u{1}",
    "b\u{1}s",
    "é%_\u{1}s",
    "a\u{1}s\u{2}b\u{1}s",
    "a\u{1}t\u{2}bb\u{1}",
];
pub const NAMES: [&str; 4] = ["muller\u{1}Müller", "mull\u{1}Mull", "ån%\u{1}Ån%", "x'\"\u{1}X'\""];
pub const UNITS: [&str; 5] = ["", "mg\u{1}u", "mg\u{1}v", "a\u{1}s\u{2}mg\u{1}u", "a\u{1}s\u{2}"];

pub fn key(code: &str, key: &str) -> IndexRow {
    IndexRow { code: code.into(), value: IndexValue::Key(key.into()) }
}

pub fn random_index(random: &mut Random, resource_type: &str) -> Vec<IndexRow> {
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

pub fn number(random: &mut Random) -> f64 {
    f64::from(u32::try_from(random.below(12)).unwrap()) / 2.0 - 1.0
}

pub fn bound<T>(random: &mut Random, value: impl FnOnce(&mut Random) -> T) -> Bound<T> {
    match random.below(3) {
        0 => Bound::Open,
        1 => Bound::Included(value(random)),
        _ => Bound::Excluded(value(random)),
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

pub fn random_condition(random: &mut Random, depth: usize) -> Condition {
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
            let texts = ["ull", "ü", "n%", "a", "é%_", "s", "zz", "", "a\u{1}", "r\u{1}"];
            let text = random.pick(&texts).to_owned();
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

pub fn random_query(random: &mut Random) -> Query {
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

pub async fn fill(random: &mut Random, stores: &[Store], model: &mut Model) {
    for step in 0..160 {
        let key = (random.pick(&TYPES).to_owned(), random.below(20).to_string());
        write_random(random, stores, model, &key, step / 8).await;
    }
}

/// Writes or deletes a resource.
pub async fn write_random(
    random: &mut Random,
    stores: &[Store],
    model: &mut Model,
    key: &(String, String),
    last_updated: i64,
) {
    let version = model.versions.get(key).map_or(1, |version| version + 1);
    let deleted = version > 1 && random.chance(5);
    let index = random_index(random, &key.0);
    let write = Change {
        resource_type: key.0.clone(),
        id: key.1.clone(),
        expected: (version > 1).then_some(version - 1),
        version,
        last_updated,
        method: if deleted { Method::Delete } else { Method::Update },
        body: (!deleted).then(|| r#"{"name":"some bytes"}"#.into()),
        index: index.clone(),
    };
    for store in stores {
        store.resources.commit(commit([write.clone()])).await.unwrap();
    }
    let order = model.order.len();
    let order = *model.order.entry(key.clone()).or_insert(order);
    model.versions.insert(key.clone(), version);
    if deleted {
        model.live.remove(key);
    } else {
        model.live.insert(key.clone(), Known { order, last_updated, index });
    }
}
