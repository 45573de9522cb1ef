//! Evaluation: <https://hl7.org/fhirpath/N1/#expressions>.

use std::borrow::Cow;
use std::collections::HashSet;

use smallvec::{SmallVec, smallvec};

use super::environment::Tally;
use super::expr::{Chain, Expr, Operator, Step, StepKind, TypeTest, Variable};
use super::functions::Call;
use super::navigate;
use super::operators;
use super::value::{Quantity, Value};
use super::{Context, PathError, compare, functions};

/// Largest collection.
pub const MAX_ITEMS: usize = 500_000;
/// Longest text that a function makes, in bytes.
pub const MAX_TEXT: usize = 16 << 20;

/// A collection; one item costs no allocation.
pub(super) type Items<'a> = SmallVec<[Value<'a>; 1]>;
/// What an evaluation gives.
pub(super) type Evaluated<'a> = Result<Items<'a>, PathError>;

/// Where an expression is evaluated.
#[derive(Clone, Copy)]
pub(super) struct Scope<'s, 'a> {
    pub context: &'s Context<'a>,
    /// `%context`: the focus of the whole evaluation.
    pub focus: &'s [Value<'a>],
    /// `$this`.
    pub this: &'s [Value<'a>],
    /// `$index`.
    pub index: Option<usize>,
    /// `$total`.
    pub total: Option<&'s [Value<'a>]>,
    /// The variables of `defineVariable()`, last one first.
    pub defined: Option<&'s Defined<'s, 'a>>,
    pub tally: &'s Tally,
}

/// A variable that the expression itself defines.
pub(super) struct Defined<'s, 'a> {
    name: String,
    items: Items<'a>,
    outer: Option<&'s Defined<'s, 'a>>,
}

