//! Evaluation: <https://hl7.org/fhirpath/N1/#expressions>.

use std::borrow::Cow;
use std::cell::Cell;

use super::functions::Call;
use super::navigate;
use super::operators;
use super::parser::{Expr, Step};
use super::value::{Quantity, Value};
use super::{Context, PathError, compare, functions};

/// Largest collection.
pub(super) const MAX_ITEMS: usize = 500_000;
/// Largest number of steps, comparisons and produced items of one evaluation.
const MAX_WORK: u64 = 20_000_000;

/// Longest text that a function makes, in bytes.
const MAX_TEXT: u64 = 16 << 20;

/// A collection.
pub(super) type Items<'a> = Vec<Value<'a>>;
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
    pub spent: &'s Cell<u64>,
}

pub(super) fn evaluate<'a>(
    root: &'a Expr,
    spent: &Cell<u64>,
    context: &Context<'a>,
    focus: &[Value<'a>],
) -> Evaluated<'a> {
    Scope { context, focus, this: focus, index: None, total: None, spent }.eval(root)
}

impl<'s, 'a> Scope<'s, 'a> {
    pub fn eval(&self, expr: &'a Expr) -> Evaluated<'a> {
        self.work(1)?;
        Ok(match expr {
            Expr::Empty => Vec::new(),
            Expr::Boolean(value) => vec![Value::Boolean(*value)],
            Expr::String(literal) => vec![Value::String(Cow::Borrowed(&literal.text))],
            Expr::Integer(value) => vec![Value::Integer(*value)],
            Expr::Decimal(value) => vec![Value::Decimal(*value)],
            Expr::Date(value) => vec![Value::Date(*value)],
            Expr::DateTime(value) => vec![Value::DateTime(*value)],
            Expr::Time(value) => vec![Value::Time(*value)],
            Expr::Quantity(value, unit) => {
                vec![Value::Quantity(Quantity { value: *value, unit: Cow::Borrowed(unit) })]
            }
            Expr::Variable(name) => self.variable(name)?,
            Expr::This => self.this.to_vec(),
            Expr::Index => match self.index {
                Some(index) => vec![Value::Integer(i64::try_from(index).unwrap_or(i64::MAX))],
                None => return Err(PathError::new("$index has no meaning here")),
            },
            Expr::Total => match self.total {
                Some(total) => total.to_vec(),
                None => return Err(PathError::new("$total has no meaning here")),
            },
            Expr::Chain(base, steps) => {
                let mut items = self.chain(base, steps)?;
                drop_unresolved(steps, &mut items);
                items
            }
            Expr::Negative(operand) => operators::negative(&self.eval(operand)?)?,
            Expr::Positive(operand) => self.eval(operand)?,
            Expr::Is(operand, name) => {
                let items = self.typed_operand(operand)?;
                functions::types::is(self, &items, name.namespace.as_deref(), &name.name)?
            }
            Expr::As(operand, name) => {
                let items = self.eval(operand)?;
                functions::types::of_type(self, &items, name.namespace.as_deref(), &name.name)?
            }
            Expr::Union(branches) => {
                let mut all = Vec::new();
                for branch in branches {
                    all.extend(self.eval(branch)?);
                    self.fits(all.len())?;
                }
                self.distinct(all)?
            }
            Expr::Binary(operator, left, right) => operators::binary(self, *operator, left, right)?,
        })
    }

    /// `resolve() is Patient` may look at a reference that nothing resolves.
    fn typed_operand(&self, operand: &'a Expr) -> Evaluated<'a> {
        match operand {
            Expr::Chain(base, steps) => self.chain(base, steps),
            operand => self.eval(operand),
        }
    }

    fn chain(&self, base: &'a Expr, steps: &'a [Step]) -> Evaluated<'a> {
        let (mut items, done) = match (base, steps) {
            // The focus is read where it stands, without a copy.
            (Expr::This, [step, ..]) => (self.step(self.this, step)?, 1),
            (base, _) => (self.eval(base)?, 0),
        };
        for (index, step) in steps.iter().enumerate().skip(done) {
            if !matches!(step, Step::Function(function, _) if function.tests_type()) {
                drop_unresolved(&steps[..index], &mut items);
            }
            items = self.step(&items, step)?;
        }
        Ok(items)
    }

    fn step(&self, items: &[Value<'a>], step: &'a Step) -> Evaluated<'a> {
        let definitions = self.context.definitions;
        self.work(1 + items.len() as u64)?;
        let found = match step {
            Step::Member(name) => {
                let mut found = Vec::with_capacity(items.len());
                for item in items {
                    navigate::member(definitions, item, name, &mut found);
                }
                found
            }
            Step::First(name) => {
                let mut found = Vec::with_capacity(items.len());
                for item in items {
                    let item = navigate::resolved(definitions, item);
                    if functions::types::is_named(definitions, &item, name) {
                        found.push(item);
                    } else {
                        navigate::member(definitions, &item, name, &mut found);
                    }
                }
                found
            }
            Step::Function(function, arguments) => {
                (function.call)(&Call { scope: self, focus: items, arguments })?
            }
            Step::Item(index) => {
                let index = operators::integer(&self.eval(index)?)?;
                let index = index.and_then(|index| usize::try_from(index).ok());
                index.and_then(|index| items.get(index)).cloned().into_iter().collect()
            }
        };
        self.fits(found.len())?;
        Ok(found)
    }

    /// The same scope for one item of a function's focus.
    pub fn within(&self, item: &'s Value<'a>, index: usize) -> Scope<'s, 'a> {
        Scope { this: std::slice::from_ref(item), index: Some(index), ..*self }
    }

    /// Counts work and stops when it is too much.
    pub fn work(&self, amount: u64) -> Result<(), PathError> {
        let work = self.spent.get().saturating_add(amount);
        self.spent.set(work);
        match work > MAX_WORK {
            true => Err(PathError::new("the evaluation takes too many steps")),
            false => Ok(()),
        }
    }

    /// Stops when a collection is too large.
    pub fn fits(&self, items: usize) -> Result<(), PathError> {
        match items > MAX_ITEMS {
            true => Err(PathError::new(format!("a collection has more than {MAX_ITEMS} items"))),
            false => Ok(()),
        }
    }

    /// Counts a text that is about to be made and stops when it is too long.
    pub fn text(&self, length: u64) -> Result<(), PathError> {
        match length > MAX_TEXT {
            true => Err(PathError::new("a text becomes too long")),
            false => self.work(length / 64),
        }
    }

    /// The items without repetitions, first ones kept.
    pub fn distinct(&self, items: Items<'a>) -> Evaluated<'a> {
        let mut kept: Items<'a> = Vec::with_capacity(items.len());
        for item in items {
            if !self.contains(&kept, &item)? {
                kept.push(item);
            }
        }
        Ok(kept)
    }

    /// Whether one of the items equals `item`.
    pub fn contains(&self, items: &[Value<'a>], item: &Value<'a>) -> Result<bool, PathError> {
        self.work(items.len() as u64)?;
        Ok(items.iter().any(|other| compare::equal(other, item) == Some(true)))
    }

    fn variable(&self, name: &str) -> Evaluated<'a> {
        if let Some((_, items)) = self.context.variables.iter().find(|(known, _)| *known == name) {
            return Ok(items.clone());
        }
        let text = match name {
            "resource" | "rootResource" => {
                return Ok(self.context.resource.iter().cloned().collect());
            }
            "context" => return Ok(self.focus.to_vec()),
            "ucum" => "http://unitsofmeasure.org".into(),
            "sct" => "http://snomed.info/sct".into(),
            "loinc" => "http://loinc.org".into(),
            _ => match (name.strip_prefix("vs-"), name.strip_prefix("ext-")) {
                (Some(name), _) => format!("http://hl7.org/fhir/ValueSet/{name}"),
                (_, Some(name)) => format!("http://hl7.org/fhir/StructureDefinition/{name}"),
                _ => return Err(PathError::new(format!("there is no variable %{name}"))),
            },
        };
        Ok(vec![Value::String(Cow::Owned(text))])
    }
}

/// References that nothing resolved count only where their type is asked for.
fn drop_unresolved(steps: &[Step], items: &mut Items) {
    if steps.iter().any(|step| matches!(step, Step::Function(function, _) if function.resolves())) {
        items.retain(|item| !item.is_unresolved());
    }
}
