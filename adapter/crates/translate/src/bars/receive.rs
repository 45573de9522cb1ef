//! The receiver's side of `$process-message`: <https://hl7.org/fhir/R4/messageheader-operation-process-message.html>.
//!
//! The order of decisions is headers, parse, first entry, event, focus, reason and status, patient.
//! Whether the message was seen before, whether the service is ours, whether the place is free and
//! whether the request is known are questions for a store; [`Refusal::new`] says no to them.

use lumbar_fhir::{Issue, IssueType, Json, Locator, json};
use uuid::Uuid;

use super::{
    CATEGORIES, DEFINITION, ERROR_CODES, PROFILE, UK_CORE, header, references, resource_type,
    tolerate, uuid,
};

/// The events of `message-events-bars`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the codes")]
pub enum Event {
    ServiceRequestRequest,
    ServiceRequestResponse,
    BookingRequest,
    BookingResponse,
}

/// What a message asks us to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Take in a new referral or booking.
    Create,
    /// Replace what is known of a referral or booking; it must be known.
    Change,
    /// Cancel a referral or booking; it must be known and not be cancelled.
    Cancel,
    /// Take note of what a partner decided; see [`super::read_answer`].
    Note,
}

/// A message that may be acted upon.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// X-Request-Id in lower case.
    pub request_id: String,
    /// X-Correlation-Id in lower case. Both ids seen before: [`RefusalReason::Duplicate`].
    pub correlation_id: String,
    /// System and value of the service that is addressed.
    pub target: (String, String),
    /// Endpoint of the sender as `system|value`, when the header has one.
    pub sender: Option<String>,
    /// The sender's Organization as its header told it.
    pub organization: Option<Json>,
    /// What happened.
    pub event: Event,
    /// What to do about it.
    pub action: Action,
    /// `fullUrl` of the focus.
    pub focus_url: String,
    /// The ServiceRequest, Appointment or (in some answers) Encounter the message is about.
    pub focus: Json,
    /// The Patient.
    pub patient: Json,
    /// Id of the Bundle that this one answers.
    pub in_response_to: Option<String>,
    /// The whole message, oddities set right.
    pub bundle: Json,
    /// What was odd, and what the caller should know.
    pub issues: Vec<Issue>,
}

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// A header is missing.
    HeaderRequired,
    /// A header cannot be read.
    HeaderInvalid,
    /// A header holds JSON of the wrong shape.
    HeaderStructure,
    /// The body cannot be read or is no message.
    Structure,
    /// An element is missing.
    Required,
    /// A value is none of those that are allowed.
    Value,
    /// The parts of the message do not go together.
    Invariant,
    /// The service, referral or booking is not known here.
    NotFound,
    /// The place is taken, or the state here forbids the change.
    Conflict,
    /// Both ids were seen before; the sender counts this as success.
    Duplicate,
    /// We do not do this.
    NotSupported,
    /// The search is too wide.
    TooCostly,
    /// We failed.
    Exception,
    /// We cannot answer now; the sender may try again.
    Unavailable,
}

/// A message that is not taken, as it is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Why.
    pub reason: RefusalReason,
    /// HTTP status.
    pub status: u16,
    /// The OperationOutcome for the body.
    pub outcome: Json,
}

/// What a receiver adds to its answer.
#[derive(Clone, Copy, Debug)]
pub struct Own<'a> {
    /// Our FHIR base, without a slash at the end.
    pub base: &'a str,
    /// Instant of the answer.
    pub now: &'a str,
    /// Name of our organisation or service.
    pub name: &'a str,
    /// Our product's name and version.
    pub software: (&'a str, &'a str),
    /// Id under which the focus is stored here; later messages refer to it.
    pub focus_id: &'a str,
    /// Id of the Encounter that is planned for a referral.
    pub encounter_id: &'a str,
    /// System and value of our case number.
    pub case_number: (&'a str, &'a str),
}

impl Event {
    fn from_code(code: &str) -> Option<Event> {
        Some(match code {
            "servicerequest-request" => Event::ServiceRequestRequest,
            "servicerequest-response" => Event::ServiceRequestResponse,
            "booking-request" => Event::BookingRequest,
            "booking-response" => Event::BookingResponse,
            _ => return None,
        })
    }

