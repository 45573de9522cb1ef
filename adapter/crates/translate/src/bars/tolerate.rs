//! What partners write and the standard does not: read, set right, reported once per kind.
//!
//! Only forms that were seen in published BaRS examples are set right, and only where the meaning
//! is beyond doubt; anything else stays as it is for the validator to judge.

use lumbar_fhir::datetime::DateTime;
use lumbar_fhir::{Issue, IssueType, Json, Locator, Object, json};

use super::{DOS_SERVICE_ID, EVENTS, REASONS, each_object, resource_type};

const VERIFICATION: &str = "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatus";
const VERIFICATION_ENGLAND: &str =
    "https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland";
const ETHNIC: &str = "https://fhir.hl7.org.uk/CodeSystem/UKCore-EthnicCategory";
const ETHNIC_ENGLAND: &str = "https://fhir.hl7.org.uk/CodeSystem/UKCore-EthnicCategoryEngland";

/// Word codes of the retired verification status and the codes that replaced them.
const VERIFICATION_CODES: [(&str, &str); 8] = [
    ("number-present-and-verified", "01"),
    ("number-present-but-not-traced", "02"),
    ("trace-required", "03"),
    ("trace-attempted", "04"),
    ("trace-needs-to-be-resolved", "05"),
    ("trace-in-progress", "06"),
    ("number-not-present-and-trace-not-required", "07"),
    ("trace-postponed", "08"),
];

/// Spellings of NHS and HL7 UK addresses, and the right one.
const SPELLINGS: [(&str, &str); 6] = [
    ("http://fhir.nhs.net/", "https://fhir.nhs.uk/"),
    ("http://fhir.nhs.uk/", "https://fhir.nhs.uk/"),
    ("http://fhir.hl7.org.uk/", "https://fhir.hl7.org.uk/"),
    ("/id/", "/Id/"),
    ("/Codesystem/", "/CodeSystem/"),
    ("ods-organisation-code", "ods-organization-code"),
];

/// Elements that are lists in R4 and were seen as single objects.
const LISTS: [(&str, &[&str]); 3] = [
    ("Appointment", &["basedOn", "slot", "participant", "identifier", "reasonCode"]),
    ("MessageHeader", &["focus", "destination"]),
    (
        "ServiceRequest",
        &["basedOn", "category", "identifier", "performer", "reasonReference", "supportingInfo"],
    ),
];

/// Sets a message right in place; one informational issue for each kind of oddity, at its first
/// occurrence.
pub(super) fn tolerate(bundle: &mut Json) -> Vec<Issue> {
    let mut found = Found::default();
    let Some(Json::Array(entries)) = bundle.get_mut("entry") else { return found.issues };
    for (index, entry) in entries.iter_mut().enumerate() {
        found.place = format!("/entry/{index}");
        let Some(resource) = entry.get_mut("resource") else { continue };
        found.resource(resource);
    }
    found.times(entries);
    found.issues
}

/// Writes the codes of a patient in the code systems that are current.
pub(super) fn retired_codes(patient: &mut Json) {
    each_object(patient, &mut |object| {
        current_code(object);
    });
}

#[derive(Default)]
struct Found {
    place: String,
    issues: Vec<Issue>,
}

impl Found {
    fn say(&mut self, text: &str) {
        if !self.issues.iter().any(|issue| issue.text == text) {
            let issue = Issue::information(IssueType::Informational, text);
            self.issues.push(issue.located(Locator::Pointer(self.place.clone())));
        }
    }

