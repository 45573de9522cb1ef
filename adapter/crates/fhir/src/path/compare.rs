//! Equality, equivalence and order: <https://hl7.org/fhirpath/N1/#equality> and
//! <https://hl7.org/fhirpath/N1/#comparison>.

use std::cmp::Ordering;

use rust_decimal::{Decimal, RoundingStrategy};

use super::value::{Quantity, Value, decimal};
use super::{PathError, units};
use crate::{Json, Object};

/// Whether two items are equal; `None` when precision, zone or unit leave it open.
pub(super) fn equal(one: &Value, two: &Value) -> Option<bool> {
    // The same place in the tree, without a look into it.
    if let (Value::Node(one), Value::Node(two)) = (one, two)
        && std::ptr::eq(one.json, two.json)
        && *one.json != Json::Null
    {
        return Some(true);
    }
    match (one.to_system(), two.to_system()) {
        (Value::Boolean(one), Value::Boolean(two)) => Some(one == two),
        (Value::String(one), Value::String(two)) => Some(one == two),
        (Value::Integer(one), Value::Integer(two)) => Some(one == two),
        (Value::Date(one) | Value::DateTime(one), Value::Date(two) | Value::DateTime(two))
        | (Value::Time(one), Value::Time(two)) => {
            one.compare(&two).map(|order| order == Ordering::Equal)
        }
        (
            Value::Type { namespace: one_space, name: one },
            Value::Type { namespace: two_space, name: two },
        ) => Some(one_space == two_space && one == two),
        (Value::Node(one), Value::Node(two)) => {
            let same = equal_trees(one.json, two.json);
            Some(same && equal_siblings(one.sibling, two.sibling))
        }
        (one, two) => {
            if let (Some(one), Some(two)) = (as_decimal(&one), as_decimal(&two)) {
                return Some(one == two);
            }
            match (as_quantity(&one), as_quantity(&two)) {
                (Some(one), Some(two)) => {
                    let (one, two) = same_unit(&one, &two)?;
                    Some(one == two)
                }
                _ => Some(false),
            }
        }
    }
}

/// How many steps a comparison with the item counts for: one for each part and 64 bytes of it.
pub(super) fn weight(item: &Value) -> u64 {
    fn tree(json: &Json) -> u64 {
        match json {
            Json::Object(object) => object.iter().fold(1, |sum, (_, json)| sum + tree(json)),
            Json::Array(items) => items.iter().fold(1, |sum, json| sum + tree(json)),
            Json::String(text) => 1 + text.len() as u64 / 64,
            Json::Null | Json::Bool(_) | Json::Number(_) => 1,
        }
    }
    match item {
        Value::Node(node) => tree(node.json),
        Value::String(text) => 1 + text.len() as u64 / 64,
        _ => 1,
    }
}

fn equal_siblings(one: Option<&Json>, two: Option<&Json>) -> bool {
    match (one, two) {
        (None, None) => true,
        (Some(one), Some(two)) => equal_trees(one, two),
        _ => false,
    }
}

/// Members may stand in any order; numbers are compared by value.
fn equal_trees(one: &Json, two: &Json) -> bool {
    match (one, two) {
        (Json::Object(one), Json::Object(two)) => {
            let found = |(name, json): (&str, &Json)| {
                two.get(name).is_some_and(|other| equal_trees(json, other))
            };
            one.len() == two.len() && one.iter().all(found)
        }
        (Json::Array(one), Json::Array(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| equal_trees(one, two))
        }
        (Json::Number(one), Json::Number(two)) => {
            one == two
                || matches!((decimal(one), decimal(two)), (Some(one), Some(two)) if one == two)
        }
        (one, two) => one == two,
    }
}

/// Whether two items are equivalent: texts without regard to case and white space, numbers at the
/// lower precision, lists in any order.
pub(super) fn equivalent(one: &Value, two: &Value) -> bool {
    match (one.to_system(), two.to_system()) {
        (Value::String(one), Value::String(two)) => equivalent_texts(&one, &two),
        (Value::Date(one), Value::Date(two))
        | (Value::DateTime(one), Value::DateTime(two))
        | (Value::Time(one), Value::Time(two)) => one.compare(&two) == Some(Ordering::Equal),
        (Value::Node(one), Value::Node(two)) => equivalent_trees(one.json, two.json),
        (one, two) => {
            if let (Some(one), Some(two)) = (as_decimal(&one), as_decimal(&two)) {
                return equivalent_numbers(one, two);
            }
            match (as_quantity(&one), as_quantity(&two)) {
                (Some(one), Some(two)) => equivalent_quantities(&one, &two),
                _ => equal(&one, &two) == Some(true),
            }
        }
    }
}

