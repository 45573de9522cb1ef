//! Which resources belong to a compartment: <https://hl7.org/fhir/R4/compartmentdefinition.html>.
//!
//! Only the compartments that R4 defines; a CompartmentDefinition of a site changes nothing.

use std::collections::HashMap;

use super::rows;

/// The search parameters that put a resource of a type into a compartment.
type Members = HashMap<&'static str, Vec<&'static str>>;

/// The members of each compartment.
#[derive(Clone, Debug)]
pub(super) struct Compartments(HashMap<&'static str, Members>);

impl Compartments {
    pub(super) fn read(table: &'static str) -> Compartments {
        let mut compartments: HashMap<&'static str, Members> = HashMap::new();
        for [compartment, resource_type, parameters] in rows(table) {
            // The resource itself is in its compartment whatever its parameters say.
            let codes = parameters.split(' ').filter(|code| *code != "{def}").collect();
            compartments.entry(compartment).or_default().insert(resource_type, codes);
        }
        Compartments(compartments)
    }

    pub(super) fn is_compartment(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn parameters(&self, of: &str, resource_type: &str) -> &[&'static str] {
        let codes = self.0.get(of).and_then(|members| members.get(resource_type));
        codes.map_or(&[], Vec::as_slice)
    }
}
