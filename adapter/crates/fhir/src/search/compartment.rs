//! Search in a compartment: <https://hl7.org/fhir/R4/compartmentdefinition.html>.

use crate::definitions::Definitions;

use super::condition::Condition;

/// That a resource of `resource_type` is in the compartment of the resource `of`/`id`. The
/// resource itself is in its own compartment. `None` when no resource of the type ever is.
pub fn compartment(
    definitions: &Definitions,
    of: &str,
    id: &str,
    resource_type: &str,
) -> Option<Condition> {
    let mut any = Vec::new();
    if of == resource_type && definitions.is_compartment(of) {
        any.push(Condition::Id(vec![id.to_owned()]));
    }
    for code in definitions.compartment(of, resource_type) {
        any.push(Condition::key(code, format!("{of}/{id}")));
    }
    (!any.is_empty()).then(|| Condition::any(any))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership_follows_the_table() {
        let definitions = Definitions::r4();
        let within = |of: &str, of_type: &str| compartment(&definitions, of, "1", of_type);
        let key = |code: &str, key: &str| Condition::key(code, key.to_owned());
        let own = Condition::Id(vec!["1".to_owned()]);
        assert_eq!(within("Patient", "Medication"), None);
        assert_eq!(within("Group", "Observation"), None);
        assert_eq!(within("Encounter", "Encounter"), Some(own.clone()));
        assert_eq!(within("Device", "Device"), Some(own.clone()));
        assert_eq!(
            within("Patient", "Observation"),
            Some(Condition::Any(vec![key("subject", "Patient/1"), key("performer", "Patient/1")]))
        );
        assert_eq!(
            within("Patient", "Patient"),
            Some(Condition::Any(vec![own, key("link", "Patient/1")]))
        );
    }

    #[test]
    fn every_parameter_of_a_compartment_is_a_reference_to_it() {
        let definitions = Definitions::r4();
        for of in ["Device", "Encounter", "Patient", "Practitioner", "RelatedPerson"] {
            assert!(definitions.is_compartment(of), "{of}");
            for resource_type in definitions.resource_types() {
                for code in definitions.compartment(of, resource_type) {
                    let found = definitions.search_parameter(resource_type, code);
                    let kind = found.map(|parameter| parameter.kind);
                    let reference = Some(crate::definitions::SearchKind::Reference);
                    assert_eq!(kind, reference, "{of}: {resource_type}.{code}");
                }
            }
        }
    }
}
