//! A message Bundle in the making: <https://hl7.org/fhir/R4/bundle.html#message>.
//!
//! Every resource becomes an entry under a `urn:uuid` of its own; contained resources are lifted
//! out, and references follow. What a reference points at may stay outside the message: it is then
//! written as an absolute address, as a relative one means nothing to the receiver.

use std::collections::HashMap;

use lumbar_fhir::{Json, Object, json};

use super::{
    DEFINITION, DOS_SERVICE_ID, EVENTS, ODS_CODE, PROFILE, Party, REASONS, Settings, UK_CORE,
    each_object, identifier, key, local_key, reference, resource_type, uuid,
};

/// Types that have a UK Core profile; the profile's name is the type's.
const UK_CORE_TYPES: [&str; 24] = [
    "AllergyIntolerance",
    "Appointment",
    "CarePlan",
    "Communication",
    "Condition",
    "Consent",
    "Encounter",
    "Flag",
    "HealthcareService",
    "Location",
    "MedicationStatement",
    "Observation",
    "Organization",
    "Patient",
    "Practitioner",
    "PractitionerRole",
    "Procedure",
    "Questionnaire",
    "QuestionnaireResponse",
    "RelatedPerson",
    "Schedule",
    "ServiceRequest",
    "Slot",
    "Task",
];

pub(super) struct Message<'a> {
    settings: &'a Settings<'a>,
    entries: Vec<Entry>,
    urls: HashMap<String, String>,
}

struct Entry {
    key: String,
    resource: Json,
    /// Whether relative references out of it are meant at our own base.
    is_ours: bool,
}

/// What the MessageHeader says besides who sends to whom.
pub(super) struct Heading<'a> {
    pub event: &'a str,
    pub reason: &'a str,
    /// Last part of the message definition's canonical.
    pub definition: &'a str,
    /// Key of the focus entry.
    pub focus: &'a str,
    /// What makes this message one of its own among those about the same request.
    pub id: &'a [&'a str],
}

impl<'a> Message<'a> {
    pub fn new(settings: &'a Settings<'a>) -> Self {
        Message { settings, entries: Vec::new(), urls: HashMap::new() }
    }

    pub fn has(&self, key: &str) -> bool {
        self.urls.contains_key(key)
    }

