//! Number and quantity parameters: <https://hl7.org/fhir/R4/search.html#number> and
//! <https://hl7.org/fhir/R4/search.html#quantity>.
//!
//! A quantity with a unit of UCUM is found by any unit that measures the same. Special units
//! (degrees Celsius) and arbitrary ones (international units) are found as they are written only.

use rust_decimal::Decimal;

use crate::Json;
use crate::path::{Value, canonical_unit};

use super::condition::{Bound, Condition, Pattern};
use super::date::{Prefix, prefix};
use super::escape::{split, unescape};
use super::fault::Fault;
use super::key::{self, Number};
use super::query::{Asked, Reader};
use super::reference::Part;
use super::token::primitive;

const UCUM: &str = "http://unitsofmeasure.org";

/// Least, greatest and unit key.
pub(super) type Row = (f64, f64, String);

/// What a value is found by.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) written: Vec<Row>,
    /// In base units.
    pub(super) canonical: Vec<Row>,
}

/// The number of an element that is one.
pub(super) fn number(value: &Value<'_>) -> Option<f64> {
    Some(Number::parse(&primitive(value)?)?.value)
}

/// Rows of a Quantity, a Range, a Money or a plain number.
pub(super) fn rows(value: &Value<'_>) -> Rows {
    let mut rows = Rows::default();
    let Some(json) = value.json().filter(|json| json.as_object().is_some()) else {
        rows.written.extend(number(value).map(|number| (number, number, String::new())));
        return rows;
    };
    match value.type_name() {
        "Range" => {
            let (low, high) = (json.get("low"), json.get("high"));
            let Some(unit) = low.or(high) else { return rows };
            let ends = |factor| {
                let end = |of: Option<&Json>, open| of.map_or(Some(open), |of| amount(of, factor));
                Some((end(low, f64::MIN)?, end(high, f64::MAX)?))
            };
            if let Some((from, to)) = ends(Decimal::ONE) {
                rows.written.extend(units(unit).into_iter().map(|unit| (from, to, unit)));
            }
            let (one, other) = (low.and_then(base), high.and_then(base));
            let is_same = one.is_none() || other.is_none() || one == other;
            if let Some((factor, unit)) = one.or(other).filter(|_| is_same)
                && let Some((from, to)) = ends(factor)
            {
                rows.canonical.push((from, to, unit));
            }
        }
        "Money" => {
            let currency = json.str_at(&["currency"]).unwrap_or_default();
            let unit = key::token("urn:iso:std:iso:4217", currency);
            rows.written.extend(amount(json, Decimal::ONE).map(|value| (value, value, unit)));
        }
        _ => {
            let open = |value: f64| match json.str_at(&["comparator"]) {
                Some("<" | "<=") => (f64::MIN, value),
                Some(">" | ">=") => (value, f64::MAX),
                _ => (value, value),
            };
            if let Some((low, high)) = amount(json, Decimal::ONE).map(open) {
                rows.written.extend(units(json).into_iter().map(|unit| (low, high, unit)));
            }
            if let Some((factor, unit)) = base(json)
                && let Some((low, high)) = amount(json, factor).map(open)
            {
                rows.canonical.push((low, high, unit));
            }
        }
    }
    rows.written.retain(|(low, high, _)| low <= high);
    rows.canonical.retain(|(low, high, _)| low <= high);
    rows
}

fn amount(quantity: &Json, factor: Decimal) -> Option<f64> {
    Some(Number::scaled(quantity.get("value")?.as_number()?, factor)?.value)
}

/// Factor to base units, and their key.
fn base(quantity: &Json) -> Option<(Decimal, String)> {
    let code = quantity.str_at(&["code"])?;
    (quantity.str_at(&["system"]) == Some(UCUM)).then_some(())?;
    let (factor, dimension) = canonical_unit(code)?;
    Some((factor, base_key(&dimension)))
}

fn base_key(dimension: &str) -> String {
    format!("{}{dimension}", key::SEPARATOR)
}

/// Unit keys of a quantity: the coded unit, and the printed one where it differs.
fn units(quantity: &Json) -> Vec<String> {
    let system = quantity.str_at(&["system"]).unwrap_or_default();
    let code = quantity.str_at(&["code"]);
    let unit = quantity.str_at(&["unit"]);
    let mut keys = Vec::new();
    keys.extend(code.map(|code| key::token(system, code)));
    keys.extend(unit.filter(|unit| Some(*unit) != code).map(|unit| key::token("", unit)));
    if keys.is_empty() {
        keys.push(String::new());
    }
    keys
}

