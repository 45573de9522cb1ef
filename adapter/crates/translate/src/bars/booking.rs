//! Finding and booking a place: <https://fhir.nhs.uk/MessageDefinition/bars-message-booking-request>.
//!
//! A place that is taken between search and request is the caller's to try again with the next one.

use lumbar_fhir::datetime::{DateTime, Micros};
use lumbar_fhir::{Json, json};

use super::confidential::{is_restricted, without_whereabouts};
use super::message::{Heading, Message};
use super::referral::reach;
use super::{
    DOS_SERVICE_ID, Settings, identifier, key, local_key, reference, references, resource_type,
    tolerate, version,
};

/// From when to when a booking may start; both ends are dateTimes with a zone.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// Earliest start.
    pub from: &'a str,
    /// Latest start.
    pub to: &'a str,
}

/// A free place and what the search answer told about it.
#[derive(Clone, Debug, PartialEq)]
pub struct PickedSlot {
    /// The Slot; its id is the receiver's.
    pub slot: Json,
    /// `fullUrl` of the Slot in the answer, by which it can be left out of a second pick.
    pub full_url: String,
    /// Schedule, HealthcareService, Practitioner, PractitionerRole, Location and Organization that
    /// belong to it, with references among them as `Type/id`.
    pub included: Vec<Json>,
}

/// What a booking request is made of.
#[derive(Clone, Copy, Debug)]
pub struct BookingParts<'a> {
    /// Our matched ServiceRequest.
    pub matched: &'a Json,
    /// What was found for it; the Patient must be among it.
    pub found: &'a [Json],
    /// The referral's reference at the receiver (`ServiceRequest/…`), when its answer told it.
    pub referral_there: Option<&'a str>,
}

/// The path and query of a slot search at the receiver's FHIR base, percent-encoded.
pub fn slot_query(dos_service_id: &str, window: Window<'_>) -> String {
    let mut query = String::from("Slot?status=free");
    let mut add = |name: &str, value: &str| {
        query.push('&');
        query.push_str(name);
        query.push('=');
        encode(value, &mut query);
    };
    add("start", &format!("ge{}", window.from));
    add("start", &format!("le{}", window.to));
    add("Schedule.actor:HealthcareService", dos_service_id);
    add("_include", "Slot:schedule");
    for actor in ["HealthcareService", "Practitioner", "PractitionerRole", "Location"] {
        add("_include:iterate", &format!("Schedule:actor:{actor}"));
    }
    query
}

fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'|' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

/// The earliest free Slot of a searchset that starts in the window, is of the service (when the
/// answer names one) and whose `fullUrl` is not among those `tried`; `None` when there is none.
/// Slots without a readable start are passed over.
pub fn pick_slot(
    searchset: &Json,
    window: Window<'_>,
    dos_service_id: &str,
    tried: &[&str],
) -> Option<PickedSlot> {
    let (earliest, latest) = (start(window.from)?, start(window.to)?);
    let mut searchset = searchset.clone();
    tolerate::tolerate(&mut searchset);
    let entries = named(&searchset);
    let resources: Vec<Json> = entries.iter().map(|(_, resource)| resource.clone()).collect();
    let mut free: Vec<(Micros, &str, &Json)> = entries
        .iter()
        .filter(|(_, r)| resource_type(r) == "Slot" && r.str_at(&["status"]) == Some("free"))
        .filter(|(url, _)| !tried.contains(&url.as_str()))
        .filter_map(|(url, r)| Some((start(r.str_at(&["start"])?)?, url.as_str(), r)))
        .filter(|(at, _, _)| (earliest..=latest).contains(at))
        .collect();
    free.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
    free.into_iter().find_map(|(_, url, slot)| {
        let included: Vec<Json> =
            reach(slot, &resources, "").into_iter().skip(1).cloned().collect();
        let services: Vec<_> =
            included.iter().filter_map(|r| identifier(r, DOS_SERVICE_ID)).collect();
        let is_of_service = services.is_empty() || services.contains(&dos_service_id);
        let (slot, full_url) = (slot.clone(), url.to_owned());
        is_of_service.then_some(PickedSlot { slot, full_url, included })
    })
}