    /// The code of the event that answers this one; an answer answers nothing further.
    fn answered_by(self) -> &'static str {
        match self {
            Event::ServiceRequestRequest | Event::ServiceRequestResponse => {
                "servicerequest-response"
            }
            Event::BookingRequest | Event::BookingResponse => "booking-response",
        }
    }

    fn allows_focus(self, name: &str) -> bool {
        match self {
            Event::ServiceRequestRequest => name == "ServiceRequest",
            // Published answers to a validation point at the receiver's Encounter.
            Event::ServiceRequestResponse => matches!(name, "ServiceRequest" | "Encounter"),
            Event::BookingRequest | Event::BookingResponse => name == "Appointment",
        }
    }
}

impl RefusalReason {
    /// HTTP status, code of `http-error-codes` and issue type.
    fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            RefusalReason::HeaderRequired => (400, "SEND_BAD_REQUEST", "required"),
            RefusalReason::HeaderInvalid => (400, "SEND_BAD_REQUEST", "invalid"),
            RefusalReason::HeaderStructure => (400, "SEND_BAD_REQUEST", "structure"),
            RefusalReason::Structure => (400, "REC_BAD_REQUEST", "structure"),
            RefusalReason::Required => (400, "REC_BAD_REQUEST", "required"),
            RefusalReason::Value => (400, "REC_BAD_REQUEST", "value"),
            RefusalReason::Invariant => (400, "REC_BAD_REQUEST", "invariant"),
            RefusalReason::NotFound => (404, "REC_NOT_FOUND", "not-found"),
            RefusalReason::Conflict => (409, "REC_CONFLICT", "conflict"),
            RefusalReason::Duplicate => (409, "REC_CONFLICT", "duplicate"),
            RefusalReason::NotSupported => (422, "REC_UNPROCESSABLE_ENTITY", "not-supported"),
            RefusalReason::TooCostly => (422, "REC_UNPROCESSABLE_ENTITY", "too-costly"),
            RefusalReason::Exception => (500, "REC_SERVER_ERROR", "exception"),
            RefusalReason::Unavailable => (503, "REC_SERVICE_UNAVAILABLE", "transient"),
        }
    }
}

impl Refusal {
    /// A refusal with one sentence for the sender; it must hold no patient data.
    pub fn new(reason: RefusalReason, text: impl AsRef<str>) -> Refusal {
        let (status, code, issue) = reason.row();
        let outcome = json!({
            "resourceType": "OperationOutcome",
            "issue": [{
                "severity": "error",
                "code": (issue),
                "details": {"coding": [{"system": (ERROR_CODES), "code": (code)}]},
                "diagnostics": (text.as_ref())
            }]
        });
        Refusal { reason, status, outcome }
    }
}

/// Reads a message as its receiver: `headers` as they came, `body` the JSON bytes.
///
/// Known oddities are set right and reported in [`Incoming::issues`].
///
/// # Errors
/// The first decision that fails, as the answer to send.
pub fn receive(headers: &[(&str, &str)], body: &[u8]) -> Result<Incoming, Refusal> {
    let request_id = id_header(headers, "X-Request-Id")?;
    let correlation_id = id_header(headers, "X-Correlation-Id")?;
    let target = target(headers)?;
    let mut issues = Vec::new();
    for name in ["NHSD-End-User-Organisation", "NHSD-Requesting-Software"] {
        let read = header::value(headers, name).map(header::decoded);
        if !matches!(read, Some(Some(_))) {
            let text = format!("The header {name} is missing or cannot be read.");
            issues.push(Issue::warning(IssueType::Required, text));
        }
    }
    let organization =
        header::value(headers, "NHSD-End-User-Organisation").and_then(header::decoded);

    let mut bundle = Json::parse(body).map_err(|error| {
        let place = format!("line {}, column {}", error.line, error.column);
        Refusal::new(RefusalReason::Structure, format!("The body is not FHIR JSON: see {place}."))
    })?;
    if resource_type(&bundle) != "Bundle" || bundle.str_at(&["type"]) != Some("message") {
        let text = "The body is not a Bundle of type message.";
        return Err(Refusal::new(RefusalReason::Structure, text));
    }
    issues.extend(tolerate::tolerate(&mut bundle));

    let header = bundle.list("entry").first().and_then(|entry| entry.get("resource"));
    let header =
        header.filter(|first| resource_type(first) == "MessageHeader").ok_or_else(|| {
            Refusal::new(RefusalReason::Invariant, "The first entry is not a MessageHeader.")
        })?;
    let code = header.str_at(&["eventCoding", "code"]).unwrap_or_default();
    let event = Event::from_code(code).ok_or_else(|| {
        Refusal::new(RefusalReason::Value, "The event is not one of message-events-bars.")
    })?;
    let (focus_url, focus) = focus(&bundle, header, event)?;
    if event == Event::ServiceRequestRequest {
        check_request(focus)?;
    }
    let action = action(event, header, focus, &mut issues)?;
    let patient = patient(&bundle, focus, &mut issues)?;
    report_dangling(&bundle, &mut issues);
    let sender = header.str_at(&["source", "endpoint"]).map(str::to_owned);
    let in_response_to = header.str_at(&["response", "identifier"]).map(str::to_owned);
    let (focus_url, focus, patient) = (focus_url.to_owned(), focus.clone(), patient.clone());
    Ok(Incoming {
        request_id,
        correlation_id,
        target,
        sender,
        organization,
        event,
        action,
        focus_url,
        focus,
        patient,
        in_response_to,
        bundle,
        issues,
    })
}