fn equivalent_texts(one: &str, two: &str) -> bool {
    let words = |text: &str| text.to_lowercase();
    let (one, two) = (words(one), words(two));
    one.split_whitespace().eq(two.split_whitespace())
}

fn equivalent_numbers(one: Decimal, two: Decimal) -> bool {
    let digits = one.scale().min(two.scale());
    let rounded = |value: Decimal| {
        value.round_dp_with_strategy(digits, RoundingStrategy::MidpointAwayFromZero)
    };
    rounded(one) == rounded(two)
}

/// A calendar month is equivalent to a UCUM month, although they are not equal.
fn equivalent_quantities(one: &Quantity, two: &Quantity) -> bool {
    let to_ucum = |quantity: &Quantity| Quantity {
        value: quantity.value,
        unit: units::calendar_unit(&quantity.unit)
            .map_or_else(|| quantity.unit.clone().into_owned(), str::to_string)
            .into(),
    };
    let (one, two) = (to_ucum(one), to_ucum(two));
    if one.unit == two.unit {
        return equivalent_numbers(one.value, two.value);
    }
    // Each amount is brought to the unit of the other, so that its written precision counts.
    let Some(two_in_one) = units::convert(&two, &one.unit) else { return false };
    let Some(one_in_two) = units::convert(&one, &two.unit) else { return false };
    let at = |value: Decimal, other: Decimal| {
        value.round_dp_with_strategy(other.scale(), RoundingStrategy::MidpointAwayFromZero) == other
    };
    at(two_in_one, one.value) || at(one_in_two, two.value)
}

fn equivalent_trees(one: &Json, two: &Json) -> bool {
    match (one, two) {
        (Json::Object(one), Json::Object(two)) => equivalent_objects(one, two),
        (Json::Array(one), Json::Array(two)) => same_in_any_order(one, two, equivalent_trees),
        (Json::String(one), Json::String(two)) => equivalent_texts(one, two),
        (Json::Number(one), Json::Number(two)) => match (decimal(one), decimal(two)) {
            (Some(one), Some(two)) => equivalent_numbers(one, two),
            _ => one == two,
        },
        (one, two) => one == two,
    }
}

fn equivalent_objects(one: &Object, two: &Object) -> bool {
    let found = |(name, json): (&str, &Json)| {
        two.get(name).is_some_and(|other| equivalent_trees(json, other))
    };
    one.len() == two.len() && one.iter().all(found)
}

/// Whether each item of one list has its own partner in the other.
pub(super) fn same_in_any_order<T>(one: &[T], two: &[T], same: impl Fn(&T, &T) -> bool) -> bool {
    let mut free: Vec<&T> = two.iter().collect();
    one.len() == two.len()
        && one.iter().all(|item| match free.iter().position(|other| same(item, other)) {
            Some(index) => {
                free.swap_remove(index);
                true
            }
            None => false,
        })
}

/// The order of two items; `None` when precision, zone or unit leave it open.
pub(super) fn order(one: &Value, two: &Value) -> Result<Option<Ordering>, PathError> {
    let (one, two) = (one.to_system(), two.to_system());
    match (&one, &two) {
        (Value::String(one), Value::String(two)) => return Ok(Some(one.cmp(two))),
        (Value::Date(one) | Value::DateTime(one), Value::Date(two) | Value::DateTime(two))
        | (Value::Time(one), Value::Time(two)) => return Ok(one.compare(two)),
        _ => {}
    }
    if let (Some(one), Some(two)) = (as_decimal(&one), as_decimal(&two)) {
        return Ok(Some(one.cmp(&two)));
    }
    match (as_quantity(&one), as_quantity(&two)) {
        (Some(one), Some(two)) => Ok(same_unit(&one, &two).map(|(one, two)| one.cmp(&two))),
        _ => Err(PathError::new(format!(
            "{} and {} have no order",
            one.type_name(),
            two.type_name()
        ))),
    }
}

/// The number of an integer or decimal.
pub(super) fn as_decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::Integer(value) => Some(Decimal::from(*value)),
        Value::Decimal(value) => Some(*value),
        _ => None,
    }
}

/// A quantity, or a number as a quantity of unit 1.
pub(super) fn as_quantity<'a>(value: &Value<'a>) -> Option<Quantity<'a>> {
    match value {
        Value::Quantity(quantity) => Some(quantity.clone()),
        other => as_decimal(other).map(|value| Quantity { value, unit: "1".into() }),
    }
}

/// The amounts of two quantities in the same unit, if their units can be brought to one.
fn same_unit(one: &Quantity, two: &Quantity) -> Option<(Decimal, Decimal)> {
    if one.unit == two.unit {
        return Some((one.value, two.value));
    }
    let (one, one_dimension) = units::base(one)?;
    let (two, two_dimension) = units::base(two)?;
    (one_dimension == two_dimension).then_some((one, two))
}
