//! What a search asks for, once read: <https://hl7.org/fhir/R4/search.html#3.1.1>.
//!
//! A store turns a [`Query`] into its own language; it needs no knowledge of FHIR for that beyond
//! the three shapes of an indexed value. [`index`](super::index()) says which rows a value has.
//!
//! **Keys.** Tokens, references, uris and strings are indexed as one text each, whose byte order is
//! meaningful:
//!
//! | type | key |
//! | --- | --- |
//! | token | `code U+0001 system`, system empty when there is none, shortened when frequent |
//! | reference | `Type/id` for one of our own, `#Type.place.number` for a contained one, else the absolute url; a canonical `url U+0001 version` |
//! | uri | the uri |
//! | string | text folded to lower case without accents, `U+0001`, then the text as written |
//! | unit of a quantity | as a token; in base units `U+0001` and the dimension |
//! | composite | the key of the first part, `U+0002`, the key (or unit) of the second |
//!
//! A parameter whose value is there without a key (a concept of words only) has the empty key.
//! What modifiers look for is indexed under codes of its own: `code:text`, `code:of-type`,
//! `code:identifier`, `code:canonical` (quantities in base units), `near:longitude`; what is
//! contained, under codes that begin with `_contained:` ([`within`](super::within)).

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

/// Texts, compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This one.
    Equal(String),
    /// Those that begin with it.
    Begins(String),
    /// Those that begin with the first and have the second somewhere after it.
    Has(String, String),
    /// Those that begin with the first and end, after it, with the second.
    Ends(String, String),
}

impl Pattern {
    /// Whether `text` is one of them.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Pattern::Equal(whole) => text == whole,
            Pattern::Begins(begin) => text.starts_with(begin.as_str()),
            Pattern::Has(begin, rest) => {
                text.strip_prefix(begin.as_str()).is_some_and(|after| after.contains(rest.as_str()))
            }
            Pattern::Ends(begin, end) => {
                text.strip_prefix(begin.as_str()).is_some_and(|after| after.ends_with(end.as_str()))
            }
        }
    }
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
    /// A key of the parameter is one of these texts.
    KeyLike(String, Pattern),
    /// A key of the parameter has this text somewhere up to its first `U+0001`, which the text
    /// may end with.
    KeyContains(String, String),
    /// A key of the parameter ends with this text (used for `system|` without a code).
    KeyEnds(String, String),
    /// An interval of the date parameter has its start within the first pair of bounds and its
    /// end within the second.
    Date(String, [Bound<Micros>; 2], [Bound<Micros>; 2]),
    /// The same for a number parameter, whose unit key is one of the texts.
    Number(String, [Bound<f64>; 2], [Bound<f64>; 2], Option<Pattern>),
    /// The parameter has any value at all.
    Present(String),
    /// The reference parameter `.0` points at a resource of type `.1` for which `.2` holds.
    Refers(String, String, Box<Condition>),
    /// A resource of type `.0` points here with its reference parameter `.1`, and `.2` holds for it.
    ReferredBy(String, String, Box<Condition>),
}

impl Condition {
    /// That one of the conditions holds, without an `Any` around a single one.
    pub fn any(mut conditions: Vec<Condition>) -> Condition {
        match conditions.len() {
            1 => conditions.swap_remove(0),
            _ => Condition::Any(conditions),
        }
    }

    /// That the condition does not hold.
    pub fn negate(self) -> Condition {
        Condition::Not(Box::new(self))
    }

    /// That the parameter has this key.
    pub fn key(code: &str, key: String) -> Condition {
        Condition::Key(code.to_owned(), Bound::Included(key.clone()), Bound::Included(key))
    }

    /// That the parameter has a key that begins so.
    pub fn key_begins(code: &str, begin: &str) -> Condition {
        let (from, to) = super::key::beginning_with(begin);
        Condition::Key(code.to_owned(), from, to)
    }
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
    /// Order of the matches; ties, and no sort at all, follow the order of storage, or go against
    /// it where the first key descends.
    pub sort: Vec<Sort>,
    /// Greatest number of matches on one page.
    pub count: usize,
    /// Where the page begins: the opaque cursor that an earlier page gave.
    pub cursor: Option<String>,
    /// Whether the number of all matches is wanted.
    pub total: bool,
}
