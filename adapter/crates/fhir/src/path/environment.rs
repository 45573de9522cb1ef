//! What stands outside of the resource: <https://hl7.org/fhir/R4/fhirpath.html#functions>.
//!
//! Evaluation looks nothing up by itself. Whoever evaluates hands in an [`Environment`]; what that
//! does not know either makes the function's result empty and the [`Tally`] undecided.

use std::cell::Cell;

use super::{PathError, Value};
use crate::Json;

/// Answers what only the world around a resource can. Every default says that it is not known.
pub trait Environment<'a> {
    /// The resource that a reference, uri or canonical means. Contained resources and those of
    /// the Bundle at hand ([`super::Context::bundle`]) are not asked for.
    fn resolve(&self, _reference: &str) -> Target<'a> {
        Target::Unknown
    }

    /// Whether a code, Coding, CodeableConcept, string or uri is in the value set.
    fn member_of(&self, _value: &Value<'a>, _value_set: &str) -> Option<bool> {
        None
    }

    /// Whether an element or resource conforms to the profile with this canonical.
    fn conforms_to(&self, _value: &Value<'a>, _profile: &str) -> Option<bool> {
        None
    }

    /// Whether `ancestor` subsumes `code`, another code of the same system.
    fn subsumes(&self, _system: &str, _ancestor: &str, _code: &str) -> Option<bool> {
        None
    }

    /// The items of `%name`, for names that [`super::Context::variables`] does not have.
    fn variable(&self, _name: &str) -> Option<Vec<Value<'a>>> {
        None
    }

    /// Takes what `trace()` shows.
    fn trace(&self, _name: &str, _items: &[Value<'a>]) {}
}

/// What a reference leads to.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// This resource.
    Found(&'a Json),
    /// There is no such resource.
    Absent,
    /// It cannot be told here.
    Unknown,
}

/// Most steps, comparisons and produced items of one evaluation, if nothing else is said.
pub const MAX_STEPS: u64 = 20_000_000;

/// What one evaluation, or several together, have used and left open.
#[derive(Debug)]
pub struct Tally {
    steps: Cell<u64>,
    limit: u64,
    undecided: Cell<bool>,
}

impl Default for Tally {
    fn default() -> Self {
        Tally::new(MAX_STEPS)
    }
}

impl Tally {
    /// A tally that ends an evaluation with an error after `limit` steps.
    pub fn new(limit: u64) -> Tally {
        Tally { steps: Cell::new(0), limit, undecided: Cell::new(false) }
    }

    /// How many steps were done.
    pub fn steps(&self) -> u64 {
        self.steps.get()
    }

    /// Whether something was asked that the environment did not know, since the last call.
    pub fn take_undecided(&self) -> bool {
        self.undecided.take()
    }

    /// Counts steps.
    ///
    /// # Errors
    /// More steps than the limit.
    pub(crate) fn count(&self, steps: u64) -> Result<(), PathError> {
        let sum = self.steps.get().saturating_add(steps);
        self.steps.set(sum);
        match sum > self.limit {
            true => Err(PathError::costly("the evaluation takes too many steps")),
            false => Ok(()),
        }
    }

    /// An answer, noting that there is none.
    pub(super) fn note<T>(&self, answer: Option<T>) -> Option<T> {
        if answer.is_none() {
            self.leave_open();
        }
        answer
    }

    /// Notes that something was left without an answer.
    pub(super) fn leave_open(&self) {
        self.undecided.set(true);
    }
}
