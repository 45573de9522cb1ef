//! Composite parameters: <https://hl7.org/fhir/R4/search.html#composite>.
//!
//! The parts must hold for one item of the parameter's expression, so each item is indexed as one
//! value. The first part is a text. With a second text it makes one key; with a date, a number or
//! a quantity the first part's key stands before the unit; two numbers are the ends of one
//! interval. Composites of other parts are not offered.

use crate::definitions::{Component, SearchKind, SearchParameter};
use crate::path::{Context, Value};

use super::condition::{Bound, Condition, IndexValue, Pattern};
use super::date::{self, Prefix};
use super::escape::{split, unescape};
use super::fault::Fault;
use super::key::{self, PART, SEPARATOR};
use super::quantity::{self, Amount};
use super::query::{Asked, Reader};
use super::reference::{self, Part};
use super::token::{self, Token};
use super::{string, uri};

/// Most values of one item: each combination of its parts is one.
const MAX_COMBINATIONS: usize = 1000;

/// What follows the first part.
enum Rest<'a> {
    Text(&'a Component),
    Date(&'a Component),
    Number(&'a Component),
    Interval(&'a Component, &'a Component),
}

/// The parts of a composite, if it is one of those that are offered.
fn parts(components: &[Component]) -> Option<(&Component, Rest<'_>)> {
    let is_text = |part: &Component| {
        matches!(
            part.kind,
            SearchKind::Token | SearchKind::String | SearchKind::Uri | SearchKind::Reference
        )
    };
    match components {
        [first, second] if is_text(first) => match second.kind {
            SearchKind::Date => Some((first, Rest::Date(second))),
            SearchKind::Number | SearchKind::Quantity => Some((first, Rest::Number(second))),
            _ => is_text(second).then_some((first, Rest::Text(second))),
        },
        [first, from, to]
            if is_text(first)
                && from.kind == SearchKind::Number
                && to.kind == SearchKind::Number =>
        {
            Some((first, Rest::Interval(from, to)))
        }
        _ => None,
    }
}

/// Whether a composite of these parts is offered.
pub(crate) fn is_offered(components: &[Component]) -> bool {
    parts(components).is_some()
}

/// The values of one item of the parameter's expression, each with whether it is in base units.
pub(super) fn values<'a>(
    context: &Context<'a>,
    base: &str,
    parameter: &'a SearchParameter,
    item: &Value<'a>,
) -> Vec<(IndexValue, bool)> {
    let Some((first, rest)) = parts(&parameter.components) else { return Vec::new() };
    let focus = [item.clone()];
    let of = |part: &'a Component| part.expression.evaluate(context, &focus).unwrap_or_default();
    let mut values = Vec::new();
    let mut rest: Vec<(Second, bool)> = match rest {
        Rest::Text(part) => of(part)
            .iter()
            .flat_map(|v| texts(base, part, v))
            .map(|key| (Second::Key(key), false))
            .collect(),
        Rest::Date(part) => of(part)
            .iter()
            .filter_map(date::bounds)
            .map(|(low, high)| (Second::Number(low as f64, high as f64, None), false))
            .collect(),
        Rest::Number(part) => of(part)
            .iter()
            .flat_map(|value| {
                let rows = quantity::rows(value);
                let written = rows.written.into_iter().map(|row| (row, false));
                written.chain(rows.canonical.into_iter().map(|row| (row, true)))
            })
            .map(|((low, high, unit), base)| (Second::Number(low, high, Some(unit)), base))
            .collect(),
        Rest::Interval(from, to) => {
            let one = |part| of(part).first().and_then(quantity::number);
            match (one(from), one(to)) {
                (Some(low), Some(high)) if low <= high => {
                    vec![(Second::Number(low, high, None), false)]
                }
                _ => Vec::new(),
            }
        }
    };
    if rest.is_empty() {
        return values;
    }
    let firsts: Vec<String> = of(first).iter().flat_map(|v| texts(base, first, v)).collect();
    rest.truncate(MAX_COMBINATIONS);
    for first in &firsts {
        for (rest, base_units) in &rest {
            if values.len() == MAX_COMBINATIONS {
                return values;
            }
            let value = match rest {
                Second::Key(key) => IndexValue::Key(key::composite(first, key)),
                Second::Number(low, high, unit) => {
                    let unit = key::composite(first, unit.as_deref().unwrap_or_default());
                    IndexValue::Number(*low, *high, unit)
                }
            };
            values.push((value, *base_units));
        }
    }
    values
}

/// A value of the second part.
enum Second {
    Key(String),
    Number(f64, f64, Option<String>),
}

fn texts(base: &str, part: &Component, value: &Value<'_>) -> Vec<String> {
    match part.kind {
        SearchKind::Token => token::keys(value).codes,
        SearchKind::String => string::keys("", value),
        SearchKind::Uri => uri::keys(value),
        SearchKind::Reference => reference::keys(base, value).references,
        _ => Vec::new(),
    }
}

/// The texts that begin with the first part and go on with the second, if there is one.
fn pattern(first: &Part, second: Option<&Part>) -> Pattern {
    let begin = &first.text;
    match (first.whole, second) {
        (true, None) => Pattern::Begins(format!("{begin}{PART}")),
        (false, None) => Pattern::Begins(begin.clone()),
        (true, Some(second)) => {
            let text = key::composite(begin, &second.text);
            if second.whole { Pattern::Equal(text) } else { Pattern::Begins(text) }
        }
        (false, Some(second)) => {
            let text = format!("{PART}{}", second.text);
            match second.whole {
                true => Pattern::Ends(begin.clone(), text),
                false => Pattern::Has(begin.clone(), text),
            }
        }
    }
}

impl Reader<'_> {
    pub(super) fn composite(&self, asked: &Asked<'_>, value: &str) -> Result<Condition, Fault> {
        if asked.modifier.is_some() {
            return Err(asked.unknown_modifier("missing"));
        }
        let code = asked.code();
        let components = &asked.parameter.components;
        let Some((first, rest)) = parts(components) else {
            return Err(asked.unsupported(
                "this composite parameter is not offered; search for its parts one by one",
            ));
        };
        let values = split(value, '$');
        let wrong = || {
            asked.expected(&format!(
                "{} parts with $ between them, as in http://loinc.org|8480-6$gt100; a $ within a part is written \\$",
                components.len()
            ))
        };
        if values.len() != components.len() || values.iter().any(|part| part.is_empty()) {
            return Err(wrong());
        }
        let (head, tail) = values.split_first().ok_or_else(wrong)?;
        let second = tail.first().copied().unwrap_or_default();
        let firsts = self.part(asked, first, head)?;
        let mut parameters = self.definitions.search_parameters(asked.resource_type);
        let alone = parameters.find(|known| known.url == first.definition);
        let is_interval = !matches!(rest, Rest::Text(_));
        let mut any = Vec::new();
        match rest {
            Rest::Text(part) => {
                let seconds = self.part(asked, part, second)?;
                for first in &firsts {
                    for second in &seconds {
                        any.push(match pattern(first, Some(second)) {
                            Pattern::Equal(text) => Condition::key(code, text),
                            Pattern::Begins(text) => Condition::key_begins(code, &text),
                            pattern => Condition::KeyLike(code.to_owned(), pattern),
                        });
                    }
                }
            }
            Rest::Date(_) => {
                let (prefix, (low, high)) = self.moment(asked, second)?;
                for first in &firsts {
                    any.push(date::compare(prefix, (low as f64, high as f64), |start, end| {
                        Condition::Number(code.to_owned(), start, end, Some(pattern(first, None)))
                    }));
                }
            }
            Rest::Number(_) => {
                let Amount { prefix, number, unit, canonical } =
                    quantity::amount_of(asked, second)?;
                let base = canonical
                    .map(|(number, unit)| (format!("{code}:canonical"), number, Some(unit)));
                let forms = [Some((code.to_owned(), number, unit)), base];
                for (code, number, unit) in forms.into_iter().flatten() {
                    for first in &firsts {
                        let pattern = pattern(first, unit.as_ref());
                        any.push(quantity::compare(prefix, number, |low, high| {
                            Condition::Number(code.clone(), low, high, Some(pattern.clone()))
                        }));
                    }
                }
            }
            Rest::Interval(..) => {
                let (low, high) = (end(asked, second)?, end(asked, tail.get(1).unwrap_or(&""))?);
                for first in &firsts {
                    let unit = Some(pattern(first, None));
                    any.push(Condition::Number(code.to_owned(), low, high, unit));
                }
            }
        }
        let both = Condition::any(any);
        Ok(match alone.filter(|_| is_interval) {
            // What has both parts has the first, whose key leads a store to it sooner.
            Some(alone) => {
                let firsts = firsts.into_iter().map(|first| first.condition(&alone.code));
                Condition::All(vec![Condition::any(firsts.collect()), both])
            }
            None => both,
        })
    }

    /// The keys that a text part may have.
    fn part(&self, asked: &Asked<'_>, part: &Component, value: &str) -> Result<Vec<Part>, Fault> {
        match part.kind {
            SearchKind::Token => match Token::read(value) {
                Some(Token::Code(code)) => Ok(vec![Part::begin(format!("{code}{SEPARATOR}"))]),
                Some(Token::Coding((system, code))) => {
                    Ok(vec![Part::whole(key::token(&system, &code))])
                }
                _ => Err(asked.expected(
                    "code, system|code or |code in a part that is a token, as in http://loinc.org|8480-6$gt100",
                )),
            },
            SearchKind::Reference => self.references(asked, &part.target, value),
            SearchKind::String => match key::fold(unescape(value).trim()) {
                text if text.is_empty() => Err(asked.expected("a text in each part that is one")),
                text => Ok(vec![Part::begin(text)]),
            },
            _ => Ok(vec![Part::whole(unescape(value))]),
        }
    }
}

/// The bounds of one end of an interval.
fn end(asked: &Asked<'_>, value: &str) -> Result<[Bound<f64>; 2], Fault> {
    let (prefix, number) = quantity::plain(asked, value)?;
    let (from, to) = number.interval;
    Ok(match prefix {
        Prefix::Eq => [Bound::Included(from), Bound::Excluded(to)],
        Prefix::Gt | Prefix::Sa => [Bound::Excluded(number.value), Bound::Open],
        Prefix::Ge => [Bound::Included(number.value), Bound::Open],
        Prefix::Lt | Prefix::Eb => [Bound::Open, Bound::Excluded(number.value)],
        Prefix::Le => [Bound::Open, Bound::Included(number.value)],
        Prefix::Ne | Prefix::Ap => {
            return Err(
                asked.unsupported("the ends of an interval are compared by eq, gt, ge, lt and le")
            );
        }
    })
}
