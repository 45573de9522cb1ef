//! Items, compiled: <https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item>.

use std::sync::OnceLock;

use regex::RegexBuilder;
use rust_decimal::Decimal;

use super::constraint::Constraint;
use super::enable_when::Enable;
use super::expression::{Formula, Variable};
use super::extension;
use super::value::{self, Fixed, ValueType};
use crate::{Json, pattern};

/// The type of an item: <https://hl7.org/fhir/R4/valueset-item-type.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemType {
    Group,
    Display,
    /// The abstract type above all questions.
    Question,
    Boolean,
    Decimal,
    Integer,
    Date,
    DateTime,
    Time,
    String,
    Text,
    Url,
    Choice,
    OpenChoice,
    Attachment,
    Reference,
    Quantity,
}

use ItemType as I;

const CODES: [(&str, I, Option<ValueType>); 17] = [
    ("group", I::Group, None),
    ("display", I::Display, None),
    ("question", I::Question, None),
    ("boolean", I::Boolean, Some(ValueType::Boolean)),
    ("decimal", I::Decimal, Some(ValueType::Decimal)),
    ("integer", I::Integer, Some(ValueType::Integer)),
    ("date", I::Date, Some(ValueType::Date)),
    ("dateTime", I::DateTime, Some(ValueType::DateTime)),
    ("time", I::Time, Some(ValueType::Time)),
    ("string", I::String, Some(ValueType::String)),
    ("text", I::Text, Some(ValueType::String)),
    ("url", I::Url, Some(ValueType::Uri)),
    ("choice", I::Choice, Some(ValueType::Coding)),
    ("open-choice", I::OpenChoice, Some(ValueType::Coding)),
    ("attachment", I::Attachment, Some(ValueType::Attachment)),
    ("reference", I::Reference, Some(ValueType::Reference)),
    ("quantity", I::Quantity, Some(ValueType::Quantity)),
];

impl ItemType {
    pub fn read(code: &str) -> Option<ItemType> {
        CODES.iter().find(|(own, _, _)| *own == code).map(|(_, of, _)| *of)
    }

    /// The code of the value set.
    pub fn code(self) -> &'static str {
        CODES.iter().find(|(_, of, _)| *of == self).map_or("", |(code, _, _)| code)
    }

    /// The type of its answers; of a choice the one that it has without other options.
    pub fn answer(self) -> Option<ValueType> {
        CODES.iter().find(|(_, of, _)| *of == self).and_then(|(_, _, answer)| *answer)
    }

    pub fn is_question(self) -> bool {
        !matches!(self, I::Group | I::Display)
    }

    pub fn is_choice(self) -> bool {
        matches!(self, I::Choice | I::OpenChoice)
    }
}

/// One item, with all that is asked of its answers.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub link_id: Box<str>,
    pub kind: ItemType,
    /// The item above, by its place in the order of the Questionnaire.
    pub parent: Option<u32>,
    /// The place after its last descendant.
    pub end: u32,
    pub depth: u32,
    /// Its place among the items of its parent.
    pub position: usize,
    /// The texts that a response may repeat; none when the text is made at run time.
    pub texts: Vec<Box<str>>,
    pub definition: Option<Box<str>>,
    pub is_required: bool,
    /// What decides at run time whether it is required.
    pub required: Option<Formula>,
    pub repeats: bool,
    /// Whether people cannot see it, because of itself or of an item above.
    pub is_hidden: bool,
    pub is_read_only: bool,
    pub enable: Enable,
    pub rules: Rules,
    pub options: Options,
    pub constraints: Vec<Constraint>,
    pub variables: Vec<Variable>,
    pub calculated: Option<Formula>,
}

/// What is asked of an answer's value or of the number of answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub min_occurs: Option<i64>,
    pub max_occurs: Option<i64>,
    pub min_length: Option<i64>,
    pub max_length: Option<i64>,
    pub decimal_places: Option<i64>,
    pub step: Option<i64>,
    pub pattern: Option<Pattern>,
    pub min: Option<Bound>,
    pub max: Option<Bound>,
    pub max_size: Option<Decimal>,
    pub mime_types: Vec<Box<str>>,
    pub resources: Vec<Box<str>>,
    /// Profiles of which a target must have one.
    pub profiles: Vec<Box<str>>,
    pub units: Units,
    pub is_signed: bool,
}

/// The units that a quantity may have.
#[derive(Clone, Debug, Default)]
pub(super) struct Units {
    /// Code or name and system of each.
    pub listed: Vec<Unit>,
    pub value_set: Option<Box<str>>,
    /// Whether others may be given, too.
    pub is_open: bool,
}

/// A unit: the system and code, or the name where there is no code.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub system: Option<Box<str>>,
    pub code: Option<Box<str>>,
    pub display: Option<Box<str>>,
}

/// A least or greatest value.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub value: Option<Fixed>,
    pub shown: String,
    /// What gives the value at run time.
    pub formula: Option<Formula>,
}

