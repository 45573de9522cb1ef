//! The values under which a resource can be found: <https://hl7.org/fhir/R4/search.html#3.1.1.4>.
//!
//! Driven by the table of search parameters alone; there is no code for a resource type but for
//! `near`, which R4 defines for Location only.

use std::cmp::Ordering;

use crate::Json;
use crate::definitions::{Definitions, SearchKind, SearchParameter};
use crate::path::{Context, Value};

use super::condition::{IndexRow, IndexValue};
use super::contained::{Inside, is_indexed};
use super::near::{LONGITUDE, position};
use super::{composite, date, quantity, reference, string, token, uri};

/// All index rows of `resource`, in order and without repeats. `base` is the service's own FHIR
/// base URL, so that absolute references to it equal relative ones. A parameter whose expression
/// fails on this resource has no rows.
pub fn index(definitions: &Definitions, base: &str, resource: &Json) -> Vec<IndexRow> {
    let inside = Inside::of(definitions, resource);
    let mut rows = own(definitions, base, resource, &inside, |_| true);
    let contained = inside.rows(&rows, |inner| own(definitions, base, inner, &inside, is_indexed));
    rows.extend(contained);
    rows.sort_by(order);
    rows.dedup();
    rows
}

/// The rows of a resource itself, by some of the parameters. `inside` is what its references may
/// mean by `#id`.
pub(super) fn own(
    definitions: &Definitions,
    base: &str,
    resource: &Json,
    inside: &Inside<'_>,
    is_wanted: impl Fn(&SearchParameter) -> bool,
) -> Vec<IndexRow> {
    let Some(resource_type) = resource.str_at(&["resourceType"]) else { return Vec::new() };
    let focus = [Value::node(resource)];
    let context = Context {
        resource: focus.first().cloned(),
        // Whose contained resources `resolve()` finds.
        root_resource: Some(Value::node(inside.container)),
        ..Context::new(definitions)
    };
    let mut rows = Rows { base, inside, code: "", rows: Vec::new() };
    for parameter in definitions.search_parameters(resource_type).filter(|one| is_wanted(one)) {
        // These two have columns of their own.
        if matches!(parameter.code.as_str(), "_id" | "_lastUpdated") {
            continue;
        }
        let Some(expression) = &parameter.expression else { continue };
        let Ok(values) = expression.evaluate(&context, &focus) else { continue };
        rows.code = &parameter.code;
        let before = rows.rows.len();
        for value in &values {
            match parameter.kind {
                SearchKind::Composite => rows.composite(&context, parameter, value),
                kind => rows.add(kind, value),
            }
        }
        // A value that has no key, such as a concept of words only, is there all the same.
        let code = &parameter.code;
        let is_found = rows.rows[before..].iter().any(|row| row.code == *code);
        let is_there = parameter.kind != SearchKind::Composite && values.iter().any(has_value);
        if is_there && !is_found {
            rows.key(String::new());
        }
    }
    rows.rows
}

/// Whether it is more than the id or extensions of a primitive.
fn has_value(value: &Value<'_>) -> bool {
    value.json().is_none_or(|json| !matches!(json, Json::Null))
}

fn order(one: &IndexRow, two: &IndexRow) -> Ordering {
    let value = || match (&one.value, &two.value) {
        (IndexValue::Key(one), IndexValue::Key(two)) => one.cmp(two),
        (IndexValue::Date(low, high), IndexValue::Date(from, to)) => {
            low.cmp(from).then(high.cmp(to))
        }
        (IndexValue::Number(low, high, unit), IndexValue::Number(from, to, of)) => {
            low.total_cmp(from).then(high.total_cmp(to)).then_with(|| unit.cmp(of))
        }
        (one, two) => rank(one).cmp(&rank(two)),
    };
    one.code.cmp(&two.code).then_with(value)
}

fn rank(value: &IndexValue) -> u8 {
    match value {
        IndexValue::Key(_) => 0,
        IndexValue::Date(..) => 1,
        IndexValue::Number(..) => 2,
    }
}

struct Rows<'a> {
    base: &'a str,
    inside: &'a Inside<'a>,
    code: &'a str,
    rows: Vec<IndexRow>,
}

impl<'a> Rows<'a> {
    fn add(&mut self, kind: SearchKind, value: &Value<'_>) {
        match kind {
            SearchKind::Token => {
                let keys = token::keys(value);
                self.keys("", keys.codes);
                self.keys(":text", keys.texts);
                self.keys(":of-type", keys.of_type);
            }
            SearchKind::Reference => {
                let keys = reference::keys(self.base, value);
                self.keys("", keys.references);
                let text = reference::text(value);
                self.keys("", text.and_then(|text| self.inside.key(&text)).into_iter().collect());
                self.keys(":identifier", keys.identifiers);
            }
            SearchKind::String => self.keys("", string::keys(self.code, value)),
            SearchKind::Uri => self.keys("", uri::keys(value)),
            SearchKind::Date => {
                if let Some((low, high)) = date::bounds(value) {
                    self.push("", IndexValue::Date(low, high));
                }
            }
            // A number parameter finds numbers; a Range is for quantity parameters.
            SearchKind::Number => {
                if let Some(number) = quantity::number(value) {
                    self.push("", IndexValue::Number(number, number, String::new()));
                }
            }
            SearchKind::Quantity => {
                let rows = quantity::rows(value);
                for (suffix, rows) in [("", rows.written), (":canonical", rows.canonical)] {
                    for (low, high, unit) in rows {
                        self.push(suffix, IndexValue::Number(low, high, unit));
                    }
                }
            }
            SearchKind::Special => {
                if let Some((latitude, longitude)) = position(value) {
                    self.push("", IndexValue::Number(latitude, latitude, String::new()));
                    let value = IndexValue::Number(longitude, longitude, String::new());
                    self.rows.push(IndexRow { code: LONGITUDE.to_owned(), value });
                }
            }
            SearchKind::Composite => {}
        }
    }

    fn composite(
        &mut self,
        context: &Context<'a>,
        parameter: &'a SearchParameter,
        item: &Value<'a>,
    ) {
        for (value, in_base_units) in composite::values(context, self.base, parameter, item) {
            self.push(if in_base_units { ":canonical" } else { "" }, value);
        }
    }

    fn keys(&mut self, suffix: &str, keys: Vec<String>) {
        for key in keys {
            self.push(suffix, IndexValue::Key(key));
        }
    }

    fn key(&mut self, key: String) {
        self.push("", IndexValue::Key(key));
    }

    fn push(&mut self, suffix: &str, value: IndexValue) {
        self.rows.push(IndexRow { code: format!("{}{suffix}", self.code), value });
    }
}
