//! <https://hl7.org/fhirpath/N1/#existence>.

use super::{Call, Evaluated, Function, one, row, truth};
use crate::path::operators;
use crate::path::value::Value;
use crate::path::{PathError, operators::wrong_type};

pub(super) static FUNCTIONS: &[Function] = &[
    row("empty", (0, 0), |call| truth(call.focus.is_empty())),
    row("exists", (0, 1), exists),
    row("all", (1, 1), all),
    row("allTrue", (0, 0), |call| truth(booleans(call)?.into_iter().all(|value| value))),
    row("anyTrue", (0, 0), |call| truth(booleans(call)?.into_iter().any(|value| value))),
    row("allFalse", (0, 0), |call| truth(booleans(call)?.into_iter().all(|value| !value))),
    row("anyFalse", (0, 0), |call| truth(booleans(call)?.into_iter().any(|value| !value))),
    row("subsetOf", (1, 1), |call| subset(call, call.focus, &call.items(0)?)),
    row("supersetOf", (1, 1), |call| subset(call, &call.items(0)?, call.focus)),
    row("count", (0, 0), |call| {
        one(Value::Integer(i64::try_from(call.focus.len()).unwrap_or(i64::MAX)))
    }),
    row("distinct", (0, 0), |call| call.scope.distinct(call.focus.into())),
    row("isDistinct", (0, 0), |call| {
        truth(call.scope.distinct(call.focus.into())?.len() == call.focus.len())
    }),
    row("not", (0, 0), |call| {
        Ok(operators::truth_value(operators::boolean(call.focus)?.map(|value| !value)))
    }),
];

fn exists<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    if call.arguments.is_empty() {
        return truth(!call.focus.is_empty());
    }
    for (position, item) in call.focus.iter().enumerate() {
        if call.holds(item, position)? == Some(true) {
            return truth(true);
        }
    }
    truth(false)
}

fn all<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    for (position, item) in call.focus.iter().enumerate() {
        if call.holds(item, position)? != Some(true) {
            return truth(false);
        }
    }
    truth(true)
}

fn booleans(call: &Call) -> Result<Vec<bool>, PathError> {
    let value = |item: &Value| match item.to_system() {
        Value::Boolean(value) => Ok(value),
        other => Err(wrong_type(&other, "a boolean")),
    };
    call.focus.iter().map(value).collect()
}

fn subset<'a>(call: &Call<'_, 'a>, part: &[Value<'a>], whole: &[Value<'a>]) -> Evaluated<'a> {
    for item in part {
        if !call.scope.contains(whole, item)? {
            return truth(false);
        }
    }
    truth(true)
}
