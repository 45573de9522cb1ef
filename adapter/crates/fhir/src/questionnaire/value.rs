//! Values of answers, options and bounds:
//! <https://hl7.org/fhir/R4/questionnaireresponse-definitions.html#QuestionnaireResponse.item.answer.value_x_>.
//!
//! What a Questionnaire states is read once ([`Fixed`]); an answer is compared where it stands.

use std::cmp::Ordering;

use rust_decimal::Decimal;

use crate::Json;
use crate::datetime::{DateTime, Micros};
use crate::path::canonical_unit;

/// The type of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueType {
    Boolean,
    Decimal,
    Integer,
    Date,
    DateTime,
    Time,
    String,
    Uri,
    Attachment,
    Coding,
    Quantity,
    Reference,
}

use ValueType as T;

const TYPES: [(&str, &str, T); 12] = [
    ("Boolean", "boolean", T::Boolean),
    ("Decimal", "decimal", T::Decimal),
    ("Integer", "integer", T::Integer),
    ("Date", "date", T::Date),
    ("DateTime", "dateTime", T::DateTime),
    ("Time", "time", T::Time),
    ("String", "string", T::String),
    ("Uri", "uri", T::Uri),
    ("Attachment", "Attachment", T::Attachment),
    ("Coding", "Coding", T::Coding),
    ("Quantity", "Quantity", T::Quantity),
    ("Reference", "Reference", T::Reference),
];

impl ValueType {
    /// The type in the name of a JSON member, after `value`, `answer` and the like.
    fn of_suffix(suffix: &str) -> Option<ValueType> {
        TYPES.iter().find(|(name, _, _)| *name == suffix).map(|(_, _, of)| *of)
    }

    /// The type in the name of the member that extends a primitive: `_valueDate`.
    pub fn of_sibling(member: &str) -> Option<ValueType> {
        ValueType::of_suffix(member.strip_prefix("_value")?)
    }

    /// FHIR's name of the type.
    pub fn name(self) -> &'static str {
        TYPES.iter().find(|(_, _, of)| *of == self).map_or("", |(_, name, _)| name)
    }

    /// The end of the JSON member's name.
    pub fn suffix(self) -> &'static str {
        TYPES.iter().find(|(_, _, of)| *of == self).map_or("", |(suffix, _, _)| suffix)
    }
}

/// The choice element `name` of an object, and its type; only types that an answer may have.
pub(super) fn choice<'a>(object: &'a Json, name: &str) -> Option<(ValueType, &'a Json)> {
    let mut members = object.as_object()?.iter();
    members.find_map(|(member, value)| {
        Some((ValueType::of_suffix(member.strip_prefix(name)?)?, value))
    })
}

/// A value that a Questionnaire states.
#[derive(Clone, Debug)]
pub(super) enum Fixed {
    Boolean(bool),
    Number(Decimal),
    /// First and last microsecond that a date or dateTime can mean.
    Moment(Micros, Micros),
    /// A string, a uri or a time.
    Text(Box<str>),
    /// The text of a reference.
    Reference(Box<str>),
    Coding {
        system: Option<Box<str>>,
        code: Box<str>,
    },
    Quantity(Decimal, Box<str>),
}

impl Fixed {
    /// Reads a value of a type; `None` for what cannot be compared.
    pub fn read(of: ValueType, json: &Json) -> Option<Fixed> {
        Some(match of {
            T::Boolean => Fixed::Boolean(json.as_bool()?),
            T::Decimal | T::Integer => Fixed::Number(number(json)?),
            T::Date | T::DateTime => {
                let (first, last) = DateTime::parse(json.as_str()?)?.bounds();
                Fixed::Moment(first, last)
            }
            T::Time | T::String | T::Uri => Fixed::Text(json.as_str()?.into()),
            T::Reference => Fixed::Reference(json.str_at(&["reference"])?.into()),
            T::Coding => Fixed::Coding {
                system: json.str_at(&["system"]).map(Into::into),
                code: json.str_at(&["code"])?.into(),
            },
            T::Quantity => Fixed::Quantity(number(json.get("value")?)?, unit(json).into()),
            T::Attachment => return None,
        })
    }

    /// Whether a value of a type is the same; codes by system and code.
    pub fn is(&self, of: ValueType, json: &Json) -> bool {
        match (self, of) {
            (Fixed::Boolean(own), T::Boolean) => json.as_bool() == Some(*own),
            (Fixed::Coding { system, code }, T::Coding) => {
                json.str_at(&["code"]) == Some(code)
                    && json.str_at(&["system"]) == system.as_deref()
            }
            (Fixed::Reference(own), T::Reference) => json.str_at(&["reference"]) == Some(own),
            (Fixed::Moment(first, last), T::Date | T::DateTime) => {
                bounds(json) == Some((*first, *last))
            }
            _ => self.order(of, json) == Some(Ordering::Equal),
        }
    }

