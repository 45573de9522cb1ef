//! The functions that Structured Data Capture adds:
//! <https://hl7.org/fhir/uv/sdc/expressions.html#fhirpath-supplements>.
//!
//! The weight of an answer stands on the Coding itself, on the answer's option in the form
//! (`%questionnaire`), or on the concept in a value set that the form contains. Weights that only
//! a code system knows are not looked up.

use super::{Call, Evaluated, Function, row};
use crate::Json;
use crate::path::PathError;
use crate::path::eval::{Items, Scope};
use crate::path::navigate;
use crate::path::value::{Value, decimal};

pub(super) static FUNCTIONS: &[Function] = &[
    row("answers", (0, 0), answers),
    row("weight", (0, 0), weight),
    row("ordinal", (0, 0), weight),
];

const WEIGHTS: [&str; 3] = [
    "http://hl7.org/fhir/StructureDefinition/itemWeight",
    "http://hl7.org/fhir/StructureDefinition/ordinalValue",
    "http://hl7.org/fhir/StructureDefinition/questionnaire-ordinalValue",
];

/// All answers below the items of the focus, at any depth.
fn answers<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let definitions = call.scope.context.definitions;
    let mut found = Items::new();
    // What is still to be looked into, next one last.
    let mut open: Vec<Value<'a>> = call.focus.iter().rev().cloned().collect();
    while let Some(value) = open.pop() {
        call.scope.work(1)?;
        let mut parts = Items::new();
        for name in ["answer", "item"] {
            let from = parts.len();
            navigate::plain_member(definitions, &value, name, &mut parts);
            if name == "answer" {
                found.extend(parts.iter().skip(from).cloned());
                call.scope.fits(found.len())?;
            }
        }
        open.extend(parts.into_iter().rev());
    }
    Ok(found)
}

fn weight<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let mut found = Items::new();
    for item in call.focus {
        let Some(json) = item.json() else { continue };
        let coding = json.get("valueCoding").or_else(|| json.get("value")).unwrap_or(json);
        let on_it = weight_on(coding).or_else(|| weight_on(json));
        let number = match on_it {
            Some(number) => Some(number),
            None => weight_in_form(call.scope, json, coding)?,
        };
        found.extend(number.and_then(decimal).map(Value::Decimal));
    }
    Ok(found)
}

fn weight_on(json: &Json) -> Option<&str> {
    let is_weight =
        |extension: &&Json| extension.str_at(&["url"]).is_some_and(|url| WEIGHTS.contains(&url));
    json.list("extension").iter().find(is_weight)?.get("valueDecimal")?.as_number()
}

/// The weight that the form gives to the answer.
fn weight_in_form<'a>(
    scope: &Scope<'_, 'a>,
    answer: &Json,
    coding: &Json,
) -> Result<Option<&'a str>, PathError> {
    let Some(form) = scope.named("questionnaire").and_then(|items| items.first()?.json()) else {
        return Ok(None);
    };
    let mut link_id = None;
    if let Some(response) = scope.context.resource.as_ref().and_then(Value::json) {
        item_with(scope, response, answer, &mut link_id)?;
    }
    let same = |other: &Json| {
        other.str_at(&["code"]).is_some()
            && other.str_at(&["code"]) == coding.str_at(&["code"])
            && (coding.get("system").is_none()
                || other.str_at(&["system"]) == coding.str_at(&["system"]))
    };
    let mut open: Vec<&'a Json> = form.list("item").iter().rev().collect();
    while let Some(item) = open.pop() {
        scope.work(1)?;
        open.extend(item.list("item").iter().rev());
        if link_id.is_some() && item.str_at(&["linkId"]) != link_id {
            continue;
        }
        let options = item.list("answerOption").iter();
        let option = options
            .filter(|option| option.get("valueCoding").is_some_and(same))
            .find_map(|option| weight_on(option).or_else(|| weight_on(option.get("valueCoding")?)));
        let number = option.or_else(|| {
            let id = item.str_at(&["answerValueSet"])?.strip_prefix('#')?;
            weight_in_value_set(form, id, coding)
        });
        if number.is_some() {
            return Ok(number);
        }
    }
    Ok(None)
}

/// The `linkId` of the item whose answer this is.
fn item_with<'a>(
    scope: &Scope,
    item: &'a Json,
    answer: &Json,
    link_id: &mut Option<&'a str>,
) -> Result<(), PathError> {
    scope.work(1)?;
    for own in item.list("answer") {
        let is_it = std::ptr::eq(own, answer)
            || own.get("valueCoding").is_some_and(|coding| std::ptr::eq(coding, answer));
        if is_it {
            *link_id = item.str_at(&["linkId"]);
            return Ok(());
        }
        for inner in own.list("item") {
            item_with(scope, inner, answer, link_id)?;
        }
    }
    for inner in item.list("item") {
        item_with(scope, inner, answer, link_id)?;
    }
    Ok(())
}

fn weight_in_value_set<'a>(form: &'a Json, id: &str, coding: &Json) -> Option<&'a str> {
    let mut contained = form.list("contained").iter();
    let set = contained.find(|json| json.str_at(&["id"]) == Some(id))?;
    let code = coding.str_at(&["code"])?;
    let is_it = |concept: &&Json| concept.str_at(&["code"]) == Some(code);
    let in_compose = set.get("compose").into_iter().flat_map(|compose| compose.list("include"));
    let in_compose = in_compose.flat_map(|include| include.list("concept"));
    let in_expansion = set.get("expansion").into_iter().flat_map(|e| e.list("contains"));
    in_compose.chain(in_expansion).filter(is_it).find_map(weight_on)
}
