//! Rules of an instrument: scores, categories, statuses and flags.

use std::sync::Arc;

use lumbar_fhir::{Issue, Json, json};
use rust_decimal::{Decimal, RoundingStrategy};

use super::Instrument;
use super::condition::{Condition, Names};
use super::item::Item;
use super::read::{boolean, codings, count, decimal, fault, join, number, optional, scalar, text};
use crate::score::Status;
use crate::value_set::ValueSet;

/// The code system of our own codes of scores and categories: `<instrument>.<name>`.
pub const SCORE: &str = "https://lumbar.example/fhir/CodeSystem/score";

/// How points become a score.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    /// Points of the answered items added.
    Sum,
    /// Mean of the answered items.
    Mean,
    /// Mean of the answered items times the number of items.
    Prorate,
    /// Points of the answered items as a percentage of the most that they can give.
    Percent,
    /// Number of items whose answer gives points; a blank gives none.
    Count,
    /// The codes of the answers in a row, `9` for a missing one: a text.
    Profile,
    /// The value of the profile in a table that the site supplies.
    ValueSet(String),
}

#[derive(Clone, Debug)]
pub(crate) struct ScoreRule {
    pub name: Arc<str>,
    pub label: String,
    pub rule: Rule,
    /// Indexes into the items.
    pub items: Vec<usize>,
    /// Points for the value of an earlier score.
    pub adds: Vec<Add>,
    /// The score applies only when these hold.
    pub when: Vec<Condition>,
    pub min_answered: usize,
    /// From this many answers on the score is complete, and with fewer it is scaled up.
    pub complete_at: usize,
    pub times: Decimal,
    pub decimals: u32,
    /// Least and greatest published value; `None` where a table of the site decides.
    pub range: Option<(Decimal, Decimal)>,
    /// Greatest points that all items together can give.
    top: Decimal,
    /// A score that is reported beside the others and does not make a form complete.
    pub aside: bool,
    /// The direction in which things get better.
    pub better: Option<Better>,
    /// Codings of the Observation's code, our own last.
    pub codes: Vec<Json>,
    /// The table that a rule of value sets reads, when the site supplied it.
    pub table: Option<Arc<ValueSet>>,
}

/// Points that follow from the unrounded value of an earlier score.
#[derive(Clone, Debug)]
pub(crate) struct Add {
    pub score: usize,
    /// Points of values below a limit, in order; the last has no limit.
    pub bands: Vec<(Option<Decimal>, Decimal)>,
}

/// The direction in which things get better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// A fall is an improvement.
    Lower,
    /// A rise is an improvement.
    Higher,
}

/// Which form of a score a category compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Basis {
    Published,
    Unrounded,
    Integer,
}

#[derive(Clone, Debug)]
pub(crate) struct CategoryRule {
    pub name: Arc<str>,
    pub label: String,
    pub basis: Basis,
    pub provisional: bool,
    /// In order; the first whose conditions all hold gives the value.
    pub rules: Vec<(Vec<Condition>, Json)>,
    /// Scores that the conditions compare.
    pub needs: Vec<usize>,
    pub codes: Vec<Json>,
    /// Canonical of the profile that the Observation conforms to.
    pub profile: Option<String>,
    pub values: Vec<CategoryValue>,
}

#[derive(Clone, Debug)]
pub(crate) struct CategoryValue {
    pub value: Json,
    pub label: String,
    pub codes: Vec<Json>,
}

#[derive(Clone, Debug)]
pub(crate) struct StatusRule {
    pub status: Status,
    pub when: Vec<Condition>,
}

#[derive(Clone, Debug)]
pub(crate) struct FlagRule {
    pub flag: Arc<str>,
    /// The answers contradict each other: nothing is scored.
    pub refuses: bool,
    pub when: Vec<Condition>,
}

impl Better {
    pub(crate) fn parse(json: &Json, place: &str) -> Result<Option<Better>, Issue> {
        match json.str_at(&["better"]) {
            None => Ok(None),
            Some("lower") => Ok(Some(Better::Lower)),
            Some("higher") => Ok(Some(Better::Higher)),
            Some(_) => Err(fault(&join(place, "better"), "must be lower or higher")),
        }
    }
}

