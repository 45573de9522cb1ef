use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use lumbar_fhir::search::{Bound, Condition, Query};
use lumbar_store::{BulkState, Store};

use crate::{change, commit, deletion, on_each};

fn query(condition: Condition) -> Query {
    Query {
        resource_type: "Patient".into(),
        condition,
        sort: Vec::new(),
        count: 2,
        cursor: None,
        total: false,
    }
}

/// The moment of a job that is begun now.
async fn moment(store: &Store, id: &str) -> i64 {
    let bulk = store.resources.bulk();
    assert!(bulk.enqueue(id, "export", "{}", 0, 100).await.unwrap());
    assert!(bulk.claim("export", id, 0, i64::MAX).await.unwrap().is_some());
    assert!(bulk.begin(id, id, 5000).await.unwrap());
    bulk.get(id).await.unwrap().unwrap().moment.unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_gives_each_resource_once_as_it_was() {
    on_each(async |store: &Store| {
        let resources = &store.resources;
        let versions = RefCell::new(BTreeMap::<String, i64>::new());
        let put = async |id: &str, key: &str| {
            let version = versions.borrow().get(id).map_or(1, |version| version + 1);
            versions.borrow_mut().insert(id.to_owned(), version);
            let change = change("Patient", id, version, &[("kind", key)]);
            resources.commit(commit([change])).await.unwrap();
        };
        for number in 0..7 {
            put(&format!("p{number}"), "in").await;
        }
        resources.commit(commit([deletion("Patient", "p6", 2)])).await.unwrap();
        let seq = moment(store, "a").await;
        let kind = |key: &str| {
            Condition::Key("kind".into(), Bound::Included(key.into()), Bound::Included(key.into()))
        };
        let (mut after, mut found, mut rounds) = (0, Vec::new(), 0);
        loop {
            let walked = resources.as_of(&query(kind("in")), after, seq).await.unwrap();
            // What was given changes, and what comes later, too.
            put(&format!("p{}", rounds % 6), "out").await;
            put(&format!("p{}", 5 - rounds % 6), "out").await;
            put(&format!("new{rounds}"), "in").await;
            let changed = resources.changed("Patient", after, walked.upto, seq, 100).await.unwrap();
            let seen: BTreeSet<_> = walked.found.iter().map(|then| then.id.clone()).collect();
            let changed = changed.into_iter().filter(|then| !seen.contains(&then.id));
            for then in walked.found.iter().cloned().chain(changed) {
                assert_eq!(*then.body, *format!(r#"{{"id":"{}","version":1}}"#, then.id));
                found.push(then.id);
            }
            rounds += 1;
            match walked.upto {
                Some(upto) => after = upto,
                None => break,
            }
        }
        found.sort();
        assert_eq!(found, ["p0", "p1", "p2", "p3", "p4", "p5"]);
        let deleted = resources.deleted("Patient", 0, seq, 0, i64::MAX, 10).await.unwrap();
        assert_eq!(deleted.iter().map(|then| &*then.id).collect::<Vec<_>>(), ["p6"]);
        let later = resources.deleted("Patient", 0, seq, 2000, seq, 10).await.unwrap();
        assert!(later.is_empty());
        let then = resources.read_then("Patient", "p0", seq).await.unwrap();
        assert_eq!(then.as_deref(), Some(r#"{"id":"p0","version":1}"#));
        assert_eq!(resources.read_then("Patient", "p6", seq).await.unwrap(), None);
        assert_eq!(resources.read_then("Patient", "new0", seq).await.unwrap(), None);
        assert_eq!(resources.bulk().moment(5000).await.unwrap(), Some(seq));
        assert_eq!(resources.bulk().moment(5001).await.unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_has_one_worker_until_its_lease_ends() {
    on_each(async |store: &Store| {
        let bulk = store.resources.bulk();
        assert!(bulk.enqueue("one", "export", "{}", 0, 2).await.unwrap());
        assert!(bulk.enqueue("two", "export", "{}", 0, 2).await.unwrap());
        assert!(!bulk.enqueue("three", "export", "{}", 0, 2).await.unwrap());
        let claim = async |worker, now| {
            let job = bulk.claim("export", worker, now, now + 10).await.unwrap();
            job.map(|job| job.id)
        };
        assert_eq!(bulk.claim("import", "a", 0, 10).await.unwrap(), None);
        assert_eq!(claim("a", 0).await.as_deref(), Some("one"));
        assert_eq!(claim("b", 1).await.as_deref(), Some("two"));
        assert_eq!(claim("c", 2).await, None);
        assert!(bulk.save("one", "a", "half", 20).await.unwrap());
        assert_eq!(claim("c", 11).await.as_deref(), Some("two"));
        assert!(!bulk.save("two", "b", "lost", 30).await.unwrap());
        bulk.release("a").await.unwrap();
        assert_eq!(claim("d", 12).await.as_deref(), Some("one"));
        assert_eq!(&*bulk.get("one").await.unwrap().unwrap().progress, "half");
        assert!(bulk.end("one", "d", BulkState::Done, "all", 50).await.unwrap());
        assert_eq!(bulk.expired(49).await.unwrap(), [""; 0]);
        assert_eq!(bulk.expired(50).await.unwrap(), ["one"]);
        assert!(bulk.remove("one").await.unwrap() && !bulk.remove("one").await.unwrap());
        assert_eq!(bulk.get("one").await.unwrap(), None);
        assert!(bulk.remove("two").await.unwrap());
        assert!(!bulk.save("two", "c", "late", 30).await.unwrap());
        assert_eq!(bulk.open().await.unwrap(), 0);
    })
    .await;
}
