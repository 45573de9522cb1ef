//! Scoring: answers in, scores and categories out, or the reason why not.
//!
//! Arithmetic is decimal and exact; rounding is half up, away from zero for negative results. A
//! missing answer is never zero and an incomplete form is never the lowest category. When the
//! missing answers cannot change a category, it is given as provisional, which is for eyes only.

mod reason;

use std::sync::Arc;

use lumbar_fhir::{Issue, IssueType, Json, Object};
use rust_decimal::Decimal;

use crate::answers::{Answer, Answers, Refused};
use crate::instrument::condition::Facts;
use crate::instrument::{AnswerOption, CategoryRule, Instrument, ItemKind, Rule, ScoreRule};

/// How far a form could be scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Every needed answer is there.
    Scored,
    /// A score was scaled up from enough answers.
    Prorated,
    /// Some of several scores could be given.
    Partial,
    /// No score could be given.
    NotScored,
    /// The answers are invalid or contradict each other.
    Error,
    /// The instrument is refused: nothing is ever scored.
    NotActivatable,
}

/// What came of one form.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// How far it could be scored.
    pub status: Status,
    /// In the instrument's order. Empty when nothing may be derived ([`Status::Error`],
    /// [`Status::NotActivatable`]), as is `categories`.
    pub scores: Vec<Score>,
    /// In the instrument's order.
    pub categories: Vec<Category>,
    /// Flags of the instrument that apply; on an error the one flag that names it.
    pub flags: Vec<String>,
    /// Sentences that say why: which rule gave a category, what is missing.
    pub reasons: Vec<String>,
}

/// One score of one form, and what it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Its name.
    pub name: Arc<str>,
    /// What is published; `None` when it could not be given.
    pub value: Option<Value>,
    /// The number before rounding.
    pub exact: Option<Decimal>,
    /// Whether it was scaled up from fewer answers than make it complete.
    pub scaled_up: bool,
    /// Why there is none.
    pub absent: Option<Absent>,
    /// What each item gave, and each earlier score that gives points.
    pub contributions: Vec<Contribution>,
}

/// Why a score is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Too few answers, or an answer without points.
    TooFewAnswers,
    /// The form does not have the score: one of work, say, of somebody without work.
    NotApplicable,
    /// The site supplied no table for it.
    NoValueSet,
    /// The table does not hold what was answered.
    NotInValueSet,
    /// Nothing of this form may be scored.
    NotScored,
}

/// What is published.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number, rounded.
    Number(Decimal),
    /// A text, such as the profile of a health state.
    Text(String),
}

/// What one item or earlier score gave to a score.
#[derive(Clone, Debug, PartialEq)]
pub struct Contribution {
    /// The item's linkId, or the name of the earlier score.
    pub from: Arc<str>,
    /// Whether an item or a score is named.
    pub is_item: bool,
    /// The answer's code or number, or the earlier score before rounding; `None` when missing.
    pub answer: Option<String>,
    /// The points; `None` when there are none.
    pub points: Option<Decimal>,
}

/// One category of one form.
#[derive(Clone, Debug, PartialEq)]
pub struct Category {
    /// Its name.
    pub name: Arc<str>,
    /// A text, number or truth value; `None` when it could not be given.
    pub value: Option<Json>,
    /// The rule that gave the value, counted from 0 in the instrument's file.
    pub rule: Option<usize>,
    /// A value that no missing answer could change. Never stored, never acted upon.
    pub provisional: Option<Json>,
}

impl Status {
    const ALL: [Status; 6] = [
        Status::Scored,
        Status::Prorated,
        Status::Partial,
        Status::NotScored,
        Status::Error,
        Status::NotActivatable,
    ];

    /// The word for it.
    pub fn code(self) -> &'static str {
        match self {
            Status::Scored => "scored",
            Status::Prorated => "prorated",
            Status::Partial => "partial",
            Status::NotScored => "not-scored",
            Status::Error => "error",
            Status::NotActivatable => "not-activatable",
        }
    }

    pub(crate) fn from_code(code: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.code() == code)
    }
}

