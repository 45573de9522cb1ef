//! FHIRPath: <https://hl7.org/fhirpath/N1/> with FHIR's additions
//! (<https://hl7.org/fhir/R4/fhirpath.html>).
//!
//! An [`Expression`] is parsed once and evaluated over [`Json`] trees without copying them.
//! Depth, size of results and work are bounded. Terminology functions (`memberOf`, `subsumes`)
//! and `conformsTo` with profiles are not here: they need more than the definitions of R4.

mod check;
mod compare;
mod eval;
mod functions;
mod lexer;
mod navigate;
mod operators;
mod parser;
mod temporal;
mod units;
mod value;

pub(crate) use parser::branches;
pub use parser::{MAX_DEPTH, MAX_LENGTH};
pub use temporal::{Precision, Temporal};
pub(crate) use units::canonical as canonical_unit;
pub use value::{Node, Quantity, Value};

use std::cell::Cell;

use crate::Json;
use crate::definitions::Definitions;

/// A parsed expression.
#[derive(Clone, Debug)]
pub struct Expression {
    text: String,
    root: parser::Expr,
}

/// What an evaluation may know besides the focus.
#[derive(Clone)]
pub struct Context<'a> {
    /// The types of the data.
    pub definitions: &'a Definitions,
    /// `%resource` and `%rootResource`; a variable of the same name wins, for the case that they
    /// differ.
    pub resource: Option<Value<'a>>,
    /// `%name` by name.
    pub variables: &'a [(&'a str, Vec<Value<'a>>)],
    /// A dateTime with zone for `now()`, `today()` and `timeOfDay()`; without it they are errors.
    pub now: Option<&'a str>,
    /// Finds the resource of a reference. Without it nothing resolves, but
    /// `resolve() is Patient` still looks at the reference's text.
    pub resolve: Option<&'a Resolve<'a>>,
}

/// Finds the resource that a reference's text means.
pub type Resolve<'a> = dyn Fn(&str) -> Option<&'a Json> + 'a;

/// Why an expression could not be parsed or evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PathError {
    /// A sentence part that names the fault.
    pub reason: String,
    /// Where the fault stands in the expression, in bytes from 0; known for syntax faults.
    pub position: Option<usize>,
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
        PathError { reason: reason.into(), position: None }
    }

    fn at(reason: impl Into<String>, position: usize) -> Self {
        PathError { reason: reason.into(), position: Some(position) }
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
        check::check(&self.root, definitions, focus)
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
        self.evaluate_within(&Cell::new(0), context, focus)
    }

    /// The same, where several evaluations together may do what else one may do; `spent` counts
    /// their steps.
    ///
    /// # Errors
    /// As [`Expression::evaluate`].
    pub(crate) fn evaluate_within<'a>(
        &'a self,
        spent: &Cell<u64>,
        context: &Context<'a>,
        focus: &[Value<'a>],
    ) -> Result<Vec<Value<'a>>, PathError> {
        eval::evaluate(&self.root, spent, context, focus)
    }
}

