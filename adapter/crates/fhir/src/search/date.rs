//! Date parameters: <https://hl7.org/fhir/R4/search.html#date>.
//!
//! A value is an interval, by its written precision, its Period or the outer limits of its Timing.
//! So is what is looked for, and the prefixes compare the two. A time without a zone is UTC.

use crate::Json;
use crate::datetime::{DateTime, Micros};
use crate::path::Value;

use super::condition::{Bound, Condition};
use super::fault::Fault;
use super::query::{Asked, Reader};

/// Earliest and latest moment, for the open ends of a period.
const OPEN: (Micros, Micros) = (Micros::MIN, Micros::MAX);

/// How the value that is found compares with the one that is looked for:
/// <https://hl7.org/fhir/R4/search.html#prefix>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    Sa,
    Eb,
    Ap,
}

/// The prefix of a value (`eq` where it has none) and what follows.
pub(super) fn prefix(value: &str) -> (Prefix, &str) {
    let prefix = match value.get(..2) {
        Some("eq") => Prefix::Eq,
        Some("ne") => Prefix::Ne,
        Some("gt") => Prefix::Gt,
        Some("lt") => Prefix::Lt,
        Some("ge") => Prefix::Ge,
        Some("le") => Prefix::Le,
        Some("sa") => Prefix::Sa,
        Some("eb") => Prefix::Eb,
        Some("ap") => Prefix::Ap,
        _ => return (Prefix::Eq, value),
    };
    (prefix, value.get(2..).unwrap_or_default())
}

/// First and last moment of a value.
pub(super) fn bounds(value: &Value<'_>) -> Option<(Micros, Micros)> {
    match (value.type_name(), value.json()) {
        ("Period", Some(json)) => period(json),
        ("Timing", Some(json)) => timing(json),
        _ => value.as_str().and_then(|text| Some(DateTime::parse(&text)?.bounds())),
    }
}

fn period(json: &Json) -> Option<(Micros, Micros)> {
    let bounds = |name| DateTime::parse(json.str_at(&[name])?).map(|value| value.bounds());
    let (start, end) = (bounds("start"), bounds("end"));
    if start.is_none() && end.is_none() {
        return None;
    }
    Some((start.map_or(OPEN.0, |start| start.0), end.map_or(OPEN.1, |end| end.1)))
}

/// R4 leaves the schedule aside: only the outer limits count.
fn timing(json: &Json) -> Option<(Micros, Micros)> {
    let events = json.list("event").iter().filter_map(Json::as_str).filter_map(DateTime::parse);
    let limits = json.at(&["repeat", "boundsPeriod"]).and_then(period);
    let all = events.map(|event| event.bounds()).chain(limits);
    all.reduce(|outer, next| (outer.0.min(next.0), outer.1.max(next.1)))
}

/// The condition that an interval compares with that of the search as the prefix says; `make`
/// takes the bounds of the start and those of the end.
pub(super) fn compare<T: Copy>(
    prefix: Prefix,
    (low, high): (T, T),
    make: impl Fn([Bound<T>; 2], [Bound<T>; 2]) -> Condition,
) -> Condition {
    let any = || [Bound::Open, Bound::Open];
    let within = || make([Bound::Included(low), Bound::Open], [Bound::Open, Bound::Included(high)]);
    // Of the value, something lies after or before what is looked for.
    let after = || make(any(), [Bound::Excluded(high), Bound::Open]);
    let before = || make([Bound::Open, Bound::Excluded(low)], any());
    match prefix {
        Prefix::Eq => within(),
        Prefix::Ne => Condition::Any(vec![before(), after()]),
        Prefix::Gt => after(),
        Prefix::Lt => before(),
        Prefix::Ge => Condition::Any(vec![after(), within()]),
        Prefix::Le => Condition::Any(vec![before(), within()]),
        Prefix::Sa => make([Bound::Excluded(high), Bound::Open], any()),
        Prefix::Eb => make(any(), [Bound::Open, Bound::Excluded(low)]),
        Prefix::Ap => {
            make([Bound::Open, Bound::Included(high)], [Bound::Included(low), Bound::Open])
        }
    }
}

impl Reader<'_> {
    pub(super) fn date(&self, asked: &Asked<'_>, value: &str) -> Result<Condition, Fault> {
        if asked.modifier.is_some() {
            return Err(asked.unknown_modifier("missing"));
        }
        let (prefix, bounds) = self.moment(asked, value)?;
        let code = asked.code();
        Ok(match code {
            "_lastUpdated" => compare(prefix, bounds, last_updated),
            _ => compare(prefix, bounds, |start, end| Condition::Date(code.to_owned(), start, end)),
        })
    }

    /// The prefix of a value and the interval that it compares with.
    pub(super) fn moment(
        &self,
        asked: &Asked<'_>,
        value: &str,
    ) -> Result<(Prefix, (Micros, Micros)), Fault> {
        let (prefix, text) = prefix(value);
        // A plus that was not percent-encoded arrives as a blank.
        let text = text.replace(' ', "+");
        let Some(date) = DateTime::parse(&text) else {
            return Err(asked.expected("a date such as ge2026-03 or 2026-03-02T10:00:00Z"));
        };
        let bounds = date.bounds();
        Ok((prefix, if prefix == Prefix::Ap { self.about(bounds) } else { bounds }))
    }

    /// R4 suggests a tenth of the gap to now; without a clock it is a day.
    fn about(&self, (low, high): (Micros, Micros)) -> (Micros, Micros) {
        const DAY: Micros = 86_400_000_000;
        let width = self.now.map_or(DAY, |now| now.saturating_sub(low).saturating_abs() / 10);
        (low.saturating_sub(width), high.saturating_add(width))
    }
}

/// A moment is its own start and end, so one of two bounds is open.
fn last_updated(start: [Bound<Micros>; 2], end: [Bound<Micros>; 2]) -> Condition {
    let [low, high] = [0, 1].map(|side| match start[side] {
        Bound::Open => end[side],
        bound => bound,
    });
    Condition::LastUpdated(low, high)
}
