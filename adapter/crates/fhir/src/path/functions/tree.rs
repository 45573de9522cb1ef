//! <https://hl7.org/fhirpath/N1/#tree-navigation>.

use super::{Call, Evaluated, Function, row};
use crate::path::eval::Items;
use crate::path::navigate;

pub(super) static FUNCTIONS: &[Function] =
    &[row("children", (0, 0), children), row("descendants", (0, 0), descendants)];

fn children<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let mut found = Items::new();
    for item in call.focus {
        navigate::children(call.scope.context.definitions, item, &mut found);
    }
    Ok(found)
}

/// Every part of a tree is met once, so nothing has to be compared as `repeat` would.
fn descendants<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let mut found = children(call)?;
    let mut next = 0;
    while let Some(item) = found.get(next).cloned() {
        call.scope.work(1)?;
        navigate::children(call.scope.context.definitions, &item, &mut found);
        next += 1;
    }
    Ok(found)
}
