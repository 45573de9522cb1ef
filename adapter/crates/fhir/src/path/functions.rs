//! The functions, one file for each section of <https://hl7.org/fhirpath/N1/#functions>.

mod aggregate;
mod conversion;
mod existence;
mod fhir;
mod filtering;
mod math;
mod narrative;
mod questionnaire;
mod resolve;
mod string;
mod subsetting;
mod terminology;
mod tree;
pub(super) mod types;
mod utility;

use std::borrow::Cow;

use smallvec::smallvec;

use super::PathError;
use super::eval::{Evaluated, Items, Scope};
use super::expr::Expr;
use super::operators;
use super::value::Value;

/// A function that an expression can call.
#[derive(Debug)]
pub(super) struct Function {
    name: &'static str,
    least: usize,
    most: usize,
    pub call: for<'s, 'a> fn(&Call<'s, 'a>) -> Evaluated<'a>,
}

/// One call of a function.
pub(super) struct Call<'s, 'a> {
    pub scope: &'s Scope<'s, 'a>,
    pub focus: &'s [Value<'a>],
    pub arguments: &'a [Expr],
}

/// All functions, by section.
static FUNCTIONS: [&[Function]; 15] = [
    existence::FUNCTIONS,
    filtering::FUNCTIONS,
    subsetting::FUNCTIONS,
    types::FUNCTIONS,
    fhir::FUNCTIONS,
    resolve::FUNCTIONS,
    terminology::FUNCTIONS,
    questionnaire::FUNCTIONS,
    narrative::FUNCTIONS,
    conversion::FUNCTIONS,
    string::FUNCTIONS,
    math::FUNCTIONS,
    tree::FUNCTIONS,
    aggregate::FUNCTIONS,
    utility::FUNCTIONS,
];

/// A row of a table: name, least and largest number of arguments, code.
const fn row(
    name: &'static str,
    arguments: (usize, usize),
    call: for<'s, 'a> fn(&Call<'s, 'a>) -> Evaluated<'a>,
) -> Function {
    Function { name, least: arguments.0, most: arguments.1, call }
}

/// The function of this name.
pub(super) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().copied().flatten().find(|function| function.name == name)
}

impl Function {
    pub fn takes(&self, arguments: usize) -> bool {
        (self.least..=self.most).contains(&arguments)
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn resolves(&self) -> bool {
        self.name == "resolve"
    }
}

impl<'s, 'a> Call<'s, 'a> {
    /// The collection that an argument stands for; empty if it is not given.
    fn items(&self, index: usize) -> Evaluated<'a> {
        self.arguments.get(index).map_or(Ok(Items::new()), |argument| self.scope.eval(argument))
    }

    /// An argument for one item of the focus.
    fn for_item(&self, index: usize, item: &Value<'a>, position: usize) -> Evaluated<'a> {
        match self.arguments.get(index) {
            Some(argument) => self.scope.within(item, position).eval(argument),
            None => Ok(Items::new()),
        }
    }

    /// An argument as a condition on one item of the focus.
    fn holds(&self, item: &Value<'a>, position: usize) -> Result<Option<bool>, PathError> {
        match self.arguments.first() {
            Some(argument) => self.scope.within(item, position).truth(argument),
            None => Ok(None),
        }
    }

    fn string(&self, index: usize) -> Result<Option<Cow<'a, str>>, PathError> {
        operators::string(&self.items(index)?)
    }

    fn integer(&self, index: usize) -> Result<Option<i64>, PathError> {
        operators::integer(&self.items(index)?)
    }

    /// The one item of the focus with FHIRPath's own type; a primitive without a value is none.
    fn value(&self) -> Result<Option<Value<'a>>, PathError> {
        Ok(operators::value(self.focus)?.map(Value::to_system))
    }
}

fn one<'a>(value: Value<'a>) -> Evaluated<'a> {
    Ok(smallvec![value])
}

fn truth<'a>(value: bool) -> Evaluated<'a> {
    one(Value::Boolean(value))
}

fn some<'a>(value: Option<Value<'a>>) -> Evaluated<'a> {
    Ok(value.into_iter().collect())
}

/// The names of all functions.
#[cfg(test)]
pub(super) fn names() -> Vec<&'static str> {
    FUNCTIONS.iter().copied().flatten().map(|function| function.name).collect()
}
