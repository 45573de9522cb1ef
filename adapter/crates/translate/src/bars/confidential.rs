//! What may leave the house: <https://terminology.hl7.org/CodeSystem-v3-Confidentiality.html>.
//!
//! A resource labelled R (restricted) or V (very restricted) is not sent. A restricted referral is
//! sent because it is the purpose, without free text. A restricted patient is sent without address
//! and telecom. The labels are set on intake; this file only reads them.

use lumbar_fhir::{Json, Object, json};

use super::each_object;

const CONFIDENTIALITY: &str = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality";

/// Elements whose content is free text and that a restricted referral loses.
const FREE_TEXT: [&str; 8] = [
    "note",
    "text",
    "comment",
    "description",
    "patientInstruction",
    "_text",
    "_description",
    "_patientInstruction",
];

pub(crate) fn is_restricted(resource: &Json) -> bool {
    let Some(meta) = resource.get("meta") else { return false };
    meta.list("security").iter().any(|label| {
        label.str_at(&["system"]) == Some(CONFIDENTIALITY)
            && matches!(label.str_at(&["code"]), Some("R" | "V"))
    })
}

pub(crate) fn restrict(resource: &mut Json) {
    if is_restricted(resource) {
        return;
    }
    let label = json!({"system": (CONFIDENTIALITY), "code": "R"});
    match resource.get_mut("meta") {
        Some(meta) => meta.push("security", label),
        None => resource.set("meta", json!({"security": [(label)]})),
    }
}

/// Takes free text out of every element, and displays out of references, which name people.
pub(crate) fn without_free_text(resource: &mut Json) {
    each_object(resource, &mut |object: &mut Object| {
        for name in FREE_TEXT {
            object.remove(name);
        }
        if object.get("reference").is_some() {
            object.remove("display");
        }
    });
    prune(resource);
}

/// Takes out what became empty, as FHIR allows no empty object and no empty list.
fn prune(value: &mut Json) {
    match value {
        Json::Object(object) => {
            object.iter_mut().for_each(|(_, member)| prune(member));
            let kept = object.iter().filter(|(_, member)| !is_empty(member));
            *object = kept.map(|(name, member)| (name.into(), member.clone())).collect();
        }
        Json::Array(items) => {
            items.iter_mut().for_each(prune);
            items.retain(|item| !is_empty(item));
        }
        _ => {}
    }
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Object(object) => object.is_empty(),
        Json::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Takes out where a patient lives and can be reached.
pub(crate) fn without_whereabouts(patient: &mut Json) {
    each_object(patient, &mut |object: &mut Object| {
        object.remove("address");
        object.remove("telecom");
        object.remove("text");
    });
}
