//! The answers of one form, read against its instrument.
//!
//! They come from a QuestionnaireResponse (<https://hl7.org/fhir/R4/questionnaireresponse.html>)
//! or from a plain object of `linkId: value`. A missing answer stays missing; an invalid one is
//! refused and never clipped. Whether a question was enabled or required is not asked here.

use jiff::civil::Date;
use lumbar_fhir::datetime::{DateTime, Precision};
use lumbar_fhir::{Issue, IssueType, Json};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use crate::discrepancy::CALCULATED;
use crate::instrument::{Instrument, Item, ItemKind};

/// The answers of one form, item by item of the instrument they were read with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers(Vec<Option<Answer>>);

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// One of the options, by its place; of several marks the one that counts.
    Option {
        index: usize,
        several: bool,
    },
    Number(Decimal),
    Boolean(bool),
    Date(Date),
    /// A text, which no rule reads.
    Text,
}

/// Why answers cannot be used at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// `unknown-linkId:<linkId>`, `invalid-answer:<linkId>` or a flag of the instrument; unknown
    /// items first, then the first in the instrument's order.
    pub flag: String,
    /// Every finding, with its place in the response.
    pub issues: Vec<Issue>,
    /// The answers that could be read.
    pub readable: Answers,
}

impl Answers {
    /// Reads the answers of a QuestionnaireResponse, however deep its groups are nested.
    ///
    /// A choice takes `valueCoding` (matched by system and code, by code alone without a system),
    /// `valueInteger` or a whole `valueDecimal`; an integer item the latter two; other items the
    /// value of their own type. An answer without a value is a missing answer.
    ///
    /// # Errors
    /// An answered item that the instrument does not know, an answer that its item does not permit,
    /// an item answered more than once although it takes one answer. Of a refused instrument nothing
    /// is read.
    pub fn from_response(instrument: &Instrument, response: &Json) -> Result<Answers, Refused> {
        if instrument.activation.refused.is_some() {
            return Ok(Answers::none(0));
        }
        let mut reader = Reader::new(instrument);
        let mut places = Places(Vec::new());
        let mut stack = Vec::new();
        places.children(response, None, &mut stack);
        while let Some((item, place)) = stack.pop() {
            let link_id = item.str_at(&["linkId"]).unwrap_or_default();
            for (index, answer) in item.list("answer").iter().enumerate() {
                let place = places.add(Some(place), "answer", index);
                // What is calculated follows from the answers and is none.
                let own = answer.as_object().filter(|_| !link_id.starts_with(CALCULATED));
                for (name, value) in own.into_iter().flat_map(|own| own.iter()) {
                    if name.starts_with("value") && !matches!(value, Json::Null) {
                        let read = |item: &Item| from_fhir(item, name, value);
                        reader.answer(link_id, || places.text(place), read);
                    }
                }
                places.children(answer, Some(place), &mut stack);
            }
            places.children(item, Some(place), &mut stack);
        }
        reader.finish()
    }

    /// Reads an object of `linkId: value`, the value being the option's code as a whole number, its
    /// code as text when it is no number, or the JSON value of the item's type; of an item that
    /// takes several marks also a list. Null, an empty text and an empty list are missing answers.
    ///
    /// # Errors
    /// As [`Answers::from_response`].
    pub fn from_map(instrument: &Instrument, answers: &Json) -> Result<Answers, Refused> {
        if instrument.activation.refused.is_some() {
            return Ok(Answers::none(0));
        }
        let mut reader = Reader::new(instrument);
        for (link_id, value) in answers.as_object().into_iter().flat_map(|object| object.iter()) {
            if !is_missing(value) {
                reader.answer(link_id, || "answers".to_owned(), |item| plain(item, value));
            }
        }
        reader.finish()
    }

    /// No answer to any of `items` items.
    pub(crate) fn none(items: usize) -> Answers {
        Answers(vec![None; items])
    }

    pub(crate) fn set(&mut self, item: usize, answer: Answer) {
        if let Some(slot) = self.0.get_mut(item) {
            *slot = Some(answer);
        }
    }

    pub(crate) fn get(&self, item: usize) -> Option<&Answer> {
        self.0.get(item)?.as_ref()
    }

    /// The number of an answer; `None` when there is none.
    pub(crate) fn number(&self, items: &[Item], item: usize) -> Option<Decimal> {
        self.get(item)?.number(items.get(item)?)
    }

    /// The points of an answer; `None` when it gives none.
    pub(crate) fn points(&self, items: &[Item], item: usize) -> Option<Decimal> {
        let item_ = items.get(item)?;
        item_.bounds?;
        item_.points(self.get(item)?.number(item_)?)
    }
}

