//! What an expression is once it is read: <https://hl7.org/fhirpath/N1/#expressions>.

use std::sync::OnceLock;

use rust_decimal::Decimal;

use super::functions::Function;
use super::memo::Memo;
use super::temporal::Temporal;
use crate::pattern::Pattern;

/// A node of the parsed expression.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Empty,
    Boolean(bool),
    String(Literal),
    Integer(i64),
    Decimal(Decimal),
    Date(Temporal),
    DateTime(Temporal),
    Time(Temporal),
    Quantity(Decimal, String),
    /// `%name`, and where it stands.
    Variable(Variable, usize),
    This,
    Index,
    Total,
    Chain(Chain),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    Is(Box<Expr>, TypeName),
    As(Box<Expr>, TypeName),
    Union(Vec<Expr>),
    /// `x in ('a' | 'b')`: whether a text is one of those that stand in the expression.
    Among(Box<Expr>, Vec<Expr>, usize),
    /// Operator, operands and where the operator stands.
    Binary(Operator, Box<Expr>, Box<Expr>, usize),
}

/// A string in the expression.
#[derive(Clone, Debug)]
pub(crate) struct Literal {
    pub text: String,
    /// The regular expression that the function makes of it whose argument it is.
    pub pattern: OnceLock<Option<Pattern>>,
}

/// `%name`.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub name: String,
    /// The uri that FHIR fixes for it.
    pub uri: Option<String>,
}

/// `base.step.step`; a chain that begins with a name has the base [`Expr::This`].
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub base: Box<Expr>,
    pub steps: Vec<Step>,
    /// Whether one of the steps is `resolve()`.
    pub resolves: bool,
}

/// One step of a chain and where it stands in the text.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub at: usize,
    pub kind: StepKind,
}

/// What a step does.
#[derive(Clone, Debug)]
pub(crate) enum StepKind {
    /// A capitalised name that begins the chain: an element or the type of the item itself.
    First(Name),
    Member(Name),
    Function(&'static Function, Vec<Expr>),
    /// `is()`, `as()` or `ofType()`.
    Type(TypeTest, TypeName),
    /// `defineVariable()`.
    Define(Vec<Expr>),
    Item(Expr),
}

/// A function that asks for the type of its focus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TypeTest {
    Is,
    As,
    OfType,
}

/// The name of an element.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub text: String,
    pub memo: Memo,
}

/// `[namespace.]name` of a type.
#[derive(Clone, Debug)]
pub(crate) struct TypeName {
    pub namespace: Option<String>,
    pub name: String,
    pub memo: Memo,
    /// Where it stands in the text.
    pub at: usize,
}

impl TypeName {
    /// The type that an argument names.
    pub fn of(argument: &Expr, at: usize) -> Option<TypeName> {
        let Expr::Chain(chain) = argument else { return None };
        let names: Vec<&Name> = chain
            .steps
            .iter()
            .map(|step| match &step.kind {
                StepKind::First(name) | StepKind::Member(name) => Some(name),
                _ => None,
            })
            .collect::<Option<_>>()?;
        let (namespace, name) = match (chain.base.as_ref(), names.as_slice()) {
            (Expr::This, [name]) => (None, name),
            (Expr::This, [namespace, name]) => (Some(namespace.text.clone()), name),
            _ => return None,
        };
        Some(TypeName { namespace, name: name.text.clone(), memo: Memo::default(), at })
    }
}

impl Variable {
    /// <https://hl7.org/fhir/R4/fhirpath.html#variables>.
    pub fn named(name: String) -> Variable {
        let uri = match name.as_str() {
            "ucum" => Some("http://unitsofmeasure.org".to_string()),
            "sct" => Some("http://snomed.info/sct".to_string()),
            "loinc" => Some("http://loinc.org".to_string()),
            _ => match (name.strip_prefix("vs-"), name.strip_prefix("ext-")) {
                (Some(name), _) => Some(format!("http://hl7.org/fhir/ValueSet/{name}")),
                (_, Some(name)) => Some(format!("http://hl7.org/fhir/StructureDefinition/{name}")),
                _ => None,
            },
        };
        Variable { name, uri }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Multiply,
    Divide,
    Div,
    Mod,
    Add,
    Subtract,
    Concatenate,
    Is,
    As,
    Union,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
    Equivalent,
    NotEquivalent,
    In,
    Contains,
    And,
    Or,
    Xor,
    Implies,
}
