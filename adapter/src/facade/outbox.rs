//! Jobs that follow from a write: work for the outside, enqueued in the same commit.

use lumbar_fhir::datetime::Micros;
use lumbar_fhir::{Json, json};
use lumbar_store::NewJob;

/// A confirmed match is to be sent as a BaRS referral.
pub const REFERRAL: &str = "bars-referral";
/// A place is to be found for a referral that was accepted.
pub const SLOT: &str = "bars-slot";
/// The place that was found is to be booked.
pub const BOOKING: &str = "bars-booking";
/// The CSV list of appointments is to be sent anew.
pub const LIST: &str = "booking-list";

/// The job that sends version `version` of a confirmed match (`ServiceRequest/…`).
pub fn referral(matched: &str, version: i64, now: Micros) -> NewJob {
    let order = format!("{matched}/{version}");
    let body = json!({"matched": (matched), "order": (&order), "now": (now)});
    job(REFERRAL, &order, &body, now)
}

/// A job of one kind. `key` is unique among those of its kind for ever.
pub fn job(kind: &str, key: &str, body: &Json, now: Micros) -> NewJob {
    let destination = if kind == LIST { LIST } else { "booking" };
    NewJob {
        kind: kind.to_owned(),
        key: format!("{kind}:{key}"),
        destination: destination.to_owned(),
        body: body.to_string().into(),
        not_before: now,
    }
}
