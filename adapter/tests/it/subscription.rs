//! Subscribers are told of what matches, in order and at least once, whatever happens between.
//!
//! The endpoint is a real server on loopback that does as it is told.

mod endpoint;

use std::collections::HashSet;

use lumbar::config::{Options, Settings, SubscriptionPayload};
use lumbar::jobs;
use lumbar_fhir::{Json, json};
use lumbar_store::State as JobState;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::endpoint::Endpoint;
use crate::app::{BASE, SECOND, TestApp, on_both, on_both_with};
use crate::program::{Program, client, database, until};

/// A worker of a service.
struct Worker {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Worker {
    fn start(app: &TestApp) -> Worker {
        let (stop, stopped) = watch::channel(false);
        Worker { stop, task: tokio::spawn(jobs::run(app.app.clone(), stopped)) }
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
    }
}

/// Waits until there is nothing to do but what is held, or will be due at an end. Time passes.
async fn settled(app: &TestApp) {
    let mut quiet = 0;
    until("the end of all jobs", async || {
        let waiting = app.app.jobs.list(JobState::Waiting, 0, 1000).await.unwrap();
        let held: HashSet<&str> =
            waiting.iter().filter(|l| l.is_held()).map(|l| &*l.job.destination).collect();
        let open = waiting.iter().filter(|listed| {
            !held.contains(&*listed.job.destination) && listed.job.kind != "subscription-end"
        });
        let running = app.app.jobs.list(JobState::Running, 0, 1).await.unwrap();
        quiet = if open.count() == 0 && running.is_empty() { quiet + 1 } else { 0 };
        if quiet == 0 {
            app.source.advance(SECOND);
        }
        (quiet == 3).then_some(())
    })
    .await;
}

fn subscription(id: &str, criteria: &str, endpoint: &str) -> Json {
    json!({
        "resourceType": "Subscription",
        "id": (id),
        "status": "requested",
        "reason": "A test",
        "criteria": (criteria),
        "channel": {
            "type": "rest-hook",
            "endpoint": (endpoint),
            "payload": "application/fhir+json",
            "header": ["Authorization: Bearer secret-1"]
        }
    })
}

fn observation(id: &str, code: &str, status: &str) -> Json {
    json!({
        "resourceType": "Observation",
        "id": (id),
        "status": (status),
        "code": {"coding": [{"system": "http://example.org/codes", "code": (code)}]}
    })
}

/// Subscribes, and sees the subscription become active.
async fn subscribed(app: &TestApp, endpoint: &Endpoint, subscription: &Json) {
    app.put(subscription).await.is(201);
    settled(app).await;
    let id = subscription.str_at(&["id"]).unwrap();
    assert_eq!(status(app, id).await, ("active".to_owned(), String::new()));
    endpoint.take();
}

/// Status and error of a subscription.
async fn status(app: &TestApp, id: &str) -> (String, String) {
    let found = app.get(&format!("Subscription/{id}")).await.is(200).json();
    let text = |name| found.str_at(&[name]).unwrap_or_default().to_owned();
    (text("status"), text("error"))
}

/// A number that `$status` gives.
fn number(parameters: &Json, name: &str) -> i64 {
    let mut all = parameters.list("parameter").iter();
    let found = all.find(|parameter| parameter.str_at(&["name"]) == Some(name)).unwrap();
    found.get("valueUnsignedInt").and_then(Json::as_i64).unwrap()
}

/// The notifications that `$status` shows: resource, state, reason.
fn shown(parameters: &Json) -> Vec<(String, String, String)> {
    let all = parameters.list("parameter").iter();
    let shown = all.filter(|parameter| parameter.str_at(&["name"]) == Some("notification"));
    let part = |of: &Json, name: &str, path: &[&str]| {
        let found = of.list("part").iter().find(|part| part.str_at(&["name"]) == Some(name));
        found.and_then(|part| part.str_at(path)).unwrap_or_default().to_owned()
    };
    shown
        .map(|of| {
            (
                part(of, "resource", &["valueReference", "reference"]),
                part(of, "state", &["valueCode"]),
                part(of, "reason", &["valueString"]),
            )
        })
        .collect()
}

#[tokio::test]
async fn what_matches_is_sent_as_it_was_written() {
    on_both(async |app| {
        let endpoint = Endpoint::start().await;
        let worker = Worker::start(app);
        let url = format!("{}/fhir/", endpoint.address);
        app.put(&subscription(
            "s",
            "Observation?code=http://example.org/codes|91351-7&status=final",
            &url,
        ))
        .await
        .is(201);
        settled(app).await;
        let greeting = endpoint.take();
        assert_eq!(greeting.len(), 1, "{greeting:?}");
        assert_eq!((&*greeting[0].method, &*greeting[0].path), ("POST", "/fhir/"));
        assert_eq!((&*greeting[0].body, &*greeting[0].authorization), ("", "Bearer secret-1"));
        assert_eq!(status(app, "s").await.0, "active");

        // Out of the criteria, in, still in, out again, gone.
        app.put(&observation("o1", "91351-7", "preliminary")).await.is(201);
        let second = app.put(&observation("o1", "91351-7", "final")).await.is(200);
        let mut noted = observation("o1", "91351-7", "final");
        noted.set("note", json!([{"text": "seen"}]));
        let third = app.put(&noted).await.is(200);
        app.put(&observation("o1", "91351-7", "cancelled")).await.is(200);
        app.call("DELETE", "/fhir/Observation/o1", &[], "").await.is(204);
        app.put(&observation("o2", "other", "final")).await.is(201);
        // Members of a transaction are told of, too.
        let entry = |id: &str| {
            json!({
                "resource": (observation(id, "91351-7", "final")),
                "request": {"method": "PUT", "url": (format!("Observation/{id}"))}
            })
        };
        let bundle = json!({
            "resourceType": "Bundle", "type": "transaction", "entry": [(entry("o3")), (entry("o4"))]
        });
        app.call("POST", "/fhir", &[], bundle.to_string()).await.is(200);
        settled(app).await;
        let told = endpoint.take();
        let paths: Vec<_> = told.iter().map(|seen| (&*seen.method, &*seen.path)).collect();
        assert_eq!(
            paths,
            [
                ("PUT", "/fhir/Observation/o1"),
                ("PUT", "/fhir/Observation/o1"),
                ("PUT", "/fhir/Observation/o3"),
                ("PUT", "/fhir/Observation/o4"),
            ],
            "on {}",
            app.database
        );
        assert_eq!((&told[0].body, &told[1].body), (&second.text, &third.text));
        for seen in &told {
            assert_eq!(seen.content_type, "application/fhir+json");
            assert_eq!(seen.authorization, "Bearer secret-1");
        }
        assert_ne!(told[0].request_id, told[1].request_id);
        let stands = app.get("Subscription/s/$status").await.is(200).json();
        assert_eq!((number(&stands, "delivered"), number(&stands, "waiting")), (4, 0));
        worker.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_resource_is_sent_in_the_form_that_was_asked_for() {
    on_both(async |app: &TestApp| {
        let endpoint = Endpoint::start().await;
        let worker = Worker::start(app);
        let mut xml = subscription("xml", "Observation?status=final", &endpoint.address);
        xml.get_mut("channel").unwrap().set("payload", "application/fhir+xml");
        subscribed(app, &endpoint, &xml).await;
        app.put(&observation("o1", "91351-7", "final")).await.is(201);
        settled(app).await;
        let told = endpoint.take();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].content_type, "application/fhir+xml");
        let accept = [("accept", "application/fhir+xml")];
        let read = app.call("GET", "/fhir/Observation/o1", &accept, "").await.is(200);
        assert_eq!(told[0].body, read.text);
        worker.stop().await;
    })
    .await;
}

#[tokio::test]
async fn no_more_is_sent_than_is_wanted() {
    let id_only = |settings: &mut Settings| {
        settings.policy.subscriptions.payload = SubscriptionPayload::IdOnly;
    };
    on_both_with(id_only, async |app: &TestApp| {
        let endpoint = Endpoint::start().await;
        let worker = Worker::start(app);
        let id =
            subscription("id", "Observation?status=final", &format!("{}/id", endpoint.address));
        subscribed(app, &endpoint, &id).await;
        app.put(&observation("o1", "x", "final")).await.is(201);
        settled(app).await;
        let told = endpoint.take();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((&*told[0].method, &*told[0].path), ("POST", "/id"));
        assert_eq!(told[0].body, r#"{"resourceType":"Observation","id":"o1"}"#);

        let mut none = subscription("none", "Patient?", &format!("{}/n?x=1", endpoint.address));
        none.get_mut("channel").unwrap().as_object_mut().unwrap().remove("payload");
        subscribed(app, &endpoint, &none).await;
        app.put(&json!({"resourceType": "Patient", "id": "p", "active": true})).await.is(201);
        settled(app).await;
        let told = endpoint.take();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!((&*told[0].method, &*told[0].path, &*told[0].body), ("POST", "/n", ""));
        worker.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_failure_is_tried_again_before_the_next_is_sent() {
    on_both(async |app| {
        let endpoint = Endpoint::start().await;
        let worker = Worker::start(app);
        let s = subscription("s", "Observation", &endpoint.address);
        subscribed(app, &endpoint, &s).await;
        endpoint.answer(&[503, 404, 302]);
        for id in ["o1", "o2", "o3"] {
            app.put(&observation(id, "x", "final")).await.is(201);
        }
        settled(app).await;
        let told = endpoint.take();
        let paths: Vec<&str> = told.iter().map(|seen| &*seen.path).collect();
        let (o1, o2, o3) = ("/Observation/o1", "/Observation/o2", "/Observation/o3");
        assert_eq!(paths, [o1, o1, o1, o1, o2, o3], "on {}", app.database);
        let ids: HashSet<&str> = told[..4].iter().map(|seen| &*seen.request_id).collect();
        assert_eq!(ids.len(), 1, "a repetition can be told from a new notification");
        assert_eq!(status(app, "s").await.0, "active");
        worker.stop().await;
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_delivered_waits_and_is_replayed_in_order() {
    let three = |settings: &mut Settings| settings.policy.subscriptions.attempts = 3;
    on_both_with(three, async |app: &TestApp| {
        let (broken, sound) = (Endpoint::start().await, Endpoint::start().await);
        let worker = Worker::start(app);
        let s = subscription("s", "Observation", &broken.address);
        subscribed(app, &broken, &s).await;
        let other = subscription("other", "Observation", &sound.address);
        subscribed(app, &sound, &other).await;
        broken.refuse(&[("PUT", 500)]);
        for id in ["o1", "o2"] {
            app.put(&observation(id, "x", "final")).await.is(201);
        }
        settled(app).await;
        assert_eq!(broken.calls(), ["PUT /Observation/o1"; 3]);
        assert_eq!(sound.calls(), ["PUT /Observation/o1", "PUT /Observation/o2"]);
        let (is, error) = status(app, "s").await;
        assert_eq!(is, "error");
        assert!(error.contains("500") && error.contains("3 times"), "{error}");
        assert_eq!(status(app, "other").await.0, "active");
        // What matches meanwhile is not lost.
        app.put(&observation("o3", "x", "final")).await.is(201);
        settled(app).await;
        assert!(broken.take().is_empty(), "nothing is sent while the status is error");
        let stands = app.get("Subscription/s/$status").await.is(200).json();
        assert_eq!((number(&stands, "failed"), number(&stands, "waiting")), (3, 0), "{stands}");
        let dead = shown(&stands);
        let named: Vec<(&str, &str)> =
            dead.iter().map(|(of, state, _)| (&**of, &**state)).collect();
        assert_eq!(
            named,
            [
                ("Observation/o1/_history/1", "held"),
                ("Observation/o2/_history/1", "waiting"),
                ("Observation/o3/_history/1", "waiting"),
            ]
        );
        assert!(dead[0].2.contains("500"), "{dead:?}");

        // The client asks again, while the endpoint still fails, and once it is well.
        app.put(&s).await.is(200);
        settled(app).await;
        assert_eq!(status(app, "s").await.0, "error");
        broken.take();
        broken.refuse(&[]);
        app.put(&s).await.is(200);
        settled(app).await;
        let all = ["POST /", "PUT /Observation/o1", "PUT /Observation/o2", "PUT /Observation/o3"];
        assert_eq!(broken.calls(), all);
        assert_eq!(status(app, "s").await, ("active".to_owned(), String::new()));

        // An operator has it replayed.
        broken.refuse(&[("PUT", 410)]);
        app.put(&observation("o4", "x", "final")).await.is(201);
        settled(app).await;
        assert_eq!(status(app, "s").await.0, "error");
        broken.take();
        broken.refuse(&[]);
        app.get("Subscription/s/$replay").await.is(405);
        app.post("Subscription/s/$replay", &json!({"resourceType": "Parameters"})).await.is(200);
        settled(app).await;
        assert_eq!(broken.calls(), ["POST /", "PUT /Observation/o4"]);
        assert_eq!(status(app, "s").await.0, "active");
        worker.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_that_does_not_answer_well_is_not_subscribed() {
    on_both(async |app| {
        let endpoint = Endpoint::start().await;
        let worker = Worker::start(app);
        let s = subscription("s", "Observation", &endpoint.address);
        endpoint.refuse(&[("POST", 401)]);
        app.put(&s).await.is(201);
        settled(app).await;
        let (is, error) = status(app, "s").await;
        assert_eq!((&*is, &*error), ("error", "The endpoint answered 401."));
        // Nobody listens where a port was given back.
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        app.put(&subscription("t", "Observation", &format!("http://127.0.0.1:{port}")))
            .await
            .is(201);
        settled(app).await;
        let (is, error) = status(app, "t").await;
        assert_eq!((&*is, &*error), ("error", "The endpoint cannot be reached."));
        // The base of a FHIR service takes no empty POST, and says what it can.
        endpoint.refuse(&[("POST", 400)]);
        endpoint.take();
        app.put(&s).await.is(200);
        settled(app).await;
        assert_eq!(endpoint.calls(), ["POST /", "GET /metadata"]);
        assert_eq!(status(app, "s").await.0, "active");
        worker.stop().await;
    })
    .await;
}

#[tokio::test]
async fn nothing_is_lost_by_a_restart_nor_by_another_service() {
    on_both(async |app| {
        let endpoint = Endpoint::start().await;
        let worker = Worker::start(app);
        let second = app.again().await;
        // The other one has read that there is no subscription.
        second.put(&observation("o0", "x", "final")).await.is(201);
        subscribed(app, &endpoint, &subscription("s", "Observation", &endpoint.address)).await;
        second.put(&observation("o1", "x", "final")).await.is(201);
        settled(app).await;
        assert_eq!(endpoint.calls(), ["PUT /Observation/o1"], "on {}", app.database);
        worker.stop().await;
        // Written while nobody delivers, and by a service that is gone then.
        second.put(&observation("o2", "x", "final")).await.is(201);
        second.close().await;
        let third = app.again().await;
        let worker = Worker::start(&third);
        settled(&third).await;
        assert_eq!(endpoint.calls(), ["PUT /Observation/o2"]);
        // The change of the criteria is seen by the first, too.
        let narrow = subscription("s", "Observation?status=amended", &endpoint.address);
        third.put(&narrow).await.is(200);
        settled(&third).await;
        endpoint.take();
        app.put(&observation("o3", "x", "final")).await.is(201);
        app.put(&observation("o4", "x", "amended")).await.is(201);
        settled(&third).await;
        assert_eq!(endpoint.calls(), ["PUT /Observation/o4"]);
        worker.stop().await;
        third.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_subscription_ends_by_its_client_by_time_and_by_deletion() {
    on_both(async |app| {
        let endpoint = Endpoint::start().await;
        let worker = Worker::start(app);
        let mut s = subscription("s", "Observation", &endpoint.address);
        subscribed(app, &endpoint, &s).await;
        s.set("status", "off");
        app.put(&s).await.is(200);
        app.put(&observation("o1", "x", "final")).await.is(201);
        settled(app).await;
        assert!(endpoint.take().is_empty());

        let mut t = subscription("t", "Observation", &endpoint.address);
        t.set("end", "2026-03-03T10:00:00Z");
        subscribed(app, &endpoint, &t).await;
        app.source.advance(24 * 3600 * SECOND);
        app.put(&observation("o2", "x", "final")).await.is(201);
        until("the end", async || (status(app, "t").await.0 == "off").then_some(())).await;
        settled(app).await;
        assert!(endpoint.take().is_empty());

        // What waits for a subscription that is deleted goes to no later one of its name.
        let u = subscription("u", "Observation", &endpoint.address);
        subscribed(app, &endpoint, &u).await;
        worker.stop().await;
        app.put(&observation("o3", "x", "final")).await.is(201);
        app.call("DELETE", "/fhir/Subscription/u", &[], "").await.is(204);
        let worker = Worker::start(app);
        settled(app).await;
        app.put(&u).await.is(201);
        settled(app).await;
        assert_eq!(endpoint.calls(), ["POST /"]);
        let given_up = app.app.jobs.list(JobState::GivenUp, 0, 9).await.unwrap();
        assert_eq!(given_up.len(), 1);
        assert_eq!(given_up[0].reason, "The subscription was deleted.");
        worker.stop().await;
    })
    .await;
}

#[tokio::test]
async fn one_that_is_slow_holds_up_nobody_else() {
    on_both(async |app| {
        let endpoint = Endpoint::start().await;
        let worker = Worker::start(app);
        for number in 0..3 {
            let url = format!("{}/slow/{number}", endpoint.address);
            app.put(&subscription(&format!("slow{number}"), "Observation", &url)).await.is(201);
        }
        let fast = subscription("fast", "Observation", &format!("{}/fast", endpoint.address));
        app.put(&fast).await.is(201);
        until("the fast one", async || (status(app, "fast").await.0 == "active").then_some(()))
            .await;
        assert_eq!(status(app, "slow0").await.0, "requested");
        until("the end of the slow ones", async || {
            endpoint.let_go.notify_waiters();
            for number in 0..3 {
                if status(app, &format!("slow{number}")).await.0 != "active" {
                    return None;
                }
            }
            Some(())
        })
        .await;
        worker.stop().await;
    })
    .await;
}

#[tokio::test]
async fn an_operator_says_how_many_there_may_be_and_where_they_may_be_told() {
    let strict = |settings: &mut Settings| {
        let options = Options {
            subscription_hosts: vec!["*.clinic.example".to_owned()],
            max_subscriptions: Some(1),
            base_url: Some(BASE.to_owned()),
            ..Options::default()
        };
        *settings = options.settle().unwrap();
    };
    on_both_with(strict, async |app: &TestApp| {
        let elsewhere = subscription("a", "Observation", "https://clinic.example.test/hook");
        let refused = app.put(&elsewhere).await.is(422).json();
        assert_eq!(refused.list("issue")[0].str_at(&["code"]), Some("forbidden"));
        let mut first = subscription("a", "Observation", "https://a.clinic.example/hook");
        app.put(&first).await.is(201);
        let second = subscription("b", "Observation", "https://b.clinic.example/hook");
        let refused = app.put(&second).await.is(422).json();
        assert_eq!(refused.list("issue")[0].str_at(&["code"]), Some("too-costly"));
        // The first is not in its own way.
        first.set("reason", "Another one");
        app.put(&first).await.is(200);
        first.set("status", "off");
        app.put(&first).await.is(200);
        app.put(&second).await.is(201);
    })
    .await;
}

/// What was acknowledged is told, though the process was killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_no_notification() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    let endpoint = Endpoint::start().await;
    let program = Program::serve(&database(&folder), &[], "info", &log);
    let client = client();
    let url = |program: &Program, path: &str| format!("{}/fhir/{path}", program.root);
    let put = async |path: &str, body: &Json| {
        let request =
            client.put(url(&program, path)).header("content-type", "application/fhir+json");
        assert_eq!(request.body(body.to_string()).send().await.unwrap().status().as_u16(), 201);
    };
    put("Subscription/s", &subscription("s", "Observation", &endpoint.address)).await;
    let standing = async || {
        let answer = client.get(url(&program, "Subscription/s/$status")).send().await.unwrap();
        Json::parse(&answer.bytes().await.unwrap()).unwrap()
    };
    until("the handshake", async || {
        (standing().await.list("parameter")[0].str_at(&["valueCode"]) == Some("active"))
            .then_some(())
    })
    .await;
    endpoint.refuse(&[("PUT", 503)]);
    put("Observation/o1", &observation("o1", "x", "final")).await;
    put("Observation/o2", &observation("o2", "x", "final")).await;
    // Between two attempts, so that nobody holds the job.
    until("a failure", async || {
        let shown = shown(&standing().await);
        (shown.len() == 2 && shown[0].1 == "waiting" && shown[0].2.contains("503")).then_some(())
    })
    .await;
    program.kill();
    endpoint.refuse(&[]);
    endpoint.take();
    let program = Program::serve(&database(&folder), &[], "info", &log);
    let mut calls = Vec::new();
    until("both notifications", async || {
        calls.extend(endpoint.calls());
        (calls.len() >= 2).then_some(())
    })
    .await;
    assert_eq!(calls, ["PUT /Observation/o1", "PUT /Observation/o2"]);
    let log = program.log();
    assert!(!log.contains("secret-1") && !log.contains("Observation/o1"), "{log}");
}
