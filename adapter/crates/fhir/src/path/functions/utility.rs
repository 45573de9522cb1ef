//! <https://hl7.org/fhirpath/N1/#utility-functions>, and of the later specification the functions
//! on precision (<https://hl7.org/fhirpath/#boundary-functions>).

use rust_decimal::{Decimal, RoundingStrategy};

use super::{Call, Evaluated, Function, one, row, some};
use crate::path::PathError;
use crate::path::eval::Items;
use crate::path::operators::{self, wrong_type};
use crate::path::temporal::{Precision, Temporal};
use crate::path::units;
use crate::path::value::{Quantity, Value};

pub(super) static FUNCTIONS: &[Function] = &[
    row("trace", (1, 2), trace),
    row("now", (0, 0), |call| one(Value::DateTime(now(call)?))),
    row("today", (0, 0), |call| one(Value::Date(now(call)?.date()))),
    row("timeOfDay", (0, 0), |call| one(Value::Time(now(call)?.time()))),
    row("lowBoundary", (0, 1), |call| boundary(call, false)),
    row("highBoundary", (0, 1), |call| boundary(call, true)),
    row("precision", (0, 0), precision),
    row("comparable", (1, 1), comparable),
    row("coalesce", (1, 16), coalesce),
];

fn trace<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let name = call.string(0)?.unwrap_or_default();
    let mut shown: Items<'a> = Items::new();
    match call.arguments.get(1) {
        None => shown.extend(call.focus.iter().cloned()),
        Some(_) => {
            for (position, item) in call.focus.iter().enumerate() {
                shown.extend(call.for_item(1, item, position)?);
                call.scope.fits(shown.len())?;
            }
        }
    }
    if let Some(environment) = call.scope.context.environment {
        environment.trace(&name, &shown);
    }
    Ok(call.focus.into())
}

fn now(call: &Call) -> Result<Temporal, PathError> {
    let text = call.scope.context.now;
    text.and_then(Temporal::parse_date_time)
        .ok_or_else(|| PathError::new("the present time is not known here"))
}

/// Digits of a date or dateTime and of a time, by precision.
const DIGITS: [(Precision, i64, Option<i64>); 7] = [
    (Precision::Year, 4, None),
    (Precision::Month, 6, None),
    (Precision::Day, 8, None),
    (Precision::Hour, 10, Some(2)),
    (Precision::Minute, 12, Some(4)),
    (Precision::Second, 14, Some(6)),
    (Precision::Millisecond, 17, Some(9)),
];

fn boundary<'a>(call: &Call<'_, 'a>, high: bool) -> Evaluated<'a> {
    let wanted = call.integer(0)?;
    let Some(value) = call.value()? else { return Ok(Items::new()) };
    let of_date = |digits: i64| DIGITS.iter().find(|(_, of_date, _)| *of_date == digits);
    let of_time = |digits: i64| DIGITS.iter().find(|(.., of_time)| *of_time == Some(digits));
    some(match value {
        Value::Integer(value) => decimal(Decimal::from(value), wanted, high).map(Value::Decimal),
        Value::Decimal(value) => decimal(value, wanted, high).map(Value::Decimal),
        Value::Quantity(quantity) => decimal(quantity.value, wanted, high)
            .map(|value| Value::Quantity(Quantity { value, ..quantity })),
        Value::Date(date) => of_date(wanted.unwrap_or(8))
            .filter(|(precision, ..)| *precision <= Precision::Day)
            .map(|(precision, ..)| Value::Date(date.boundary(*precision, high))),
        Value::DateTime(date) => of_date(wanted.unwrap_or(17))
            .map(|(precision, ..)| Value::DateTime(date.boundary(*precision, high))),
        Value::Time(time) => of_time(wanted.unwrap_or(9)).map(|(precision, ..)| {
            Value::Time(Temporal { offset: None, ..time.boundary(*precision, high) })
        }),
        other => return Err(wrong_type(&other, "a number or date")),
    })
}

/// The least or greatest number that is written like `value` when rounded, itself rounded
/// outwards to `digits` after the point (8 if not said).
fn decimal(value: Decimal, digits: Option<i64>, high: bool) -> Option<Decimal> {
    let digits = u32::try_from(digits.unwrap_or(8)).ok().filter(|digits| *digits <= 28)?;
    let half = Decimal::try_new(5, value.scale() + 1).ok()?;
    let (edge, strategy) = match high {
        true => (value.checked_add(half)?, RoundingStrategy::ToPositiveInfinity),
        false => (value.checked_sub(half)?, RoundingStrategy::ToNegativeInfinity),
    };
    let mut rounded = edge.round_dp_with_strategy(digits, strategy);
    rounded.rescale(digits);
    Some(rounded)
}

fn precision<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let Some(value) = call.value()? else { return Ok(Items::new()) };
    let digits = |temporal: &Temporal| {
        DIGITS.iter().find(|(precision, ..)| *precision == temporal.precision)
    };
    some(
        match &value {
            Value::Integer(_) => Some(0),
            Value::Decimal(value) => Some(i64::from(value.scale())),
            Value::Date(date) | Value::DateTime(date) => digits(date).map(|(_, digits, _)| *digits),
            Value::Time(time) => digits(time).and_then(|(.., digits)| *digits),
            other => return Err(wrong_type(other, "a number or date")),
        }
        .map(Value::Integer),
    )
}

fn comparable<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let items = call.items(0)?;
    let other = operators::value(&items)?.map(Value::to_system);
    some(match (call.value()?, other) {
        (Some(Value::Quantity(one)), Some(Value::Quantity(two))) => {
            Some(Value::Boolean(units::comparable(&one.unit, &two.unit)))
        }
        _ => None,
    })
}

/// The first argument that is not empty; those after it are not evaluated.
fn coalesce<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    for index in 0..call.arguments.len() {
        let items = call.items(index)?;
        if !items.is_empty() {
            return Ok(items);
        }
    }
    Ok(Items::new())
}