    pub fn has_type(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| resource_type(&entry.resource) == name)
    }

    /// Adds a resource under `Type/id`; one that is there already stays as it is.
    pub fn add(&mut self, resource: Json) -> String {
        let key = key(&resource);
        self.add_as(key.clone(), resource);
        key
    }

    /// Adds a resource of the receiver, which came out of its search answer.
    pub fn add_theirs(&mut self, resource: Json) {
        self.insert(key(&resource), resource, false);
    }

    /// Adds a resource under a key of our making.
    pub fn add_as(&mut self, key: String, resource: Json) {
        self.insert(key, resource, true);
    }

    fn insert(&mut self, key: String, mut resource: Json, is_ours: bool) {
        if self.has(&key) {
            return;
        }
        let contained = resource.as_object_mut().and_then(|object| object.remove("contained"));
        let base = self.settings.base;
        let url = if is_ours { uuid(&[base, &key]) } else { uuid(&["received", base, &key]) };
        self.urls.insert(key.clone(), url);
        name_contained(&mut resource, &key);
        let resource = self.dressed(resource, None);
        self.entries.push(Entry { key: key.clone(), resource, is_ours });
        for mut inner in contained.iter().filter_map(Json::as_array).flatten().cloned() {
            let id = inner.as_object_mut().and_then(|object| object.remove("id"));
            name_contained(&mut inner, &key);
            let id = id.as_ref().and_then(Json::as_str).unwrap_or_default();
            self.insert(format!("{key}#{id}"), inner, is_ours);
        }
    }

    /// Adds the organisation of a party, or finds it among the entries by its ODS code.
    pub fn add_organization(&mut self, party: &Party<'_>) -> String {
        let known = self.entries.iter().find(|entry| {
            resource_type(&entry.resource) == "Organization"
                && identifier(&entry.resource, ODS_CODE) == Some(party.ods_code)
        });
        if let Some(entry) = known {
            return entry.key.clone();
        }
        let key = format!("Organization/#ods-{}", party.ods_code);
        let organization = json!({
            "resourceType": "Organization",
            "identifier": [{"system": (ODS_CODE), "value": (party.ods_code)}],
            "name": (party.name)
        });
        self.add_as(key.clone(), organization);
        key
    }

    /// Adds the receiving service, or finds it among the entries by its DoS id.
    pub fn add_service(&mut self, party: &Party<'_>) -> String {
        let known = self.entries.iter().find(|entry| {
            resource_type(&entry.resource) == "HealthcareService"
                && identifier(&entry.resource, DOS_SERVICE_ID) == Some(party.dos_service_id)
        });
        if let Some(entry) = known {
            return entry.key.clone();
        }
        let organization = self.add_organization(party);
        let key = format!("HealthcareService/#dos-{}", party.dos_service_id);
        let service = json!({
            "resourceType": "HealthcareService",
            "identifier": [{"system": (DOS_SERVICE_ID), "value": (party.dos_service_id)}],
            "active": true,
            "providedBy": (reference(organization)),
            "name": (party.name)
        });
        self.add_as(key.clone(), service);
        key
    }

    /// The whole message; the header's entry first, the focus second.
    pub fn finish(mut self, heading: &Heading<'_>) -> Json {
        let settings = self.settings;
        let sender = self.add_organization(&settings.sender);
        let receiver = self.add_organization(&settings.receiver);
        let mut id = vec!["message", settings.base, heading.event, heading.reason];
        id.extend_from_slice(heading.id);
        let id = uuid(&id);
        let header = self.header(heading, &sender, &receiver);
        let profile = format!("{PROFILE}BARSMessageHeader-{}", heading.event);
        let header = self.dressed(header, Some(&profile));
        let focus = self.entries.iter().position(|entry| entry.key == heading.focus);
        if let Some(focus) = focus {
            self.entries[..=focus].rotate_right(1);
        }
        let header_url = uuid(&["header", &id]);
        let mut entries = vec![self.entry(&header_url, header, true)];
        for Entry { key, resource, is_ours } in std::mem::take(&mut self.entries) {
            let url = self.urls.get(&key).cloned().unwrap_or_default();
            entries.push(self.entry(&url, resource, is_ours));
        }
        json!({
            "resourceType": "Bundle",
            "id": (id),
            "meta": {
                "lastUpdated": (settings.now),
                "profile": [(format!("{PROFILE}BARSBundleMessage"))]
            },
            "type": "message",
            "timestamp": (settings.now),
            "entry": (entries)
        })
    }

    fn header(&self, heading: &Heading<'_>, sender: &str, receiver: &str) -> Json {
        let settings = self.settings;
        let endpoint = |party: &Party<'_>| format!("{DOS_SERVICE_ID}|{}", party.dos_service_id);
        let mut source = json!({
            "name": (settings.sender.name),
            "software": (settings.software),
            "version": (settings.software_version)
        });
        if !settings.sender.phone.is_empty() {
            source.set("contact", json!({"system": "phone", "value": (settings.sender.phone)}));
        }
        source.set("endpoint", endpoint(&settings.sender));
        json!({
            "resourceType": "MessageHeader",
            "eventCoding": {"system": (EVENTS), "code": (heading.event)},
            "destination": [{
                "endpoint": (endpoint(&settings.receiver)),
                "receiver": (reference(receiver))
            }],
            "sender": (reference(sender)),
            "source": (source),
            "reason": {"coding": [{"system": (REASONS), "code": (heading.reason)}]},
            "focus": [(reference(heading.focus))],
            "definition": (format!("{DEFINITION}{}", heading.definition))
        })
    }

    fn entry(&self, url: &str, mut resource: Json, is_ours: bool) -> Json {
        each_object(&mut resource, &mut |object| self.rewrite(object, is_ours));
        json!({"fullUrl": (format!("urn:uuid:{url}")), "resource": (resource)})
    }

    fn rewrite(&self, object: &mut Object, is_ours: bool) {
        let Some(text) = object.get("reference").and_then(Json::as_str) else { return };
        let written = match self.urls.get(text) {
            Some(url) => format!("urn:uuid:{url}"),
            None => match local_key(text, self.settings.base) {
                Some(key) => match self.urls.get(key) {
                    Some(url) => format!("urn:uuid:{url}"),
                    None if is_ours => format!("{}/{key}", self.settings.base),
                    None => return,
                },
                None => return,
            },
        };
        object.set("reference", written);
    }

    /// The resource with the meta of a message: when it was changed, one profile, its security
    /// labels. Version id, source and tags are ours and say nothing to the receiver.
    fn dressed(&self, mut resource: Json, profile: Option<&str>) -> Json {
        let name = resource_type(&resource).to_owned();
        let mut meta = Object::new();
        let updated = resource.str_at(&["meta", "lastUpdated"]).unwrap_or(self.settings.now);
        meta.set("lastUpdated", updated);
        let profile = match (profile, name.as_str()) {
            (Some(profile), _) => Some(profile.to_owned()),
            (None, "ServiceRequest") => {
                Some(format!("{PROFILE}BARSServiceRequest-request-referral"))
            }
            (None, name) if UK_CORE_TYPES.contains(&name) => Some(format!("{UK_CORE}{name}")),
            _ => None,
        };
        if let Some(profile) = profile {
            meta.set("profile", json!([(profile)]));
        }
        if let Some(security) = resource.get("meta").and_then(|meta| meta.get("security")) {
            meta.set("security", security);
        }
        if let Some(object) = resource.as_object_mut() {
            let index = if object.get("id").is_some() { 2 } else { 1 };
            object.set_at(index, "meta", meta);
        }
        resource
    }
}

/// Turns `#id` into a key that is unique in the message.
fn name_contained(resource: &mut Json, parent: &str) {
    each_object(resource, &mut |object| {
        let inner = object.get("reference").and_then(Json::as_str).filter(|t| t.starts_with('#'));
        if let Some(written) = inner.map(|text| format!("{parent}{text}")) {
            object.set("reference", written);
        }
    });
}
