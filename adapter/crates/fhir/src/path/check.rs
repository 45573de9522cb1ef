//! What can be said about an expression without data:
//! <https://hl7.org/fhirpath/N1/#type-safety-and-strict-evaluation>.
//!
//! Element names are checked as far as the types on the way are known; operands of operators and
//! functions are not.

use super::PathError;
use super::functions::Function;
use super::parser::{Expr, Operator, Step, TypeName};
use crate::definitions::{Definitions, Kind, Type};

/// Beyond so many types nothing is said: the open choice of `Extension.value` has 50.
const MAX_TYPES: usize = 40;

/// What is known about the items of a collection.
#[derive(Clone)]
struct Shape<'a> {
    /// The types that items can have; `None` when nothing is known.
    types: Option<Vec<Known<'a>>>,
    /// Whether the items have an order that means something.
    is_ordered: bool,
}

#[derive(Clone, Copy)]
enum Known<'a> {
    Fhir(&'a Type),
    Boolean,
    /// Any other type of FHIRPath itself.
    System,
}

struct Checker<'a> {
    definitions: &'a Definitions,
    resource: Shape<'a>,
}

/// Checks an expression whose focus has the type `focus`, if that is known.
pub(super) fn check(
    root: &Expr,
    definitions: &Definitions,
    focus: Option<&str>,
) -> Result<(), PathError> {
    let shape = |name: Option<&str>| match name.and_then(|name| definitions.type_of(name)) {
        Some(kind) => Shape::of(Known::Fhir(kind)),
        None => Shape::unknown(),
    };
    // A backbone element stands in the resource that its path begins with.
    let resource = focus.and_then(|name| name.split('.').next());
    let resource = shape(resource.filter(|name| definitions.is_resource(name)));
    let checker = Checker { definitions, resource };
    checker.shape(root, &shape(focus)).map(|_| ())
}

impl<'a> Shape<'a> {
    fn unknown() -> Self {
        Shape { types: None, is_ordered: true }
    }

    fn of(known: Known<'a>) -> Self {
        Shape { types: Some(vec![known]), is_ordered: true }
    }
}

impl<'a> Checker<'a> {
    fn shape(&self, expr: &Expr, this: &Shape<'a>) -> Result<Shape<'a>, PathError> {
        Ok(match expr {
            Expr::Boolean(_) => Shape::of(Known::Boolean),
            Expr::String(_)
            | Expr::Integer(_)
            | Expr::Decimal(_)
            | Expr::Date(_)
            | Expr::DateTime(_)
            | Expr::Time(_)
            | Expr::Quantity(..)
            | Expr::Index => Shape::of(Known::System),
            Expr::Variable(name) if name == "resource" => self.resource.clone(),
            Expr::Empty | Expr::Variable(_) | Expr::Total => Shape::unknown(),
            Expr::This => this.clone(),
            Expr::Chain(base, steps) => {
                let mut shape = self.shape(base, this)?;
                for step in steps {
                    shape = self.step(step, &shape, this)?;
                }
                shape
            }
            Expr::Negative(operand) | Expr::Positive(operand) => {
                self.shape(operand, this)?;
                Shape::unknown()
            }
            Expr::Is(operand, _) => {
                self.shape(operand, this)?;
                Shape::of(Known::Boolean)
            }
            Expr::As(operand, name) => {
                self.shape(operand, this)?;
                self.named(name.namespace.as_deref(), &name.name)
            }
            Expr::Union(branches) => {
                let mut all = Some(Vec::new());
                for branch in branches {
                    let types = self.shape(branch, this)?.types;
                    all = all.zip(types).map(|(all, types)| [all, types].concat());
                }
                Shape { types: all.filter(|all| all.len() <= MAX_TYPES), is_ordered: true }
            }
            Expr::Binary(operator, left, right) => {
                self.shape(left, this)?;
                self.shape(right, this)?;
                if is_arithmetic(*operator) { Shape::unknown() } else { Shape::of(Known::Boolean) }
            }
        })
    }

    fn step(
        &self,
        step: &Step,
        focus: &Shape<'a>,
        this: &Shape<'a>,
    ) -> Result<Shape<'a>, PathError> {
        match step {
            Step::First(name) => self.first(name, focus),
            Step::Member(name) => self.member(name, focus),
            Step::Item(index) => {
                self.shape(index, this)?;
                in_order(focus, "[]")?;
                Ok(focus.clone())
            }
            Step::Function(function, arguments) => self.call(function, arguments, focus, this),
        }
    }

