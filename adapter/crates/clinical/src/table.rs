//! Scoring tables: how an instrument's answers become scores, as data that a clinician can sign.
//!
//! The form is that of `profiles/schema/scoring.schema.json`; the schema checks spelling, this
//! module checks meaning: names resolve, every answer has points, and the range that the table
//! states is the range that its rules can give. It does not compare the table with the
//! Questionnaire and does not read files.

mod read;

use lumbar_fhir::{Issue, Json};
use rust_decimal::{Decimal, RoundingStrategy};

use crate::approval::Approval;
use crate::score::Status;
use read::{
    boolean, codings, count, decimal, fault, join, number, optional, scalar, text, texts, whole,
};

/// Most items of one instrument. With numbers as bounded as [`read`] has them, no sum or product
/// can leave the range of [`Decimal`], so the arithmetic needs no overflow checks.
const MAX_ITEMS: usize = 1_000;
/// Deepest nesting of `any` and `all` in a condition.
const MAX_DEPTH: usize = 8;

/// The rules of one instrument, checked.
#[derive(Clone, Debug)]
pub struct ScoringTable {
    /// The instrument's id, for example the last part of its Questionnaire's url.
    pub id: String,
    /// Version of the rules.
    pub version: String,
    /// Name of the instrument for people.
    pub title: String,
    /// Canonical url of the Questionnaire, without version.
    pub questionnaire: String,
    /// Who signed these rules.
    pub approval: Approval,
    /// Whether answers that somebody else gave for the patient are scored.
    pub proxy: bool,
    pub(crate) items: Vec<Item>,
    pub(crate) unscored: Vec<String>,
    /// Fewest answered items, of those that any score uses, for any score at all.
    pub(crate) min_answered: usize,
    pub(crate) scores: Vec<ScoreRule>,
    pub(crate) categories: Vec<CategoryRule>,
    pub(crate) flags: Vec<FlagRule>,
}

/// One question that can carry points.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub link_id: String,
    pub kind: ItemKind,
    points: Points,
    /// Least and greatest points that an answer can give; `None` when answers have no number.
    pub bounds: Option<(Decimal, Decimal)>,
}

#[derive(Clone, Debug)]
pub(crate) enum ItemKind {
    Choice(Vec<AnswerOption>),
    Integer(i64, i64),
    Boolean,
}

