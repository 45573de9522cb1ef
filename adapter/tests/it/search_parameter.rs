//! A site's own search parameters: indexing anew, restarts, several processes on one database.

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::{Json, json};

use crate::app::{Reply, TestApp, on_both};

/// Resources of one step of these tests.
const STEP: usize = 3;

fn parameter(code: &str, kind: &str, expression: &str) -> Json {
    json!({
        "resourceType": "SearchParameter", "id": (format!("own-{code}")),
        "url": (format!("http://lumbar.test/fhir/SearchParameter/own-{code}")),
        "name": "Own", "status": "active", "description": "d", "code": (code),
        "base": ["Observation"], "type": (kind), "expression": (expression)
    })
}

fn observation(number: usize, note: &str) -> Json {
    json!({
        "resourceType": "Observation", "id": (format!("o{number}")), "status": "final",
        "code": {"text": "x", "coding": [{"code": "c"}]},
        "category": [{"coding": [{"code": "k"}]}], "note": [{"text": (note)}]
    })
}

async fn ids(app: &TestApp, query: &str) -> Vec<String> {
    let found = app.search(query).await;
    let mut ids: Vec<String> =
        found.iter().map(|found| found.str_at(&["id"]).unwrap().to_owned()).collect();
    ids.sort_unstable();
    ids
}

/// Indexes to the end; gives the number of steps.
async fn index(app: &TestApp) -> usize {
    for step in 0..100 {
        if !app.app.facade.reindex(STEP).await.unwrap() {
            return step;
        }
    }
    panic!("indexing does not end");
}

/// How many resources have been gone through, and of how many; `None` when nothing is to be done.
async fn progress(app: &TestApp) -> Option<(i64, i64)> {
    let answer = app.get("$reindex").await.is(200).json();
    let part = |name: &str| {
        let parts = answer.list("parameter").get(1)?.list("part");
        let part = parts.iter().find(|part| part.str_at(&["name"]) == Some(name))?;
        part.get("valueInteger")?.as_i64()
    };
    Some((part("done")?, part("of")?))
}

#[tokio::test]
async fn indexing_anew_goes_on_after_a_restart() {
    on_both(async |app: &TestApp| {
        for number in 0..7 {
            app.put(&observation(number, "first")).await.is(201);
        }
        app.put(&parameter("note", "string", "Observation.note.text")).await.is(201);
        assert_eq!(progress(app).await, Some((0, 7)));

        let second = app.with(Definitions::r4()).await;
        assert!(second.app.facade.reindex(STEP).await.unwrap());
        drop(second);

        let third = app.with(Definitions::r4()).await;
        third.app.facade.begin().await.unwrap();
        assert_eq!(progress(&third).await, Some((3, 7)));
        let refused: Reply = third.get("Observation?note=first").await.is(503);
        assert!(refused.text.contains("$reindex"), "{refused:?}");
        let statement = third.get("metadata").await.is(200).text;
        assert!(statement.contains("http://lumbar.test/fhir/SearchParameter/own-note"));
        // What is written meanwhile is indexed by it already, before and behind the walk.
        for number in [1, 5] {
            third.put(&observation(number, "second")).await.is(200);
        }
        third.put(&observation(7, "second")).await.is(201);
        // Two steps with resources and one that finds no more.
        assert_eq!(index(&third).await, 3);
        assert_eq!(progress(&third).await, None);
        assert_eq!(ids(&third, "Observation?note=first").await, ["o0", "o2", "o3", "o4", "o6"]);
        assert_eq!(ids(&third, "Observation?note=second").await, ["o1", "o5", "o7"]);
        // The one that was there all the time hears of it when it looks.
        app.get("Observation?note=second").await.is(503);
        assert_eq!(index(app).await, 0);
        assert_eq!(ids(app, "Observation?note=second").await, ["o1", "o5", "o7"]);
        third.close().await;

        // Another restart has nothing to do.
        let fourth = app.with(Definitions::r4()).await;
        assert_eq!(index(&fourth).await, 0);
        assert_eq!(ids(&fourth, "Observation?note=second").await.len(), 3);
        fourth.close().await;
    })
    .await;
}