/// The condition that a number compares with that of the search as the prefix says; `make` takes
/// the bounds of the least and those of the greatest.
pub(super) fn compare(
    prefix: Prefix,
    Number { value, interval: (from, to) }: Number,
    make: impl Fn([Bound<f64>; 2], [Bound<f64>; 2]) -> Condition,
) -> Condition {
    const ANY: [Bound<f64>; 2] = [Bound::Open, Bound::Open];
    match prefix {
        Prefix::Eq => {
            make([Bound::Included(from), Bound::Open], [Bound::Open, Bound::Excluded(to)])
        }
        Prefix::Ne => Condition::Any(vec![
            make([Bound::Open, Bound::Excluded(from)], ANY),
            make(ANY, [Bound::Included(to), Bound::Open]),
        ]),
        // gt and lt compare with the exact value: R4 gives implicit precision to equality only.
        Prefix::Gt => make(ANY, [Bound::Excluded(value), Bound::Open]),
        Prefix::Lt => make([Bound::Open, Bound::Excluded(value)], ANY),
        Prefix::Ge => make(ANY, [Bound::Included(value), Bound::Open]),
        Prefix::Le => make([Bound::Open, Bound::Included(value)], ANY),
        Prefix::Sa => make([Bound::Excluded(value), Bound::Open], ANY),
        Prefix::Eb => make(ANY, [Bound::Open, Bound::Excluded(value)]),
        Prefix::Ap => {
            let tenth = (value.abs() / 10.0).max(value - from);
            make(
                [Bound::Open, Bound::Included(value + tenth)],
                [Bound::Included(value - tenth), Bound::Open],
            )
        }
    }
}

/// A quantity as it is looked for.
pub(super) struct Amount {
    pub(super) prefix: Prefix,
    pub(super) number: Number,
    pub(super) unit: Option<Part>,
    /// The same in base units.
    pub(super) canonical: Option<(Number, Part)>,
}

impl Reader<'_> {
    pub(super) fn number(&self, asked: &Asked<'_>, value: &str) -> Result<Condition, Fault> {
        if asked.modifier.is_some() {
            return Err(asked.unknown_modifier("missing"));
        }
        let (prefix, number) = plain(asked, value)?;
        let code = asked.code();
        let make = |low, high| Condition::Number(code.to_owned(), low, high, None);
        Ok(compare(prefix, number, make))
    }

    pub(super) fn quantity(&self, asked: &Asked<'_>, value: &str) -> Result<Condition, Fault> {
        if asked.modifier.is_some() {
            return Err(asked.unknown_modifier("missing"));
        }
        let code = asked.code();
        let Amount { prefix, number, unit, canonical } = amount_of(asked, value)?;
        let make = |code: &str, number, unit: Option<Part>| {
            let unit = unit.map(|part| match part.whole {
                true => Pattern::Equal(part.text),
                false => Pattern::Begins(part.text),
            });
            compare(prefix, number, |low, high| {
                Condition::Number(code.to_owned(), low, high, unit.clone())
            })
        };
        let mut any = vec![make(code, number, unit)];
        if let Some((number, unit)) = canonical {
            any.push(make(&format!("{code}:canonical"), number, Some(unit)));
        }
        Ok(Condition::any(any))
    }
}

/// A prefix and a number.
pub(super) fn plain(asked: &Asked<'_>, value: &str) -> Result<(Prefix, Number), Fault> {
    let (prefix, text) = prefix(value);
    match Number::parse(text) {
        Some(number) => Ok((prefix, number)),
        None => Err(asked.expected("a number such as 5.4 or gt5.4")),
    }
}

/// `[prefix]number`, `[prefix]number|system|code` or `[prefix]number||code`.
pub(super) fn amount_of(asked: &Asked<'_>, value: &str) -> Result<Amount, Fault> {
    let wrong =
        || asked.expected("a quantity such as gt5.4, 5.4|http://unitsofmeasure.org|mg or 5.4||mg");
    let parts: Vec<String> = split(value, '|').into_iter().map(unescape).collect();
    let (text, unit) = match parts.as_slice() {
        [text] => (text, None),
        [text, system, code] if !code.is_empty() => (text, Some((system.as_str(), code.as_str()))),
        _ => return Err(wrong()),
    };
    let (prefix, text) = prefix(text);
    let number = Number::parse(text).ok_or_else(wrong)?;
    let canonical = match unit {
        Some((UCUM, code)) => canonical_unit(code).and_then(|(factor, dimension)| {
            Some((Number::scaled(text, factor)?, Part::whole(base_key(&dimension))))
        }),
        _ => None,
    };
    let unit = unit.map(|(system, code)| match system {
        "" => Part::begin(key::token("", code)),
        system => Part::whole(key::token(system, code)),
    });
    Ok(Amount { prefix, number, unit, canonical })
}