    fn first(&self, name: &str, focus: &Shape<'a>) -> Result<Shape<'a>, PathError> {
        let itself = |known: &Known<'a>| matches!(known, Known::Fhir(kind) if self.definitions.derives(kind, name));
        match (&focus.types, self.definitions.type_of(name)) {
            (Some(types), _) if types.iter().any(itself) => Ok(focus.clone()),
            (None, Some(kind)) => Ok(Shape::of(Known::Fhir(kind))),
            _ => self.member(name, focus),
        }
    }

    fn member(&self, name: &str, focus: &Shape<'a>) -> Result<Shape<'a>, PathError> {
        let unknown = Shape { types: None, is_ordered: focus.is_ordered };
        let Some(types) = &focus.types else { return Ok(unknown) };
        let mut found = Vec::new();
        let mut is_element = false;
        for known in types {
            let Known::Fhir(kind) = known else { continue };
            if kind.kind == Kind::Resource && kind.is_abstract {
                // Any resource can stand here.
                return Ok(unknown);
            }
            let Some(element) = self.definitions.element(kind, name) else { continue };
            is_element = true;
            for content in element.types.iter().filter_map(|kind| self.definitions.content(kind)) {
                found.push(Known::Fhir(content));
            }
        }
        if found.len() > MAX_TYPES {
            return Ok(unknown);
        }
        if is_element || types.is_empty() {
            return Ok(Shape { types: Some(found), is_ordered: focus.is_ordered });
        }
        let names: Vec<&str> = types
            .iter()
            .map(|known| if let Known::Fhir(kind) = known { kind.name } else { "a value" })
            .collect();
        Err(PathError::new(format!("{} has no element {name}", names.join(" or "))))
    }

    fn call(
        &self,
        function: &Function,
        arguments: &[Expr],
        focus: &Shape<'a>,
        this: &Shape<'a>,
    ) -> Result<Shape<'a>, PathError> {
        let argument = |this: &Shape<'a>| match arguments.first() {
            Some(argument) => self.shape(argument, this),
            None => Ok(Shape::unknown()),
        };
        match function.name() {
            "is" => Ok(Shape::of(Known::Boolean)),
            "as" | "ofType" => Ok(match arguments.first().and_then(TypeName::of) {
                Some((namespace, name)) => {
                    Shape { is_ordered: focus.is_ordered, ..self.named(namespace, name) }
                }
                None => Shape::unknown(),
            }),
            "where" => argument(focus).map(|_| focus.clone()),
            "select" => argument(focus),
            "exists" | "all" => argument(focus).map(|_| Shape::of(Known::Boolean)),
            "first" | "last" | "tail" | "skip" | "take" => {
                in_order(focus, function.name())?;
                argument(this).map(|_| focus.clone())
            }
            "single" | "distinct" | "trace" => Ok(focus.clone()),
            "children" | "descendants" => Ok(Shape { types: None, is_ordered: false }),
            "extension" => {
                argument(this)?;
                self.member("extension", focus)
            }
            "iif" => {
                let criterion = argument(focus)?;
                if matches!(criterion.types.as_deref(), Some([Known::System])) {
                    return Err(PathError::new("the criterion of iif() is no boolean"));
                }
                for branch in arguments.iter().skip(1) {
                    self.shape(branch, focus)?;
                }
                Ok(Shape::unknown())
            }
            // Their arguments see each item, or results of their own.
            "repeat" | "aggregate" | "sort" => Ok(Shape::unknown()),
            _ => {
                for argument in arguments {
                    self.shape(argument, this)?;
                }
                Ok(Shape::unknown())
            }
        }
    }

    fn named(&self, namespace: Option<&str>, name: &str) -> Shape<'a> {
        match self.definitions.type_of(name).filter(|_| namespace != Some("System")) {
            Some(kind) => Shape::of(Known::Fhir(kind)),
            None => Shape::unknown(),
        }
    }
}

fn in_order(focus: &Shape, name: &str) -> Result<(), PathError> {
    match focus.is_ordered {
        true => Ok(()),
        false => Err(PathError::new(format!("{name} needs an order that the items do not have"))),
    }
}

fn is_arithmetic(operator: Operator) -> bool {
    matches!(
        operator,
        Operator::Multiply
            | Operator::Divide
            | Operator::Div
            | Operator::Mod
            | Operator::Add
            | Operator::Subtract
            | Operator::Concatenate
    )
}
