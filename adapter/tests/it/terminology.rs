//! The terminology server of the configuration: up, refusing, silent and gone; and a large system.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use lumbar::config::Settings;
use lumbar_fhir::{Json, json};

use crate::app::{SECOND, TestApp, on_both, on_both_with, on_sqlite};

/// What the stand-in was asked: how often, and the last question.
#[derive(Default)]
struct Asked {
    count: AtomicUsize,
    last: std::sync::Mutex<String>,
}

/// A server that knows one value set, `http://far.test/vs`, and the code `back` of
/// `http://far.test/cs`; of the operation `$lookup` it answers nothing, ever.
async fn answer(State(asked): State<Arc<Asked>>, uri: Uri, body: String) -> (StatusCode, String) {
    asked.count.fetch_add(1, Ordering::SeqCst);
    *asked.last.lock().unwrap() = body.clone();
    let coding = json!({"system": "http://far.test/cs", "code": "back", "display": "Back"});
    let answer = match uri.path() {
        "/fhir/ValueSet/$expand" if body.contains("http://far.test/nobody") => {
            let issue =
                json!({"severity": "error", "code": "not-found", "diagnostics": "no such set"});
            let outcome = json!({"resourceType": "OperationOutcome", "issue": [(issue)]});
            return (StatusCode::NOT_FOUND, outcome.to_string());
        }
        "/fhir/ValueSet/$expand" => json!({
            "resourceType": "ValueSet", "status": "active",
            "expansion": {"timestamp": "2026-01-01T00:00:00Z", "total": 1, "contains": [(coding)]}
        }),
        "/fhir/CodeSystem/$lookup" => std::future::pending().await,
        _ => json!({
            "resourceType": "Parameters",
            "parameter": [{"name": "result", "valueBoolean": (body.contains("\"back\""))}]
        }),
    };
    (StatusCode::OK, answer.to_string())
}