impl Answer {
    /// The answer's number; of a date its day, counted from 1970.
    pub fn number(&self, item: &Item) -> Option<Decimal> {
        match (self, &item.kind) {
            (Answer::Option { index, .. }, ItemKind::Choice(set)) => {
                set.options.get(*index)?.value.map(Decimal::from)
            }
            (Answer::Number(number), _) => Some(*number),
            (Answer::Boolean(value), _) => Some(Decimal::from(u8::from(*value))),
            (Answer::Date(date), _) => {
                let span = Date::constant(1970, 1, 1).until(*date).ok()?;
                Some(Decimal::from(span.get_days()))
            }
            _ => None,
        }
    }

    /// The answer as text: the option's code, a number, `true` or `false`, a date. Free text is
    /// not repeated.
    pub fn text(&self, item: &Item) -> String {
        match (self, &item.kind) {
            (Answer::Option { index, .. }, ItemKind::Choice(set)) => {
                set.options.get(*index).map_or_else(String::new, |option| option.code.to_string())
            }
            (Answer::Number(number), _) => number.to_string(),
            (Answer::Boolean(value), _) => value.to_string(),
            (Answer::Date(date), _) => date.to_string(),
            _ => String::new(),
        }
    }
}

/// Whether a plain value stands for no answer.
pub(crate) fn is_missing(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.iter().all(is_missing),
        _ => false,
    }
}

struct Reader<'a> {
    instrument: &'a Instrument,
    answers: Answers,
    unknown: Vec<(String, Issue)>,
    /// Index of the item, and what is wrong with it.
    invalid: Vec<(usize, Issue)>,
}

impl<'a> Reader<'a> {
    fn new(instrument: &'a Instrument) -> Self {
        let answers = Answers::none(instrument.items.len());
        Reader { instrument, answers, unknown: Vec::new(), invalid: Vec::new() }
    }

    fn answer(
        &mut self,
        link_id: &str,
        place: impl Fn() -> String,
        read: impl Fn(&Item) -> Option<Answer>,
    ) {
        let Some((index, item)) = self.instrument.item(link_id) else {
            let text = format!("{} has no item {link_id}.", self.instrument.title);
            let issue = Issue::error(IssueType::NotFound, text).at(place());
            self.unknown.push((link_id.to_owned(), issue));
            return;
        };
        let mut invalid = |text: String| {
            self.invalid.push((index, Issue::error(IssueType::Value, text).at(place())));
        };
        let Some(slot) = self.answers.0.get_mut(index) else { return };
        match (read(item), &*slot) {
            (Some(answer), None) => *slot = Some(answer),
            (Some(answer), Some(other)) if item.several => {
                *slot = Some(highest(item, *other, answer));
            }
            (Some(_), Some(_)) => invalid(format!("Item {link_id} is answered more than once.")),
            (None, _) => invalid(format!("Item {link_id} takes {}.", item.takes())),
        }
    }

    fn finish(mut self) -> Result<Answers, Refused> {
        if self.unknown.is_empty() && self.invalid.is_empty() {
            return Ok(self.answers);
        }
        self.invalid.sort_by_key(|(index, _)| *index);
        let first = self.invalid.first().and_then(|(index, _)| self.instrument.items.get(*index));
        let flag = match (self.unknown.first(), first) {
            (Some((link_id, _)), _) => format!("unknown-linkId:{link_id}"),
            (None, item) => {
                format!("invalid-answer:{}", item.map_or("", |item| &*item.link_id))
            }
        };
        for (index, _) in &self.invalid {
            if let Some(slot) = self.answers.0.get_mut(*index) {
                *slot = None;
            }
        }
        let unknown = self.unknown.into_iter().map(|(_, issue)| issue);
        let issues = unknown.chain(self.invalid.into_iter().map(|(_, issue)| issue)).collect();
        Err(Refused { flag, issues, readable: self.answers })
    }
}

