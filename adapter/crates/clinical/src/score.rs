//! Scoring: answers in, scores and categories out, or the reason why not.
//!
//! Arithmetic is decimal and exact; rounding is half up, away from zero for negative results. A
//! missing answer is never zero and an incomplete form is never the lowest category. When the
//! missing answers cannot change a category, it is given as provisional, which is for eyes only.

use lumbar_fhir::{Json, Object};
use rust_decimal::Decimal;

use crate::answers::{Answers, Refused};
use crate::table::{
    Basis, CategoryRule, Condition, Operand, Rule, ScoreRule, ScoringTable, Test, round,
};

/// How far a form could be scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Every needed answer is there.
    Scored,
    /// A score was scaled up from enough answers.
    Prorated,
    /// Some of the scores could be given.
    Partial,
    /// No score could be given.
    NotScored,
    /// The answers are invalid or contradict each other.
    Error,
}

/// What came of one form.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// How far it could be scored.
    pub status: Status,
    /// Published value by name in the table's order; `None` when it could not be given. Empty when
    /// the status is [`Status::Error`], as is `categories`.
    pub scores: Vec<(String, Option<Decimal>)>,
    /// Category by name in the table's order, a text, number or truth value; `None` when it could
    /// not be given.
    pub categories: Vec<(String, Option<Json>)>,
    /// Flags of the table that apply; on an error the one flag that names it.
    pub flags: Vec<String>,
    /// Categories that no missing answer could change. Never stored, never acted upon.
    pub provisional: Vec<(String, Json)>,
    /// Sentences that say why: which rule gave a category, what is missing.
    pub reasons: Vec<String>,
}

impl Status {
    /// The word for it.
    pub fn code(self) -> &'static str {
        match self {
            Status::Scored => "scored",
            Status::Prorated => "prorated",
            Status::Partial => "partial",
            Status::NotScored => "not-scored",
            Status::Error => "error",
        }
    }

    pub(crate) fn from_code(code: &str) -> Option<Status> {
        [Status::Scored, Status::Prorated, Status::Partial, Status::NotScored, Status::Error]
            .into_iter()
            .find(|status| status.code() == code)
    }
}

impl Scored {
    /// The result of answers that were refused.
    pub fn refused(refused: &Refused) -> Scored {
        Scored {
            status: Status::Error,
            scores: Vec::new(),
            categories: Vec::new(),
            flags: vec![refused.flag.clone()],
            provisional: Vec::new(),
            reasons: refused.issues.iter().map(|issue| issue.text.clone()).collect(),
        }
    }

    /// The result of a form that may not be scored, for `reason`: every score absent.
    pub(crate) fn absent(table: &ScoringTable, reason: String) -> Scored {
        let scores = table.scores.iter().map(|score| (score.name.clone(), None)).collect();
        let categories = table.categories.iter().map(|c| (c.name.clone(), None)).collect();
        Scored {
            status: Status::NotScored,
            scores,
            categories,
            flags: Vec::new(),
            provisional: Vec::new(),
            reasons: vec![reason],
        }
    }

    /// The result as an object with the members `status`, `scores`, `categories`, `flags`,
    /// `provisional` (only when there is one) and `reasons`; what is absent is null.
    pub fn to_json(&self) -> Json {
        let mut scores = Object::new();
        for (name, value) in &self.scores {
            scores.set(name, value.map_or(Json::Null, number));
        }
        let mut categories = Object::new();
        for (name, value) in &self.categories {
            categories.set(name, value.clone().unwrap_or(Json::Null));
        }
        let texts = |list: &[String]| Json::Array(list.iter().map(Json::from).collect());
        let mut result = Object::new();
        result.set("status", self.status.code());
        result.set("scores", scores);
        result.set("categories", categories);
        result.set("flags", texts(&self.flags));
        if !self.provisional.is_empty() {
            let mut provisional = Object::new();
            self.provisional.iter().for_each(|(name, value)| provisional.set(name, value));
            result.set("provisional", provisional);
        }
        result.set("reasons", texts(&self.reasons));
        Json::Object(result)
    }
}

/// A decimal as a JSON number without trailing zeros.
pub(crate) fn number(value: Decimal) -> Json {
    Json::Number(value.normalize().to_string().into())
}

