//! <https://hl7.org/fhirpath/N1/#aggregates>; `sum`, `min`, `max` and `avg` are short for what
//! that section builds from `aggregate`. Of nothing they give nothing.

use std::cmp::Ordering;

use rust_decimal::Decimal;

use super::{Call, Evaluated, Function, row, some};
use crate::path::PathError;
use crate::path::compare;
use crate::path::eval::{Items, Scope};
use crate::path::expr::{Expr, Operator};
use crate::path::operators;
use crate::path::value::Value;

pub(super) static FUNCTIONS: &[Function] = &[
    row("aggregate", (1, 2), aggregate),
    row("sum", (0, 0), |call| some(sum(call)?)),
    row("avg", (0, 0), average),
    row("min", (0, 0), |call| some(extreme(call, Ordering::Less)?)),
    row("max", (0, 0), |call| some(extreme(call, Ordering::Greater)?)),
    row("sort", (0, 16), sort),
];

fn aggregate<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let Some(step) = call.arguments.first() else { return Ok(Items::new()) };
    let mut total = call.items(1)?;
    for (position, item) in call.focus.iter().enumerate() {
        let scope = Scope { total: Some(&total), ..call.scope.within(item, position) };
        total = scope.eval(step)?;
    }
    Ok(total)
}

fn sum<'a>(call: &Call<'_, 'a>) -> Result<Option<Value<'a>>, PathError> {
    let mut items = call.focus.iter().map(Value::to_system);
    let Some(mut total) = items.next() else { return Ok(None) };
    for item in items {
        match operators::arithmetic(Operator::Add, &total, &item)? {
            Some(sum) => total = sum,
            None => return Ok(None),
        }
    }
    Ok(Some(total))
}

fn average<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let Some(sum) = sum(call)? else { return Ok(Items::new()) };
    let count = Value::Decimal(Decimal::from(call.focus.len()));
    some(operators::arithmetic(Operator::Divide, &sum, &count)?)
}

/// Nothing if the order of two items is open.
fn extreme<'a>(call: &Call<'_, 'a>, wanted: Ordering) -> Result<Option<Value<'a>>, PathError> {
    let Some((first, rest)) = call.focus.split_first() else { return Ok(None) };
    let mut found = first;
    for item in rest {
        match compare::order(item, found)? {
            Some(order) if order == wanted => found = item,
            Some(_) => {}
            None => return Ok(None),
        }
    }
    Ok(Some(found.clone()))
}

/// A minus before a key turns its order round; items without the key come first.
fn sort<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let mut keyed: Vec<(Vec<Option<Value<'a>>>, Value<'a>)> = Vec::new();
    for (position, item) in call.focus.iter().enumerate() {
        let scope = call.scope.within(item, position);
        let key = |argument: &'a Expr| {
            let key = match argument {
                Expr::Negative(key) => key,
                key => key,
            };
            let items = scope.eval(key)?;
            operators::single(&items).map(|item| item.map(Value::to_system))
        };
        let keys = match call.arguments {
            [] => vec![Some(item.to_system())],
            arguments => arguments.iter().map(key).collect::<Result<_, PathError>>()?,
        };
        keyed.push((keys, item.clone()));
    }
    let descending = |index: usize| matches!(call.arguments.get(index), Some(Expr::Negative(_)));
    let mut fault = None;
    keyed.sort_by(|(one, _), (two, _)| {
        for (index, keys) in one.iter().zip(two).enumerate() {
            let order = match keys {
                (Some(one), Some(two)) => match compare::order(one, two) {
                    Ok(order) => order.unwrap_or(Ordering::Equal),
                    Err(error) => {
                        fault = Some(error);
                        Ordering::Equal
                    }
                },
                (one, two) => {
                    if one.is_some() != two.is_some() {
                        return one.is_some().cmp(&two.is_some());
                    }
                    Ordering::Equal
                }
            };
            if order != Ordering::Equal {
                return if descending(index) { order.reverse() } else { order };
            }
        }
        Ordering::Equal
    });
    match fault {
        Some(fault) => Err(fault),
        None => Ok(keyed.into_iter().map(|(_, item)| item).collect()),
    }
}
