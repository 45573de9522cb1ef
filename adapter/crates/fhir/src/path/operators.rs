//! Operators: <https://hl7.org/fhirpath/N1/#operations>.

use std::borrow::Cow;
use std::cmp::Ordering;

use rust_decimal::prelude::ToPrimitive;
use smallvec::smallvec;

use super::compare::{self, as_decimal};
use super::eval::{Evaluated, Items, Scope};
use super::expr::{Expr, Operator};
use super::value::{Quantity, Value};
use super::{PathError, units};
use crate::Json;

impl Operator {
    /// Whether it gives a boolean or nothing.
    pub fn is_condition(self) -> bool {
        !matches!(
            self,
            Operator::Multiply
                | Operator::Divide
                | Operator::Div
                | Operator::Mod
                | Operator::Add
                | Operator::Subtract
                | Operator::Concatenate
                | Operator::As
                | Operator::Union
        )
    }
}

/// The operators that compare.
pub(super) fn condition<'a>(
    scope: &Scope<'_, 'a>,
    operator: Operator,
    left: &'a Expr,
    right: &'a Expr,
) -> Result<Option<bool>, PathError> {
    let left = scope.eval(left)?;
    // Most comparisons are of one text with one that stands in the expression.
    if let (Operator::Equal | Operator::NotEqual, Expr::String(literal)) = (operator, right)
        && let [item] = left.as_slice()
        && let Some(text) = item.plain_text()
    {
        return Ok(Some((text == literal.text) == (operator == Operator::Equal)));
    }
    let right = scope.eval(right)?;
    match operator {
        Operator::Equal => equal(scope, &left, &right),
        Operator::NotEqual => Ok(equal(scope, &left, &right)?.map(|same| !same)),
        Operator::Equivalent => equivalent(scope, &left, &right).map(Some),
        Operator::NotEquivalent => Ok(Some(!equivalent(scope, &left, &right)?)),
        Operator::In => membership(scope, &left, &right),
        Operator::Contains => membership(scope, &right, &left),
        operator => ordered(operator, &left, &right),
    }
}

/// The operators that calculate.
pub(super) fn binary<'a>(
    scope: &Scope<'_, 'a>,
    operator: Operator,
    left: &'a Expr,
    right: &'a Expr,
) -> Evaluated<'a> {
    let (left, right) = (scope.eval(left)?, scope.eval(right)?);
    if operator == Operator::Concatenate {
        let (left, right) =
            (string(&left)?.unwrap_or_default(), string(&right)?.unwrap_or_default());
        scope.text((left.len() + right.len()) as u64)?;
        return Ok(smallvec![Value::String((left + right.as_ref()).into_owned().into())]);
    }
    let (Some(left), Some(right)) = (value(&left)?, value(&right)?) else {
        return Ok(Items::new());
    };
    let found = arithmetic(operator, &left.to_system(), &right.to_system())?;
    if let Some(Value::String(text)) = &found {
        scope.text(text.len() as u64)?;
    }
    Ok(found.into_iter().collect())
}

/// Three-valued logic; the right operand is evaluated only if it matters.
pub(super) fn logic(
    operator: Operator,
    left: Option<bool>,
    right: impl FnOnce() -> Result<Option<bool>, PathError>,
) -> Result<Option<bool>, PathError> {
    Ok(match (operator, left) {
        (Operator::And, Some(false)) => Some(false),
        (Operator::Or | Operator::Implies, Some(decided))
            if decided == (operator == Operator::Or) =>
        {
            Some(true)
        }
        (operator, left) => match (operator, left, right()?) {
            (Operator::And, _, Some(false)) => Some(false),
            (Operator::And, Some(true), Some(true)) => Some(true),
            (Operator::Or | Operator::Implies, _, Some(true)) => Some(true),
            (Operator::Or, Some(false), Some(false)) => Some(false),
            (Operator::Implies, Some(true), right) => right,
            (Operator::Xor, Some(left), Some(right)) => Some(left != right),
            _ => None,
        },
    })
}

pub(super) fn truth_value<'a>(value: Option<bool>) -> Items<'a> {
    value.map(Value::Boolean).into_iter().collect()
}

fn equal(scope: &Scope, left: &[Value], right: &[Value]) -> Result<Option<bool>, PathError> {
    if left.is_empty() || right.is_empty() {
        return Ok(None);
    }
    if left.len() != right.len() {
        return Ok(Some(false));
    }
    let mut all = Some(true);
    for (one, two) in left.iter().zip(right) {
        scope.work(compare::weight(one))?;
        match compare::equal(one, two) {
            Some(false) => return Ok(Some(false)),
            None => all = None,
            Some(true) => {}
        }
    }
    Ok(all)
}

