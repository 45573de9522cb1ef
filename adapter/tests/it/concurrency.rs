//! Several clients at once: each answer is true of some order in which they came.

use futures_util::future::join_all;
use lumbar_fhir::{Json, json};

use lumbar::config::{DeleteReferenced, References};

use crate::app::{Reply, TestApp, fixture, on_both, on_both_with};

/// How many clients.
const CLIENTS: usize = 8;

fn statuses(replies: &[Reply]) -> Vec<u16> {
    let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    statuses
}

#[tokio::test]
async fn a_conditional_create_happens_once() {
    on_both(async |app: &TestApp| {
        let body = r#"{"resourceType":"Patient","identifier":[{"system":"http://lumbar.test/id","value":"a"}]}"#;
        let condition = [("if-none-exist", "identifier=http://lumbar.test/id|a")];
        let calls = (0..CLIENTS).map(|_| app.call("POST", "/fhir/Patient", &condition, body));
        let replies = join_all(calls).await;
        let mut expected = vec![200; CLIENTS - 1];
        expected.push(201);
        assert_eq!(statuses(&replies), expected, "on {}", app.database);
        assert_eq!(app.count("Patient").await, 1);
    })
    .await;
}

/// Alone, in a transaction, or as an update: one creates, the others find it.
#[tokio::test]
async fn conditional_writes_of_one_thing_create_it_once() {
    on_both(async |app: &TestApp| {
        let patient = |client: usize| {
            json!({"resourceType": "Patient", "multipleBirthInteger": (client),
                "identifier": [{"system": "http://lumbar.test/id", "value": "a"}]})
        };
        let search = "Patient?identifier=http://lumbar.test/id|a";
        let calls = (0..CLIENTS).map(|client| async move {
            let bundle = |request: Json| {
                json!({"resourceType": "Bundle", "type": "transaction", "entry": [
                    {"request": (request), "resource": (patient(client))}
                ]})
            };
            match client % 3 {
                0 => {
                    let path = format!("/fhir/{search}");
                    app.call("PUT", &path, &[], patient(client).to_string()).await
                }
                1 => app.post("", &bundle(json!({"method": "PUT", "url": (search)}))).await,
                _ => {
                    let request = json!({"method": "POST", "url": "Patient",
                        "ifNoneExist": "identifier=http://lumbar.test/id|a"});
                    app.post("", &bundle(request)).await
                }
            }
        });
        let replies = join_all(calls).await;
        let statuses = statuses(&replies);
        // A client that meets another one too often hears of it, and nothing of its own is stored.
        assert!(statuses.iter().all(|status| [200, 201, 409].contains(status)), "{statuses:?}");
        assert!(statuses.iter().any(|status| *status != 409), "{statuses:?}");
        assert_eq!(app.count("Patient").await, 1, "on {}", app.database);
    })
    .await;
}

/// Whoever comes first, no reference leads to a resource that is deleted.
#[tokio::test]
async fn a_deletion_and_a_reference_at_once_leave_no_broken_reference() {
    let change = |settings: &mut lumbar::config::Settings| {
        settings.policy.references = References::Check;
        settings.policy.delete_referenced = DeleteReferenced::Refuse;
    };
    on_both_with(change, async |app: &TestApp| {
        for round in 0..CLIENTS {
            let id = format!("p{round}");
            app.put(&json!({"resourceType": "Patient", "id": (id.as_str())})).await.is(201);
            let observation = json!({"resourceType": "Observation", "status": "final",
                "code": {"text": "x"}, "subject": {"reference": (format!("Patient/{id}"))}});
            let path = format!("/fhir/Patient/{id}");
            let (written, deleted) = tokio::join!(
                app.post("Observation", &observation),
                app.call("DELETE", &path, &[], "")
            );
            let pair = (written.status, deleted.status);
            assert!(matches!(pair, (201, 409) | (422, 204)), "{pair:?} on {}", app.database);
        }
    })
    .await;
}

#[tokio::test]
async fn of_updates_of_one_version_one_is_done() {
    on_both(async |app: &TestApp| {
        app.call("PUT", "/fhir/Patient/p1", &[], r#"{"resourceType":"Patient","id":"p1"}"#)
            .await
            .is(201);
        let calls = (0..CLIENTS).map(|client| {
            let body = format!(
                r#"{{"resourceType":"Patient","id":"p1","multipleBirthInteger":{client}}}"#
            );
            app.call("PUT", "/fhir/Patient/p1", &[("if-match", "W/\"1\"")], body)
        });
        let replies = join_all(calls).await;
        let done = replies.iter().filter(|reply| reply.status == 200).count();
        assert_eq!(done, 1, "on {}: {:?}", app.database, statuses(&replies));
        assert!(replies.iter().all(|reply| matches!(reply.status, 200 | 412 | 409)));
        let history = app.get("Patient/p1/_history?_count=0").await.json();
        assert_eq!(history.get("total").and_then(Json::as_i64), Some(2));
    })
    .await;
}

/// Deletes and updates of the same resource give versions without a gap, each once.
#[tokio::test]
async fn versions_have_no_gap() {
    on_both(async |app: &TestApp| {
        let calls = (0..3 * CLIENTS).map(|client| {
            let body = format!(
                r#"{{"resourceType":"Patient","id":"p1","multipleBirthInteger":{client}}}"#
            );
            async move {
                if client % 3 == 2 {
                    app.call("DELETE", "/fhir/Patient/p1", &[], "").await
                } else {
                    app.call("PUT", "/fhir/Patient/p1", &[], body).await
                }
            }
        });
        let replies = join_all(calls).await;
        assert!(
            replies.iter().all(|reply| matches!(reply.status, 200 | 201 | 204 | 409)),
            "{:?}",
            statuses(&replies)
        );
        let history = app.get("Patient/p1/_history?_count=1000").await.json();
        let tags: Vec<_> = history
            .list("entry")
            .iter()
            .map(|e| e.str_at(&["response", "etag"]).unwrap().to_owned())
            .collect();
        let expected: Vec<_> =
            (1..=tags.len()).rev().map(|version| format!("W/\"{version}\"")).collect();
        assert_eq!(tags, expected, "on {}", app.database);
    })
    .await;
}

/// The same bundle from several at once: the resources are there once, scored and matched once.
#[tokio::test]
async fn the_same_bundle_from_several_at_once_is_stored_once() {
    on_both(async |app: &TestApp| {
        let case = fixture("pathways/keele-stratified/high.json");
        let referral = &case.get("found").unwrap().list("requests")[0];
        let response = case.get("response").unwrap();
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
            {"request": {"method": "PUT", "url": "ServiceRequest/s1"}, "resource": (referral)},
            {"request": {"method": "PUT", "url": "QuestionnaireResponse/r1"}, "resource": (response)}
        ]});
        let replies = join_all((0..CLIENTS).map(|_| app.post("", &bundle))).await;
        assert!(replies.iter().all(|reply| matches!(reply.status, 200 | 409)), "{:?}", statuses(&replies));
        assert!(replies.iter().any(|reply| reply.status == 200));
        for (of, count) in [("ServiceRequest", 2), ("QuestionnaireResponse", 1), ("Observation", 3)] {
            let found = app.search(of).await;
            assert_eq!(found.len(), count, "{of} on {}", app.database);
            for resource in found {
                assert_eq!(resource.str_at(&["meta", "versionId"]), Some("1"), "{of} was written twice");
            }
        }
    })
    .await;
}
