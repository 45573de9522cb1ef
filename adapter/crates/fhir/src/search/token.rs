//! Token parameters: <https://hl7.org/fhir/R4/search.html#token>.
//!
//! Codes and systems are compared as they are written.

use crate::Json;
use crate::definitions::{Definitions, SearchParameter};
use crate::path::{Value, branches};
use crate::terminology::r4::is_system_of;

use super::condition::Condition;
use super::escape::{split, unescape};
use super::expansion::{Need, SystemCode};
use super::fault::Fault;
use super::key;
use super::query::{Asked, Reader};

/// What a value is found by.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) codes: Vec<String>,
    /// For the modifier `:text`.
    pub(super) texts: Vec<String>,
    /// For the modifier `:of-type`.
    pub(super) of_type: Vec<String>,
}

pub(super) fn keys(value: &Value<'_>) -> Keys {
    let mut keys = Keys::default();
    let Some(json) = value.json().filter(|json| json.as_object().is_some()) else {
        keys.codes.extend(primitive(value).map(|text| key::token("", &text)));
        return keys;
    };
    match value.type_name() {
        "CodeableConcept" => {
            for coding in json.list("coding") {
                keys.coding(coding, "code");
            }
            keys.text(json.str_at(&["text"]));
        }
        "Identifier" => {
            keys.coding(json, "value");
            keys.text(json.str_at(&["type", "text"]));
            if let Some(text) = json.str_at(&["value"]) {
                for coding in json.at(&["type"]).map_or(&[][..], |of| of.list("coding")) {
                    let of = |name| coding.str_at(&[name]).unwrap_or_default();
                    keys.of_type.push(of_type(of("system"), of("code"), text));
                }
            }
        }
        "ContactPoint" => {
            keys.codes.extend(json.str_at(&["value"]).map(|text| key::token("", text)));
        }
        _ => keys.coding(json, "code"),
    }
    keys
}

impl Keys {
    fn coding(&mut self, coding: &Json, member: &str) {
        let system = coding.str_at(&["system"]).unwrap_or_default();
        self.codes.extend(coding.str_at(&[member]).map(|code| key::token(system, code)));
        self.text(coding.str_at(&["display"]));
    }

    fn text(&mut self, text: Option<&str>) {
        self.texts.extend(text.map(key::string));
    }
}

fn of_type(system: &str, code: &str, text: &str) -> String {
    format!("{}{}{text}", key::token(system, code), key::SEPARATOR)
}

