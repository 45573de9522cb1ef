//! Who refers to a resource, and commits that nothing may refer to.

use lumbar_store::{Commit, Error, Store, Unreferred};

use crate::{change, commit, deletion, on_each};

fn named(of: &str, id: &str) -> (String, String) {
    (of.to_owned(), id.to_owned())
}

async fn referrers(store: &Store, reference: &str, count: usize) -> Vec<(String, String)> {
    let mut found = store.resources.referrers(reference, count).await.unwrap();
    found.sort();
    found
}

#[tokio::test]
async fn referrers_are_the_current_ones_of_all_types() {
    on_each(async |store| {
        let resources = &store.resources;
        assert_eq!(referrers(store, "Patient/p1", 9).await, []);
        let both = [("subject", "Patient/p1"), ("performer", "Patient/p1")];
        resources
            .commit(commit([
                change("Patient", "p1", 1, &[]),
                change("Observation", "o1", 1, &both),
                change("Observation", "o2", 1, &[("subject", "Patient/p11")]),
                change("Condition", "c1", 1, &[("subject", "Patient/p1")]),
            ]))
            .await
            .unwrap();
        let all = [named("Condition", "c1"), named("Observation", "o1")];
        assert_eq!(referrers(store, "Patient/p1", 9).await, all);
        assert_eq!(referrers(store, "Patient/p1", 1).await.len(), 1);
        let changes = [deletion("Condition", "c1", 2), change("Observation", "o1", 2, &[])];
        resources.commit(commit(changes)).await.unwrap();
        assert_eq!(referrers(store, "Patient/p1", 9).await, []);
    })
    .await;
}

#[tokio::test]
async fn what_is_referred_to_cannot_be_deleted_as_unreferred() {
    on_each(async |store| {
        let resources = &store.resources;
        let refers = [("subject", "Patient/p1")];
        resources
            .commit(commit([
                change("Patient", "p1", 1, &[]),
                change("Observation", "o1", 1, &refers),
            ]))
            .await
            .unwrap();
        let unreferred = |except: &[(String, String)]| {
            vec![Unreferred { reference: "Patient/p1".to_owned(), except: except.to_vec() }]
        };
        let delete = |except: &[(String, String)], changes: Vec<_>| Commit {
            unreferred: unreferred(except),
            ..commit(changes)
        };
        let refused = resources.commit(delete(&[], vec![deletion("Patient", "p1", 2)])).await;
        assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
        let both = vec![deletion("Patient", "p1", 2), deletion("Observation", "o1", 2)];
        resources.commit(delete(&[named("Observation", "o1")], both)).await.unwrap();
    })
    .await;
}

/// A reference that arrives in the same transaction of the writer is seen.
#[tokio::test]
async fn a_deletion_and_a_new_reference_at_once_do_not_both_happen_unseen() {
    on_each(async |store| {
        let resources = &store.resources;
        for round in 0..8 {
            let id = format!("p{round}");
            let reference = format!("Patient/{id}");
            resources.commit(commit([change("Patient", &id, 1, &[])])).await.unwrap();
            let refers = commit([change("Observation", &id, 1, &[("subject", &reference)])]);
            let unreferred = vec![Unreferred { reference: reference.clone(), except: Vec::new() }];
            let delete = Commit { unreferred, ..commit([deletion("Patient", &id, 2)]) };
            let (written, deleted) =
                tokio::join!(resources.commit(refers), resources.commit(delete));
            written.unwrap();
            // Deleted before the reference came, or not at all.
            let stored = resources.read("Patient", &id).await.unwrap().unwrap();
            assert_eq!(deleted.is_ok(), stored.body.is_none());
        }
    })
    .await;
}
