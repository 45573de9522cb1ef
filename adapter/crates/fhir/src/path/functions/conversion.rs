//! <https://hl7.org/fhirpath/N1/#conversion>.

use rust_decimal::Decimal;

use super::{Call, Evaluated, Function, one, row, some};
use crate::path::eval::{Items, Scope};
use crate::path::temporal::{Precision, Temporal};
use crate::path::value::{Quantity, Value};
use crate::path::{PathError, operators, units};

pub(super) static FUNCTIONS: &[Function] = &[
    row("iif", (2, 3), iif),
    row("toBoolean", (0, 0), |call| convert(call, to_boolean)),
    row("toInteger", (0, 0), |call| convert(call, to_integer)),
    row("toDecimal", (0, 0), |call| convert(call, to_decimal)),
    row("toDate", (0, 0), |call| convert(call, to_date)),
    row("toDateTime", (0, 0), |call| convert(call, to_date_time)),
    row("toTime", (0, 0), |call| convert(call, to_time)),
    row("toQuantity", (0, 1), |call| match call.string(0)? {
        None => convert(call, to_quantity),
        Some(unit) => in_unit(call, &unit),
    }),
    row("toString", (0, 0), |call| convert(call, to_string)),
    row("convertsToBoolean", (0, 0), |call| converts(call, to_boolean)),
    row("convertsToInteger", (0, 0), |call| converts(call, to_integer)),
    row("convertsToDecimal", (0, 0), |call| converts(call, to_decimal)),
    row("convertsToDate", (0, 0), |call| converts(call, to_date)),
    row("convertsToDateTime", (0, 0), |call| converts(call, to_date_time)),
    row("convertsToTime", (0, 0), |call| converts(call, to_time)),
    row("convertsToQuantity", (0, 1), |call| match call.string(0)? {
        None => converts(call, to_quantity),
        Some(unit) => match call.focus.is_empty() {
            true => Ok(Items::new()),
            false => one(Value::Boolean(!in_unit(call, &unit)?.is_empty())),
        },
    }),
    row("convertsToString", (0, 0), |call| converts(call, to_string)),
];

/// Only the branch that is chosen is evaluated, with the focus as `$this`.
fn iif<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    operators::single(call.focus)?;
    let scope = Scope { this: call.focus, ..*call.scope };
    let evaluate = |index: usize| match call.arguments.get(index) {
        Some(argument) => scope.eval(argument),
        None => Ok(Items::new()),
    };
    match operators::boolean(&evaluate(0)?)? {
        Some(true) => evaluate(1),
        _ => evaluate(2),
    }
}

type Conversion = for<'a> fn(&Value<'a>) -> Option<Value<'a>>;

fn convert<'a>(call: &Call<'_, 'a>, conversion: Conversion) -> Evaluated<'a> {
    some(call.value()?.and_then(|value| conversion(&value)))
}

fn converts<'a>(call: &Call<'_, 'a>, conversion: Conversion) -> Evaluated<'a> {
    some(call.value()?.map(|value| Value::Boolean(conversion(&value).is_some())))
}

fn to_boolean<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    let found = match value {
        Value::Boolean(value) => *value,
        Value::Integer(1) => true,
        Value::Integer(0) => false,
        Value::Decimal(value) if *value == Decimal::ONE => true,
        Value::Decimal(value) if value.is_zero() => false,
        Value::String(text) => match text.to_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" | "1.0" => true,
            "false" | "f" | "no" | "n" | "0" | "0.0" => false,
            _ => return None,
        },
        _ => return None,
    };
    Some(Value::Boolean(found))
}

fn to_integer<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    match value {
        Value::Integer(value) => Some(Value::Integer(*value)),
        Value::Boolean(value) => Some(Value::Integer(i64::from(*value))),
        Value::String(text) => text.parse().ok().map(Value::Integer),
        _ => None,
    }
}

fn to_decimal<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    match value {
        Value::Decimal(value) => Some(Value::Decimal(*value)),
        Value::Integer(value) => Some(Value::Decimal(Decimal::from(*value))),
        Value::Boolean(value) => Some(Value::Decimal(Decimal::from(u8::from(*value)))),
        Value::String(text) => plain_decimal(text).map(Value::Decimal),
        _ => None,
    }
}

