//! The items of a collection: <https://hl7.org/fhirpath/N1/#path-selection>.

use std::borrow::Cow;

use rust_decimal::Decimal;

use super::temporal::Temporal;
use crate::definitions::{Definitions, Kind, System, Type};
use crate::{Json, Object, json};

/// One item of a collection.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// A part of a tree.
    Node(Node<'a>),
    /// `System.Boolean`.
    Boolean(bool),
    /// `System.String`.
    String(Cow<'a, str>),
    /// `System.Integer`.
    Integer(i64),
    /// `System.Decimal`; the written precision is kept.
    Decimal(Decimal),
    /// `System.Date`.
    Date(Temporal),
    /// `System.DateTime`.
    DateTime(Temporal),
    /// `System.Time`.
    Time(Temporal),
    /// `System.Quantity`.
    Quantity(Quantity<'a>),
    /// What `type()` gives.
    Type {
        /// `System` or `FHIR`.
        namespace: &'static str,
        /// Name of the type.
        name: Cow<'a, str>,
    },
}

/// An amount with a unit.
#[derive(Clone, Debug)]
pub struct Quantity<'a> {
    /// The amount.
    pub value: Decimal,
    /// A UCUM code, or a calendar unit in the singular (`year` … `millisecond`).
    pub unit: Cow<'a, str>,
}

/// A part of a tree.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// `Json::Null` for a primitive that has only an id or extensions.
    pub(super) json: &'a Json,
    /// The id and extensions of a primitive (the member `_name`).
    pub(super) sibling: Option<&'a Json>,
    pub(super) typing: Typing<'a>,
}

/// What is known about the type of a node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Typing<'a> {
    /// The start of a tree; `resourceType` tells, if there is one.
    Open,
    /// No definition is known: leaves have the types of FHIRPath.
    Unknown,
    Known(&'a Type),
    /// A reference whose target is not at hand, but whose text names the target's type.
    Unresolved(&'a Type),
}

/// The value of a primitive that has none.
pub(super) static NULL: Json = Json::Null;

impl<'a> Value<'a> {
    /// A tree, typed by its `resourceType`; without one its leaves have FHIRPath's own types.
    pub fn node(json: &'a Json) -> Value<'a> {
        Value::Node(Node { json, sibling: None, typing: Typing::Open })
    }

    /// A part of a tree whose type is known: the name of a type or the path of a backbone
    /// element (`Patient.contact`). An unknown name leaves it untyped.
    pub fn typed(definitions: &'a Definitions, json: &'a Json, name: &str) -> Value<'a> {
        let typing = definitions.type_of(name).map_or(Typing::Unknown, Typing::Known);
        Value::Node(Node { json, sibling: None, typing })
    }

    /// A part of a tree with its type at hand.
    pub fn of(json: &'a Json, kind: &'a Type) -> Value<'a> {
        Value::Node(Node { json, sibling: None, typing: Typing::Known(kind) })
    }

    /// The same with the member `_name` that holds a primitive's id and extensions.
    pub fn with_sibling(self, sibling: Option<&'a Json>) -> Value<'a> {
        match self {
            Value::Node(node) => Value::Node(Node { sibling, ..node }),
            other => other,
        }
    }

    /// The tree itself or the JSON of a primitive: dates and times as text, a quantity as
    /// `Quantity`.
    pub fn to_json(&self) -> Json {
        match self {
            Value::Node(node) => node.json.clone(),
            Value::Boolean(value) => Json::Bool(*value),
            Value::String(text) => Json::from(text.as_ref()),
            Value::Integer(value) => Json::from(*value),
            Value::Decimal(value) => number(value),
            Value::Date(value) | Value::DateTime(value) => Json::from(value.to_string()),
            Value::Time(value) => Json::from(value.time_text()),
            Value::Quantity(quantity) => quantity.to_json(),
            Value::Type { namespace, name } => {
                json!({"namespace": (*namespace), "name": (name.as_ref())})
            }
        }
    }

    /// The text of a string, date or time; `None` for everything else.
    pub fn as_str(&self) -> Option<Cow<'a, str>> {
        match self {
            Value::Node(node) => node.json.as_str().map(Cow::Borrowed),
            Value::String(text) => Some(text.clone()),
            Value::Date(value) | Value::DateTime(value) => Some(value.to_string().into()),
            Value::Time(value) => Some(value.time_text().into()),
            _ => None,
        }
    }

    /// Name of the type: `Patient`, `HumanName`, `code`, `BackboneElement`, `System.String`; for
    /// an untyped tree `System.Any`.
    pub fn type_name(&self) -> &'a str {
        match self {
            Value::Node(node) => node.type_name(),
            Value::Boolean(_) => "System.Boolean",
            Value::String(_) => "System.String",
            Value::Integer(_) => "System.Integer",
            Value::Decimal(_) => "System.Decimal",
            Value::Date(_) => "System.Date",
            Value::DateTime(_) => "System.DateTime",
            Value::Time(_) => "System.Time",
            Value::Quantity(_) => "System.Quantity",
            Value::Type { .. } => "System.TypeInfo",
        }
    }

    /// The tree, if it is a part of one.
    pub fn json(&self) -> Option<&'a Json> {
        match self {
            Value::Node(node) => Some(node.json),
            _ => None,
        }
    }

    /// The id and extensions of a primitive, if it is a part of a tree and has any.
    pub fn sibling(&self) -> Option<&'a Json> {
        match self {
            Value::Node(node) => node.sibling,
            _ => None,
        }
    }

    pub(super) fn is_unresolved(&self) -> bool {
        matches!(self, Value::Node(Node { typing: Typing::Unresolved(_), .. }))
    }

    /// The text of a value that is a string in FHIRPath, too, and no date or time.
    pub(super) fn plain_text(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            Value::Node(Node { json: Json::String(text), typing, .. }) => match typing {
                Typing::Known(kind) if kind.system != System::String => None,
                _ => Some(text),
            },
            _ => None,
        }
    }

    /// The value with FHIRPath's own type, if it has one; a primitive whose text does not fit its
    /// type is a string, and a tree stays as it is.
    pub fn to_system(&self) -> Value<'a> {
        match self {
            Value::Node(node) => node.to_system().unwrap_or_else(|| self.clone()),
            other => other.clone(),
        }
    }
}

