//! Bindings: <https://hl7.org/fhir/R4/terminologies.html#strength>.
//!
//! A code that a binding requires and the set does not have is an error; one that it extends, a
//! warning; one that it prefers, information; one that it gives as an example, nothing. A set
//! beyond which codes may not go (`maxValueSet`) makes errors of them all. What cannot be decided
//! with the content that is here is left to [`Terms::unchecked`].

use super::coding::Terms;
use super::element::Member;
use super::nearest::nearest;
use super::{Place, Validator};
use crate::definitions::LANGUAGES;
use crate::terminology::{Find, Membership, form, split};
use crate::{Issue, IssueType, Json, Severity};

/// Most codes that an issue names.
const MAX_NAMED: usize = 12;
/// Most codes among which the nearest is looked for.
const MAX_COMPARED: usize = 5_000;

/// A binding of an element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound<'b> {
    /// Path of the element, for the sentence.
    pub path: &'b str,
    /// `required`, `extensible`, `preferred` or `example`.
    pub strength: &'b str,
    /// Canonical of the value set; empty if it is only described in words.
    pub value_set: &'b str,
    /// The value set beyond which codes may not go.
    pub max: Option<&'b str>,
}

/// The code of a value: its system, where the type has one, and the code.
type Code<'v> = (Option<&'v str>, &'v str);

impl<'a> Validator<'a> {
    /// A value against the binding that R4 itself has for its element.
    pub(super) fn coded(&mut self, member: Member<'a>, value: &'a Json, at: &Place) {
        let Some(binding) = member.element.binding else { return };
        let [common, all] = LANGUAGES;
        let bound = Bound {
            path: member.element.path,
            strength: binding.strength,
            value_set: binding.value_set,
            max: (binding.value_set == common).then_some(all),
        };
        // Of a choice the binding is about the coded types.
        if member.element.is_choice && matches!(member.content.name, "string" | "uri") {
            return;
        }
        if let Some(issue) = self.terms.binding(bound, member.content.name, value) {
            self.push(at, issue);
        }
    }
}

/// Whether values of a type can be bound.
fn is_bindable(of_type: &str) -> bool {
    matches!(of_type, "code" | "Coding" | "CodeableConcept" | "string" | "uri")
        || is_quantity(of_type)
}

/// Whether a type is Quantity or one of those that R4 derives from it.
pub(super) fn is_quantity(of_type: &str) -> bool {
    matches!(
        of_type,
        "Quantity" | "SimpleQuantity" | "MoneyQuantity" | "Age" | "Count" | "Distance" | "Duration"
    )
}

