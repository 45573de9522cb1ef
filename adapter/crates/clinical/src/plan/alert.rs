//! The alert that a pathway raises: a Task for somebody (<https://hl7.org/fhir/R4/task.html>), a Flag
//! on the person (<https://hl7.org/fhir/R4/flag.html>) and where both come from.
//!
//! Its level, words and target stand in an ActivityDefinition of kind Task. An alert is never
//! lowered by later answers: a clinician clears it. Who answers it, and what becomes of one that
//! nobody answers, is not decided here; public holidays count as working days, which is early.

use lumbar_fhir::datetime::{DateTime, Micros, instant};
use lumbar_fhir::{Issue, Json, Object, json};

use super::{Pathway, fault, reference};
use crate::id;

/// Extension of an ActivityDefinition: what an alert does besides the Task.
const SAFETY_ALERT: &str = "https://lumbar.example/fhir/StructureDefinition/safety-alert";
/// The code system of the Task's code, inputs and outputs.
const SAFETY_TASK: &str = "https://lumbar.example/fhir/CodeSystem/safety-task";
/// From low to high: <https://hl7.org/fhir/R4/valueset-request-priority.html>.
const PRIORITIES: [&str; 4] = ["routine", "urgent", "asap", "stat"];
const TASK_PROFILE: &str = "https://lumbar.example/fhir/StructureDefinition/back-pain-task";
const PROVENANCE_PROFILE: &str =
    "https://lumbar.example/fhir/StructureDefinition/back-pain-provenance";
const MINUTE: Micros = 60_000_000;
const DAY: Micros = 24 * 60 * MINUTE;

/// Everything that one alert is made from.
pub(super) struct Alert<'a> {
    pub plan: &'a Pathway,
    /// Id of the outermost action: the alerts below it are levels of one.
    pub group: &'a str,
    pub rule: &'a str,
    /// The ActivityDefinition.
    pub activity: &'a Json,
    pub response: Option<&'a Json>,
    /// What was found out about the response.
    pub result: Option<&'a Json>,
    /// The sentence that says why.
    pub text: &'a str,
    pub found: &'a [(String, Vec<Json>)],
}

/// The codes of a CodeableConcept.
pub fn levels(concept: Option<&Json>) -> impl Iterator<Item = &str> {
    let codings = concept.map(|concept| concept.list("coding")).unwrap_or_default();
    codings.iter().filter_map(|coding| coding.str_at(&["code"]))
}

/// The token by which the Tasks of alerts are searched for.
pub fn safety_review() -> String {
    format!("{SAFETY_TASK}|safety-review")
}

/// Whether a Task is that of an alert.
pub fn is_safety_review(task: &Json) -> bool {
    let codings = task.get("code").map(|code| code.list("coding")).unwrap_or_default();
    codings.iter().any(|coding| is_coded(coding, "safety-review"))
}

/// The id of the Flag that belongs to the Task of an alert.
pub fn flag_id(task_id: &str) -> String {
    id::derived(&["Flag", task_id])
}

/// How a clinician cleared the Task: an Annotation with who, when and why; `None` when nobody did,
/// or one of the three is missing.
pub fn clearance(task: &Json) -> Option<&Json> {
    let is_clearance = |output: &&Json| {
        let codings = output.get("type").map(|kind| kind.list("coding")).unwrap_or_default();
        codings.iter().any(|coding| is_coded(coding, "clearance"))
    };
    let annotation = task.list("output").iter().find(is_clearance)?.get("valueAnnotation")?;
    let said = |path: &[&str]| annotation.str_at(path).is_some_and(|text| !text.trim().is_empty());
    let who = said(&["authorString"])
        || said(&["authorReference", "reference"])
        || said(&["authorReference", "display"]);
    let is_whole = who && said(&["time"]) && said(&["text"]);
    (is_whole && task.str_at(&["status"]) == Some("completed")).then_some(annotation)
}

fn is_coded(coding: &Json, code: &str) -> bool {
    coding.str_at(&["system"]) == Some(SAFETY_TASK) && coding.str_at(&["code"]) == Some(code)
}

pub(super) fn is_alert(activity: &Json) -> bool {
    activity.str_at(&["kind"]) == Some("Task")
}

