//! Answers and units from value sets:
//! <https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.answerValueSet>.

use super::scope::{Check, Frame};
use super::value::{cut, unit};
use crate::terminology::{Coding, Membership, Purpose, ValidateCode, ValueSet, in_value_set};
use crate::validate::Need;
use crate::{IssueType, Json, Severity};

impl<'a> Check<'a> {
    /// Whether the code of an answer is in the value set of its question.
    pub(super) fn in_answer_value_set(
        &mut self,
        frame: &Frame<'_, 'a>,
        index: u32,
        set: &str,
        value: &Json,
    ) {
        let (system, code) = (value.str_at(&["system"]), value.str_at(&["code"]));
        let Some(code) = code else {
            let text = "An answer from a value set has a code and its system.".to_owned();
            let (severity, code) = (Severity::Error, IssueType::CodeInvalid);
            let tail = ".value.ofType(Coding)";
            return self.tell(severity, code, frame, tail, index, "answerValueSet", text);
        };
        self.in_value_set(
            frame,
            ".value.ofType(Coding)",
            index,
            set,
            "answerValueSet",
            (system, code),
        );
    }

    /// Whether the unit of a quantity is in the value set of its question.
    pub(super) fn in_unit_value_set(
        &mut self,
        frame: &Frame<'_, 'a>,
        index: u32,
        set: &str,
        quantity: &Json,
    ) {
        let code = (quantity.str_at(&["system"]), unit(quantity));
        self.in_value_set(frame, ".value.ofType(Quantity)", index, set, "unitValueSet", code);
    }

    fn in_value_set(
        &mut self,
        frame: &Frame<'_, 'a>,
        tail: &str,
        index: u32,
        name: &str,
        rule: &'static str,
        (system, code): (Option<&str>, &str),
    ) {
        let own = self.form.value_sets.iter().find(|(id, _)| id.as_ref() == name);
        let found = match own {
            Some((_, set)) => self.membership(set, system, code),
            None => {
                let note = |need| self.world.missing.note(Need::Terminology(need));
                match self.world.terminology.is_member(name, system, code, &note) {
                    Membership::Member => Some(true),
                    Membership::NotMember => Some(false),
                    Membership::Unknown => None,
                }
            }
        };
        let link_id = self.form.item(index).map(|item| cut(&item.link_id)).unwrap_or_default();
        let (severity, code, text) = match found {
            Some(true) => return,
            Some(false) => (
                Severity::Error,
                IssueType::CodeInvalid,
                format!(
                    "An answer to \"{link_id}\" is a code of the value set {}{}.",
                    cut(name),
                    self.some_codes(name)
                ),
            ),
            None => (
                Severity::Information,
                IssueType::NotSupported,
                format!(
                    "An answer to \"{link_id}\" was not held against the value set {}: what it is \
                     made of is not known here.",
                    cut(name)
                ),
            ),
        };
        self.tell(severity, code, frame, tail, index, rule, text);
    }

    /// Codes of a value set, for a sentence, where these are few.
    fn some_codes(&self, name: &str) -> String {
        const MAX_CODES: usize = 8;
        match self.world.terminology.some_codes(name, MAX_CODES) {
            Some((codes, true)) => format!(": {}", cut(&codes.join(", "))),
            _ => String::new(),
        }
    }

    /// Whether a code is in a contained value set; `None` when it cannot be told. A wrong display
    /// is no reason to refuse a code.
    fn membership(&self, set: &ValueSet, system: Option<&str>, code: &str) -> Option<bool> {
        let library = self.world.terminology;
        let purpose = Purpose::Membership { system: system.unwrap_or_default(), code };
        for need in library.needs(set, purpose).ok()? {
            self.world.missing.note(Need::Terminology(need));
        }
        let (system, code) = (system.map(str::to_owned), code.to_owned());
        let mut asked = ValidateCode::default();
        asked.codings.push(Coding { system, code, ..Coding::default() });
        let outcome = in_value_set(library, set, &asked).ok()?;
        outcome.list("parameter").iter().find_map(|parameter| {
            let is_result = parameter.str_at(&["name"]) == Some("result");
            parameter.get("valueBoolean").filter(|_| is_result).and_then(Json::as_bool)
        })
    }
}
