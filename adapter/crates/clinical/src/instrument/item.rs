//! Items of an instrument: what may be answered, and the points of each answer.

use std::sync::Arc;

use lumbar_fhir::{Issue, Json};
use rust_decimal::Decimal;

use super::condition::Names;
use super::read::{
    MAX_NUMBER, boolean, codings, decimal, fault, join, number, optional, text, whole,
};

/// Most items of one instrument. With numbers as bounded as [`super::read`] has them, no sum or
/// product can leave the range of [`Decimal`], so the arithmetic needs no overflow checks.
const MAX_ITEMS: usize = 1_000;
/// Deepest nesting of groups.
const MAX_DEPTH: usize = 8;

/// Sets of permitted answers that instruments share, by name.
#[derive(Clone, Debug, Default)]
pub struct OptionSets(Vec<Arc<OptionSet>>);

/// One set of permitted answers.
#[derive(Clone, Debug)]
pub struct OptionSet {
    /// Its name, which instruments use.
    pub name: String,
    /// Code system of the options' own codes.
    pub system: String,
    pub(crate) options: Vec<AnswerOption>,
}

/// One permitted answer of a choice.
#[derive(Clone, Debug)]
pub(crate) struct AnswerOption {
    pub code: Arc<str>,
    /// The option's number; `None` for options that are only names.
    pub value: Option<i64>,
    /// In our own words.
    pub label: String,
    /// System and code under which the option may arrive, our own first.
    pub codings: Vec<(String, String)>,
}

/// One question, or a group of them.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub link_id: Arc<str>,
    pub label: String,
    pub kind: ItemKind,
    /// Several options may be marked; the one with the highest number counts.
    pub several: bool,
    pub points: Points,
    /// Least and greatest points that an answer can give; `None` when answers have no number.
    pub bounds: Option<(Decimal, Decimal)>,
    pub codes: Vec<Json>,
    pub required: bool,
    pub enable: Option<Enable>,
    /// Index of the group that it stands in.
    pub parent: Option<usize>,
}

#[derive(Clone, Debug)]
pub(crate) enum ItemKind {
    Choice(Arc<OptionSet>),
    Integer(i64, i64),
    Decimal(Decimal, Decimal),
    Boolean,
    Date,
    /// FHIR's `string` or `text`; no rule reads it.
    Text {
        long: bool,
    },
    /// Holds other items and takes no answer.
    Group,
}

#[derive(Clone, Debug)]
pub(crate) enum Points {
    Value,
    /// This number minus the value.
    Reverse(Decimal),
    /// First value, last value, points.
    Recode(Vec<(i64, i64, Decimal)>),
}

/// When a question is asked, in what FHIR's `enableWhen` can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Enable {
    /// All tests must hold; otherwise one is enough.
    pub all: bool,
    pub tests: Vec<EnableTest>,
}

/// One test of another item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EnableTest {
    Answered(usize, bool),
    /// Item and code of the answer; `true` or `false` for a boolean.
    Is(usize, Arc<str>),
}

impl OptionSets {
    /// Reads `profiles/instruments/options.json`.
    ///
    /// # Errors
    /// The first fault, with its place.
    pub fn parse(json: &Json) -> Result<OptionSets, Issue> {
        let mut sets = Vec::new();
        let members = json.get("sets").and_then(Json::as_object);
        for (name, set) in members.into_iter().flat_map(|sets| sets.iter()) {
            sets.push(Arc::new(OptionSet::parse(name, set)?));
        }
        Ok(OptionSets(sets))
    }

    /// The set of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<OptionSet>> {
        self.0.iter().find(|set| set.name == name)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<OptionSet>> {
        self.0.iter()
    }
}

impl OptionSet {
    fn parse(name: &str, json: &Json) -> Result<OptionSet, Issue> {
        let place = format!("sets.{name}");
        let system = text(json, "system", &place)?;
        let mut options: Vec<AnswerOption> = Vec::new();
        for (index, answer) in json.list("answers").iter().enumerate() {
            let place = format!("{place}.answers[{index}]");
            let code: Arc<str> = text(answer, "code", &place)?.into();
            if options.iter().any(|other| other.code == code) {
                return Err(fault(&place, "repeats a code"));
            }
            let mut known = vec![(system.clone(), code.to_string())];
            for coding in codings(answer, "codes", &place)? {
                known.push((text(&coding, "system", &place)?, text(&coding, "code", &place)?));
            }
            let value = answer.get("value").map(|_| whole(answer, "value", &place)).transpose()?;
            let label = text(answer, "label", &place)?;
            options.push(AnswerOption { code, value, label, codings: known });
        }
        if options.is_empty() {
            return Err(fault(&place, "has no answers"));
        }
        Ok(OptionSet { name: name.to_owned(), system, options })
    }

    /// A set of names alone, for inputs that are no questions.
    pub(crate) fn of_names(name: &str, codes: Vec<String>) -> OptionSet {
        let option = |code: String| AnswerOption {
            label: code.clone(),
            code: code.into(),
            value: None,
            codings: Vec::new(),
        };
        let options = codes.into_iter().map(option).collect();
        OptionSet { name: name.to_owned(), system: String::new(), options }
    }
}

