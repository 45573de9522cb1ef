//! What is asked of an answer's value, and can be decided from the item alone:
//! <https://hl7.org/fhir/R4/questionnaireresponse-definitions.html#QuestionnaireResponse.item.answer.value_x_>.

use std::cmp::Ordering;

use super::item::{Bound, Item, ItemType, Rules};
use super::value::{self, Fixed, ValueType, cut};
use crate::path::PathError;
use crate::validate::nearest;
use crate::{IssueType, Json, Severity};

/// What is wrong with a value.
pub(super) struct Fault {
    pub severity: Severity,
    pub code: IssueType,
    /// The name of the element or extension that asks for it.
    pub rule: &'static str,
    /// A sentence that holds nothing of the value.
    pub text: String,
}

/// Most options that a sentence lists.
const MAX_LISTED: usize = 8;

/// Tells what is wrong with a value. `work` takes the steps of regular expressions.
pub(super) fn check(
    item: &Item,
    of: ValueType,
    value: &Json,
    work: &mut dyn FnMut(u64) -> Result<(), PathError>,
    tell: &mut dyn FnMut(Fault),
) {
    if !fits(item, of) {
        let text = format!(
            "\"{}\" is of type {} and takes {}, not a value{}.",
            cut(&item.link_id),
            item.kind.code(),
            taken(item),
            of.suffix()
        );
        return tell(Fault {
            severity: Severity::Error,
            code: IssueType::Value,
            rule: "type",
            text,
        });
    }
    option(item, of, value, work, tell);
    let rules = &item.rules;
    let mut fault = |severity, code, rule, asked: String| {
        let text = format!("An answer to \"{}\" {asked}.", cut(&item.link_id));
        tell(Fault { severity, code, rule, text });
    };
    let mut wrong = |rule, asked| fault(Severity::Error, IssueType::Value, rule, asked);
    let text = match value {
        Json::String(text) | Json::Number(text) => Some(text.as_str()),
        _ => None,
    };
    if let Some(text) = text {
        length(rules, text, &mut wrong);
        if let Some(pattern) = &rules.pattern
            && pattern.matches(text, work) == Some(false)
        {
            wrong(
                "regex",
                match &pattern.entry_format {
                    Some(format) => format!("has the form {}", cut(format)),
                    None => format!("matches the regular expression {}", cut(&pattern.text)),
                },
            );
        }
    }
    match of {
        ValueType::Integer | ValueType::Decimal => number(rules, value, &mut wrong),
        ValueType::Quantity => {
            number(rules, value.get("value").unwrap_or(&Json::Null), &mut wrong);
            unit(rules, value, &mut wrong);
        }
        ValueType::Attachment => attachment(rules, value, &mut wrong),
        _ => {}
    }
    bound(rules.min.as_ref(), "minValue", of, value, &mut wrong);
    bound(rules.max.as_ref(), "maxValue", of, value, &mut wrong);
    let has_breaks = || text.is_some_and(|text| text.contains(['\n', '\r']));
    if item.kind == ItemType::String && has_breaks() {
        let asked = "is one line; a question of type text may have several".to_owned();
        fault(Severity::Warning, IssueType::Value, "type", asked);
    }
}

/// Whether an item may have answers of a type.
fn fits(item: &Item, of: ValueType) -> bool {
    let listed = &item.options.listed;
    match item.kind {
        ItemType::OpenChoice if of == ValueType::String => true,
        ItemType::Choice | ItemType::OpenChoice if !listed.is_empty() => {
            listed.iter().any(|option| option.of == of)
        }
        kind => kind.answer() == Some(of),
    }
}

/// The types of answers as a sentence names them.
fn taken(item: &Item) -> String {
    let mut types: Vec<&str> =
        item.options.listed.iter().map(|option| option.of.suffix()).collect();
    if types.is_empty() || !item.kind.is_choice() {
        types = item.kind.answer().map(ValueType::suffix).into_iter().collect();
    }
    if item.kind == ItemType::OpenChoice {
        types.push("String");
    }
    types.sort_unstable();
    types.dedup();
    match types.is_empty() {
        true => "no answers".to_owned(),
        false => format!("value{}", types.join(" or value")),
    }
}

