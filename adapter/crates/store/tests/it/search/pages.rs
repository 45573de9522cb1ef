//! Pages while others write.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use lumbar_fhir::search::{Condition, Query};
use lumbar_store::{Bounds, Store, Stored, Total};

use super::model::{Model, TYPES, falls, fill, random_condition, random_query, write_random};
use crate::random::Random;
use crate::{fresh, open};

/// Bounds under which few rows are looked at and few bytes are given.
const TIGHT: Bounds = Bounds { looked: 7, bytes: 40 };

/// A search, and the resources that are left alone while its pages are turned.
struct Walk {
    queries: Vec<Query>,
    bounds: Bounds,
    wanted: Vec<(String, String)>,
}

/// Pages there and back again while others write: what stays put is met once, in order.
#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_both_ways_while_others_write() {
    for seed in 1..=2 {
        for database in fresh() {
            let store = open(&database.url).await;
            let stores = std::slice::from_ref(&store);
            let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
            let mut model = Model::default();
            fill(&mut random, stores, &mut model).await;
            for number in 0..30 {
                let context = || format!("seed {seed}, walk {number}, {}", database.url);
                let walk = random_walk(&mut random, &model);
                let mut pages: Vec<Vec<(String, String)>> = Vec::new();
                let mut begin = walk.queries.clone();
                let mut back = None;
                let mut disturbed = BTreeSet::new();
                for forward in [true, false] {
                    let mut seen = Vec::new();
                    let mut turns = 0;
                    loop {
                        let page = store.resources.page(&begin, Total::None, walk.bounds).await;
                        let page = page.unwrap_or_else(|error| panic!("{error:?} {}", context()));
                        assert!(page.matches.len() <= begin[0].count, "{}", context());
                        let name = |found: &Stored| (found.resource_type.clone(), found.id.clone());
                        let mut ids: Vec<_> = page.matches.iter().map(name).collect();
                        if !forward {
                            ids.reverse();
                        }
                        seen.extend(ids);
                        turns += 1;
                        assert!(turns < 200, "the pages do not end: {}", context());
                        back = page.previous.clone().or(back);
                        let next = if forward { page.next } else { page.previous };
                        let Some(next) = next else { break };
                        begin[0].cursor = Some(next);
                        disturb(&mut random, &store, &mut model, &mut disturbed).await;
                    }
                    seen.retain(|id| !disturbed.contains(id));
                    pages.push(seen);
                    match (forward, back.take()) {
                        (true, Some(back)) => begin[0].cursor = Some(back),
                        _ => break,
                    }
                }
                let steady = |id: &&(String, String)| !disturbed.contains(*id);
                let wanted: Vec<_> = walk.wanted.iter().filter(steady).cloned().collect();
                let there: Vec<_> = pages[0].iter().filter(steady).cloned().collect();
                assert_eq!(there, wanted, "{} {:?}", context(), walk.queries);
                if let Some(back) = pages.get(1) {
                    // The way back begins before the last page.
                    let mut back = back.clone();
                    back.reverse();
                    assert_eq!(back, wanted[..back.len()], "{} {:?}", context(), walk.queries);
                }
            }
            store.close().await;
        }
    }
}

/// A search of one type or both.
fn random_walk(random: &mut Random, model: &Model) -> Walk {
    let mut query = random_query(random);
    query.condition = match random.below(3) {
        0 => Condition::All(Vec::new()),
        1 => Condition::Not(Box::new(Condition::Id(vec!["3".into()]))),
        _ => random_condition(random, 1),
    };
    query.count = 1 + random.below(4);
    let mut queries = vec![query.clone()];
    if random.chance(2) {
        let other = TYPES.iter().find(|of| **of != query.resource_type).unwrap();
        queries.push(Query { resource_type: (*other).into(), ..query.clone() });
    }
    let mut wanted: Vec<_> = model
        .live
        .keys()
        .filter(|key| {
            queries.iter().any(|query| key.0 == query.resource_type)
                && model.holds(key, &query.condition)
        })
        .cloned()
        .collect();
    // Rows of one type lie together; the type that was stored first has the lower number.
    let first_of = |of: &str| {
        let of = model.order.iter().filter(|(key, _)| key.0 == of);
        of.map(|(_, order)| *order).min()
    };
    wanted.sort_by(|one, two| {
        let by_sort = query.sort.iter().map(|sort| model.compare(one, two, sort));
        let place = |key: &(String, String)| (first_of(&key.0), model.live[key].order);
        let rows = place(one).cmp(&place(two));
        let rows = if falls(&query) { rows.reverse() } else { rows };
        by_sort.fold(Ordering::Equal, Ordering::then).then(rows)
    });
    let bounds = if random.chance(2) { Bounds::NONE } else { TIGHT };
    Walk { queries, bounds, wanted }
}

/// One write of somebody else.
async fn disturb(
    random: &mut Random,
    store: &Store,
    model: &mut Model,
    disturbed: &mut BTreeSet<(String, String)>,
) {
    if random.chance(2) {
        return;
    }
    let key = (random.pick(&TYPES).to_owned(), random.below(26).to_string());
    write_random(random, std::slice::from_ref(store), model, &key, 30).await;
    disturbed.insert(key);
}
