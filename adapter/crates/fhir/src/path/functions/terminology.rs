//! Functions on codes: <https://hl7.org/fhir/R4/fhirpath.html#functions>.

use super::{Call, Evaluated, Function, row};
use crate::Json;
use crate::path::operators::{self, truth_value};
use crate::path::value::Value;
use crate::path::{PathError, eval::Items};

pub(super) static FUNCTIONS: &[Function] = &[
    row("memberOf", (1, 1), member_of),
    row("subsumes", (1, 1), |call| subsumption(call, |ours, theirs| (ours, theirs))),
    row("subsumedBy", (1, 1), |call| subsumption(call, |ours, theirs| (theirs, ours))),
];

fn member_of<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let (Some(item), Some(value_set)) = (operators::single(call.focus)?, call.string(0)?) else {
        return Ok(Items::new());
    };
    let environment = call.scope.context.environment;
    let answer = environment.and_then(|world| world.member_of(item, &value_set));
    Ok(truth_value(call.scope.tally.note(answer)))
}

/// System and code.
type Code<'j> = (&'j str, &'j str);

/// Any code of one side may subsume any of the other. Without one that does, a pair that cannot be
/// judged leaves it open.
fn subsumption<'a>(
    call: &Call<'_, 'a>,
    in_order: for<'j> fn(Code<'j>, Code<'j>) -> (Code<'j>, Code<'j>),
) -> Evaluated<'a> {
    let argument = call.items(0)?;
    let (Some(one), Some(two)) = (operators::single(call.focus)?, operators::single(&argument)?)
    else {
        return Ok(Items::new());
    };
    let (one, two) = (codes(one)?, codes(two)?);
    let mut answer = Some(false);
    for ours in &one {
        for theirs in &two {
            let (ancestor, code) = in_order(*ours, *theirs);
            if ancestor.0 != code.0 {
                continue;
            }
            let known = match ancestor == code {
                true => Some(true),
                false => {
                    let environment = call.scope.context.environment;
                    environment.and_then(|world| world.subsumes(code.0, ancestor.1, code.1))
                }
            };
            match known {
                Some(true) => return Ok(truth_value(known)),
                Some(false) => {}
                None => answer = None,
            }
        }
    }
    Ok(truth_value(call.scope.tally.note(answer)))
}

/// The codes of a Coding or CodeableConcept.
fn codes<'a>(item: &Value<'a>) -> Result<Vec<Code<'a>>, PathError> {
    let code = |json: &'a Json| {
        let text = |name: &str| json.get(name).and_then(Json::as_str);
        Some((text("system").unwrap_or_default(), text("code")?))
    };
    match item.json() {
        Some(json @ Json::Object(_)) if json.get("coding").is_some() => {
            Ok(json.list("coding").iter().filter_map(code).collect())
        }
        Some(json @ Json::Object(_)) => Ok(code(json).into_iter().collect()),
        _ => Err(operators::wrong_type(item, "a Coding or CodeableConcept")),
    }
}
