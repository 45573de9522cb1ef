//! What is written is held against R4: `validation = enforce | report | off`.

use lumbar::config::Validation;
use lumbar_fhir::{Json, json};

use crate::app::{TestApp, on_both, on_both_with};

/// No status, a code that is none, an element that R4 does not have.
const INVALID: &str = r#"{"resourceType":"Patient","id":"p1","gender":"womanish","name":[{"familyname":"x"}],"contact":[{"gender":"male","period":{"start":"2026-13"}}]}"#;

fn expressions(outcome: &Json) -> Vec<String> {
    let issues = outcome.list("issue").iter();
    issues
        .flat_map(|issue| issue.list("expression"))
        .map(|e| e.as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn enforced_what_is_invalid_is_422_and_not_stored() {
    on_both(async |app: &TestApp| {
        for (method, path) in [("PUT", "/fhir/Patient/p1"), ("POST", "/fhir/Patient")] {
            let reply = app.call(method, path, &[], INVALID).await.is(422);
            let outcome = reply.json();
            assert_eq!(outcome.str_at(&["resourceType"]), Some("OperationOutcome"));
            let places = expressions(&outcome);
            for place in ["Patient.gender", "Patient.name[0]", "Patient.contact[0].period.start"] {
                assert!(
                    places.iter().any(|found| found.starts_with(place)),
                    "{place} is not in {places:?}"
                );
            }
            for issue in outcome.list("issue") {
                let text = issue.str_at(&["details", "text"]).unwrap();
                assert!(!text.contains("womanish"), "a value is repeated: {text}");
            }
        }
        assert_eq!(app.count("Patient").await, 0);
        // A version that is sound stays when the next one is not.
        app.call("PUT", "/fhir/Patient/p1", &[], r#"{"resourceType":"Patient","id":"p1"}"#)
            .await
            .is(201);
        app.call("PUT", "/fhir/Patient/p1", &[], INVALID).await.is(422);
        assert_eq!(app.get("Patient/p1").await.header("etag"), Some("W/\"1\""));
    })
    .await;
}

#[tokio::test]
async fn one_invalid_entry_and_a_transaction_stores_nothing() {
    on_both(async |app: &TestApp| {
        let invalid = Json::parse(INVALID.as_bytes()).unwrap();
        let bundle = |kind: &str| {
            json!({"resourceType": "Bundle", "type": (kind), "entry": [
                {"request": {"method": "POST", "url": "Basic"}, "resource": {"resourceType": "Basic", "code": {"text": "x"}}},
                {"request": {"method": "PUT", "url": "Patient/p1"}, "resource": (&invalid)}
            ]})
        };
        let outcome = app.post("", &bundle("transaction")).await.is(422).json();
        let places = expressions(&outcome);
        assert!(
            places.iter().any(|place| place.starts_with("Bundle.entry[1].resource")),
            "the entry is not named: {places:?}"
        );
        assert_eq!(app.count("Basic").await, 0);
        let answer = app.post("", &bundle("batch")).await.is(200).json();
        let status = |index: usize| answer.list("entry")[index].str_at(&["response", "status"]).unwrap().to_owned();
        assert!(status(0).starts_with("201") && status(1).starts_with("422"), "{answer}");
        assert_eq!((app.count("Basic").await, app.count("Patient").await), (1, 0));
    })
    .await;
}

#[tokio::test]
async fn reported_what_is_invalid_is_stored_and_said() {
    on_both_with(
        |settings| settings.policy.validation = Validation::Report,
        async |app: &TestApp| {
            let prefer = [("prefer", "return=OperationOutcome")];
            let outcome =
                app.call("PUT", "/fhir/Patient/p1", &prefer, INVALID).await.is(201).json();
            let severities: Vec<_> =
                outcome.list("issue").iter().filter_map(|i| i.str_at(&["severity"])).collect();
            assert!(severities.contains(&"warning") && !severities.contains(&"error"), "{outcome}");
            assert!(
                expressions(&outcome).iter().any(|place| place.starts_with("Patient.gender")),
                "{outcome}"
            );
            let stored = app.get("Patient/p1").await.is(200).json();
            assert_eq!(stored.str_at(&["gender"]), Some("womanish"), "what was sent is kept");
        },
    )
    .await;
}

#[tokio::test]
async fn off_nothing_is_held_against_r4() {
    on_both_with(
        |settings| settings.policy.validation = Validation::Off,
        async |app: &TestApp| {
            app.call("PUT", "/fhir/Patient/p1", &[], INVALID).await.is(201);
            // What cannot be read is refused all the same.
            app.call("PUT", "/fhir/Patient/p1", &[], "{").await.is(400);
            app.call("PUT", "/fhir/Patient/p1", &[], r#"{"resourceType":"Patient","id":"p2"}"#)
                .await
                .is(400);
        },
    )
    .await;
}
