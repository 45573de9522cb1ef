//! Expressions of a Questionnaire, compiled once:
//! <https://hl7.org/fhir/R4/metadatatypes.html#Expression>.

use super::extension;
use crate::Json;
use crate::path::Expression;

/// Most variables that one expression may see.
pub(super) const MAX_VARIABLES: usize = 50;

/// An expression, or why it cannot be run here.
#[derive(Clone, Debug)]
pub(super) struct Formula {
    pub expression: Result<Expression, String>,
    /// Whether it may need variables: names some, or looks for weights in `%questionnaire`.
    pub uses_variables: bool,
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
        Formula { expression, uses_variables }
    }

    /// An `Expression`, or a FHIRPath text in its place.
    pub fn read(value: &Json) -> Formula {
        if let Some(text) = value.as_str() {
            return Formula::parse(text);
        }
        let language = value.str_at(&["language"]).unwrap_or("text/fhirpath");
        match value.str_at(&["expression"]) {
            Some(text) if language == "text/fhirpath" => Formula::parse(text),
            Some(_) => Formula::impossible("its language is not text/fhirpath"),
            None => Formula::impossible("it has no expression of its own"),
        }
    }

    fn impossible(reason: &str) -> Formula {
        Formula { expression: Err(reason.to_owned()), uses_variables: false }
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
