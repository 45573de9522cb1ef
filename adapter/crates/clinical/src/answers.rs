//! The answers of one form, read against a scoring table.
//!
//! They come from a QuestionnaireResponse (<https://hl7.org/fhir/R4/questionnaireresponse.html>)
//! or from a plain object of `linkId: value`. A missing answer stays missing; an invalid one is
//! refused and never clipped. Whether a question was enabled or required is not asked here.

use lumbar_fhir::{Issue, IssueType, Json};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use crate::table::{Item, ItemKind, ScoringTable};

/// The answers of one form, item by item of the table they were read with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers(pub(crate) Vec<Option<Answer>>);

/// One answer: the option's code and, unless options are only names, its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub code: String,
    pub value: Option<i64>,
}

/// Why answers cannot be used at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// `unknown-linkId:<linkId>`, `invalid-answer:<linkId>` or a flag of the table; unknown items
    /// first, then the first in the table's order.
    pub flag: String,
    /// Every finding, with its place in the response.
    pub issues: Vec<Issue>,
}

impl Answers {
    /// Reads the answers of a QuestionnaireResponse, however deep its groups are nested.
    ///
    /// A choice takes `valueCoding` (matched by system and code, by code alone without a system),
    /// `valueInteger` or a whole `valueDecimal`; an integer item the latter two; a boolean item
    /// `valueBoolean`. An answer without a value is a missing answer.
    ///
    /// # Errors
    /// An answered item that the table does not know, an answer that its item does not permit, an
    /// item answered more than once.
    pub fn from_response(table: &ScoringTable, response: &Json) -> Result<Answers, Refused> {
        let mut reader = Reader::new(table);
        let mut stack = children(response, "QuestionnaireResponse");
        while let Some((item, place)) = stack.pop() {
            let link_id = item.str_at(&["linkId"]).unwrap_or_default();
            for (index, answer) in item.list("answer").iter().enumerate() {
                let place = format!("{place}.answer[{index}]");
                let value = answer.as_object().into_iter().flat_map(|object| object.iter());
                let value = value.filter(|(name, value)| {
                    name.starts_with("value") && !matches!(value, Json::Null)
                });
                for (name, value) in value {
                    reader.answer(link_id, &place, |item| from_fhir(item, name, value));
                }
                stack.extend(children(answer, &place));
            }
            stack.extend(children(item, &place));
        }
        reader.finish()
    }

    /// Reads an object of `linkId: value`, the value being the option's code as a whole number, its
    /// code as text when it is no number, or true or false. Null, an empty text and an empty list
    /// are missing answers.
    ///
    /// # Errors
    /// As [`Answers::from_response`].
    pub fn from_map(table: &ScoringTable, answers: &Json) -> Result<Answers, Refused> {
        let mut reader = Reader::new(table);
        for (link_id, value) in answers.as_object().into_iter().flat_map(|object| object.iter()) {
            let missing = match value {
                Json::Null => true,
                Json::String(text) => text.is_empty(),
                Json::Array(items) => items.is_empty(),
                _ => false,
            };
            if !missing {
                reader.answer(link_id, "answers", |item| from_plain(item, value));
            }
        }
        reader.finish()
    }
}

struct Reader<'a> {
    table: &'a ScoringTable,
    answers: Vec<Option<Answer>>,
    unknown: Vec<(String, Issue)>,
    /// Index of the item, and what is wrong with it.
    invalid: Vec<(usize, Issue)>,
}

impl<'a> Reader<'a> {
    fn new(table: &'a ScoringTable) -> Self {
        let answers = vec![None; table.items.len()];
        Reader { table, answers, unknown: Vec::new(), invalid: Vec::new() }
    }

