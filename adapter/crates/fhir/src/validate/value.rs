//! Fixed values, patterns and bounds: <https://hl7.org/fhir/R4/elementdefinition.html#ElementDefinition.fixed_x_>.

use std::cmp::Ordering;

use rust_decimal::Decimal;

use crate::definitions::{System, Type};
use crate::path::{Temporal, canonical_unit};
use crate::{Json, Object};

/// Whether a value is the fixed one: the same members with the same values, in any order.
pub(super) fn is_equal(value: &Json, fixed: &Json) -> bool {
    match (value, fixed) {
        (Json::Object(value), Json::Object(fixed)) => {
            value.len() == fixed.len()
                && fixed.iter().all(|(name, fixed)| {
                    value.get(name).is_some_and(|value| is_equal(value, fixed))
                })
        }
        (Json::Array(values), Json::Array(fixed)) => {
            values.len() == fixed.len()
                && values.iter().zip(fixed).all(|(value, fixed)| is_equal(value, fixed))
        }
        (Json::Number(value), Json::Number(fixed)) => {
            value == fixed || decimal(value).is_some_and(|value| Some(value) == decimal(fixed))
        }
        _ => value == fixed,
    }
}

/// Whether a value has at least what the pattern has; each item of a list is found somewhere.
pub(super) fn has_pattern(value: &Json, pattern: &Json) -> bool {
    match (value, pattern) {
        (Json::Object(value), Json::Object(pattern)) => pattern.iter().all(|(name, pattern)| {
            value.get(name).is_some_and(|value| has_pattern(value, pattern))
        }),
        (Json::Array(values), Json::Array(patterns)) => {
            patterns.iter().all(|pattern| values.iter().any(|value| has_pattern(value, pattern)))
        }
        _ => is_equal(value, pattern),
    }
}

/// The names of the members that lead to the first difference from a fixed value or pattern.
pub(super) fn difference<'j>(value: &'j Json, wanted: &'j Json, is_fixed: bool) -> Option<&'j str> {
    let (Json::Object(value), Json::Object(wanted)) = (value, wanted) else { return None };
    let is_right = if is_fixed { is_equal } else { has_pattern };
    let differs = |(name, wanted): &(&'j str, &'j Json)| {
        !value.get(name).is_some_and(|value| is_right(value, wanted))
    };
    let missing = wanted.iter().find(differs).map(|(name, _)| name);
    let further = || value.iter().map(|(name, _)| name).find(|name| wanted.get(name).is_none());
    missing.or_else(|| if is_fixed { further() } else { None })
}

/// How a value compares with a bound of its type; `None` where they cannot be compared.
pub(super) fn compare(kind: &Type, value: &Json, bound: &Json) -> Option<Ordering> {
    match kind.system {
        System::Integer | System::Decimal => {
            Some(decimal(value.as_number()?)?.cmp(&decimal(bound.as_number()?)?))
        }
        System::Date | System::DateTime => {
            let read = |json: &Json| Temporal::parse_date_time(json.as_str()?);
            read(value)?.compare(&read(bound)?)
        }
        System::Time => {
            let read = |json: &Json| Temporal::parse_time(json.as_str()?);
            read(value)?.compare(&read(bound)?)
        }
        System::Quantity => quantity(value.as_object()?, bound.as_object()?),
        _ => None,
    }
}

/// The moment that lies a duration from another: before it for the smallest value that is allowed,
/// after it for the largest.
pub(super) fn moment(now: &str, duration: &Json, is_before: bool) -> Option<Json> {
    let amount = decimal(duration.get("value")?.as_number()?)?;
    let unit = match duration.str_at(&["code"]).or_else(|| duration.str_at(&["unit"]))? {
        "a" => "year",
        "mo" => "month",
        "wk" => "week",
        "d" => "day",
        "h" => "hour",
        "min" => "minute",
        "s" => "second",
        _ => return None,
    };
    let now = Temporal::parse_date_time(now)?;
    let moved = now.add(if is_before { -amount } else { amount }, unit)?;
    Some(Json::from(moved.to_string()))
}

fn quantity(value: &Object, bound: &Object) -> Option<Ordering> {
    let amount = |object: &Object| decimal(object.get("value")?.as_number()?);
    let unit = |object: &Object| {
        let text = |name: &str| object.get(name).and_then(Json::as_str).map(str::to_owned);
        text("code").or_else(|| text("unit"))
    };
    let (one, two) = (amount(value)?, amount(bound)?);
    let (of_one, of_two) = (unit(value), unit(bound));
    if of_one == of_two {
        return Some(one.cmp(&two));
    }
    let (factor, of_one) = canonical_unit(&of_one?)?;
    let (other_factor, of_two) = canonical_unit(&of_two?)?;
    (of_one == of_two).then_some(())?;
    Some(one.checked_mul(factor)?.cmp(&two.checked_mul(other_factor)?))
}

fn decimal(text: &str) -> Option<Decimal> {
    match text.contains(['e', 'E']) {
        true => Decimal::from_scientific(text).ok(),
        false => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::Definitions;
    use crate::json;

    #[test]
    fn a_fixed_value_is_whole_and_a_pattern_a_part() {
        for (value, wanted, fixed, pattern) in [
            (json!({"a": 1, "b": "x"}), json!({"b": "x", "a": 1}), true, true),
            (json!({"a": 1, "b": "x"}), json!({"b": "x"}), false, true),
            (json!({"a": [1, 2]}), json!({"a": [2]}), false, true),
            (json!({"a": [{"c": 1, "d": 2}]}), json!({"a": [{"d": 2}]}), false, true),
            (json!("x"), json!("y"), false, false),
            (json!({"a": 1}), json!({"a": 1, "b": 2}), false, false),
        ] {
            assert_eq!(is_equal(&value, &wanted), fixed, "{value} {wanted}");
            assert_eq!(has_pattern(&value, &wanted), pattern, "{value} {wanted}");
        }
    }

    #[test]
    fn bounds_are_compared_where_they_can_be() {
        let definitions = Definitions::r4();
        let order = |of: &str, value: Json, bound: Json| {
            compare(definitions.type_of(of).unwrap(), &value, &bound)
        };
        assert_eq!(order("decimal", json!(2), json!(10)), Some(Ordering::Less));
        assert_eq!(order("date", json!("2024"), json!("2023-05-01")), Some(Ordering::Greater));
        assert_eq!(order("date", json!("2023"), json!("2023-05-01")), None);
        assert_eq!(order("time", json!("10:00:00"), json!("09:00:00")), Some(Ordering::Greater));
        let kg = json!({"value": 1, "code": "kg"});
        assert_eq!(
            order("Quantity", kg, json!({"value": 900, "code": "g"})),
            Some(Ordering::Greater)
        );
        let years = json!({"value": 1, "unit": "years"});
        assert_eq!(order("Quantity", years, json!({"value": 1, "code": "g"})), None);
    }
}
