//! What can be said about an expression without data:
//! <https://hl7.org/fhirpath/N1/#type-safety-and-strict-evaluation>.
//!
//! Every part of an expression gets the types that its items can have, as far as the element table
//! tells. What could never work is a fault: an element that none of the types has, operands that
//! no operator takes, an order where there is none. A strict check also refuses what works with
//! some data only: many items where one is needed, conditions that are no booleans, variables
//! that nobody announced.

use super::expr::{Chain, Expr, Operator, Step, StepKind, TypeName, TypeTest};
use super::functions::{self, Function};
use super::{PathError, operators, signature};
use crate::definitions::{Definitions, Kind, System, Type};

/// Beyond so many types nothing is said: the open choice of `Extension.value` has 50.
const MAX_TYPES: usize = 40;

/// What a check may assume, and how strict it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checks<'c> {
    /// The type of the focus: a type's name or the path of a backbone element.
    pub focus: Option<&'c str>,
    /// The type of `%resource`, if it is not the one in whose path the focus stands.
    pub resource: Option<&'c str>,
    /// The variables that will be there, besides FHIR's own; for a strict check.
    pub variables: &'c [&'c str],
    /// Whether the expression is a condition, as an invariant is.
    pub condition: bool,
    /// Whether what may fail with some data is a fault.
    pub strict: bool,
}

/// What is known about the items of a collection.
#[derive(Clone)]
struct Shape<'a> {
    /// The types that items can have; `None` when nothing is known.
    types: Option<Vec<Known<'a>>>,
    /// Whether the items have an order that means something.
    is_ordered: bool,
    /// Whether it is known that there can be several items.
    many: bool,
}

#[derive(Clone, Copy)]
enum Known<'a> {
    Fhir(&'a Type),
    System(System),
}

struct Checker<'a, 'c> {
    definitions: &'a Definitions,
    resource: Shape<'a>,
    focus: Shape<'a>,
    checks: &'c Checks<'c>,
}

/// Where a part of an expression stands.
#[derive(Clone, Copy)]
struct Place<'p, 'a> {
    this: &'p Shape<'a>,
    /// The variables of `defineVariable()`.
    defined: &'p [(Option<&'p str>, Shape<'a>)],
}

/// Checks an expression.
pub(super) fn check(
    root: &Expr,
    definitions: &Definitions,
    checks: &Checks,
) -> Result<(), PathError> {
    let shape = |name: Option<&str>| match name.and_then(|name| definitions.type_of(name)) {
        Some(kind) => Shape::of(Known::Fhir(kind)),
        None => Shape::unknown(),
    };
    // A backbone element stands in the resource that its path begins with.
    let own = || checks.focus.and_then(|name| name.split('.').next());
    let resource = checks.resource.or_else(own).filter(|name| definitions.is_resource(name));
    let checker =
        Checker { definitions, resource: shape(resource), focus: shape(checks.focus), checks };
    let found = checker.shape(root, Place { this: &checker.focus, defined: &[] })?;
    if checks.condition {
        checker.condition(&found)?;
    }
    Ok(())
}

impl Known<'_> {
    fn system(self) -> System {
        match self {
            Known::Fhir(kind) => kind.system,
            Known::System(system) => system,
        }
    }

    fn name(self) -> String {
        match self {
            Known::Fhir(kind) => kind.name.to_string(),
            Known::System(system) => format!("{system:?}"),
        }
    }
}

impl<'a> Shape<'a> {
    fn unknown() -> Self {
        Shape { types: None, is_ordered: true, many: false }
    }

    fn of(known: Known<'a>) -> Self {
        Shape { types: Some(vec![known]), is_ordered: true, many: false }
    }

    fn system(system: System) -> Self {
        Shape::of(Known::System(system))
    }

    /// Items of some of the system types; none is any.
    fn one_of(systems: &[System], many: bool) -> Self {
        let types = systems.iter().map(|system| Known::System(*system)).collect();
        Shape { types: Some(types).filter(|_| !systems.is_empty()), is_ordered: true, many }
    }

