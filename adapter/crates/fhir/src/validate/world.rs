//! What validation draws on: <https://hl7.org/fhir/R4/validation.html>.
//!
//! Nothing is fetched here. What stands outside the resource is handed in; what would have been
//! needed is told in [`Missing`], so that the caller can fetch it and validate again.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::MAX_ISSUES;
use crate::definitions::Definitions;
use crate::format::json::MAX_DEPTH;
use crate::profile::Profiles;
use crate::questionnaire::Form;
use crate::terminology::{self, Library};
use crate::{Json, Severity};

/// All that validation draws on.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// The types of R4.
    pub definitions: &'a Definitions,
    /// Profiles and definitions of extensions.
    pub profiles: &'a Profiles,
    /// Code systems and value sets.
    pub terminology: &'a Library,
    /// What references and canonicals outside the resource mean.
    pub resources: &'a Found,
    /// What was not at hand.
    pub missing: &'a Missing,
    /// The moment of the validation, a dateTime with zone. Without it rules that ask for the time
    /// are told to be undecided.
    pub now: Option<&'a str>,
    /// How grave it is at most that an Observation breaks the profile of its vital sign and does
    /// not claim to keep it; by R4 an error.
    pub vital_signs: Severity,
    /// How much may be done.
    pub limits: Limits,
}

/// How much one validation may do; a limit that is reached is told with `too-costly`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most issues that are listed; 500.
    pub issues: usize,
    /// Deepest nesting that is looked at; 100.
    pub depth: usize,
    /// Most steps of all evaluations of FHIRPath together; 20,000,000.
    pub steps: u64,
    /// Most profiles that are applied within each other; 24.
    pub profiles: usize,
    /// Most checks that profiles ask for: values held against rules and slices; 10,000,000.
    pub work: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            issues: MAX_ISSUES,
            depth: MAX_DEPTH,
            steps: 20_000_000,
            profiles: 24,
            work: 10_000_000,
        }
    }
}

/// Resources outside the one that is validated; what was looked for and is not there is known, too.
#[derive(Clone, Debug, Default)]
pub struct Found {
    resources: HashMap<String, Option<Arc<Json>>>,
    forms: HashMap<String, Arc<Form>>,
}

impl Found {
    /// Answers [`Need::Resource`] and [`Need::Questionnaire`]: under the text that was asked for,
    /// a reference (`Patient/p1`, an absolute url) or a canonical (`url` or `url|version`).
    pub fn put(&mut self, text: impl Into<String>, resource: Option<Arc<Json>>) {
        self.resources.insert(text.into(), resource);
    }

    /// Answers [`Need::Questionnaire`] with a Questionnaire that was read before, which saves the
    /// reading of it for each response.
    pub fn put_form(&mut self, canonical: impl Into<String>, form: Arc<Form>) {
        self.forms.insert(canonical.into(), form);
    }

    /// A Questionnaire that was read before.
    pub fn form(&self, canonical: &str) -> Option<&Form> {
        self.forms.get(canonical).map(Arc::as_ref)
    }

    /// The same, to be kept beyond what was found.
    pub fn shared_form(&self, canonical: &str) -> Option<Arc<Form>> {
        self.forms.get(canonical).cloned()
    }

    /// What a text means: `None` if it was not looked for, `Some(None)` if it is not there.
    pub fn find(&self, text: &str) -> Option<Option<&Json>> {
        self.resources.get(text).map(|resource| resource.as_deref())
    }
}

/// Something that validation would have to know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// The StructureDefinition of a canonical; answered with
    /// [`Profiles::add`](crate::profile::Profiles::add).
    Profile(String),
    /// The resource that a reference's text means.
    Resource(String),
    /// The Questionnaire of a canonical.
    Questionnaire(String),
    /// A code system or value set, or what one says of a code.
    Terminology(terminology::Need),
}

/// Most needs that are told of.
const MAX_NEEDS: usize = 1_000;

/// What was not at hand, each once, in the order in which it was missed.
#[derive(Debug, Default)]
pub struct Missing(RefCell<(Vec<Need>, HashSet<Need>)>);

impl Missing {
    /// Notes that something was not at hand.
    pub fn note(&self, need: Need) {
        let (needs, known) = &mut *self.0.borrow_mut();
        if needs.len() < MAX_NEEDS && !known.contains(&need) {
            known.insert(need.clone());
            needs.push(need);
        }
    }

    /// What was noted.
    pub fn take(&self) -> Vec<Need> {
        self.0.take().0
    }

    /// Whether nothing was missed.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().0.is_empty()
    }
}