#[tokio::test]
async fn all_processes_come_to_the_same_view() {
    on_both(async |app: &TestApp| {
        let other = app.with(Definitions::r4()).await;
        other.app.facade.begin().await.unwrap();
        app.put(&parameter("note", "string", "Observation.note.text")).await.is(201);
        // A write follows the new definitions at once, …
        other.put(&observation(1, "there")).await.is(201);
        assert_eq!(ids(app, "Observation?note=there").await, ["o1"]);
        assert_eq!(ids(&other, "Observation?note=there").await, ["o1"]);
        // … and who only reads does when it looks.
        app.call("DELETE", "/fhir/SearchParameter/own-note", &[], "").await.is(204);
        let strict = [("Prefer", "handling=strict")];
        other.call("GET", "/fhir/Observation?note=there", &strict, "").await.is(200);
        index(&other).await;
        other.call("GET", "/fhir/Observation?note=there", &strict, "").await.is(400);
        other.close().await;
    })
    .await;
}

#[tokio::test]
async fn one_of_the_standards_can_be_replaced_and_returns() {
    on_both(async |app: &TestApp| {
        app.put(&observation(1, "x")).await.is(201);
        assert_eq!(ids(app, "Observation?code=c").await, ["o1"]);
        app.put(&parameter("code", "token", "Observation.category")).await.is(201);
        app.get("Observation?code=k").await.is(503);
        index(app).await;
        assert_eq!(ids(app, "Observation?code=k").await, ["o1"]);
        assert!(ids(app, "Observation?code=c").await.is_empty());
        app.call("DELETE", "/fhir/SearchParameter/own-code", &[], "").await.is(204);
        app.get("Observation?code=c").await.is(503);
        index(app).await;
        assert_eq!(ids(app, "Observation?code=c").await, ["o1"]);
        assert!(ids(app, "Observation?code=k").await.is_empty());
    })
    .await;
}

/// Contained resources are indexed by the standard's parameters, with what contains them.
#[tokio::test]
async fn what_is_contained_is_indexed_anew_where_the_standard_changes() {
    on_both(async |app: &TestApp| {
        app.put(&json!({
            "resourceType": "Condition", "id": "c1", "code": {"text": "pain"},
            "contained": [
                {"resourceType": "Patient", "id": "p", "name": [{"family": "Quill"}]},
                {"resourceType": "Observation", "id": "o", "status": "final", "code": {"coding": [{"code": "c"}]}}
            ],
            "subject": {"reference": "#p"}, "evidence": [{"detail": [{"reference": "#o"}]}]
        }))
        .await
        .is(201);
        let searches = [
            ("Patient?family=quill&_contained=true", "c1"),
            ("Patient?family=quill&_contained=true&_containedType=contained", "p"),
            ("Condition?patient.family=quill", "c1"),
            ("Condition?evidence-detail:Observation.code=c", "c1"),
        ];
        let found = async || {
            for (search, id) in searches {
                assert_eq!(ids(app, search).await, [id], "{search}");
            }
        };
        found().await;
        // One that is no other's place leaves them alone.
        app.put(&parameter("note", "string", "Observation.note.text")).await.is(201);
        found().await;
        app.put(&parameter("code", "token", "Observation.category")).await.is(201);
        // The last one is by the site's parameter now, which is not indexed in them.
        assert!(ids(app, searches[3].0).await.is_empty());
        for (search, _) in &searches[..3] {
            let answer = app.get(search).await.is(503).json();
            let issue = &answer.list("issue")[0];
            assert_eq!(issue.str_at(&["code"]), Some("transient"), "{search}: {answer}");
        }
        assert_eq!(ids(app, "Condition?_id=c1").await, ["c1"]);
        index(app).await;
        app.call("DELETE", "/fhir/SearchParameter/own-code", &[], "").await.is(204);
        for (search, _) in searches {
            app.get(search).await.is(503);
        }
        index(app).await;
        found().await;
    })
    .await;
}

/// What a service is started with (`--profiles`) finds what was stored before, too.
#[tokio::test]
async fn other_definitions_at_the_start_index_what_is_there() {
    on_both(async |app: &TestApp| {
        app.put(&observation(1, "x")).await.is(201);
        let mut definitions = Definitions::r4();
        assert_eq!(definitions.add(&parameter("note", "string", "Observation.note.text")), []);
        let other = app.with(definitions).await;
        other.app.facade.begin().await.unwrap();
        other.get("Observation?note=x").await.is(503);
        assert_eq!(ids(&other, "Observation?code=c").await, ["o1"]);
        index(&other).await;
        assert_eq!(ids(&other, "Observation?note=x").await, ["o1"]);
        other.close().await;
    })
    .await;
}
