//! Contained resources: <https://hl7.org/fhir/R4/search.html#contained>.
//!
//! Their values are indexed with the resource that contains them, under codes of their own:
//!
//! - by place: `_contained:#Patient.0.family` is the family name of the first contained Patient, so
//!   that several parameters hold for the same one. From the [`MAX_PLACES`]th of a type on they
//!   share a place, where one parameter may hold for one of them and another for another.
//! - by the references that lead to them: `_contained:subject.Patient.family` is that of the
//!   contained Patient that `subject` points at, for chains. References of the resource itself are
//!   all followed, those of contained ones up to [`MAX_HOPS`] and [`MAX_FOLLOWED`].
//!
//! A reference to a contained resource has the key `#Type.place.number`. A site's own parameters
//! are not indexed in contained resources.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::Json;
use crate::definitions::{Definitions, SearchParameter};

use super::condition::{Condition, IndexRow, IndexValue};
use super::fault::Fault;
use super::query::Reader;

/// What the codes begin with; by this name the index is known to be complete or not.
pub(super) const CODE: &str = "_contained";

/// Contained resources of one type whose values are kept apart.
const MAX_PLACES: usize = 8;

/// References that are followed one after the other within a resource.
const MAX_HOPS: usize = 3;

/// References from contained resources to others that are followed.
const MAX_FOLLOWED: usize = 32;

/// Which resources a search looks at: `_contained`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Contained {
    /// Those that stand for themselves.
    #[default]
    Without,
    /// Contained ones.
    Only,
    /// Both.
    Both,
}

impl Contained {
    /// What the parameters ask for; another value is refused where it is read.
    pub(super) fn asked(parameters: &[(String, String)]) -> Contained {
        let value = parameters.iter().find(|(name, value)| name == CODE && !value.is_empty());
        match value.map(|(_, value)| value.as_str()) {
            Some("true") => Contained::Only,
            Some("both") => Contained::Both,
            _ => Contained::Without,
        }
    }
}

/// Whether contained resources are to be given without what contains them; another value of
/// `_containedType` is refused where it is read.
pub(super) fn is_alone(parameters: &[(String, String)]) -> bool {
    let is_asked =
        |(name, value): &(String, String)| name == "_containedType" && value == "contained";
    Contained::asked(parameters) != Contained::Without && parameters.iter().any(is_asked)
}

/// Whether contained resources are indexed by a parameter.
pub(super) fn is_indexed(parameter: &SearchParameter) -> bool {
    parameter.url.starts_with("http://hl7.org/fhir/SearchParameter/")
}

impl Reader<'_> {
    /// Refuses what contained resources are not indexed by, where these are looked at.
    pub(super) fn check_contained(
        &self,
        name: &str,
        parameter: &SearchParameter,
        depth: usize,
    ) -> Result<(), Fault> {
        let is_first = depth == self.limits.max_chain;
        if is_first && self.contained.get() && !is_indexed(parameter) {
            return Err(Fault::unsupported(format!(
                "The search parameter {name}: contained resources are found by R4's parameters only."
            )));
        }
        Ok(())
    }
}

/// What the codes at a place begin with.
fn at_place(of: &str, place: usize) -> String {
    format!("{CODE}:#{of}.{place}.")
}

/// What the codes begin with of the resources that a reference points at.
fn behind(code: &str, of: &str) -> String {
    format!("{CODE}:{code}.{of}.")
}

/// Whether a code is the same wherever it is asked for: places are those of the container.
fn is_at_place(code: &str) -> bool {
    code.strip_prefix(CODE).is_some_and(|rest| rest.starts_with(":#"))
}

/// What a resource contains.
pub(super) struct Inside<'j> {
    /// The resource that contains them.
    pub(super) container: &'j Json,
    all: Vec<Inner<'j>>,
    by_id: BTreeMap<&'j str, usize>,
}

/// A contained resource.
pub(super) struct Inner<'j> {
    pub(super) of: &'j str,
    pub(super) id: &'j str,
    pub(super) place: usize,
    pub(super) resource: &'j Json,
}

impl Inner<'_> {
    /// The row of its id, which every contained resource has, even one without an id.
    pub(super) fn id(&self) -> IndexRow {
        IndexRow { code: "_id".to_owned(), value: IndexValue::Key(self.id.to_owned()) }
    }
}