/// Why a regular expression cannot be used.
pub(super) const UNUSABLE: &str =
    "look-around, back-references and very large ones are not supported";

/// A regular expression.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    pub text: Box<str>,
    /// Read when it is needed; `None` if it cannot be used.
    regex: OnceLock<Option<pattern::Pattern>>,
    /// What people are told to type.
    pub entry_format: Option<Box<str>>,
}

/// The answers that a question offers.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub listed: Vec<AnswerOption>,
    pub value_set: Option<Box<str>>,
    /// What finds them at run time.
    pub dynamic: Option<Formula>,
    pub toggles: Vec<Toggle>,
}

/// One answer that is offered.
#[derive(Clone, Debug)]
pub(super) struct AnswerOption {
    pub of: ValueType,
    pub value: Fixed,
    /// Its code or value, as a sentence shows it.
    pub shown: Box<str>,
    /// Its display and the translations of it.
    pub displays: Vec<Box<str>>,
    pub is_exclusive: bool,
}

/// Options that are offered only while an expression is true.
#[derive(Clone, Debug)]
pub(super) struct Toggle {
    pub options: Vec<(ValueType, Fixed)>,
    pub formula: Formula,
}

impl Rules {
    /// The rules that stand in an item and its extensions.
    pub fn read(json: &Json) -> Rules {
        let mut rules =
            Rules { max_length: json.get("maxLength").and_then(Json::as_i64), ..Rules::default() };
        let mut entry_format = None;
        let mut unit_open = "optionsOnly";
        for extension in json.list("extension") {
            let value = extension::value(extension);
            let text = value.and_then(Json::as_str);
            let integer = value.and_then(Json::as_i64);
            match extension::term(extension) {
                Some("minOccurs") => rules.min_occurs = integer,
                Some("maxOccurs") => rules.max_occurs = integer,
                Some("minLength") => rules.min_length = integer,
                Some("maxDecimalPlaces") => rules.decimal_places = integer,
                Some("sliderStepValue") => rules.step = integer.filter(|step| *step > 0),
                Some("minValue" | "minQuantity") => rules.min = Bound::read(extension),
                Some("maxValue" | "maxQuantity") => rules.max = Bound::read(extension),
                Some("maxSize") => rules.max_size = value.and_then(value::number),
                Some("mimeType") => rules.mime_types.extend(text.map(Into::into)),
                Some("regex") => rules.pattern = text.map(Pattern::read),
                Some("entryFormat") => entry_format = text,
                Some("referenceResource") => rules.resources.extend(text.map(Into::into)),
                Some("referenceProfile") => rules.profiles.extend(text.map(Into::into)),
                Some("unit" | "unitOption") => rules.units.listed.extend(value.map(Unit::read)),
                Some("unitValueSet") => rules.units.value_set = text.map(Into::into),
                Some("unitOpen") => unit_open = text.unwrap_or(unit_open),
                Some("signatureRequired") => rules.is_signed = true,
                _ => {}
            }
        }
        rules.units.is_open = unit_open != "optionsOnly";
        if let (Some(pattern), Some(format)) = (&mut rules.pattern, entry_format) {
            pattern.entry_format = Some(format.into());
        }
        rules
    }
}

impl Unit {
    fn read(coding: &Json) -> Unit {
        let text = |name: &str| coding.str_at(&[name]).map(Into::into);
        Unit { system: text("system"), code: text("code"), display: text("display") }
    }

    /// Whether a quantity has this unit: by code and system, else by the name.
    pub fn is_of(&self, quantity: &Json) -> bool {
        match (self.code.as_deref(), quantity.str_at(&["code"])) {
            (Some(own), Some(code)) => {
                let system = quantity.str_at(&["system"]);
                own == code && (self.system.is_none() || system == self.system.as_deref())
            }
            (own, _) => quantity
                .str_at(&["unit"])
                .is_some_and(|name| self.display.as_deref() == Some(name) || own == Some(name)),
        }
    }

    pub fn shown(&self) -> &str {
        self.code.as_deref().or(self.display.as_deref()).unwrap_or_default()
    }
}

impl Bound {
    fn read(extension: &Json) -> Option<Bound> {
        let sibling = extension.as_object()?.iter().find(|(name, _)| name.starts_with("_value"));
        let (of, json) = match value::choice(extension, "value") {
            Some((of, json)) => (of, Some(json)),
            None => (ValueType::of_sibling(sibling?.0)?, None),
        };
        let extended = sibling.map(|(_, sibling)| sibling).or(json);
        Some(Bound {
            value: json.and_then(|json| Fixed::read(of, json)),
            shown: json.map(|json| value::shown(of, json)).unwrap_or_default(),
            formula: extended.and_then(Formula::dynamic),
        })
    }
}

impl Pattern {
    fn read(text: &str) -> Pattern {
        Pattern { text: text.into(), regex: OnceLock::new(), entry_format: None }
    }

