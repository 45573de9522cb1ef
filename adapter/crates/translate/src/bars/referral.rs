//! The referral request: <https://fhir.nhs.uk/MessageDefinition/bars-message-servicerequest-request-referral>.
//!
//! Built from a matched ServiceRequest (the one a pathway made, `basedOn` the GP's referral) and
//! what hangs on it. It says `new` only; updates and cancellations are other messages.

use std::collections::HashSet;

use lumbar_fhir::{Issue, IssueType, Json, json};

use super::confidential::{is_restricted, restrict, without_free_text, without_whereabouts};
use super::message::{Heading, Message};
use super::{
    CATEGORIES, DOS_SERVICE_ID, Settings, identifier, key, local_key, reference, references,
    resource_type, tolerate, version,
};

/// Which elements of which type lead to resources that a message may need.
const FOLLOW: [(&str, &[&str]); 16] = [
    (
        "ServiceRequest",
        &[
            "subject",
            "encounter",
            "requester",
            "performer",
            "basedOn",
            "reasonReference",
            "supportingInfo",
            "locationReference",
        ],
    ),
    ("AllergyIntolerance", &["recorder", "asserter"]),
    ("Appointment", &["slot", "participant.actor"]),
    ("CarePlan", &["addresses", "author", "activity.reference"]),
    ("Condition", &["recorder", "asserter"]),
    ("Encounter", &["participant.individual", "serviceProvider", "location.location"]),
    ("HealthcareService", &["providedBy", "location"]),
    ("Location", &["managingOrganization"]),
    ("Observation", &["derivedFrom", "performer"]),
    ("Patient", &["generalPractitioner", "managingOrganization"]),
    ("PractitionerRole", &["practitioner", "organization", "location"]),
    ("Procedure", &["performer.actor"]),
    ("QuestionnaireResponse", &["author", "source"]),
    ("Schedule", &["actor"]),
    ("Slot", &["schedule"]),
    ("Task", &["requester", "owner"]),
];

/// Types that the message definition knows besides the header and the one ServiceRequest, one
/// Patient, one Encounter and one CarePlan.
const SENT: [&str; 13] = [
    "AllergyIntolerance",
    "Communication",
    "Condition",
    "Consent",
    "Flag",
    "HealthcareService",
    "Location",
    "MedicationStatement",
    "Observation",
    "Organization",
    "Practitioner",
    "PractitionerRole",
    "Procedure",
];

/// Greatest number of resources that are followed for one message.
const MOST_RESOURCES: usize = 500;

/// What is still to be fetched for a referral message: references (`Patient/p1`) and searches
/// (`Observation?derived-from=QuestionnaireResponse/q1`), relative to the FHIR base.
///
/// Call it with nothing found, fetch, and call it again with all that was found, until it returns
/// nothing that was not asked before. A reference that is found is not asked again; a search always
/// is. Five rounds are enough for any referral.
pub fn referral_needs(matched: &Json, found: &[Json]) -> Vec<String> {
    let mut needs = Vec::new();
    let mut known: HashSet<String> = found.iter().map(key).collect();
    known.insert(key(matched));
    for resource in reach(matched, found, "") {
        for wanted in followed(resource) {
            if let Some(wanted) = local_key(wanted, "")
                && known.insert(wanted.to_owned())
            {
                needs.push(wanted.to_owned());
            }
        }
        if resource_type(resource) == "QuestionnaireResponse" {
            needs.push(format!("Observation?derived-from={}", key(resource)));
        }
    }
    needs.push(format!("Task?focus={}", key(matched)));
    if let Some(patient) = references(matched, "subject").first().and_then(|r| local_key(r, "")) {
        needs.push(format!("Consent?patient={patient}&status=active"));
    }
    needs
}

