//! Where scores come from: <https://hl7.org/fhir/R4/provenance.html>.
//!
//! One Provenance for each version of a response and of the rules: who scored it, from which
//! version of the answers, by which version of which rules. Its id follows from all three.

use lumbar_fhir::{Json, Object, json};

use crate::derive::ALGORITHM;
use crate::id;

/// The profile that it conforms to.
const PROFILE: &str = "https://lumbar.example/fhir/StructureDefinition/back-pain-provenance";

/// What was scored, and by which rules.
#[derive(Clone, Copy, Debug)]
pub struct Scoring<'a> {
    /// The id of the response.
    pub response: &'a str,
    /// The version of the response that has the answers.
    pub version: i64,
    /// The id of the instrument.
    pub algorithm: &'a str,
    /// The version of its rules.
    pub algorithm_version: &'a str,
    /// What they are called.
    pub title: &'a str,
}

/// The Provenance of `observations`, recorded at an instant.
pub fn provenance(scoring: &Scoring<'_>, observations: &[Json], recorded: &str) -> Json {
    let Scoring { response, version, algorithm, algorithm_version, title } = *scoring;
    let version = version.to_string();
    let names = ["Provenance", response, "score", &version, algorithm, algorithm_version];
    let mut provenance = Object::new();
    provenance.set("resourceType", "Provenance");
    provenance.set("id", id::derived(&names));
    let mut meta = json!({"profile": [(PROFILE)]});
    // What tells of restricted answers is as restricted as they are.
    let labels = observations.first().and_then(|first| first.get("meta")?.get("security"));
    if let Some(labels) = labels {
        meta.set("security", labels);
    }
    provenance.set("meta", meta);
    let targets = observations.iter().filter_map(|observation| observation.str_at(&["id"]));
    let targets: Vec<Json> =
        targets.map(|id| json!({"reference": (format!("Observation/{id}"))})).collect();
    provenance.set("target", targets);
    provenance.set("recorded", recorded);
    provenance.set(
        "activity",
        json!({"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/v3-DataOperation",
            "code": "CREATE"
        }], "text": "scoring"}),
    );
    provenance.set(
        "agent",
        json!([{
            "type": {"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
                "code": "assembler"
            }]},
            "who": {"display": "Lumbar scoring service"}
        }]),
    );
    let answers = format!("QuestionnaireResponse/{response}/_history/{version}");
    let rules = format!("{algorithm}|{algorithm_version}");
    provenance.set(
        "entity",
        json!([
            {"role": "source", "what": {"reference": (answers)}},
            {"role": "source", "what": {
                "identifier": {"system": (ALGORITHM), "value": (rules)},
                "display": (format!("Scoring rules of {title}, version {algorithm_version}"))
            }}
        ]),
    );
    Json::Object(provenance)
}