/// Entries with `fullUrl`, every reference to one of them written as its `Type/id`.
fn named(bundle: &Json) -> Vec<(String, Json)> {
    let mut entries: Vec<(String, Json)> = Vec::new();
    for entry in bundle.list("entry") {
        let Some(resource) = entry.get("resource") else { continue };
        let mut resource = resource.clone();
        let url = entry.str_at(&["fullUrl"]).unwrap_or_default();
        if resource.get("id").is_none() {
            resource.set("id", url.rsplit([':', '/']).next().unwrap_or_default());
        }
        entries.push((url.to_owned(), resource));
    }
    let names: Vec<(String, String)> =
        entries.iter().map(|(url, resource)| (url.clone(), key(resource))).collect();
    for (_, resource) in &mut entries {
        super::each_object(resource, &mut |object| {
            let text = object.get("reference").and_then(Json::as_str);
            let name = text.and_then(|text| names.iter().find(|(url, _)| url == text));
            if let Some((_, name)) = name {
                object.set("reference", name);
            }
        });
    }
    entries
}

fn start(text: &str) -> Option<Micros> {
    let moment = DateTime::parse(text)?;
    moment.offset?;
    Some(moment.bounds().0)
}

/// The message Bundle that books the place for the patient of the matched ServiceRequest. The
/// Appointment is `booked`, `basedOn` the referral, and takes its times from the Slot.
pub fn booking_request(
    parts: &BookingParts<'_>,
    picked: &PickedSlot,
    settings: &Settings<'_>,
) -> Json {
    let matched = parts.matched;
    let mut message = Message::new(settings);
    let slot = key(&picked.slot);
    let reached = reach(matched, parts.found, settings.base);
    let patient = reached.iter().find(|r| resource_type(r) == "Patient").map(|patient| {
        let mut patient = (*patient).clone();
        if is_restricted(&patient) {
            without_whereabouts(&mut patient);
        }
        tolerate::retired_codes(&mut patient);
        patient
    });
    let appointment = appointment(parts, picked, patient.as_ref(), settings);
    let focus = format!("{}#{slot}", key(matched));
    message.add_as(focus.clone(), appointment);
    if let Some(patient) = patient {
        let practices = references(&patient, "generalPractitioner");
        let practices = practices.iter().filter_map(|text| local_key(text, settings.base));
        let practices = practices.filter_map(|wanted| reached.iter().find(|r| key(r) == wanted));
        let practices: Vec<Json> = practices.map(|practice| (*practice).clone()).collect();
        message.add(patient);
        practices.into_iter().for_each(|practice| drop(message.add(practice)));
    }
    for resource in std::iter::once(&picked.slot).chain(&picked.included) {
        message.add_theirs(resource.clone());
    }
    message.add_service(&settings.receiver);
    message.finish(&Heading {
        event: "booking-request",
        reason: "new",
        definition: "booking-request",
        focus: &focus,
        id: &[&key(matched), version(matched), &slot],
    })
}

fn appointment(
    parts: &BookingParts<'_>,
    picked: &PickedSlot,
    patient: Option<&Json>,
    settings: &Settings<'_>,
) -> Json {
    let (matched, slot) = (parts.matched, &picked.slot);
    let mut appointment = json!({"resourceType": "Appointment", "status": "booked"});
    for name in ["serviceCategory", "serviceType", "specialty", "appointmentType"] {
        if let Some(value) = slot.get(name) {
            appointment.set(name, value);
        }
    }
    let restricted = is_restricted(matched);
    if let (Some(reason), false) = (matched.get("reasonCode"), restricted) {
        appointment.set("reasonCode", reason);
    }
    for name in ["start", "end"] {
        if let Some(value) = slot.get(name) {
            appointment.set(name, value);
        }
    }
    appointment.set("slot", json!([(reference(key(slot)))]));
    appointment.set("created", settings.now);
    let mut based_on = match parts.referral_there {
        Some(there) => reference(there),
        None => reference(key(matched)),
    };
    if let Some(identifier) = matched.list("identifier").first() {
        based_on.set("identifier", identifier);
    }
    appointment.set("basedOn", json!([(based_on)]));
    let accepted = |actor: String| json!({"actor": (reference(actor)), "status": "accepted"});
    if let Some(patient) = patient {
        appointment.push("participant", accepted(key(patient)));
    }
    let schedule = picked.included.iter().find(|r| resource_type(r) == "Schedule");
    for actor in schedule.map(|s| references(s, "actor")).unwrap_or_default() {
        if !actor.starts_with("HealthcareService/") {
            appointment.push("participant", accepted(actor.to_owned()));
        }
    }
    appointment
}
