//! The values under which a resource can be found: <https://hl7.org/fhir/R4/search.html#3.1.1.4>.
//!
//! Driven by the table of search parameters alone; there is no code for a resource type. Composite
//! parameters and `near` are not indexed.

use crate::Json;
use crate::datetime::{DateTime, Micros};
use crate::definitions::{Definitions, SearchKind};
use crate::path::{Context, Value};

use super::condition::{IndexRow, IndexValue};
use super::key::{self, Number};

/// Earliest and latest moment, for the open ends of a period.
const OPEN: (Micros, Micros) = (Micros::MIN, Micros::MAX);

/// All index rows of `resource`, without repeats. `base` is the service's own FHIR base URL, so
/// that absolute references to it equal relative ones. A parameter whose expression fails on this
/// resource has no rows.
pub fn index(definitions: &Definitions, base: &str, resource: &Json) -> Vec<IndexRow> {
    let Some(resource_type) = resource.str_at(&["resourceType"]) else { return Vec::new() };
    let focus = [Value::node(resource)];
    let context = Context {
        definitions,
        resource: Some(focus[0].clone()),
        variables: &[],
        now: None,
        resolve: None,
    };
    let mut rows = Rows { base, code: "", rows: Vec::new() };
    for parameter in definitions.search_parameters(resource_type) {
        // These two have columns of their own.
        if matches!(parameter.code.as_str(), "_id" | "_lastUpdated") {
            continue;
        }
        let Some(expression) = &parameter.expression else { continue };
        let Ok(values) = expression.evaluate(&context, &focus) else { continue };
        rows.code = &parameter.code;
        for value in &values {
            rows.add(parameter.kind, value);
        }
    }
    rows.rows
}

struct Rows<'a> {
    base: &'a str,
    code: &'a str,
    rows: Vec<IndexRow>,
}

impl Rows<'_> {
    fn add(&mut self, kind: SearchKind, value: &Value<'_>) {
        match kind {
            SearchKind::Token => self.token(value),
            SearchKind::Reference => self.reference(value),
            SearchKind::String => self.string(value),
            SearchKind::Uri => {
                if let Some(text) = value.as_str() {
                    self.key(text.into_owned());
                }
            }
            SearchKind::Date => self.date(value),
            // A number parameter finds numbers; a Range is for quantity parameters.
            SearchKind::Number if value.type_name() == "Range" => {}
            SearchKind::Number | SearchKind::Quantity => self.number(value),
            SearchKind::Composite | SearchKind::Special => {}
        }
    }

    fn push(&mut self, code: String, value: IndexValue) {
        let row = IndexRow { code, value };
        if !self.rows.contains(&row) {
            self.rows.push(row);
        }
    }

    fn key(&mut self, key: String) {
        self.push(self.code.to_owned(), IndexValue::Key(key));
    }

    fn token(&mut self, value: &Value<'_>) {
        let Some(json) = value.json().filter(|json| json.as_object().is_some()) else {
            if let Some(text) = primitive(value) {
                self.key(key::token("", &text));
            }
            return;
        };
        match value.type_name() {
            "CodeableConcept" => {
                for coding in json.list("coding") {
                    self.coding(coding, "code");
                }
                self.token_text(json.str_at(&["text"]));
            }
            "Identifier" => {
                self.coding(json, "value");
                self.token_text(json.str_at(&["type", "text"]));
                if let Some(text) = json.str_at(&["value"]) {
                    for coding in json.at(&["type"]).map_or(&[][..], |of| of.list("coding")) {
                        let of_type = key::token(
                            coding.str_at(&["system"]).unwrap_or_default(),
                            coding.str_at(&["code"]).unwrap_or_default(),
                        );
                        let key = format!("{of_type}{}{text}", key::SEPARATOR);
                        self.push(format!("{}:of-type", self.code), IndexValue::Key(key));
                    }
                }
            }
            "ContactPoint" => {
                if let Some(text) = json.str_at(&["value"]) {
                    self.key(key::token("", text));
                }
            }
            _ => self.coding(json, "code"),
        }
    }

    fn coding(&mut self, coding: &Json, member: &str) {
        let system = coding.str_at(&["system"]).unwrap_or_default();
        if let Some(code) = coding.str_at(&[member]) {
            self.key(key::token(system, code));
        }
        self.token_text(coding.str_at(&["display"]));
    }

    /// Texts of a token, for the modifier `:text`.
    fn token_text(&mut self, text: Option<&str>) {
        if let Some(text) = text {
            self.push(format!("{}:text", self.code), IndexValue::Key(key::string(text)));
        }
    }

    fn reference(&mut self, value: &Value<'_>) {
        match value.type_name() {
            "Reference" => {
                let Some(json) = value.json() else { return };
                if let Some(text) = json.str_at(&["reference"])
                    && let Some(key) = reference_key(self.base, text)
                {
                    self.key(key);
                }
                if let Some(identifier) = json.get("identifier")
                    && let Some(text) = identifier.str_at(&["value"])
                {
                    let system = identifier.str_at(&["system"]).unwrap_or_default();
                    let key = key::token(system, text);
                    self.push(format!("{}:identifier", self.code), IndexValue::Key(key));
                }
            }
            "canonical" => {
                let Some(text) = value.as_str() else { return };
                let text = text.split('#').next().unwrap_or_default();
                let (url, version) = text.split_once('|').unwrap_or((text, ""));
                self.key(key::canonical(url, version));
            }
            // A few parameters name whole resources (Bundle.message) or plain urls.
            _ => {
                if let Some(json) = value.json()
                    && let (Some(of), Some(id)) =
                        (json.str_at(&["resourceType"]), json.str_at(&["id"]))
                {
                    self.key(format!("{of}/{id}"));
                } else if let Some(text) = value.as_str() {
                    self.key(key::canonical(&text, ""));
                }
            }
        }
    }

    fn string(&mut self, value: &Value<'_>) {
        let Some(json) = value.json().filter(|json| json.as_object().is_some()) else {
            if let Some(text) = value.as_str() {
                self.key(key::string(&text));
            }
            return;
        };
        let parts: &[&str] = match value.type_name() {
            "HumanName" => &["family", "given", "prefix", "suffix", "text"],
            "Address" => &["line", "city", "district", "state", "postalCode", "country", "text"],
            _ => &["text", "display", "value"],
        };
        for part in parts {
            for text in json.list(part).iter().filter_map(Json::as_str) {
                self.key(key::string(text));
            }
        }
    }

    fn date(&mut self, value: &Value<'_>) {
        let bounds = match (value.type_name(), value.json()) {
            ("Period", Some(json)) => period(json),
            ("Timing", Some(json)) => timing(json),
            _ => value.as_str().and_then(|text| Some(DateTime::parse(&text)?.bounds())),
        };
        if let Some((low, high)) = bounds {
            self.push(self.code.to_owned(), IndexValue::Date(low, high));
        }
    }

    fn number(&mut self, value: &Value<'_>) {
        let Some(json) = value.json().filter(|json| json.as_object().is_some()) else {
            if let Some(number) = primitive(value).and_then(|text| Number::parse(&text)) {
                self.number_row(number.value, number.value, String::new());
            }
            return;
        };
        let exact = |json: &Json| Some(Number::parse(json.get("value")?.as_number()?)?.value);
        match value.type_name() {
            "Range" => {
                let low = json.get("low").and_then(exact).unwrap_or(f64::MIN);
                let high = json.get("high").and_then(exact).unwrap_or(f64::MAX);
                let unit = json.get("low").or_else(|| json.get("high"));
                for unit in unit.map_or_else(Vec::new, units) {
                    self.number_row(low, high, unit);
                }
            }
            "Money" => {
                if let Some(value) = exact(json) {
                    let currency = json.str_at(&["currency"]).unwrap_or_default();
                    self.number_row(value, value, key::token("urn:iso:std:iso:4217", currency));
                }
            }
            _ => {
                let Some(value) = exact(json) else { return };
                let (low, high) = match json.str_at(&["comparator"]) {
                    Some("<" | "<=") => (f64::MIN, value),
                    Some(">" | ">=") => (value, f64::MAX),
                    _ => (value, value),
                };
                for unit in units(json) {
                    self.number_row(low, high, unit);
                }
            }
        }
    }

    fn number_row(&mut self, low: f64, high: f64, unit: String) {
        self.push(self.code.to_owned(), IndexValue::Number(low, high, unit));
    }
}

