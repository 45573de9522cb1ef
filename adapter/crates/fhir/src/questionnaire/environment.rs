//! What expressions of a Questionnaire may ask of the world around a response:
//! <https://hl7.org/fhir/R4/fhirpath.html#functions>.

use crate::path::{Environment, Target, Value};
use crate::terminology::Membership;
use crate::validate::{Need, World};

/// The world that a check draws on.
pub(super) struct Surroundings<'w> {
    pub world: &'w World<'w>,
}

impl<'b, 'w: 'b> Environment<'b> for Surroundings<'w> {
    fn resolve(&self, reference: &str) -> Target<'b> {
        match self.world.resources.find(reference) {
            Some(Some(resource)) => Target::Found(resource),
            Some(None) => Target::Absent,
            None => {
                self.world.missing.note(Need::Resource(reference.to_owned()));
                Target::Unknown
            }
        }
    }

    fn member_of(&self, value: &Value<'b>, value_set: &str) -> Option<bool> {
        let is_member = |system: Option<&str>, code: &str| {
            let note = |need| self.world.missing.note(Need::Terminology(need));
            match self.world.terminology.is_member(value_set, system, code, &note) {
                Membership::Member => Some(true),
                Membership::NotMember => Some(false),
                Membership::Unknown => None,
            }
        };
        if let Some(code) = value.as_str() {
            return is_member(None, &code);
        }
        let json = value.json()?;
        let codings = json.list("coding");
        let codings = if codings.is_empty() { std::slice::from_ref(json) } else { codings };
        let mut outcome = Some(false);
        for coding in codings {
            match is_member(coding.str_at(&["system"]), coding.str_at(&["code"])?) {
                Some(true) => return Some(true),
                Some(false) => {}
                None => outcome = None,
            }
        }
        outcome
    }
}
