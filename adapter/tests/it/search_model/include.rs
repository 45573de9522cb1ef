//! What a naive reading of <https://hl7.org/fhir/R4/search.html#revinclude> includes.

use std::collections::BTreeSet;

use lumbar_fhir::Json;

use super::generate::Pair;
use super::{Value, values};
use crate::app::reference;

/// What the parameters add to the matches of one page.
pub(super) fn included(world: &[Json], matches: &[Json], includes: &[Pair]) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = matches.iter().map(reference).collect();
    let mut from: Vec<&Json> = matches.iter().collect();
    let mut added = BTreeSet::new();
    let mut first = true;
    while !from.is_empty() {
        let mut next = Vec::new();
        for (name, value) in includes.iter().filter(|(name, _)| first || name.contains("iterate")) {
            for one in &from {
                for other in world {
                    let (source, target) =
                        if name.starts_with("_rev") { (other, *one) } else { (*one, other) };
                    if refers(source, target, value) && all.insert(reference(other)) {
                        added.insert(reference(other));
                        next.push(other);
                    }
                }
            }
        }
        (from, first) = (next, false);
    }
    added
}

/// Whether one resource refers to another by `Type:parameter[:Type]`.
fn refers(source: &Json, target: &Json, include: &str) -> bool {
    let parts: Vec<&str> = include.split(':').collect();
    let kind = |resource: &Json| resource.str_at(&["resourceType"]).unwrap().to_owned();
    if kind(source) != parts[0] || parts.get(2).is_some_and(|of| kind(target) != *of) {
        return false;
    }
    let parameters = match (parts[0], parts[1]) {
        ("Patient", "*") => "general-practitioner",
        ("Observation" | "RiskAssessment" | "QuestionnaireResponse", "*") => "subject",
        (_, parameter) => parameter,
    };
    let name = reference(target);
    values(source, parameters)
        .iter()
        .any(|value| matches!(value, Value::Reference(found) if *found == name))
}
