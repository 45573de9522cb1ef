//! What was fetched for an operation, and what is still missing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::value_set::Include;
use super::{Canonical, CodeSystem, Refusal, ValueSet};
use crate::{IssueType, Json, json};

/// Most value sets and code systems that one operation reaches.
const MAX_REACHED: usize = 500;

/// Something that an operation must know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// A code system.
    CodeSystem(Canonical),
    /// A value set.
    ValueSet(Canonical),
    /// The codes that an `include` (its JSON text) stands for, whose content is not known here.
    Codes(String),
    /// Whether a code is among those of such an `include`.
    Membership {
        #[expect(missing_docs, reason = "the names say it")]
        include: String,
        #[expect(missing_docs, reason = "the names say it")]
        system: String,
        #[expect(missing_docs, reason = "the names say it")]
        code: String,
    },
}

/// What a value set is wanted for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose<'a> {
    /// All its codes.
    Codes,
    /// Whether this code is one of them.
    Membership {
        #[expect(missing_docs, reason = "the names say it")]
        system: &'a str,
        #[expect(missing_docs, reason = "the names say it")]
        code: &'a str,
    },
}

/// Content that was fetched; what was looked for and is not there is known, too.
#[derive(Clone, Debug, Default)]
pub struct Library {
    code_systems: HashMap<Canonical, Option<Arc<CodeSystem>>>,
    value_sets: HashMap<Canonical, Option<Arc<ValueSet>>>,
    codes: HashMap<String, Option<Arc<Vec<Json>>>>,
    memberships: HashMap<(String, String, String), Option<bool>>,
}

impl Library {
    /// Answers [`Need::CodeSystem`].
    pub fn put_code_system(&mut self, canonical: Canonical, system: Option<Arc<CodeSystem>>) {
        self.code_systems.insert(canonical, system);
    }

    /// Answers [`Need::ValueSet`].
    pub fn put_value_set(&mut self, canonical: Canonical, set: Option<Arc<ValueSet>>) {
        self.value_sets.insert(canonical, set);
    }

    /// Answers [`Need::Codes`] with the items of an expansion; `None` when nobody knows.
    pub fn put_codes(&mut self, include: String, codes: Option<Arc<Vec<Json>>>) {
        self.codes.insert(include, codes);
    }

    /// Answers [`Need::Membership`]; `None` when nobody knows.
    pub fn put_membership(
        &mut self,
        (include, system, code): (String, String, String),
        is_member: Option<bool>,
    ) {
        self.memberships.insert((include, system, code), is_member);
    }

    /// A code system that is here.
    pub fn code_system(&self, canonical: &Canonical) -> Option<&CodeSystem> {
        self.code_systems.get(canonical)?.as_deref()
    }

    /// A value set that is here.
    pub fn value_set(&self, canonical: &Canonical) -> Option<&ValueSet> {
        self.value_sets.get(canonical)?.as_deref()
    }

    /// A code system whose concepts are all here.
    pub(super) fn complete(&self, canonical: &Canonical) -> Option<&CodeSystem> {
        self.code_system(canonical).filter(|system| system.is_complete)
    }

    pub(super) fn codes(&self, include: &str) -> Option<&[Json]> {
        self.codes.get(include)?.as_ref().map(|codes| codes.as_slice())
    }

    pub(super) fn membership(&self, include: &str, system: &str, code: &str) -> Option<bool> {
        let key = (include.to_owned(), system.to_owned(), code.to_owned());
        self.memberships.get(&key).copied().flatten()
    }

    /// What must be put in before `set` can be worked with; empty when all is here. Whoever puts
    /// something in asks again, as it may need more.
    ///
    /// # Errors
    /// It reaches too many value sets.
    pub fn needs(&self, set: &ValueSet, purpose: Purpose<'_>) -> Result<Vec<Need>, Refusal> {
        let mut needs = HashSet::new();
        let mut reached: HashSet<&Canonical> = HashSet::new();
        let mut open = vec![set];
        while let Some(set) = open.pop() {
            for part in set.include.iter().chain(&set.exclude) {
                self.system_need(part, purpose, &mut needs);
                for import in &part.value_sets {
                    if !reached.insert(import) {
                        continue;
                    }
                    match self.value_sets.get(import) {
                        None => {
                            needs.insert(Need::ValueSet(import.clone()));
                        }
                        Some(Some(import)) => open.push(import),
                        Some(None) => self.elsewhere(import_text(import), purpose, &mut needs),
                    }
                }
            }
            if reached.len() + needs.len() > MAX_REACHED {
                return Err(Refusal::unprocessable(
                    IssueType::TooCostly,
                    format!("The value set reaches more than {MAX_REACHED} others; split it."),
                ));
            }
        }
        Ok(needs.into_iter().collect())
    }

    fn system_need(&self, part: &Include, purpose: Purpose<'_>, needs: &mut HashSet<Need>) {
        let Some(canonical) = &part.system else { return };
        if let Purpose::Membership { system, .. } = purpose
            && system != canonical.url
        {
            return;
        }
        match self.code_systems.get(canonical) {
            None => {
                needs.insert(Need::CodeSystem(canonical.clone()));
            }
            Some(Some(system)) if system.is_complete => {}
            // What is enumerated can be used without the system.
            Some(_) if !part.concepts.is_empty() => {}
            Some(_) => self.elsewhere(part.text.clone(), purpose, needs),
        }
    }

    fn elsewhere(&self, include: String, purpose: Purpose<'_>, needs: &mut HashSet<Need>) {
        match purpose {
            Purpose::Codes if !self.codes.contains_key(&include) => {
                needs.insert(Need::Codes(include));
            }
            Purpose::Membership { system, code } => {
                let (system, code) = (system.to_owned(), code.to_owned());
                let key = (include.clone(), system.clone(), code.clone());
                if !self.memberships.contains_key(&key) {
                    needs.insert(Need::Membership { include, system, code });
                }
            }
            Purpose::Codes => {}
        }
    }
}

/// An `include` that stands for a whole value set.
pub(super) fn import_text(canonical: &Canonical) -> String {
    json!({"valueSet": [(canonical.to_string())]}).to_string()
}