    /// How a value of a type stands to this one; `None` when the two cannot be compared. Dates that
    /// may mean the same moment are equal.
    pub fn order(&self, of: ValueType, json: &Json) -> Option<Ordering> {
        match (self, of) {
            (Fixed::Number(own), T::Decimal | T::Integer) => Some(number(json)?.cmp(own)),
            (Fixed::Moment(first, last), T::Date | T::DateTime) => {
                let (other_first, other_last) = bounds(json)?;
                Some(if other_last < *first {
                    Ordering::Less
                } else if other_first > *last {
                    Ordering::Greater
                } else {
                    Ordering::Equal
                })
            }
            (Fixed::Text(own), T::Time | T::String | T::Uri) => Some(json.as_str()?.cmp(own)),
            (Fixed::Quantity(own, own_unit), T::Quantity) => {
                let (value, unit) = (number(json.get("value")?)?, unit(json));
                if unit == own_unit.as_ref() {
                    return Some(value.cmp(own));
                }
                let (factor, dimension) = canonical_unit(unit)?;
                let (own_factor, own_dimension) = canonical_unit(own_unit)?;
                let (value, own) = (value.checked_mul(factor)?, own.checked_mul(own_factor)?);
                (dimension == own_dimension).then(|| value.cmp(&own))
            }
            _ => None,
        }
    }
}

fn bounds(json: &Json) -> Option<(Micros, Micros)> {
    Some(DateTime::parse(json.as_str()?)?.bounds())
}

/// The number that a JSON number means; `None` if it is too large.
pub(super) fn number(json: &Json) -> Option<Decimal> {
    let text = json.as_number()?;
    match text.contains(['e', 'E']) {
        true => Decimal::from_scientific(text).ok(),
        false => text.parse().ok(),
    }
}

/// The coded unit of a Quantity, else the one for people.
pub(super) fn unit(quantity: &Json) -> &str {
    quantity.str_at(&["code"]).or_else(|| quantity.str_at(&["unit"])).unwrap_or_default()
}

/// A value of the Questionnaire as a sentence shows it.
pub(super) fn shown(of: ValueType, json: &Json) -> String {
    let text = match (of, json) {
        (T::Quantity, quantity) => {
            let value = quantity.get("value").and_then(Json::as_number).unwrap_or_default();
            format!("{value} {}", unit(quantity))
        }
        (T::Coding, coding) => match coding.str_at(&["system"]) {
            Some(system) => format!("{system}|{}", coding.str_at(&["code"]).unwrap_or_default()),
            None => coding.str_at(&["code"]).unwrap_or_default().to_owned(),
        },
        (T::Reference, reference) => {
            reference.str_at(&["reference"]).unwrap_or_default().to_owned()
        }
        (_, Json::String(text)) => text.to_string(),
        (_, other) => other.to_string(),
    };
    cut(&text)
}

/// Text of a Questionnaire, cut so that a sentence stays one.
pub(super) fn cut(text: &str) -> String {
    const MAX_SHOWN: usize = 100;
    let mut shown: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SHOWN).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn values_are_compared_by_what_they_mean() {
        for (of, one, two, expected) in [
            (T::Decimal, json!(1), Json::Number("1.00".into()), Some(Ordering::Equal)),
            (T::Integer, json!(2), json!(10), Some(Ordering::Greater)),
            (T::Date, json!("2022-06"), json!("2022-06-30"), Some(Ordering::Equal)),
            (T::Date, json!("2022-06"), json!("2022-07-01"), Some(Ordering::Greater)),
            (T::DateTime, json!("2022-06-01T10:00:00Z"), json!("2022"), Some(Ordering::Equal)),
            (T::Time, json!("10:00:00"), json!("09:59:00"), Some(Ordering::Less)),
            (
                T::Quantity,
                json!({"value": 1, "code": "kg"}),
                json!({"value": 900, "code": "g"}),
                Some(Ordering::Less),
            ),
            (
                T::Quantity,
                json!({"value": 1, "code": "kg"}),
                json!({"value": 1, "code": "cm"}),
                None,
            ),
            (T::Boolean, json!(true), json!("true"), None),
        ] {
            let fixed = Fixed::read(of, &one).unwrap();
            assert_eq!(fixed.order(of, &two), expected, "{one} {two}");
        }
        let coding = Fixed::read(T::Coding, &json!({"code": "a", "system": "s"})).unwrap();
        assert!(coding.is(T::Coding, &json!({"system": "s", "code": "a", "display": "x"})));
        assert!(!coding.is(T::Coding, &json!({"code": "a"})));
        let month = Fixed::read(T::Date, &json!("2022-06")).unwrap();
        assert!(!month.is(T::Date, &json!("2022-06-30")));
    }
}
