//! Observation-based population:
//! <https://hl7.org/fhir/uv/sdc/STU3/populate.html#observation-based-population>.

use crate::Json;
use crate::datetime::{DateTime, Micros};
use crate::rest::encode;

use super::fhir_query::escape;
use super::population::{Step, Token};

/// Most Observations of which the newest fitting one is taken.
const MAX_OBSERVATIONS: usize = 20;
/// The statuses of a result that counts.
const STATUSES: [&str; 3] = ["final", "amended", "corrected"];

/// The search for the Observations with the codes of an item.
pub(super) fn search(step: &Step, subject: &str, since: &str) -> String {
    let token = |token: &Token| match &token.system {
        Some(system) => format!("{}|{}", escape(system), escape(&token.code)),
        None => escape(&token.code),
    };
    let codes: Vec<String> = step.codes.iter().map(token).collect();
    let mut query = String::from("Observation?subject=");
    encode(&mut query, &escape(subject));
    query.push_str("&code=");
    encode(&mut query, &codes.join(","));
    query.push_str("&status=final,amended,corrected&date=ge");
    encode(&mut query, since);
    query.push_str(&format!("&_sort=-date&_count={MAX_OBSERVATIONS}"));
    query
}

/// The values of the Observations that count, the newest first. `found` was searched for, `given`
/// is held against the same conditions here.
pub(super) fn values<'a>(
    step: &Step,
    subject: &str,
    since: &str,
    found: Option<&'a Json>,
    given: &'a [Json],
) -> Vec<&'a Json> {
    let entries = found.map_or(&[][..], |bundle| bundle.list("entry")).iter();
    let found = entries.filter_map(|entry| entry.get("resource"));
    let since = DateTime::parse(since).map(|since| since.bounds().0);
    let mut all: Vec<(Option<Micros>, &Json)> = given
        .iter()
        .chain(found)
        .filter(|other| is_meant(step, other, subject))
        .map(|other| (moment(other), other))
        .filter(|(at, _)| at.is_some() && *at >= since)
        .collect();
    all.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let values = all.into_iter().filter_map(|(_, other)| {
        let mut members = other.as_object()?.iter();
        members.find(|(name, _)| name.starts_with("value")).map(|(_, value)| value)
    });
    values.take(MAX_OBSERVATIONS).collect()
}

/// Whether an Observation is a result about the subject with one of the codes.
fn is_meant(step: &Step, observation: &Json, subject: &str) -> bool {
    let is_of =
        |reference: &Json| reference.str_at(&["reference"]).is_some_and(|text| same(text, subject));
    let codings = observation.at(&["code"]).map_or(&[][..], |code| code.list("coding"));
    let has_code = codings.iter().any(|coding| {
        step.codes.iter().any(|own| {
            coding.str_at(&["code"]) == Some(&own.code)
                && (own.system.is_none() || coding.str_at(&["system"]) == own.system.as_deref())
        })
    });
    observation.str_at(&["resourceType"]) == Some("Observation")
        && observation.str_at(&["status"]).is_some_and(|status| STATUSES.contains(&status))
        && observation.get("subject").is_some_and(is_of)
        && observation.list("focus").iter().all(is_of)
        && has_code
}

/// Whether two references mean the same: one may be absolute.
fn same(one: &str, two: &str) -> bool {
    let ends = |long: &str, short: &str| {
        long.strip_suffix(short).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
    };
    ends(one, two) || ends(two, one)
}

/// When an Observation was made.
fn moment(observation: &Json) -> Option<Micros> {
    let stated = observation
        .str_at(&["effectiveDateTime"])
        .or_else(|| observation.str_at(&["effectiveInstant"]))
        .or_else(|| observation.str_at(&["effectivePeriod", "end"]))
        .or_else(|| observation.str_at(&["effectivePeriod", "start"]))?;
    Some(DateTime::parse(stated)?.bounds().1)
}
