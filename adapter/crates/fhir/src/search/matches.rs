//! Whether a resource that is not stored yet fulfils a search: the truth of a [`Condition`] over
//! index rows.
//!
//! Used inside a transaction, whose own resources must be found before they are stored, and as the
//! model that the stores are tested against. Links to other resources are followed by a function
//! of the caller.

use crate::datetime::Micros;

use super::condition::{Bound, Condition, IndexRow, IndexValue};
use super::key;

/// One resource as search sees it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The logical id.
    pub id: &'a str,
    /// Its `meta.lastUpdated`.
    pub last_updated: Micros,
    /// Its index rows.
    pub rows: &'a [IndexRow],
}

/// Whether `condition` holds for `candidate`. `linked` answers [`Condition::Refers`] and
/// [`Condition::ReferredBy`].
pub fn matches(
    condition: &Condition,
    candidate: Candidate<'_>,
    linked: &dyn Fn(&Condition, Candidate<'_>) -> bool,
) -> bool {
    let any = |code: &str, test: &dyn Fn(&IndexValue) -> bool| {
        candidate.rows.iter().any(|row| row.code == code && test(&row.value))
    };
    match condition {
        Condition::All(all) => all.iter().all(|inner| matches(inner, candidate, linked)),
        Condition::Any(some) => some.iter().any(|inner| matches(inner, candidate, linked)),
        Condition::Not(inner) => !matches(inner, candidate, linked),
        Condition::Id(ids) => ids.iter().any(|id| id == candidate.id),
        Condition::LastUpdated(from, to) => within(&candidate.last_updated, from, to),
        Condition::Key(code, from, to) => {
            any(code, &|value| matches!(value, IndexValue::Key(key) if within(key, from, to)))
        }
        Condition::KeyLike(code, pattern) => {
            any(code, &|value| matches!(value, IndexValue::Key(key) if pattern.matches(key)))
        }
        Condition::KeyContains(code, part) => any(code, &|value| match value {
            IndexValue::Key(key) => {
                let first = key.split_inclusive(key::SEPARATOR).next().unwrap_or_default();
                first.contains(part.as_str())
            }
            _ => false,
        }),
        Condition::KeyEnds(code, end) => {
            any(code, &|value| matches!(value, IndexValue::Key(key) if key.ends_with(end.as_str())))
        }
        Condition::Date(code, start, end) => any(code, &|value| match value {
            IndexValue::Date(low, high) => {
                within(low, &start[0], &start[1]) && within(high, &end[0], &end[1])
            }
            _ => false,
        }),
        Condition::Number(code, low, high, unit) => any(code, &|value| match value {
            IndexValue::Number(from, to, of) => {
                within(from, &low[0], &low[1])
                    && within(to, &high[0], &high[1])
                    && unit.as_ref().is_none_or(|unit| unit.matches(of))
            }
            _ => false,
        }),
        Condition::Present(code) => any(code, &|_| true),
        Condition::Refers(..) | Condition::ReferredBy(..) => linked(condition, candidate),
    }
}

fn within<T: PartialOrd>(value: &T, from: &Bound<T>, to: &Bound<T>) -> bool {
    let after = match from {
        Bound::Open => true,
        Bound::Included(bound) => value >= bound,
        Bound::Excluded(bound) => value > bound,
    };
    let before = match to {
        Bound::Open => true,
        Bound::Included(bound) => value <= bound,
        Bound::Excluded(bound) => value < bound,
    };
    after && before
}
