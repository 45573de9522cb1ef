//! Members of an instrument's file, read with their place so that a fault names it.

use lumbar_fhir::{Issue, IssueType, Json};
use rust_decimal::Decimal;

/// Largest magnitude of a number in a file.
pub(crate) const MAX_NUMBER: i64 = 1_000_000;

/// A list of codings, each with a system and a code.
pub(crate) fn codings(json: &Json, name: &str, place: &str) -> Result<Vec<Json>, Issue> {
    let list = json.list(name);
    for coding in list {
        text(coding, "system", &join(place, name))?;
        text(coding, "code", &join(place, name))?;
    }
    Ok(list.to_vec())
}

/// A text that is not empty.
pub(crate) fn text(json: &Json, name: &str, place: &str) -> Result<String, Issue> {
    let text = json.get(name).and_then(Json::as_str).filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or_else(|| fault(&join(place, name), "must be a text"))
}

/// A text that may be missing.
pub(crate) fn optional(json: &Json, name: &str, place: &str) -> Result<Option<String>, Issue> {
    json.get(name).map(|_| text(json, name, place)).transpose()
}

/// A list of texts; none when it is missing.
pub(crate) fn texts(json: &Json, name: &str, place: &str) -> Result<Vec<String>, Issue> {
    let list = json.list(name).iter().map(|item| item.as_str().map(str::to_owned));
    list.collect::<Option<_>>().ok_or_else(|| fault(&join(place, name), "must be a list of texts"))
}

/// A truth value.
pub(crate) fn boolean(json: &Json, name: &str, default: bool, place: &str) -> Result<bool, Issue> {
    let Some(value) = json.get(name) else { return Ok(default) };
    value.as_bool().ok_or_else(|| fault(&join(place, name), "must be true or false"))
}

/// A number of things, at most `max`.
pub(crate) fn count(
    json: &Json,
    name: &str,
    default: usize,
    max: usize,
    place: &str,
) -> Result<usize, Issue> {
    let Some(value) = json.get(name) else { return Ok(default) };
    let value = value.as_i64().and_then(|value| usize::try_from(value).ok());
    let fault = || fault(&join(place, name), &format!("must be a whole number up to {max}"));
    value.filter(|value| *value <= max).ok_or_else(fault)
}

/// A whole number.
pub(crate) fn whole(json: &Json, name: &str, place: &str) -> Result<i64, Issue> {
    let value = json.get(name).and_then(Json::as_i64);
    let value = value.filter(|value| (-MAX_NUMBER..=MAX_NUMBER).contains(value));
    value.ok_or_else(|| fault(&join(place, name), "must be a whole number up to a million"))
}

/// A number.
pub(crate) fn number(json: &Json, name: &str, place: &str) -> Result<Decimal, Issue> {
    let place = join(place, name);
    decimal(json.get(name).unwrap_or(&Json::Null), &place)
}

/// A number with at most 28 decimals, without trailing zeros.
pub(crate) fn decimal(json: &Json, place: &str) -> Result<Decimal, Issue> {
    let value = json.as_number().and_then(|digits| Decimal::from_str_exact(digits).ok());
    let value = value.filter(|value| value.abs() <= Decimal::from(MAX_NUMBER));
    value
        .map(|value| value.normalize())
        .ok_or_else(|| fault(place, "must be a number up to a million"))
}

/// The member `value`: a text, a number or a truth value.
pub(crate) fn scalar(json: &Json, place: &str) -> Result<Json, Issue> {
    match json.get("value") {
        Some(value @ (Json::String(_) | Json::Bool(_) | Json::Number(_))) => Ok(value.clone()),
        _ => Err(fault(&join(place, "value"), "must be a text, a number, true or false")),
    }
}

/// The place of a member.
pub(crate) fn join(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

/// What is wrong with the file, and where.
pub(crate) fn fault(place: &str, text: &str) -> Issue {
    Issue::error(IssueType::Structure, format!("The instrument's {place} {text}.")).at(place)
}

/// A member that is one text, number or truth value, or a list of them; none when it is missing.
pub(crate) fn scalars(json: &Json, name: &str, place: &str) -> Result<Vec<Json>, Issue> {
    let list = match json.get(name) {
        None => &[],
        Some(Json::Array(list)) => list.as_slice(),
        Some(value) => std::slice::from_ref(value),
    };
    let is_scalar =
        |value: &Json| matches!(value, Json::String(_) | Json::Bool(_) | Json::Number(_));
    match list.iter().all(is_scalar) {
        true => Ok(list.to_vec()),
        false => Err(fault(&join(place, name), "must be texts, numbers or truth values")),
    }
}

/// The names of `entries` must differ.
pub(crate) fn unique<'a>(place: &str, names: impl Iterator<Item = &'a str>) -> Result<(), Issue> {
    let mut seen: Vec<&str> = Vec::new();
    for name in names {
        if seen.contains(&name) {
            return Err(fault(place, &format!("hold the name {name} twice")));
        }
        seen.push(name);
    }
    Ok(())
}