impl Item {
    /// An item that no form shows: an input of a derivation.
    pub(crate) fn input(name: &str, kind: ItemKind) -> Item {
        Item {
            link_id: name.into(),
            label: name.to_owned(),
            kind,
            several: false,
            points: Points::Value,
            bounds: None,
            codes: Vec::new(),
            required: false,
            enable: None,
            parent: None,
        }
    }

    /// Points of an answer with the number `value`.
    pub fn points(&self, value: Decimal) -> Option<Decimal> {
        match &self.points {
            Points::Value => Some(value),
            Points::Reverse(from) => Some(*from - value),
            Points::Recode(ranges) => {
                let within = |(first, last, _): &&(i64, i64, Decimal)| {
                    Decimal::from(*first) <= value && value <= Decimal::from(*last)
                };
                ranges.iter().find(within).map(|(_, _, points)| *points)
            }
        }
    }

    /// What the item takes, for a sentence.
    pub fn takes(&self) -> String {
        match &self.kind {
            ItemKind::Choice(set) => {
                let codes: Vec<&str> = set.options.iter().map(|option| &*option.code).collect();
                format!("one of {}", codes.join(", "))
            }
            ItemKind::Integer(min, max) => format!("a whole number from {min} to {max}"),
            ItemKind::Decimal(min, max) => format!("a number from {min} to {max}"),
            ItemKind::Boolean => "true or false".to_owned(),
            ItemKind::Date => "a date such as 2026-03-02".to_owned(),
            ItemKind::Text { .. } => "a text".to_owned(),
            ItemKind::Group => "no answer".to_owned(),
        }
    }
}

/// The items of an instrument; none only where `may_be_empty`.
pub(crate) fn items(
    json: &Json,
    options: &OptionSets,
    may_be_empty: bool,
) -> Result<Vec<Item>, Issue> {
    let mut reader = Reader { options, items: Vec::new(), enable: Vec::new() };
    reader.read(json, None, "", 0)?;
    let Reader { mut items, enable, .. } = reader;
    if items.is_empty() && !may_be_empty {
        return Err(fault("items", "must hold at least one item"));
    }
    let found: Vec<(usize, Enable)> = {
        let names = Names::of(&items);
        let read = |(index, json, place): (usize, &Json, String)| {
            Ok((index, enable_when(&names, json, &place)?))
        };
        enable.into_iter().map(read).collect::<Result<_, Issue>>()?
    };
    for (index, enable) in found {
        if let Some(item) = items.get_mut(index) {
            item.enable = Some(enable);
        }
    }
    Ok(items)
}

struct Reader<'a> {
    options: &'a OptionSets,
    items: Vec<Item>,
    /// Index of an item, the item and its place: its conditions may name later ones.
    enable: Vec<(usize, &'a Json, String)>,
}

impl<'a> Reader<'a> {
    fn read(
        &mut self,
        json: &'a Json,
        parent: Option<usize>,
        place: &str,
        depth: usize,
    ) -> Result<(), Issue> {
        if depth > MAX_DEPTH {
            return Err(fault(place, "is nested too deep"));
        }
        for (index, entry) in json.list("items").iter().enumerate() {
            let place = format!("{}[{index}]", join(place, "items"));
            let item = item(self.options, entry, parent, &place)?;
            if self.items.iter().any(|other| other.link_id == item.link_id) {
                return Err(fault(&place, &format!("repeats the linkId {}", item.link_id)));
            }
            if self.items.len() >= MAX_ITEMS {
                return Err(fault("items", &format!("holds more than {MAX_ITEMS} items")));
            }
            let own = self.items.len();
            if entry.get("enableWhen").is_some() {
                self.enable.push((own, entry, place.clone()));
            }
            let is_group = matches!(item.kind, ItemKind::Group);
            self.items.push(item);
            if is_group {
                self.read(entry, Some(own), &place, depth + 1)?;
            }
        }
        Ok(())
    }
}

fn item(
    options: &OptionSets,
    json: &Json,
    parent: Option<usize>,
    place: &str,
) -> Result<Item, Issue> {
    let points = match (json.get("reverse"), json.get("points").and_then(Json::as_object)) {
        (None, None) => Points::Value,
        (Some(_), None) => Points::Reverse(number(json, "reverse", place)?),
        (None, Some(ranges)) => {
            let mut recode = Vec::new();
            for (range, points) in ranges.iter() {
                let place = join(place, "points");
                let (first, last) = range.split_once("..").unwrap_or((range, range));
                let bound = |text: &str| {
                    let value = text.parse().ok().filter(|n: &i64| n.abs() <= MAX_NUMBER);
                    value.ok_or_else(|| fault(&place, "needs whole numbers"))
                };
                recode.push((bound(first)?, bound(last)?, decimal(points, &place)?));
            }
            Points::Recode(recode)
        }
        (Some(_), Some(_)) => return Err(fault(place, "has both reverse and points")),
    };
    let mut item = Item {
        link_id: text(json, "linkId", place)?.into(),
        label: text(json, "label", place)?,
        kind: kind(options, json, place)?,
        several: optional(json, "marks", place)?.as_deref() == Some("highest"),
        points,
        bounds: None,
        codes: codings(json, "codes", place)?,
        required: boolean(json, "required", false, place)?,
        enable: None,
        parent,
    };
    if item.several && !matches!(item.kind, ItemKind::Choice(_)) {
        return Err(fault(&join(place, "marks"), "is for a choice"));
    }
    item.bounds = bounds(&item, place)?;
    Ok(item)
}

