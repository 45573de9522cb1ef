//! What is extracted can be stored, and stored again; stored responses are scored anew.

use lumbar::facade::rescore::Rescored;
use lumbar::rules::Rules;
use lumbar::security::Caller;
use lumbar_clinical::{Instrument, OptionSets};
use lumbar_fhir::{Json, json};
use lumbar_testkit::{cases, fixtures, root};

use crate::app::{TestApp, fixture, on_both, read_json, reference};

/// Every case of `fixtures/extraction` as a transaction.
#[tokio::test]
async fn what_is_extracted_is_stored_and_changes_nothing_again() {
    on_both(async |app: &TestApp| {
        let mut count = 0;
        for mechanism in ["definition", "observation", "template"] {
            for case in cases(&fixtures().join("extraction").join(mechanism)) {
                let given = read_json(&case.path("json"));
                for profile in given.list("profiles") {
                    app.put(profile).await.is(201);
                }
                let parameters = json!({"resourceType": "Parameters", "parameter": [
                    {"name": "questionnaire-response", "resource": (given.get("response").unwrap())},
                    {"name": "questionnaire", "resource": (given.get("questionnaire").unwrap())}
                ]});
                let expected = read_json(&case.path("expected.json"));
                let extract = async || {
                    let path = "QuestionnaireResponse/$extract";
                    let answer = app.post(path, &parameters).await.is(200).json();
                    match answer.str_at(&["resourceType"]) {
                        Some("Parameters") => {
                            let mut parts = answer.list("parameter").iter();
                            let found = parts.find(|p| p.str_at(&["name"]) == Some("return"));
                            found.unwrap().get("resource").unwrap().clone()
                        }
                        _ => answer,
                    }
                };
                let mut bundle = extract().await;
                let name = format!("{mechanism}/{}", case.name());
                let entries = bundle.list("entry").len();
                assert_eq!(entries, expected.list("entry").len(), "{name}: {bundle}");
                assert_eq!(extract().await, bundle, "{name} is not the same again");
                if entries == 0 {
                    continue;
                }
                count += entries;
                // What the cases would change is not there.
                if let Some(Json::Array(entries)) = bundle.get_mut("entry") {
                    for entry in entries {
                        let request = entry.get_mut("request").and_then(Json::as_object_mut);
                        request.unwrap().remove("ifMatch");
                    }
                }
                let first = app.post("", &bundle).await.is(200).json();
                let again = app.post("", &bundle).await.is(200).json();
                for (index, entry) in bundle.list("entry").iter().enumerate() {
                    let etag = |of: &Json| {
                        of.list("entry")[index].str_at(&["response", "etag"]).unwrap().to_owned()
                    };
                    if entry.str_at(&["request", "method"]) == Some("PUT") {
                        assert_eq!(etag(&first), etag(&again), "{name}: {entry}");
                    }
                }
            }
        }
        assert!(count > 20, "{count}");
    })
    .await;
}

/// The rules of STarT Back as a next version that asks for more before the risk is high.
fn next_rules() -> Rules {
    let mut rules = Rules::embedded().unwrap_or_else(|issue| panic!("{issue:?}"));
    let folder = root().join("profiles/instruments");
    let options = OptionSets::parse(&read_json(&folder.join("options.json"))).unwrap();
    let text = read_json(&folder.join("start-back-9/instrument.json")).to_string();
    let changed = text.replace("\"version\":\"1.0.0\"", "\"version\":\"1.1.0\"").replace(
        r#"{"score":"psychosocial","atLeast":4}"#,
        r#"{"score":"psychosocial","atLeast":5}"#,
    );
    assert_ne!(text, changed);
    let next = Instrument::parse(&Json::parse(changed.as_bytes()).unwrap(), &options).unwrap();
    let place = rules.instruments.iter().position(|known| known.id == next.id).unwrap();
    rules.instruments[place] = next;
    rules
}

async fn rescore(app: &TestApp, is_dry: bool) -> Rescored {
    let instrument = Some("start-back-9");
    let page = app.app.facade.rescore(&Caller::System, instrument, is_dry, None).await.unwrap();
    assert_eq!(page.next, None);
    page
}