/// One permitted answer of a choice.
#[derive(Clone, Debug)]
pub(crate) struct AnswerOption {
    pub code: String,
    /// The option's number; `None` for options that are only names.
    pub value: Option<i64>,
    /// System and code under which the option may arrive, our own first.
    pub codings: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
enum Points {
    Value,
    /// This number minus the value.
    Reverse(Decimal),
    /// First value, last value, points.
    Recode(Vec<(i64, i64, Decimal)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Points of the answered items added.
    Sum,
    /// Mean of the answered items.
    Mean,
    /// Mean of the answered items times the number of items.
    Prorate,
}

#[derive(Clone, Debug)]
pub(crate) struct ScoreRule {
    pub name: String,
    pub label: String,
    pub rule: Rule,
    /// Indexes into the items.
    pub items: Vec<usize>,
    pub min_answered: usize,
    /// From this many answers on the score is complete, and with fewer it is scaled up.
    pub complete_at: usize,
    pub times: Decimal,
    pub decimals: u32,
    /// Least and greatest published value.
    pub range: (Decimal, Decimal),
    /// A score that is reported beside the others and does not make a form complete.
    pub aside: bool,
    /// Codings of the Observation's code.
    pub codes: Vec<Json>,
    /// Canonical of the profile that the Observation conforms to.
    pub profile: Option<String>,
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
    pub name: String,
    pub label: String,
    pub basis: Basis,
    pub provisional: bool,
    /// In order; the first whose conditions all hold gives the value.
    pub rules: Vec<(Vec<Condition>, Json)>,
    /// Scores that the conditions name.
    pub needs: Vec<usize>,
    pub codes: Vec<Json>,
    /// As of a score.
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
pub(crate) struct FlagRule {
    pub flag: String,
    /// The answers contradict each other: nothing is scored.
    pub refuses: bool,
    pub when: Vec<Condition>,
}

#[derive(Clone, Debug)]
pub(crate) enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Compare(Operand, Test, Decimal),
    /// The item's answer has this code.
    Code(usize, String),
    Answered(usize, bool),
    /// The score could be given, or not.
    Given(usize, bool),
    Status(Status),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Operand {
    Score(usize),
    /// The number of the answer before any recoding.
    Item(usize),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Test {
    AtLeast,
    AtMost,
    Above,
    Below,
    Equals,
}

impl ScoringTable {
    /// Reads a scoring table.
    ///
    /// # Errors
    /// The first fault, with its place: a missing or misspelt member, a name that resolves to
    /// nothing, an answer without points, or a stated range that the rules do not give.
    pub fn parse(json: &Json) -> Result<ScoringTable, Issue> {
        let version = text(json, "version", "")?;
        let approval = json.get("approval").ok_or_else(|| fault("approval", "is missing"))?;
        let mut table = ScoringTable {
            id: text(json, "id", "")?,
            title: text(json, "title", "")?,
            questionnaire: text(json, "questionnaire", "")?,
            approval: Approval::parse(approval, &version)?,
            version,
            proxy: boolean(json, "proxy", true, "")?,
            items: items(json)?,
            unscored: texts(json, "unscored", "")?,
            min_answered: 0,
            scores: Vec::new(),
            categories: Vec::new(),
            flags: Vec::new(),
        };
        for (index, score) in json.list("scores").iter().enumerate() {
            let score = table.score_rule(score, &format!("scores[{index}]"))?;
            table.scores.push(score);
        }
        let used = table.used().count();
        table.min_answered = count(json, "minAnswered", 0, used, "")?;
        for (index, category) in json.list("categories").iter().enumerate() {
            let category = table.category_rule(category, &format!("categories[{index}]"))?;
            table.categories.push(category);
        }
        for (index, flag) in json.list("flags").iter().enumerate() {
            let place = format!("flags[{index}]");
            let when = table.conditions(flag, "when", &place, 0)?;
            let refuses = boolean(flag, "refuses", false, &place)?;
            table.flags.push(FlagRule { flag: text(flag, "flag", &place)?, refuses, when });
        }
        unique("scores", table.scores.iter().map(|score| &score.name))?;
        unique("categories", table.categories.iter().map(|category| &category.name))?;
        Ok(table)
    }

    /// Indexes of the items that some score uses.
    pub(crate) fn used(&self) -> impl Iterator<Item = usize> {
        let used = |index: &usize| self.scores.iter().any(|score| score.items.contains(index));
        (0..self.items.len()).filter(used)
    }

    pub(crate) fn item(&self, link_id: &str) -> Option<(usize, &Item)> {
        self.items.iter().enumerate().find(|(_, item)| item.link_id == link_id)
    }

    fn score_rule(&self, json: &Json, place: &str) -> Result<ScoreRule, Issue> {
        let rule = match text(json, "rule", place)?.as_str() {
            "sum" => Rule::Sum,
            "mean" => Rule::Mean,
            "prorate" => Rule::Prorate,
            _ => return Err(fault(&join(place, "rule"), "must be sum, mean or prorate")),
        };
        let mut items = Vec::new();
        for link_id in texts(json, "items", place)? {
            let index = self.index(&link_id, place)?;
            if items.contains(&index) {
                let fault = fault(&join(place, "items"), &format!("names {link_id} twice"));
                return Err(fault);
            }
            items.push(index);
        }
        if items.is_empty() {
            return Err(fault(&join(place, "items"), "must name at least one item"));
        }
        let decimals = count(json, "decimals", 0, 10, place)?;
        let score = ScoreRule {
            name: text(json, "name", place)?,
            label: text(json, "label", place)?,
            rule,
            min_answered: count(json, "minAnswered", items.len(), items.len(), place)?.max(1),
            complete_at: count(json, "completeAt", items.len(), items.len(), place)?,
            items,
            times: match json.get("times") {
                Some(_) => number(json, "times", place)?,
                None => Decimal::ONE,
            },
            decimals: u32::try_from(decimals).unwrap_or_default(),
            range: (number(json, "min", place)?, number(json, "max", place)?),
            aside: boolean(json, "aside", false, place)?,
            codes: codings(json, "codes", place)?,
            profile: optional(json, "profile", place)?,
        };
        if score.times <= Decimal::ZERO {
            return Err(fault(&join(place, "times"), "must be above 0"));
        }
        let mut bounds = (Decimal::ZERO, Decimal::ZERO);
        for &index in &score.items {
            let item = self.items.get(index).and_then(|item| item.bounds);
            let (low, high) =
                item.ok_or_else(|| fault(&join(place, "items"), "names an item without points"))?;
            bounds = (bounds.0 + low, bounds.1 + high);
        }
        let possible =
            (score.round(score.complete(bounds.0)), score.round(score.complete(bounds.1)));
        if possible != score.range {
            let text = format!("is not what the rule gives: {} to {}", possible.0, possible.1);
            return Err(fault(&join(place, "max"), &text));
        }
        Ok(score)
    }

    fn category_rule(&self, json: &Json, place: &str) -> Result<CategoryRule, Issue> {
        let basis = match json.str_at(&["basis"]) {
            None | Some("published") => Basis::Published,
            Some("unrounded") => Basis::Unrounded,
            Some("integer") => Basis::Integer,
            _ => {
                let text = "must be published, unrounded or integer";
                return Err(fault(&join(place, "basis"), text));
            }
        };
        let mut values = Vec::new();
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
            let when = self.conditions(rule, "when", &place, 0)?;
            when.iter().for_each(|condition| condition.scores(&mut needs));
            let value = scalar(rule, &place)?;
            if !values.iter().any(|known| known.value == value) {
                return Err(fault(&join(&place, "value"), "is not among the values"));
            }
            rules.push((when, value));
        }
        needs.sort_unstable();
        needs.dedup();
        Ok(CategoryRule {
            name: text(json, "name", place)?,
            label: text(json, "label", place)?,
            basis,
            provisional: boolean(json, "provisional", false, place)?,
            rules,
            needs,
            codes: codings(json, "codes", place)?,
            profile: optional(json, "profile", place)?,
            values,
        })
    }

    fn conditions(
        &self,
        json: &Json,
        name: &str,
        place: &str,
        depth: usize,
    ) -> Result<Vec<Condition>, Issue> {
        let list = json.list(name).iter().enumerate();
        list.map(|(index, json)| {
            self.condition(json, &format!("{}[{index}]", join(place, name)), depth)
        })
        .collect()
    }

    fn condition(&self, json: &Json, place: &str, depth: usize) -> Result<Condition, Issue> {
        if depth > MAX_DEPTH {
            return Err(fault(place, "is nested too deep"));
        }
        if json.get("any").is_some() {
            return Ok(Condition::Any(self.conditions(json, "any", place, depth + 1)?));
        }
        if json.get("all").is_some() {
            return Ok(Condition::All(self.conditions(json, "all", place, depth + 1)?));
        }
        if let Some(status) = json.str_at(&["status"]) {
            let status = Status::from_code(status)
                .ok_or_else(|| fault(&join(place, "status"), "is no scoring status"))?;
            return Ok(Condition::Status(status));
        }
        let operand = match (json.str_at(&["score"]), json.str_at(&["item"])) {
            (Some(name), None) => {
                let index = self.scores.iter().position(|score| score.name == name);
                let fault = || fault(&join(place, "score"), &format!("{name} is not a score"));
                Operand::Score(index.ok_or_else(fault)?)
            }
            (None, Some(link_id)) => Operand::Item(self.index(link_id, place)?),
            _ => return Err(fault(place, "must name a score, an item, a status, any or all")),
        };
        let mut tests = Vec::new();
        for (name, test) in [
            ("atLeast", Test::AtLeast),
            ("atMost", Test::AtMost),
            ("above", Test::Above),
            ("below", Test::Below),
            ("equals", Test::Equals),
        ] {
            if json.get(name).is_some() {
                tests.push(Condition::Compare(operand, test, number(json, name, place)?));
            }
        }
        if let Operand::Item(index) = operand {
            if let Some(code) = json.str_at(&["is"]) {
                tests.push(Condition::Code(index, code.to_owned()));
            }
            if json.get("answered").is_some() {
                let answered = boolean(json, "answered", true, place)?;
                tests.push(Condition::Answered(index, answered));
            }
        }
        if let Operand::Score(index) = operand
            && json.get("given").is_some()
        {
            tests.push(Condition::Given(index, boolean(json, "given", true, place)?));
        }
        if tests.is_empty() {
            return Err(fault(place, "compares with nothing"));
        }
        Ok(Condition::All(tests))
    }

    fn index(&self, link_id: &str, place: &str) -> Result<usize, Issue> {
        let found = self.item(link_id).map(|(index, _)| index);
        found.ok_or_else(|| fault(place, &format!("names the unknown item {link_id}")))
    }
}

impl ScoreRule {
    /// The score of a complete form whose points add up to `sum`, unrounded.
    pub fn complete(&self, sum: Decimal) -> Decimal {
        match self.rule {
            Rule::Sum | Rule::Prorate => sum * self.times,
            Rule::Mean => sum * self.times / Decimal::from(self.items.len()),
        }
    }

