//! Conditions: the tests that categories, flags, statuses and triage are made of.
//!
//! They are few on purpose: what needs more is no table any longer. There is no second expression
//! language beside FHIRPath, which an instrument's Questionnaire carries.

use lumbar_fhir::{Issue, Json};
use rust_decimal::Decimal;

use super::item::{Item, ItemKind};
use super::read::{boolean, fault, join, number, scalars, texts};
use super::rule::{Basis, CategoryRule, ScoreRule, round};
use crate::answers::{Answer, Answers};
use crate::score::Status;

/// Deepest nesting of `any`, `all` and `not`.
const MAX_DEPTH: usize = 8;

/// One test.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    /// Not all of them.
    Not(Vec<Condition>),
    Compare(Operand, Test, Decimal),
    /// The item's answer is among these: options by their place, no and yes as 0 and 1.
    Is(usize, Vec<usize>),
    Answered(usize, bool),
    /// More than one option of the item was marked.
    SeveralMarks(usize, bool),
    /// The score could be given, or not.
    Given(usize, bool),
    /// The score was scaled up from fewer answers than make it complete.
    ScaledUp(usize, bool),
    CategoryGiven(usize, bool),
    CategoryIs(usize, Vec<Json>),
    Status(Status),
}

/// A number that is compared.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operand {
    Score(usize),
    /// The number of the answer before any recoding.
    Item(usize),
    /// The first item's number minus the second's; of dates the days between them.
    Difference(usize, usize),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Test {
    AtLeast,
    AtMost,
    Above,
    Below,
    Equals,
}

/// What the conditions of an instrument can name.
#[derive(Clone, Copy)]
pub(crate) struct Names<'a> {
    items: &'a [Item],
    scores: &'a [ScoreRule],
    categories: &'a [CategoryRule],
    status: bool,
}