impl Value {
    /// As JSON: a number without trailing zeros, or a text.
    pub fn to_json(&self) -> Json {
        match self {
            Value::Number(value) => number(*value),
            Value::Text(text) => Json::from(text),
        }
    }

    /// The number, if it is one.
    pub fn number(&self) -> Option<Decimal> {
        match self {
            Value::Number(value) => Some(*value),
            Value::Text(_) => None,
        }
    }
}

impl Scored {
    /// The result of answers that were refused.
    pub fn refused(refused: &Refused) -> Scored {
        let reasons = refused.issues.iter().map(|issue| issue.text.clone()).collect();
        Scored::nothing(Status::Error, vec![refused.flag.clone()], reasons)
    }

    fn nothing(status: Status, flags: Vec<String>, reasons: Vec<String>) -> Scored {
        Scored { status, scores: Vec::new(), categories: Vec::new(), flags, reasons }
    }

    /// The result of a form that may not be scored, for `reason`: every score absent.
    pub(crate) fn absent(instrument: &Instrument, reason: String) -> Scored {
        let score = |rule: &ScoreRule| Score {
            name: rule.name.clone(),
            value: None,
            exact: None,
            scaled_up: false,
            absent: Some(Absent::NotScored),
            contributions: Vec::new(),
        };
        let category = |rule: &CategoryRule| Category {
            name: rule.name.clone(),
            value: None,
            rule: None,
            provisional: None,
        };
        Scored {
            status: Status::NotScored,
            scores: instrument.scores.iter().map(score).collect(),
            categories: instrument.categories.iter().map(category).collect(),
            flags: Vec::new(),
            reasons: vec![reason],
        }
    }

    /// The score of that name.
    pub fn score(&self, name: &str) -> Option<&Score> {
        self.scores.iter().find(|score| *score.name == *name)
    }

    /// The category of that name.
    pub fn category(&self, name: &str) -> Option<&Category> {
        self.categories.iter().find(|category| *category.name == *name)
    }

