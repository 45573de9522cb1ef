//! What a search asks for, once read: <https://hl7.org/fhir/R4/search.html#3.1.1>.
//!
//! A store turns a [`Query`] into its own language; it needs no knowledge of FHIR for that beyond
//! the three shapes of an indexed value.
//!
//! **Keys.** Tokens, references, uris and strings are indexed as one text each, whose byte order is
//! meaningful:
//!
//! | type | key |
//! | --- | --- |
//! | token | `code U+0001 system`, system empty when there is none |
//! | reference | `Type/id` for one of our own, else the absolute url; a canonical `url U+0001 version` |
//! | uri | the uri |
//! | string | text folded to lower case without accents, `U+0001`, then the text as written |

use crate::datetime::Micros;

/// Names one search parameter of one resource type, for example (`Observation`, `code`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParameterKey {
    /// Resource type that is searched; never an abstract one.
    pub resource_type: String,
    /// The parameter's `code`.
    pub code: String,
}

/// One value under which a resource can be found.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexRow {
    /// The parameter's `code`; the type is that of the resource.
    pub code: String,
    /// The value.
    pub value: IndexValue,
}

/// The three shapes of an indexed value.
#[derive(Clone, Debug, PartialEq)]
pub enum IndexValue {
    /// A token, reference, uri or string in key form.
    Key(String),
    /// A date or period: first and last microsecond, both included.
    Date(Micros, Micros),
    /// A number or quantity: the interval of its written precision and its unit in key form
    /// (`code U+0001 system`, empty for a plain number).
    Number(f64, f64, String),
}

/// One end of an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound<T> {
    /// No limit.
    Open,
    /// From or up to this value, included.
    Included(T),
    /// From or up to this value, not included.
    Excluded(T),
}

/// A truth about a resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// All of them hold; no conditions hold always.
    All(Vec<Condition>),
    /// One of them holds; no conditions hold never.
    Any(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// The resource has one of these ids.
    Id(Vec<String>),
    /// The resource was last updated within these bounds.
    LastUpdated(Bound<Micros>, Bound<Micros>),
    /// A key of the parameter lies between the bounds (byte order).
    Key(String, Bound<String>, Bound<String>),
    /// A key of the parameter has this text somewhere before its `U+0001`.
    KeyContains(String, String),
    /// A key of the parameter ends with this text (used for `system|` without a code).
    KeyEnds(String, String),
    /// An interval of the date parameter has its start within the first pair of bounds and its
    /// end within the second.
    Date(String, [Bound<Micros>; 2], [Bound<Micros>; 2]),
    /// The same for a number parameter; with a text, the unit key must equal it, or begin with it
    /// when it ends with `U+0001`.
    Number(String, [Bound<f64>; 2], [Bound<f64>; 2], Option<String>),
    /// The parameter has any value at all.
    Present(String),
    /// The reference parameter `.0` points at a resource of type `.1` for which `.2` holds.
    Refers(String, String, Box<Condition>),
    /// A resource of type `.0` points here with its reference parameter `.1`, and `.2` holds for it.
    ReferredBy(String, String, Box<Condition>),
}

/// Which way to sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Direction {
    Ascending,
    Descending,
}

/// One sort key. Resources without a value come last in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sort {
    /// By the logical id.
    Id(Direction),
    /// By `meta.lastUpdated`.
    LastUpdated(Direction),
    /// By the least (ascending) or greatest (descending) key of a parameter.
    Key(String, Direction),
    /// By the earliest start (ascending) or latest end (descending) of a date parameter.
    Date(String, Direction),
    /// By the least or greatest number.
    Number(String, Direction),
}

/// A search for resources of one type.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The type that is searched.
    pub resource_type: String,
    /// What must hold.
    pub condition: Condition,
    /// Order of the matches; ties, and no sort at all, follow the order of storage.
    pub sort: Vec<Sort>,
    /// Greatest number of matches on one page.
    pub count: usize,
    /// Where the page begins: the opaque cursor that an earlier page gave.
    pub cursor: Option<String>,
    /// Whether the number of all matches is wanted.
    pub total: bool,
}
