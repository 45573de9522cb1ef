//! Values of expressions as answers: <https://hl7.org/fhir/uv/sdc/STU3/expressions.html>.
//!
//! A value has the type of its question, or one that is converted: a resource to a Reference, a
//! CodeableConcept and a code to a Coding of the question, a Quantity to a number where the form
//! states the unit, a number to a Quantity, a whole decimal to an integer. Whether the answer is
//! allowed is the check's.

use rust_decimal::Decimal;

use super::Form;
use super::item::{Item, ItemType, Unit};
use super::value::{ValueType, choice, number, unit};
use crate::datetime::DateTime;
use crate::path::{Temporal, canonical_unit};
use crate::terminology::Membership;
use crate::validate::{Need, World};
use crate::{Json, Object};

/// A value as an answer to a question.
///
/// # Errors
/// What it is instead, as the end of a sentence.
pub(super) fn answer(
    form: &Form,
    world: &World<'_>,
    index: u32,
    value: &Json,
) -> Result<(ValueType, Json), &'static str> {
    const OTHER: &str = "it came to a value of another type";
    let item = form.item(index).ok_or(OTHER)?;
    let of = match item.kind {
        ItemType::Choice | ItemType::OpenChoice => return chosen(form, world, index, item, value),
        kind => kind.answer().ok_or(OTHER)?,
    };
    let text =
        |is_one: fn(&str) -> bool| value.as_str().filter(|text| is_one(text)).map(Json::from);
    let taken = match of {
        ValueType::Boolean => value.as_bool().map(|_| value.clone()),
        ValueType::String | ValueType::Uri => text(|text| !text.is_empty()),
        ValueType::Date => text(|text| !text.contains('T') && DateTime::parse(text).is_some()),
        ValueType::DateTime => text(|text| DateTime::parse(text).is_some()),
        ValueType::Time => text(|text| Temporal::parse_time(text).is_some()),
        ValueType::Integer => amount(item, value)?.and_then(whole),
        ValueType::Decimal => amount(item, value)?,
        ValueType::Quantity => quantity(item, value),
        ValueType::Reference => reference(value),
        ValueType::Attachment => value
            .as_object()
            .filter(|object| object.get("resourceType").is_none())
            .map(|_| value.clone()),
        ValueType::Coding => None,
    };
    taken.map(|taken| (of, taken)).ok_or(OTHER)
}

/// A number, of a Quantity the one in the unit of the question.
fn amount(item: &Item, value: &Json) -> Result<Option<Json>, &'static str> {
    if value.as_number().is_some() {
        return Ok(Some(value.clone()));
    }
    let Some(own) = value.get("value").filter(|own| own.as_number().is_some()) else {
        return Ok(None);
    };
    if value.get("comparator").is_some() {
        return Err("it came to a Quantity with a comparator");
    }
    let given = unit(value);
    let listed = &item.rules.units.listed;
    let is_bare = given.is_empty() || given == "1" || given.starts_with('{');
    if listed.iter().any(|unit| unit.is_of(value)) || (is_bare && listed.is_empty()) {
        return Ok(Some(own.clone()));
    }
    let [wanted] = listed.as_slice() else {
        return Err("it came to a Quantity, and the question states no unit");
    };
    converted(own, given, wanted).map(Some).ok_or("it came to a Quantity in another unit")
}

/// A number in another unit of the same dimension.
fn converted(value: &Json, given: &str, wanted: &Unit) -> Option<Json> {
    let (factor, dimension) = canonical_unit(given)?;
    let (own_factor, own_dimension) = canonical_unit(wanted.code.as_deref()?)?;
    if dimension != own_dimension {
        return None;
    }
    let value = number(value)?.checked_mul(factor)?.checked_div(own_factor)?;
    Some(Json::Number(value.round_dp(6).normalize().to_string().into()))
}

/// A number without a fraction.
fn whole(value: Json) -> Option<Json> {
    let text = value.as_number()?;
    if !text.contains(['.', 'e', 'E']) {
        return Some(value);
    }
    let own: Decimal = number(&value)?;
    own.is_integer().then(|| Json::Number(own.trunc().normalize().to_string().into()))
}

/// A Quantity; a number gets the unit of the question.
fn quantity(item: &Item, value: &Json) -> Option<Json> {
    if value.as_number().is_none() {
        return value.get("value").map(|_| value.clone());
    }
    let mut quantity = Object::new();
    quantity.set("value", value.clone());
    if let [unit] = item.rules.units.listed.as_slice() {
        let parts = [("unit", &unit.display), ("system", &unit.system), ("code", &unit.code)];
        for (name, part) in parts {
            if let Some(part) = part {
                quantity.set(name, part.as_ref());
            }
        }
    }
    Some(Json::Object(quantity))
}