/// Looks whether an alert can be made of the activity.
pub(super) fn check(activity: &Json, place: &str) -> Result<(), Issue> {
    if rank(activity).is_none() || target(activity, 0).is_none() {
        let text = "An activity of kind Task needs a priority and, as timingDuration, a target in min, h or d.";
        return Err(fault(place, text));
    }
    if patient_text(activity).is_none() || levels(activity.get("code")).next().is_none() {
        let text =
            "An activity of kind Task needs a code and the extension safety-alert with a text.";
        return Err(fault(place, text));
    }
    Ok(())
}

fn part<'a>(activity: &'a Json, name: &str) -> Option<&'a Json> {
    let mut extensions = activity.list("extension").iter();
    let alert = extensions.find(|other| other.str_at(&["url"]) == Some(SAFETY_ALERT))?;
    alert.list("extension").iter().find(|part| part.str_at(&["url"]) == Some(name))
}

pub(super) fn holds_booking(activity: &Json) -> bool {
    says(activity, "holdsBooking")
}

fn says(activity: &Json, name: &str) -> bool {
    let value = part(activity, name).and_then(|part| part.get("valueBoolean"));
    value.and_then(Json::as_bool) == Some(true)
}

pub(super) fn patient_text(activity: &Json) -> Option<&str> {
    part(activity, "text")?.str_at(&["valueString"])
}

/// The patient's text in another language.
pub(super) fn translation<'a>(activity: &'a Json, language: &str) -> Option<&'a str> {
    let translations = part(activity, "text")?.get("_valueString")?.list("extension");
    let value = |of: &'a Json, name: &str, member: &str| {
        let part = of.list("extension").iter().find(|part| part.str_at(&["url"]) == Some(name));
        part.and_then(|part| part.str_at(&[member]))
    };
    let mut translations = translations.iter();
    let found = translations.find(|one| value(one, "lang", "valueCode") == Some(language))?;
    value(found, "content", "valueString")
}

/// Whether a reference can be that of a Task or Flag about a person. An alert is raised in any case:
/// without the person rather than not at all.
fn is_patient(subject: &Json) -> bool {
    match subject.str_at(&["reference"]) {
        Some(reference) => reference.rsplit('/').nth(1) == Some("Patient"),
        None => subject.str_at(&["type"]).is_none_or(|of| of == "Patient"),
    }
}

fn rank(of: &Json) -> Option<usize> {
    PRIORITIES.iter().position(|known| of.str_at(&["priority"]) == Some(known))
}

/// By when somebody should have answered an alert that is raised `now`.
fn target(activity: &Json, now: Micros) -> Option<Micros> {
    let duration = activity.get("timingDuration")?;
    let count = duration.get("value")?.as_i64().filter(|count| (1..=10_000).contains(count))?;
    let unit = match duration.str_at(&["code"])? {
        "min" => MINUTE,
        "h" => 60 * MINUTE,
        "d" => DAY,
        _ => return None,
    };
    if says(activity, "workingDays") {
        let mut end = now;
        let mut left = count;
        while left > 0 {
            end += DAY;
            // 1970 began on a Thursday; Monday is 0.
            left -= i64::from((end.div_euclid(DAY) + 3).rem_euclid(7) < 5);
        }
        return (unit == DAY).then_some(end);
    }
    now.checked_add(count * unit)
}