    /// The result as an object with the members `status`, `scores`, `categories`, `flags`,
    /// `provisional` (only when there is one) and `reasons`; what is absent is null.
    pub fn to_json(&self) -> Json {
        let mut scores = Object::new();
        for score in &self.scores {
            scores.set(&score.name, score.value.as_ref().map_or(Json::Null, Value::to_json));
        }
        let mut categories = Object::new();
        let mut provisional = Object::new();
        for category in &self.categories {
            categories.set(&category.name, category.value.clone().unwrap_or(Json::Null));
            if let Some(value) = &category.provisional {
                provisional.set(&category.name, value);
            }
        }
        let texts = |list: &[String]| Json::Array(list.iter().map(Json::from).collect());
        let mut result = Object::new();
        result.set("status", self.status.code());
        result.set("scores", scores);
        result.set("categories", categories);
        result.set("flags", texts(&self.flags));
        if !provisional.is_empty() {
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

/// Scores one form with the rules of `instrument`.
pub fn score(instrument: &Instrument, answers: &Answers) -> Scored {
    if let Some(reason) = &instrument.activation.refused {
        let flags = instrument.activation.flag.iter().cloned().collect();
        return Scored::nothing(Status::NotActivatable, flags, vec![reason.clone()]);
    }
    let items = &instrument.items;
    let form = Facts::of(items, answers);
    let answered = instrument.used.iter().filter(|item| answers.points(items, **item).is_some());
    let enough = answered.count() >= instrument.min_answered;
    let mut scores: Vec<Score> = Vec::with_capacity(instrument.scores.len());
    for rule in &instrument.scores {
        scores.push(given(instrument, rule, answers, &form, &scores, enough));
    }

    let points: Vec<_> =
        scores.iter().map(|score| score.exact.map(|exact| (exact, exact))).collect();
    let scaled_up: Vec<bool> = scores.iter().map(|score| score.scaled_up).collect();
    let mut known = Facts {
        rules: &instrument.scores,
        scores: &points,
        scaled_up: &scaled_up,
        ..Facts::of(items, answers)
    };
    let found: Vec<Option<(usize, &Json)>> = instrument
        .categories
        .iter()
        .map(|rule| {
            let complete = rule.needs.iter().all(|i| points.get(*i).is_some_and(Option::is_some));
            complete.then(|| category(rule, &known)).flatten()
        })
        .collect();
    let values: Vec<Option<Json>> =
        found.iter().map(|found| found.map(|(_, value)| value.clone())).collect();
    known.categories = &values;
    let stated = instrument.statuses.iter().find(|rule| known.all(&rule.when));
    let status = stated.map_or_else(|| usual_status(instrument, &scores), |rule| rule.status);
    known.status = Some(status);

    let mut flags: Vec<String> = Vec::new();
    for rule in instrument.flags.iter().filter(|rule| known.all(&rule.when)) {
        if rule.refuses {
            let text = format!("The answers contradict each other ({}).", rule.flag);
            return Scored::nothing(Status::Error, vec![rule.flag.to_string()], vec![text]);
        }
        if !flags.iter().any(|flag| *flag == *rule.flag) {
            flags.push(rule.flag.to_string());
        }
    }
    let mut categories = Vec::with_capacity(found.len());
    let mut possible: Option<Vec<Option<(Decimal, Decimal)>>> = None;
    for ((rule, found), value) in instrument.categories.iter().zip(&found).zip(values.clone()) {
        let provisional = (rule.provisional && value.is_none()).then(|| {
            let bounds = possible.get_or_insert_with(|| bounds(instrument, answers, &form));
            let possible = Facts {
                rules: &instrument.scores,
                scores: bounds,
                is_final: false,
                ..Facts::of(items, answers)
            };
            category(rule, &possible).map(|(_, value)| value.clone())
        });
        categories.push(Category {
            name: rule.name.clone(),
            value,
            rule: found.map(|(index, _)| index),
            provisional: provisional.flatten(),
        });
    }
    if categories.iter().any(|category| category.provisional.is_some()) {
        flags.push("provisional-category".to_owned());
    }
    let reasons = reason::reasons(instrument, answers, status, &scores, &categories);
    Scored { status, scores, categories, flags, reasons }
}

/// The score that `rule` gives.
fn given(
    instrument: &Instrument,
    rule: &ScoreRule,
    answers: &Answers,
    form: &Facts<'_>,
    earlier: &[Score],
    enough: bool,
) -> Score {
    let mut contributions = Vec::with_capacity(rule.items.len() + rule.adds.len());
    let (mut sum, mut top, mut answered, mut positive) = (Decimal::ZERO, Decimal::ZERO, 0, 0u32);
    for &index in &rule.items {
        let Some(item) = instrument.items.get(index) else { continue };
        let points = answers.points(&instrument.items, index);
        if let Some(points) = points {
            answered += 1;
            sum += points;
            positive += u32::from(points > Decimal::ZERO);
            top += item.bounds.map_or(Decimal::ZERO, |(_, high)| high);
        }
        contributions.push(Contribution {
            from: item.link_id.clone(),
            is_item: true,
            answer: answers.get(index).map(|answer| answer.text(item)),
            points,
        });
    }
    let mut given = enough && answered >= rule.min_answered;
    for add in &rule.adds {
        let score = earlier.get(add.score);
        let exact = score.and_then(|score| score.exact);
        let points = exact.map(|exact| add.points(exact));
        given &= points.is_some();
        sum += points.unwrap_or_default();
        contributions.push(Contribution {
            from: score.map_or_else(|| rule.name.clone(), |score| score.name.clone()),
            is_item: false,
            answer: exact.map(|exact| exact.to_string()),
            points,
        });
    }
    let absent = match (form.all(&rule.when), given) {
        (false, _) => Some(Absent::NotApplicable),
        (true, false) => Some(Absent::TooFewAnswers),
        (true, true) => None,
    };
    let mut score = Score {
        name: rule.name.clone(),
        value: None,
        exact: None,
        scaled_up: false,
        absent,
        contributions,
    };
    if absent.is_some() {
        return score;
    }
    // The division comes last: a quotient that does not end is never a tie nor a cut-off.
    let (count, all) = (Decimal::from(answered), Decimal::from(rule.items.len()));
    let exact = match &rule.rule {
        Rule::Sum => sum * rule.times,
        Rule::Mean => sum * rule.times / count,
        Rule::Prorate => sum * rule.times * all / count,
        Rule::Percent => sum * Decimal::ONE_HUNDRED * rule.times / top,
        Rule::Count => Decimal::from(positive) * rule.times,
        Rule::Profile => {
            score.value = Some(Value::Text(profile(instrument, rule, answers)));
            return score;
        }
        Rule::ValueSet(_) => {
            let profile = profile(instrument, rule, answers);
            match rule.table.as_ref().map(|table| table.index(&profile, None)) {
                Some(Ok(index)) => index,
                Some(Err(_)) => {
                    score.absent = Some(Absent::NotInValueSet);
                    return score;
                }
                None => {
                    score.absent = Some(Absent::NoValueSet);
                    return score;
                }
            }
        }
    };
    let scales = matches!(rule.rule, Rule::Mean | Rule::Prorate | Rule::Percent);
    score.scaled_up = scales && answered < rule.complete_at;
    score.exact = Some(exact.normalize());
    score.value = Some(Value::Number(rule.round(exact)));
    score
}

/// The codes of the answers in a row, `9` for a missing one.
fn profile(instrument: &Instrument, rule: &ScoreRule, answers: &Answers) -> String {
    let code = |index: &usize| {
        let option: Option<&AnswerOption> =
            match (answers.get(*index)?, &instrument.items.get(*index)?.kind) {
                (Answer::Option { index, .. }, ItemKind::Choice(set)) => set.options.get(*index),
                _ => None,
            };
        option.map(|option| &*option.code)
    };
    rule.items.iter().map(|index| code(index).unwrap_or("9")).collect()
}

/// The least and greatest value that each score can have once every item is answered.
fn bounds(
    instrument: &Instrument,
    answers: &Answers,
    form: &Facts<'_>,
) -> Vec<Option<(Decimal, Decimal)>> {
    let of = |rule: &ScoreRule| {
        if !rule.adds.is_empty() || rule.range.is_none() || !form.all(&rule.when) {
            return None;
        }
        let mut bounds = (Decimal::ZERO, Decimal::ZERO);
        for &index in &rule.items {
            let item = match (answers.points(&instrument.items, index), answers.get(index)) {
                (Some(points), _) => (points, points),
                (None, None) => instrument.items.get(index)?.bounds?,
                // It is answered, and not with points: no other answer will come.
                (None, Some(_)) => return None,
            };
            bounds = (bounds.0 + item.0, bounds.1 + item.1);
        }
        Some((rule.complete(bounds.0), rule.complete(bounds.1)))
    };
    instrument.scores.iter().map(of).collect()
}

/// The rule that applies and its value; `None` when no rule applies or when rules that could
/// apply differ in their value.
fn category<'c>(rule: &'c CategoryRule, facts: &Facts<'_>) -> Option<(usize, &'c Json)> {
    let mut found: Option<(usize, &Json)> = None;
    for (index, (when, value)) in rule.rules.iter().enumerate() {
        let holds = facts.all_on(when, rule.basis);
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

/// The status that follows from which scores could be given.
fn usual_status(instrument: &Instrument, scores: &[Score]) -> Status {
    let counted = || {
        let all = instrument.scores.iter().zip(scores);
        all.filter(|(rule, score)| !rule.aside && score.absent != Some(Absent::NotApplicable))
            .map(|(_, score)| score)
    };
    let given = counted().filter(|score| score.value.is_some()).count();
    match given {
        0 => Status::NotScored,
        given if given < counted().count() => Status::Partial,
        _ if counted().any(|score| score.scaled_up) => Status::Prorated,
        _ => Status::Scored,
    }
}

/// What is wrong when answers contradict each other, for whoever refuses them.
pub(crate) fn contradiction(scored: &Scored, readable: Answers) -> Refused {
    let issues = scored.reasons.iter().map(|text| Issue::error(IssueType::BusinessRule, text));
    let flag = scored.flags.first().cloned().unwrap_or_default();
    Refused { flag, issues: issues.collect(), readable }
}
