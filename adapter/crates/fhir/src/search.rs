//! Search: <https://hl7.org/fhir/R4/search.html>.
//!
//! [`index()`] says which values of a resource can be found, [`parse`] reads a request's parameters
//! into a [`Query`]. Both use the same table of search parameters and the same form of keys, so
//! what was indexed is what is looked for. Nothing here knows SQL.

mod compartment;
mod condition;
mod expansion;
mod fingerprint;
mod index;
pub mod key;
mod matches;
mod query;

pub use compartment::compartment;
pub use condition::{Bound, Condition, Direction, IndexRow, IndexValue, ParameterKey, Query, Sort};
pub use expansion::{Expansions, Need, SystemCode};
pub use fingerprint::{Fingerprints, INDEX_FORM};
pub use index::{index, reference_key};
pub use matches::{Candidate, matches};
pub use query::{Limits, Reading, Search, needs, parse};