impl<'a> Names<'a> {
    /// Items alone.
    pub fn of(items: &'a [Item]) -> Names<'a> {
        Names { items, scores: &[], categories: &[], status: false }
    }

    /// Scores, too.
    pub fn scores(self, scores: &'a [ScoreRule]) -> Names<'a> {
        Names { scores, ..self }
    }

    /// Categories, too.
    pub fn categories(self, categories: &'a [CategoryRule]) -> Names<'a> {
        Names { categories, ..self }
    }

    /// The form's status, too.
    pub fn status(self) -> Names<'a> {
        Names { status: true, ..self }
    }

    /// The index of an item.
    pub fn item(&self, link_id: &str, place: &str) -> Result<usize, Issue> {
        let found = self.items.iter().position(|item| *item.link_id == *link_id);
        found.ok_or_else(|| fault(place, &format!("names the unknown item {link_id}")))
    }

    /// Indexes of the items that a list names, each by its linkId or, `first..last`, a row of them.
    pub fn items(&self, json: &Json, name: &str, place: &str) -> Result<Vec<usize>, Issue> {
        let place = join(place, name);
        let mut found: Vec<usize> = Vec::new();
        for entry in texts(json, name, "")? {
            let (first, last) = entry.split_once("..").unwrap_or((&entry, &entry));
            let (first, last) = (self.item(first, &place)?, self.item(last, &place)?);
            if first > last {
                return Err(fault(&place, &format!("has a row that runs backwards, {entry}")));
            }
            for index in first..=last {
                if found.contains(&index) {
                    return Err(fault(&place, &format!("names {entry} twice")));
                }
                let item = self.items.get(index);
                if item.is_some_and(|item| !matches!(item.kind, ItemKind::Group)) {
                    found.push(index);
                }
            }
        }
        if found.is_empty() {
            return Err(fault(&place, "must name at least one item"));
        }
        Ok(found)
    }

    /// The codes that the member `is` names, each of which the item must have.
    pub fn codes(&self, item: usize, json: &Json, place: &str) -> Result<Vec<String>, Issue> {
        let place = join(place, "is");
        let codes = match json.get("is") {
            None => Vec::new(),
            Some(Json::String(code)) => vec![code.to_string()],
            Some(_) => texts(json, "is", "")?,
        };
        match codes.iter().find(|code| self.option(item, code).is_none()) {
            Some(code) => Err(fault(&place, &format!("names {code}, which is no answer"))),
            None => Ok(codes),
        }
    }

    fn option(&self, item: usize, code: &str) -> Option<usize> {
        match &self.items.get(item)?.kind {
            ItemKind::Choice(set) => set.options.iter().position(|option| *option.code == *code),
            ItemKind::Boolean => ["false", "true"].iter().position(|name| *name == code),
            _ => None,
        }
    }

    /// The conditions of a member that lists them; none when it is missing.
    pub fn conditions(
        &self,
        json: &Json,
        name: &str,
        place: &str,
    ) -> Result<Vec<Condition>, Issue> {
        self.list(json, name, place, 0)
    }

    fn list(
        &self,
        json: &Json,
        name: &str,
        place: &str,
        depth: usize,
    ) -> Result<Vec<Condition>, Issue> {
        let list = json.list(name).iter().enumerate();
        let place = join(place, name);
        list.map(|(index, json)| self.condition(json, &format!("{place}[{index}]"), depth))
            .collect()
    }

    fn condition(&self, json: &Json, place: &str, depth: usize) -> Result<Condition, Issue> {
        if depth > MAX_DEPTH {
            return Err(fault(place, "is nested too deep"));
        }
        let has = |name| json.get(name).is_some();
        if has("any") {
            return Ok(Condition::Any(self.list(json, "any", place, depth + 1)?));
        }
        if has("all") {
            return Ok(Condition::All(self.list(json, "all", place, depth + 1)?));
        }
        if has("not") {
            return Ok(Condition::Not(self.list(json, "not", place, depth + 1)?));
        }
        if let Some(status) = json.str_at(&["status"]) {
            let status = Status::from_code(status).filter(|_| self.status);
            let none = || fault(&join(place, "status"), "is no status that is known here");
            return Ok(Condition::Status(status.ok_or_else(none)?));
        }
        if has("anyItem") {
            let items = self.items(json, "anyItem", place)?.into_iter();
            let each = items.map(|item| self.tests(Operand::Item(item), json, place));
            return Ok(Condition::Any(each.collect::<Result<_, _>>()?));
        }
        if has("everyItem") {
            let items = self.items(json, "everyItem", place)?.into_iter();
            let each = items.map(|item| self.tests(Operand::Item(item), json, place));
            return Ok(Condition::All(each.collect::<Result<_, _>>()?));
        }
        if let Some(name) = json.str_at(&["category"]) {
            return self.of_category(name, json, place);
        }
        let operand = match (json.str_at(&["score"]), json.str_at(&["item"])) {
            (Some(name), None) => {
                let index = self.scores.iter().position(|score| *score.name == *name);
                let none = || fault(&join(place, "score"), &format!("{name} is not a score"));
                Operand::Score(index.ok_or_else(none)?)
            }
            (None, Some(link_id)) => {
                let item = self.item(link_id, place)?;
                match json.str_at(&["minus"]) {
                    Some(other) => Operand::Difference(item, self.item(other, place)?),
                    None => Operand::Item(item),
                }
            }
            _ => return Err(fault(place, "must name what it is about")),
        };
        self.tests(operand, json, place)
    }

    /// All tests of one condition.
    fn tests(&self, operand: Operand, json: &Json, place: &str) -> Result<Condition, Issue> {
        let mut tests = Vec::new();
        let words = [
            ("atLeast", Test::AtLeast),
            ("atMost", Test::AtMost),
            ("above", Test::Above),
            ("below", Test::Below),
            ("equals", Test::Equals),
        ];
        for (word, test) in words {
            if json.get(word).is_some() {
                tests.push(Condition::Compare(operand, test, number(json, word, place)?));
            }
        }
        let truth = |name: &str| match json.get(name) {
            Some(_) => boolean(json, name, true, place).map(Some),
            None => Ok(None),
        };
        match operand {
            Operand::Item(item) => {
                let codes = self.codes(item, json, place)?;
                if !codes.is_empty() {
                    let options = codes.iter().filter_map(|code| self.option(item, code));
                    tests.push(Condition::Is(item, options.collect()));
                }
                let answered = truth("answered")?;
                tests.extend(answered.map(|answered| Condition::Answered(item, answered)));
                let several = truth("severalMarks")?;
                tests.extend(several.map(|several| Condition::SeveralMarks(item, several)));
            }
            Operand::Score(score) => {
                tests.extend(truth("given")?.map(|given| Condition::Given(score, given)));
                tests.extend(truth("scaledUp")?.map(|scaled| Condition::ScaledUp(score, scaled)));
            }
            Operand::Difference(..) => {}
        }
        match tests.len() {
            0 => Err(fault(place, "compares with nothing")),
            1 => Ok(tests.remove(0)),
            _ => Ok(Condition::All(tests)),
        }
    }

    fn of_category(&self, name: &str, json: &Json, place: &str) -> Result<Condition, Issue> {
        let index = self.categories.iter().position(|category| *category.name == *name);
        let none = || fault(&join(place, "category"), &format!("{name} is not a category"));
        let index = index.ok_or_else(none)?;
        if json.get("given").is_some() {
            return Ok(Condition::CategoryGiven(index, boolean(json, "given", true, place)?));
        }
        let values = scalars(json, "is", place)?;
        let known = self.categories.get(index).map_or(&[][..], |category| &category.values);
        if values.is_empty() {
            return Err(fault(place, "compares with nothing"));
        }
        if values.iter().any(|value| !known.iter().any(|known| known.value == *value)) {
            return Err(fault(&join(place, "is"), "is not among the values"));
        }
        Ok(Condition::CategoryIs(index, values))
    }
}

impl Condition {
    /// Adds the scores that the condition compares.
    pub fn scores(&self, found: &mut Vec<usize>) {
        match self {
            Condition::All(list) | Condition::Any(list) | Condition::Not(list) => {
                list.iter().for_each(|condition| condition.scores(found));
            }
            Condition::Compare(Operand::Score(index), ..) => found.push(*index),
            _ => {}
        }
    }
}

/// What conditions are held against: each score as an interval, a point when it is known.
///
/// Of a final form every condition holds or does not hold, and what is missing passes no test. Of
/// one whose missing answers may still come, an answer of `None` means that it depends on them.
pub(crate) struct Facts<'a> {
    pub items: &'a [Item],
    pub answers: &'a Answers,
    pub rules: &'a [ScoreRule],
    pub scores: &'a [Option<(Decimal, Decimal)>],
    pub scaled_up: &'a [bool],
    pub categories: &'a [Option<Json>],
    pub status: Option<Status>,
    pub is_final: bool,
}

impl<'a> Facts<'a> {
    /// Answers alone, as they are.
    pub fn of(items: &'a [Item], answers: &'a Answers) -> Facts<'a> {
        Facts {
            items,
            answers,
            rules: &[],
            scores: &[],
            scaled_up: &[],
            categories: &[],
            status: None,
            is_final: true,
        }
    }

