//! A confirmed match leaves for the booking system and comes back as an appointment.
//!
//! The receiver is the demonstration's, behind a go-between that loses answers and says no.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use lumbar::config::{Destination, Settings};
use lumbar::demo::booking_system;
use lumbar::jobs;
use lumbar_fhir::{Json, json};
use lumbar_store::State as JobState;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::app::{SECOND, TestApp, fixture, on_both, on_both_with, reference};
use crate::program::{client, until};

/// What the go-between does with the next message; without an order it passes it on.
#[derive(Clone, Copy, Debug)]
enum Order {
    Pass,
    /// Answers by itself; nothing reaches the receiver.
    Answer(u16, &'static str),
    /// The receiver gets the message, the sender a 503.
    LoseAnswer,
}

/// A message as it came by.
#[derive(Clone, Debug)]
struct Seen {
    method: String,
    path: String,
    query: String,
    request_id: String,
    correlation_id: String,
    body: String,
}

#[derive(Clone)]
struct GoBetween {
    receiver: String,
    client: reqwest::Client,
    /// For `POST $process-message`, one after the other.
    orders: Arc<Mutex<VecDeque<Order>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

async fn pass(State(between): State<GoBetween>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 24).await.unwrap();
    let header = |name: &str| {
        parts.headers.get(name).map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    };
    between.seen.lock().unwrap().push(Seen {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        request_id: header("x-request-id"),
        correlation_id: header("x-correlation-id"),
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    let order =
        if parts.method == "POST" { between.orders.lock().unwrap().pop_front() } else { None };
    let fhir = [("content-type", "application/fhir+json")];
    if let Some(Order::Answer(status, code)) = order {
        let outcome = json!({"resourceType": "OperationOutcome", "issue": [
            {"severity": "error", "code": (code), "diagnostics": "said by the test"}
        ]});
        return (StatusCode::from_u16(status).unwrap(), fhir, outcome.to_string()).into_response();
    }
    let url = format!("{}{}", between.receiver, parts.uri.path_and_query().unwrap());
    let mut onward = between.client.request(parts.method, url).body(body);
    for (name, value) in &parts.headers {
        if name != "host" && name != "content-length" {
            onward = onward.header(name, value);
        }
    }
    let answer = onward.send().await.unwrap();
    let status = answer.status();
    let text: Bytes = answer.bytes().await.unwrap();
    match order {
        Some(Order::LoseAnswer) => (StatusCode::SERVICE_UNAVAILABLE, "").into_response(),
        _ => (status, fhir, text).into_response(),
    }
}

/// A service with a worker, a go-between and the demonstration's booking system.
struct Partner {
    between: GoBetween,
    stop: watch::Sender<bool>,
}

impl Partner {
    fn order(&self, orders: &[Order]) {
        self.between.orders.lock().unwrap().extend(orders);
    }

    fn seen(&self) -> Vec<Seen> {
        self.between.seen.lock().unwrap().clone()
    }

    /// The messages with this event.
    fn messages(&self, event: &str) -> Vec<Seen> {
        let is = |seen: &Seen| {
            seen.method == "POST" && message_event(&seen.body).as_deref() == Some(event)
        };
        self.seen().into_iter().filter(is).collect()
    }
}

fn message_event(body: &str) -> Option<String> {
    let bundle = Json::parse(body.as_bytes()).ok()?;
    let header = bundle.list("entry").first()?.get("resource")?.clone();
    header.str_at(&["eventCoding", "code"]).map(str::to_owned)
}

/// Runs `test` with a worker on both databases.
async fn on_both_with_partner(orders: &[Order], test: impl AsyncFn(&TestApp, &Partner)) {
    let listener = Mutex::new(None);
    // The settings are made before the service is, once for each database.
    let prepare = |settings: &mut Settings| {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        *listener.lock().unwrap() = Some(socket);
        settings.booking = Some(Destination::Http(format!("http://{address}/FHIR/R4")));
        settings.booking_service = booking_system::SERVICE.to_owned();
        settings.booking_ods_code = booking_system::ODS_CODE.to_owned();
        settings.booking_organisation = booking_system::NAME.to_owned();
        settings.ods_code = "Z99902".to_owned();
        settings.organisation = "Harbour View Surgery".to_owned();
        settings.service = "2000088002".to_owned();
        let list =
            std::env::temp_dir().join(format!("lumbar-list-{}", address.port())).join("list.csv");
        settings.booking_list = Some(Destination::File(list));
    };
    on_both_with(prepare, async |app: &TestApp| {
        let (stop, stopped) = watch::channel(false);
        let receiver = booking_system::start(app.app.facade.now(), stopped.clone()).await.unwrap();
        let between = GoBetween {
            receiver: receiver.trim_end_matches("/FHIR/R4").to_owned(),
            client: client(),
            orders: Arc::default(),
            seen: Arc::default(),
        };
        let socket = TcpListener::from_std(listener.lock().unwrap().take().unwrap()).unwrap();
        let router = Router::new().fallback(pass).with_state(between.clone());
        let server = tokio::spawn(async move { axum::serve(socket, router).await });
        let worker = tokio::spawn(jobs::run(app.app.clone(), stopped));
        let partner = Partner { between, stop };
        partner.order(orders);
        test(app, &partner).await;
        partner.stop.send(true).unwrap();
        worker.await.unwrap();
        server.abort();
        if let Some(Destination::File(list)) = &app.app.settings.booking_list {
            let _ = std::fs::remove_dir_all(list.parent().unwrap());
        }
    })
    .await;
}

/// Stores a patient, a referral and answers; gives the proposal.
async fn propose(app: &TestApp) -> Json {
    let parts = fixture("translate/bars/request.json");
    let mut patient = parts
        .list("found")
        .iter()
        .find(|r| r.str_at(&["resourceType"]) == Some("Patient"))
        .unwrap()
        .clone();
    patient.as_object_mut().unwrap().remove("generalPractitioner");
    app.put(&patient).await.is(201);
    let case = fixture("pathways/keele-stratified/high.json");
    app.put(&case.get("found").unwrap().list("requests")[0]).await.is(201);
    app.put(case.get("response").unwrap()).await.is(201);
    let mut found = app.search("ServiceRequest?instantiates-canonical:missing=false").await;
    assert_eq!(found.len(), 1);
    found.remove(0)
}

/// Confirms a proposal as a clinician does.
async fn confirm(app: &TestApp) -> Json {
    let mut order = propose(app).await;
    order.set("intent", "order");
    order.set("status", "active");
    app.put(&order).await.is(200).json()
}

#[tokio::test]
async fn a_match_is_not_confirmed_without_a_requester() {
    on_both(async |app: &TestApp| {
        let mut order = propose(app).await;
        assert_eq!(order.str_at(&["requester", "reference"]), Some("PractitionerRole/gp"));
        order.set("intent", "order");
        order.set("status", "active");
        order.as_object_mut().unwrap().remove("requester");
        let refused = app.put(&order).await.is(422).text;
        assert!(refused.contains("lumbar-match-1"), "{refused}");
    })
    .await;
}

/// Waits until no job waits or runs. Time passes so that pauses between attempts come to an end.
async fn all_done(app: &TestApp) {
    // A job may change its state between the two looks, but not twice in a row without time.
    let mut quiet = 0;
    until("the end of all jobs", async || {
        let jobs = &app.app.jobs;
        let waiting = jobs.list(JobState::Waiting, 0, 1).await.unwrap();
        let running = jobs.list(JobState::Running, 0, 1).await.unwrap();
        quiet = if waiting.is_empty() && running.is_empty() { quiet + 1 } else { 0 };
        if quiet == 0 {
            app.source.advance(SECOND);
        }
        (quiet == 3).then_some(())
    })
    .await;
}

async fn tasks(app: &TestApp) -> Vec<(String, String)> {
    let found = app.search("Task").await;
    let text = |task: &Json, path: &[&str]| task.str_at(path).unwrap_or_default().to_owned();
    found.iter().map(|t| (text(t, &["status"]), text(t, &["statusReason", "text"]))).collect()
}

/// The appointment that came back, with all that belongs to it.
async fn booked(app: &TestApp, matched: &Json) -> Json {
    let query = format!("Appointment?based-on={}", reference(matched));
    let mut found = app.search(&query).await;
    assert_eq!(found.len(), 1, "on {}: {:?}", app.database, tasks(app).await);
    let appointment = found.remove(0);
    assert_eq!(appointment.str_at(&["status"]), Some("booked"));
    let actors: Vec<_> =
        appointment.list("participant").iter().map(|p| p.str_at(&["actor", "reference"])).collect();
    assert!(actors.contains(&Some("Patient/p1")), "{actors:?}");
    assert_eq!(tasks(app).await, [("completed".to_owned(), String::new())]);
    assert!(app.app.jobs.list(JobState::GivenUp, 0, 10).await.unwrap().is_empty());
    appointment
}

#[tokio::test]
async fn a_confirmed_match_is_sent_booked_and_listed() {
    on_both_with_partner(&[], async |app, partner| {
        let matched = confirm(app).await;
        all_done(app).await;
        let appointment = booked(app, &matched).await;
        // The first place is three days ahead, at nine.
        assert!(
            appointment.str_at(&["start"]).unwrap().starts_with("2026-03-05T09:00"),
            "{appointment}"
        );
        let referrals = partner.messages("servicerequest-request");
        let bookings = partner.messages("booking-request");
        assert_eq!((referrals.len(), bookings.len()), (1, 1));
        assert_ne!(referrals[0].request_id, bookings[0].request_id);
        assert_eq!(referrals[0].path, "/FHIR/R4/$process-message");
        for message in referrals.iter().chain(&bookings) {
            assert_eq!(message.request_id.len(), 36, "{}", message.request_id);
            assert_eq!(message.correlation_id.len(), 36, "{}", message.correlation_id);
            assert!(message.body.contains("9994512013"), "the patient is not in the message");
        }
        let searches: Vec<Seen> =
            partner.seen().into_iter().filter(|seen| seen.method == "GET").collect();
        assert_eq!(searches.len(), 1);
        assert!(searches[0].path.ends_with("/Slot") && searches[0].query.contains("status=free"));
        let Some(Destination::File(list)) = &app.app.settings.booking_list else { panic!() };
        let text = std::fs::read_to_string(list).unwrap();
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.len(), 2, "{text}");
        assert!(rows[1].contains("Fairweather-Nkemelu"), "{text}");
        // The same confirmation again sends nothing.
        let before = partner.seen().len();
        app.put(&matched).await.is(200);
        all_done(app).await;
        assert_eq!(partner.seen().len(), before);
        assert_eq!(app.count("Appointment").await, 1);
    })
    .await;
}

/// A page of the safety questions that points to a danger.
fn page(answer: &str) -> Json {
    let coding =
        json!({"system": "https://lumbar.example/fhir/CodeSystem/yes-no-unsure", "code": (answer)});
    json!({
        "resourceType": "QuestionnaireResponse",
        "id": "red",
        "questionnaire": "https://lumbar.example/fhir/Questionnaire/red-flags",
        "status": "in-progress",
        "subject": {"reference": "Patient/p1"},
        "item": [{"linkId": "rf-fever", "answer": [{"valueCoding": (coding)}]}]
    })
}

/// The statuses of the Tasks of deliveries, with the reasons.
async fn deliveries(app: &TestApp) -> Vec<(String, String)> {
    let found = app.search("Task?code=fulfill").await;
    let text = |task: &Json, path: &[&str]| task.str_at(path).unwrap_or_default().to_owned();
    found.iter().map(|t| (text(t, &["status"]), text(t, &["statusReason", "text"]))).collect()
}

#[tokio::test]
async fn an_alert_holds_the_booking_until_a_clinician_clears_it() {
    on_both_with_partner(&[], async |app, partner| {
        let mut order = propose(app).await;
        app.put(&page("yes")).await.is(201);
        order.set("intent", "order");
        order.set("status", "active");
        app.put(&order).await.is(200);
        all_done(app).await;
        assert!(partner.seen().is_empty());
        let reason = "Held until a clinician clears the safety alert (same-day-clinician).";
        assert_eq!(deliveries(app).await, [("on-hold".to_owned(), reason.to_owned())]);

        // The person takes the answer back: that clears nothing.
        app.put(&page("no")).await.is(200);
        let mut alert = app.search("Task?code=safety-review").await.remove(0);
        // Done alone is no clearance: who, when and why are missing.
        alert.set("status", "completed");
        let refused = app.put(&alert).await.is(422).text;
        assert!(refused.contains("Task.output"), "{refused}");
        all_done(app).await;
        assert!(partner.seen().is_empty());

        let cleared = json!({
            "type": {"coding": [{"system": "https://lumbar.example/fhir/CodeSystem/safety-task", "code": "clearance"}]},
            "valueAnnotation": {"authorString": "Dr A. Quill", "time": "2026-03-02T10:00:30Z", "text": "A cold, rung her."}
        });
        alert.set("output", json!([(cleared)]));
        app.put(&alert).await.is(200);
        let flags = app.search("Flag?subject=Patient/p1").await;
        assert_eq!(flags[0].str_at(&["status"]), Some("inactive"));
        all_done(app).await;
        assert_eq!(partner.messages("servicerequest-request").len(), 1);
        assert_eq!(app.count("Appointment").await, 1);
        assert_eq!(deliveries(app).await, [("completed".to_owned(), String::new())]);

        // The same finding once more stays cleared, a new one does not.
        app.put(&page("yes")).await.is(200);
        let tasks = app.search("Task?code=safety-review").await;
        assert_eq!(tasks[0].str_at(&["status"]), Some("completed"));
        let mut worse = page("yes");
        let mut item = worse.list("item")[0].clone();
        item.set("linkId", "rf-collapse");
        worse.set("item", json!([(item)]));
        app.put(&worse).await.is(200);
        let tasks = app.search("Task?code=safety-review").await;
        assert_eq!(tasks[0].str_at(&["status"]), Some("requested"));
        assert_eq!(tasks[0].str_at(&["priority"]), Some("stat"));
        let flags = app.search("Flag?subject=Patient/p1").await;
        assert_eq!(flags[0].str_at(&["status"]), Some("active"));
    })
    .await;
}

#[tokio::test]
async fn a_proposal_alone_sends_nothing() {
    on_both_with_partner(&[], async |app, partner| {
        let mut proposal = propose(app).await;
        // A note changes nothing about it being a proposal.
        proposal.push("note", json!({"text": "seen"}));
        app.put(&proposal).await.is(200);
        all_done(app).await;
        assert!(partner.seen().is_empty());
        assert!(tasks(app).await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_busy_receiver_is_tried_again_with_the_same_ids() {
    let busy = [
        Order::Answer(503, "transient"),
        Order::Answer(429, "throttled"),
        Order::Answer(408, "timeout"),
    ];
    on_both_with_partner(&busy, async |app, partner| {
        let matched = confirm(app).await;
        all_done(app).await;
        booked(app, &matched).await;
        let sent = partner.messages("servicerequest-request");
        assert_eq!(sent.len(), 4);
        for again in &sent[1..] {
            assert_eq!(again.request_id, sent[0].request_id);
            assert_eq!(again.correlation_id, sent[0].correlation_id);
            assert_eq!(again.body, sent[0].body, "the message is the same to the byte");
        }
    })
    .await;
}

#[tokio::test]
async fn a_lost_answer_does_not_refer_or_book_twice() {
    // Referral taken, answer lost; again: duplicate. Booking taken, answer lost; again: duplicate.
    let orders = [Order::LoseAnswer, Order::Pass, Order::LoseAnswer, Order::Pass];
    on_both_with_partner(&orders, async |app, partner| {
        let matched = confirm(app).await;
        all_done(app).await;
        let appointment = booked(app, &matched).await;
        assert!(appointment.str_at(&["start"]).unwrap().starts_with("2026-03-05T09:00"));
        for event in ["servicerequest-request", "booking-request"] {
            let sent = partner.messages(event);
            assert_eq!(sent.len(), 2, "{event}");
            assert_eq!(sent[0].request_id, sent[1].request_id, "{event}");
            assert_eq!(sent[0].body, sent[1].body, "{event}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_place_that_was_taken_is_followed_by_the_next() {
    let orders =
        [Order::Pass, Order::Answer(409, "conflict"), Order::Answer(409, "conflict"), Order::Pass];
    on_both_with_partner(&orders, async |app, partner| {
        let matched = confirm(app).await;
        all_done(app).await;
        let appointment = booked(app, &matched).await;
        assert!(
            appointment.str_at(&["start"]).unwrap().starts_with("2026-03-05T10:00"),
            "{appointment}"
        );
        let sent = partner.messages("booking-request");
        assert_eq!(sent.len(), 3);
        let mut ids: Vec<&str> = sent.iter().map(|seen| seen.request_id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 3, "another place is another message");
        // Each attempt belongs to the same referral.
        assert!(sent.iter().all(|seen| seen.correlation_id == sent[0].correlation_id));
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_a_failed_task_with_the_reason() {
    on_both_with_partner(&[Order::Answer(400, "invalid")], async |app, partner| {
        confirm(app).await;
        all_done(app).await;
        let tasks = tasks(app).await;
        assert_eq!(tasks.len(), 1);
        assert_eq!(tasks[0].0, "failed");
        assert!(
            tasks[0].1.contains("400") && tasks[0].1.contains("said by the test"),
            "{}",
            tasks[0].1
        );
        assert_eq!(app.count("Appointment").await, 0);
        assert_eq!(partner.seen().len(), 1, "a refusal is not tried again");
        assert_eq!(app.app.jobs.list(JobState::GivenUp, 0, 10).await.unwrap().len(), 1);
    })
    .await;
}

/// The booking is refused after the referral was taken.
#[tokio::test]
async fn a_refused_booking_fails_the_task_too() {
    on_both_with_partner(&[Order::Pass, Order::Answer(422, "invalid")], async |app, _| {
        confirm(app).await;
        all_done(app).await;
        let tasks = tasks(app).await;
        assert_eq!(tasks.len(), 1, "one Task for one delivery");
        assert_eq!(tasks[0].0, "failed");
        assert_eq!(app.count("Appointment").await, 0);
    })
    .await;
}

/// Every place is said to be taken: the search for one ends.
#[tokio::test]
async fn no_place_left_is_a_failed_task() {
    let mut orders = vec![Order::Pass];
    orders.extend([Order::Answer(409, "conflict"); 50]);
    on_both_with_partner(&orders, async |app, partner| {
        confirm(app).await;
        all_done(app).await;
        let tasks = tasks(app).await;
        assert_eq!(tasks[0].0, "failed");
        assert!(tasks[0].1.contains("BPA-BOOK-001"), "{}", tasks[0].1);
        let tried = partner.messages("booking-request").len();
        assert!((2..=20).contains(&tried), "{tried} places were tried");
    })
    .await;
}

/// The message goes into a folder where a partner fetches files.
#[tokio::test]
async fn a_match_may_leave_as_a_file() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("out");
    let prepare = |settings: &mut Settings| {
        settings.booking = Some(Destination::File(path.clone()));
        settings.booking_service = booking_system::SERVICE.to_owned();
        settings.service = "2000088002".to_owned();
        settings.ods_code = "Z99902".to_owned();
    };
    on_both_with(prepare, async |app: &TestApp| {
        let (stop, stopped) = watch::channel(false);
        let worker = tokio::spawn(jobs::run(app.app.clone(), stopped));
        confirm(app).await;
        all_done(app).await;
        stop.send(true).unwrap();
        worker.await.unwrap();
        let files: Vec<_> =
            std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        let message = crate::app::read_json(&files[0]);
        assert_eq!(message.str_at(&["type"]), Some("message"));
        std::fs::remove_file(&files[0]).unwrap();
    })
    .await;
}
