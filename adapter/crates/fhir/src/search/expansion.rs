//! What a search must know of terminology: <https://hl7.org/fhir/R4/search.html#modifiers>, the
//! modifiers `:in`, `:not-in`, `:above` and `:below` of tokens.
//!
//! The language says what it needs ([`needs`](super::needs)); whoever can find it out hands it in.

use std::collections::BTreeMap;

use crate::Issue;

/// A set of codes that a search asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Need {
    /// The codes of a value set, by its canonical (perhaps `url|version`) or as `ValueSet/id`.
    ValueSet(String),
    /// A code and all codes below it.
    #[expect(missing_docs, reason = "the names say it")]
    Descendants { system: String, code: String },
    /// A code and all codes above it.
    #[expect(missing_docs, reason = "the names say it")]
    Ancestors { system: String, code: String },
}

/// System and code.
pub type SystemCode = (String, String);

/// What is known of the needs of a search.
#[derive(Clone, Debug, Default)]
pub struct Expansions(BTreeMap<Need, Result<Vec<SystemCode>, Issue>>);

impl Expansions {
    /// Nothing is known.
    pub const fn new() -> Expansions {
        Expansions(BTreeMap::new())
    }

    /// Tells the codes of a need, or why they are not known; the search is refused with that
    /// issue (`not-found`, `not-supported`, `too-costly`).
    pub fn insert(&mut self, need: Need, codes: Result<Vec<SystemCode>, Issue>) {
        self.0.insert(need, codes);
    }

    pub(super) fn get(&self, need: &Need) -> Option<&Result<Vec<SystemCode>, Issue>> {
        self.0.get(need)
    }
}