impl<'a> Context<'a> {
    /// A context with definitions only.
    pub fn new(definitions: &'a Definitions) -> Context<'a> {
        Context { definitions, resource: None, variables: &[], now: None, resolve: None }
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
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::json;

    static R4: LazyLock<Definitions> = LazyLock::new(Definitions::r4);

    fn evaluate(text: &str) -> Result<Vec<Json>, PathError> {
        let patient = json!({
            "resourceType": "Patient", "id": "p1", "birthDate": "1974-12-25",
            "name": [{"family": "Anning", "given": ["Mary", "J"]}, {"given": ["May"]}]
        });
        let expression = Expression::parse(text)?;
        let focus = [Value::node(&patient)];
        let context = Context {
            resource: focus.first().cloned(),
            now: Some("2026-03-02T10:42:00Z"),
            ..Context::new(&R4)
        };
        let items = expression.evaluate(&context, &focus)?;
        Ok(items.iter().map(Value::to_json).collect())
    }

    #[test]
    fn a_check_finds_elements_that_cannot_exist() {
        let check = |focus: Option<&str>, text: &str| {
            let expression = Expression::parse(text).unwrap();
            expression.check(&R4, focus).err().map(|error| error.reason)
        };
        for (focus, text) in [
            (Some("Patient"), "name.given | Patient.birthDate"),
            (Some("Patient"), "contained.name.where(nothing)"),
            (Some("Patient.contact"), "name.family & %resource.name.family"),
            (Some("Observation"), "component.select(value as Quantity).value"),
            (None, "anything.at.all"),
            (None, "Patient.name"),
        ] {
            assert_eq!(check(focus, text), None, "{text}");
        }
        for (focus, text, reason) in [
            (Some("Patient"), "name.giben", "HumanName has no element giben"),
            (Some("Patient"), "name.where(giben = 'x')", "HumanName has no element giben"),
            (Some("Observation"), "valueQuantity", "Observation has no element valueQuantity"),
            (Some("Observation"), "Patient.name", "Observation has no element Patient"),
            (None, "Patient.names", "Patient has no element names"),
            (None, "children().first()", "first needs an order that the items do not have"),
        ] {
            assert_eq!(check(focus, text).as_deref(), Some(reason), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded_before_the_stack_is() {
        let deep = [
            format!("{}1{}", "(".repeat(50_000 / 2), ")".repeat(50_000 / 2)),
            "-".repeat(60_000),
            format!("1{}", "+1".repeat(30_000)),
            format!("1{}", " is Integer".repeat(5_000)),
            format!("{}1{}", "iif(true,".repeat(7_000), ")".repeat(7_000)),
            format!("a{}", "[a".repeat(30_000)),
            " ".repeat(MAX_LENGTH + 1),
        ];
        for text in deep {
            assert!(Expression::parse(&text).is_err(), "{}…", &text[..20]);
        }
        // The deepest ones that are allowed are evaluated.
        let half = MAX_DEPTH - 1;
        let deepest = [
            format!("{}1{}", "(".repeat(half), ")".repeat(half)),
            format!("1{}", "+1".repeat(half)),
            format!("{}true{}", "iif(true,".repeat(half / 2), ")".repeat(half / 2)),
            format!("name{}", ".where(true)".repeat(5_000)),
            format!("1{}", "|1".repeat(20_000)),
        ];
        for text in deepest {
            assert!(evaluate(&text).is_ok(), "{}…", &text[..20]);
        }
    }

    #[test]
    fn work_is_bounded() {
        let many = "(name|1|2|3|4|5|6|7|8|9|10|11|12)";
        for text in [
            format!("{many}{}", format!(".select({many})").repeat(8)),
            format!("{many}{}", ".select($this.combine($this))".repeat(60)),
            format!("'{}'.toChars().aggregate($total & $total & 'x', 'x')", "x".repeat(99)),
            "1.repeat($this + 1)".to_string(),
        ] {
            assert!(evaluate(&text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = evaluate(&text);
        }

        #[test]
        fn no_sequence_of_tokens_panics(
            tokens in proptest::collection::vec(proptest::sample::select(TOKENS), 1..14)
        ) {
            let _ = evaluate(&tokens.join(" "));
            let _ = evaluate(&tokens.concat());
        }

        #[test]
        fn no_call_panics(
            focus in proptest::sample::select(VALUES),
            function in 0..functions::names().len(),
            arguments in proptest::collection::vec(proptest::sample::select(VALUES), 0..3)
        ) {
            let name = functions::names()[function];
            let _ = evaluate(&format!("({focus}).{name}({})", arguments.join(", ")));
        }

        #[test]
        fn no_operation_panics(
            left in proptest::sample::select(VALUES),
            operator in proptest::sample::select(OPERATORS),
            right in proptest::sample::select(VALUES)
        ) {
            let _ = evaluate(&format!("({left}) {operator} ({right})"));
        }

        #[test]
        fn a_unit_never_panics(unit in "[a-zA-Z0-9./()\\[\\]{}%*+-]{0,12}") {
            let quantity = Quantity { value: rust_decimal::Decimal::TEN, unit: unit.into() };
            let _ = units::base(&quantity);
        }

        #[test]
        fn adding_and_taking_away_days_returns(days in -700_000_i64..700_000) {
            let start = Temporal::parse_date("2026-03-02").unwrap();
            if let Some(moved) = start.add(days.into(), "day") {
                prop_assert_eq!(moved.add((-days).into(), "day"), Some(start));
                prop_assert_eq!(Temporal::parse_date(&moved.to_string()), Some(moved));
            }
        }
    }

    const OPERATORS: &[&str] = &[
        "*", "/", "div", "mod", "+", "-", "&", "|", "<", "<=", ">", ">=", "=", "!=", "~", "!~",
        "in", "contains", "and", "or", "xor", "implies",
    ];
    const VALUES: &[&str] = &[
        "{}",
        "true",
        "-1",
        "0",
        "9223372036854775807",
        "79228162514264337593543950335.0",
        "0.1",
        "1.0000000000000000000000000001",
        "'a'",
        "'é\u{0}'",
        "''",
        "'1'",
        "'('",
        "@2026-02-28",
        "@0001",
        "@9999-12-31T23:59:59.999Z",
        "@2026-01-01T00+14:00",
        "@T23:59",
        "4 days",
        "1 'mg'",
        "1 'cm/(s2.kg)'",
        "99999999999999999999999999 years",
        "-1 'Cel'",
        "name",
        "name.given",
        "birthDate",
        "$this",
        "%resource",
        "Patient",
        "FHIR.string",
        "(1|2|3)",
    ];
    const TOKENS: &[&str] = &[
        "name",
        "Patient",
        "given",
        ".",
        "(",
        ")",
        "[",
        "]",
        "0",
        "1.5",
        "'x'",
        "where",
        "first()",
        "is",
        "as",
        "and",
        "=",
        "|",
        "-",
        "{}",
        "@2026",
        "@T10:00",
        "%resource",
        "$this",
        "$index",
        ",",
        "true",
        "contains",
        "in",
        "div",
        "4 days",
        "`given`",
        "extension",
        "ofType(string)",
        "//",
        "/*",
        "*/",
        "~",
        "!",
        "select(",
        "iif(",
        "resolve()",
    ];
}
