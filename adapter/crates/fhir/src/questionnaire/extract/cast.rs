//! Values of one type as those of another:
//! <https://hl7.org/fhir/uv/sdc/extraction.html#definition-based-extraction>.
//!
//! Only what loses nothing that matters: a Coding as a CodeableConcept or code, a number as a
//! Quantity, a text as the Reference or Identifier that it names.

use crate::definitions::{Definitions, Element, ElementType, Type};
use crate::path::Value;
use crate::{Json, json};

/// An element of a type under the name that its JSON member has.
#[derive(Clone, Copy)]
pub(super) struct Member<'d> {
    pub element: &'d Element,
    pub of: &'d ElementType,
    /// The type of what it contains.
    pub content: Option<&'d Type>,
}

impl<'d> Member<'d> {
    /// The member `name` of a type; none for a choice that does not say which.
    pub fn find(definitions: &'d Definitions, kind: &'d Type, name: &str) -> Option<Member<'d>> {
        let element = definitions.child(kind.name, name)?;
        let of = element.member(name)?;
        Some(Member { element, of, content: definitions.content(of) })
    }

    pub fn is_list(&self) -> bool {
        self.element.max != Some(1)
    }
}

/// A value as one of the type `code`; `None` when it is none.
pub(super) fn cast(code: &str, value: &Value<'_>) -> Option<Json> {
    let json = value.to_json();
    let from = value.type_name();
    if from == code {
        let is_blank = json.as_str().is_some_and(|text| text.trim().is_empty());
        return (!is_blank).then_some(json);
    }
    let text = || json.as_str().map(str::trim).filter(|text| !text.is_empty());
    let number = || json.as_number().is_some();
    Some(match code {
        "boolean" => Json::Bool(json.as_bool()?),
        "integer" | "positiveInt" | "unsignedInt" => match whole(json.as_number()?)? {
            number if code == "integer" => number.into(),
            number if number > 0 || (code == "unsignedInt" && number == 0) => number.into(),
            _ => return None,
        },
        "decimal" if number() => json,
        "decimal" => json.get("value").filter(|value| value.as_number().is_some())?.clone(),
        "date" => part(text()?, 10)?.into(),
        "dateTime" => date_time(text()?)?.into(),
        "instant" => instant(text()?)?.into(),
        "time" => {
            text().filter(|text| text.len() >= 8 && text.as_bytes().get(2) == Some(&b':'))?.into()
        }
        "code" => match from {
            "Coding" => json.get("code")?.clone(),
            _ => text()?.into(),
        },
        "id" => text()?.strip_prefix("urn:uuid:").or(text())?.into(),
        "uri" | "url" | "canonical" | "oid" | "uuid" => match from {
            "Reference" => json.get("reference")?.clone(),
            _ => text()?.into(),
        },
        "string" | "String" | "markdown" => match &json {
            Json::String(_) => text()?.into(),
            Json::Number(digits) => digits.as_str().into(),
            Json::Bool(value) => value.to_string().as_str().into(),
            Json::Object(_) => match from {
                "Coding" => json.get("display").or_else(|| json.get("code"))?.clone(),
                "CodeableConcept" => json.get("text")?.clone(),
                _ => return None,
            },
            _ => return None,
        },
        "CodeableConcept" => match from {
            "Coding" => json!({"coding": [(json)]}),
            _ => json!({"text": (text()?)}),
        },
        "Reference" => match (json.str_at(&["resourceType"]), json.str_at(&["id"])) {
            (Some(of), Some(id)) => json!({"reference": (format!("{of}/{id}"))}),
            _ => json!({"reference": (text()?)}),
        },
        "Quantity" | "Age" | "Count" | "Distance" | "Duration" | "Money" | "SimpleQuantity" => {
            match from {
                "Quantity" | "System.Quantity" => json,
                _ if number() => json!({"value": (json)}),
                _ => return None,
            }
        }
        "Identifier" | "ContactPoint" => json!({"value": (text()?)}),
        "HumanName" | "Address" | "Annotation" => json!({"text": (text()?)}),
        // Types that are derived from each other, and what is not known.
        _ if json.as_object().is_some() && from.starts_with("System.Any") => json,
        _ => return None,
    })
}

