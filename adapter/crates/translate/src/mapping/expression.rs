//! FHIRPath over a record: <https://hl7.org/fhirpath/N1/>.
//!
//! Most expressions of a mapping table are one literal or the plain path of one cell. Those two are
//! looked up without the FHIRPath engine; the result is the same and costs a tenth.

use std::borrow::Cow;

use lumbar_fhir::Json;
use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::path::{Context, Expression, PathError, Value, truth};

/// A parsed expression of a mapping table.
#[derive(Clone, Debug)]
pub(crate) enum Compiled {
    /// A literal: text in single quotes, `true` or `false`.
    Literal(Json),
    /// Member names separated by dots.
    Path(Vec<String>),
    /// Anything else.
    Expression(Box<Expression>),
}

impl Compiled {
    /// Parses an expression.
    pub(crate) fn parse(text: &str) -> Result<Compiled, PathError> {
        let text = text.trim();
        if let Some(inner) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''))
            && !inner.contains(['\'', '\\'])
        {
            return Ok(Compiled::Literal(inner.into()));
        }
        match text {
            "true" => return Ok(Compiled::Literal(true.into())),
            "false" => return Ok(Compiled::Literal(false.into())),
            _ => {}
        }
        let name = |part: &str| {
            part.starts_with(|first: char| first.is_ascii_alphabetic())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        if text.split('.').all(name) {
            return Ok(Compiled::Path(text.split('.').map(str::to_string).collect()));
        }
        Ok(Compiled::Expression(Box::new(Expression::parse(text)?)))
    }

    /// The items that the expression gives over `tree`.
    pub(crate) fn values<'a>(
        &'a self,
        tree: &'a Json,
        definitions: &'a Definitions,
    ) -> Result<Vec<Cow<'a, Json>>, PathError> {
        match self {
            Compiled::Literal(value) => Ok(vec![Cow::Borrowed(value)]),
            Compiled::Path(names) => Ok(walk(tree, names).into_iter().map(Cow::Borrowed).collect()),
            Compiled::Expression(expression) => {
                let values = evaluate(expression, tree, definitions)?;
                Ok(values
                    .into_iter()
                    .map(|value| match value.json() {
                        Some(json) => Cow::Borrowed(json),
                        None => Cow::Owned(value.to_json()),
                    })
                    .collect())
            }
        }
    }

    /// The expression read as a condition.
    pub(crate) fn holds(&self, tree: &Json, definitions: &Definitions) -> Result<bool, PathError> {
        match self {
            Compiled::Literal(value) => Ok(value.as_bool() == Some(true)),
            Compiled::Path(names) => {
                Ok(matches!(walk(tree, names).as_slice(), [one] if one.as_bool() != Some(false)))
            }
            Compiled::Expression(expression) => truth(&evaluate(expression, tree, definitions)?),
        }
    }
}

fn evaluate<'a>(
    expression: &'a Expression,
    tree: &'a Json,
    definitions: &'a Definitions,
) -> Result<Vec<Value<'a>>, PathError> {
    expression.evaluate(&Context::new(definitions), &[Value::node(tree)])
}

/// The values reached by following member names; arrays on the way stand for their items.
pub(crate) fn walk<'a>(tree: &'a Json, names: &[String]) -> Vec<&'a Json> {
    let mut found = vec![tree];
    for name in names {
        let mut next = Vec::with_capacity(found.len());
        for value in found {
            match value.get(name) {
                Some(Json::Array(items)) => next.extend(items),
                Some(value) => next.push(value),
                None => {}
            }
        }
        found = next;
    }
    found
}