fn id_header(headers: &[(&str, &str)], name: &str) -> Result<String, Refusal> {
    let text = header::value(headers, name).ok_or_else(|| {
        Refusal::new(RefusalReason::HeaderRequired, format!("{name} is missing."))
    })?;
    let uuid = Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
    let uuid = uuid.ok_or_else(|| {
        Refusal::new(RefusalReason::HeaderInvalid, format!("{name} is not a UUID."))
    })?;
    Ok(uuid.to_string())
}

fn target(headers: &[(&str, &str)]) -> Result<(String, String), Refusal> {
    let name = "NHSD-Target-Identifier";
    let text = header::value(headers, name).ok_or_else(|| {
        Refusal::new(RefusalReason::HeaderRequired, format!("{name} is missing."))
    })?;
    let target = header::decoded(text).ok_or_else(|| {
        let text = format!("{name} is not the Base64 form of a JSON text.");
        Refusal::new(RefusalReason::HeaderInvalid, text)
    })?;
    match (target.str_at(&["system"]), target.str_at(&["value"])) {
        (Some(system), Some(value)) if !value.is_empty() => Ok((system.into(), value.into())),
        _ => {
            let text = format!("{name} does not hold a system and a value.");
            Err(Refusal::new(RefusalReason::HeaderStructure, text))
        }
    }
}

/// The entry that a reference means: by `fullUrl`, else by type and id.
pub(super) fn resolve<'a>(bundle: &'a Json, reference: &str) -> Option<(&'a str, &'a Json)> {
    let entries = || {
        bundle.list("entry").iter().filter_map(|entry| {
            Some((entry.str_at(&["fullUrl"]).unwrap_or_default(), entry.get("resource")?))
        })
    };
    let by_url = entries().find(|(url, _)| *url == reference);
    by_url.or_else(|| entries().find(|(_, resource)| super::key(resource) == reference))
}

fn focus<'a>(
    bundle: &'a Json,
    header: &Json,
    event: Event,
) -> Result<(&'a str, &'a Json), Refusal> {
    let text = references(header, "focus")
        .first()
        .copied()
        .ok_or_else(|| Refusal::new(RefusalReason::Required, "The MessageHeader has no focus."))?;
    let (url, focus) = resolve(bundle, text).ok_or_else(|| {
        Refusal::new(RefusalReason::Invariant, "The focus is not among the entries.")
    })?;
    if !event.allows_focus(resource_type(focus)) {
        let text = "The focus is not of the type that the event is about.";
        return Err(Refusal::new(RefusalReason::Invariant, text));
    }
    Ok((url, focus))
}

/// What the profile of a ServiceRequest in a request fixes.
fn check_request(request: &Json) -> Result<(), Refusal> {
    if request.str_at(&["intent"]) != Some("plan") {
        let text = "ServiceRequest.intent is not plan.";
        return Err(Refusal::new(RefusalReason::Value, text));
    }
    let [category] = request.list("category") else {
        let text = "ServiceRequest.category does not stand exactly once.";
        return Err(Refusal::new(RefusalReason::Invariant, text));
    };
    let is_category = |coding: &&Json| coding.str_at(&["system"]) == Some(CATEGORIES);
    if category.list("coding").iter().any(|coding| is_category(&coding)) {
        Ok(())
    } else {
        let text = "ServiceRequest.category has no coding of message-category-servicerequest.";
        Err(Refusal::new(RefusalReason::Value, text))
    }
}

