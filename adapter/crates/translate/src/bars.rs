//! NHS Booking and Referral Standard (BaRS) 1.4, both ways:
//! <https://digital.nhs.uk/developer/api-catalogue/booking-and-referral-fhir>.
//!
//! Outgoing: a referral request, a slot search and a booking request, with their headers. Incoming:
//! what a partner answers ([`read_answer`], [`read_outcome`]) and what a partner sends to us
//! ([`receive`], [`answer`]). Everything is a function of its arguments: ids are UUIDv5 of the
//! request they speak about, so a retry is the same bytes under the same header ids, which is what
//! BaRS calls a duplicate. This module sends nothing, stores nothing and matches no patients.

mod booking;
pub(crate) mod confidential;
mod header;
mod message;
mod receive;
mod referral;
mod reply;
mod tolerate;

#[cfg(test)]
mod tests;

use lumbar_fhir::{Json, json};
use uuid::Uuid;

pub use booking::{BookingParts, PickedSlot, Window, booking_request, pick_slot, slot_query};
pub use header::{REQUEST_HEADERS, correlation_id, headers};
pub use receive::{Action, Event, Incoming, Own, Refusal, RefusalReason, answer, receive};
pub use referral::{referral_needs, referral_request};
pub use reply::{Answer, Decision, Outcome, read_answer, read_outcome};

/// Version of the standard that we send.
pub const VERSION: &str = "1.4.0";

/// Identifier system of a service in the Directory of Services, the address of BaRS.
pub const DOS_SERVICE_ID: &str = "https://fhir.nhs.uk/Id/dos-service-id";

const ODS_CODE: &str = "https://fhir.nhs.uk/Id/ods-organization-code";
const NHS_NUMBER: &str = "https://fhir.nhs.uk/Id/nhs-number";
const EVENTS: &str = "https://fhir.nhs.uk/CodeSystem/message-events-bars";
const REASONS: &str = "https://fhir.nhs.uk/CodeSystem/message-reason-bars";
const CATEGORIES: &str = "https://fhir.nhs.uk/CodeSystem/message-category-servicerequest";
const ERROR_CODES: &str = "https://fhir.nhs.uk/CodeSystem/http-error-codes";
const DEFINITION: &str = "https://fhir.nhs.uk/MessageDefinition/bars-message-";
const PROFILE: &str = "https://fhir.nhs.uk/StructureDefinition/";
const UK_CORE: &str = "https://fhir.hl7.org.uk/StructureDefinition/UKCore-";

/// One side of a message.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// Id of the service in the Directory of Services.
    pub dos_service_id: &'a str,
    /// ODS code of the organisation.
    pub ods_code: &'a str,
    /// Name of the organisation or service, for people.
    pub name: &'a str,
    /// Telephone number for questions about a message; empty when there is none.
    pub phone: &'a str,
}

/// What a message needs to know besides the resources.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// Our FHIR base, without a slash at the end.
    pub base: &'a str,
    /// Instant at which the message was first made. A retry passes the same one.
    pub now: &'a str,
    /// Our product's name.
    pub software: &'a str,
    /// Our product's version.
    pub software_version: &'a str,
    /// Who sends.
    pub sender: Party<'a>,
    /// To whom.
    pub receiver: Party<'a>,
    /// The use case agreed with the receiver, as `(system, code, display)`: the second coding of
    /// `ServiceRequest.category`. BaRS 1.4 has none for physiotherapy, so it is local.
    pub use_case: (&'a str, &'a str, &'a str),
    /// Whether the site sends a Consent that states implied consent for direct care when none is
    /// recorded. The message definition asks for a Consent; without this a warning is raised.
    pub implied_consent: bool,
}

/// A name-based id: equal parts give an equal id, in every run and on every machine.
fn uuid(parts: &[&str]) -> String {
    let space = Uuid::new_v5(&Uuid::NAMESPACE_URL, b"https://lumbar.example/fhir/bars");
    Uuid::new_v5(&space, parts.join("\u{1}").as_bytes()).to_string()
}

/// `Type/id` of a resource; empty parts where it has none.
fn key(resource: &Json) -> String {
    format!("{}/{}", resource_type(resource), resource.str_at(&["id"]).unwrap_or_default())
}

fn resource_type(resource: &Json) -> &str {
    resource.str_at(&["resourceType"]).unwrap_or_default()
}

/// The resource's version for ids: its version id, else when it was changed, else nothing.
fn version(resource: &Json) -> &str {
    let meta = |name| resource.str_at(&["meta", name]);
    meta("versionId").or_else(|| meta("lastUpdated")).unwrap_or_default()
}

/// `Type/id` in a reference of any form (relative, versioned, absolute under `base`); `None` for
/// other people's addresses, URNs and contained resources.
fn local_key<'a>(reference: &'a str, base: &str) -> Option<&'a str> {
    let path = match reference.strip_prefix(base) {
        Some(rest) if !base.is_empty() => rest.strip_prefix('/')?,
        _ => reference,
    };
    if path.contains(':') || path.contains('#') || path.contains('?') {
        return None;
    }
    let path = path.split("/_history/").next()?;
    let (resource_type, id) = path.split_once('/')?;
    (!resource_type.is_empty() && !id.is_empty() && !id.contains('/')).then_some(path)
}

/// References at a dotted path of element names, through arrays.
fn references<'a>(resource: &'a Json, path: &str) -> Vec<&'a str> {
    let mut found = vec![resource];
    for name in path.split('.') {
        found = found.iter().flat_map(|value| value.list(name)).collect();
    }
    found.iter().filter_map(|value| value.str_at(&["reference"])).collect()
}

/// The value of the first identifier of a system.
fn identifier<'a>(resource: &'a Json, system: &str) -> Option<&'a str> {
    let of_system = |identifier: &&Json| identifier.str_at(&["system"]) == Some(system);
    resource.list("identifier").iter().find(of_system)?.str_at(&["value"])
}

fn reference(text: impl AsRef<str>) -> Json {
    json!({"reference": (text.as_ref())})
}

/// Changes every object of a tree, outer ones first.
fn each_object(value: &mut Json, change: &mut impl FnMut(&mut lumbar_fhir::Object)) {
    match value {
        Json::Object(object) => {
            change(object);
            object.iter_mut().for_each(|(_, member)| each_object(member, change));
        }
        Json::Array(items) => items.iter_mut().for_each(|item| each_object(item, change)),
        _ => {}
    }
}
