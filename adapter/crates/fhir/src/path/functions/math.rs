//! <https://hl7.org/fhirpath/N1/#math>.
//!
//! Sums and rounding are exact; powers with a fraction, roots, logarithms and exponentials have
//! the 15 digits of a double.

use rust_decimal::prelude::{FromPrimitive, ToPrimitive};
use rust_decimal::{Decimal, RoundingStrategy};

use super::{Call, Evaluated, Function, row, some};
use crate::path::PathError;
use crate::path::compare::as_decimal;
use crate::path::eval::Items;
use crate::path::operators::{self, wrong_type};
use crate::path::value::{Quantity, Value};

pub(super) static FUNCTIONS: &[Function] = &[
    row("abs", (0, 0), abs),
    row("ceiling", (0, 0), |call| whole(call, |value| value.ceil())),
    row("floor", (0, 0), |call| whole(call, |value| value.floor())),
    row("truncate", (0, 0), |call| whole(call, |value| value.trunc())),
    row("round", (0, 1), round),
    row("exp", (0, 0), |call| double(call, f64::exp)),
    row("ln", (0, 0), |call| double(call, f64::ln)),
    row("sqrt", (0, 0), |call| double(call, f64::sqrt)),
    row("log", (1, 1), |call| match argument(call)?.and_then(|base| base.to_f64()) {
        Some(base) => double(call, |value| value.log(base)),
        None => Ok(Items::new()),
    }),
    row("power", (1, 1), power),
];

/// The one number of the focus.
fn number(call: &Call) -> Result<Option<Decimal>, PathError> {
    match call.value()? {
        None => Ok(None),
        Some(value) => as_decimal(&value).map(Some).ok_or_else(|| wrong_type(&value, "a number")),
    }
}

fn argument(call: &Call) -> Result<Option<Decimal>, PathError> {
    let items = call.items(0)?;
    let Some(value) = operators::value(&items)?.map(Value::to_system) else { return Ok(None) };
    as_decimal(&value).map(Some).ok_or_else(|| wrong_type(&value, "a number"))
}

fn abs<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    match call.value()? {
        Some(Value::Integer(value)) => some(value.checked_abs().map(Value::Integer)),
        Some(Value::Quantity(quantity)) => {
            let value = quantity.value.abs();
            some(Some(Value::Quantity(Quantity { value, ..quantity })))
        }
        _ => some(number(call)?.map(|value| Value::Decimal(value.abs()))),
    }
}

fn whole<'a>(call: &Call<'_, 'a>, apply: impl Fn(Decimal) -> Decimal) -> Evaluated<'a> {
    some(number(call)?.and_then(|value| apply(value).to_i64()).map(Value::Integer))
}

/// Half is rounded away from zero.
fn round<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let Ok(digits) = u32::try_from(call.integer(0)?.unwrap_or(0)) else {
        return Err(PathError::new("a number cannot be rounded to less than whole numbers"));
    };
    let strategy = RoundingStrategy::MidpointAwayFromZero;
    some(number(call)?.map(|value| {
        Value::Decimal(value.round_dp_with_strategy(digits.min(Decimal::MAX_SCALE), strategy))
    }))
}

/// What is no number (the root of -1) is nothing.
fn double<'a>(call: &Call<'_, 'a>, apply: impl Fn(f64) -> f64) -> Evaluated<'a> {
    let result = number(call)?.and_then(|value| value.to_f64()).map(apply);
    some(result.and_then(Decimal::from_f64).map(Value::Decimal))
}

fn power<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let Some(exponent) = argument(call)? else { return Ok(Items::new()) };
    let times = exponent.is_integer().then(|| exponent.to_u32()).flatten();
    match (call.value()?, times.filter(|times| *times <= 1000)) {
        (Some(Value::Integer(base)), Some(times)) => {
            some(base.checked_pow(times).map(Value::Integer))
        }
        (Some(value), Some(times)) => {
            let base = as_decimal(&value).ok_or_else(|| wrong_type(&value, "a number"))?;
            let product = (0..times).try_fold(Decimal::ONE, |product, _| product.checked_mul(base));
            some(product.map(Value::Decimal))
        }
        _ => match exponent.to_f64() {
            Some(exponent) => double(call, |base| base.powf(exponent)),
            None => Ok(Items::new()),
        },
    }
}