impl Terms<'_> {
    /// Whether a value has a code of a value set; `None` where that cannot be told.
    pub(crate) fn is_member(&self, set: &str, of_type: &str, value: &Json) -> Option<bool> {
        match (Codes { of_type, value }).membership(self, set) {
            Membership::Member => Some(true),
            Membership::NotMember => Some(false),
            Membership::Unknown => None,
        }
    }

    /// A value of one of the types that can be bound, against its binding.
    pub(crate) fn binding(&self, bound: Bound<'_>, of_type: &str, value: &Json) -> Option<Issue> {
        let is_left = !self.looks_at_all() && bound.strength != "required";
        if is_left || !is_bindable(of_type) {
            return None;
        }
        let codes = Codes { of_type, value };
        let severity = match bound.strength {
            "required" => Some(Severity::Error),
            "extensible" => Some(Severity::Warning),
            "preferred" => Some(Severity::Information),
            _ => None,
        };
        let severity = severity.filter(|_| !bound.value_set.is_empty());
        let mut set = bound.value_set;
        let mut found = match severity {
            Some(_) => codes.membership(self, set),
            None => Membership::Member,
        };
        let mut severity = severity.unwrap_or(Severity::Information);
        // Who prefers codes does not ask for one.
        if !codes.any() && severity == Severity::Information && bound.max.is_none() {
            return None;
        }
        if severity != Severity::Error
            && found != Membership::Member
            && let Some(max) = bound.max.filter(|_| self.looks_at_all())
            && codes.membership(self, max) == Membership::NotMember
        {
            (set, severity, found) = (max, Severity::Error, Membership::NotMember);
        }
        match found {
            Membership::Member => None,
            Membership::Unknown => {
                let (url, version) = split(set);
                if severity >= Severity::Warning
                    && !matches!(self.library.set(url, version), Find::Here(_))
                {
                    self.leave(set);
                }
                None
            }
            // That its system does not have a code was told already.
            Membership::NotMember if codes.is_told(self, severity) => None,
            Membership::NotMember => Some(self.outside(bound.path, set, severity, codes)),
        }
    }

    fn outside(&self, path: &str, set: &str, severity: Severity, codes: Codes<'_>) -> Issue {
        let (url, _) = split(set);
        let first = codes.first();
        let few = self.library.some_codes(set, MAX_NAMED).filter(|(_, is_whole)| *is_whole);
        let grammar = self.library.only_system(set).and_then(form);
        if few.is_none()
            && let Some(rule) = grammar.and_then(|form| form.check(first?.1))
        {
            let issue = Issue::error(IssueType::CodeInvalid, rule).severity(severity);
            return with_code(issue, first);
        }
        let mut text = match (severity, few) {
            (Severity::Error, Some((few, _))) => {
                format!("{path} needs one of the codes {}", few.join(", "))
            }
            (Severity::Error, None) => format!("{path} needs a code of the value set {url}"),
            (Severity::Warning, _) => format!(
                "{path} should have a code of the value set {url}, unless none of them fits"
            ),
            _ => format!("{path} has preferably a code of the value set {url}"),
        };
        // A code of another system is not a slip of the pen.
        let near = first.filter(|(system, _)| system.is_none_or(str::is_empty) && self.may_seek());
        let near = near.and_then(|(_, code)| {
            let (all, _) = self.library.some_codes(set, MAX_COMPARED)?;
            nearest(code, all.into_iter()).filter(|near| *near != code)
        });
        if let Some(near) = near {
            text.push_str("; the nearest is ");
            text.push_str(near);
        }
        text.push('.');
        with_code(Issue::error(IssueType::CodeInvalid, text).severity(severity), first)
    }
}

/// The issue with the code that it is about, which is not told unless asked for.
fn with_code(issue: Issue, code: Option<Code<'_>>) -> Issue {
    match code.filter(|(_, code)| code.len() <= 256) {
        Some((_, code)) => issue.value(code),
        None => issue,
    }
}

/// The codes of a value.
#[derive(Clone, Copy)]
struct Codes<'v> {
    of_type: &'v str,
    value: &'v Json,
}

impl<'v> Codes<'v> {
    /// The parts that have a system and a code: the codings of a CodeableConcept.
    fn parts(self) -> &'v [Json] {
        match (self.of_type, self.value) {
            ("CodeableConcept", concept) => concept.list("coding"),
            (_, coding @ Json::Object(_)) => std::slice::from_ref(coding),
            _ => &[],
        }
    }

    fn iter(self) -> impl Iterator<Item = Code<'v>> {
        let plain = self.value.as_str().map(|code| (None, code));
        let coded = self.parts().iter().filter_map(|part| {
            Some((Some(part.str_at(&["system"]).unwrap_or_default()), part.str_at(&["code"])?))
        });
        plain.into_iter().chain(coded)
    }

    fn first(self) -> Option<Code<'v>> {
        self.iter().next()
    }

    fn any(self) -> bool {
        self.first().is_some()
    }

    /// Whether one of the codes is in a set.
    fn membership(self, terms: &Terms<'_>, set: &str) -> Membership {
        let mut found = Membership::NotMember;
        for (system, code) in self.iter() {
            match terms.membership(set, system, code) {
                Membership::Member => return Membership::Member,
                Membership::Unknown => found = Membership::Unknown,
                Membership::NotMember => {}
            }
        }
        // Without a code there is nothing to look up; that one is missing does not need the set.
        found
    }

    /// Whether system or code of one of the codings is told to be as wrong by itself.
    fn is_told(self, terms: &Terms<'_>, severity: Severity) -> bool {
        self.parts().iter().filter_map(Json::as_object).any(|coding| {
            let found = terms.coding(coding, is_quantity(self.of_type));
            found.iter().any(|(at, issue)| {
                matches!(*at, "system" | "code")
                    && issue.severity >= severity.max(Severity::Warning)
                    && issue.code != IssueType::BusinessRule
            })
        })
    }
}

#[cfg(test)]
mod tests;