/// Scores one form with the rules of `table`.
pub fn score(table: &ScoringTable, answers: &Answers) -> Scored {
    let enough = table.used().filter(|item| answers.has(*item)).count() >= table.min_answered;
    let exact: Vec<Option<Decimal>> = table
        .scores
        .iter()
        .map(|rule| if enough { value(table, rule, answers) } else { None })
        .collect();
    let status = status(table, answers, &exact);
    let points = exact.iter().map(|value| value.map(|value| (value, value))).collect();
    let known = Facts { table, answers, scores: points, status: Some(status) };
    if let Some(flag) =
        table.flags.iter().find(|flag| flag.refuses && known.all(&flag.when) == Some(true))
    {
        let text = format!("The answers contradict each other ({}).", flag.flag);
        let issue = lumbar_fhir::Issue::error(lumbar_fhir::IssueType::BusinessRule, text);
        return Scored::refused(&Refused { flag: flag.flag.clone(), issues: vec![issue] });
    }

    let mut scored = Scored {
        status,
        scores: Vec::new(),
        categories: Vec::new(),
        flags: Vec::new(),
        provisional: Vec::new(),
        reasons: missing(table, answers, status).into_iter().collect(),
    };
    for (rule, value) in table.scores.iter().zip(&exact) {
        scored.scores.push((rule.name.clone(), value.map(|value| rule.round(value))));
    }
    let bounds = table.scores.iter().map(|rule| bounds(table, rule, answers)).collect();
    let possible = Facts { table, answers, scores: bounds, status: None };
    for category in &table.categories {
        let complete = category.needs.iter().all(|i| exact.get(*i).is_some_and(Option::is_some));
        let found = if complete { known.category(category) } else { None };
        if let Some((index, value)) = found {
            scored.reasons.push(known.reason(category, index, value));
        } else if category.provisional
            && let Some((_, value)) = possible.category(category)
        {
            scored.provisional.push((category.name.clone(), value.clone()));
            let text = format!(
                "The missing answers cannot change the {}: provisionally {}.",
                category.label,
                category.value_label(value)
            );
            scored.reasons.push(text);
        }
        scored.categories.push((category.name.clone(), found.map(|(_, value)| value.clone())));
    }
    for flag in table.flags.iter().filter(|flag| !flag.refuses) {
        if known.all(&flag.when) == Some(true) {
            scored.flags.push(flag.flag.clone());
        }
    }
    if !scored.provisional.is_empty() {
        scored.flags.push("provisional-category".into());
    }
    scored
}

/// The unrounded value of a score; `None` when too few of its items are answered.
fn value(table: &ScoringTable, rule: &ScoreRule, answers: &Answers) -> Option<Decimal> {
    let points: Vec<Decimal> =
        rule.items.iter().filter_map(|item| answers.points(table, *item)).collect();
    if points.len() < rule.min_answered {
        return None;
    }
    let (answered, all) = (Decimal::from(points.len()), Decimal::from(rule.items.len()));
    let sum: Decimal = points.into_iter().sum();
    // The division comes last: a quotient that does not end is never a tie nor a cut-off.
    let value = match rule.rule {
        Rule::Sum => sum * rule.times,
        Rule::Mean => sum * rule.times / answered,
        Rule::Prorate => sum * rule.times * all / answered,
    };
    Some(value.normalize())
}

/// The least and greatest value that the score can have once every item is answered.
fn bounds(table: &ScoringTable, rule: &ScoreRule, answers: &Answers) -> Option<(Decimal, Decimal)> {
    let mut bounds = (Decimal::ZERO, Decimal::ZERO);
    for &index in &rule.items {
        let item = match answers.points(table, index) {
            Some(points) => (points, points),
            None => table.items.get(index)?.bounds?,
        };
        bounds = (bounds.0 + item.0, bounds.1 + item.1);
    }
    Some((rule.complete(bounds.0), rule.complete(bounds.1)))
}

fn status(table: &ScoringTable, answers: &Answers, exact: &[Option<Decimal>]) -> Status {
    let counted = || table.scores.iter().zip(exact).filter(|(rule, _)| !rule.aside);
    let given = counted().filter(|(_, value)| value.is_some()).count();
    let scaled = |rule: &ScoreRule| {
        rule.rule != Rule::Sum
            && rule.items.iter().filter(|item| answers.has(**item)).count() < rule.complete_at
    };
    match given {
        0 => Status::NotScored,
        given if given < counted().count() => Status::Partial,
        _ if counted().any(|(rule, _)| scaled(rule)) => Status::Prorated,
        _ => Status::Scored,
    }
}