/// Unit keys of a quantity: the coded unit, and the printed one where it differs.
fn units(quantity: &Json) -> Vec<String> {
    let system = quantity.str_at(&["system"]).unwrap_or_default();
    let code = quantity.str_at(&["code"]);
    let unit = quantity.str_at(&["unit"]);
    let mut keys = Vec::new();
    if let Some(code) = code {
        keys.push(key::token(system, code));
    }
    if let Some(unit) = unit.filter(|unit| Some(*unit) != code) {
        keys.push(key::token("", unit));
    }
    if keys.is_empty() {
        keys.push(String::new());
    }
    keys
}

/// Text of a primitive of any kind.
fn primitive(value: &Value<'_>) -> Option<String> {
    match value.to_json() {
        Json::String(text) | Json::Number(text) => Some(text.into()),
        Json::Bool(value) => Some(value.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

fn period(json: &Json) -> Option<(Micros, Micros)> {
    let bounds = |name| DateTime::parse(json.str_at(&[name])?).map(|value| value.bounds());
    let (start, end) = (bounds("start"), bounds("end"));
    if start.is_none() && end.is_none() {
        return None;
    }
    Some((start.map_or(OPEN.0, |start| start.0), end.map_or(OPEN.1, |end| end.1)))
}

fn timing(json: &Json) -> Option<(Micros, Micros)> {
    let events = json.list("event").iter().filter_map(Json::as_str);
    let outer = events
        .filter_map(DateTime::parse)
        .map(|event| event.bounds())
        .reduce(|outer, event| (outer.0.min(event.0), outer.1.max(event.1)));
    outer.or_else(|| period(json.at(&["repeat", "boundsPeriod"])?))
}

/// Key of a reference's text: `Type/id` when it is ours, the text itself when it is elsewhere,
/// `None` for a contained resource.
pub fn reference_key(base: &str, text: &str) -> Option<String> {
    if text.starts_with('#') || text.is_empty() {
        return None;
    }
    let ours = text.strip_prefix(base).and_then(|rest| rest.strip_prefix('/'));
    let relative = ours.unwrap_or(text);
    let mut parts = relative.split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(of), Some(id), None | Some("_history"), _)
            if of.starts_with(|c: char| c.is_ascii_uppercase()) && !id.is_empty() =>
        {
            Some(format!("{of}/{id}"))
        }
        _ => Some(text.to_owned()),
    }
}
