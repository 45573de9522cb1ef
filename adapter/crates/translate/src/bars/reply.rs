//! What a partner answers: an HTTP status with an OperationOutcome, or a message.
//!
//! An answer repeats our message, sometimes under other ids. What is ours is recognised by the
//! `urn:uuid` that we gave it and is never stored again; what is theirs gets ids of its own, so the
//! same answer read twice gives the same resources.

use std::collections::HashMap;

use lumbar_fhir::{Issue, IssueType, Json, Object, json};

use super::receive::{resolve, visit_references};
use super::referral::reach;
use super::{
    NHS_NUMBER, each_object, identifier, key, local_key, reference, references, resource_type,
    tolerate, uuid,
};

/// What the receiver decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The referral or booking stands.
    Accepted,
    /// It was turned down, cancelled or did not take place; the focus' status says which.
    Refused,
}

/// An answer message, ready to be stored on our side.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Whether it stands.
    pub decision: Decision,
    /// Type and status of the focus, for example `ServiceRequest` and `active`.
    pub focus: (String, String),
    /// Id of our message that is answered, when the answer says so.
    pub in_response_to: Option<String>,
    /// Whether the answer names our request, by our id, our `urn:uuid` or a shared identifier. When
    /// it does not, only the exchange it came in (or its X-Correlation-Id) ties it to the request.
    pub is_tied: bool,
    /// The referral's reference at the receiver, for the booking's `basedOn`.
    pub referral_there: Option<String>,
    /// Identifiers that the receiver gave: its case number, its own identifiers of the request.
    pub identifiers: Vec<Json>,
    /// Resources to create or update on our side, references among them as `Type/id`: the
    /// Appointment (`basedOn` our request) with Slot, Schedule and participants, or the planned
    /// Encounter.
    pub resources: Vec<Json>,
    /// What was odd.
    pub issues: Vec<Issue>,
}

/// What an HTTP answer means for the job that sent the request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Taken. The body, if it is a message, goes to [`read_answer`].
    Accepted,
    /// 409 with issue code `duplicate`: taken before, which is success.
    Duplicate,
    /// 409 otherwise: the place is gone, or their state forbids it.
    Conflict(Vec<Issue>),
    /// 408, 429 or 503: send the same bytes with the same ids again.
    Retry,
    /// Anything else: a person must look.
    Refused(Vec<Issue>),
}

/// Reads a status and body. Diagnostics of the partner become the issues' text, cut to 500
/// characters; they may hold what the partner put there, so they are for the work list, not a log.
pub fn read_outcome(status: u16, body: &[u8]) -> Outcome {
    let outcome = Json::parse(body).ok().filter(|body| resource_type(body) == "OperationOutcome");
    let list = outcome.as_ref().map(|outcome| outcome.list("issue")).unwrap_or_default();
    let failed = |issue: &Json| matches!(issue.str_at(&["severity"]), Some("error" | "fatal"));
    let duplicate = |issue: &Json| issue.str_at(&["code"]) == Some("duplicate");
    match status {
        408 | 429 | 503 => Outcome::Retry,
        409 if list.iter().any(duplicate) => Outcome::Duplicate,
        409 => Outcome::Conflict(issues(status, list)),
        200..=299 if !list.iter().any(failed) => Outcome::Accepted,
        _ => Outcome::Refused(issues(status, list)),
    }
}

fn issues(status: u16, list: &[Json]) -> Vec<Issue> {
    let detail = (status == 409).then_some("BPA-BOOK-001");
    let kind = if status == 409 { IssueType::Conflict } else { IssueType::Processing };
    let mut issues = Vec::new();
    for issue in list.iter().take(20) {
        let coding = issue.at(&["details", "coding"]);
        let code = coding.and_then(|coding| coding.str_at(&["code"])).unwrap_or("no code");
        let text = issue.str_at(&["diagnostics"]).or_else(|| issue.str_at(&["details", "text"]));
        let text: String = text.unwrap_or("no reason given").chars().take(500).collect();
        issues.push(Issue::error(kind, format!("The receiver answered {status} {code}: {text}")));
    }
    if issues.is_empty() {
        issues
            .push(Issue::error(kind, format!("The receiver answered {status} without a reason.")));
    }
    issues.iter_mut().for_each(|issue| issue.detail = detail);
    issues
}