/// Whether the value is one of the options.
fn option(
    item: &Item,
    of: ValueType,
    value: &Json,
    work: &mut dyn FnMut(u64) -> Result<(), PathError>,
    tell: &mut dyn FnMut(Fault),
) {
    let listed = &item.options.listed;
    let length = listed.len() as u64;
    // That there was too much work is told by whoever counts it.
    if listed.is_empty() || item.options.dynamic.is_some() || work(length / 4).is_err() {
        return;
    }
    let name = || cut(&item.link_id);
    let warning = |text| Fault {
        severity: Severity::Warning,
        code: IssueType::CodeInvalid,
        rule: "answerOption",
        text,
    };
    if let Some(option) = listed.iter().find(|option| option.value.is(of, value)) {
        let display = value.str_at(&["display"]).filter(|_| of == ValueType::Coding);
        if let Some(display) = display
            && !option.displays.is_empty()
            && !option.displays.iter().any(|own| own.eq_ignore_ascii_case(display.trim()))
        {
            let own = option.displays.first().map(|own| cut(own)).unwrap_or_default();
            tell(warning(format!("The display of an answer to \"{}\" is \"{own}\".", name())));
        }
        return;
    }
    if item.kind == ItemType::OpenChoice && of == ValueType::String {
        let is_option = |text: &str| {
            listed.iter().any(|option| option.displays.iter().any(|own| own.as_ref() == text))
        };
        if value.as_str().is_some_and(is_option) {
            let text = format!(
                "An answer to \"{}\" is the text of an option; give the option's valueCoding.",
                name()
            );
            tell(warning(text));
        }
        return;
    }
    if work(length.saturating_mul(10)).is_err() {
        return;
    }
    let code = value.str_at(&["code"]).filter(|_| of == ValueType::Coding);
    let mut shown: Vec<&str> = Vec::new();
    if listed.len() > MAX_LISTED {
        let all = listed.iter().map(|option| option.shown.as_ref());
        shown.extend(code.and_then(|code| nearest(code, all)));
    }
    let others = listed.iter().map(|option| option.shown.as_ref());
    let others: Vec<&str> = others.filter(|other| !shown.contains(other)).collect();
    let room = MAX_LISTED - shown.len();
    shown.extend(others.iter().take(room));
    if others.len() > room {
        shown.push("…");
    }
    let same_code = listed.iter().any(|option| option.has_code(code));
    let hint = if same_code { " with its system" } else { "" };
    let shown = shown.join(", ");
    let text = format!("An answer to \"{}\" is one of its options{hint}: {shown}.", name());
    let code = match of {
        ValueType::Coding => IssueType::CodeInvalid,
        _ => IssueType::Value,
    };
    tell(Fault { severity: Severity::Error, code, rule: "answerOption", text });
}