    fn resource(&mut self, resource: &mut Json) {
        each_object(resource, &mut |object| self.object(object));
        let name = resource_type(resource).to_owned();
        let lists = LISTS.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, lists)| lists);
        for element in lists {
            if let Some(value @ Json::Object(_)) = resource.get(element).cloned() {
                resource.set(element, vec![value]);
                self.say("An element that is a list stands as a single object.");
            }
        }
        match name.as_str() {
            "MessageHeader" => self.header(resource),
            "ServiceRequest" if resource.str_at(&["status"]) == Some("inactive") => {
                resource.set("status", "revoked");
                self.say("The status inactive is no status of a request; it is read as revoked.");
            }
            _ => {}
        }
        let profile = resource.get("meta").map(|meta| meta.list("profile")).unwrap_or_default();
        let of_request =
            |profile: &Json| profile.as_str().is_some_and(|p| p.contains("BARSServiceRequest"));
        if name != "ServiceRequest" && profile.iter().any(of_request) {
            self.say("A resource claims the profile of a ServiceRequest, which it is not.");
        }
    }

    fn header(&mut self, header: &mut Json) {
        let systems = [("eventCoding", EVENTS)];
        for (element, system) in systems {
            if let Some(coding) = header.get_mut(element) {
                self.system(coding, system);
            }
        }
        if let Some(Json::Array(codings)) =
            header.get_mut("reason").and_then(|r| r.get_mut("coding"))
        {
            codings.iter_mut().for_each(|coding| self.system(coding, REASONS));
        }
        if let Some(source) = header.get_mut("source") {
            self.endpoint(source);
        }
        if let Some(Json::Array(destinations)) = header.get_mut("destination") {
            destinations.iter_mut().for_each(|destination| self.endpoint(destination));
        }
    }

    fn system(&mut self, coding: &mut Json, right: &str) {
        let found = coding.str_at(&["system"]).unwrap_or_default();
        if found != right && found.starts_with("https://fhir.nhs.uk/CodeSystem/message-") {
            coding.set("system", right);
            self.say("The header's event or reason is of another code system than BaRS names.");
        }
    }

    /// `[ODSCode]:[DoSId]` where `system|value` is due.
    fn endpoint(&mut self, holder: &mut Json) {
        let Some(text) = holder.str_at(&["endpoint"]) else { return };
        if text.contains('|') {
            return;
        }
        let service = text.rsplit(':').next().unwrap_or_default();
        if !service.is_empty() && service.bytes().all(|byte| byte.is_ascii_digit()) {
            holder.set("endpoint", format!("{DOS_SERVICE_ID}|{service}"));
            self.say("An endpoint is written as code:id; it is read as the id of a DoS service.");
        } else {
            self.say("An endpoint is not written as system|value.");
        }
    }

    fn object(&mut self, object: &mut Object) {
        let capital =
            |name: &str| name.bytes().next().is_some_and(|byte| byte.is_ascii_uppercase());
        let names: Vec<String> =
            object.iter().map(|(name, _)| name.to_owned()).filter(|name| capital(name)).collect();
        for name in names {
            let lower = name[..1].to_ascii_lowercase() + &name[1..];
            if object.get(&lower).is_none()
                && let Some(value) = object.remove(&name)
            {
                object.set(&lower, value);
                self.say("An element's name begins with a capital letter.");
            }
        }
        for name in ["system", "url", "endpoint"] {
            let written = object.get(name).and_then(Json::as_str).and_then(spelled);
            if let Some(written) = written {
                object.set(name, written);
                self.say("An NHS address is spelled in an outdated way.");
            }
        }
        let text = object.get("reference").and_then(Json::as_str);
        if let Some(uuid) = text.and_then(|text| text.strip_prefix(":uuid:")) {
            let written = format!("urn:uuid:{uuid}");
            object.set("reference", written);
            self.say("A reference begins with :uuid: where urn:uuid: is due.");
        }
        if current_code(object) {
            self.say("A code is of a retired UK Core code system; the current one is stored.");
        }
        self.delivery_channel(object);
        let literal = |value: &Json| {
            value.as_str().is_some_and(|text| text.contains("/n/n") || text.contains("/n "))
        };
        if ["text", "description", "patientInstruction"]
            .iter()
            .any(|n| object.get(n).is_some_and(literal))
        {
            self.say("A text seems to hold /n where a line break is meant; it is kept as it is.");
        }
    }

    fn delivery_channel(&mut self, object: &mut Object) {
        let url = object.get("url").and_then(Json::as_str);
        if url
            != Some("https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-DeliveryChannel")
        {
            return;
        }
        if let Some(code) = object.remove("valueCode") {
            let system = "https://fhir.hl7.org.uk/CodeSystem/UKCore-DeliveryChannel";
            let coding = json!({"coding": [{"system": (system), "code": (code)}]});
            object.set("valueCodeableConcept", coding);
            self.say("The delivery channel is a code where a CodeableConcept is due.");
        }
    }

    /// An Appointment that starts at another time than its Slot.
    fn times(&mut self, entries: &[Json]) {
        let moment =
            |resource: &Json| Some(DateTime::parse(resource.str_at(&["start"])?)?.bounds().0);
        for (index, entry) in entries.iter().enumerate() {
            let Some(appointment) = entry.get("resource") else { continue };
            let slot = appointment.str_at(&["slot", "reference"]);
            let slot = entries.iter().find(|e| slot.is_some() && e.str_at(&["fullUrl"]) == slot);
            if resource_type(appointment) != "Appointment" {
                continue;
            }
            let slot = slot.and_then(|entry| moment(entry.get("resource")?));
            if let (Some(slot), Some(start)) = (slot, moment(appointment))
                && slot != start
            {
                self.place = format!("/entry/{index}/resource/start");
                self.say("The appointment starts at another time than its slot.");
            }
        }
    }
}