/// Which of the types of a choice a value has, and the value.
pub(super) fn choose<'d>(
    element: &'d Element,
    value: &Value<'_>,
) -> Option<(&'d ElementType, Json)> {
    let from = value.type_name();
    let system = from.strip_prefix("System.").unwrap_or(from);
    let own = element.types.iter().find(|of| of.code.eq_ignore_ascii_case(system));
    if let Some(found) = own.and_then(|of| Some((of, cast(of.code, value)?))) {
        return Some(found);
    }
    // A date stays one before it becomes a text, and a text before it becomes the text of something.
    let rank = |of: &&ElementType| match of.code {
        "string" | "markdown" => 1,
        "CodeableConcept" if from == "Coding" => 0,
        "CodeableConcept" | "Reference" | "Identifier" | "ContactPoint" | "HumanName"
        | "Address" | "Annotation" => 2,
        _ => 0,
    };
    let mut types: Vec<&ElementType> = element.types.iter().collect();
    types.sort_by_key(rank);
    types.into_iter().find_map(|of| Some((of, cast(of.code, value)?)))
}

/// The end of a choice's member name for a type: `Quantity`, `DateTime`.
pub(super) fn suffix(code: &str) -> String {
    let mut letters = code.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn whole(digits: &str) -> Option<i64> {
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, ""));
    rest.bytes().all(|byte| byte == b'0').then(|| whole.parse().ok())?
}

/// The first characters of a date with time, or a date.
fn part(text: &str, length: usize) -> Option<&str> {
    let part = text.get(..length.min(text.len()))?;
    is_date(part).then_some(part)
}

fn is_date(text: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_digit() || byte == b'-';
    matches!(text.len(), 4 | 7 | 10) && text.bytes().all(is_fit)
}

fn date_time(text: &str) -> Option<&str> {
    (is_date(text) || instant(text).is_some()).then_some(text)
}

/// A time with seconds and zone.
fn instant(text: &str) -> Option<&str> {
    let (date, time) = text.split_once('T')?;
    let has_zone = time.ends_with('Z') || time.get(8..)?.contains(['+', '-']);
    (date.len() == 10 && is_date(date) && has_zone && time.len() >= 9).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_what_the_element_wants_or_nothing() {
        let definitions = Definitions::r4();
        let coding = json!({"system": "http://loinc.org", "code": "LA1", "display": "one"});
        for (of, from, to, expected) in [
            (
                "Coding",
                coding.clone(),
                "CodeableConcept",
                Some(json!({"coding": [(coding.clone())]})),
            ),
            ("Coding", coding.clone(), "code", Some(json!("LA1"))),
            ("Coding", coding.clone(), "string", Some(json!("one"))),
            ("Coding", coding.clone(), "Quantity", None),
            ("integer", json!(0), "Quantity", Some(json!({"value": 0}))),
            ("decimal", json!(2), "integer", Some(json!(2))),
            ("decimal", Json::Number("2.5".into()), "integer", None),
            ("integer", json!(0), "positiveInt", None),
            ("boolean", json!(false), "boolean", Some(json!(false))),
            ("date", json!("2026-03-01"), "dateTime", Some(json!("2026-03-01"))),
            ("date", json!("2026-03-01"), "instant", None),
            ("dateTime", json!("2026-03-01T10:00:00Z"), "date", Some(json!("2026-03-01"))),
            (
                "dateTime",
                json!("2026-03-01T10:00:00Z"),
                "instant",
                Some(json!("2026-03-01T10:00:00Z")),
            ),
            ("string", json!("Patient/p1"), "Reference", Some(json!({"reference": "Patient/p1"}))),
            ("string", json!(" "), "string", None),
            ("string", json!("ten"), "integer", None),
        ] {
            let value = Value::typed(&definitions, &from, of);
            assert_eq!(cast(to, &value), expected, "{of} {from} as {to}");
        }
        let value_of = definitions.child("Observation", "value").unwrap();
        for (of, from, expected) in [
            ("decimal", Json::Number("1.50".into()), "Quantity"),
            ("integer", json!(0), "integer"),
            ("boolean", json!(false), "boolean"),
            ("date", json!("2026-03-01"), "dateTime"),
            ("Coding", coding, "CodeableConcept"),
            ("string", json!("x"), "string"),
            ("uri", json!("http://lumbar.test/page"), "string"),
        ] {
            let value = Value::typed(&definitions, &from, of);
            let (chosen, _) = choose(value_of, &value).unwrap();
            assert_eq!(chosen.code, expected, "{of} {from}");
        }
    }
}