#[tokio::test]
async fn stored_responses_are_scored_anew_by_new_rules() {
    on_both(async |app: &TestApp| {
        let mut high = fixture("instruments/start-back-9/response-high.json");
        app.put(&high).await.is(201);
        high.set("id", "r2");
        app.put(&high).await.is(201);
        high.set("id", "draft");
        high.set("status", "in-progress");
        app.put(&high).await.is(201);
        // By the same rules nothing changes.
        let same = rescore(app, false).await;
        assert_eq!((same.responses, same.scored, same.changed.len()), (3, 2, 0));

        let next = app.with_rules(next_rules()).await;
        let dry = rescore(&next, true).await;
        assert_eq!((dry.scored, dry.changed.len()), (2, 2));
        let risk =
            "Observation?code=http://loinc.org|91352-5&derived-from=QuestionnaireResponse/r1";
        let before = app.search(risk).await.remove(0);
        assert_eq!(before.str_at(&["meta", "versionId"]), Some("1"), "nothing was written");

        let done = rescore(&next, false).await;
        let moves: Vec<_> = done.changed.iter().flat_map(|changed| changed.moves()).collect();
        let text = |text: &str| text.to_owned();
        let moved = (text("STarT Back risk"), text("high"), text("medium"));
        assert_eq!(moves, [moved.clone(), moved]);
        let after = app.get(&reference(&before)).await.is(200).json();
        assert_eq!(after.str_at(&["meta", "versionId"]), Some("2"));
        assert_eq!(after.str_at(&["valueCodeableConcept", "text"]), Some("medium"));
        assert_eq!(after.str_at(&["method", "coding", "version"]), Some("1.1.0"));
        let old = app.get(&format!("{}/_history/1", reference(&before))).await.is(200).json();
        assert_eq!(old, before, "the old version stays");
        let query = format!("Provenance?target={}", reference(&before));
        let told: Vec<String> = app
            .search(&query)
            .await
            .iter()
            .map(|provenance| {
                let rules = provenance.list("entity")[1].str_at(&["what", "identifier", "value"]);
                rules.unwrap().to_owned()
            })
            .collect();
        assert_eq!(told, ["start-back-9|1.0.0", "start-back-9|1.1.0"]);
        let line = done.changed[0].to_json();
        assert_eq!(line.list("changes").len(), 3, "{line}");

        // A second run, as after a run that was cut off, changes nothing.
        let again = rescore(&next, false).await;
        assert_eq!((again.scored, again.changed.len()), (2, 0));
        // An ordinary write follows the new rules, and finds them followed already.
        high.set("id", "r2");
        high.set("status", "completed");
        next.put(&high).await.is(200);
        assert_eq!(rescore(&next, false).await.changed.len(), 0);
        next.close().await;
    })
    .await;
}

/// A score that somebody changed by hand is put right, and one that was lost comes back.
#[tokio::test]
async fn scores_that_do_not_follow_are_put_right() {
    on_both(async |app: &TestApp| {
        app.put(&fixture("instruments/start-back-9/response-high.json")).await.is(201);
        let mut total = app.search("Observation?code=http://loinc.org|91351-7").await.remove(0);
        let mut value = total.get("valueQuantity").unwrap().clone();
        value.set("value", 0);
        total.set("valueQuantity", value);
        app.put(&total).await.is(200);
        let risk = app.search("Observation?code=http://loinc.org|91352-5").await.remove(0);
        app.call("DELETE", &format!("/fhir/{}", reference(&risk)), &[], "").await.is(204);
        let done = rescore(app, false).await;
        assert_eq!(done.changed.len(), 1);
        assert_eq!(done.changed[0].observations.len(), 2);
        let stored = app.get(&reference(&total)).await.is(200).json();
        let value = stored.at(&["valueQuantity", "value"]).and_then(Json::as_number);
        assert_eq!(value, Some("7"));
        app.get(&reference(&risk)).await.is(200);
        assert_eq!(rescore(app, false).await.changed.len(), 0);
    })
    .await;
}

/// More responses than a page holds.
#[tokio::test]
async fn all_pages_are_scored() {
    on_both(async |app: &TestApp| {
        let response = fixture("instruments/start-back-9/response-high.json");
        let all: Vec<Json> = (0..1_200)
            .map(|number| {
                let mut response = response.clone();
                response.set("id", format!("r{number}"));
                response
            })
            .collect();
        for part in all.chunks(300) {
            app.app.facade.put(&Caller::System, part, &[]).await.unwrap();
        }
        let facade = &app.app.facade;
        let first = facade.rescore(&Caller::System, None, true, None).await.unwrap();
        let next = first.next.clone();
        assert_eq!((first.responses, first.scored), (1_000, 1_000));
        assert!(next.is_some());
        let second = facade.rescore(&Caller::System, None, true, next).await.unwrap();
        assert_eq!((second.responses, second.next), (200, None));
        assert_eq!((first.changed.len(), second.changed.len()), (0, 0));
    })
    .await;
}