/// The message Bundle that refers the patient, from the matched ServiceRequest and what
/// [`referral_needs`] asked for.
///
/// The first entry is the MessageHeader, the second the ServiceRequest with intent `plan`. An
/// Encounter and a CarePlan are added when missing; the CarePlan's text holds the scores in one
/// line. Withheld resources and changed elements are reported. When any issue is an error the
/// message must not be sent: no patient (`BPA-REF-010`), or a request that is not active.
pub fn referral_request(
    matched: &Json,
    found: &[Json],
    settings: &Settings<'_>,
) -> (Json, Vec<Issue>) {
    let mut build = Build::new(matched, found, settings);
    let request = build.request();
    build.message.add(request);
    for resource in std::mem::take(&mut build.others) {
        build.message.add(resource);
    }
    build.check();
    let focus = key(matched);
    let message = build.message.finish(&Heading {
        event: "servicerequest-request",
        reason: "new",
        definition: "servicerequest-request-referral",
        focus: &focus,
        id: &[&focus, version(matched)],
    });
    (message, build.issues)
}

/// Resources that follow from `first`, itself first, in the order of reference; scores of a
/// questionnaire response, the Task and the Consents come after what points at them.
pub(super) fn reach<'a>(first: &'a Json, found: &'a [Json], base: &str) -> Vec<&'a Json> {
    let mut reached = vec![first];
    let mut seen: HashSet<String> = HashSet::from([key(first)]);
    let mut next = 0;
    while let Some(&resource) = reached.get(next) {
        next += 1;
        let own = key(resource);
        let wanted: Vec<&str> =
            followed(resource).iter().filter_map(|text| local_key(text, base)).collect();
        let pointed = wanted.iter().filter_map(|wanted| found.iter().find(|r| key(r) == *wanted));
        let pointing = found.iter().filter(|other| {
            let path = match resource_type(other) {
                "Observation" => "derivedFrom",
                "Task" => "focus",
                "Consent" => "patient",
                _ => return false,
            };
            references(other, path).iter().any(|text| local_key(text, base) == Some(own.as_str()))
        });
        for other in pointed.chain(pointing) {
            if reached.len() < MOST_RESOURCES && seen.insert(key(other)) {
                reached.push(other);
            }
        }
    }
    reached
}

fn followed(resource: &Json) -> Vec<&str> {
    let name = resource_type(resource);
    let Some((_, paths)) = FOLLOW.iter().find(|(of, _)| *of == name) else { return Vec::new() };
    paths.iter().flat_map(|path| references(resource, path)).collect()
}

struct Build<'a> {
    settings: &'a Settings<'a>,
    matched: &'a Json,
    original: Option<&'a Json>,
    reached: Vec<&'a Json>,
    restricted: bool,
    others: Vec<Json>,
    message: Message<'a>,
    issues: Vec<Issue>,
}

impl<'a> Build<'a> {
    fn new(matched: &'a Json, found: &'a [Json], settings: &'a Settings<'a>) -> Self {
        let reached = reach(matched, found, settings.base);
        let original =
            reached.iter().skip(1).find(|r| resource_type(r) == "ServiceRequest").copied();
        let restricted = is_restricted(matched) || original.is_some_and(is_restricted);
        let message = Message::new(settings);
        let (others, issues) = (Vec::new(), Vec::new());
        Build { settings, matched, original, reached, restricted, others, message, issues }
    }