/// One score of `instrument`, whose items and earlier scores it may name.
pub(crate) fn score(instrument: &Instrument, json: &Json, place: &str) -> Result<ScoreRule, Issue> {
    let names = Names::of(&instrument.items);
    let rule = match text(json, "rule", place)?.as_str() {
        "sum" => Rule::Sum,
        "mean" => Rule::Mean,
        "prorate" => Rule::Prorate,
        "percent" => Rule::Percent,
        "count" => Rule::Count,
        "profile" => Rule::Profile,
        "valueSet" => Rule::ValueSet(text(json, "valueSet", place)?),
        _ => {
            let rules = "must be sum, mean, prorate, percent, count, profile or valueSet";
            return Err(fault(&join(place, "rule"), rules));
        }
    };
    let items = names.items(json, "items", place)?;
    let (name, label) = (text(json, "name", place)?, text(json, "label", place)?);
    let all = items.len();
    let least = match rule {
        Rule::Count => count(json, "minAnswered", 0, all, place)?,
        Rule::Profile => count(json, "minAnswered", 1, all, place)?,
        _ => count(json, "minAnswered", all, all, place)?.max(1),
    };
    let decimals = count(json, "decimals", 0, 10, place)?;
    let mut score = ScoreRule {
        rule,
        adds: adds(instrument, json, place)?,
        when: names.conditions(json, "when", place)?,
        min_answered: least,
        complete_at: count(json, "completeAt", all, all, place)?,
        items,
        times: match json.get("times") {
            Some(_) => number(json, "times", place)?,
            None => Decimal::ONE,
        },
        decimals: u32::try_from(decimals).unwrap_or_default(),
        range: None,
        top: Decimal::ZERO,
        aside: boolean(json, "aside", false, place)?,
        better: Better::parse(json, place)?,
        codes: own_code(codings(json, "codes", place)?, &instrument.id, &name, &label),
        table: None,
        name: name.into(),
        label,
    };
    if score.times <= Decimal::ZERO {
        return Err(fault(&join(place, "times"), "must be above 0"));
    }
    range(&mut score, &instrument.items, json, place)?;
    Ok(score)
}

/// The public codings, and our own.
fn own_code(mut codes: Vec<Json>, instrument: &str, name: &str, label: &str) -> Vec<Json> {
    let code = format!("{instrument}.{name}");
    codes.push(json!({"system": (SCORE), "code": (code), "display": (label)}));
    codes
}

fn adds(instrument: &Instrument, json: &Json, place: &str) -> Result<Vec<Add>, Issue> {
    let mut adds = Vec::new();
    for (index, add) in json.list("adds").iter().enumerate() {
        let place = format!("{}[{index}]", join(place, "adds"));
        let name = text(add, "score", &place)?;
        let score = instrument.scores.iter().position(|score| *score.name == *name);
        let none = || fault(&join(&place, "score"), &format!("{name} is not an earlier score"));
        let score = score.ok_or_else(none)?;
        let mut bands: Vec<(Option<Decimal>, Decimal)> = Vec::new();
        for (index, band) in add.list("points").iter().enumerate() {
            let place = format!("{place}.points[{index}]");
            let below = band.get("below").map(|below| decimal(below, &place)).transpose()?;
            let rises = match (bands.last(), below) {
                (Some((None, _)), _) => false,
                (Some((Some(last), _)), Some(below)) => below > *last,
                _ => true,
            };
            if !rises {
                return Err(fault(&place, "must have a limit above the one before"));
            }
            bands.push((below, number(band, "points", &place)?));
        }
        if bands.last().is_none_or(|(below, _)| below.is_some()) {
            return Err(fault(&join(&place, "points"), "must end with a band without limit"));
        }
        adds.push(Add { score, bands });
    }
    Ok(adds)
}

/// Holds the stated range against the one that the rule gives.
fn range(score: &mut ScoreRule, items: &[Item], json: &Json, place: &str) -> Result<(), Issue> {
    let states = json.get("min").is_some() || json.get("max").is_some();
    if matches!(score.rule, Rule::Profile | Rule::ValueSet(_)) {
        return match states {
            true => Err(fault(&join(place, "max"), "is not known where no points are added")),
            false => Ok(()),
        };
    }
    let mut bounds = (Decimal::ZERO, Decimal::ZERO);
    for &index in &score.items {
        let item = items.get(index).and_then(|item| item.bounds);
        let without = || fault(&join(place, "items"), "names an item without points");
        let (low, high) = item.ok_or_else(without)?;
        if matches!(score.rule, Rule::Percent) && (low < Decimal::ZERO || high <= Decimal::ZERO) {
            return Err(fault(&join(place, "items"), "names an item that no percentage can have"));
        }
        score.top += high;
        bounds = (bounds.0 + low, bounds.1 + high);
    }
    if matches!(score.rule, Rule::Count) {
        bounds = (Decimal::ZERO, Decimal::from(score.items.len()));
    }
    for add in &score.adds {
        let points = || add.bands.iter().map(|(_, points)| *points);
        bounds.0 += points().min().unwrap_or_default();
        bounds.1 += points().max().unwrap_or_default();
    }
    let possible = (score.round(score.complete(bounds.0)), score.round(score.complete(bounds.1)));
    if possible != (number(json, "min", place)?, number(json, "max", place)?) {
        let text = format!("is not what the rule gives: {} to {}", possible.0, possible.1);
        return Err(fault(&join(place, "max"), &text));
    }
    score.range = Some(possible);
    Ok(())
}