/// Starts the stand-in and gives its base URL.
async fn server() -> (String, Arc<Asked>) {
    let asked = Arc::new(Asked::default());
    let router = Router::new().fallback(answer).with_state(asked.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/fhir", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (base, asked)
}

fn asking(base: &str, millis: u64) -> impl Fn(&mut Settings) + use<> {
    let base = base.to_owned();
    move |settings| {
        settings.terminology = Some(base.clone());
        settings.terminology_timeout = Duration::from_millis(millis);
    }
}

#[tokio::test]
async fn what_is_not_known_here_is_asked_for_and_kept() {
    let (base, asked) = server().await;
    on_both_with(asking(&base, 60_000), async |app: &TestApp| {
        asked.count.store(0, Ordering::SeqCst);
        // A value set that only the server knows.
        for _ in 0..3 {
            let set = app.get("ValueSet/$expand?url=http://far.test/vs&filter=ba").await.is(200);
            let item = set.json();
            assert_eq!(item.str_at(&["expansion", "contains", "code"]), Some("back"));
        }
        assert_eq!(asked.count.load(Ordering::SeqCst), 1, "the answer was kept");
        app.source.advance(3601 * SECOND);
        app.get("ValueSet/$expand?url=http://far.test/vs&filter=ba").await.is(200);
        assert_eq!(asked.count.load(Ordering::SeqCst), 2, "an hour later it is asked again");

        // A value set of ours over a system that only the server knows.
        app.put(&json!({
            "resourceType": "ValueSet", "id": "far", "url": "http://near.test/vs", "status": "active",
            "compose": {"include": [
                {"system": "http://far.test/cs"},
                {"system": "http://hl7.org/fhir/administrative-gender", "concept": [{"code": "male"}]}
            ]}
        }))
        .await
        .is(201);
        let set = app.get("ValueSet/far/$expand").await.is(200).json();
        assert_eq!(set.get("expansion").unwrap().list("contains").len(), 2, "{set}");
        let result = |reply: &Json| reply.list("parameter")[0].get("valueBoolean").cloned();
        for (code, expected) in [("back", true), ("leg", false)] {
            let query = format!("ValueSet/far/$validate-code?system=http://far.test/cs&code={code}&display=Mrs+Jones");
            let reply = app.get(&query).await.is(200).json();
            assert_eq!(result(&reply), Some(Json::Bool(expected)), "{code}: {reply}");
            assert!(!asked.last.lock().unwrap().contains("Jones"), "only codes go out");
        }
        let query = "ValueSet/$validate-code?url=http://far.test/vs&system=http://far.test/cs&code=back&display=Mrs+Jones";
        app.get(query).await.is(200);
        assert!(!asked.last.lock().unwrap().contains("Jones"), "only codes go out");

        // It is known here, so nobody is asked.
        let before = asked.count.load(Ordering::SeqCst);
        app.get("CodeSystem/$lookup?system=http://hl7.org/fhir/administrative-gender&code=male")
            .await
            .is(200);
        assert_eq!(asked.count.load(Ordering::SeqCst), before);

        let refused = app.get("ValueSet/$expand?url=http://far.test/nobody").await.is(404).json();
        let told = refused.str_at(&["issue", "diagnostics"]).unwrap();
        assert!(told.contains("no such set"), "{told}");
    })
    .await;
}

#[tokio::test]
async fn a_silent_server_is_left_alone() {
    let (base, asked) = server().await;
    on_sqlite(&asking(&base, 100), &async |app: &TestApp| {
        let unknown = "CodeSystem/$lookup?system=http://far.test/cs&code=";
        let reply = app.get(&format!("{unknown}a")).await.is(503);
        assert_eq!(reply.header("retry-after"), Some("10"));
        let outcome = reply.json();
        assert_eq!(outcome.str_at(&["issue", "code"]), Some("transient"));
        let told = outcome.str_at(&["issue", "diagnostics"]).unwrap();
        assert!(told.contains("did not answer in time"), "{told}");
        assert_eq!(asked.count.load(Ordering::SeqCst), 1);
        // For some seconds nobody waits for it again, whatever is asked.
        app.get(&format!("{unknown}b")).await.is(503);
        app.get("ValueSet/$expand?url=http://far.test/vs").await.is(503);
        assert_eq!(asked.count.load(Ordering::SeqCst), 1);
        app.source.advance(11 * SECOND);
        app.get("ValueSet/$expand?url=http://far.test/vs").await.is(200);
        assert_eq!(asked.count.load(Ordering::SeqCst), 2);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_gone_blocks_nothing() {
    // The port was free a moment ago; nobody listens there.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/fhir", listener.local_addr().unwrap());
    drop(listener);
    on_both_with(asking(&base, 2000), async |app: &TestApp| {
        let reply = app.get("ValueSet/$expand?url=http://far.test/vs").await.is(503).json();
        let told = reply.str_at(&["issue", "diagnostics"]).unwrap();
        assert!(told.contains("cannot be reached"), "{told}");
        // What is known here is answered, and care goes on.
        app.get("ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/administrative-gender")
            .await
            .is(200);
        let observation = json!({
            "resourceType": "Observation", "id": "o1", "status": "final",
            "code": {"coding": [{"system": "http://far.test/cs", "code": "back"}]}
        });
        app.put(&observation).await.is(201);
        app.get("Observation?code=http://far.test/cs|back").await.is(200);
    })
    .await;
}

#[tokio::test]
async fn a_large_code_system_is_expanded_by_pages() {
    on_both(async |app: &TestApp| {
        let concept = |index: u32| json!({"code": (format!("c{index}")), "display": (format!("Concept {index}"))});
        let concepts: Vec<Json> = (0..100_000).map(concept).collect();
        app.put(&json!({
            "resourceType": "CodeSystem", "id": "large", "url": "http://large.test/cs", "status": "active",
            "content": "complete", "concept": (concepts)
        }))
        .await
        .is(201);
        app.put(&json!({
            "resourceType": "ValueSet", "id": "large", "url": "http://large.test/vs", "status": "active",
            "compose": {"include": [{"system": "http://large.test/cs"}]}
        }))
        .await
        .is(201);
        let refused = app.get("ValueSet/large/$expand").await.is(422).json();
        assert_eq!(refused.str_at(&["issue", "code"]), Some("too-costly"));
        let told = refused.str_at(&["issue", "diagnostics"]).unwrap();
        assert!(told.contains("100000 codes") && told.contains("count=10000"), "{told}");
        let page = app.get("ValueSet/large/$expand?count=2&offset=99998").await.is(200).json();
        assert_eq!(page.at(&["expansion", "total"]).and_then(Json::as_i64), Some(100_000));
        assert_eq!(page.str_at(&["expansion", "contains", "code"]), Some("c99998"));
        let found = app.get("ValueSet/large/$expand?filter=concept+77777").await.is(200).json();
        assert_eq!(found.get("expansion").unwrap().list("contains").len(), 1);
    })
    .await;
}