/// `[+-]digits[.digits]`.
fn plain_decimal(text: &str) -> Option<Decimal> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(fraction) {
        return None;
    }
    Decimal::from_str_exact(text).ok()
}

fn to_date<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    match value {
        Value::Date(date) => Some(Value::Date(*date)),
        Value::DateTime(date) => Some(Value::Date(date.date())),
        Value::String(text) => Temporal::parse_date_time(text).map(|date| Value::Date(date.date())),
        _ => None,
    }
}

fn to_date_time<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    match value {
        Value::Date(date) | Value::DateTime(date) => Some(Value::DateTime(*date)),
        Value::String(text) => Temporal::parse_date_time(text).map(Value::DateTime),
        _ => None,
    }
}

fn to_time<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    match value {
        Value::Time(time) => Some(Value::Time(*time)),
        Value::DateTime(date) if date.precision >= Precision::Hour => {
            Some(Value::Time(date.time()))
        }
        Value::String(text) => {
            Temporal::parse_time(text.strip_prefix('T').unwrap_or(text)).map(Value::Time)
        }
        _ => None,
    }
}

fn to_quantity<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    if let Value::String(text) = value {
        return quantity_of(text).map(Value::Quantity);
    }
    match value {
        Value::Quantity(quantity) => Some(Value::Quantity(quantity.clone())),
        value => {
            let Some(Value::Decimal(value)) = to_decimal(value) else { return None };
            Some(Value::Quantity(Quantity { value, unit: "1".into() }))
        }
    }
}

/// A number, then nothing, a UCUM code in quotes or a calendar unit.
fn quantity_of<'a>(text: &str) -> Option<Quantity<'a>> {
    let end = text.find(|c: char| !c.is_ascii_digit() && !matches!(c, '+' | '-' | '.'));
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let value = plain_decimal(number)?;
    let unit = unit.trim_start();
    let quoted = unit.strip_prefix('\'').and_then(|unit| unit.strip_suffix('\''));
    let unit = match (unit, quoted) {
        ("", _) => "1",
        (_, Some("")) => return None,
        (_, Some(code)) => code,
        (unit, None) => {
            units::calendar_unit(unit)?;
            unit.strip_suffix('s').unwrap_or(unit)
        }
    };
    Some(Quantity { value, unit: unit.to_string().into() })
}

fn in_unit<'a>(call: &Call<'_, 'a>, unit: &str) -> Evaluated<'a> {
    let Some(Value::Quantity(quantity)) = call.value()?.as_ref().and_then(to_quantity) else {
        return Ok(Items::new());
    };
    let value = match quantity.unit == unit {
        true => Some(quantity.value),
        false => units::convert(&quantity, unit),
    };
    some(value.map(|value| Value::Quantity(Quantity { value, unit: unit.to_string().into() })))
}

pub(super) fn to_string<'a>(value: &Value<'a>) -> Option<Value<'a>> {
    let text = match value {
        Value::String(text) => return Some(Value::String(text.clone())),
        Value::Boolean(value) => value.to_string(),
        Value::Integer(value) => value.to_string(),
        Value::Decimal(value) => value.to_string(),
        Value::Date(date) | Value::DateTime(date) => date.to_string(),
        Value::Time(time) => time.time_text(),
        Value::Quantity(quantity) => quantity_text(quantity),
        Value::Node(_) | Value::Type { .. } => return None,
    };
    Some(Value::String(text.into()))
}

fn quantity_text(quantity: &Quantity) -> String {
    let Quantity { value, unit } = quantity;
    match units::calendar_unit(unit) {
        None => format!("{value} '{unit}'"),
        Some(_) if *value == Decimal::ONE => format!("{value} {unit}"),
        Some(_) => format!("{value} {unit}s"),
    }
}

/// The text of an item where a function takes strings, numbers or dates alike.
pub(super) fn text(value: &Value) -> Result<String, PathError> {
    match to_string(&value.to_system()) {
        Some(Value::String(text)) => Ok(text.into_owned()),
        _ => Err(operators::wrong_type(value, "a string")),
    }
}
