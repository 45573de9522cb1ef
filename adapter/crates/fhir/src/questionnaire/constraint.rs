//! Constraints that a Questionnaire puts on its responses:
//! <http://hl7.org/fhir/StructureDefinition/questionnaire-constraint> of R4 and
//! <http://hl7.org/fhir/StructureDefinition/targetConstraint> that follows it.

use super::expression::Formula;
use super::extension;
use super::value::cut;
use crate::Json;

/// One constraint.
#[derive(Clone, Debug)]
pub(super) struct Constraint {
    pub key: Box<str>,
    pub is_error: bool,
    /// What its author tells people.
    pub human: String,
    pub formula: Formula,
    /// The path of the element that is at fault, from the item or the response.
    pub location: Option<Box<str>>,
}

impl Constraint {
    /// The constraints of a Questionnaire or of an item.
    pub fn read(json: &Json) -> Vec<Constraint> {
        let is_one = |other: &&Json| {
            matches!(extension::term(other), Some("constraint" | "targetConstraint"))
        };
        let read = |json: &Json| {
            let text = |name| extension::part(json, name).and_then(Json::as_str);
            Some(Constraint {
                key: text("key").unwrap_or("constraint").into(),
                is_error: text("severity") != Some("warning"),
                human: cut(text("human").unwrap_or("a constraint of the Questionnaire")),
                formula: Formula::read(extension::part(json, "expression")?),
                location: text("location").filter(|path| is_path(path)).map(Into::into),
            })
        };
        json.list("extension").iter().filter(is_one).filter_map(read).collect()
    }
}

/// Whether a text is the path of an element that can follow another one.
fn is_path(text: &str) -> bool {
    let is_step = |c: char| c.is_ascii_alphanumeric() || "._[]()='".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.len() <= 200
        && text.chars().all(is_step)
}