    /// Whether all conditions hold.
    pub fn all(&self, conditions: &[Condition]) -> bool {
        self.all_on(conditions, Basis::Published) == Some(true)
    }

    /// The same, with scores in the form that `basis` names.
    pub fn all_on(&self, conditions: &[Condition], basis: Basis) -> Option<bool> {
        let mut result = Some(true);
        for condition in conditions {
            match self.holds(condition, basis) {
                Some(false) => return Some(false),
                Some(true) => {}
                None => result = None,
            }
        }
        result
    }

    fn holds(&self, condition: &Condition, basis: Basis) -> Option<bool> {
        match condition {
            Condition::All(list) => self.all_on(list, basis),
            Condition::Not(list) => self.all_on(list, basis).map(|all| !all),
            Condition::Any(list) => {
                let mut result = Some(false);
                for condition in list {
                    match self.holds(condition, basis) {
                        Some(true) => return Some(true),
                        Some(false) => {}
                        None => result = None,
                    }
                }
                result
            }
            Condition::Compare(operand, test, limit) => match self.interval(*operand, basis) {
                Some((low, high)) => compare(low, high, *test, *limit),
                None => self.missing(),
            },
            Condition::Is(item, options) => match self.answers.get(*item) {
                Some(Answer::Option { index, .. }) => Some(options.contains(index)),
                Some(Answer::Boolean(value)) => Some(options.contains(&usize::from(*value))),
                Some(_) => Some(false),
                None => self.missing(),
            },
            // What is not answered yet may still be: only a final form can count on a gap.
            Condition::Answered(item, answered) => match self.answers.get(*item) {
                None if !self.is_final => None,
                answer => Some(answer.is_some() == *answered),
            },
            Condition::SeveralMarks(item, several) => match self.answers.get(*item) {
                Some(Answer::Option { several: marks, .. }) => Some(marks == several),
                Some(_) => Some(false),
                None => self.missing(),
            },
            Condition::Given(score, given) => {
                let is_given = self.scores.get(*score).is_some_and(Option::is_some);
                self.is_final.then_some(is_given == *given)
            }
            Condition::ScaledUp(score, scaled) => {
                self.is_final.then_some(self.scaled_up.get(*score) == Some(scaled))
            }
            Condition::CategoryGiven(category, given) => {
                let is_given = self.categories.get(*category).is_some_and(Option::is_some);
                self.is_final.then_some(is_given == *given)
            }
            Condition::CategoryIs(category, values) => {
                let value = self.categories.get(*category).and_then(Option::as_ref);
                self.is_final.then_some(value.is_some_and(|value| values.contains(value)))
            }
            Condition::Status(status) => self.status.map(|own| own == *status),
        }
    }

    fn missing(&self) -> Option<bool> {
        self.is_final.then_some(false)
    }

    fn interval(&self, operand: Operand, basis: Basis) -> Option<(Decimal, Decimal)> {
        let item = |index: usize| self.answers.number(self.items, index);
        match operand {
            Operand::Item(index) => item(index).map(|value| (value, value)),
            Operand::Difference(one, other) => {
                let value = item(one)? - item(other)?;
                Some((value, value))
            }
            Operand::Score(index) => {
                let (low, high) = (*self.scores.get(index)?)?;
                let rule = self.rules.get(index)?;
                Some(match basis {
                    Basis::Published => (rule.round(low), rule.round(high)),
                    Basis::Unrounded => (low, high),
                    Basis::Integer => (round(low, 0), round(high, 0)),
                })
            }
        }
    }
}

/// Whether the test holds for every value between `low` and `high`; `None` when for some only.
fn compare(low: Decimal, high: Decimal, test: Test, limit: Decimal) -> Option<bool> {
    let (always, never) = match test {
        Test::AtLeast => (low >= limit, high < limit),
        Test::AtMost => (high <= limit, low > limit),
        Test::Above => (low > limit, high <= limit),
        Test::Below => (high < limit, low >= limit),
        Test::Equals => (low == limit && high == limit, limit < low || limit > high),
    };
    match (always, never) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}