fn action(
    event: Event,
    header: &Json,
    focus: &Json,
    issues: &mut Vec<Issue>,
) -> Result<Action, Refusal> {
    let reason = header.get("reason").map(|reason| reason.list("coding")).unwrap_or_default();
    let reason = reason.iter().find_map(|coding| coding.str_at(&["code"])).unwrap_or_default();
    let refuse = |why, text: &str| Err(Refusal::new(why, text));
    match reason {
        "new" | "update" => {}
        "delete" => {
            let text = "The reason delete is not supported; send an update that cancels.";
            return refuse(RefusalReason::NotSupported, text);
        }
        "" => return refuse(RefusalReason::Required, "The MessageHeader has no reason."),
        _ => return refuse(RefusalReason::Value, "The reason is not one of message-reason-bars."),
    }
    if matches!(event, Event::ServiceRequestResponse | Event::BookingResponse) {
        return Ok(Action::Note);
    }
    let status = focus.str_at(&["status"]).unwrap_or_default();
    match (event, reason, status) {
        (_, _, "") => refuse(RefusalReason::Required, "The focus has no status."),
        (Event::ServiceRequestRequest, "new", "active")
        | (Event::BookingRequest, "new", "booked") => Ok(Action::Create),
        (_, "update", "entered-in-error")
        | (Event::ServiceRequestRequest, "update", "revoked")
        | (Event::BookingRequest, "update", "cancelled") => Ok(Action::Cancel),
        (Event::ServiceRequestRequest, "update", "active" | "on-hold" | "completed")
        | (
            Event::BookingRequest,
            "update",
            "booked" | "pending" | "arrived" | "checked-in" | "fulfilled" | "noshow",
        ) => Ok(Action::Change),
        (_, "new", "revoked" | "cancelled" | "entered-in-error") if cancels(header) => {
            let text = "A cancellation gives the reason new where update is due.";
            issues.push(Issue::warning(IssueType::Informational, text).at("MessageHeader.reason"));
            Ok(Action::Cancel)
        }
        _ => {
            let text = "The reason and the status of the focus do not go together.";
            refuse(RefusalReason::Invariant, text)
        }
    }
}

fn cancels(header: &Json) -> bool {
    header.str_at(&["definition"]).is_some_and(|text| text.ends_with("-cancelled"))
}

fn patient<'a>(
    bundle: &'a Json,
    focus: &Json,
    issues: &mut Vec<Issue>,
) -> Result<&'a Json, Refusal> {
    let named =
        references(focus, "subject").into_iter().chain(references(focus, "participant.actor"));
    let mut named = named.filter_map(|text| resolve(bundle, text)).map(|(_, resource)| resource);
    if let Some(patient) = named.find(|resource| resource_type(resource) == "Patient") {
        return Ok(patient);
    }
    let patients: Vec<&Json> = bundle
        .list("entry")
        .iter()
        .filter_map(|entry| entry.get("resource"))
        .filter(|resource| resource_type(resource) == "Patient")
        .collect();
    if let [only] = patients[..] {
        let text = "The focus does not refer to the patient; the message's one patient is taken.";
        issues.push(Issue::warning(IssueType::Incomplete, text));
        return Ok(only);
    }
    let text = "The patient of the message cannot be told (BPA-REF-010).";
    Err(Refusal::new(RefusalReason::Required, text))
}

fn report_dangling(bundle: &Json, issues: &mut Vec<Issue>) {
    for (index, entry) in bundle.list("entry").iter().enumerate() {
        let Some(resource) = entry.get("resource") else { continue };
        let mut dangling = false;
        visit_references(resource, &mut |text| {
            dangling |= text.starts_with("urn:uuid:") && resolve(bundle, text).is_none();
        });
        if dangling {
            let text = "A reference points at an entry that is not in the message.";
            let place = Locator::Pointer(format!("/entry/{index}/resource"));
            issues.push(Issue::warning(IssueType::NotFound, text).located(place));
        }
    }
}

pub(super) fn visit_references(value: &Json, visit: &mut impl FnMut(&str)) {
    match value {
        Json::Object(object) => {
            for (name, member) in object.iter() {
                match member.as_str() {
                    Some(text) if name == "reference" => visit(text),
                    _ => visit_references(member, visit),
                }
            }
        }
        Json::Array(items) => items.iter().for_each(|item| visit_references(item, visit)),
        _ => {}
    }
}