/// Text of a primitive of any kind.
pub(super) fn primitive(value: &Value<'_>) -> Option<String> {
    match value.to_json() {
        Json::String(text) | Json::Number(text) => Some(text.into()),
        Json::Bool(value) => Some(value.to_string()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// A token as it is looked for.
pub(super) enum Token {
    /// `code`: of any system.
    Code(String),
    /// `system|code`, or `|code` with an empty system: of none.
    Coding(SystemCode),
    /// `system|`: any code of it.
    System(String),
}

impl Token {
    pub(super) fn read(value: &str) -> Option<Token> {
        let parts: Vec<String> = split(value, '|').into_iter().map(unescape).collect();
        match <[String; 2]>::try_from(parts) {
            Ok([system, code]) if code.is_empty() => {
                (!system.is_empty()).then_some(Token::System(system))
            }
            Ok([system, code]) => Some(Token::Coding((system, code))),
            Err(parts) => match <[String; 1]>::try_from(parts) {
                Ok([code]) if !code.is_empty() => Some(Token::Code(code)),
                _ => None,
            },
        }
    }
}

const FORMS: &str = "code, system|code, |code or system|, as in http://loinc.org|8480-6; a | within a part is written \\|";

impl Reader<'_> {
    pub(super) fn token(&self, asked: &Asked<'_>, value: &str) -> Result<Condition, Fault> {
        let code = asked.code();
        match asked.modifier {
            None | Some("not") => self.coded(asked, code, value),
            Some("text") => {
                let folded = key::fold(unescape(value).trim());
                if folded.is_empty() {
                    return Err(asked.expected("a text such as headache"));
                }
                Ok(Condition::key_begins(&format!("{code}:text"), &folded))
            }
            Some("of-type") => {
                let parts: Vec<String> = split(value, '|').into_iter().map(unescape).collect();
                match parts.as_slice() {
                    [system, of, text] if !of.is_empty() && !text.is_empty() => Ok(Condition::key(
                        &format!("{code}:of-type"),
                        of_type(system, of, text),
                    )),
                    _ => Err(asked.expected(
                        "the type's system, its code and the identifier's value, as in http://terminology.hl7.org/CodeSystem/v2-0203|MR|446053",
                    )),
                }
            }
            Some("in" | "not-in") => {
                let url = unescape(value);
                if url.trim().is_empty() {
                    return Err(asked.expected(
                        "a value set such as http://hl7.org/fhir/ValueSet/administrative-gender",
                    ));
                }
                self.members(asked, Need::ValueSet(url))
            }
            Some(way @ ("above" | "below")) => match Token::read(value) {
                Some(Token::Coding((system, code))) if !system.is_empty() => {
                    let need = match way {
                        "above" => Need::Ancestors { system, code },
                        _ => Need::Descendants { system, code },
                    };
                    self.members(asked, need)
                }
                _ => Err(asked.expected("system|code, as in http://snomed.info/sct|73211009")),
            },
            Some(_) => {
                Err(asked
                    .unknown_modifier("text, not, in, not-in, above, below, of-type and missing"))
            }
        }
    }

    /// That a key of `code`, which may be a sub-code such as `subject:identifier`, is the token.
    pub(super) fn coded(
        &self,
        asked: &Asked<'_>,
        code: &str,
        value: &str,
    ) -> Result<Condition, Fault> {
        let Some(token) = Token::read(value) else { return Err(asked.expected(FORMS)) };
        Ok(match token {
            Token::Code(text) => Condition::key_begins(code, &format!("{text}{}", key::SEPARATOR)),
            Token::Coding((system, text)) => {
                let mut any = vec![Condition::key(code, key::token(&system, &text))];
                if self.is_implied(asked, &system) {
                    any.push(Condition::key(code, key::token("", &text)));
                }
                Condition::any(any)
            }
            Token::System(system) => {
                let ends =
                    |system: &str| Condition::KeyEnds(code.to_owned(), key::of_system(system));
                let mut any = vec![ends(&system)];
                if self.is_implied(asked, &system) {
                    any.push(ends(""));
                }
                Condition::any(any)
            }
        })
    }

    /// That a key is one of the codes that are needed.
    pub(super) fn members(&self, asked: &Asked<'_>, need: Need) -> Result<Condition, Fault> {
        let code = asked.code();
        let mut keys = Vec::new();
        for (system, text) in self.codes(asked, need)? {
            keys.push(Condition::key(code, key::token(system, text)));
            if self.is_implied(asked, system) {
                keys.push(Condition::key(code, key::token("", text)));
            }
        }
        Ok(Condition::Any(keys))
    }

    /// Whether the parameter looks at an element of the type code, whose system is not written,
    /// and `system` is the one that its value set implies.
    fn is_implied(&self, asked: &Asked<'_>, system: &str) -> bool {
        !system.is_empty() && implies(self.definitions, asked.parameter, system)
    }
}

/// Whether one of the elements that an expression names by plain paths is a code from `system`.
fn implies(definitions: &Definitions, parameter: &SearchParameter, system: &str) -> bool {
    let Some(expression) = &parameter.expression else { return false };
    let branches = branches(expression.text()).unwrap_or_default();
    branches.iter().any(|(_, branch)| {
        let mut names = branch.trim_matches(['(', ')']).split('.');
        let mut of = names.next().and_then(|name| definitions.type_of(name));
        let mut element = None;
        for name in names {
            element = of.and_then(|of| definitions.element(of, name));
            let content = element.and_then(|element| element.types.first());
            of = content.and_then(|content| definitions.content(content));
        }
        element.filter(|element| element.types.iter().any(|of| of.code == "code")).is_some_and(
            |element| {
                element.binding.is_some_and(|binding| is_system_of(binding.value_set, system))
            },
        )
    })
}