/// Reads an answer to what we said about `matched`, from the HTTP body or from a message of its own.
///
/// `base` is our FHIR base; `patient` the patient of the request, to see that the answer is about
/// the same person.
///
/// # Errors
/// Not a message, no focus of a known type, or another person's NHS number (`BPA-ID-003`).
pub fn read_answer(
    bundle: &Json,
    matched: &Json,
    patient: Option<&Json>,
    base: &str,
) -> Result<Answer, Vec<Issue>> {
    let mut bundle = bundle.clone();
    let mut issues = tolerate::tolerate(&mut bundle);
    let fail = |kind, text: &str| Err(vec![Issue::error(kind, text)]);
    let header = bundle.list("entry").first().and_then(|entry| entry.get("resource"));
    let Some(header) = header.filter(|first| resource_type(first) == "MessageHeader") else {
        return fail(IssueType::Structure, "The answer does not begin with a MessageHeader.");
    };
    let focus = references(header, "focus").first().and_then(|text| resolve(&bundle, text));
    let Some((focus_url, focus)) = focus else {
        return fail(IssueType::NotFound, "The focus of the answer is not among its entries.");
    };
    if !matches!(resource_type(focus), "ServiceRequest" | "Encounter" | "Appointment") {
        return fail(
            IssueType::Value,
            "The focus of the answer is neither a referral nor a booking.",
        );
    }
    same_person(&bundle, patient)?;
    let theirs = Theirs::new(&bundle, matched, header, base);
    let request = match resource_type(focus) {
        "ServiceRequest" => Some((focus_url, focus)),
        _ => theirs.request(),
    };
    let is_tied = request.is_some_and(|(url, request)| theirs.is_ours(url, request, matched))
        || references(focus, "basedOn").iter().any(|text| {
            local_key(text, base).or_else(|| theirs.names.get(*text).map(String::as_str))
                == Some(key(matched).as_str())
        });
    if !is_tied {
        let text = "The answer does not name our request; it is taken by its exchange.";
        issues.push(Issue::information(IssueType::Informational, text));
    }
    let there = request.and_then(|(_, request)| request.str_at(&["id"]));
    let referral_there = there
        .filter(|id| Some(*id) != matched.str_at(&["id"]))
        .map(|id| format!("ServiceRequest/{id}"));
    let status = focus.str_at(&["status"]).unwrap_or_default().to_owned();
    let refused = ["revoked", "entered-in-error", "cancelled", "noshow"].contains(&status.as_str());
    let decision = if refused { Decision::Refused } else { Decision::Accepted };
    let mut identifiers: Vec<Json> = Vec::new();
    let known = matched.list("identifier");
    let given = request.map(|(_, request)| request.list("identifier")).unwrap_or_default();
    identifiers.extend(given.iter().filter(|id| !known.contains(id)).cloned());
    let resources = theirs.resources(focus_url, focus, &mut identifiers, &mut issues);
    let in_response_to = header.str_at(&["response", "identifier"]).map(str::to_owned);
    let focus = (resource_type(focus).to_owned(), status);
    Ok(Answer {
        decision,
        focus,
        in_response_to,
        is_tied,
        referral_there,
        identifiers,
        resources,
        issues,
    })
}

fn same_person(bundle: &Json, patient: Option<&Json>) -> Result<(), Vec<Issue>> {
    let ours = patient.and_then(|patient| identifier(patient, NHS_NUMBER));
    let theirs = bundle
        .list("entry")
        .iter()
        .filter_map(|entry| entry.get("resource"))
        .filter(|resource| resource_type(resource) == "Patient")
        .find_map(|resource| identifier(resource, NHS_NUMBER));
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if ours != theirs => {
            let text = "The answer is about a person with another NHS number.";
            Err(vec![Issue::error(IssueType::Conflict, text).detail("BPA-ID-003")])
        }
        _ => Ok(()),
    }
}

