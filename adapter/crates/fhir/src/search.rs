//! Search: <https://hl7.org/fhir/R4/search.html>.
//!
//! `index` says which values of a resource can be found, `query` reads a request's parameters into
//! a [`Query`]. Both use the same table of search parameters and the same [`Key`] form, so what was
//! indexed is what is looked for. Nothing here knows SQL.

pub mod condition;

pub use condition::{Bound, Condition, Direction, IndexRow, IndexValue, ParameterKey, Query, Sort};