impl<'a> Node<'a> {
    fn type_name(&self) -> &'a str {
        match self.typing {
            Typing::Known(kind) if kind.kind == Kind::Backbone => "BackboneElement",
            Typing::Known(kind) | Typing::Unresolved(kind) => kind.name,
            Typing::Open | Typing::Unknown => match self.json {
                Json::Object(_) => self.json.str_at(&["resourceType"]).unwrap_or("System.Any"),
                Json::String(_) => "System.String",
                Json::Bool(_) => "System.Boolean",
                Json::Number(text) if is_integer(text) => "System.Integer",
                Json::Number(_) => "System.Decimal",
                Json::Null | Json::Array(_) => "System.Any",
            },
        }
    }

    fn to_system(self) -> Option<Value<'a>> {
        let system = match self.typing {
            Typing::Known(kind) => kind.system,
            _ => System::None,
        };
        match self.json {
            Json::Bool(value) => Some(Value::Boolean(*value)),
            Json::String(text) => Some(string(text, system)),
            Json::Number(text) => number_value(text, system),
            Json::Object(object) if system == System::Quantity => {
                quantity(object).map(Value::Quantity)
            }
            _ => None,
        }
    }

    /// Whether it is a leaf with a value.
    pub(super) fn has_value(&self) -> bool {
        matches!(self.json, Json::Bool(_) | Json::Number(_) | Json::String(_))
    }
}

impl Quantity<'_> {
    fn to_json(&self) -> Json {
        let mut quantity = Object::new();
        quantity.set("value", number(&self.value));
        let calendar = super::units::calendar_unit(&self.unit);
        if calendar.is_some() {
            quantity.set("unit", self.unit.as_ref());
        }
        quantity.set("system", "http://unitsofmeasure.org");
        quantity.set("code", calendar.unwrap_or(&self.unit));
        Json::Object(quantity)
    }
}

fn string(text: &str, system: System) -> Value<'_> {
    let temporal = match system {
        System::Date => Temporal::parse_date(text).map(Value::Date),
        System::DateTime => Temporal::parse_date_time(text).map(Value::DateTime),
        System::Time => Temporal::parse_time(text).map(Value::Time),
        _ => None,
    };
    temporal.unwrap_or(Value::String(Cow::Borrowed(text)))
}

fn number_value(text: &str, system: System) -> Option<Value<'_>> {
    if system != System::Decimal
        && is_integer(text)
        && let Ok(value) = text.parse()
    {
        return Some(Value::Integer(value));
    }
    decimal(text).map(Value::Decimal)
}

fn is_integer(text: &str) -> bool {
    !text.contains(['.', 'e', 'E'])
}

/// The number that a text in JSON's notation means, rounded if it has more than 28 digits; `None`
/// if it is too large.
pub(super) fn decimal(text: &str) -> Option<Decimal> {
    match text.contains(['e', 'E']) {
        true => Decimal::from_scientific(text).ok(),
        false => text.parse().ok(),
    }
}

pub(super) fn number(value: &Decimal) -> Json {
    Json::Number(compact_str::format_compact!("{value}"))
}

/// A FHIR Quantity; its code is UCUM's, else the unit is taken by its name.
fn quantity(object: &Object) -> Option<Quantity<'_>> {
    let value = decimal(object.get("value")?.as_number()?)?;
    let unit = ["code", "unit"].iter().find_map(|name| object.get(name)?.as_str());
    Some(Quantity { value, unit: Cow::Borrowed(unit.unwrap_or("1")) })
}