    /// Items of either.
    fn or(self, other: Shape<'a>) -> Self {
        let types = self.types.zip(other.types).map(|(one, two)| [one, two].concat());
        Shape {
            types: types.filter(|types| types.len() <= MAX_TYPES),
            is_ordered: self.is_ordered && other.is_ordered,
            many: self.many || other.many,
        }
    }

    fn names(&self) -> String {
        let names = self.types.iter().flatten().map(|known| known.name());
        names.collect::<Vec<_>>().join(" or ")
    }

    /// Whether some of the items can be of one of the types.
    fn can_be(&self, systems: &[System]) -> bool {
        systems.is_empty()
            || self.types.as_ref().is_none_or(|types| {
                types.is_empty() || types.iter().any(|known| systems.contains(&known.system()))
            })
    }
}

impl<'a> Checker<'a, '_> {
    fn shape(&self, expr: &Expr, place: Place<'_, 'a>) -> Result<Shape<'a>, PathError> {
        Ok(match expr {
            Expr::Boolean(_) => Shape::system(System::Boolean),
            Expr::String(_) => Shape::system(System::String),
            Expr::Integer(_) | Expr::Index => Shape::system(System::Integer),
            Expr::Decimal(_) => Shape::system(System::Decimal),
            Expr::Date(_) => Shape::system(System::Date),
            Expr::DateTime(_) => Shape::system(System::DateTime),
            Expr::Time(_) => Shape::system(System::Time),
            Expr::Quantity(..) => Shape::system(System::Quantity),
            Expr::Variable(variable, at) => {
                let found = self.variable(&variable.name, variable.uri.is_some(), place);
                found.map_err(|error| error.standing_at(*at))?
            }
            Expr::Empty | Expr::Total => Shape::unknown(),
            Expr::This => place.this.clone(),
            Expr::Chain(chain) => self.chain(chain, place)?,
            Expr::Negative(operand) | Expr::Positive(operand) => {
                let operand = self.shape(operand, place)?;
                self.one(&operand, "a sign")?;
                operand
            }
            Expr::Is(operand, name) => {
                let operand = self.shape(operand, place)?;
                self.one(&operand, "is").map_err(|error| error.standing_at(name.at))?;
                self.known(name)?;
                Shape::system(System::Boolean)
            }
            Expr::As(operand, name) => self.narrowed(&self.shape(operand, place)?, name)?,
            Expr::Union(branches) => {
                let mut all = Shape { types: Some(Vec::new()), is_ordered: true, many: true };
                for branch in branches {
                    all = all.or(self.shape(branch, place)?);
                }
                Shape { is_ordered: true, ..all }
            }
            Expr::Among(item, _, at) => {
                let item = self.shape(item, place)?;
                self.one(&item, "in").map_err(|error| error.standing_at(*at))?;
                Shape::system(System::Boolean)
            }
            Expr::Binary(operator, left, right, at) => {
                let (left, right) = (self.shape(left, place)?, self.shape(right, place)?);
                let found = self.operate(*operator, &left, &right);
                found.map_err(|error| error.standing_at(*at))?
            }
        })
    }

    fn variable(
        &self,
        name: &str,
        is_fixed: bool,
        place: Place<'_, 'a>,
    ) -> Result<Shape<'a>, PathError> {
        let mut defined = place.defined.iter().rev();
        if let Some((_, shape)) = defined.find(|(known, _)| *known == Some(name)) {
            return Ok(shape.clone());
        }
        let announced = || {
            // A name that is calculated can be any.
            self.checks.variables.contains(&name)
                || place.defined.iter().any(|(known, _)| known.is_none())
        };
        match name {
            "resource" => Ok(self.resource.clone()),
            "context" => Ok(self.focus.clone()),
            "rootResource" => Ok(Shape::unknown()),
            _ if is_fixed => Ok(Shape::system(System::String)),
            _ if self.checks.strict && !announced() => {
                Err(PathError::new(format!("there is no variable %{name}")))
            }
            _ => Ok(Shape::unknown()),
        }
    }

    fn chain(&self, chain: &Chain, place: Place<'_, 'a>) -> Result<Shape<'a>, PathError> {
        let mut shape = self.shape(&chain.base, place)?;
        let mut defined = place.defined.to_vec();
        for step in &chain.steps {
            let here = Place { defined: &defined, ..place };
            let found = match &step.kind {
                StepKind::Define(arguments) => {
                    let (name, value) = match arguments.as_slice() {
                        [name, value] => (name, self.shape(value, Place { this: &shape, ..here })?),
                        [name] => (name, shape.clone()),
                        _ => continue,
                    };
                    let name = match name {
                        Expr::String(literal) => Some(literal.text.as_str()),
                        _ => None,
                    };
                    defined.push((name, value));
                    continue;
                }
                _ => self.step(step, &shape, here),
            };
            shape = found.map_err(|error| error.standing_at(step.at))?;
        }
        Ok(shape)
    }

    fn step(
        &self,
        step: &Step,
        focus: &Shape<'a>,
        place: Place<'_, 'a>,
    ) -> Result<Shape<'a>, PathError> {
        match &step.kind {
            StepKind::First(name) => self.first(&name.text, focus),
            StepKind::Member(name) => self.member(&name.text, focus),
            StepKind::Item(index) => {
                let index = self.shape(index, place)?;
                self.takes(&index, &[System::Integer], "[]")?;
                in_order(focus, "[]")?;
                Ok(Shape { many: false, ..focus.clone() })
            }
            StepKind::Type(TypeTest::Is, name) => {
                self.one(focus, "is()")?;
                self.known(name)?;
                Ok(Shape::system(System::Boolean))
            }
            StepKind::Type(_, name) => self.narrowed(focus, name),
            StepKind::Function(function, arguments) => self.call(function, arguments, focus, place),
            StepKind::Define(_) => Ok(focus.clone()),
        }
    }

    fn first(&self, name: &str, focus: &Shape<'a>) -> Result<Shape<'a>, PathError> {
        let itself = |known: &Known<'a>| matches!(known, Known::Fhir(kind) if self.definitions.derives(kind, name));
        match (&focus.types, self.definitions.type_of(name)) {
            (Some(types), _) if types.iter().any(itself) => Ok(focus.clone()),
            (None, Some(kind)) => Ok(Shape { many: focus.many, ..Shape::of(Known::Fhir(kind)) }),
            _ => self.member(name, focus),
        }
    }

    fn member(&self, name: &str, focus: &Shape<'a>) -> Result<Shape<'a>, PathError> {
        let unknown = Shape { types: None, ..focus.clone() };
        let Some(types) = &focus.types else { return Ok(unknown) };
        let mut found = Vec::new();
        let mut is_element = false;
        let mut many = focus.many;
        for known in types {
            let Known::Fhir(kind) = known else {
                // The parts of a TypeInfo and of a quantity are not in the table.
                match known.system() {
                    System::Quantity if matches!(name, "value" | "unit") => return Ok(unknown),
                    _ => continue,
                }
            };
            if kind.kind == Kind::Resource && kind.is_abstract {
                // Any resource can stand here.
                return Ok(unknown);
            }
            let Some(element) = self.definitions.element(kind, name) else { continue };
            is_element = true;
            many |= element.max.is_none_or(|max| max > 1);
            for content in element.types.iter().filter_map(|kind| self.definitions.content(kind)) {
                found.push(Known::Fhir(content));
            }
        }
        if found.len() > MAX_TYPES {
            return Ok(Shape { many, ..unknown });
        }
        if is_element || types.is_empty() {
            return Ok(Shape { types: Some(found), is_ordered: focus.is_ordered, many });
        }
        Err(PathError::new(format!("{} has no element {name}", focus.names())))
    }

    fn call(
        &self,
        function: &Function,
        arguments: &[Expr],
        focus: &Shape<'a>,
        place: Place<'_, 'a>,
    ) -> Result<Shape<'a>, PathError> {
        let name = function.name();
        let each = Shape { many: false, ..focus.clone() };
        let of_each = Place { this: &each, ..place };
        let argument = |place: Place<'_, 'a>| match arguments.first() {
            Some(argument) => self.shape(argument, place),
            None => Ok(Shape::unknown()),
        };
        match name {
            "where" => {
                self.condition(&argument(of_each)?)?;
                Ok(focus.clone())
            }
            "exists" | "all" => {
                if !arguments.is_empty() {
                    self.condition(&argument(of_each)?)?;
                }
                Ok(Shape::system(System::Boolean))
            }
            "select" => {
                let found = argument(of_each)?;
                Ok(Shape { many: found.many || focus.many, ..found })
            }
            "first" | "last" | "tail" | "skip" | "take" => {
                in_order(focus, name)?;
                let argument = argument(place)?;
                self.takes(&argument, &[System::Integer], name)?;
                let many = focus.many && !matches!(name, "first" | "last");
                Ok(Shape { many, ..focus.clone() })
            }
            "single" => Ok(Shape { many: false, ..focus.clone() }),
            "distinct" | "checkModifiers" => Ok(focus.clone()),
            "trace" => {
                for argument in arguments.iter().skip(1) {
                    self.shape(argument, of_each)?;
                }
                Ok(focus.clone())
            }
            "children" | "descendants" => Ok(Shape { types: None, is_ordered: false, many: true }),
            "extension" => {
                self.takes(&argument(place)?, &[System::String], name)?;
                self.member(name, focus)
            }
            "union" | "combine" => Ok(Shape { many: true, ..focus.clone().or(argument(place)?) }),
            "intersect" | "exclude" => argument(place).map(|_| focus.clone()),
            "iif" => {
                let whole = Place { this: focus, ..place };
                let criterion = argument(whole)?;
                if !criterion.can_be(&[System::Boolean])
                    && criterion.types.iter().flatten().all(|k| matches!(k, Known::System(_)))
                {
                    return Err(PathError::new("the criterion of iif() is no boolean"));
                }
                self.condition(&criterion)?;
                let mut found = Shape { types: Some(Vec::new()), ..Shape::unknown() };
                for branch in arguments.iter().skip(1) {
                    found = found.or(self.shape(branch, whole)?);
                }
                Ok(found)
            }
            "coalesce" => {
                let mut found = Shape { types: Some(Vec::new()), ..Shape::unknown() };
                for argument in arguments {
                    found = found.or(self.shape(argument, place)?);
                }
                Ok(found)
            }
            // Their arguments see each item, or results of their own.
            "repeat" | "aggregate" | "sort" => Ok(Shape::unknown()),
            _ => self.by_signature(name, arguments, focus, place),
        }
    }

    fn by_signature(
        &self,
        name: &str,
        arguments: &[Expr],
        focus: &Shape<'a>,
        place: Place<'_, 'a>,
    ) -> Result<Shape<'a>, PathError> {
        let Some(signature) = signature::find(name) else {
            for argument in arguments {
                self.shape(argument, place)?;
            }
            return Ok(Shape::unknown());
        };
        self.takes(focus, signature.focus, &format!("{name}()"))?;
        if signature.single {
            self.one(focus, &format!("{name}()"))?;
        }
        for (index, argument) in arguments.iter().enumerate() {
            let argument = self.shape(argument, place)?;
            let wanted = signature.arguments.get(index).or(signature.arguments.last());
            self.takes(&argument, wanted.copied().unwrap_or_default(), &format!("{name}()"))?;
        }
        Ok(Shape::one_of(signature.result, signature.many))
    }

    fn operate(
        &self,
        operator: Operator,
        left: &Shape<'a>,
        right: &Shape<'a>,
    ) -> Result<Shape<'a>, PathError> {
        let boolean = Ok(Shape::system(System::Boolean));
        match operator {
            Operator::And | Operator::Or | Operator::Xor | Operator::Implies => {
                self.condition(left)?;
                self.condition(right)?;
                return boolean;
            }
            Operator::In => {
                self.one(left, "in")?;
                return boolean;
            }
            Operator::Contains => {
                self.one(right, "contains")?;
                return boolean;
            }
            Operator::Equal
            | Operator::NotEqual
            | Operator::Equivalent
            | Operator::NotEquivalent => return boolean,
            _ => {}
        }
        let text = operators::name(operator);
        self.one(left, text)?;
        self.one(right, text)?;
        let (Some(ones), Some(twos)) = (&left.types, &right.types) else {
            return match operator.is_condition() {
                true => boolean,
                false => Ok(Shape::unknown()),
            };
        };
        if ones.is_empty() || twos.is_empty() {
            return Ok(Shape::unknown());
        }
        let mut found: Vec<System> = Vec::new();
        for one in ones {
            for two in twos {
                let result = signature::operate(operator, one.system(), two.system());
                found.extend(result.filter(|result| !found.contains(result)));
            }
        }
        match found.is_empty() {
            true => Err(PathError::new(format!(
                "{text} does not take {} and {}",
                left.names(),
                right.names()
            ))),
            false => Ok(Shape::one_of(&found, false)),
        }
    }

    /// `as` and `ofType`.
    fn narrowed(&self, focus: &Shape<'a>, name: &TypeName) -> Result<Shape<'a>, PathError> {
        self.known(name)?;
        let target = self
            .definitions
            .type_of(&name.name)
            .filter(|_| name.namespace.as_deref() != Some("System"));
        let Some(target) = target else { return Ok(Shape { types: None, ..focus.clone() }) };
        let is_possible = |known: &Known| match known {
            Known::Fhir(kind) => {
                self.definitions.derives(kind, target.name)
                    || self.definitions.derives(target, kind.name)
            }
            Known::System(_) => false,
        };
        let types = focus.types.as_ref().filter(|types| !types.is_empty());
        if self.checks.strict && types.is_some_and(|types| !types.iter().any(is_possible)) {
            let reason = format!("{} is never {}", focus.names(), target.name);
            return Err(PathError::at(reason, name.at));
        }
        Ok(Shape { types: Some(vec![Known::Fhir(target)]), ..focus.clone() })
    }

    fn known(&self, name: &TypeName) -> Result<(), PathError> {
        match functions::types::is_known(self.definitions, name) {
            true => Ok(()),
            false => Err(PathError::at(format!("there is no type {}", name.name), name.at)),
        }
    }

    /// Strictly, a condition is a single boolean; else any single item counts as true.
    fn condition(&self, shape: &Shape) -> Result<(), PathError> {
        if !self.checks.strict {
            return Ok(());
        }
        self.one(shape, "a condition")?;
        match shape.can_be(&[System::Boolean]) {
            true => Ok(()),
            false => {
                Err(PathError::new(format!("a boolean is needed and {} is none", shape.names())))
            }
        }
    }

    fn one(&self, shape: &Shape, what: &str) -> Result<(), PathError> {
        match self.checks.strict && shape.many {
            true => {
                Err(PathError::new(format!("{what} needs one item where there can be several")))
            }
            false => Ok(()),
        }
    }

    fn takes(&self, shape: &Shape, systems: &[System], what: &str) -> Result<(), PathError> {
        match shape.can_be(systems) {
            true => Ok(()),
            false => Err(PathError::new(format!("{what} does not take {}", shape.names()))),
        }
    }
}

fn in_order(focus: &Shape, name: &str) -> Result<(), PathError> {
    match focus.is_ordered {
        true => Ok(()),
        false => Err(PathError::new(format!("{name} needs an order that the items do not have"))),
    }
}
