//! Expressions of a Questionnaire, compiled once, and what they come to:
//! <https://hl7.org/fhir/R4/metadatatypes.html#Expression> and
//! <https://hl7.org/fhir/uv/sdc/STU3/expressions.html>.
//!
//! FHIRPath is evaluated in a [`Setting`], the same for the check, the population and the
//! extraction of a form. A query (`application/x-fhir-query`) is read here and made by others.

use super::environment::Surroundings;
use super::extension;
use super::fhir_query::Query;
use crate::Json;
use crate::path::{Context, Expression, PathError, Tally, Value};

/// Most variables that one expression may see.
pub(super) const MAX_VARIABLES: usize = 50;

/// An expression, or why it cannot be run here.
#[derive(Clone, Debug)]
pub(super) struct Formula {
    pub expression: Result<Expression, String>,
    /// Whether it may need variables: names some, or looks for weights in `%questionnaire`.
    pub uses_variables: bool,
    /// The query that stands in its place.
    pub query: Option<Box<Query>>,
}

/// A named expression: <http://hl7.org/fhir/StructureDefinition/variable>.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    pub name: Box<str>,
    pub formula: Formula,
}

impl Formula {
    /// The text of a FHIRPath expression.
    pub fn parse(text: &str) -> Formula {
        let expression =
            Expression::parse(text).map_err(|error| format!("it is no valid FHIRPath ({error})"));
        let uses_variables = ["%", "weight(", "ordinal("].iter().any(|part| text.contains(part));
        Formula { expression, uses_variables, query: None }
    }

    /// An `Expression`, or a FHIRPath text in its place.
    pub fn read(value: &Json) -> Formula {
        if let Some(text) = value.as_str() {
            return Formula::parse(text);
        }
        let language = value.str_at(&["language"]).unwrap_or("text/fhirpath");
        match value.str_at(&["expression"]) {
            Some(text) if language == "text/fhirpath" => Formula::parse(text),
            Some(text) if language == "application/x-fhir-query" => {
                let reason = "it is a query, which is made when a form is populated";
                let query = Some(Box::new(Query::read(text)));
                Formula { query, ..Formula::impossible(reason) }
            }
            Some(_) => Formula::impossible("its language is not text/fhirpath"),
            None => Formula::impossible("it has no expression of its own"),
        }
    }

    fn impossible(reason: &str) -> Formula {
        Formula { expression: Err(reason.to_owned()), uses_variables: false, query: None }
    }

    /// The formula in an element's extensions that stands for its value.
    pub fn dynamic(extensions: &Json) -> Option<Formula> {
        extensions.list("extension").iter().find_map(|extension| {
            match extension::term(extension)? {
                "cqf-expression" | "cqf-calculatedValue" => {
                    extension::value(extension).map(Formula::read)
                }
                _ => None,
            }
        })
    }
}

impl Variable {
    /// Reads the extension `variable`; `None` without a name.
    pub fn read(extension: &Json) -> Option<Variable> {
        let value = extension.get("valueExpression")?;
        Some(Variable { name: value.str_at(&["name"])?.into(), formula: Formula::read(value) })
    }
}

/// `%name` by name.
pub(super) type Bound<'b> = (&'b str, Vec<Value<'b>>);

/// What an expression may draw on besides its focus.
#[derive(Clone, Copy)]
pub(super) struct Setting<'b> {
    /// Other resources, terminology and definitions.
    pub surroundings: &'b Surroundings<'b>,
    /// `%resource`: the QuestionnaireResponse.
    pub response: &'b Json,
    /// The moment of `now()` and `today()`, a dateTime with zone.
    pub now: Option<&'b str>,
    pub tally: &'b Tally,
    /// `%questionnaire`, `%qitem`, the launch context and variables; of one name the first counts.
    pub bound: &'b [Bound<'b>],
}

impl<'b> Setting<'b> {
    /// The values of an expression on `focus`.
    ///
    /// # Errors
    /// Why it cannot be evaluated.
    pub fn values(
        self,
        expression: &'b Expression,
        focus: &[Value<'b>],
    ) -> Result<Vec<Value<'b>>, PathError> {
        let context = Context {
            resource: Some(Value::node(self.response)),
            variables: self.bound,
            now: self.now,
            environment: Some(self.surroundings),
            ..Context::new(self.surroundings.world.definitions)
        };
        expression.evaluate_within(self.tally, &context, focus)
    }

    /// The values of a formula.
    ///
    /// # Errors
    /// Why it cannot be decided: it cannot be run, or asks for what is not known.
    pub fn decide(
        self,
        formula: &'b Formula,
        focus: &[Value<'b>],
    ) -> Result<Vec<Value<'b>>, String> {
        let expression = formula.expression.as_ref().map_err(Clone::clone)?;
        let values = self.values(expression, focus).map_err(|error| error.to_string());
        match self.tally.take_undecided() {
            true => Err(UNKNOWN.to_owned()),
            false => values,
        }
    }

    /// Evaluates the variables that are pending, each on its element and with those before it,
    /// then the expression. A variable that cannot be evaluated is not there for those that follow.
    ///
    /// # Errors
    /// As [`Setting::values`].
    pub fn with_variables(
        self,
        pending: &[(&'b Variable, Value<'b>)],
        expression: &'b Expression,
        focus: &[Value<'b>],
    ) -> Result<Vec<Json>, PathError> {
        let Some(((variable, own), rest)) = pending.split_first() else {
            let items = self.values(expression, focus)?;
            return Ok(items.iter().map(Value::to_json).collect());
        };
        let own = std::slice::from_ref(own);
        let values = match &variable.formula.expression {
            Ok(formula) => self.values(formula, own).ok(),
            Err(_) => None,
        };
        let Some(values) = values else { return self.with_variables(rest, expression, focus) };
        let mut bound = vec![(variable.name.as_ref(), values)];
        bound.extend_from_slice(self.bound);
        let inner = Setting { bound: &bound, ..self };
        inner.with_variables(rest, expression, focus)
    }
}

/// Why an expression without an error has no outcome.
pub(super) const UNKNOWN: &str = "it asks for what is not known here";
