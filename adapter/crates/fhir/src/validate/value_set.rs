//! What R4 says in words of ValueSet and CodeSystem:
//! <https://hl7.org/fhir/R4/valueset.html#compositions> and <https://hl7.org/fhir/R4/codesystem.html>.

use super::reference::has_scheme;
use super::{Place, Validator};
use crate::terminology::Find;
use crate::{Issue, IssueType, Json, Object, Severity};

impl Validator<'_> {
    /// What a value set includes or excludes: the system is absolute and has the codes.
    pub(super) fn include(&mut self, include: &Object, place: &Place) {
        let text = |name: &str| include.get(name).and_then(Json::as_str);
        let Some(system) = text("system") else { return };
        let at = place.child("system");
        if !has_scheme(system) {
            let text = "The system of a value set is an absolute URI; name a contained code system \
                        by its url.";
            return self.report(&at, IssueType::Value, text);
        }
        if !self.terms.looks_at_all() {
            return;
        }
        let Find::Here(known) = self.terms.library.system(system, text("version")) else {
            if let Some(issue) = self.terms.no_system(system) {
                self.push(&at, issue.severity(Severity::Warning));
            }
            return;
        };
        if !known.is_complete {
            return;
        }
        let concepts = include.get("concept").and_then(Json::as_array).unwrap_or_default();
        for (index, concept) in concepts.iter().enumerate() {
            if let Some(code) = concept.str_at(&["code"])
                && known.get(code).is_none()
            {
                let issue = self.terms.unknown_code(known, code).severity(Severity::Warning);
                self.push(&place.child("concept").item(index).child("code"), issue);
            }
        }
    }

    /// What a code system says of its own content.
    pub(super) fn code_system(&mut self, system: &Object, place: &Place) {
        let concepts = system.get("concept").and_then(Json::as_array).unwrap_or_default();
        let content = system.get("content").and_then(Json::as_str).unwrap_or_default();
        if content == "not-present" && !concepts.is_empty() {
            let text = "The content is not-present, and there are concepts; say what content it is, \
                        as in complete or fragment.";
            self.report(&place.child("content"), IssueType::BusinessRule, text);
        }
        if system.get("supplements").is_some() && content != "supplement" {
            let text = "A code system that supplements another one has the content supplement.";
            self.report(&place.child("content"), IssueType::BusinessRule, text);
        }
        let count = system.get("count").and_then(Json::as_i64);
        if content == "complete"
            && let Some(count) = count.and_then(|count| usize::try_from(count).ok())
            && count != number_of(concepts)
        {
            let text = format!(
                "The count is {count}, and the code system has {} concepts; correct the count, or \
                 the content if concepts are left out.",
                number_of(concepts)
            );
            self.push(&place.child("count"), Issue::warning(IssueType::BusinessRule, text));
        }
    }
}

/// How many concepts there are, nested ones among them.
fn number_of(concepts: &[Json]) -> usize {
    let mut open: Vec<&Json> = concepts.iter().collect();
    let mut number = 0;
    while let Some(concept) = open.pop() {
        number += 1;
        open.extend(concept.list("concept"));
    }
    number
}
