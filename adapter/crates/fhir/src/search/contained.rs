//! Contained resources: <https://hl7.org/fhir/R4/search.html#contained>.
//!
//! Their values are indexed with the resource that contains them, under codes of their own:
//! `#Patient.0.family` is the family name of the first contained Patient. So several parameters
//! hold for the same contained resource. From the [`MAX_PLACES`]th of a type on they share a place,
//! where one parameter may hold for one of them and another for another. A site's own parameters
//! are not indexed there, and chains are not followed into contained resources.

use std::collections::BTreeMap;

use crate::Json;
use crate::definitions::{Definitions, SearchParameter};

use super::condition::{Bound, Condition, IndexRow, IndexValue};

/// Contained resources of one type whose values are kept apart.
const MAX_PLACES: usize = 8;

/// Which resources a search looks at: `_contained`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Contained {
    /// Those that stand for themselves.
    #[default]
    Without,
    /// Contained ones; what is found is what contains them.
    Only,
    /// Both.
    Both,
}

impl Contained {
    /// What the parameters ask for; another value is refused where it is read.
    pub(super) fn asked(parameters: &[(String, String)]) -> Contained {
        let value =
            parameters.iter().find(|(name, value)| name == "_contained" && !value.is_empty());
        match value.map(|(_, value)| value.as_str()) {
            Some("true") => Contained::Only,
            Some("both") => Contained::Both,
            _ => Contained::Without,
        }
    }
}

/// Whether contained resources are indexed by a parameter.
pub(super) fn is_indexed(parameter: &SearchParameter) -> bool {
    parameter.url.starts_with("http://hl7.org/fhir/SearchParameter/")
}

fn code_at(of: &str, place: usize, code: &str) -> String {
    format!("#{of}.{place}.{code}")
}

/// The rows of what a resource contains; `index` gives those of one of them.
pub(super) fn rows(
    definitions: &Definitions,
    resource: &Json,
    index: impl Fn(&Json) -> Vec<IndexRow>,
) -> Vec<IndexRow> {
    let mut rows = Vec::new();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for inner in resource.list("contained") {
        let of = inner.str_at(&["resourceType"]).unwrap_or_default();
        if !definitions.is_resource(of) {
            continue;
        }
        let next = places.entry(of).or_default();
        let place = (*next).min(MAX_PLACES - 1);
        *next += 1;
        let id = inner.str_at(&["id"]).unwrap_or_default().to_owned();
        let own = IndexRow { code: "_id".to_owned(), value: IndexValue::Key(id) };
        rows.extend(
            index(inner)
                .into_iter()
                .chain([own])
                .map(|row| IndexRow { code: code_at(of, place, &row.code), value: row.value }),
        );
    }
    rows
}

/// That something contains a resource of the type for which the condition holds; `None` when it
/// asks for what refers to the contained resource.
pub fn within(of: &str, condition: &Condition) -> Option<Condition> {
    let at = |place| {
        let id = code_at(of, place, "_id");
        let (low, high) = (Bound::Included(String::new()), Bound::Excluded("\u{10ffff}".into()));
        let is_there = Condition::Key(id, low, high);
        Some(Condition::All(vec![is_there, moved(condition, of, place)?]))
    };
    (0..MAX_PLACES).map(at).collect::<Option<_>>().map(Condition::Any)
}

/// The condition with the codes of a contained resource.
fn moved(condition: &Condition, of: &str, place: usize) -> Option<Condition> {
    let all = |conditions: &[Condition]| {
        conditions.iter().map(|one| moved(one, of, place)).collect::<Option<Vec<_>>>()
    };
    let to = |code: &str| code_at(of, place, code);
    Some(match condition {
        Condition::All(conditions) => Condition::All(all(conditions)?),
        Condition::Any(conditions) => Condition::Any(all(conditions)?),
        Condition::Not(inner) => moved(inner, of, place)?.negate(),
        Condition::Id(ids) => {
            Condition::any(ids.iter().map(|id| Condition::key(&to("_id"), id.clone())).collect())
        }
        // R4 forbids it in contained resources.
        Condition::LastUpdated(..) => Condition::Any(Vec::new()),
        Condition::Key(code, low, high) => Condition::Key(to(code), low.clone(), high.clone()),
        Condition::KeyLike(code, pattern) => Condition::KeyLike(to(code), pattern.clone()),
        Condition::KeyContains(code, text) => Condition::KeyContains(to(code), text.clone()),
        Condition::KeyEnds(code, text) => Condition::KeyEnds(to(code), text.clone()),
        Condition::Date(code, start, end) => Condition::Date(to(code), *start, *end),
        Condition::Number(code, low, high, unit) => {
            Condition::Number(to(code), *low, *high, unit.clone())
        }
        Condition::Present(code) => Condition::Present(to(code)),
        Condition::Refers(code, target, inner) => {
            Condition::Refers(to(code), target.clone(), inner.clone())
        }
        Condition::ReferredBy(..) => return None,
    })
}