    /// The element of the matched request, else of the referral it is based on.
    fn either(&self, name: &str) -> Option<&'a Json> {
        self.matched.get(name).or_else(|| self.original?.get(name))
    }

    fn request(&mut self) -> Json {
        let settings = self.settings;
        let mut request = self.matched.clone();
        if request.str_at(&["status"]) != Some("active") {
            let text = "The request is not active, so it cannot be sent as a new referral.";
            self.issues
                .push(Issue::error(IssueType::BusinessRule, text).at("ServiceRequest.status"));
        }
        let patient = self.patient();
        let encounter = self.encounter(patient.as_deref());
        let conditions = self.send_others();
        let plan = self.care_plan(patient.as_deref(), &encounter, &conditions);

        for name in ["identifier", "priority", "code", "requester", "locationReference"] {
            if let (None, Some(value)) = (request.get(name), self.either(name)) {
                request.set(name, value);
            }
        }
        if let Some(original) = self.original {
            let more = original.list("identifier").iter();
            let more: Vec<_> = more.filter(|id| !request.list("identifier").contains(id)).collect();
            more.into_iter().for_each(|id| request.push("identifier", id));
        }
        let (system, code, display) = settings.use_case;
        if request.get("category").is_some() {
            let text = "The request's own categories are not sent: BaRS has room for its own only.";
            self.issues.push(
                Issue::information(IssueType::Informational, text).at("ServiceRequest.category"),
            );
        }
        request.set(
            "category",
            json!([{"coding": [
                {"system": (CATEGORIES), "code": "referral", "display": "Transfer of Care"},
                {"system": (system), "code": (code), "display": (display)}
            ]}]),
        );
        request.set("basedOn", json!([(reference(plan))]));
        request.set("intent", "plan");
        request.set("encounter", reference(encounter));
        self.times(&mut request);
        request
            .set("performer", json!([(reference(self.message.add_service(&settings.receiver)))]));
        self.reasons(&mut request, &conditions);
        self.supporting_information(&mut request);
        if let (Some(original), false) = (self.original, self.restricted) {
            for note in original.list("note") {
                if !request.list("note").contains(note) {
                    request.push("note", note);
                }
            }
        }
        if self.restricted {
            without_free_text(&mut request);
            restrict(&mut request);
        }
        request
    }

    fn patient(&mut self) -> Option<String> {
        let patient = self.reached.iter().find(|r| resource_type(r) == "Patient");
        let Some(patient) = patient else {
            let text = "The patient of the request was not found, so it cannot be sent.";
            let issue = Issue::error(IssueType::Required, text).detail("BPA-REF-010");
            self.issues.push(issue.at("ServiceRequest.subject"));
            return None;
        };
        let mut patient = (*patient).clone();
        if is_restricted(&patient) {
            without_whereabouts(&mut patient);
            self.issues
                .push(withheld("Patient", "The patient's address and telecom are withheld."));
        }
        tolerate::retired_codes(&mut patient);
        Some(self.message.add(patient))
    }

    /// The one Encounter: the consultation in which the referral was decided.
    fn encounter(&mut self, patient: Option<&str>) -> String {
        let wanted = self.either("encounter").and_then(|r| r.str_at(&["reference"]));
        let wanted = wanted.and_then(|text| local_key(text, self.settings.base));
        let found = self.reached.iter().find(|r| Some(key(r).as_str()) == wanted);
        let found = found.filter(|r| !is_restricted(r));
        let case = json!({
            "system": (format!("{}/Id/case-number", self.settings.base)),
            "value": (self.matched.str_at(&["id"]).unwrap_or_default())
        });
        let mut encounter = match found {
            Some(encounter) => (*encounter).clone(),
            None => {
                let at = self.authored();
                let mut encounter = json!({
                    "resourceType": "Encounter",
                    "identifier": [(case.clone())],
                    "status": "finished",
                    "class": {
                        "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
                        "code": "AMB",
                        "display": "ambulatory"
                    }
                });
                if let Some(patient) = patient {
                    encounter.set("subject", reference(patient));
                }
                encounter.set("period", json!({"start": (at), "end": (at)}));
                let key = format!("{}#encounter", key(self.matched));
                self.message.add_as(key.clone(), encounter);
                return key;
            }
        };
        if encounter.get("identifier").is_none() {
            encounter.set("identifier", json!([(case)]));
        }
        if !matches!(encounter.str_at(&["status"]), Some("finished" | "triaged")) {
            let text = "The consultation is sent as finished: BaRS takes finished or triaged only.";
            let issue = Issue::information(IssueType::Informational, text);
            self.issues.push(issue.at("Encounter.status"));
            encounter.set("status", "finished");
        }
        if self.restricted {
            without_free_text(&mut encounter);
        }
        self.message.add(encounter)
    }

    /// Chooses the other resources; returns the keys of the Conditions.
    fn send_others(&mut self) -> Vec<String> {
        let mut conditions = Vec::new();
        for resource in self.reached.clone() {
            let name = resource_type(resource);
            let is_sent = SENT.contains(&name)
                || name == "QuestionnaireResponse"
                || (name == "Task" && references(resource, "focus").contains(&&*key(self.matched)));
            if !is_sent {
                continue;
            }
            if is_restricted(resource) {
                let text = format!("One resource is confidential and is not sent: {name}.");
                self.issues.push(withheld(name, &text));
                continue;
            }
            let mut resource = resource.clone();
            if name == "Condition" {
                conditions.push(key(&resource));
            }
            if self.restricted && matches!(name, "Condition" | "Task" | "Procedure") {
                without_free_text(&mut resource);
            }
            self.others.push(resource);
        }
        conditions
    }

    fn care_plan(
        &mut self,
        patient: Option<&str>,
        encounter: &str,
        conditions: &[String],
    ) -> String {
        let found = self.reached.iter().find(|r| resource_type(r) == "CarePlan");
        let found = found.filter(|r| !is_restricted(r)).map(|plan| (*plan).clone());
        let is_ours = found.is_none();
        let mut plan = found.unwrap_or_else(|| json!({"resourceType": "CarePlan"}));
        if self.restricted {
            without_free_text(&mut plan);
        }
        plan.set("status", "completed");
        plan.set("intent", "plan");
        if let Some(patient) = patient {
            plan.set("subject", reference(patient));
        }
        plan.set("encounter", reference(encounter));
        if !conditions.is_empty() {
            let addresses: Vec<Json> = conditions.iter().map(reference).collect();
            plan.set("addresses", addresses);
        }
        let mut activity = json!({});
        let text = self.advice();
        if !text.is_empty() {
            activity.set("outcomeCodeableConcept", json!([{"text": (text)}]));
        }
        if let Some(task) = self.others.iter().find(|r| resource_type(r) == "Task") {
            activity.set("reference", reference(key(task)));
        }
        if activity.as_object().is_some_and(|activity| !activity.is_empty()) {
            plan.push("activity", activity);
        }
        if is_ours {
            let key = format!("{}#plan", key(self.matched));
            self.message.add_as(key.clone(), plan);
            key
        } else {
            self.message.add(plan)
        }
    }

    /// Text for receivers that show text only: the scores in one line, then reason and notes.
    fn advice(&self) -> String {
        let scores: Vec<String> = self
            .others
            .iter()
            .filter(|r| resource_type(r) == "Observation" && r.get("derivedFrom").is_some())
            .filter_map(score)
            .collect();
        let mut lines = Vec::new();
        if !scores.is_empty() {
            lines.push(format!("{}.", scores.join("; ")));
        }
        if !self.restricted {
            for source in [Some(self.matched), self.original].into_iter().flatten() {
                let reasons = source.list("reasonCode").iter().filter_map(label);
                let notes = source.list("note").iter().filter_map(|note| note.str_at(&["text"]));
                for line in reasons.chain(notes) {
                    if !lines.iter().any(|known| known == line) {
                        lines.push(line.to_owned());
                    }
                }
            }
        }
        lines.join("\n")
    }

    fn authored(&self) -> &'a str {
        let text = self.either("authoredOn").and_then(Json::as_str);
        text.unwrap_or(self.settings.now)
    }

    fn times(&mut self, request: &mut Json) {
        request.set("authoredOn", self.authored());
        if request.get("occurrencePeriod").is_some() {
            return;
        }
        let moment = request.as_object_mut().and_then(|object| object.remove("occurrenceDateTime"));
        let period = self.original.and_then(|original| original.get("occurrencePeriod"));
        let period = match (moment, period) {
            (Some(moment), _) => json!({"start": (moment)}),
            (None, Some(period)) => period.clone(),
            (None, None) => json!({"start": (self.authored())}),
        };
        request.set("occurrencePeriod", period);
        let timing = request.as_object_mut().and_then(|object| object.remove("occurrenceTiming"));
        if timing.is_some() {
            let text = "The request's timing is not sent: BaRS takes a period only.";
            let issue = Issue::warning(IssueType::NotSupported, text);
            self.issues.push(issue.at("ServiceRequest.occurrenceTiming"));
        }
    }

    fn reasons(&self, request: &mut Json, conditions: &[String]) {
        if let (None, Some(codes)) = (request.get("reasonCode"), self.either("reasonCode")) {
            request.set("reasonCode", codes);
        }
        if let Some(object) = request.as_object_mut() {
            object.remove("reasonReference");
        }
        for condition in conditions {
            request.push("reasonReference", reference(condition));
        }
    }

    /// Answers and scores first, then what either request already listed.
    fn supporting_information(&self, request: &mut Json) {
        let mut keys: Vec<String> = Vec::new();
        let mut add = |key: String| {
            if !keys.contains(&key) {
                keys.push(key);
            }
        };
        for name in ["QuestionnaireResponse", "Observation"] {
            self.others.iter().filter(|r| resource_type(r) == name).for_each(|r| add(key(r)));
        }
        for source in [Some(self.matched), self.original].into_iter().flatten() {
            for text in references(source, "supportingInfo") {
                let key = local_key(text, self.settings.base).unwrap_or(text);
                let withheld =
                    self.reached.iter().any(|r| super::key(r) == key && is_restricted(r));
                if !withheld {
                    add(key.to_owned());
                }
            }
        }
        if !keys.is_empty() {
            let listed: Vec<Json> = keys.iter().map(reference).collect();
            request.set("supportingInfo", listed);
        }
    }

    fn check(&mut self) {
        if self.settings.implied_consent && !self.message.has_type("Consent") {
            let patient = self.reached.iter().find(|r| resource_type(r) == "Patient");
            if let Some(patient) = patient.map(|patient| key(patient)) {
                let key = format!("{}#consent", key(self.matched));
                self.message.add_as(key, implied_consent(&patient, self.authored()));
            }
        }
        for name in ["Consent", "Practitioner", "PractitionerRole"] {
            if !self.message.has_type(name) {
                let text = format!("BaRS asks for a {name} in a referral, and none was found.");
                self.issues.push(Issue::warning(IssueType::Required, text).at(name));
            }
        }
        let dos = self.settings.receiver.dos_service_id;
        let performers = references(self.matched, "performer");
        let elsewhere = self.reached.iter().any(|r| {
            resource_type(r) == "HealthcareService"
                && performers.contains(&&*key(r))
                && identifier(r, DOS_SERVICE_ID).is_some_and(|id| id != dos)
        });
        if elsewhere {
            let text = "The request names another service as its performer than the receiver.";
            self.issues
                .push(Issue::warning(IssueType::Conflict, text).at("ServiceRequest.performer"));
        }
    }
}