fn equivalent(scope: &Scope, left: &[Value], right: &[Value]) -> Result<bool, PathError> {
    let weight = left.iter().map(compare::weight).fold(0, u64::saturating_add);
    scope.work(weight.saturating_mul(right.len() as u64))?;
    Ok(compare::same_in_any_order(left, right, compare::equivalent))
}

fn membership<'a>(
    scope: &Scope<'_, 'a>,
    item: &[Value<'a>],
    of: &[Value<'a>],
) -> Result<Option<bool>, PathError> {
    single(item)?.map(|item| scope.contains(of, item)).transpose()
}

/// Whether the one item is one of the texts.
pub(super) fn among(items: &[Value], texts: &[Expr]) -> Result<Option<bool>, PathError> {
    let Some(item) = single(items)? else { return Ok(None) };
    let item = item.to_system();
    let own = item.plain_text();
    let is_it = |text: &Expr| matches!(text, Expr::String(of) if Some(of.text.as_str()) == own);
    Ok(Some(texts.iter().any(is_it)))
}

fn ordered(operator: Operator, left: &[Value], right: &[Value]) -> Result<Option<bool>, PathError> {
    let (Some(left), Some(right)) = (value(left)?, value(right)?) else {
        return Ok(None);
    };
    Ok(compare::order(left, right)?.map(|order| match operator {
        Operator::Less => order == Ordering::Less,
        Operator::LessOrEqual => order != Ordering::Greater,
        Operator::Greater => order == Ordering::Greater,
        _ => order != Ordering::Less,
    }))
}

/// Overflow and division by zero give nothing.
pub(super) fn arithmetic<'a>(
    operator: Operator,
    left: &Value<'a>,
    right: &Value<'a>,
) -> Result<Option<Value<'a>>, PathError> {
    let mismatch = || {
        let (left, right) = (left.type_name(), right.type_name());
        PathError::new(format!("{left} and {right} cannot be combined by {}", name(operator)))
    };
    match (left, right) {
        (Value::Integer(left), Value::Integer(right)) => match operator {
            Operator::Add => return Ok(left.checked_add(*right).map(Value::Integer)),
            Operator::Subtract => return Ok(left.checked_sub(*right).map(Value::Integer)),
            Operator::Multiply => return Ok(left.checked_mul(*right).map(Value::Integer)),
            Operator::Div => return Ok(left.checked_div(*right).map(Value::Integer)),
            Operator::Mod => return Ok(left.checked_rem(*right).map(Value::Integer)),
            _ => {}
        },
        (Value::String(left), Value::String(right)) if operator == Operator::Add => {
            return Ok(Some(Value::String([left.as_ref(), right.as_ref()].concat().into())));
        }
        (Value::Date(_) | Value::DateTime(_) | Value::Time(_), Value::Quantity(amount))
            if matches!(operator, Operator::Add | Operator::Subtract) =>
        {
            return move_date(operator, left, amount);
        }
        (Value::Quantity(left), Value::Quantity(right)) => {
            return Ok(quantities(operator, left, right)
                .ok_or_else(mismatch)?
                .map(Value::Quantity));
        }
        (Value::Quantity(quantity), number) | (number, Value::Quantity(quantity))
            if as_decimal(number).is_some() =>
        {
            let number =
                Quantity { value: as_decimal(number).unwrap_or_default(), unit: "1".into() };
            let found = match (left, operator) {
                (_, Operator::Multiply) => quantities(operator, quantity, &number),
                (Value::Quantity(_), Operator::Divide) => quantities(operator, quantity, &number),
                _ => None,
            };
            return Ok(found.ok_or_else(mismatch)?.map(Value::Quantity));
        }
        _ => {}
    }
    let (Some(left), Some(right)) = (as_decimal(left), as_decimal(right)) else {
        return Err(mismatch());
    };
    Ok(match operator {
        Operator::Add => left.checked_add(right).map(Value::Decimal),
        Operator::Subtract => left.checked_sub(right).map(Value::Decimal),
        Operator::Multiply => left.checked_mul(right).map(Value::Decimal),
        Operator::Divide => {
            left.checked_div(right).map(|quotient| Value::Decimal(quotient.normalize()))
        }
        Operator::Mod => left.checked_rem(right).map(Value::Decimal),
        _ => left.checked_div(right).and_then(|q| q.trunc().to_i64()).map(Value::Integer),
    })
}

/// `None` if the operation has no meaning; `Some(None)` if it has no result.
fn quantities<'a>(
    operator: Operator,
    left: &Quantity<'a>,
    right: &Quantity<'a>,
) -> Option<Option<Quantity<'a>>> {
    let with =
        |value: Option<_>, unit: Cow<'a, str>| Some(value.map(|value| Quantity { value, unit }));
    match operator {
        Operator::Add | Operator::Subtract => {
            let value = match left.unit == right.unit {
                true => Some(right.value),
                // A difference of temperatures is no temperature.
                false if units::has_own_zero(&left.unit) || units::has_own_zero(&right.unit) => {
                    None
                }
                false => units::convert(right, &left.unit),
            };
            let Some(value) = value else { return Some(None) };
            let sum = match operator {
                Operator::Add => left.value.checked_add(value),
                _ => left.value.checked_sub(value),
            };
            with(sum, left.unit.clone())
        }
        Operator::Multiply => with(
            left.value.checked_mul(right.value),
            units::combine(&left.unit, '.', &right.unit).into(),
        ),
        Operator::Divide => with(
            left.value.checked_div(right.value),
            units::combine(&left.unit, '/', &right.unit).into(),
        ),
        _ => None,
    }
}