/// The address as it should be spelled, when it is not.
fn spelled(text: &str) -> Option<String> {
    let is_nhs = text.contains("fhir.nhs.") || text.contains("fhir.hl7.org.uk");
    if !is_nhs {
        return None;
    }
    let right =
        SPELLINGS.iter().fold(text.to_owned(), |text, (wrong, right)| text.replace(wrong, right));
    let right = right.replace("/Id/ubr-number", "/Id/UBRN");
    (right != text).then_some(right)
}

/// Sets a Coding of a retired UK Core system to the current one; whether it did.
fn current_code(object: &mut Object) -> bool {
    let system = object.get("system").and_then(Json::as_str);
    let code = object.get("code").and_then(Json::as_str).unwrap_or_default().to_owned();
    if system == Some(VERIFICATION) {
        let current = VERIFICATION_CODES.iter().find(|(word, _)| *word == code);
        let Some((_, current)) = current else { return false };
        object.set("system", VERIFICATION_ENGLAND);
        object.set("code", *current);
        return true;
    }
    // Only the letters mean the same in both systems.
    if system == Some(ETHNIC) && code.len() == 1 {
        object.set("system", ETHNIC_ENGLAND);
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_spelled_as_the_standard_does() {
        for (text, right) in [
            ("http://fhir.nhs.uk/id/dos-service-id", "https://fhir.nhs.uk/Id/dos-service-id"),
            (
                "https://fhir.nhs.uk/Id/ods-organisation-code",
                "https://fhir.nhs.uk/Id/ods-organization-code",
            ),
            ("https://fhir.nhs.uk/Id/ubr-number", "https://fhir.nhs.uk/Id/UBRN"),
            ("http://fhir.nhs.net/Id/nhs-number", "https://fhir.nhs.uk/Id/nhs-number"),
            (
                "https://fhir.nhs.uk/Codesystem/http-error-codes",
                "https://fhir.nhs.uk/CodeSystem/http-error-codes",
            ),
        ] {
            assert_eq!(spelled(text).as_deref(), Some(right), "{text}");
        }
        for text in
            ["https://fhir.nhs.uk/Id/UBRN", "http://loinc.org", "https://other.example/id/x"]
        {
            assert_eq!(spelled(text), None, "{text}");
        }
    }
}
