//! Questionnaires and their responses: <https://hl7.org/fhir/R4/questionnaireresponse.html>.
//!
//! What is asked of them beyond their definitions is [`crate::questionnaire`]'s.

use std::cell::Cell;

use super::{Limits, Place, Scope, Validator, World};
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
        if !matches!(kind.name, "Questionnaire" | "QuestionnaireResponse") {
            return;
        }
        // A Bundle may have many of them: they share the steps. That these ended is told at the end.
        let left = self.limits.steps.saturating_sub(self.tally.steps());
        if left == 0 {
            let _ = self.tally.count(1);
            return;
        }
        let used = Cell::new(0);
        let issues = match (kind.name, self.world) {
            ("Questionnaire", _) => Form::read_within(self.definitions, json, &used).1,
            (_, Some(world)) => {
                let limits = Limits { steps: left, ..world.limits };
                questionnaire::check_within(&World { limits, ..world }, json, scope.bundle, &used)
            }
            _ => return,
        };
        let _ = self.tally.count(used.get());
        for issue in issues {
            let tail = issue.expression.as_deref().and_then(|at| at.strip_prefix(kind.name));
            let at = format!("{place}{}", tail.unwrap_or_default());
            self.add(Issue { expression: Some(at), ..issue });
        }
    }
}
