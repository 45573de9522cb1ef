//! What operators and functions take and give:
//! <https://hl7.org/fhirpath/N1/#functions> and <https://hl7.org/fhirpath/N1/#operations>.
//!
//! Functions that give what their focus or their arguments are, are known to [`super::check`].

use super::expr::Operator;
use crate::definitions::System::{
    self, Boolean, Date, DateTime, Decimal, Integer, Quantity, String, Time,
};

/// A function whose result does not depend on the type of its focus.
pub(super) struct Signature {
    pub name: &'static str,
    /// The types of the focus; none is any.
    pub focus: &'static [System],
    /// Whether the focus must be a single item.
    pub single: bool,
    /// The types of the arguments, the last one for those after it; none is any.
    pub arguments: &'static [&'static [System]],
    /// The types of the result; none is any.
    pub result: &'static [System],
    /// Whether the result can have several items.
    pub many: bool,
}

const ANY: &[System] = &[];
/// Dates in a tree are strings in JSON, and serve as such.
const TEXT: &[System] = &[String, Date, DateTime, Time];
const NUMBER: &[System] = &[Integer, Decimal];
const AMOUNT: &[System] = &[Integer, Decimal, Quantity];
const MEASURE: &[System] = &[Integer, Decimal, Quantity, Date, DateTime, Time];
const TRUTH: &[System] = &[Boolean];
const WHOLE: &[System] = &[Integer];
const REAL: &[System] = &[Decimal];
const STRING: &[System] = &[String];

const fn on(
    name: &'static str,
    focus: &'static [System],
    arguments: &'static [&'static [System]],
    result: &'static [System],
) -> Signature {
    Signature { name, focus, single: true, arguments, result, many: false }
}

const fn over(
    name: &'static str,
    focus: &'static [System],
    arguments: &'static [&'static [System]],
    result: &'static [System],
) -> Signature {
    Signature { name, focus, single: false, arguments, result, many: false }
}

const fn list(
    name: &'static str,
    focus: &'static [System],
    arguments: &'static [&'static [System]],
    result: &'static [System],
) -> Signature {
    Signature { name, focus, single: true, arguments, result, many: true }
}