    /// Reads it, if that was not done yet; `None` if it cannot be used. `work` takes the steps and
    /// may stop it.
    pub fn regex<E>(
        &self,
        work: &mut dyn FnMut(u64) -> Result<(), E>,
    ) -> Result<Option<&pattern::Pattern>, E> {
        if self.regex.get().is_none() {
            let text = format!(r"\A(?:{})\z", from_javascript(&self.text));
            let mut builder = RegexBuilder::new(&text);
            let read = pattern::Pattern::read(text.len(), builder.nest_limit(50), work)?;
            self.regex.get_or_init(|| read);
        }
        Ok(self.regex.get().and_then(Option::as_ref))
    }

    /// Whether a text matches; `None` if that cannot be told.
    pub fn matches<E>(
        &self,
        text: &str,
        work: &mut dyn FnMut(u64) -> Result<(), E>,
    ) -> Option<bool> {
        let pattern = self.regex(work).ok()??;
        work(pattern.steps(text)).ok()?;
        Some(pattern.regex().is_match(text))
    }
}

/// The same regular expression in the notation of the `regex` crate: a class of JavaScript has no
/// other class within it, and its digits and letters are those of ASCII.
fn from_javascript(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('d') => out.push_str("[0-9]"),
                Some('D') => out.push_str("[^0-9]"),
                Some('w') => out.push_str("[0-9A-Za-z_]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some(escaped) if escaped == '<' || escaped == '>' => out.push(escaped),
                Some(escaped) => out.extend(['\\', escaped]),
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '[' | '&' | '~' if in_class => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

impl Options {
    /// The options of an item.
    pub fn read(json: &Json) -> Options {
        let mut options = Options {
            listed: json.list("answerOption").iter().filter_map(AnswerOption::read).collect(),
            value_set: json.str_at(&["answerValueSet"]).map(Into::into),
            ..Options::default()
        };
        for extension in json.list("extension") {
            match extension::term(extension) {
                Some("answerExpression") => {
                    options.dynamic = extension::value(extension).map(Formula::read);
                }
                Some("answerOptionsToggleExpression") => {
                    options.toggles.extend(Toggle::read(extension));
                }
                _ => {}
            }
        }
        options
    }
}

impl AnswerOption {
    fn read(json: &Json) -> Option<AnswerOption> {
        let (of, value) = value::choice(json, "value")?;
        let display = value.str_at(&["display"]).map(Box::from);
        let translated = value.get("_display").into_iter().flat_map(translations);
        let mut exclusive = extension::values(json, "optionExclusive");
        Some(AnswerOption {
            of,
            value: Fixed::read(of, value)?,
            shown: match of {
                ValueType::Coding => value::cut(value.str_at(&["code"])?).into(),
                of => value::shown(of, value).into(),
            },
            displays: display.into_iter().chain(translated).collect(),
            is_exclusive: exclusive.any(|value| value.as_bool() == Some(true)),
        })
    }
}

impl AnswerOption {
    /// Whether it is a Coding with this code, of whatever system.
    pub fn has_code(&self, code: Option<&str>) -> bool {
        matches!(&self.value, Fixed::Coding { code: own, .. } if Some(own.as_ref()) == code)
    }
}

impl Toggle {
    fn read(extension: &Json) -> Option<Toggle> {
        let parts = extension.list("extension").iter();
        let options = parts.filter(|part| part.str_at(&["url"]) == Some("option"));
        let read = |part| {
            let (of, json) = value::choice(part, "value")?;
            Some((of, Fixed::read(of, json)?))
        };
        Some(Toggle {
            options: options.filter_map(read).collect(),
            formula: Formula::read(extension::part(extension, "expression")?),
        })
    }
}

/// The translations of a text, which stand in the extensions of its sibling.
pub(super) fn translations(sibling: &Json) -> impl Iterator<Item = Box<str>> {
    let all = sibling.list("extension").iter();
    let translations = all.filter(|extension| extension::term(extension) == Some("translation"));
    translations.filter_map(|translation| {
        extension::part(translation, "content").and_then(Json::as_str).map(Box::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_expressions_are_those_of_javascript_and_match_as_a_whole() {
        for (text, value, expected) in [
            (r"^[^@\s]+@[^@\s]+\.[^@\s]+$", "a@b.c", Some(true)),
            (r"\d{3}", "123", Some(true)),
            (r"\d{3}", "1234", Some(false)),
            (r"\d{3}", "١٢٣", Some(false)),
            (r"[[\]&&a]+", "[]&a", Some(true)),
            (r"[\d-]+", "1-2", Some(true)),
            (r"a|b", "ab", Some(false)),
            (r"\/x\<y", "/x<y", Some(true)),
            (r"(?=a)b", "b", None),
            (r"(a)\1", "aa", None),
            (r"((a{100}){100}){100}", "a", None),
        ] {
            let matches = Pattern::read(text).matches::<()>(value, &mut |_| Ok(()));
            assert_eq!(matches, expected, "{text}");
        }
    }
}
