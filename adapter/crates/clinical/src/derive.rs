//! Score Observations of a QuestionnaireResponse: <https://hl7.org/fhir/R4/observation.html>.
//!
//! One Observation for each score and category that could be given, with an id that follows from
//! the response's id and the result's name, so that changed answers change the same Observations.
//! `issued` stays away, because it would be another at each derivation. Storing, Provenance and
//! the look-up of the instrument are left to the caller.

use lumbar_fhir::{Issue, IssueType, Json, Object, json};
use rust_decimal::Decimal;

use crate::answers::{Answers, Refused};
use crate::id;
use crate::instrument::Instrument;
use crate::score::{Scored, Status, Value, contradiction, score};

/// The code system whose codes are the ids of instruments; a coding's version is the instrument's.
pub const ALGORITHM: &str = "https://lumbar.example/fhir/CodeSystem/scoring-table";

/// The code system of the levels of safety questions, and the name of their category.
const TRIAGE_LEVEL: &str = "https://lumbar.example/fhir/CodeSystem/triage-level";
const TRIAGE: &str = "triage";

/// What follows from one response.
#[derive(Clone, Debug, PartialEq)]
pub struct Derived {
    /// The result in full, absent scores and reasons among it.
    pub scored: Scored,
    /// The Observations to store, in the instrument's order.
    pub observations: Vec<Json>,
    /// Ids of the Observations that do not follow from the response, or do not any longer; those
    /// that are stored must become [`entered_in_error`].
    pub retracted: Vec<String>,
    /// What somebody should know: why nothing was scored, which context is missing.
    pub issues: Vec<Issue>,
}

/// Whether this response answers the instrument: its `questionnaire` is the instrument's, in any version.
pub fn concerns(instrument: &Instrument, response: &Json) -> bool {
    let canonical = response.str_at(&["questionnaire"]).unwrap_or_default();
    canonical.split('|').next() == Some(&instrument.questionnaire)
}

/// The ids of all Observations that a response with this id can have.
pub fn observation_ids(instrument: &Instrument, response_id: &str) -> Vec<String> {
    let scores = instrument.scores.iter().map(|rule| (Kind::Score, &rule.name));
    let categories = instrument.categories.iter().map(|rule| (Kind::Category, &rule.name));
    let triage =
        instrument.triage.as_ref().map(|_| observation_id(response_id, Kind::Category, TRIAGE));
    let all = scores.chain(categories).map(|(kind, name)| observation_id(response_id, kind, name));
    all.chain(triage).collect()
}

/// A score and a category may bear the same name.
#[derive(Clone, Copy)]
enum Kind {
    Score,
    Category,
}

/// The id of the Observation of one result.
fn observation_id(response_id: &str, kind: Kind, name: &str) -> String {
    let kind = match kind {
        Kind::Score => "score",
        Kind::Category => "category",
    };
    id::derived(&["Observation", response_id, kind, name])
}

/// The same Observation, said to have been a mistake; its value stays as a record of what was said.
pub fn entered_in_error(observation: &Json) -> Json {
    let mut observation = observation.clone();
    observation.set("status", "entered-in-error");
    observation
}

/// Least and greatest value of the score that an Observation holds, as published; `None` when the
/// Observation does not follow from the instrument or holds no score.
pub fn range(instrument: &Instrument, observation: &Json) -> Option<(Decimal, Decimal)> {
    let method = observation.list("method").first()?.list("coding").first()?;
    let is_ours = method.str_at(&["system"]) == Some(ALGORITHM)
        && method.str_at(&["code"]) == Some(&instrument.id);
    let codings = observation.get("code")?.list("coding");
    let rule = instrument.scores.iter().find(|rule| {
        let label = observation.str_at(&["code", "text"]) == Some(&rule.label);
        rule.codes.last().map_or(label, |code| codings.contains(code))
    })?;
    rule.range.filter(|_| is_ours)
}