/// The elements on the way, each with the one it stands in: a place is written only for an issue.
struct Places(Vec<(Option<usize>, &'static str, usize)>);

impl Places {
    fn add(&mut self, within: Option<usize>, name: &'static str, index: usize) -> usize {
        self.0.push((within, name, index));
        self.0.len() - 1
    }

    /// Puts the items directly under `parent` on the stack, the last first.
    fn children<'j>(
        &mut self,
        parent: &'j Json,
        place: Option<usize>,
        stack: &mut Vec<(&'j Json, usize)>,
    ) {
        for (index, item) in parent.list("item").iter().enumerate().rev() {
            stack.push((item, self.add(place, "item", index)));
        }
    }

    fn text(&self, place: usize) -> String {
        let mut steps = Vec::new();
        let mut next = Some(place);
        while let Some((within, name, index)) = next.and_then(|place| self.0.get(place)) {
            steps.push(format!(".{name}[{index}]"));
            next = *within;
        }
        steps.push("QuestionnaireResponse".to_owned());
        steps.reverse();
        steps.concat()
    }
}

fn from_fhir(item: &Item, name: &str, value: &Json) -> Option<Answer> {
    match (&item.kind, name) {
        (ItemKind::Choice(set), "valueCoding") => {
            let code = value.str_at(&["code"])?;
            let known = |system: &str| {
                let coded = |(s, c): &(String, String)| s == system && c == code;
                set.options.iter().position(|option| option.codings.iter().any(coded))
            };
            let index = match value.str_at(&["system"]) {
                Some(system) => known(system),
                None => set.options.iter().position(|option| *option.code == *code).or_else(|| {
                    let coded = |(_, c): &(String, String)| c == code;
                    set.options.iter().position(|option| option.codings.iter().any(coded))
                }),
            }?;
            Some(Answer::Option { index, several: false })
        }
        (ItemKind::Choice(_) | ItemKind::Integer(..), "valueInteger")
        | (ItemKind::Decimal(..), "valueInteger" | "valueDecimal")
        | (ItemKind::Boolean, "valueBoolean")
        | (ItemKind::Date, "valueDate")
        | (ItemKind::Text { .. }, "valueString") => plain(item, value),
        (ItemKind::Choice(_) | ItemKind::Integer(..), "valueDecimal") => {
            from_number(item, read_decimal(value)?.to_i64()?, read_decimal(value)?)
        }
        _ => None,
    }
}

/// A value of plain JSON.
pub(crate) fn plain(item: &Item, value: &Json) -> Option<Answer> {
    match (&item.kind, value) {
        (ItemKind::Boolean, Json::Bool(value)) => Some(Answer::Boolean(*value)),
        (ItemKind::Choice(set), Json::String(code)) => {
            let named = |option: &crate::instrument::AnswerOption| {
                option.value.is_none() && *option.code == *code.as_str()
            };
            let index = set.options.iter().position(named)?;
            Some(Answer::Option { index, several: false })
        }
        (ItemKind::Choice(_), Json::Array(marks)) if item.several => {
            let mut found = None;
            for mark in marks.iter().filter(|mark| !is_missing(mark)) {
                let mark = match mark {
                    Json::Array(_) => return None,
                    mark => plain(item, mark)?,
                };
                found = Some(found.map_or(mark, |other| highest(item, other, mark)));
            }
            found
        }
        (ItemKind::Choice(_) | ItemKind::Integer(..), Json::Number(_)) => {
            let number = value.as_i64()?;
            from_number(item, number, Decimal::from(number))
        }
        (ItemKind::Decimal(min, max), Json::Number(_)) => {
            let number = read_decimal(value)?;
            (*min <= number && number <= *max).then_some(Answer::Number(number))
        }
        (ItemKind::Date, Json::String(text)) => {
            let date = DateTime::parse(text).filter(|date| date.precision == Precision::Day)?;
            Some(Answer::Date(date.start.date()))
        }
        (ItemKind::Text { .. }, Json::String(_)) => Some(Answer::Text),
        _ => None,
    }
}

fn read_decimal(value: &Json) -> Option<Decimal> {
    let digits = value.as_number()?;
    Decimal::from_str_exact(digits).or_else(|_| Decimal::from_scientific(digits)).ok()
}

/// `whole` is the number without its decimals, which it must not have.
fn from_number(item: &Item, whole: i64, number: Decimal) -> Option<Answer> {
    if Decimal::from(whole) != number {
        return None;
    }
    match &item.kind {
        ItemKind::Choice(set) => {
            let index = set.options.iter().position(|option| option.value == Some(whole))?;
            Some(Answer::Option { index, several: false })
        }
        ItemKind::Integer(min, max) => {
            (*min..=*max).contains(&whole).then_some(Answer::Number(number))
        }
        _ => None,
    }
}

/// Of two marks on one item the one with the higher number.
fn highest(item: &Item, one: Answer, other: Answer) -> Answer {
    let (Answer::Option { index: a, several: x }, Answer::Option { index: b, several: y }) =
        (one, other)
    else {
        return other;
    };
    let index = if one.number(item) >= other.number(item) { a } else { b };
    Answer::Option { index, several: x || y || a != b }
}
