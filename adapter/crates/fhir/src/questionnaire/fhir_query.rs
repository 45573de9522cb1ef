//! Queries with FHIRPath in them, `application/x-fhir-query`:
//! <https://hl7.org/fhir/uv/sdc/STU3/expressions.html#fhirquery>.
//!
//! A query is read once. What its expressions come to is put in as values of search parameters;
//! where one comes to nothing there is no query, as it would find what was never meant. The query
//! is made by others.

use super::expression::Setting;
use crate::Json;
use crate::path::{Expression, Value};
use crate::rest::encode;

/// Most expressions of one query.
const MAX_PARTS: usize = 50;
/// Longest query.
pub(super) const MAX_LENGTH: usize = 8_192;

/// A query, in parts.
#[derive(Clone, Debug)]
pub(super) struct Query {
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(Box<str>),
    Path(Result<Expression, String>),
}

impl Query {
    /// Reads a query; `{{` without `}}` is text.
    pub fn read(text: &str) -> Query {
        Query::parse(text, &str::to_owned)
    }

    /// Reads the url of a Bundle's entry, in which `%` may be encoded (`%25`; SDC's own example
    /// has `%37`).
    pub fn of_url(text: &str) -> Query {
        Query::parse(text, &|path| path.replace("%25", "%").replace("%37", "%"))
    }

    fn parse(text: &str, decode: &dyn Fn(&str) -> String) -> Query {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, (inner, after))) = rest
            .split_once("{{")
            .and_then(|(before, rest)| Some((before, rest.split_once("}}")?)))
            .filter(|_| parts.len() < 2 * MAX_PARTS)
        {
            parts.push(Part::Text(before.into()));
            let read = Expression::parse(decode(inner).trim());
            parts.push(Part::Path(read.map_err(|error| format!("no valid FHIRPath ({error})"))));
            rest = after;
        }
        parts.push(Part::Text(rest.into()));
        Query { parts }
    }

    /// The query with its expressions resolved on `focus`; `None` where one of them comes to
    /// nothing.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn resolve<'b>(
        &'b self,
        setting: Setting<'b>,
        focus: &[Value<'b>],
    ) -> Result<Option<String>, String> {
        let mut query = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => query.push_str(text),
                Part::Path(Err(reason)) => return Err(reason.clone()),
                Part::Path(Ok(expression)) => {
                    let values =
                        setting.values(expression, focus).map_err(|error| error.to_string())?;
                    if setting.tally.take_undecided() {
                        return Err(super::expression::UNKNOWN.to_owned());
                    }
                    let texts: Vec<String> = values.iter().flat_map(parameter).collect();
                    if texts.is_empty() {
                        return Ok(None);
                    }
                    query.push_str(&texts.join(","));
                }
            }
            if query.len() > MAX_LENGTH {
                return Err(format!("the query is longer than {MAX_LENGTH} bytes"));
            }
        }
        Ok(Some(query))
    }
}

/// A value as a search parameter has it, encoded for a URL.
fn parameter(value: &Value<'_>) -> Vec<String> {
    let token = |system: Option<&str>, code: Option<&str>| {
        Some(match system {
            Some(system) => format!("{}|{}", escape(system), escape(code?)),
            None => escape(code?),
        })
    };
    let json = value.json().filter(|json| json.as_object().is_some());
    let texts: Vec<String> = match (value.type_name(), json) {
        ("CodeableConcept", Some(json)) => {
            let codings = json.list("coding").iter();
            let of = |c: &Json| token(text(c, "system"), text(c, "code"));
            codings.filter_map(of).collect()
        }
        ("Coding", Some(json)) => {
            token(text(json, "system"), text(json, "code")).into_iter().collect()
        }
        ("Identifier", Some(json)) => {
            token(text(json, "system"), text(json, "value")).into_iter().collect()
        }
        ("Reference", Some(json)) => text(json, "reference").map(escape).into_iter().collect(),
        (_, Some(json)) if json.get("value").and_then(Json::as_number).is_some() => {
            let number = json.get("value").and_then(Json::as_number).unwrap_or_default();
            let unit = text(json, "code").or_else(|| text(json, "unit"));
            let system = text(json, "system").unwrap_or_default();
            let quantity =
                format!("{number}|{}|{}", escape(system), escape(unit.unwrap_or_default()));
            vec![quantity.trim_end_matches('|').to_owned()]
        }
        (_, Some(json)) => match (text(json, "resourceType"), text(json, "id")) {
            (Some(of), Some(id)) => vec![format!("{of}/{id}")],
            _ => Vec::new(),
        },
        (_, None) => match value.as_str() {
            Some(text) => vec![escape(&text)],
            None => match value.to_json() {
                Json::Bool(value) => vec![value.to_string()],
                Json::Number(number) => vec![number.to_string()],
                _ => Vec::new(),
            },
        },
    };
    let encoded = |text: &String| {
        let mut out = String::new();
        encode(&mut out, text);
        out
    };
    texts.iter().map(encoded).collect()
}

fn text<'a>(json: &'a Json, name: &str) -> Option<&'a str> {
    json.get(name).and_then(Json::as_str)
}

/// A text within a value of a search parameter:
/// <https://hl7.org/fhir/R4/search.html#escaping>.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '$' | ',' | '|') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