    fn answer(&mut self, link_id: &str, place: &str, read: impl Fn(&Item) -> Option<Answer>) {
        let Some((index, item)) = self.table.item(link_id) else {
            if !self.table.unscored.iter().any(|other| other == link_id) {
                let text = format!("{} has no item {link_id}.", self.table.title);
                let issue = Issue::error(IssueType::NotFound, text).at(place);
                self.unknown.push((link_id.to_owned(), issue));
            }
            return;
        };
        let mut invalid = |text: String| {
            self.invalid.push((index, Issue::error(IssueType::Value, text).at(place)));
        };
        let Some(slot) = self.answers.get_mut(index) else { return };
        if slot.is_some() {
            invalid(format!("Item {link_id} is answered more than once."));
            return;
        }
        match read(item) {
            Some(answer) => *slot = Some(answer),
            None => invalid(format!("The answer of item {link_id} is not one that it permits.")),
        }
    }

    fn finish(mut self) -> Result<Answers, Refused> {
        self.invalid.sort_by_key(|(index, _)| *index);
        let first = self.invalid.first().and_then(|(index, _)| self.table.items.get(*index));
        let flag = match (self.unknown.first(), first) {
            (Some((link_id, _)), _) => format!("unknown-linkId:{link_id}"),
            (None, Some(item)) => format!("invalid-answer:{}", item.link_id),
            (None, None) => return Ok(Answers(self.answers)),
        };
        let unknown = self.unknown.into_iter().map(|(_, issue)| issue);
        let issues = unknown.chain(self.invalid.into_iter().map(|(_, issue)| issue)).collect();
        Err(Refused { flag, issues })
    }
}

/// The items directly under `parent`, the last first, as a stack wants them.
fn children<'a>(parent: &'a Json, place: &str) -> Vec<(&'a Json, String)> {
    let items = parent.list("item").iter().enumerate();
    items.map(|(index, item)| (item, format!("{place}.item[{index}]"))).rev().collect()
}

fn from_fhir(item: &Item, name: &str, value: &Json) -> Option<Answer> {
    match (&item.kind, name) {
        (ItemKind::Choice(options), "valueCoding") => {
            let code = value.str_at(&["code"])?;
            let option = match value.str_at(&["system"]) {
                Some(system) => options
                    .iter()
                    .find(|option| option.codings.iter().any(|(s, c)| s == system && c == code)),
                None => options.iter().find(|option| option.code == code).or_else(|| {
                    options.iter().find(|option| option.codings.iter().any(|(_, c)| c == code))
                }),
            }?;
            Some(Answer { code: option.code.clone(), value: option.value })
        }
        (ItemKind::Boolean, "valueBoolean") => from_plain(item, value),
        (ItemKind::Boolean, _) => None,
        (_, "valueInteger") => from_number(item, value.as_i64()?),
        (_, "valueDecimal") => {
            let digits = value.as_number()?;
            let number =
                Decimal::from_str_exact(digits).or_else(|_| Decimal::from_scientific(digits));
            from_number(item, number.ok().filter(Decimal::is_integer)?.to_i64()?)
        }
        _ => None,
    }
}

fn from_plain(item: &Item, value: &Json) -> Option<Answer> {
    match (&item.kind, value) {
        (ItemKind::Boolean, Json::Bool(value)) => {
            Some(Answer { code: value.to_string(), value: Some(i64::from(*value)) })
        }
        (ItemKind::Choice(options), Json::String(code)) => {
            let mut named = options.iter().filter(|option| option.value.is_none());
            let option = named.find(|option| option.code == code.as_str())?;
            Some(Answer { code: option.code.clone(), value: None })
        }
        (ItemKind::Choice(_) | ItemKind::Integer(..), Json::Number(_)) => {
            from_number(item, value.as_i64()?)
        }
        _ => None,
    }
}

fn from_number(item: &Item, number: i64) -> Option<Answer> {
    match &item.kind {
        ItemKind::Choice(options) => {
            let option = options.iter().find(|option| option.value == Some(number))?;
            Some(Answer { code: option.code.clone(), value: option.value })
        }
        ItemKind::Integer(min, max) => (*min..=*max)
            .contains(&number)
            .then(|| Answer { code: number.to_string(), value: Some(number) }),
        ItemKind::Boolean => None,
    }
}
