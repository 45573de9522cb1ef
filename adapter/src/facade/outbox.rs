//! Jobs that follow from a write: work for the outside, enqueued in the same commit.

use lumbar_fhir::datetime::Micros;
use lumbar_fhir::{Json, json};
use lumbar_store::NewJob;

/// The profile of the Task that shows a delivery.
const TASK: &str = "https://lumbar.example/fhir/StructureDefinition/back-pain-task";
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

/// The job that sends a match that was held back, now that version `held` of the Task of its
/// delivery lets it go.
pub fn released(matched: &str, held: i64, now: Micros) -> NewJob {
    let order = format!("{matched}/released/{held}");
    let body = json!({"matched": (matched), "order": (&order), "now": (now)});
    job(REFERRAL, &order, &body, now)
}

/// The id of the Task that shows how far the delivery of a matched request is.
pub fn delivery_id(matched: &str) -> String {
    lumbar_clinical::id::derived(&["Task", "delivery", matched])
}

/// The Task that shows how far the delivery of a matched request is.
pub fn delivery(reference: &str, matched: &Json, status: &str, reason: Option<&str>) -> Json {
    let mut task = json!({
        "resourceType": "Task",
        "id": (delivery_id(reference)),
        "meta": {"profile": [(TASK)]},
        "status": (status),
        "intent": "order",
        "code": {"coding": [{"system": "http://hl7.org/fhir/CodeSystem/task-code", "code": "fulfill"}]},
        "focus": {"reference": (reference)}
    });
    if let Some(reason) = reason {
        let reason: String = reason.chars().take(1000).collect();
        task.set("statusReason", json!({"text": (reason)}));
    }
    if let Some(subject) = matched.get("subject") {
        task.set("for", subject);
    }
    task
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

/// A resource matched a subscription's criteria.
pub const NOTIFICATION: &str = "subscription-notification";
/// A subscription was requested, so its endpoint is to be asked whether it is there.
pub const HANDSHAKE: &str = "subscription-handshake";
/// The end of a subscription may have come.
pub const END: &str = "subscription-end";
/// A subscription was deleted, and what waits for it is not to be sent.
pub const FORGOTTEN: &str = "subscription-forgotten";
/// All of them.
pub const OF_SUBSCRIPTIONS: [&str; 4] = [NOTIFICATION, HANDSHAKE, END, FORGOTTEN];

/// The destination of a subscription's notifications, which are sent in their order.
pub fn subscription(id: &str) -> String {
    format!("Subscription/{id}")
}

/// Tells the subscription `subscription` of version `version` of a resource.
pub fn notification(
    subscription: &str,
    resource_type: &str,
    id: &str,
    version: i64,
    now: Micros,
) -> NewJob {
    NewJob {
        kind: NOTIFICATION.to_owned(),
        key: format!("{NOTIFICATION}:{subscription}/{resource_type}/{id}/{version}"),
        destination: self::subscription(subscription),
        body: json!({"subscription": (subscription), "type": (resource_type), "id": (id), "version": (version)})
            .to_string()
            .into(),
        not_before: now,
    }
}

/// Shakes hands about version `version` of a subscription.
pub fn handshake(subscription: &str, version: i64, now: Micros) -> NewJob {
    alone(HANDSHAKE, subscription, version, now)
}

/// Turns a subscription off when its end has come.
pub fn end(subscription: &str, version: i64, end: Micros) -> NewJob {
    alone(END, subscription, version, end)
}

/// Gives up what waits for a subscription that version `version` deleted.
pub fn forgotten(subscription: &str, version: i64, now: Micros) -> NewJob {
    alone(FORGOTTEN, subscription, version, now)
}

/// A job about a subscription that waits for no other: what it does to a subscription that has
/// changed since, it sees by the version.
fn alone(kind: &str, subscription: &str, version: i64, not_before: Micros) -> NewJob {
    NewJob {
        kind: kind.to_owned(),
        key: format!("{kind}:{subscription}/{version}"),
        destination: String::new(),
        body: json!({"subscription": (subscription), "version": (version)}).to_string().into(),
        not_before,
    }
}
