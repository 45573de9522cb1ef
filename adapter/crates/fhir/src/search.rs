//! Search: <https://hl7.org/fhir/R4/search.html>.
//!
//! [`index()`] says which values of a resource can be found, [`parse`] reads a request's parameters
//! into a [`Query`]. Both use the same table of search parameters and the same form of keys, so
//! what was indexed is what is looked for: both sides of a type of parameter stand in one file.
//! Nothing here knows SQL.

mod compartment;
mod composite;
mod condition;
mod contained;
mod date;
mod escape;
mod expansion;
mod fault;
mod filter;
mod fingerprint;
mod holds;
mod index;
pub mod key;
mod matches;
mod near;
mod quantity;
mod query;
mod reference;
mod string;
#[cfg(test)]
mod tests;
mod token;
mod uri;

pub use compartment::compartment;
pub(crate) use composite::is_offered;
pub use condition::{
    Bound, Condition, Direction, IndexRow, IndexValue, ParameterKey, Pattern, Query, Sort,
};
pub use contained::{Contained, within};
pub use expansion::{Expansions, Need, SystemCode};
pub use fingerprint::{Fingerprints, INDEX_FORM};
pub use holds::{holding, is_linked};
pub use index::index;
pub use matches::{Candidate, matches};
pub use query::{Limits, Reading, Search, needs, parse};
pub use reference::reference_key;
