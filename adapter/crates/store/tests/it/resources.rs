use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use lumbar_fhir::search::{Bound, Condition, Query};
use lumbar_store::{
    AuditRow, Change, Commit, Error, Guard, History, Method, NewJob, State, Store, Version,
};

use crate::{change, commit, deletion, fresh, on_each, open};

fn is_conflict(result: Result<(), Error>, id: &str) -> bool {
    matches!(result, Err(Error::Conflict { id: of, .. }) if of == id)
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_can_be_read_one_by_one_and_together() {
    on_each(async |store: &Store| {
        let resources = &store.resources;
        assert_eq!(resources.read("Patient", "p").await.unwrap(), None);
        resources.commit(commit([change("Patient", "p", 1, &[])])).await.unwrap();
        resources.commit(commit([change("Patient", "p", 2, &[])])).await.unwrap();
        resources.commit(commit([deletion("Patient", "p", 3)])).await.unwrap();
        resources.commit(commit([change("Patient", "p", 4, &[])])).await.unwrap();
        resources.commit(commit([change("Group", "p", 1, &[])])).await.unwrap();

        let now = resources.read("Patient", "p").await.unwrap().unwrap();
        assert_eq!((now.version, now.last_updated, now.method), (4, 4000, Method::Update));
        assert_eq!(now.body.as_deref(), Some(r#"{"id":"p","version":4}"#));
        let first = resources.vread("Patient", "p", 1).await.unwrap().unwrap();
        assert_eq!((first.version, first.method), (1, Method::Create));
        let gone = resources.vread("Patient", "p", 3).await.unwrap().unwrap();
        assert_eq!((gone.method, gone.body), (Method::Delete, None));
        assert_eq!(resources.vread("Patient", "p", 5).await.unwrap(), None);
        assert_eq!(resources.vread("Patient", "p", i64::MAX).await.unwrap(), None);
        assert_eq!(resources.vread("Patient", "p\0", 1).await.unwrap(), None);

        assert_eq!(versions(store, Some("Patient"), Some("p")).await, [4, 3, 2, 1]);
        assert!(versions(store, Some("Observation"), Some("p")).await.is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_expectation_stores_nothing_of_its_commit() {
    on_each(async |store: &Store| {
        let resources = &store.resources;
        resources.commit(commit([change("Patient", "a", 1, &[])])).await.unwrap();
        let job = NewJob {
            kind: "k".into(),
            key: "j".into(),
            destination: String::new(),
            body: "".into(),
            not_before: 0,
        };
        let both = Commit {
            changes: vec![
                change("Patient", "new", 1, &[("name", "x")]),
                change("Patient", "a", 1, &[]),
            ],
            jobs: vec![job],
            audit: vec![AuditRow { recorded: 1, body: "audit".into() }],
            ..Commit::default()
        };
        assert!(is_conflict(resources.commit(both.clone()).await, "a"));
        assert_eq!(resources.read("Patient", "new").await.unwrap(), None);
        assert!(store.jobs.list(State::Waiting, 0, 10).await.unwrap().is_empty());
        assert!(resources.audit(0, 10).await.unwrap().is_empty());

        let mended = Commit { changes: both.changes[..1].to_vec(), ..both };
        resources.commit(mended).await.unwrap();
        assert_eq!(store.jobs.list(State::Waiting, 0, 10).await.unwrap().len(), 1);
        assert_eq!(resources.audit(0, 10).await.unwrap()[0].1.body.as_ref(), "audit");

        // Versions must grow, and a deleted resource is still expected at its version.
        let back = Change { expected: Some(1), ..change("Patient", "a", 1, &[]) };
        assert!(is_conflict(resources.commit(commit([back])).await, "a"));
        let absent = change("Patient", "absent", 2, &[]);
        assert!(is_conflict(resources.commit(commit([absent])).await, "absent"));
        resources.commit(commit([deletion("Patient", "a", 2)])).await.unwrap();
        assert!(is_conflict(resources.commit(commit([change("Patient", "a", 1, &[])])).await, "a"));
        resources.commit(commit([change("Patient", "a", 3, &[])])).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_commit_may_change_a_resource_more_than_once() {
    on_each(async |store: &Store| {
        let first = (1..=3).map(|version| change("Patient", "a", version, &[]));
        store.resources.commit(commit(first)).await.unwrap();
        let more = (4..=5).map(|version| change("Patient", "a", version, &[]));
        store.resources.commit(commit(more)).await.unwrap();
        assert_eq!(versions(store, Some("Patient"), Some("a")).await, [5, 4, 3, 2, 1]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_rivals_one_wins_and_bystanders_are_untouched() {
    on_each(async |store: &Store| {
        let mut tasks = Vec::new();
        for number in 0..60 {
            let resources = store.resources.clone();
            tasks.push(tokio::spawn(async move {
                let own = change("Patient", &format!("own{number}"), 1, &[]);
                let rival = change("Patient", "rival", 1, &[("name", &number.to_string())]);
                let changes = if number % 2 == 0 { vec![own] } else { vec![own, rival] };
                resources.commit(commit(changes)).await
            }));
        }
        let mut winners = 0;
        for (number, task) in tasks.into_iter().enumerate() {
            let result = task.await.unwrap();
            let stored = store.resources.read("Patient", &format!("own{number}")).await.unwrap();
            assert_eq!(stored.is_some(), result.is_ok(), "own{number}: {result:?}");
            if number % 2 == 0 {
                result.unwrap();
            } else if result.is_ok() {
                winners += 1;
            } else {
                assert!(is_conflict(result, "rival"));
            }
        }
        assert_eq!(winners, 1);
        let rival = store.resources.read("Patient", "rival").await.unwrap().unwrap();
        assert_eq!(rival.version, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_the_database_refuses_fails_alone() {
    for database in fresh() {
        let store = open(&database.url).await;
        let mut tasks = Vec::new();
        for number in 0..20 {
            let resources = store.resources.clone();
            tasks.push(tokio::spawn(async move {
                let mut change = change("Patient", &format!("p{number}"), 1, &[]);
                // PostgreSQL holds no NUL in a text; SQLite does.
                change.body = Some(if number == 7 { "\0".into() } else { "{}".into() });
                resources.commit(commit([change])).await
            }));
        }
        for (number, task) in tasks.into_iter().enumerate() {
            let result = task.await.unwrap();
            assert!(result.is_ok() || number == 7, "p{number}: {result:?}");
        }
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guards_see_what_was_committed_before() {
    on_each(async |store: &Store| {
        let query = Query {
            resource_type: "Patient".into(),
            condition: Condition::Key(
                "identifier".into(),
                Bound::Included("n".into()),
                Bound::Included("n".into()),
            ),
            sort: Vec::new(),
            count: 2,
            cursor: None,
            total: false,
        };
        let mut tasks = Vec::new();
        for number in 0..20 {
            let (resources, query) = (store.resources.clone(), query.clone());
            tasks.push(tokio::spawn(async move {
                let change = change("Patient", &format!("p{number}"), 1, &[("identifier", "n")]);
                let guards = vec![Guard { query, ids: Vec::new() }];
                resources.commit(Commit { guards, ..commit([change]) }).await
            }));
        }
        let mut stored = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(()) => stored += 1,
                Err(error) => assert!(is_conflict(Err(error), "")),
            }
        }
        assert_eq!(stored, 1);
        let page = store.resources.search(&query).await.unwrap();
        let ids = vec![page.matches[0].id.clone()];
        let change = change("Patient", "other", 1, &[]);
        let guards = vec![Guard { query: query.clone(), ids }];
        store.resources.commit(Commit { guards, ..commit([change]) }).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_share_one_database() {
    for database in fresh() {
        let (one, two) = (open(&database.url).await, open(&database.url).await);
        let mut tasks = Vec::new();
        for number in 0..40 {
            let resources = if number % 2 == 0 { &one } else { &two }.resources.clone();
            tasks.push(tokio::spawn(async move {
                let own = change("Patient", &format!("p{number}"), 1, &[("name", "x")]);
                resources.commit(commit([own])).await
            }));
        }
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        for store in [&one, &two] {
            let query = Query {
                resource_type: "Patient".into(),
                condition: Condition::Present("name".into()),
                sort: Vec::new(),
                count: 100,
                cursor: None,
                total: false,
            };
            assert_eq!(store.resources.search(&query).await.unwrap().total, Some(40));
        }
        one.close().await;
        two.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_store_acknowledged_every_store_reads() {
    // Reads may come from memory; they must never be older than an acknowledged write, be it of
    // the same store or of another one on the same database.
    for database in fresh() {
        let stores = [open(&database.url).await, open(&database.url).await];
        stores[0].resources.commit(commit([change("Patient", "p", 1, &[])])).await.unwrap();
        let acknowledged = Arc::new(AtomicI64::new(1));
        let mut readers = Vec::new();
        for store in &stores {
            for _ in 0..2 {
                let (resources, acknowledged) = (store.resources.clone(), acknowledged.clone());
                readers.push(tokio::spawn(async move {
                    while acknowledged.load(Ordering::SeqCst) < 300 {
                        let least = acknowledged.load(Ordering::SeqCst);
                        let found = resources.read("Patient", "p").await.unwrap().unwrap();
                        assert!(found.version >= least, "{} after {least}", found.version);
                        tokio::task::yield_now().await;
                    }
                }));
            }
        }
        for version in 2..=300 {
            let store = &stores[usize::from(version % 3 == 0)];
            let written = commit([change("Patient", "p", version, &[])]);
            store.resources.commit(written).await.unwrap();
            acknowledged.store(version, Ordering::SeqCst);
        }
        for reader in readers {
            reader.await.unwrap();
        }
        for store in stores {
            let found = store.resources.read("Patient", "p").await.unwrap().unwrap();
            assert_eq!(found.version, 300);
            store.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_read_at_once() {
    on_each(async |store: &Store| {
        let changes = (0..150).map(|n| change("Patient", &format!("p{n}"), 1, &[]));
        store.resources.commit(commit(changes)).await.unwrap();
        let ids: Vec<String> = (0..200).map(|n| format!("p{n}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let found = store.resources.read_many("Patient", &ids).await.unwrap();
        let mut numbers: Vec<u32> = found.iter().map(|p| p.id[1..].parse().unwrap()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..150).collect::<Vec<u32>>());
        assert!(store.resources.read_many("Patient", &[]).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_says_so() {
    on_each(async |_: &Store| {}).await;
    let store = open("sqlite::memory:").await;
    let resources = store.resources.clone();
    store.close().await;
    let result = resources.commit(commit([change("Patient", "p", 1, &[])])).await;
    assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
    let result = resources.read("Patient", "p").await;
    assert!(matches!(result, Err(Error::Unavailable(_))), "{result:?}");
    let result = lumbar_store::Store::open("mysql://u:secret@h/d", Default::default()).await;
    let error = result.err().unwrap();
    assert!(matches!(error, Error::Url(_)) && !error.to_string().contains("secret"), "{error}");
}

/// Whoever made a commit up from what has changed since hears of it, also within one transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_an_epoch_that_is_over_is_not_stored() {
    on_each(async |store: &Store| {
        let resources = &store.resources;
        let epoch = resources.epoch().await.unwrap();
        let within = |epoch, id: &str| Commit {
            epoch: Some(epoch),
            ..commit([change("Patient", id, 1, &[])])
        };
        resources.commit(within(epoch, "a")).await.unwrap();
        let new = Commit { begins_epoch: true, ..within(epoch, "b") };
        let (begun, late) =
            tokio::join!(resources.commit(new), resources.commit(within(epoch, "c")));
        begun.unwrap();
        assert!(matches!(late, Err(Error::Epoch)), "{late:?}");
        assert_eq!(resources.read("Patient", "c").await.unwrap(), None);
        let next = resources.epoch().await.unwrap();
        assert!(next > epoch);
        resources.commit(within(next, "c")).await.unwrap();
        resources.commit(commit([change("Patient", "d", 1, &[])])).await.unwrap();
        // One that fails leaves the epoch as it is for those beside it, or ends it; never less.
        let failing = Commit { begins_epoch: true, ..within(next, "a") };
        assert!(is_conflict(resources.commit(failing).await, "a"));
        let now = resources.epoch().await.unwrap();
        resources.commit(within(now, "e")).await.unwrap();
    })
    .await;
}

/// Numbers of the versions of a history, on one page.
async fn versions(store: &Store, resource_type: Option<&str>, id: Option<&str>) -> Vec<i64> {
    let asked = History { resource_type, id, count: 100, bytes: usize::MAX, ..History::default() };
    let page = store.resources.history(&asked).await.unwrap();
    assert_eq!((page.previous, page.next), (None, None));
    page.versions.iter().map(|version| version.stored.version).collect()
}

/// Whatever the size of a page and its direction: each version once, in the order of the whole,
/// and only those that a naive look at all of them gives.
#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_walked_in_both_directions() {
    on_each(async |store: &Store| {
        // Versions of several types that share moments; some resources are deleted and return.
        for round in 1..=4_i64 {
            for (of, ids) in [("Patient", 5), ("Observation", 3), ("Basic", 1)] {
                let changes = (0..ids).map(|number| {
                    let id = format!("x{number}");
                    let made = if (round + number) % 3 == 0 && round > 1 {
                        deletion(of, &id, round)
                    } else {
                        change(of, &id, round, &[])
                    };
                    Change { last_updated: round * 1000 + number / 2, ..made }
                });
                store.resources.commit(commit(changes)).await.unwrap();
            }
        }
        let name = |version: &Version| {
            let stored = &version.stored;
            (stored.resource_type.clone(), stored.id.clone(), stored.version)
        };
        for (of, id) in [(None, None), (Some("Patient"), None), (Some("Patient"), Some("x1"))] {
            for (since, at) in [
                (None, None),
                (Some(2001), None),
                (Some(9000), None),
                (None, Some((2001, 2001))),
                (None, Some((1500, 3000))),
                (None, Some((0, 10))),
                (Some(2000), Some((3500, 9000))),
            ] {
                let whole = History {
                    resource_type: of,
                    id,
                    count: 1000,
                    bytes: usize::MAX,
                    ..History::default()
                };
                let all = store.resources.history(&whole).await.unwrap().versions;
                let next_of = |version: &Version| {
                    let (of, id, number) = name(version);
                    let next =
                        |other: &&Version| name(other) == (of.clone(), id.clone(), number + 1);
                    all.iter().find(next).map_or(i64::MAX, |next| next.stored.last_updated)
                };
                let expected: Vec<_> = all
                    .iter()
                    .filter(|version| {
                        let written = version.stored.last_updated;
                        since.is_none_or(|since| written >= since)
                            && at.is_none_or(|(low, high)| {
                                let lasts = version.stored.body.is_some() && next_of(version) > low;
                                written <= high && (written >= low || lasts)
                            })
                    })
                    .map(name)
                    .collect();
                let asked = History { since, at, ..whole };
                let total = store.resources.history_total(&asked).await.unwrap();
                assert_eq!(total, expected.len() as u64, "{of:?} {id:?} {since:?} {at:?}");
                for count in [1, 2, 5, 1000] {
                    let (mut cursor, mut found, mut back) = (None::<String>, Vec::new(), None);
                    loop {
                        let asked = History { count, cursor: cursor.as_deref(), ..asked };
                        let page = store.resources.history(&asked).await.unwrap();
                        assert!(page.versions.len() <= count);
                        found.extend(page.versions.iter().map(name));
                        back = page.previous.or(back);
                        cursor = page.next;
                        if cursor.is_none() {
                            break;
                        }
                    }
                    assert_eq!(found, expected, "{of:?} {id:?} {since:?} {at:?} {count}");
                    let mut returned = Vec::new();
                    while let Some(cursor) = back {
                        let asked = History { count, cursor: Some(&cursor), ..asked };
                        let page = store.resources.history(&asked).await.unwrap();
                        returned.splice(0..0, page.versions.iter().map(name));
                        back = page.previous;
                    }
                    assert!(expected.starts_with(&returned), "{returned:?} of {expected:?}");
                    assert!(
                        returned.len() + count >= expected.len(),
                        "{returned:?} of {expected:?}"
                    );
                }
            }
        }
        let asked = History { count: 5, bytes: usize::MAX, ..History::default() };
        for cursor in ["", "o", "o1", "o1.1", "n1.g", "o-1.1", "offffffffffffffff.1", "x1.1"] {
            let asked = History { cursor: Some(cursor), ..asked };
            let page = store.resources.history(&asked).await;
            assert!(matches!(page, Err(Error::Cursor)), "{cursor}");
        }
        // A page ends before it has too many bytes, and has one version at least.
        let asked = History { count: 5, bytes: 1, ..History::default() };
        assert_eq!(store.resources.history(&asked).await.unwrap().versions.len(), 1);
    })
    .await;
}