impl Alert<'_> {
    /// The Task, the Flag and where they come from; nothing when all of it stands already.
    pub fn resources(&self, now: &str) -> Result<Vec<Json>, Issue> {
        let response = self.response.ok_or_else(|| fault(self.rule, "There is no response."))?;
        let response_id = response.str_at(&["id"]).unwrap_or_default();
        let task_id = id::derived(&["Task", "safety", response_id, self.group]);
        let earlier = self.found.iter().flat_map(|(_, list)| list).find(|resource| {
            resource.str_at(&["resourceType"]) == Some("Task")
                && resource.str_at(&["id"]) == Some(&task_id)
        });
        let open = earlier.filter(|earlier| clearance(earlier).is_none());
        let said_before =
            earlier.is_some_and(|earlier| earlier.str_at(&["description"]) == Some(self.text));
        let raised = open.is_none_or(|open| rank(self.activity) > rank(open));
        let lowered = open.is_some_and(|open| rank(self.activity) < rank(open));
        // What a clinician has cleared comes back only with something new.
        if lowered || (open.is_none() && said_before) {
            return Ok(Vec::new());
        }
        let subject = response.get("subject").filter(|subject| is_patient(subject));
        let security = response.get("meta").and_then(|meta| meta.get("security"));
        let meta = |profile: Option<&str>| {
            let mut meta = Object::new();
            if let Some(profile) = profile {
                meta.set("profile", json!([(profile)]));
            }
            if let Some(security) = security {
                meta.set("security", security);
            }
            Json::Object(meta)
        };

        let mut task = open.cloned().unwrap_or_else(|| {
            let mut task = json!({"resourceType": "Task", "id": (&task_id)});
            // The profile wants to know whom it is about.
            if subject.is_some() || security.is_some() {
                task.set("meta", meta(subject.map(|_| TASK_PROFILE)));
            }
            task
        });
        let begun = task.str_at(&["authoredOn"]).unwrap_or(now).to_owned();
        let canonical = format!("{}|{}", self.plan.url, self.plan.version);
        task.set("instantiatesCanonical", canonical.as_str());
        if raised {
            task.set("status", "requested");
        }
        task.set("intent", "order");
        task.set("priority", self.activity.str_at(&["priority"]).unwrap_or("stat"));
        task.set("code", json!({"coding": [{"system": (SAFETY_TASK), "code": "safety-review"}]}));
        task.set("description", self.text);
        if let Some(reference) = reference(response) {
            task.set("focus", json!({"reference": (reference)}));
        }
        if let Some(subject) = subject {
            task.set("for", subject);
        }
        task.set("authoredOn", begun.as_str());
        if let Some(role) = self.activity.at(&["participant", "role"]) {
            task.set("performerType", json!([(role)]));
        }
        if let Some(level) = self.activity.get("code") {
            task.set("reasonCode", level);
        }
        let begins = DateTime::parse(now).map_or(0, |now| now.bounds().0);
        let end = target(self.activity, begins).map(instant);
        let earlier_end = open.and_then(|open| open.str_at(&["restriction", "period", "end"]));
        // Instants of ours sort as texts.
        let end = end.into_iter().chain(earlier_end.map(str::to_owned)).min();
        if let Some(end) = end {
            task.set("restriction", json!({"period": {"end": (end)}}));
        }
        let parameters = self.result.map(|result| result.list("parameter")).unwrap_or_default();
        let inputs = parameters.iter().map(|parameter| {
            let value = |name| parameter.str_at(&[name]).unwrap_or_default();
            let coding = json!({"system": (SAFETY_TASK), "code": (value("name"))});
            json!({"type": {"coding": [(coding)]}, "valueString": (value("valueString"))})
        });
        task.set("input", inputs.collect::<Vec<_>>());

        let mut resources = vec![task];
        let mut targets = vec![format!("Task/{task_id}")];
        if let Some(subject) = subject {
            let flag_id = flag_id(&task_id);
            targets.push(format!("Flag/{flag_id}"));
            let mut flag = json!({"resourceType": "Flag", "id": (flag_id)});
            if security.is_some() {
                flag.set("meta", meta(None));
            }
            flag.set("status", "active");
            flag.set("category", json!([{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/flag-category", "code": "safety", "display": "Safety"}]}]));
            if let Some(level) = self.activity.get("code") {
                flag.set("code", level);
            }
            flag.set("subject", subject);
            flag.set("period", json!({"start": (begun)}));
            resources.push(flag);
        }
        if raised || !said_before {
            let what = reference(response).unwrap_or_default();
            let targets: Vec<Json> =
                targets.iter().map(|target| json!({"reference": (target)})).collect();
            let mut provenance = json!({
                "resourceType": "Provenance",
                "id": (id::derived(&["Provenance", &task_id, self.rule, self.text])),
                "meta": (meta(Some(PROVENANCE_PROFILE)))
            });
            provenance.set("target", targets);
            provenance.set("recorded", now);
            provenance.set("policy", json!([(format!("{canonical}#{}", self.rule))]));
            provenance.set("reason", json!([{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}], "text": (self.text)}]));
            provenance.set("agent", json!([{"type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type", "code": "assembler"}]}, "who": {"display": "Lumbar"}}]));
            provenance.set("entity", json!([{"role": "source", "what": {"reference": (what)}}]));
            resources.push(provenance);
        }
        Ok(resources)
    }
}