/// A sentence that names the missing items by linkId; `None` when none is missing.
fn missing(table: &ScoringTable, answers: &Answers, status: Status) -> Option<String> {
    let names = table.used().filter(|item| !answers.has(*item));
    let names: Vec<&str> =
        names.filter_map(|item| table.items.get(item)).map(|item| item.link_id.as_str()).collect();
    let what = match status {
        Status::NotScored => "Not scored",
        Status::Partial => "Scored in part",
        Status::Prorated => "Scaled up",
        _ => "Scored",
    };
    (!names.is_empty()).then(|| {
        let all = table.used().count();
        format!("{what}: {} of {all} answers missing ({}).", names.len(), names.join(", "))
    })
}

impl Answers {
    pub(crate) fn has(&self, item: usize) -> bool {
        self.get(item).is_some()
    }

    fn get(&self, item: usize) -> Option<&crate::answers::Answer> {
        self.0.get(item)?.as_ref()
    }

    fn points(&self, table: &ScoringTable, item: usize) -> Option<Decimal> {
        table.items.get(item)?.points(self.get(item)?.value?)
    }
}

impl CategoryRule {
    /// The label of one of the values.
    pub(crate) fn value_label(&self, value: &Json) -> &str {
        let found = self.values.iter().find(|known| known.value == *value);
        found.map_or("", |known| known.label.as_str())
    }
}

/// What conditions are held against: each score as an interval, a point when it is known. An
/// answer of `None` means that it depends on what is not known.
struct Facts<'a> {
    table: &'a ScoringTable,
    answers: &'a Answers,
    scores: Vec<Option<(Decimal, Decimal)>>,
    status: Option<Status>,
}

impl Facts<'_> {
    /// The rule that applies and its value; `None` when no rule applies or when rules that could
    /// apply differ in their value.
    fn category<'c>(&self, category: &'c CategoryRule) -> Option<(usize, &'c Json)> {
        let mut found: Option<(usize, &Json)> = None;
        for (index, (when, value)) in category.rules.iter().enumerate() {
            let holds = self.all_on(when, category.basis);
            if holds == Some(false) {
                continue;
            }
            if found.is_some_and(|(_, other)| other != value) {
                return None;
            }
            found = found.or(Some((index, value)));
            if holds == Some(true) {
                return found;
            }
        }
        None
    }

    fn reason(&self, category: &CategoryRule, index: usize, value: &Json) -> String {
        let numbers: Vec<String> = category
            .needs
            .iter()
            .filter_map(|score| {
                let rule = self.table.scores.get(*score)?;
                let (value, _) = (*self.scores.get(*score)?)?;
                Some(format!("{} {}", rule.label, rule.round(value)))
            })
            .collect();
        let given = if numbers.is_empty() {
            String::new()
        } else {
            format!(" from {}", numbers.join(", "))
        };
        let label = category.value_label(value);
        format!("{}: {label}{given} (rule {}).", category.label, index + 1)
    }

    fn all(&self, conditions: &[Condition]) -> Option<bool> {
        self.all_on(conditions, Basis::Published)
    }

    fn all_on(&self, conditions: &[Condition], basis: Basis) -> Option<bool> {
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
            Condition::Compare(operand, test, limit) => {
                let (low, high) = self.interval(*operand, basis)?;
                compare(low, high, *test, *limit)
            }
            Condition::Code(item, code) => Some(self.answers.get(*item)?.code == *code),
            // What is not answered yet may still be: only a final result can count on a gap.
            Condition::Answered(item, _) if self.status.is_none() && !self.answers.has(*item) => {
                None
            }
            Condition::Answered(item, answered) => Some(self.answers.has(*item) == *answered),
            Condition::Given(score, given) => {
                self.status.map(|_| self.scores.get(*score).is_some_and(Option::is_some) == *given)
            }
            Condition::Status(status) => self.status.map(|own| own == *status),
        }
    }

    fn interval(&self, operand: Operand, basis: Basis) -> Option<(Decimal, Decimal)> {
        match operand {
            Operand::Item(item) => {
                let value = Decimal::from(self.answers.get(item)?.value?);
                Some((value, value))
            }
            Operand::Score(index) => {
                let (low, high) = (*self.scores.get(index)?)?;
                let rule = self.table.scores.get(index)?;
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
    if always {
        Some(true)
    } else if never {
        Some(false)
    } else {
        None
    }
}