/// Derives the Observations of a response that has, or will have, the id `response_id`.
///
/// Only a response that is completed or amended is scored. Its Observations are final, or
/// corrected when it was amended; `effectiveDateTime` is `authored` and absent without it.
///
/// # Errors
/// Answers that no rule can read: the write of the response should be refused with the issues.
pub fn derive(
    instrument: &Instrument,
    response: &Json,
    response_id: &str,
) -> Result<Derived, Refused> {
    let status = response.str_at(&["status"]).unwrap_or_default();
    let mut triage = None;
    let scored = match status {
        "completed" | "amended" if proxy(response) && !instrument.proxy => {
            let text = format!(
                "{} is answered by the patient; somebody else's answers for them are not taken.",
                instrument.title
            );
            let issue = Issue::error(IssueType::BusinessRule, text);
            return Err(Refused {
                flag: "proxy-not-allowed".to_owned(),
                issues: vec![issue.at("QuestionnaireResponse.source")],
                readable: Answers::none(instrument.items.len()),
            });
        }
        "completed" | "amended" => {
            let answers = Answers::from_response(instrument, response)?;
            let scored = score(instrument, &answers);
            triage = instrument.triage(&answers);
            if scored.status == Status::Error {
                return Err(contradiction(&scored, answers));
            }
            scored
        }
        _ => Scored::absent(instrument, format!("Not scored: the response is {status}.")),
    };

    let mut issues = Vec::new();
    if matches!(scored.status, Status::NotScored | Status::Partial) {
        let reasons = scored.reasons.iter().map(|r| Issue::information(IssueType::Incomplete, r));
        issues.extend(reasons);
    }
    if scored.status != Status::NotScored {
        for (name, what) in
            [("subject", "whom they are about"), ("authored", "when they were true")]
        {
            if response.get(name).is_none() {
                let text = format!("The response has no {name}, so its scores do not say {what}.");
                let place = format!("QuestionnaireResponse.{name}");
                issues.push(Issue::warning(IssueType::Required, text).at(place));
            }
        }
    }

    let writer = Writer { instrument, response, response_id, scored: &scored };
    let mut observations = Vec::new();
    let mut retracted = Vec::new();
    for (rule, score) in instrument.scores.iter().zip(&scored.scores) {
        let id = observation_id(response_id, Kind::Score, &rule.name);
        let Some(value) = &score.value else {
            retracted.push(id);
            continue;
        };
        let (profile, value) = match value {
            Value::Number(_) => {
                let quantity = json!({"value": (value.to_json()), "unit": "{score}",
                    "system": "http://unitsofmeasure.org", "code": "{score}"});
                (instrument.score_profile.as_deref(), ("valueQuantity", quantity))
            }
            Value::Text(_) => (None, ("valueString", value.to_json())),
        };
        let code = concept(&rule.codes, &rule.label);
        observations.push(writer.observation(Observed { id, profile, code, value }));
    }
    for (rule, category) in instrument.categories.iter().zip(&scored.categories) {
        let id = observation_id(response_id, Kind::Category, &rule.name);
        let value = category.value.as_ref();
        match value.and_then(|value| rule.values.iter().find(|known| known.value == *value)) {
            Some(value) => {
                let code = concept(&rule.codes, &rule.label);
                let value = ("valueCodeableConcept", concept(&value.codes, &value.label));
                let profile = rule.profile.as_deref();
                observations.push(writer.observation(Observed { id, profile, code, value }));
            }
            None => retracted.push(id),
        }
    }
    if instrument.triage.is_some() {
        let id = observation_id(response_id, Kind::Category, TRIAGE);
        match &triage {
            Some(triage) => {
                let level = json!({"system": (TRIAGE_LEVEL), "code": (&*triage.triage)});
                let value = ("valueCodeableConcept", concept(&[level], &triage.triage));
                let code = concept(&instrument.codes, &instrument.title);
                observations.push(writer.observation(Observed { id, profile: None, code, value }));
            }
            None => retracted.push(id),
        }
    }
    Ok(Derived { scored, observations, retracted, issues })
}

/// Whether a related person answered for the patient. A member of staff who read the questions
/// aloud is the response's author, not its source.
fn proxy(response: &Json) -> bool {
    let reference = response.str_at(&["source", "reference"]).unwrap_or_default();
    response.str_at(&["source", "type"]) == Some("RelatedPerson")
        || reference.split('/').any(|part| part == "RelatedPerson")
}

fn concept(codings: &[Json], text: &str) -> Json {
    let mut concept = Object::new();
    if !codings.is_empty() {
        concept.set("coding", Json::Array(codings.to_vec()));
    }
    concept.set("text", text);
    Json::Object(concept)
}

/// What one Observation says.
struct Observed<'a> {
    id: String,
    profile: Option<&'a str>,
    code: Json,
    /// Name and value of its `value[x]`.
    value: (&'static str, Json),
}

struct Writer<'a> {
    instrument: &'a Instrument,
    response: &'a Json,
    response_id: &'a str,
    scored: &'a Scored,
}

impl Writer<'_> {
    /// One Observation, its elements in the order of the standard.
    fn observation(&self, observed: Observed<'_>) -> Json {
        let Observed { id, profile, code, value: (value_name, value) } = observed;
        let mut observation = Object::new();
        observation.set("resourceType", "Observation");
        observation.set("id", id);
        let mut meta = Object::new();
        // One that does not say of whom and when it is true conforms to no profile.
        let is_placed =
            ["subject", "authored"].iter().all(|name| self.response.get(name).is_some());
        if let Some(profile) = profile.filter(|_| is_placed) {
            meta.set("profile", json!([(profile)]));
        }
        // What follows from restricted answers is as restricted as they are.
        if let Some(security) = self.response.at(&["meta"]).and_then(|meta| meta.get("security")) {
            meta.set("security", security);
        }
        if !meta.is_empty() {
            observation.set("meta", meta);
        }
        self.copy(&mut observation, "basedOn", "basedOn");
        let amended = self.response.str_at(&["status"]) == Some("amended");
        observation.set("status", if amended { "corrected" } else { "final" });
        let survey = json!([{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
            "code": "survey"
        }]}]);
        observation.set("category", survey);
        observation.set("code", code);
        self.copy(&mut observation, "subject", "subject");
        self.copy(&mut observation, "encounter", "encounter");
        self.copy(&mut observation, "authored", "effectiveDateTime");
        observation.set(value_name, value);
        let mut notes = Vec::new();
        if self.scored.status == Status::Prorated {
            notes.extend(self.scored.reasons.first().map(|reason| json!({"text": (reason)})));
        }
        if !self.instrument.approval.is_approved() {
            let text = "The scoring rules have no local clinical approval.";
            notes.push(json!({"text": (text)}));
        }
        if !notes.is_empty() {
            observation.set("note", notes);
        }
        let instrument = self.instrument;
        let method = json!({
            "coding": [{"system": (ALGORITHM), "version": (&instrument.version),
                "code": (&*instrument.id)}],
            "text": (format!("Scoring table {}, version {}", instrument.id, instrument.version))
        });
        observation.set("method", method);
        let reference = format!("QuestionnaireResponse/{}", self.response_id);
        observation.set("derivedFrom", json!([{"reference": (reference)}]));
        Json::Object(observation)
    }

    fn copy(&self, observation: &mut Object, from: &str, to: &str) {
        if let Some(value) = self.response.get(from) {
            observation.set(to, value);
        }
    }
}