impl<'s, 'a> Scope<'s, 'a> {
    pub fn new(tally: &'s Tally, context: &'s Context<'a>, focus: &'s [Value<'a>]) -> Self {
        Scope { context, focus, this: focus, index: None, total: None, defined: None, tally }
    }

    pub fn eval(&self, expr: &'a Expr) -> Evaluated<'a> {
        self.work(1)?;
        Ok(match expr {
            Expr::Empty => Items::new(),
            Expr::Boolean(value) => smallvec![Value::Boolean(*value)],
            Expr::String(literal) => smallvec![Value::String(Cow::Borrowed(&literal.text))],
            Expr::Integer(value) => smallvec![Value::Integer(*value)],
            Expr::Decimal(value) => smallvec![Value::Decimal(*value)],
            Expr::Date(value) => smallvec![Value::Date(*value)],
            Expr::DateTime(value) => smallvec![Value::DateTime(*value)],
            Expr::Time(value) => smallvec![Value::Time(*value)],
            Expr::Quantity(value, unit) => {
                smallvec![Value::Quantity(Quantity { value: *value, unit: Cow::Borrowed(unit) })]
            }
            Expr::Variable(variable, at) => {
                self.variable(variable).map_err(|error| error.standing_at(*at))?
            }
            Expr::This => self.this.into(),
            Expr::Index => match self.index {
                Some(index) => smallvec![Value::Integer(i64::try_from(index).unwrap_or(i64::MAX))],
                None => return Err(PathError::new("$index has no meaning here")),
            },
            Expr::Total => match self.total {
                Some(total) => total.into(),
                None => return Err(PathError::new("$total has no meaning here")),
            },
            Expr::Chain(chain) => {
                let mut items = self.chain(chain)?;
                self.drop_unresolved(chain.resolves, &mut items);
                items
            }
            Expr::Negative(operand) => operators::negative(&self.eval(operand)?)?,
            Expr::Positive(operand) => operators::positive(self.eval(operand)?)?,
            Expr::Is(operand, name) => {
                let items = self.typed_operand(operand)?;
                functions::types::is(self, &items, name)
                    .map_err(|error| error.standing_at(name.at))?
            }
            Expr::As(operand, name) => {
                let items = self.eval(operand)?;
                functions::types::of_type(self, items, name)
                    .map_err(|error| error.standing_at(name.at))?
            }
            Expr::Union(branches) => {
                let mut all = Items::new();
                for branch in branches {
                    all.extend(self.eval(branch)?);
                    self.fits(all.len())?;
                }
                self.distinct(all)?
            }
            Expr::Among(..) => operators::truth_value(self.truth(expr)?),
            Expr::Binary(operator, left, right, at) => {
                let error_here = |error: PathError| error.standing_at(*at);
                match operator.is_condition() {
                    true => operators::truth_value(self.truth(expr)?),
                    false => operators::binary(self, *operator, left, right).map_err(error_here)?,
                }
            }
        })
    }

    /// An expression as a condition; what makes one of itself is not made a collection first.
    pub fn truth(&self, expr: &'a Expr) -> Result<Option<bool>, PathError> {
        match expr {
            Expr::Boolean(value) => Ok(Some(*value)),
            Expr::Among(item, texts, at) => {
                self.work(1 + texts.len() as u64)?;
                let found = operators::among(&self.eval(item)?, texts);
                found.map_err(|error| error.standing_at(*at))
            }
            Expr::Binary(operator, left, right, at) if operator.is_condition() => {
                self.work(1)?;
                let found = match operator {
                    Operator::And | Operator::Or | Operator::Xor | Operator::Implies => {
                        let left = self.truth(left)?;
                        operators::logic(*operator, left, || self.truth(right))
                    }
                    operator => operators::condition(self, *operator, left, right),
                };
                found.map_err(|error| error.standing_at(*at))
            }
            expr => operators::boolean(&self.eval(expr)?),
        }
    }

    /// `resolve() is Patient` may look at a reference that nothing resolves.
    fn typed_operand(&self, operand: &'a Expr) -> Evaluated<'a> {
        match operand {
            Expr::Chain(chain) => self.chain(chain),
            operand => self.eval(operand),
        }
    }

    fn chain(&self, chain: &'a Chain) -> Evaluated<'a> {
        match (chain.base.as_ref(), chain.steps.as_slice()) {
            // The focus is read where it stands, without a copy.
            (Expr::This, [Step { kind: StepKind::Define(..), .. }, ..]) | (_, []) => {
                self.steps(self.eval(&chain.base)?, &chain.steps, chain.resolves)
            }
            (Expr::This, [step, rest @ ..]) => {
                self.steps(self.step(self.this, step)?, rest, chain.resolves)
            }
            (base, steps) => self.steps(self.eval(base)?, steps, chain.resolves),
        }
    }

    fn steps(&self, mut items: Items<'a>, steps: &'a [Step], resolves: bool) -> Evaluated<'a> {
        for (index, step) in steps.iter().enumerate() {
            if !matches!(step.kind, StepKind::Type(..)) {
                self.drop_unresolved(resolves, &mut items);
            }
            if let StepKind::Define(arguments) = &step.kind {
                let rest = steps.get(index + 1..).unwrap_or_default();
                let frame =
                    self.define(&items, arguments).map_err(|error| error.standing_at(step.at))?;
                return Scope { defined: Some(&frame), ..*self }.steps(items, rest, resolves);
            }
            items = self.step(&items, step)?;
        }
        Ok(items)
    }

    /// References that nothing resolved count only where their type is asked for.
    fn drop_unresolved(&self, resolves: bool, items: &mut Items) {
        if resolves && items.iter().any(Value::is_unresolved) {
            items.retain(|item| !item.is_unresolved());
            self.tally.leave_open();
        }
    }

    fn step(&self, items: &[Value<'a>], step: &'a Step) -> Evaluated<'a> {
        let definitions = self.context.definitions;
        self.work(1 + items.len() as u64)?;
        let found = match &step.kind {
            StepKind::Member(name) => {
                let mut found = Items::new();
                for item in items {
                    self.work(navigate::width(item))?;
                    navigate::member(definitions, item, name, &mut found);
                }
                Ok(found)
            }
            StepKind::First(name) => {
                let mut found = Items::new();
                for item in items {
                    self.work(navigate::width(item))?;
                    let item = navigate::resolved(definitions, item);
                    if functions::types::is_named(definitions, &item, &name.text) {
                        found.push(item);
                    } else {
                        navigate::member(definitions, &item, name, &mut found);
                    }
                }
                Ok(found)
            }
            StepKind::Function(function, arguments) => {
                (function.call)(&Call { scope: self, focus: items, arguments })
            }
            StepKind::Type(TypeTest::Is, name) => functions::types::is(self, items, name),
            StepKind::Type(TypeTest::As | TypeTest::OfType, name) => {
                functions::types::of_type(self, items.into(), name)
            }
            StepKind::Item(index) => self.item(items, index),
            // Taken by `steps`.
            StepKind::Define(_) => Ok(items.into()),
        };
        let found = found.map_err(|error| error.standing_at(step.at))?;
        self.fits(found.len())?;
        Ok(found)
    }

    fn item(&self, items: &[Value<'a>], index: &'a Expr) -> Evaluated<'a> {
        let index = operators::integer(&self.eval(index)?)?;
        let index = index.and_then(|index| usize::try_from(index).ok());
        Ok(index.and_then(|index| items.get(index)).cloned().into_iter().collect())
    }

    fn define(
        &self,
        items: &[Value<'a>],
        arguments: &'a [Expr],
    ) -> Result<Defined<'s, 'a>, PathError> {
        let mut arguments = arguments.iter();
        let name = match arguments.next() {
            Some(name) => operators::string(&self.eval(name)?)?,
            None => None,
        };
        let Some(name) = name else {
            return Err(PathError::new("defineVariable() needs the name of the variable"));
        };
        let name = name.into_owned();
        let is_known = matches!(name.as_str(), "context" | "resource" | "rootResource")
            || self.defined(&name).is_some()
            || self.context.variables.iter().any(|(known, _)| *known == name);
        if is_known {
            return Err(PathError::new(format!("the variable %{name} is there already")));
        }
        let items = match arguments.next() {
            Some(value) => Scope { this: items, ..*self }.eval(value)?,
            None => items.into(),
        };
        Ok(Defined { name, items, outer: self.defined })
    }

    fn defined(&self, name: &str) -> Option<&'s Defined<'s, 'a>> {
        std::iter::successors(self.defined, |defined| defined.outer)
            .find(|defined| defined.name == name)
    }

    /// The same scope for one item of a function's focus.
    pub fn within(&self, item: &'s Value<'a>, index: usize) -> Scope<'s, 'a> {
        Scope { this: std::slice::from_ref(item), index: Some(index), ..*self }
    }

    /// Counts work and stops when it is too much.
    pub fn work(&self, amount: u64) -> Result<(), PathError> {
        self.tally.count(amount)
    }

    /// Stops when a collection is too large.
    pub fn fits(&self, items: usize) -> Result<(), PathError> {
        match items > MAX_ITEMS {
            true => Err(PathError::costly(format!("a collection has more than {MAX_ITEMS} items"))),
            false => Ok(()),
        }
    }

    /// Counts a text that is about to be made and stops when it is too long.
    pub fn text(&self, length: u64) -> Result<(), PathError> {
        match length > MAX_TEXT as u64 {
            true => Err(PathError::costly(format!("a text becomes longer than {MAX_TEXT} bytes"))),
            false => self.work(length / 16),
        }
    }

    /// The items without repetitions, first ones kept.
    pub fn distinct(&self, items: Items<'a>) -> Evaluated<'a> {
        if items.len() < 2 {
            return Ok(items);
        }
        if items.len() >= MANY && items.iter().all(|item| plain_text(item).is_some()) {
            self.work(items.len() as u64)?;
            let mut met = HashSet::with_capacity(items.len());
            return Ok(items.into_iter().filter(|item| met.insert(plain_text(item))).collect());
        }
        let mut kept = Items::with_capacity(items.len());
        for item in items {
            if !self.contains(&kept, &item)? {
                kept.push(item);
            }
        }
        Ok(kept)
    }

    /// Whether one of the items equals `item`.
    pub fn contains(&self, items: &[Value<'a>], item: &Value<'a>) -> Result<bool, PathError> {
        self.work((items.len() as u64).saturating_mul(compare::weight(item)))?;
        Ok(items.iter().any(|other| compare::equal(other, item) == Some(true)))
    }

    /// The items of the caller's or the environment's variable.
    pub fn named(&self, name: &str) -> Option<Items<'a>> {
        let context = self.context;
        match context.variables.iter().find(|(known, _)| *known == name) {
            Some((_, items)) => Some(items.as_slice().into()),
            None => context.environment.and_then(|world| world.variable(name)).map(Items::from),
        }
    }

    /// A variable: the expression's own, the caller's, those of FHIR, then the environment's.
    fn variable(&self, variable: &'a Variable) -> Evaluated<'a> {
        let name = variable.name.as_str();
        if let Some(defined) = self.defined(name) {
            // Texts that were made are copied.
            let made = |item: &Value<'a>| match item {
                Value::String(Cow::Owned(text)) => text.len() as u64 / 16,
                _ => 0,
            };
            self.work(defined.items.len() as u64 + defined.items.iter().map(made).sum::<u64>())?;
            return Ok(defined.items.clone());
        }
        let context = self.context;
        if context.variables.iter().all(|(known, _)| *known != name) {
            match name {
                "resource" => return Ok(context.resource.iter().cloned().collect()),
                "rootResource" => {
                    return Ok(context.root_resource().cloned().into_iter().collect());
                }
                "context" => return Ok(self.focus.into()),
                _ => {}
            }
            if let Some(uri) = &variable.uri {
                return Ok(smallvec![Value::String(Cow::Borrowed(uri))]);
            }
        }
        self.named(name).ok_or_else(|| PathError::new(format!("there is no variable %{name}")))
    }
}

/// From so many items on, texts are told apart by a table.
const MANY: usize = 16;

/// The text of an item that is nothing but a text, so that equal texts are equal items.
fn plain_text<'a>(item: &Value<'a>) -> Option<Cow<'a, str>> {
    match item.to_system() {
        Value::String(text) => Some(text),
        _ => None,
    }
}
