//! A stand-in for a physiotherapy booking system on loopback: it receives BaRS messages, keeps
//! them, books its own places and answers.
//!
//! It keeps the receiver's rules: headers, decision order, the same message twice is a duplicate,
//! a place is booked once. What it holds is gone when it stops.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use lumbar_fhir::datetime::{DateTime, instant};
use lumbar_fhir::{Json, json};
use lumbar_translate::bars::{self, Event, Own, Refusal, RefusalReason};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Directory of Services id of the clinic.
pub const SERVICE: &str = "2000099002";
/// ODS code of the clinic.
pub const ODS_CODE: &str = "Z9P02";
/// Name of the clinic.
pub const NAME: &str = "Saltmarsh Community MSK Service";

/// One day in microseconds.
const DAY: i64 = 86_400_000_000;

#[derive(Clone)]
struct Clinic {
    state: Arc<Mutex<Book>>,
    base: Arc<str>,
}

/// What the clinic holds.
#[derive(Default)]
struct Book {
    /// X-Request-Id and X-Correlation-Id of every message that was taken.
    seen: HashSet<(String, String)>,
    /// Its own resources by `Type/id`.
    resources: HashMap<String, Json>,
    slots: Vec<Json>,
    cases: u32,
    /// The last appointment list.
    list: Bytes,
}

/// Starts the clinic on a free port of loopback. Its diary has places on the working days from
/// three days after `now` on. Returns its root: FHIR is at `/FHIR/R4`, the list of appointments that
/// it was sent at `/appointments.csv`.
///
/// # Errors
/// No port is free.
pub async fn start(now: i64, mut stopped: watch::Receiver<bool>) -> std::io::Result<String> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let root = format!("http://{}", listener.local_addr()?);
    let base = format!("{root}/FHIR/R4");
    let clinic = Clinic {
        state: Arc::new(Mutex::new(Book { slots: slots(now), ..Book::default() })),
        base: base.as_str().into(),
    };
    let router = Router::new()
        .route("/FHIR/R4/$process-message", post(process_message))
        .route("/FHIR/R4/Slot", get(search_slots))
        .route("/FHIR/R4/{resource_type}/{id}", get(read))
        .route("/appointments.csv", get(read_list).post(receive_list))
        .with_state(clinic);
    tokio::spawn(async move {
        let server = axum::serve(listener, router).with_graceful_shutdown(async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        });
        let _ = server.await;
    });
    Ok(root)
}