/// The Bundle that answers a message with 200: the message again under a new header, the focus
/// with our id, and for a referral a second Encounter, `planned`, with our case number. A booked
/// place stands as `busy`, a cancelled one as `free`.
pub fn answer(incoming: &Incoming, own: &Own<'_>) -> Json {
    let bundle_id = incoming.bundle.str_at(&["id"]).unwrap_or_default();
    let id = uuid(&["answer", own.base, bundle_id, &incoming.request_id]);
    let mut entries = Vec::new();
    for (index, entry) in incoming.bundle.list("entry").iter().enumerate() {
        let (url, resource) =
            (entry.str_at(&["fullUrl"]).unwrap_or_default(), entry.get("resource"));
        let Some(resource) = resource else { continue };
        if index == 0 {
            let header = answer_header(incoming, resource, own);
            let url = format!("urn:uuid:{}", uuid(&["header", &id]));
            entries.push(json!({"fullUrl": (url), "resource": (header)}));
            continue;
        }
        let mut resource = resource.clone();
        if url == incoming.focus_url {
            set_id(&mut resource, own.focus_id);
        } else if resource_type(&resource) == "Slot" && incoming.event == Event::BookingRequest {
            let is_cancelled = incoming.action == Action::Cancel;
            resource.set("status", if is_cancelled { "free" } else { "busy" });
        }
        entries.push(json!({"fullUrl": (url), "resource": (resource)}));
    }
    if incoming.event == Event::ServiceRequestRequest && incoming.action != Action::Cancel {
        let url = format!("urn:uuid:{}", uuid(&["encounter", own.base, own.encounter_id]));
        let encounter = planned(incoming, own);
        entries.push(json!({"fullUrl": (url), "resource": (encounter)}));
    }
    json!({
        "resourceType": "Bundle",
        "id": (id),
        "meta": {"lastUpdated": (own.now), "profile": [(format!("{PROFILE}BARSBundleMessage"))]},
        "type": "message",
        "timestamp": (own.now),
        "entry": (entries)
    })
}

fn set_id(resource: &mut Json, id: &str) {
    if let Some(object) = resource.as_object_mut() {
        object.set_at(1, "id", id);
    }
}

fn answer_header(incoming: &Incoming, asked: &Json, own: &Own<'_>) -> Json {
    let event = incoming.event.answered_by();
    let destination = asked.list("destination").first();
    let mut header = json!({
        "resourceType": "MessageHeader",
        "meta": {
            "lastUpdated": (own.now),
            "profile": [(format!("{PROFILE}BARSMessageHeader-{event}"))]
        },
        "eventCoding": {"system": (super::EVENTS), "code": (event)}
    });
    let mut back = json!({});
    if let Some(endpoint) = asked.str_at(&["source", "endpoint"]) {
        back.set("endpoint", endpoint);
    }
    if let Some(sender) = asked.get("sender") {
        back.set("receiver", sender);
    }
    header.set("destination", json!([(back)]));
    if let Some(sender) = destination.and_then(|destination| destination.get("receiver")) {
        header.set("sender", sender);
    }
    let (name, version) = own.software;
    let mut source = json!({"name": (own.name), "software": (name), "version": (version)});
    if let Some(endpoint) = destination.and_then(|destination| destination.str_at(&["endpoint"])) {
        source.set("endpoint", endpoint);
    }
    header.set("source", source);
    if let Some(reason) = asked.get("reason") {
        header.set("reason", reason);
    }
    let bundle_id = incoming.bundle.str_at(&["id"]).unwrap_or_default();
    header.set("response", json!({"identifier": (bundle_id), "code": "ok"}));
    header.set("focus", json!([{"reference": (incoming.focus_url.as_str())}]));
    let definition = match incoming.event {
        Event::ServiceRequestRequest | Event::ServiceRequestResponse => {
            "servicerequest-response-referral"
        }
        Event::BookingRequest | Event::BookingResponse => "booking-response",
    };
    header.set("definition", format!("{DEFINITION}{definition}"));
    header
}

fn planned(incoming: &Incoming, own: &Own<'_>) -> Json {
    let (system, value) = own.case_number;
    let mut encounter = json!({
        "resourceType": "Encounter",
        "id": (own.encounter_id),
        "meta": {"lastUpdated": (own.now), "profile": [(format!("{UK_CORE}Encounter"))]},
        "identifier": [{"system": (system), "value": (value)}],
        "status": "planned",
        "class": {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
            "code": "AMB",
            "display": "ambulatory"
        }
    });
    if let Some(subject) = incoming.focus.get("subject") {
        encounter.set("subject", subject);
    }
    let theirs = references(&incoming.focus, "encounter");
    let theirs = theirs.first().and_then(|text| resolve(&incoming.bundle, text));
    if let Some(episode) = theirs.and_then(|(_, encounter)| encounter.get("episodeOfCare")) {
        encounter.set("episodeOfCare", episode);
    }
    encounter
}