/// The answer's entries with the names that they have, or will have, on our side.
struct Theirs<'a> {
    entries: Vec<(&'a str, &'a Json)>,
    /// `fullUrl`, and `Type/id` as the answer writes it, to `Type/id` on our side.
    names: HashMap<String, String>,
    matched: &'a Json,
    sender: String,
    base: &'a str,
}

impl<'a> Theirs<'a> {
    fn new(bundle: &'a Json, matched: &'a Json, header: &Json, base: &'a str) -> Self {
        // Some receivers repeat our header as it was: then they are its destination.
        let is_repeated =
            header.str_at(&["eventCoding", "code"]).is_some_and(|code| code.ends_with("-request"));
        let side = if is_repeated { "destination" } else { "source" };
        let sender = header.str_at(&[side, "endpoint"]).unwrap_or_default();
        let sender = sender.rsplit('|').next().unwrap_or_default().to_owned();
        let mut ours: HashMap<String, String> = HashMap::new();
        let mut add = |key: &str| {
            ours.insert(format!("urn:uuid:{}", uuid(&[base, key])), key.to_owned());
        };
        add(&key(matched));
        visit_references(matched, &mut |text| {
            if let Some(key) = local_key(text, base) {
                add(key);
            }
        });
        let entries: Vec<(&str, &Json)> = bundle
            .list("entry")
            .iter()
            .filter_map(|entry| Some((entry.str_at(&["fullUrl"])?, entry.get("resource")?)))
            .collect();
        let subject = references(matched, "subject").first().and_then(|text| local_key(text, base));
        let mut names = HashMap::new();
        for (url, resource) in &entries {
            let own = key(resource);
            let is_ours = *url == format!("urn:uuid:{}", uuid(&[base, &own]));
            let name = match (ours.get(*url), resource_type(resource), subject) {
                (Some(name), _, _) => name.clone(),
                (None, "Patient", Some(subject)) => subject.to_owned(),
                (None, _, _) if is_ours => own.clone(),
                (None, name, _) => {
                    let id = resource.str_at(&["id"]).unwrap_or(url);
                    format!("{name}/{}", uuid(&["theirs", base, &sender, name, id]))
                }
            };
            names.insert((*url).to_owned(), name.clone());
            names.entry(own).or_insert(name);
        }
        Theirs { entries, names, matched, sender, base }
    }

    fn request(&self) -> Option<(&'a str, &'a Json)> {
        self.entries
            .iter()
            .find(|(_, resource)| resource_type(resource) == "ServiceRequest")
            .copied()
    }

    fn is_ours(&self, url: &str, request: &Json, matched: &Json) -> bool {
        self.names.get(url) == Some(&key(matched))
            || request.list("identifier").iter().any(|id| matched.list("identifier").contains(id))
    }

    /// What is to be stored, under our names.
    fn resources(
        &self,
        focus_url: &str,
        focus: &Json,
        identifiers: &mut Vec<Json>,
        issues: &mut Vec<Issue>,
    ) -> Vec<Json> {
        let renamed: Vec<Json> = self.entries.iter().map(|(url, r)| self.renamed(url, r)).collect();
        let is_new = |resource: &Json| {
            self.entries
                .iter()
                .all(|(url, _)| self.names.get(*url) != Some(&key(resource)) || !self.is_known(url))
        };
        let mut chosen = Vec::new();
        if resource_type(focus) == "Appointment" {
            let first = renamed.iter().find(|r| self.names.get(focus_url) == Some(&key(r)));
            let Some(first) = first else { return chosen };
            chosen.push(self.appointment(first, issues));
            let around = reach(first, &renamed, "").into_iter().skip(1);
            let is_kept = |r: &&Json| {
                !matches!(
                    resource_type(r),
                    "Patient" | "ServiceRequest" | "Observation" | "Task" | "Consent"
                )
            };
            chosen.extend(around.filter(is_kept).filter(|r| is_new(r)).cloned());
        } else {
            let encounters = renamed.iter().filter(|r| resource_type(r) == "Encounter");
            for encounter in encounters.filter(|r| is_new(r)) {
                let is_planned = encounter.str_at(&["status"]) == Some("planned");
                if is_planned || self.names.get(focus_url) == Some(&key(encounter)) {
                    identifiers.extend(encounter.list("identifier").iter().cloned());
                    chosen.push(encounter.clone());
                }
            }
        }
        chosen
    }