type Tell<'t> = &'t mut dyn FnMut(&'static str, String);

fn length(rules: &Rules, text: &str, wrong: Tell) {
    if rules.max_length.is_none() && rules.min_length.is_none() {
        return;
    }
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    if let Some(max) = rules.max_length.filter(|max| length > *max) {
        wrong("maxLength", format!("has at most {max} characters; this one has {length}"));
    }
    if let Some(min) = rules.min_length.filter(|min| length < *min) {
        wrong("minLength", format!("has at least {min} characters; this one has {length}"));
    }
}

fn number(rules: &Rules, value: &Json, wrong: Tell) {
    let Some(number) = value::number(value) else { return };
    let places = i64::from(number.scale());
    if let Some(max) = rules.decimal_places.filter(|max| places > *max) {
        let asked = format!("has at most {max} decimal places; this one has {places}");
        wrong("maxDecimalPlaces", asked);
    }
    if let Some(step) = rules.step
        && let Some(rest) = number.checked_rem(step.into())
        && !rest.is_zero()
    {
        wrong("sliderStepValue", format!("is a multiple of {step}"));
    }
}

fn unit(rules: &Rules, quantity: &Json, wrong: Tell) {
    let units = &rules.units;
    let is_listed = units.listed.iter().any(|unit| unit.is_of(quantity));
    if units.listed.is_empty() || units.is_open || units.value_set.is_some() || is_listed {
        return;
    }
    let shown: Vec<String> =
        units.listed.iter().take(MAX_LISTED).map(|unit| cut(unit.shown())).collect();
    let rule = if units.listed.len() == 1 { "unit" } else { "unitOption" };
    wrong(rule, format!("has the unit {}", shown.join(" or ")));
}

fn attachment(rules: &Rules, attachment: &Json, wrong: Tell) {
    let data = attachment.str_at(&["data"]).map(decoded_length);
    let stated = attachment.get("size").and_then(Json::as_i64);
    if let (Some(actual), Some(stated)) = (data, stated)
        && actual != stated
    {
        let asked = format!("states the size of its data; it says {stated}, they have {actual}");
        wrong("size", asked);
    }
    let size = data.max(stated);
    if let (Some(size), Some(max)) = (size, rules.max_size)
        && max < size.into()
    {
        wrong("maxSize", format!("has at most {max} bytes; this one has {size}"));
    }
    let stated = attachment.str_at(&["contentType"]).unwrap_or_default();
    let essence = stated.split(';').next().unwrap_or_default().trim();
    let is_allowed = |own: &str| {
        own.eq_ignore_ascii_case(essence)
            || own.strip_suffix("/*").is_some_and(|kind| {
                essence.split('/').next().is_some_and(|own| own.eq_ignore_ascii_case(kind))
            })
    };
    let types = &rules.mime_types;
    if !types.is_empty() && !types.iter().any(|own| is_allowed(own)) {
        let shown: Vec<String> = types.iter().take(MAX_LISTED).map(|own| cut(own)).collect();
        wrong("mimeType", format!("has the contentType {}", shown.join(" or ")));
    }
}

/// How many bytes a base64 text stands for.
fn decoded_length(text: &str) -> i64 {
    let digits = text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=').count();
    i64::try_from(digits / 4 * 3 + (digits % 4).saturating_sub(1)).unwrap_or(i64::MAX)
}

fn bound(bound: Option<&Bound>, rule: &'static str, of: ValueType, value: &Json, wrong: Tell) {
    let Some(bound) = bound else { return };
    let Some(own) = &bound.value else { return };
    let (word, forbidden) = match rule {
        "minValue" => ("least", Ordering::Less),
        _ => ("most", Ordering::Greater),
    };
    match own.order(of, value) {
        Some(order) if order == forbidden => {
            wrong(rule, format!("is at {word} {}", bound.shown));
        }
        Some(_) => {}
        None => wrong(
            rule,
            format!("is at {word} {}; this one cannot be compared with it", bound.shown),
        ),
    }
}

/// Tells what is wrong with a value beside a bound that an expression gave.
pub(super) fn dynamic_bound(
    link_id: &str,
    dynamic: &Bound,
    rule: &'static str,
    of: ValueType,
    value: &Json,
    tell: &mut dyn FnMut(Fault),
) {
    bound(Some(dynamic), rule, of, value, &mut |rule, asked| {
        let text = format!("An answer to \"{}\" {asked}.", cut(link_id));
        tell(Fault { severity: Severity::Error, code: IssueType::Value, rule, text });
    });
}

/// Whether the least value is greater than the greatest.
pub(super) fn are_crossed(rules: &Rules) -> bool {
    let (Some(min), Some(max)) = (&rules.min, &rules.max) else { return false };
    let (Some(min), Some(max)) = (&min.value, &max.value) else { return false };
    match (min, max) {
        (Fixed::Number(min), Fixed::Number(max)) => min > max,
        (Fixed::Moment(min, _), Fixed::Moment(_, max)) => min > max,
        (Fixed::Text(min), Fixed::Text(max)) => min > max,
        (Fixed::Quantity(min, one), Fixed::Quantity(max, two)) => one == two && min > max,
        _ => false,
    }
}
