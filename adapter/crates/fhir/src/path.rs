//! FHIRPath: <https://hl7.org/fhirpath/N1/> with FHIR's additions
//! (<https://hl7.org/fhir/R4/fhirpath.html>).
//!
//! An [`Expression`] is parsed once and evaluated over [`Json`] trees without copying them.
//! All is bounded, and beyond a bound is an error: the text ([`MAX_LENGTH`]), its nesting
//! ([`MAX_DEPTH`]), the steps of an evaluation ([`MAX_STEPS`], or what a [`Tally`] says), the items
//! of a collection ([`MAX_ITEMS`]) and a text that is made ([`MAX_TEXT`]). What stands outside of
//! the resource (other resources, value sets, profiles) is asked of an [`Environment`].
//! `elementDefinition()`, `slice()` and SDC's `%factory` are not supported.

mod check;
mod compare;
mod environment;
mod eval;
mod expr;
mod functions;
mod lexer;
mod memo;
mod navigate;
mod operators;
mod parser;
mod signature;
mod temporal;
mod units;
mod value;

pub use check::Checks;
pub use environment::{Environment, MAX_STEPS, Tally, Target};
pub use eval::{MAX_ITEMS, MAX_TEXT};
pub(crate) use parser::branches;
pub use parser::{MAX_DEPTH, MAX_LENGTH};
pub use temporal::{Precision, Temporal};
pub(crate) use units::canonical as canonical_unit;
pub use value::{Node, Quantity, Value};

use crate::definitions::Definitions;
use crate::{IssueType, Json};
use eval::Scope;

/// A parsed expression.
#[derive(Clone, Debug)]
pub struct Expression {
    text: String,
    root: expr::Expr,
}

/// What an evaluation may know besides the focus.
#[derive(Clone)]
pub struct Context<'a> {
    /// The types of the data.
    pub definitions: &'a Definitions,
    /// `%resource`; a variable of the same name wins.
    pub resource: Option<Value<'a>>,
    /// `%rootResource`, where it is another one: the resource that contains `%resource`.
    pub root_resource: Option<Value<'a>>,
    /// The Bundle in which the resource came; not needed where `%resource` is the Bundle itself.
    pub bundle: Option<&'a Json>,
    /// `%name` by name.
    pub variables: &'a [(&'a str, Vec<Value<'a>>)],
    /// A dateTime with zone for `now()`, `today()` and `timeOfDay()`; without it they are errors.
    pub now: Option<&'a str>,
    /// What stands outside. Without it nothing outside resolves, but `resolve() is Patient` still
    /// looks at the reference's text.
    pub environment: Option<&'a dyn Environment<'a>>,
}

/// Why an expression could not be parsed or evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PathError {
    /// A sentence part that names the fault.
    pub reason: String,
    /// Where the fault stands in the expression, in bytes from 0, if that is known.
    pub position: Option<usize>,
    /// `too-costly` or `too-long`, if a limit stopped it.
    pub limit: Option<IssueType>,
}

impl std::fmt::Display for PathError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.position {
            Some(position) => write!(f, "{} at position {}", self.reason, position + 1),
            None => f.write_str(&self.reason),
        }
    }
}

impl PathError {
    fn new(reason: impl Into<String>) -> Self {
        PathError { reason: reason.into(), position: None, limit: None }
    }

    fn at(reason: impl Into<String>, position: usize) -> Self {
        PathError { reason: reason.into(), position: Some(position), limit: None }
    }

    /// What is too much.
    fn costly(reason: impl Into<String>) -> Self {
        PathError { limit: Some(IssueType::TooCostly), ..PathError::new(reason) }
    }

    /// The same with a position, if it has none yet.
    fn standing_at(mut self, position: usize) -> Self {
        self.position.get_or_insert(position);
        self
    }
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// A syntax fault, an unknown function, a wrong number of arguments, nesting deeper than
    /// [`MAX_DEPTH`] or a text longer than [`MAX_LENGTH`].
    pub fn parse(text: &str) -> Result<Expression, PathError> {
        Ok(Expression { text: text.to_string(), root: parser::parse(text)? })
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the expression can make sense for a focus of the type `focus` (a type or the path
    /// of a backbone element); `None` when the type is not known. Evaluation itself is lenient: an
    /// element that a type does not have is empty.
    ///
    /// # Errors
    /// An element that none of the possible types has, or a function that needs an order where
    /// there is none.
    pub fn check(&self, definitions: &Definitions, focus: Option<&str>) -> Result<(), PathError> {
        self.check_with(definitions, &Checks { focus, ..Checks::default() })
    }

    /// [`Expression::check`] with more known about what will be there, and strict if asked for.
    ///
    /// # Errors
    /// What can never work; if strict, what works with some data only.
    pub fn check_with(&self, definitions: &Definitions, checks: &Checks) -> Result<(), PathError> {
        check::check(&self.root, definitions, checks)
    }

    /// The values that the expression has for the items of `focus`.
    ///
    /// # Errors
    /// A value of a type that an operator or function does not take, several items where one is
    /// needed, an unknown variable or type, or too much work.
    pub fn evaluate<'a>(
        &'a self,
        context: &Context<'a>,
        focus: &[Value<'a>],
    ) -> Result<Vec<Value<'a>>, PathError> {
        self.evaluate_within(&Tally::default(), context, focus)
    }

    /// The same with a tally, which bounds the work and tells afterwards whether something was
    /// left undecided; several evaluations may share one.
    ///
    /// # Errors
    /// As [`Expression::evaluate`].
    pub fn evaluate_within<'a>(
        &'a self,
        tally: &Tally,
        context: &Context<'a>,
        focus: &[Value<'a>],
    ) -> Result<Vec<Value<'a>>, PathError> {
        Ok(Scope::new(tally, context, focus).eval(&self.root)?.into_vec())
    }

    /// The expression as a condition, see [`truth`]; `None` where it comes to nothing. This is the
    /// quick way for invariants.
    ///
    /// # Errors
    /// As [`Expression::evaluate`], and several items.
    pub fn holds<'a>(
        &'a self,
        tally: &Tally,
        context: &Context<'a>,
        focus: &[Value<'a>],
    ) -> Result<Option<bool>, PathError> {
        Scope::new(tally, context, focus).truth(&self.root)
    }
}

impl<'a> Context<'a> {
    /// A context with definitions only.
    pub fn new(definitions: &'a Definitions) -> Context<'a> {
        Context {
            definitions,
            resource: None,
            root_resource: None,
            bundle: None,
            variables: &[],
            now: None,
            environment: None,
        }
    }

    fn root_resource(&self) -> Option<&Value<'a>> {
        self.root_resource.as_ref().or(self.resource.as_ref())
    }
}

/// FHIRPath's reading of a collection as a condition: one true is true, and so is any other single
/// item; false or nothing is false.
///
/// # Errors
/// More than one item.
pub fn truth(items: &[Value]) -> Result<bool, PathError> {
    Ok(operators::boolean(items)?.unwrap_or(false))
}

#[cfg(test)]
mod tests;