    /// Half up at the score's decimals; for negative values half away from zero.
    pub fn round(&self, value: Decimal) -> Decimal {
        round(value, self.decimals)
    }
}

/// Half up at `decimals`; for negative values half away from zero. Trailing zeros go.
pub(crate) fn round(value: Decimal, decimals: u32) -> Decimal {
    value.round_dp_with_strategy(decimals, RoundingStrategy::MidpointAwayFromZero).normalize()
}

impl Item {
    /// Points of an answer with the number `value`.
    pub fn points(&self, value: i64) -> Option<Decimal> {
        match &self.points {
            Points::Value => Some(Decimal::from(value)),
            Points::Reverse(from) => Some(*from - Decimal::from(value)),
            Points::Recode(ranges) => {
                let range =
                    ranges.iter().find(|(first, last, _)| (*first..=*last).contains(&value));
                range.map(|(_, _, points)| *points)
            }
        }
    }
}

impl Condition {
    fn scores(&self, found: &mut Vec<usize>) {
        match self {
            Condition::All(list) | Condition::Any(list) => {
                list.iter().for_each(|condition| condition.scores(found));
            }
            Condition::Compare(Operand::Score(index), ..) => found.push(*index),
            _ => {}
        }
    }
}

fn unique<'a>(place: &str, names: impl Iterator<Item = &'a String>) -> Result<(), Issue> {
    let mut seen: Vec<&String> = Vec::new();
    for name in names {
        if seen.contains(&name) {
            return Err(fault(place, &format!("hold the name {name} twice")));
        }
        seen.push(name);
    }
    Ok(())
}

fn items(json: &Json) -> Result<Vec<Item>, Issue> {
    let list = json.list("items");
    if list.is_empty() || list.len() > MAX_ITEMS {
        return Err(fault("items", &format!("must hold 1 to {MAX_ITEMS} items")));
    }
    let mut items: Vec<Item> = Vec::new();
    for (index, item) in list.iter().enumerate() {
        let item = self::item(json, item, &format!("items[{index}]"))?;
        if items.iter().any(|other| other.link_id == item.link_id) {
            return Err(fault("items", &format!("{} stands twice", item.link_id)));
        }
        items.push(item);
    }
    Ok(items)
}

fn item(table: &Json, json: &Json, place: &str) -> Result<Item, Issue> {
    let kind = match (json.str_at(&["options"]), json.str_at(&["type"])) {
        (Some(name), None) => ItemKind::Choice(options(table, name, place)?),
        (None, Some("boolean")) => ItemKind::Boolean,
        (None, Some("integer")) => {
            let (min, max) = (whole(json, "min", place)?, whole(json, "max", place)?);
            if min > max {
                return Err(fault(&join(place, "min"), "is above max"));
            }
            ItemKind::Integer(min, max)
        }
        _ => return Err(fault(place, "needs either options or the type boolean or integer")),
    };
    let points = match (json.get("reverse"), json.get("points").and_then(Json::as_object)) {
        (None, None) => Points::Value,
        (Some(_), None) => Points::Reverse(number(json, "reverse", place)?),
        (None, Some(ranges)) => {
            let mut recode = Vec::new();
            for (range, points) in ranges.iter() {
                let place = join(place, "points");
                let (first, last) = range.split_once("..").unwrap_or((range, range));
                let bound =
                    |text: &str| text.parse().map_err(|_| fault(&place, "needs whole numbers"));
                recode.push((bound(first)?, bound(last)?, decimal(points, &place)?));
            }
            Points::Recode(recode)
        }
        (Some(_), Some(_)) => return Err(fault(place, "has both reverse and points")),
    };
    let mut item = Item { link_id: text(json, "linkId", place)?, kind, points, bounds: None };
    // Every value is tried, so that a gap in a recoding is found now and not by a patient.
    let values: Vec<i64> = match &item.kind {
        ItemKind::Choice(options) => {
            let values: Vec<i64> = options.iter().filter_map(|option| option.value).collect();
            if values.len() < options.len() {
                return Ok(item);
            }
            values
        }
        ItemKind::Integer(min, max) => match item.points {
            Points::Recode(_) if max - min > 10_000 => {
                return Err(fault(place, "has too many values for a recoding"));
            }
            Points::Recode(_) => (*min..=*max).collect(),
            _ => vec![*min, *max],
        },
        ItemKind::Boolean => vec![0, 1],
    };
    for value in values {
        let points = item.points(value);
        let points = points
            .ok_or_else(|| fault(place, &format!("gives no points for the answer {value}")))?;
        let (low, high) = item.bounds.unwrap_or((points, points));
        item.bounds = Some((low.min(points), high.max(points)));
    }
    Ok(item)
}

fn options(table: &Json, name: &str, place: &str) -> Result<Vec<AnswerOption>, Issue> {
    let set = table.at(&["options", name]);
    let set = set.ok_or_else(|| fault(place, &format!("names the unknown options {name}")))?;
    let place = format!("options.{name}");
    let system = text(set, "system", &place)?;
    let mut options: Vec<AnswerOption> = Vec::new();
    for (index, answer) in set.list("answers").iter().enumerate() {
        let place = format!("{place}.answers[{index}]");
        let code = text(answer, "code", &place)?;
        if options.iter().any(|other| other.code == code) {
            return Err(fault(&place, "repeats a code"));
        }
        let mut known = vec![(system.clone(), code.clone())];
        for coding in codings(answer, "codes", &place)? {
            known.push((text(&coding, "system", &place)?, text(&coding, "code", &place)?));
        }
        let value = match answer.get("value") {
            Some(_) => Some(whole(answer, "value", &place)?),
            None => None,
        };
        options.push(AnswerOption { code, value, codings: known });
    }
    if options.is_empty() {
        return Err(fault(&place, "has no answers"));
    }
    Ok(options)
}
