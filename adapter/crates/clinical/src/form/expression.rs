//! Rules of an instrument as FHIRPath (<https://hl7.org/fhirpath/N1/>), so that another renderer
//! computes what the service computes.
//!
//! An expression gives nothing where the rule gives nothing. It is made of functions of the
//! normative version alone: `aggregate` with a beginning instead of `sum()`, of which engines
//! disagree what it is of nothing, and codes that are numbers instead of `weight()`, which engines
//! look for in different places. Every condition comes to true or false, never to nothing. What
//! FHIRPath cannot say (tables that a site supplies, days between dates) has no expression; the
//! server scores anew in any case.

use lumbar_fhir::Json;
use rust_decimal::Decimal;

use crate::instrument::condition::{Condition, Operand, Test};
use crate::instrument::item::Points;
use crate::instrument::rule::Basis;
use crate::instrument::{CategoryRule, Instrument, Item, ItemKind, Rule, ScoreRule};

/// The greatest of several numbers.
const HIGHEST: &str = "aggregate(iif($total.empty() or $this > $total, $this, $total))";

/// Writes the expressions of one instrument.
pub(super) struct Writer<'a> {
    instrument: &'a Instrument,
    /// All items of the response.
    items: &'static str,
}

impl<'a> Writer<'a> {
    pub fn new(instrument: &'a Instrument) -> Writer<'a> {
        let is_nested = instrument.items.iter().any(|item| item.parent.is_some());
        let items = if is_nested { "%resource.repeat(item)" } else { "%resource.item" };
        Writer { instrument, items }
    }

    /// The published value of a score.
    pub fn score(&self, rule: &ScoreRule) -> Option<String> {
        self.of_basis(rule, Basis::Published)
    }

    /// A category: a text, a number or a truth value.
    pub fn category(&self, rule: &CategoryRule) -> Option<String> {
        let score = |index: &usize| self.instrument.scores.get(*index);
        let Some(first) = rule.needs.first() else {
            let chain = self.chain(rule, None)?;
            return self.guarded(self.contradictions()?, chain);
        };
        let mut from = parenthesised(&self.of_basis(score(first)?, rule.basis)?);
        for other in rule.needs.iter().skip(1) {
            let other = self.of_basis(score(other)?, Basis::Unrounded)?;
            from.push_str(&format!(".where({}.exists())", parenthesised(&other)));
        }
        Some(format!("{from}.select({})", self.chain(rule, Some(*first))?))
    }

    /// The first rule that applies; `this` is the score that `$this` holds.
    fn chain(&self, rule: &CategoryRule, this: Option<usize>) -> Option<String> {
        let mut chain = "{}".to_owned();
        for (when, value) in rule.rules.iter().rev() {
            let value = literal(value);
            chain = match when.as_slice() {
                [] => value,
                when => format!("iif({}, {value}, {chain})", self.all(when, rule.basis, this)?),
            };
        }
        Some(chain)
    }

    /// The level of triage.
    pub fn triage(&self) -> Option<String> {
        let table = self.instrument.triage.as_ref()?;
        let level = |index: usize| table.levels.get(index).map(|level| quoted(level));
        let top = table.levels.len().checked_sub(1)?;
        let gap = format!(
            "{}.where(answer.value.exists()).count() < {}",
            self.of(&table.main)?,
            table.main.len()
        );
        let mut chain = level(0)?;
        for index in 1..=top {
            if index == top {
                chain = format!("iif({gap}, {}, {chain})", quoted(&table.incomplete));
            }
            let mut conditions = Vec::new();
            for rule in table.rules.iter().filter(|rule| rule.level == index) {
                conditions.push(Condition::All(rule.when.clone()));
            }
            if !conditions.is_empty() {
                let holds = self.any(&conditions, Basis::Published, None)?;
                chain = format!("iif({holds}, {}, {chain})", level(index)?);
            }
        }
        Some(chain)
    }

    fn of_basis(&self, rule: &ScoreRule, basis: Basis) -> Option<String> {
        let value = self.value(rule)?;
        let value = match (basis, self.is_whole(rule)) {
            (_, true) | (Basis::Unrounded, _) => value,
            (Basis::Published, _) if matches!(rule.rule, Rule::Profile) => value,
            (Basis::Published, _) if rule.decimals > 0 => {
                format!("({value}).round({})", rule.decimals)
            }
            // Half up; a score that can be negative is halved the other way.
            _ if rule.range.is_none_or(|(least, _)| least < Decimal::ZERO) => return None,
            _ => format!("({value} + 0.5).floor()"),
        };
        self.guarded(self.conditions(rule)?, value)
    }

    /// Whether the unrounded value is a whole number.
    pub fn is_whole(&self, rule: &ScoreRule) -> bool {
        let item = |index: &usize| self.instrument.items.get(*index);
        let has_whole = |item: &Item| match (&item.kind, &item.points) {
            (ItemKind::Decimal(..), _) => false,
            (_, Points::Value) => true,
            (_, Points::Reverse(from)) => from.is_integer(),
            (_, Points::Recode(ranges)) => ranges.iter().all(|(_, _, to)| to.is_integer()),
        };
        let added = |add: &crate::instrument::rule::Add| {
            add.bands.iter().all(|(_, points)| points.is_integer())
        };
        match rule.rule {
            Rule::Count => rule.times.is_integer(),
            Rule::Sum => {
                rule.times.is_integer()
                    && rule.items.iter().filter_map(item).all(has_whole)
                    && rule.adds.iter().all(added)
            }
            _ => false,
        }
    }

    /// What must hold for a score to be given.
    fn conditions(&self, rule: &ScoreRule) -> Option<Vec<String>> {
        let mut conditions = self.contradictions()?;
        let instrument = self.instrument;
        // A score that needs all that is used needs enough of it, too.
        let is_within = rule.items.len() == instrument.used.len()
            && rule.min_answered >= instrument.min_answered;
        if instrument.min_answered > 0 && !is_within {
            let count = self.answered(&instrument.used)?;
            conditions.push(format!("{count} >= {}", instrument.min_answered));
        }
        let is_alone = rule.items.len() == 1 && rule.adds.is_empty();
        if rule.min_answered > 0 && !(is_alone && matches!(rule.rule, Rule::Sum)) {
            let count = self.answered(&rule.items)?;
            let all = rule.items.len();
            conditions.push(match rule.min_answered == all {
                true => format!("{count} = {all}"),
                false => format!("{count} >= {}", rule.min_answered),
            });
        }
        for condition in &rule.when {
            conditions.push(self.condition(condition, Basis::Published, None)?);
        }
        Some(conditions)
    }

    /// That no answers contradict each other.
    fn contradictions(&self) -> Option<Vec<String>> {
        let flags = self.instrument.flags.iter().filter(|flag| flag.refuses);
        flags.map(|flag| Some(negated(&self.all(&flag.when, Basis::Published, None)?))).collect()
    }

    fn guarded(&self, conditions: Vec<String>, value: String) -> Option<String> {
        Some(match conditions.as_slice() {
            [] => value,
            [one] => format!("iif({one}, {value}, {{}})"),
            some => {
                let some: Vec<String> = some.iter().map(|one| parenthesised(one)).collect();
                format!("iif({}, {value}, {{}})", some.join(" and "))
            }
        })
    }

    /// The unrounded value, once it is known that it can be given.
    fn value(&self, rule: &ScoreRule) -> Option<String> {
        if let Rule::Profile = rule.rule {
            let codes = rule.items.iter().map(|item| {
                let code = format!("{}.answer.value.code", self.of(&[*item])?);
                Some(format!("iif({code}.exists(), {code}, '9')"))
            });
            return Some(codes.collect::<Option<Vec<String>>>()?.join(" & "));
        }
        let points = self.points(&rule.items)?;
        let is_alone = rule.items.len() == 1 && rule.adds.is_empty();
        let mut sum = match &rule.rule {
            // The points of one item may be none, which is no zero.
            Rule::Sum if is_alone => points,
            Rule::Count => format!("{points}.where($this > 0).count()"),
            Rule::ValueSet(_) => return None,
            _ => format!("{points}.aggregate($this + $total, 0)"),
        };
        for add in &rule.adds {
            let earlier = self.instrument.scores.get(add.score)?;
            let mut chain = "{}".to_owned();
            for (below, points) in add.bands.iter().rev() {
                chain = match below {
                    Some(below) => format!("iif($this < {below}, {points}, {chain})"),
                    None => points.to_string(),
                };
            }
            let earlier = self.of_basis(earlier, Basis::Unrounded)?;
            sum = format!("{sum} + {}.select({chain})", parenthesised(&earlier));
        }
        if !rule.adds.is_empty() {
            sum = parenthesised(&sum);
        }
        let all = Decimal::from(rule.items.len());
        let (times, by) = match rule.rule {
            Rule::Mean => (rule.times, Some(Decimal::ONE)),
            Rule::Prorate => (rule.times * all, Some(Decimal::ONE)),
            Rule::Percent => (rule.times * Decimal::ONE_HUNDRED, Some(self.top(rule)?)),
            _ => (rule.times, None),
        };
        if times != Decimal::ONE {
            sum = format!("{sum} * {}", times.normalize());
        }
        let Some(by) = by else { return Some(sum) };
        if rule.min_answered == rule.items.len() {
            return Some(format!("{sum} / {}", (by * all).normalize()));
        }
        let count = self.answered(&rule.items)?;
        Some(match by == Decimal::ONE {
            true => format!("{sum} / {count}"),
            false => format!("{sum} / ({count} * {})", by.normalize()),
        })
    }

    /// The most points of an item, where all have the same.
    fn top(&self, rule: &ScoreRule) -> Option<Decimal> {
        let mut tops =
            rule.items.iter().map(|item| Some(self.instrument.items.get(*item)?.bounds?.1));
        let first = tops.next()??;
        tops.all(|top| top == Some(first)).then_some(first)
    }

    /// How many of the items are answered with points.
    fn answered(&self, items: &[usize]) -> Option<String> {
        let has_names = |index: &usize| match self.instrument.items.get(*index).map(|i| &i.kind) {
            Some(ItemKind::Choice(set)) => set.options.iter().any(|option| option.value.is_none()),
            _ => false,
        };
        match items.iter().any(has_names) {
            true => Some(format!("{}.count()", self.points(items)?)),
            false => Some(format!("{}.where(answer.value.exists()).count()", self.of(items)?)),
        }
    }

    /// The points of the answered items.
    fn points(&self, items: &[usize]) -> Option<String> {
        let mut ways: Vec<(String, Vec<usize>)> = Vec::new();
        for &index in items {
            let item = self.instrument.items.get(index)?;
            let way = format!("{}{}", number(item)?, recoded(&item.points)?);
            match ways.iter_mut().find(|(known, _)| *known == way) {
                Some((_, of)) => of.push(index),
                None => ways.push((way, vec![index])),
            }
        }
        let mut parts = ways.iter().map(|(way, of)| Some(format!("{}{way}", self.of(of)?)));
        let mut points = parts.next()??;
        for part in parts {
            points.push_str(&format!(".combine({})", part?));
        }
        Some(points)
    }

    /// The items of a response that answer these.
    fn of(&self, items: &[usize]) -> Option<String> {
        let names = items
            .iter()
            .map(|index| self.instrument.items.get(*index).map(|item| quoted(&item.link_id)));
        let names: Vec<String> = names.collect::<Option<_>>()?;
        Some(match names.as_slice() {
            [one] => format!("{}.where(linkId = {one})", self.items),
            some => format!("{}.where(linkId in ({}))", self.items, some.join(" | ")),
        })
    }

    fn all(&self, list: &[Condition], basis: Basis, this: Option<usize>) -> Option<String> {
        match list {
            [] => Some("true".to_owned()),
            [one] => self.condition(one, basis, this),
            some => {
                let some =
                    some.iter().map(|one| Some(parenthesised(&self.condition(one, basis, this)?)));
                Some(some.collect::<Option<Vec<String>>>()?.join(" and "))
            }
        }
    }

    fn any(&self, list: &[Condition], basis: Basis, this: Option<usize>) -> Option<String> {
        // The same answer of several items is asked for at once.
        let mut same: Vec<(String, Vec<usize>)> = Vec::new();
        let mut parts = Vec::new();
        for condition in list {
            match condition {
                Condition::Is(item, options) => {
                    let test = self.is(*item, options)?;
                    match same.iter_mut().find(|(known, _)| *known == test) {
                        Some((_, items)) => items.push(*item),
                        None => same.push((test, vec![*item])),
                    }
                }
                other => parts.push(self.condition(other, basis, this)?),
            }
        }
        for (test, items) in &same {
            parts.push(format!("{}{test}", self.of(items)?));
        }
        Some(match parts.as_slice() {
            [] => "false".to_owned(),
            [one] => one.clone(),
            some => {
                let some: Vec<String> = some.iter().map(|one| parenthesised(one)).collect();
                some.join(" or ")
            }
        })
    }

    /// The test of an item's answer.
    fn is(&self, item: usize, options: &[usize]) -> Option<String> {
        let item = self.instrument.items.get(item)?;
        match &item.kind {
            ItemKind::Choice(set) if !item.several => {
                let codes = options
                    .iter()
                    .map(|index| set.options.get(*index).map(|option| quoted(&option.code)));
                let codes: Vec<String> = codes.collect::<Option<_>>()?;
                Some(match codes.as_slice() {
                    [one] => format!(".answer.where(value.code = {one}).exists()"),
                    some => format!(".answer.where(value.code in ({})).exists()", some.join(" | ")),
                })
            }
            ItemKind::Boolean => {
                let value = match options {
                    [0] => "false",
                    [1] => "true",
                    _ => return None,
                };
                Some(format!(".answer.where(value = {value}).exists()"))
            }
            _ => None,
        }
    }

    /// A test that comes to true or false.
    fn condition(
        &self,
        condition: &Condition,
        basis: Basis,
        this: Option<usize>,
    ) -> Option<String> {
        match condition {
            Condition::All(list) => self.all(list, basis, this),
            Condition::Any(list) => self.any(list, basis, this),
            Condition::Not(list) => Some(negated(&self.all(list, basis, this)?)),
            Condition::Compare(operand, test, limit) => {
                let test = format!("$this {} {}", sign(*test), limit.normalize());
                let number = match *operand {
                    Operand::Score(score) if this == Some(score) => return Some(test),
                    Operand::Score(score) => {
                        let rule = self.instrument.scores.get(score)?;
                        parenthesised(&self.of_basis(rule, basis)?)
                    }
                    Operand::Item(item) => self.number(item)?,
                    Operand::Difference(one, other) => {
                        format!("({} - {})", self.number(one)?, self.number(other)?)
                    }
                };
                Some(format!("{number}.where({test}).exists()"))
            }
            Condition::Is(item, options) => {
                Some(format!("{}{}", self.of(&[*item])?, self.is(*item, options)?))
            }
            Condition::Answered(item, answered) => {
                let given = format!("{}.answer.value.exists()", self.of(&[*item])?);
                Some(if *answered { given } else { negated(&given) })
            }
            Condition::SeveralMarks(item, several) => {
                let marks = format!("{}.answer.value.count() > 1", self.of(&[*item])?);
                Some(if *several { marks } else { negated(&marks) })
            }
            Condition::Given(score, given) => {
                let rule = self.instrument.scores.get(*score)?;
                let exact = self.of_basis(rule, Basis::Unrounded)?;
                let is = if *given { "exists" } else { "empty" };
                Some(format!("{}.{is}()", parenthesised(&exact)))
            }
            // Of the form as a whole, for which no score and no category asks.
            Condition::ScaledUp(..)
            | Condition::CategoryGiven(..)
            | Condition::CategoryIs(..)
            | Condition::Status(_) => None,
        }
    }

    /// The number of an item's answer before any recoding.
    fn number(&self, item: usize) -> Option<String> {
        Some(format!("{}{}", self.of(&[item])?, number(self.instrument.items.get(item)?)?))
    }
}

/// From items to the numbers of their answers.
fn number(item: &Item) -> Option<String> {
    match &item.kind {
        ItemKind::Choice(set) => {
            // An option's code is its number, or neither is one.
            let is_plain = |option: &crate::instrument::AnswerOption| {
                option.code.parse::<i64>().ok() == option.value
            };
            if !set.options.iter().all(is_plain) {
                return None;
            }
            let numbers = "answer.value.code.select(toInteger())";
            Some(match item.several {
                true => format!(".select({numbers}.{HIGHEST})"),
                false => format!(".{numbers}"),
            })
        }
        ItemKind::Integer(..) | ItemKind::Decimal(..) => Some(".answer.value".to_owned()),
        ItemKind::Boolean => Some(".answer.value.select(iif($this, 1, 0))".to_owned()),
        ItemKind::Date | ItemKind::Text { .. } | ItemKind::Group => None,
    }
}

/// From numbers to points. The ranges of a recoding have no gaps between them, as every answer has
/// points.
fn recoded(points: &Points) -> Option<String> {
    Some(match points {
        Points::Value => String::new(),
        Points::Reverse(from) => format!(".select({} - $this)", from.normalize()),
        Points::Recode(ranges) => {
            let mut ranges: Vec<_> = ranges.iter().collect();
            ranges.sort_by_key(|(first, ..)| *first);
            let (_, _, last) = ranges.pop()?;
            let mut chain = last.normalize().to_string();
            for (_, up_to, points) in ranges.iter().rev() {
                chain = format!("iif($this <= {up_to}, {}, {chain})", points.normalize());
            }
            format!(".select({chain})")
        }
    })
}

fn sign(test: Test) -> &'static str {
    match test {
        Test::AtLeast => ">=",
        Test::AtMost => "<=",
        Test::Above => ">",
        Test::Below => "<",
        Test::Equals => "=",
    }
}

fn literal(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), quoted)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn negated(condition: &str) -> String {
    format!("({condition}).not()")
}

fn parenthesised(expression: &str) -> String {
    format!("({expression})")
}
