//! Codes of required bindings: <https://hl7.org/fhir/R4/terminologies.html#required>.

use super::Builder;
use crate::terminology::{Canonical, members};
use crate::{Json, json};

/// Most codes of a value set that a schema lists.
const MAX_CODES: usize = 1_000;

impl Builder<'_> {
    /// The condition that a required binding makes for values of a type; `None` where the codes are
    /// not known or too many. What has no code is left to the validator.
    pub(super) fn bound(&self, value_set: &str, type_name: &str) -> Option<Json> {
        let by_system = self.codes(value_set)?;
        let of_system = |(system, codes): &(String, Vec<Json>)| {
            json!({
                "properties": {"system": {"const": (system)}, "code": {"enum": (codes.clone())}},
                "required": ["system", "code"]
            })
        };
        let coding = || json!({"anyOf": (by_system.iter().map(of_system).collect::<Vec<Json>>())});
        match type_name {
            "code" | "string" | "uri" => {
                let mut codes: Vec<Json> = Vec::new();
                for code in by_system.iter().flat_map(|(_, codes)| codes) {
                    if !codes.contains(code) {
                        codes.push(code.clone());
                    }
                }
                Some(json!({"enum": (codes)}))
            }
            "Coding" | "Quantity" => {
                Some(json!({"if": {"required": ["code"]}, "then": (coding())}))
            }
            "CodeableConcept" => Some(json!({"properties": {"coding": {"contains": (coding())}}})),
            _ => None,
        }
    }

    /// The codes of a value set by their systems.
    fn codes(&self, value_set: &str) -> Option<Vec<(String, Vec<Json>)>> {
        let library = self.sources.terminology;
        let set = library.value_set(&Canonical::parse(value_set))?;
        let members = members(library, set).ok()?;
        if members.is_empty() || members.len() > MAX_CODES {
            return None;
        }
        let mut by_system: Vec<(String, Vec<Json>)> = Vec::new();
        for member in members {
            let code = Json::from(member.code);
            match by_system.iter_mut().find(|(system, _)| system == member.system) {
                Some((_, codes)) => codes.push(code),
                None => by_system.push((member.system.to_owned(), vec![code])),
            }
        }
        Some(by_system)
    }
}