impl Clinic {
    fn book(&self) -> MutexGuard<'_, Book> {
        // A poisoned lock still holds a whole book: every change is made in one go.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Four places on each of twenty working days, half an hour each.
fn slots(now: i64) -> Vec<Json> {
    let mut slots = Vec::new();
    let midnight = now - now.rem_euclid(DAY);
    for day in 3..31 {
        // Day 0 of 1970 was a Thursday.
        if matches!((midnight / DAY + day + 4).rem_euclid(7), 0 | 6) {
            continue;
        }
        for place in 0..4 {
            let start = midnight + day * DAY + (9 * 60 + place * 30) * 60_000_000;
            slots.push(json!({
                "resourceType": "Slot",
                "id": (format!("slot-{day}-{place}")),
                "serviceType": [{"coding": [{
                    "system": "http://snomed.info/sct",
                    "code": "722140001",
                    "display": "Physiotherapy service"
                }]}],
                "schedule": {"reference": "Schedule/diary-1"},
                "status": "free",
                "start": (instant(start)),
                "end": (instant(start + 30 * 60_000_000))
            }));
        }
    }
    slots
}

async fn process_message(
    State(clinic): State<Clinic>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let pairs: Vec<(&str, &str)> = headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
        .collect();
    let incoming = match bars::receive(&pairs, &body) {
        Ok(incoming) => incoming,
        Err(refusal) => return refused(&refusal),
    };
    let refuse = |reason, text| refused(&Refusal::new(reason, text));
    if incoming.target.1 != SERVICE {
        return refuse(RefusalReason::NotFound, "The service is not one of this receiver.");
    }
    let mut book = clinic.book();
    let ids = (incoming.request_id.clone(), incoming.correlation_id.clone());
    if book.seen.contains(&ids) {
        return refuse(RefusalReason::Duplicate, "The message was processed before.");
    }
    let kind = match incoming.event {
        Event::ServiceRequestRequest => "ServiceRequest",
        Event::BookingRequest => "Appointment",
        _ => return refuse(RefusalReason::NotSupported, "This receiver takes requests only."),
    };
    if kind == "Appointment" {
        let wanted: Vec<String> = slot_ids(&incoming.focus, &incoming.bundle);
        let place = book.slots.iter_mut().find(|slot| {
            slot.str_at(&["status"]) == Some("free")
                && slot.str_at(&["id"]).is_some_and(|id| wanted.iter().any(|wanted| wanted == id))
        });
        match place {
            Some(slot) => slot.set("status", "busy"),
            None => return refuse(RefusalReason::Conflict, "The slot is no longer free."),
        }
    }
    book.seen.insert(ids);
    book.cases += 1;
    let focus_id = format!("{}-{}", kind.to_lowercase(), book.cases);
    let mut stored = incoming.focus.clone();
    if let Some(object) = stored.as_object_mut() {
        object.set_at(1, "id", focus_id.as_str());
    }
    book.resources.insert(format!("{kind}/{focus_id}"), stored);
    let now = instant(jiff::Timestamp::now().as_microsecond());
    let case = format!("SCM-{:04}", book.cases);
    let answer = bars::answer(
        &incoming,
        &Own {
            base: &clinic.base,
            now: &now,
            name: NAME,
            software: ("Booking stand-in", env!("CARGO_PKG_VERSION")),
            focus_id: &focus_id,
            encounter_id: &format!("encounter-{}", book.cases),
            case_number: (&format!("{}/Id/case", clinic.base), &case),
        },
    );
    fhir(StatusCode::OK, &answer)
}

/// Ids of the Slots that an Appointment names, directly or by an entry of its message.
fn slot_ids(appointment: &Json, bundle: &Json) -> Vec<String> {
    let mut ids = Vec::new();
    for link in appointment.list("slot") {
        let Some(reference) = link.str_at(&["reference"]) else { continue };
        ids.extend(reference.strip_prefix("Slot/").map(str::to_owned));
        for entry in bundle.list("entry") {
            if entry.str_at(&["fullUrl"]) == Some(reference) {
                ids.extend(entry.str_at(&["resource", "id"]).map(str::to_owned));
            }
        }
    }
    ids
}

async fn search_slots(
    State(clinic): State<Clinic>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Response {
    let bound = |prefix: &str| {
        let values = parameters.iter().filter(|(name, _)| name == "start");
        let mut values = values.filter_map(|(_, value)| value.strip_prefix(prefix));
        values.find_map(|value| DateTime::parse(&value.replace(' ', "+"))).map(|d| d.bounds().0)
    };
    let (Some(from), Some(to)) = (bound("ge"), bound("le")) else {
        return refused(&Refusal::new(
            RefusalReason::Required,
            "Name the earliest and the latest start.",
        ));
    };
    let book = clinic.book();
    let start = |slot: &Json| DateTime::parse(slot.str_at(&["start"])?).map(|d| d.bounds().0);
    let mut entries: Vec<Json> = Vec::new();
    let mut add = |resource: &Json, mode: &str| {
        let path = format!(
            "{}/{}",
            resource.str_at(&["resourceType"]).unwrap_or_default(),
            resource.str_at(&["id"]).unwrap_or_default()
        );
        entries.push(json!({
            "fullUrl": (format!("{}/{path}", clinic.base)),
            "resource": (resource),
            "search": {"mode": (mode)}
        }));
    };
    for slot in &book.slots {
        if slot.str_at(&["status"]) == Some("free")
            && start(slot).is_some_and(|start| (from..=to).contains(&start))
        {
            add(slot, "match");
        }
    }
    for resource in diary() {
        add(&resource, "include");
    }
    fhir(
        StatusCode::OK,
        &json!({"resourceType": "Bundle", "type": "searchset", "entry": (entries)}),
    )
}

/// The diary that the places belong to, and who and where it is.
fn diary() -> [Json; 4] {
    [
        json!({
            "resourceType": "Schedule",
            "id": "diary-1",
            "actor": [
                {"reference": "HealthcareService/service-1"},
                {"reference": "Practitioner/physio-1"},
                {"reference": "Location/room-1"}
            ]
        }),
        json!({
            "resourceType": "HealthcareService",
            "id": "service-1",
            "identifier": [{"system": "https://fhir.nhs.uk/Id/dos-service-id", "value": (SERVICE)}],
            "active": true,
            "name": (NAME)
        }),
        json!({
            "resourceType": "Practitioner",
            "id": "physio-1",
            "identifier": [{"system": "https://fhir.hl7.org.uk/Id/hcpc-number", "value": "PH999902"}],
            "name": [{"family": "Okafor", "given": ["Ifeoma"], "prefix": ["Ms"]}]
        }),
        json!({
            "resourceType": "Location",
            "id": "room-1",
            "identifier": [{"system": "https://fhir.nhs.uk/Id/ods-site-code", "value": "Z9P021"}],
            "name": "Saltmarsh clinic, room 2"
        }),
    ]
}

/// Takes an appointment list in place of the last one: each list is the whole state.
async fn receive_list(State(clinic): State<Clinic>, body: Bytes) -> StatusCode {
    clinic.book().list = body;
    StatusCode::NO_CONTENT
}

async fn read_list(State(clinic): State<Clinic>) -> Response {
    let list = clinic.book().list.clone();
    ([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], list).into_response()
}

async fn read(State(clinic): State<Clinic>, Path((of, id)): Path<(String, String)>) -> Response {
    match clinic.book().resources.get(&format!("{of}/{id}")) {
        Some(resource) => fhir(StatusCode::OK, resource),
        None => refused(&Refusal::new(RefusalReason::NotFound, "There is no such resource.")),
    }
}

fn refused(refusal: &Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
    fhir(status, &refusal.outcome)
}

fn fhir(status: StatusCode, resource: &Json) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/fhir+json; version=1.4.0")];
    (status, kind, resource.to_string()).into_response()
}
