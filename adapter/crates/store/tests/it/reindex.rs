use std::collections::{BTreeSet, HashMap};

use lumbar_fhir::search::{Bound, Condition, IndexRow, IndexValue, Query, Sort};
use lumbar_store::{Change, Commit, Error, Indexed, Step, Store, Walk};

use crate::{change, commit, deletion, fresh, on_each, open};

fn row(code: &str, key: &str) -> IndexRow {
    IndexRow { code: code.into(), value: IndexValue::Key(key.into()) }
}

/// Ids that a search by one key finds.
async fn found(store: &Store, code: &str, key: &str) -> Vec<String> {
    let page = store.resources.search(&by(code, key)).await.unwrap();
    page.matches.into_iter().map(|found| found.id).collect()
}

fn by(code: &str, key: &str) -> Query {
    let bound = || Bound::Included(key.to_owned());
    Query {
        resource_type: "Patient".into(),
        condition: Condition::Key(code.into(), bound(), bound()),
        sort: Vec::new(),
        count: 100,
        cursor: None,
        total: false,
    }
}

async fn begin(store: &Store, indexed: &str, wanted: &str) {
    let types = [("Patient".to_owned(), indexed.to_owned(), wanted.to_owned())];
    store.resources.begin_walks(&types).await.unwrap();
}

/// The next step of the walk of Patient, which gives every resource the key `new`.
async fn step(store: &Store, count: usize) -> Option<Step> {
    let walk: Walk = store.resources.walks(true).await.unwrap().into_iter().next()?;
    let found = store.resources.walk(&walk, count).await.unwrap();
    let indexed = found.iter().filter(|(_, stored)| stored.body.is_some()).map(|(_, stored)| {
        let (id, version) = (stored.id.clone(), stored.version);
        Indexed { id, version, index: vec![row("code", "new")] }
    });
    Some(Step {
        resource_type: "Patient".into(),
        wanted: walk.wanted.clone(),
        from: walk.position,
        to: found.last().map(|(row, _)| *row),
        done: i64::try_from(found.len()).unwrap(),
        resources: indexed.collect(),
    })
}

async fn take(store: &Store, step: Step) -> Result<(), Error> {
    store.resources.commit(Commit { step: Some(Box::new(step)), ..Commit::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_walk_goes_on_where_it_stood_and_leaves_newer_versions_alone() {
    for database in fresh() {
        let mut store = open(&database.url).await;
        let ids: Vec<String> = (0..7).map(|number| format!("p{number}")).collect();
        for id in &ids {
            store
                .resources
                .commit(commit([change("Patient", id, 1, &[("code", "old")])]))
                .await
                .unwrap();
        }
        let other =
            [change("Observation", "o", 1, &[("code", "old")]), deletion("Patient", "p6", 2)];
        store.resources.commit(commit(other)).await.unwrap();
        begin(&store, "", "code 2\n").await;
        let mut steps = 0;
        while let Some(next) = step(&store, 2).await {
            if steps == 1 {
                // Somebody writes what the step has looked at already.
                let newer = Change {
                    expected: Some(1),
                    ..change("Patient", "p2", 2, &[("code", "newer")])
                };
                store.resources.commit(commit([newer])).await.unwrap();
            }
            take(&store, next.clone()).await.unwrap();
            assert!(matches!(take(&store, next).await, Err(Error::Outdated)));
            steps += 1;
            // Whatever ends here goes on.
            store.close().await;
            store = open(&database.url).await;
            let walk = &store.resources.walks(false).await.unwrap()[0];
            assert_eq!((walk.total, walk.done), (7, (steps * 2).min(7)));
        }
        // Four steps with resources, one that says that there are no more.
        assert_eq!(steps, 5);
        assert_eq!(found(&store, "code", "new").await, ["p0", "p1", "p3", "p4", "p5"]);
        assert_eq!(found(&store, "code", "newer").await, ["p2"]);
        assert!(found(&store, "code", "old").await.is_empty());
        let walk = &store.resources.walks(false).await.unwrap()[0];
        assert_eq!((&*walk.indexed, &*walk.wanted), ("code 2\n", "code 2\n"));
        // Bodies and versions are as they were.
        let read = store.resources.read("Patient", "p0").await.unwrap().unwrap();
        assert_eq!((read.version, read.body.is_some()), (1, true));
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_what_is_wanted_begins_again() {
    on_each(async |store: &Store| {
        begin(store, "", "code 1\n").await;
        assert!(step(store, 2).await.is_none(), "there is nothing to index");
        for id in ["a", "b", "c"] {
            store.resources.commit(commit([change("Patient", id, 1, &[])])).await.unwrap();
        }
        begin(store, "", "code 2\n").await;
        let stale = step(store, 2).await.unwrap();
        take(store, stale.clone()).await.unwrap();
        // The same once more changes nothing, another one does.
        begin(store, "", "code 2\n").await;
        assert_eq!(store.resources.walks(true).await.unwrap()[0].done, 2);
        begin(store, "", "code 3\n").await;
        assert_eq!(store.resources.walks(true).await.unwrap()[0].done, 0);
        assert!(matches!(take(store, stale).await, Err(Error::Outdated)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_older_definitions_cannot_write() {
    on_each(async |store: &Store| {
        let resources = &store.resources;
        assert_eq!(resources.definitions().await.unwrap(), 0);
        let write = |id: &str, definitions: i64, redefines: bool| {
            let commit = commit([change("Patient", id, 1, &[])]);
            resources.commit(Commit { definitions: Some(definitions), redefines, ..commit })
        };
        write("a", 0, true).await.unwrap();
        assert_eq!(resources.definitions().await.unwrap(), 1);
        assert!(matches!(write("b", 0, false).await, Err(Error::Outdated)));
        write("b", 1, false).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_by_what_is_not_indexed_is_refused() {
    on_each(async |store: &Store| {
        store
            .resources
            .commit(commit([change("Patient", "a", 1, &[("code", "x")])]))
            .await
            .unwrap();
        let codes = BTreeSet::from(["code".to_owned()]);
        store.resources.set_unindexed(HashMap::from([("Patient".to_owned(), codes)]));
        let refused = async |query: Query| {
            let result = store.resources.search(&query).await;
            matches!(result, Err(Error::NotIndexed { code, .. }) if code == "code")
        };
        assert!(refused(by("code", "x")).await);
        assert!(refused(by("code:text", "x")).await);
        let chained = Condition::ReferredBy(
            "Patient".into(),
            "code".into(),
            Box::new(Condition::All(vec![])),
        );
        let of =
            Query { resource_type: "Observation".into(), condition: chained, ..by("name", "x") };
        assert!(refused(of).await);
        let direction = lumbar_fhir::search::Direction::Ascending;
        assert!(
            refused(Query { sort: vec![Sort::Key("code".into(), direction)], ..by("name", "x") })
                .await
        );
        assert!(found(store, "name", "x").await.is_empty());
        store.resources.set_unindexed(HashMap::new());
        assert_eq!(found(store, "code", "x").await, ["a"]);
    })
    .await;
}
