//! <https://hl7.org/fhirpath/N1/#filtering-and-projection>.

use super::{Call, Evaluated, Function, row};
use crate::path::eval::Items;

pub(super) static FUNCTIONS: &[Function] =
    &[row("where", (1, 1), filter), row("select", (1, 1), select), row("repeat", (1, 1), repeat)];

fn filter<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let mut kept = Items::new();
    for (position, item) in call.focus.iter().enumerate() {
        if call.holds(item, position)? == Some(true) {
            kept.push(item.clone());
        }
    }
    Ok(kept)
}

fn select<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let mut found = Items::new();
    for (position, item) in call.focus.iter().enumerate() {
        found.extend(call.for_item(0, item, position)?);
        call.scope.fits(found.len())?;
    }
    Ok(found)
}

/// Applies the projection to its own results until nothing new comes.
fn repeat<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let mut found = Items::new();
    let mut next: Items<'a> = call.focus.into();
    while !next.is_empty() {
        let mut new = Items::new();
        for (position, item) in next.iter().enumerate() {
            for result in call.for_item(0, item, position)? {
                if !call.scope.contains(&found, &result)? {
                    found.push(result.clone());
                    new.push(result);
                }
            }
        }
        next = new;
    }
    Ok(found)
}
