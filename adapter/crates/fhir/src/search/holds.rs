//! Which of the resources that a resource contains fulfil a search, for
//! `_containedType=contained`: <https://hl7.org/fhir/R4/search.html#contained>.
//!
//! Decided by the index rows of each. What leads to other resources is asked of the caller, by
//! place (see [`within`](super::within)).

use crate::Json;
use crate::definitions::Definitions;

use super::condition::Condition;
use super::contained::{Inner, Inside, is_indexed, stated};
use super::index::own;
use super::matches::{Candidate, matches};

/// The contained resources of the type `of` for which the condition holds, in their order. `linked`
/// says of a place whether it holds there; it is asked when the condition [`is_linked`].
pub fn holding<'j>(
    definitions: &Definitions,
    base: &str,
    container: &'j Json,
    of: &str,
    condition: &Condition,
    linked: &dyn Fn(usize) -> bool,
) -> Vec<&'j Json> {
    let inside = Inside::of(definitions, container);
    let is_linked = is_linked(condition);
    let condition = stated(condition);
    let holds = |inner: &&Inner<'j>| {
        if is_linked {
            return linked(inner.place);
        }
        let mut rows = own(definitions, base, inner.resource, &inside, is_indexed);
        rows.push(inner.id());
        let candidate = Candidate { id: inner.id, last_updated: 0, rows: &rows };
        matches(&condition, candidate, &|_, _| false)
    };
    let of_type = inside.iter().filter(|inner| inner.of == of);
    of_type.filter(holds).map(|inner| inner.resource).collect()
}

/// Whether a condition leads to other resources.
pub fn is_linked(condition: &Condition) -> bool {
    match condition {
        Condition::All(inner) | Condition::Any(inner) => inner.iter().any(is_linked),
        Condition::Not(inner) => is_linked(inner),
        Condition::Refers(..) | Condition::ReferredBy(..) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;
    use crate::search::Bound;

    #[test]
    fn each_contained_resource_is_looked_at_alone() {
        let patient = |number: usize| {
            let gender = if number % 4 == 3 { "male" } else { "female" };
            json!({"resourceType": "Patient", "id": (format!("p{number}")), "gender": (gender)})
        };
        let contained: Vec<Json> = (0..12).map(patient).collect();
        let container = json!({"resourceType": "List", "id": "l", "contained": (contained)});
        let definitions = Definitions::r4();
        let find = |of: &str, condition: &Condition, linked: &dyn Fn(usize) -> bool| {
            let found =
                holding(&definitions, "http://lumbar.test/fhir", &container, of, condition, linked);
            let ids = found.iter().map(|one| one.str_at(&["id"]).unwrap_or_default().to_owned());
            ids.collect::<Vec<_>>()
        };
        let no = |_| false;
        let male = Condition::key_begins("gender", "male");
        assert_eq!(find("Patient", &male, &no), ["p3", "p7", "p11"]);
        assert_eq!(find("Patient", &male.clone().negate(), &no).len(), 9);
        assert!(find("Group", &male, &no).is_empty());
        let ids = Condition::Id(vec!["p8".to_owned(), "l".to_owned()]);
        assert_eq!(find("Patient", &ids, &no), ["p8"]);
        let ever = Condition::LastUpdated(Bound::Open, Bound::Open);
        assert!(find("Patient", &ever, &no).is_empty());
        let link = Condition::Refers("organization".into(), "Organization".into(), Box::new(ever));
        assert_eq!(find("Patient", &link, &|place| place == 2), ["p2"]);
    }
}