static SIGNATURES: [Signature; 77] = [
    over("empty", ANY, &[], TRUTH),
    over("count", ANY, &[], WHOLE),
    over("isDistinct", ANY, &[], TRUTH),
    over("allTrue", TRUTH, &[], TRUTH),
    over("anyTrue", TRUTH, &[], TRUTH),
    over("allFalse", TRUTH, &[], TRUTH),
    over("anyFalse", TRUTH, &[], TRUTH),
    over("subsetOf", ANY, &[ANY], TRUTH),
    over("supersetOf", ANY, &[ANY], TRUTH),
    on("not", ANY, &[], TRUTH),
    over("hasValue", ANY, &[], TRUTH),
    on("conformsTo", ANY, &[TEXT], TRUTH),
    on("memberOf", ANY, &[TEXT], TRUTH),
    on("subsumes", ANY, &[ANY], TRUTH),
    on("subsumedBy", ANY, &[ANY], TRUTH),
    on("htmlChecks", ANY, &[], TRUTH),
    on("comparable", &[Quantity], &[&[Quantity]], TRUTH),
    Signature { single: false, ..list("weight", ANY, &[], REAL) },
    Signature { single: false, ..list("ordinal", ANY, &[], REAL) },
    on("toBoolean", ANY, &[], TRUTH),
    on("toInteger", ANY, &[], WHOLE),
    on("toDecimal", ANY, &[], REAL),
    on("toDate", ANY, &[], &[Date]),
    on("toDateTime", ANY, &[], &[DateTime]),
    on("toTime", ANY, &[], &[Time]),
    on("toQuantity", ANY, &[TEXT], &[Quantity]),
    on("toString", ANY, &[], STRING),
    on("convertsToBoolean", ANY, &[], TRUTH),
    on("convertsToInteger", ANY, &[], TRUTH),
    on("convertsToDecimal", ANY, &[], TRUTH),
    on("convertsToDate", ANY, &[], TRUTH),
    on("convertsToDateTime", ANY, &[], TRUTH),
    on("convertsToTime", ANY, &[], TRUTH),
    on("convertsToQuantity", ANY, &[TEXT], TRUTH),
    on("convertsToString", ANY, &[], TRUTH),
    on("indexOf", TEXT, &[TEXT], WHOLE),
    on("lastIndexOf", TEXT, &[TEXT], WHOLE),
    on("substring", TEXT, &[WHOLE], STRING),
    on("startsWith", TEXT, &[TEXT], TRUTH),
    on("endsWith", TEXT, &[TEXT], TRUTH),
    on("contains", TEXT, &[TEXT], TRUTH),
    on("matches", TEXT, &[TEXT], TRUTH),
    on("matchesFull", TEXT, &[TEXT], TRUTH),
    on("upper", TEXT, &[], STRING),
    on("lower", TEXT, &[], STRING),
    on("trim", TEXT, &[], STRING),
    on("replace", TEXT, &[TEXT], STRING),
    on("replaceMatches", TEXT, &[TEXT], STRING),
    on("length", TEXT, &[], WHOLE),
    list("toChars", TEXT, &[], STRING),
    list("split", TEXT, &[TEXT], STRING),
    over("join", ANY, &[TEXT], STRING),
    on("encode", TEXT, &[TEXT], STRING),
    on("decode", TEXT, &[TEXT], STRING),
    on("escape", TEXT, &[TEXT], STRING),
    on("unescape", TEXT, &[TEXT], STRING),
    on("abs", AMOUNT, &[], AMOUNT),
    on("ceiling", NUMBER, &[], WHOLE),
    on("floor", NUMBER, &[], WHOLE),
    on("truncate", NUMBER, &[], WHOLE),
    on("round", NUMBER, &[WHOLE], REAL),
    on("exp", NUMBER, &[], REAL),
    on("ln", NUMBER, &[], REAL),
    on("log", NUMBER, &[NUMBER], REAL),
    on("sqrt", NUMBER, &[], REAL),
    on("power", NUMBER, &[NUMBER], NUMBER),
    on("lowBoundary", MEASURE, &[WHOLE], MEASURE),
    on("highBoundary", MEASURE, &[WHOLE], MEASURE),
    on("precision", MEASURE, &[], WHOLE),
    over("now", ANY, &[], &[DateTime]),
    over("today", ANY, &[], &[Date]),
    over("timeOfDay", ANY, &[], &[Time]),
    over("sum", ANY, &[], ANY),
    over("avg", ANY, &[], ANY),
    over("min", ANY, &[], ANY),
    over("max", ANY, &[], ANY),
    on("getValue", ANY, &[], ANY),
];

/// The signature of a function, if it has one.
pub(super) fn find(name: &str) -> Option<&'static Signature> {
    SIGNATURES.iter().find(|signature| signature.name == name)
}

/// What an operator makes of two values; `None` if it does not take them.
pub(super) fn operate(operator: Operator, left: System, right: System) -> Option<System> {
    use Operator::{Add, Div, Divide, Mod, Multiply, Subtract};
    let is_number = |of: System| matches!(of, Integer | Decimal);
    let is_date = |of: System| matches!(of, Date | DateTime | Time);
    match (operator, left, right) {
        (Operator::Concatenate, left, right) => {
            (TEXT.contains(&left) && TEXT.contains(&right)).then_some(String)
        }
        (Operator::Less | Operator::LessOrEqual, ..)
        | (Operator::Greater | Operator::GreaterOrEqual, ..) => {
            let has_order = left == right && left != Boolean && left != System::None
                || AMOUNT.contains(&left) && AMOUNT.contains(&right)
                || matches!((left, right), (Date | DateTime, Date | DateTime));
            has_order.then_some(Boolean)
        }
        (Add, String, String) => Some(String),
        (Add | Subtract, date, Quantity) if is_date(date) => Some(date),
        (Add | Subtract | Multiply | Divide, Quantity, Quantity) => Some(Quantity),
        (Multiply | Divide, Quantity, number) if is_number(number) => Some(Quantity),
        (Multiply, number, Quantity) if is_number(number) => Some(Quantity),
        (Div, left, right) if is_number(left) && is_number(right) => Some(Integer),
        (Divide, left, right) if is_number(left) && is_number(right) => Some(Decimal),
        (Add | Subtract | Multiply | Mod, Integer, Integer) => Some(Integer),
        (Add | Subtract | Multiply | Mod, left, right) => {
            (is_number(left) && is_number(right)).then_some(Decimal)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::functions;

    #[test]
    fn every_signature_is_that_of_a_function() {
        for signature in &SIGNATURES {
            assert!(functions::find(signature.name).is_some(), "{}", signature.name);
        }
    }
}