fn implied_consent(patient: &str, at: &str) -> Json {
    json!({
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/consentscope",
            "code": "patient-privacy"
        }]},
        "category": [{"coding": [{
            "system": "https://fhir.nhs.uk/CodeSystem/consent-categories-bars",
            "code": "DRC",
            "display": "Direct Care"
        }]}],
        "patient": (reference(patient)),
        "dateTime": (at),
        "policyRule": {"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
            "code": "IMPLIED"
        }]}
    })
}

/// `label: value` of a score; `None` when it has no value that a reader could use.
fn score(observation: &Json) -> Option<String> {
    let name = observation.get("code").and_then(label)?;
    let value = observation
        .str_at(&["valueInteger"])
        .or_else(|| observation.at(&["valueQuantity", "value"])?.as_number())
        .or_else(|| observation.get("valueInteger")?.as_number())
        .or_else(|| observation.get("valueCodeableConcept").and_then(label))?;
    Some(format!("{name}: {value}"))
}

/// The words of a CodeableConcept.
fn label(concept: &Json) -> Option<&str> {
    let display = concept.list("coding").iter().find_map(|coding| coding.str_at(&["display"]));
    concept.str_at(&["text"]).or(display)
}

fn withheld(name: &str, text: &str) -> Issue {
    Issue::information(IssueType::Suppressed, text).at(name)
}