/// One category of `instrument`, whose items and scores it may name.
pub(crate) fn category(
    instrument: &Instrument,
    json: &Json,
    place: &str,
) -> Result<CategoryRule, Issue> {
    let names = Names::of(&instrument.items).scores(&instrument.scores);
    let basis = match json.str_at(&["basis"]) {
        None | Some("published") => Basis::Published,
        Some("unrounded") => Basis::Unrounded,
        Some("integer") => Basis::Integer,
        Some(_) => {
            let text = "must be published, unrounded or integer";
            return Err(fault(&join(place, "basis"), text));
        }
    };
    let mut values: Vec<CategoryValue> = Vec::new();
    for (index, value) in json.list("values").iter().enumerate() {
        let place = format!("{place}.values[{index}]");
        values.push(CategoryValue {
            value: scalar(value, &place)?,
            label: text(value, "label", &place)?,
            codes: codings(value, "codes", &place)?,
        });
    }
    let mut rules = Vec::new();
    let mut needs = Vec::new();
    for (index, rule) in json.list("rules").iter().enumerate() {
        let place = format!("{place}.rules[{index}]");
        let when = names.conditions(rule, "when", &place)?;
        when.iter().for_each(|condition| condition.scores(&mut needs));
        let value = scalar(rule, &place)?;
        if !values.iter().any(|known| known.value == value) {
            return Err(fault(&join(&place, "value"), "is not among the values"));
        }
        rules.push((when, value));
    }
    needs.sort_unstable();
    needs.dedup();
    let (name, label) = (text(json, "name", place)?, text(json, "label", place)?);
    Ok(CategoryRule {
        basis,
        provisional: boolean(json, "provisional", false, place)?,
        rules,
        needs,
        codes: own_code(codings(json, "codes", place)?, &instrument.id, &name, &label),
        profile: optional(json, "profile", place)?,
        values,
        name: name.into(),
        label,
    })
}

/// The statuses of `instrument`, in order.
pub(crate) fn statuses(instrument: &Instrument, json: &Json) -> Result<Vec<StatusRule>, Issue> {
    let names =
        Names::of(&instrument.items).scores(&instrument.scores).categories(&instrument.categories);
    let mut rules = Vec::new();
    for (index, rule) in json.list("statuses").iter().enumerate() {
        let place = format!("statuses[{index}]");
        let status = Status::from_code(&text(rule, "status", &place)?);
        let none = || fault(&join(&place, "status"), "is no scoring status");
        let when = names.conditions(rule, "when", &place)?;
        rules.push(StatusRule { status: status.ok_or_else(none)?, when });
    }
    if rules.last().is_some_and(|rule| !rule.when.is_empty()) {
        return Err(fault("statuses", "must end with one that always applies"));
    }
    Ok(rules)
}

/// The flags that `json` lists.
pub(crate) fn flags(names: Names<'_>, json: &Json, place: &str) -> Result<Vec<FlagRule>, Issue> {
    let mut flags = Vec::new();
    for (index, flag) in json.list("flags").iter().enumerate() {
        let place = format!("{}[{index}]", join(place, "flags"));
        let refuses = boolean(flag, "refuses", false, &place)?;
        let when = names.conditions(flag, "when", &place)?;
        if when.is_empty() {
            return Err(fault(&join(&place, "when"), "must hold at least one condition"));
        }
        flags.push(FlagRule { flag: text(flag, "flag", &place)?.into(), refuses, when });
    }
    Ok(flags)
}

impl ScoreRule {
    /// The score of a complete form whose points add up to `sum`, unrounded.
    pub fn complete(&self, sum: Decimal) -> Decimal {
        match self.rule {
            Rule::Mean => sum * self.times / Decimal::from(self.items.len()),
            Rule::Percent => sum * Decimal::ONE_HUNDRED * self.times / self.top,
            _ => sum * self.times,
        }
    }

    /// Half up at the score's decimals; for negative values half away from zero.
    pub fn round(&self, value: Decimal) -> Decimal {
        round(value, self.decimals)
    }
}

impl Add {
    /// Points for a score of this unrounded value.
    pub fn points(&self, value: Decimal) -> Decimal {
        let band = self.bands.iter().find(|(below, _)| below.is_none_or(|below| value < below));
        band.map_or(Decimal::ZERO, |(_, points)| *points)
    }
}

impl CategoryRule {
    /// The label of one of the values.
    pub fn value_label(&self, value: &Json) -> &str {
        let found = self.values.iter().find(|known| known.value == *value);
        found.map_or("", |known| known.label.as_str())
    }
}

/// Half up at `decimals`; for negative values half away from zero. Trailing zeros go.
pub(crate) fn round(value: Decimal, decimals: u32) -> Decimal {
    value.round_dp_with_strategy(decimals, RoundingStrategy::MidpointAwayFromZero).normalize()
}