impl<'j> Inside<'j> {
    /// What this resource contains.
    pub(super) fn of(definitions: &Definitions, resource: &'j Json) -> Inside<'j> {
        let mut inside = Inside { container: resource, all: Vec::new(), by_id: BTreeMap::new() };
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for inner in resource.list("contained") {
            let of = inner.str_at(&["resourceType"]).unwrap_or_default();
            if !definitions.is_resource(of) {
                continue;
            }
            let next = places.entry(of).or_default();
            let place = (*next).min(MAX_PLACES - 1);
            *next += 1;
            let id = inner.str_at(&["id"]).unwrap_or_default();
            inside.by_id.entry(id).or_insert(inside.all.len());
            inside.all.push(Inner { of, id, place, resource: inner });
        }
        inside
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Inner<'j>> {
        self.all.iter()
    }

    /// Key of a reference to one of them, `#id`.
    pub(super) fn key(&self, reference: &str) -> Option<String> {
        let number = *self.by_id.get(reference.strip_prefix('#').filter(|id| !id.is_empty())?)?;
        let Inner { of, place, .. } = self.all.get(number)?;
        Some(format!("#{of}.{place}.{number}"))
    }

    /// Where the references among the rows of one resource lead: the codes there begin with
    /// `prefix`.
    fn leads(&self, prefix: &str, rows: &[IndexRow]) -> Vec<(String, usize)> {
        let lead = |row: &IndexRow| {
            let IndexValue::Key(key) = &row.value else { return None };
            let number = key.strip_prefix('#')?.rsplit('.').next()?.parse::<usize>().ok()?;
            let inner = self.all.get(number).filter(|_| !row.code.contains(':'))?;
            Some((format!("{prefix}{}", behind(&row.code, inner.of)), number))
        };
        rows.iter().filter_map(lead).collect()
    }

    /// The rows of what is contained. `own` are those of the resource itself; `index` gives those
    /// of one that it contains.
    pub(super) fn rows(
        &self,
        own: &[IndexRow],
        index: impl Fn(&Json) -> Vec<IndexRow>,
    ) -> Vec<IndexRow> {
        if self.all.is_empty() {
            return Vec::new();
        }
        let with_id = |inner: &Inner<'_>| {
            let mut rows = index(inner.resource);
            rows.push(inner.id());
            rows
        };
        let each: Vec<Vec<IndexRow>> = self.all.iter().map(with_id).collect();
        let mut rows = Vec::new();
        let mut to_follow: VecDeque<_> =
            self.leads("", own).into_iter().map(|(prefix, number)| (prefix, number, 1)).collect();
        for (inner, own) in self.all.iter().zip(&each) {
            let place = at_place(inner.of, inner.place);
            rows.extend(own.iter().map(|row| prefixed(&place, row)));
            let leads = self.leads(&place, own).into_iter().take(MAX_FOLLOWED);
            to_follow.extend(leads.map(|(prefix, number)| (prefix, number, 2)));
        }
        let (mut seen, mut followed) = (BTreeSet::new(), 0);
        while let Some((prefix, number, hops)) = to_follow.pop_front() {
            let Some(own) = each.get(number) else { continue };
            if !seen.insert((prefix.clone(), number)) {
                continue;
            }
            if hops > 1 {
                followed += 1;
                if followed > MAX_FOLLOWED {
                    continue;
                }
            }
            rows.extend(own.iter().map(|row| prefixed(&prefix, row)));
            if hops < MAX_HOPS && followed < MAX_FOLLOWED {
                let leads = self.leads(&prefix, own).into_iter().take(MAX_FOLLOWED);
                to_follow.extend(leads.map(|(prefix, number)| (prefix, number, hops + 1)));
            }
        }
        rows
    }
}

fn prefixed(prefix: &str, row: &IndexRow) -> IndexRow {
    IndexRow { code: format!("{prefix}{}", row.code), value: row.value.clone() }
}