    /// Whether an entry is one that we sent.
    fn is_known(&self, url: &str) -> bool {
        self.names
            .get(url)
            .is_some_and(|name| url == format!("urn:uuid:{}", uuid(&[self.base, name])))
    }

    /// The resource with our id and references to our names. What points outside the answer becomes
    /// a logical reference: their relative references would mean resources of ours here.
    fn renamed(&self, url: &str, resource: &Json) -> Json {
        let mut renamed = resource.clone();
        let theirs = resource.str_at(&["id"]).map(str::to_owned);
        let name = self.names.get(url).cloned().unwrap_or_default();
        each_object(&mut renamed, &mut |object| self.rename_reference(object));
        let (resource_type, id) = name.split_once('/').unwrap_or_default();
        if let Some(object) = renamed.as_object_mut() {
            object.set_at(1, "id", id);
            // Their version, times and profile claims are theirs; only the labels bind us.
            let security = object.remove("meta").and_then(|meta| meta.get("security").cloned());
            if let Some(security) = security {
                object.set_at(2, "meta", json!({"security": (security)}));
            }
        }
        if let Some(theirs) = theirs
            && theirs != id
        {
            let own = json!({"system": (self.id_system(resource_type)), "value": (theirs)});
            renamed.push("identifier", own);
        }
        renamed
    }

    fn id_system(&self, resource_type: &str) -> String {
        format!("{}/Id/bars/{}/{resource_type}", self.base, self.sender)
    }

    fn rename_reference(&self, object: &mut Object) {
        let Some(text) = object.get("reference").and_then(Json::as_str) else { return };
        if let Some(name) = self.names.get(text).cloned() {
            object.set("reference", name);
            return;
        }
        let outside = local_key(text, self.base).and_then(|key| key.split_once('/'));
        let Some((name, id)) = outside.map(|(name, id)| (name.to_owned(), id.to_owned())) else {
            return;
        };
        if text.starts_with(self.base) && !self.base.is_empty() {
            object.set("reference", format!("{name}/{id}"));
            return;
        }
        object.remove("reference");
        if object.get("identifier").is_none() {
            object.set("identifier", json!({"system": (self.id_system(&name)), "value": (id)}));
        }
    }

    fn appointment(&self, renamed: &Json, issues: &mut Vec<Issue>) -> Json {
        let mut appointment = renamed.clone();
        appointment.set("basedOn", json!([(reference(key(self.matched)))]));
        let is_booked = appointment.str_at(&["status"]) == Some("booked");
        let subject = references(self.matched, "subject").first().map(|text| (*text).to_owned());
        let mut participants = appointment.list("participant").to_vec();
        for participant in &mut participants {
            if participant.get("status").is_none() && is_booked {
                participant.set("status", "accepted");
                let text = "A participant has no status; of a booked appointment it is accepted.";
                let issue = Issue::information(IssueType::Informational, text);
                issues.push(issue.at("Appointment.participant.status"));
            }
        }
        if let Some(subject) = subject {
            let patient = local_key(&subject, self.base).unwrap_or(&subject);
            if !references(&appointment, "participant.actor").contains(&patient) {
                participants.retain(|participant| {
                    participant.str_at(&["actor", "identifier", "system"])
                        != Some(self.id_system("Patient").as_str())
                });
                participants
                    .insert(0, json!({"actor": (reference(patient)), "status": "accepted"}));
            }
        }
        appointment.set("participant", participants);
        appointment
    }
}
