//! Questionnaires and their responses: <https://hl7.org/fhir/R4/questionnaireresponse.html>.
//!
//! What is asked of them beyond their definitions is [`crate::questionnaire`]'s.

use super::{Place, Scope, Validator};
use crate::definitions::Type;
use crate::questionnaire::{self, Form};
use crate::{Issue, Json};

impl<'a> Validator<'a> {
    /// A Questionnaire by itself, or a response beside its Questionnaire.
    pub(super) fn questionnaire(
        &mut self,
        kind: &Type,
        json: &'a Json,
        place: &Place,
        scope: Scope<'a>,
    ) {
        let issues = match (kind.name, &self.world) {
            ("Questionnaire", _) => Form::read(self.definitions, json).1,
            ("QuestionnaireResponse", Some(world)) => {
                questionnaire::check(world, json, scope.bundle)
            }
            _ => return,
        };
        for issue in issues {
            let tail = issue.expression.as_deref().and_then(|at| at.strip_prefix(kind.name));
            let at = format!("{place}{}", tail.unwrap_or_default());
            self.add(Issue { expression: Some(at), ..issue });
        }
    }
}