fn move_date<'a>(
    operator: Operator,
    date: &Value<'a>,
    amount: &Quantity,
) -> Result<Option<Value<'a>>, PathError> {
    let Some(unit) = units::calendar_of(&amount.unit) else {
        let reason = format!("a date cannot be moved by the unit \"{}\"", amount.unit);
        return Err(PathError::new(reason));
    };
    let amount = if operator == Operator::Add { amount.value } else { -amount.value };
    Ok(match date {
        Value::Date(date) => date.add(amount, unit).map(Value::Date),
        Value::DateTime(date) => date.add(amount, unit).map(Value::DateTime),
        Value::Time(time) => time.add_to_time(amount, unit).map(Value::Time),
        _ => None,
    })
}

pub(super) fn negative<'a>(items: &[Value<'a>]) -> Evaluated<'a> {
    let Some(item) = value(items)? else { return Ok(Items::new()) };
    Ok(match item.to_system() {
        Value::Integer(value) => value.checked_neg().map(Value::Integer).into_iter().collect(),
        Value::Decimal(value) => smallvec![Value::Decimal(-value)],
        Value::Quantity(quantity) => {
            smallvec![Value::Quantity(Quantity { value: -quantity.value, ..quantity })]
        }
        other => {
            let reason = format!("{} has no negative", other.type_name());
            return Err(PathError::new(reason));
        }
    })
}

/// `+` changes nothing, but numbers alone may have it.
pub(super) fn positive(items: Items) -> Evaluated {
    match value(&items)?.map(Value::to_system) {
        None | Some(Value::Integer(_) | Value::Decimal(_) | Value::Quantity(_)) => Ok(items),
        Some(other) => Err(wrong_type(&other, "a number")),
    }
}

/// The one item of a collection, or none.
pub(super) fn single<'s, 'a>(items: &'s [Value<'a>]) -> Result<Option<&'s Value<'a>>, PathError> {
    match items {
        [] => Ok(None),
        [item] => Ok(Some(item)),
        _ => Err(PathError::new(format!("there are {} items where one is needed", items.len()))),
    }
}

/// The one item of a collection, or none; a primitive that has only extensions counts as none.
pub(super) fn value<'s, 'a>(items: &'s [Value<'a>]) -> Result<Option<&'s Value<'a>>, PathError> {
    let has_value = |item: &&Value| item.json().is_none_or(|json| *json != Json::Null);
    Ok(single(items)?.filter(has_value))
}

/// The truth of a collection: a single item that is no boolean counts as true.
pub(super) fn boolean(items: &[Value]) -> Result<Option<bool>, PathError> {
    Ok(single(items)?.map(|item| match item {
        Value::Boolean(value) => *value,
        Value::Node(node) => node.json.as_bool().unwrap_or(true),
        _ => true,
    }))
}

/// The text of a single string.
pub(super) fn string<'a>(items: &[Value<'a>]) -> Result<Option<Cow<'a, str>>, PathError> {
    let Some(item) = value(items)? else { return Ok(None) };
    match item.to_system() {
        Value::String(text) => Ok(Some(text)),
        // A date in a tree is a string in JSON, and is used as one where a string is needed.
        other => match (item, item.as_str()) {
            (Value::Node(_), Some(text)) => Ok(Some(text)),
            _ => Err(wrong_type(&other, "a string")),
        },
    }
}

/// The number of a single integer.
pub(super) fn integer(items: &[Value]) -> Result<Option<i64>, PathError> {
    let Some(item) = value(items)? else { return Ok(None) };
    match item.to_system() {
        Value::Integer(value) => Ok(Some(value)),
        other => Err(wrong_type(&other, "an integer")),
    }
}

pub(super) fn wrong_type(value: &Value, needed: &str) -> PathError {
    PathError::new(format!("{} stands where {needed} is needed", value.type_name()))
}

pub(super) fn name(operator: Operator) -> &'static str {
    match operator {
        Operator::Add => "+",
        Operator::Subtract => "-",
        Operator::Multiply => "*",
        Operator::Divide => "/",
        Operator::Div => "div",
        Operator::Mod => "mod",
        Operator::Concatenate => "&",
        Operator::Less => "<",
        Operator::LessOrEqual => "<=",
        Operator::Greater => ">",
        _ => ">=",
    }
}