/// For each place, that something contains a resource of the type there for which the condition
/// holds; `None` when it asks for what refers to the contained resource, which nothing elsewhere
/// can.
pub fn within(of: &str, condition: &Condition) -> Option<Vec<Condition>> {
    let at = |place| {
        let prefix = at_place(of, place);
        let is_there = Condition::key_begins(&format!("{prefix}_id"), "");
        Condition::All(vec![is_there, moved(condition, &prefix)])
    };
    (!is_referred(condition)).then(|| (0..MAX_PLACES).map(at).collect())
}

/// Whether the condition asks for what refers to the resource.
fn is_referred(condition: &Condition) -> bool {
    match condition {
        Condition::All(inner) | Condition::Any(inner) => inner.iter().any(is_referred),
        Condition::Not(inner) => is_referred(inner),
        Condition::ReferredBy(..) => true,
        _ => false,
    }
}

/// That the reference parameter `code` points at a contained resource of the type for which the
/// condition holds, as alternatives.
pub(super) fn referred(
    definitions: &Definitions,
    code: &str,
    of: &str,
    condition: &Condition,
) -> Vec<Condition> {
    let has_rows = |code: &str| {
        let code = code.split(':').next().unwrap_or_default();
        definitions.search_parameter(of, code).is_none_or(is_indexed)
    };
    if !all_codes(condition, &has_rows) {
        return Vec::new();
    }
    if is_of_one_value(condition) {
        return vec![moved(condition, &behind(code, of))];
    }
    // What must hold of several values must hold of one resource.
    let at = |place| {
        let points_there = Condition::key_begins(code, &format!("#{of}.{place}."));
        Condition::All(vec![moved(condition, &at_place(of, place)), points_there])
    };
    (0..MAX_PLACES).map(at).collect()
}

/// Whether a condition holds of several resources together only if it holds of one of them alone.
fn is_of_one_value(condition: &Condition) -> bool {
    match condition {
        Condition::Any(any) => any.iter().all(is_of_one_value),
        Condition::All(all) => {
            let mut relative = all.iter().filter(|one| !is_absolute(one));
            relative.next().is_some_and(is_of_one_value) && relative.next().is_none()
        }
        Condition::Not(_) => false,
        _ => true,
    }
}

/// Whether a condition is about places only.
fn is_absolute(condition: &Condition) -> bool {
    all_codes(condition, &is_at_place)
}

/// Whether `test` holds for every code of the resource that a condition is about; the id and the
/// like have codes of their own.
fn all_codes(condition: &Condition, test: &dyn Fn(&str) -> bool) -> bool {
    match condition {
        Condition::All(inner) | Condition::Any(inner) => {
            inner.iter().all(|one| all_codes(one, test))
        }
        Condition::Not(inner) => all_codes(inner, test),
        Condition::Id(_) => test("_id"),
        Condition::LastUpdated(..) => test("_lastUpdated"),
        Condition::ReferredBy(..) => test("_has"),
        Condition::Key(code, ..)
        | Condition::KeyLike(code, _)
        | Condition::KeyContains(code, _)
        | Condition::KeyEnds(code, _)
        | Condition::Date(code, ..)
        | Condition::Number(code, ..)
        | Condition::Present(code)
        | Condition::Refers(code, ..) => test(code),
    }
}

/// The condition as it is about the rows of a contained resource alone.
pub(super) fn stated(condition: &Condition) -> Condition {
    moved(condition, "")
}

/// The condition with the codes of a contained resource.
fn moved(condition: &Condition, prefix: &str) -> Condition {
    let all = |conditions: &[Condition]| {
        conditions.iter().map(|one| moved(one, prefix)).collect::<Vec<_>>()
    };
    let to = |code: &str| match is_at_place(code) {
        true => code.to_owned(),
        false => format!("{prefix}{code}"),
    };
    match condition {
        Condition::All(conditions) => Condition::All(all(conditions)),
        Condition::Any(conditions) => Condition::Any(all(conditions)),
        Condition::Not(inner) => moved(inner, prefix).negate(),
        Condition::Id(ids) => {
            Condition::any(ids.iter().map(|id| Condition::key(&to("_id"), id.clone())).collect())
        }
        // R4 forbids the time in contained resources, and nothing elsewhere refers to them.
        Condition::LastUpdated(..) | Condition::ReferredBy(..) => Condition::Any(Vec::new()),
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
    }
}
