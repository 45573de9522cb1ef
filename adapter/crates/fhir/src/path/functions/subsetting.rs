//! <https://hl7.org/fhirpath/N1/#subsetting> and
//! <https://hl7.org/fhirpath/N1/#combining>.

use super::{Call, Evaluated, Function, row, some};
use crate::path::eval::Items;
use crate::path::operators;

pub(super) static FUNCTIONS: &[Function] = &[
    row("single", (0, 0), |call| some(operators::single(call.focus)?.cloned())),
    row("first", (0, 0), |call| some(call.focus.first().cloned())),
    row("last", (0, 0), |call| some(call.focus.last().cloned())),
    row("tail", (0, 0), |call| Ok(call.focus.iter().skip(1).cloned().collect())),
    row("skip", (1, 1), |call| Ok(call.focus.iter().skip(number(call)?).cloned().collect())),
    row("take", (1, 1), |call| Ok(call.focus.iter().take(number(call)?).cloned().collect())),
    row("intersect", (1, 1), intersect),
    row("exclude", (1, 1), exclude),
    row("union", (1, 1), |call| call.scope.distinct(combined(call)?)),
    row("combine", (1, 1), combined),
];

/// A negative number is none.
fn number(call: &Call) -> Result<usize, crate::path::PathError> {
    Ok(usize::try_from(call.integer(0)?.unwrap_or(0)).unwrap_or(0))
}

fn intersect<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let other = call.items(0)?;
    let mut kept = Items::new();
    for item in call.focus {
        if call.scope.contains(&other, item)? {
            kept.push(item.clone());
        }
    }
    call.scope.distinct(kept)
}

fn exclude<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let other = call.items(0)?;
    let mut kept = Items::new();
    for item in call.focus {
        if !call.scope.contains(&other, item)? {
            kept.push(item.clone());
        }
    }
    Ok(kept)
}

fn combined<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let mut all: Items<'a> = call.focus.into();
    all.extend(call.items(0)?);
    Ok(all)
}