/// A Reference, to a resource if the value is one.
fn reference(value: &Json) -> Option<Json> {
    if let Some(of) = value.str_at(&["resourceType"]) {
        let text = format!("{of}/{}", value.str_at(&["id"])?);
        return Some(crate::json!({"reference": (text)}));
    }
    ["reference", "identifier", "display"]
        .iter()
        .any(|name| value.get(name).is_some())
        .then(|| value.clone())
}

/// The option that a value means, or the value as it is.
fn chosen(
    form: &Form,
    world: &World<'_>,
    index: u32,
    item: &Item,
    value: &Json,
) -> Result<(ValueType, Json), &'static str> {
    const NO_CODE: &str = "it came to a value that is no Coding";
    const NO_OPTION: &str = "it came to a code that is none of the options, or of several";
    let source = form.source_of(index as usize);
    let options = source.map_or(&[][..], |source| source.list("answerOption"));
    let codings = value.list("coding");
    if value.as_object().is_some() {
        let codings = if codings.is_empty() { std::slice::from_ref(value) } else { codings };
        // A Coding of the options goes before others of the same concept.
        let of_option = codings.iter().find_map(|coding| {
            let is_own = |own: &&Json| {
                let own = own.get("valueCoding");
                ["system", "code"]
                    .iter()
                    .all(|name| own.and_then(|own| own.get(name)) == coding.get(name))
            };
            options.iter().find(is_own)
        });
        let found = match (of_option, codings) {
            (Some(option), _) => option.get("valueCoding").map(bare),
            (None, [coding]) if coding.get("code").is_some() => Some(bare(coding)),
            _ => None,
        };
        return found.map(|coding| (ValueType::Coding, coding)).ok_or(NO_CODE);
    }
    // Options of other types than Coding, and codes without their system.
    let same =
        options.iter().filter_map(|option| choice(option, "value")).filter(|(of, own)| match of {
            ValueType::Coding => {
                own.str_at(&["code"]) == value.as_str() && value.as_str().is_some()
            }
            _ => *own == value,
        });
    match same.collect::<Vec<_>>().as_slice() {
        [(ValueType::Coding, own)] => return Ok((ValueType::Coding, bare(own))),
        [(of, own)] => return Ok((*of, (*own).clone())),
        [] => {}
        _ => return Err(NO_OPTION),
    }
    let Some(text) = value.as_str() else {
        return Err(if options.is_empty() { NO_CODE } else { NO_OPTION });
    };
    if let Some(system) = system_of(form, world, item, text) {
        let coding = crate::json!({"system": (system), "code": (text)});
        return Ok((ValueType::Coding, coding));
    }
    match item.kind {
        ItemType::OpenChoice => Ok((ValueType::String, value.clone())),
        _ => Err(NO_OPTION),
    }
}

/// A Coding without what the form says about it.
fn bare(coding: &Json) -> Json {
    let mut bare = Object::new();
    for name in ["system", "version", "code", "display"] {
        if let Some(part) = coding.get(name) {
            bare.set(name, part.clone());
        }
    }
    Json::Object(bare)
}

/// The one system of which the value set of a question has a code.
fn system_of<'a>(form: &'a Form, world: &World<'a>, item: &'a Item, code: &str) -> Option<&'a str> {
    let set = item.options.value_set.as_deref()?;
    if let Some(id) = set.strip_prefix('#') {
        let mut contained = form.source.list("contained").iter();
        let set = contained.find(|other| other.str_at(&["id"]) == Some(id))?;
        let parts = set.at(&["compose"]).map_or(&[][..], |compose| compose.list("include"));
        let has = |part: &&Json| {
            part.list("concept").iter().any(|concept| concept.str_at(&["code"]) == Some(code))
        };
        let mut systems = parts.iter().filter(has).filter_map(|part| part.str_at(&["system"]));
        return systems.next().filter(|_| systems.next().is_none());
    }
    let note = |need| world.missing.note(Need::Terminology(need));
    // This also says what is missing.
    let is_any = world.terminology.is_member(set, None, code, &note);
    let system = world.terminology.only_system(set).filter(|_| is_any == Membership::Member)?;
    let found = world.terminology.is_member(set, Some(system), code, &note);
    (found == Membership::Member).then_some(system)
}
