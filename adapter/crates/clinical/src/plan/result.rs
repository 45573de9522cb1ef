//! What was found out about one form, as Parameters: <https://hl7.org/fhir/R4/parameters.html>.
//!
//! The expressions of a pathway see it as `%result`. It is made of a form in any state, also of one
//! that is being filled in: whether a gap counts yet is for the pathway to say.

use lumbar_fhir::{Json, json};

use crate::answers::Answers;
use crate::instrument::Instrument;
use crate::score::score;

/// The parameters `instrument`, `status`, each `flag` and, of safety questions, `triage`, `atLeast`
/// and each `reason`. Answers that cannot be read give the status `error` and clear nothing.
pub fn result(instrument: &Instrument, response: &Json) -> Json {
    let (answers, fault) = match Answers::from_response(instrument, response) {
        Ok(answers) => (answers, None),
        Err(refused) => (refused.readable, Some(refused.flag)),
    };
    let scored = score(instrument, &answers);
    let triage = match &fault {
        None => instrument.triage(&answers),
        Some(_) => instrument.triage_in_doubt(&answers),
    };
    let status = if fault.is_some() { "error" } else { scored.status.code() };
    let mut parameters: Vec<(&str, &str)> =
        vec![("instrument", &instrument.id), ("status", status)];
    if let Some(triage) = &triage {
        parameters.push(("triage", &triage.triage));
        parameters.push(("atLeast", &triage.at_least));
        parameters.extend(triage.reasons.iter().map(|reason| ("reason", &**reason)));
    }
    parameters.extend(scored.flags.iter().chain(&fault).map(|flag| ("flag", flag.as_str())));
    let parameters = parameters.into_iter();
    let parameters: Vec<Json> =
        parameters.map(|(name, value)| json!({"name": (name), "valueString": (value)})).collect();
    json!({"resourceType": "Parameters", "parameter": (parameters)})
}