fn kind(options: &OptionSets, json: &Json, place: &str) -> Result<ItemKind, Issue> {
    Ok(match text(json, "type", place)?.as_str() {
        "choice" => {
            let name = text(json, "optionSet", place)?;
            let unknown = || fault(place, &format!("names the unknown options {name}"));
            ItemKind::Choice(options.get(&name).ok_or_else(unknown)?.clone())
        }
        "integer" => {
            let (min, max) = (whole(json, "min", place)?, whole(json, "max", place)?);
            if min > max {
                return Err(fault(&join(place, "min"), "is above max"));
            }
            ItemKind::Integer(min, max)
        }
        "decimal" => {
            let (min, max) = (number(json, "min", place)?, number(json, "max", place)?);
            if min > max {
                return Err(fault(&join(place, "min"), "is above max"));
            }
            ItemKind::Decimal(min, max)
        }
        "boolean" => ItemKind::Boolean,
        "date" => ItemKind::Date,
        "string" => ItemKind::Text { long: false },
        "text" => ItemKind::Text { long: true },
        "group" => ItemKind::Group,
        _ => {
            let types = "must be choice, integer, decimal, boolean, date, string, text or group";
            return Err(fault(&join(place, "type"), types));
        }
    })
}

/// Every value is tried, so that a gap in a recoding is found now and not by a patient.
fn bounds(item: &Item, place: &str) -> Result<Option<(Decimal, Decimal)>, Issue> {
    let is_recoded = matches!(item.points, Points::Recode(_));
    let values: Vec<Decimal> = match &item.kind {
        ItemKind::Choice(set) => {
            set.options.iter().filter_map(|option| option.value.map(Decimal::from)).collect()
        }
        ItemKind::Integer(min, max) if is_recoded && max - min > 10_000 => {
            return Err(fault(place, "has too many values for a recoding"));
        }
        ItemKind::Integer(min, max) if is_recoded => (*min..=*max).map(Decimal::from).collect(),
        ItemKind::Integer(min, max) => vec![Decimal::from(*min), Decimal::from(*max)],
        ItemKind::Decimal(..) if is_recoded => {
            return Err(fault(place, "has numbers between those of a recoding"));
        }
        ItemKind::Decimal(min, max) => vec![*min, *max],
        ItemKind::Boolean => vec![Decimal::ZERO, Decimal::ONE],
        ItemKind::Date | ItemKind::Text { .. } | ItemKind::Group => Vec::new(),
    };
    let mut bounds: Option<(Decimal, Decimal)> = None;
    for value in values {
        let missing = || fault(place, &format!("gives no points for the answer {value}"));
        let points = item.points(value).ok_or_else(missing)?;
        let (low, high) = bounds.unwrap_or((points, points));
        bounds = Some((low.min(points), high.max(points)));
    }
    Ok(bounds)
}

/// Several conditions must all hold; of one condition any test is enough.
fn enable_when(names: &Names<'_>, json: &Json, place: &str) -> Result<Enable, Issue> {
    let place = join(place, "enableWhen");
    let mut conditions = Vec::new();
    for (index, condition) in json.list("enableWhen").iter().enumerate() {
        conditions.push(enable_tests(names, condition, &format!("{place}[{index}]"))?);
    }
    let all = conditions.len() > 1;
    if conditions.is_empty() || all && conditions.iter().any(|tests| tests.len() != 1) {
        return Err(fault(&place, "must be one condition, or several of one test each"));
    }
    Ok(Enable { all, tests: conditions.into_iter().flatten().collect() })
}

fn enable_tests(names: &Names<'_>, json: &Json, place: &str) -> Result<Vec<EnableTest>, Issue> {
    let items = match (json.str_at(&["item"]), json.get("anyItem")) {
        (Some(name), None) => vec![names.item(name, place)?],
        (None, Some(_)) => names.items(json, "anyItem", place)?,
        _ => return Err(fault(place, "must name an item or anyItem")),
    };
    if let Some(answered) = json.get("answered").and_then(Json::as_bool) {
        return Ok(items.into_iter().map(|item| EnableTest::Answered(item, answered)).collect());
    }
    let mut tests = Vec::new();
    for item in items {
        for code in names.codes(item, json, place)? {
            tests.push(EnableTest::Is(item, code.into()));
        }
    }
    match tests.is_empty() {
        true => Err(fault(place, "needs is or answered")),
        false => Ok(tests),
    }
}
