//! Narratives: <https://hl7.org/fhir/R4/narrative.html>.

use std::sync::LazyLock;

use super::{Place, Validator};
use crate::path::{Context, Expression, Value, truth};
use crate::{IssueType, Json, Object};

/// The rules of invariants txt-1 and txt-2, which FHIRPath has as a function.
static RULES: LazyLock<Option<Expression>> =
    LazyLock::new(|| Expression::parse("htmlChecks()").ok());

impl<'a> Validator<'a> {
    pub(super) fn narrative(&mut self, object: &'a Object, place: &Place) {
        let (Some(rules), Some(div @ Json::String(_))) = (RULES.as_ref(), object.get("div")) else {
            return;
        };
        let context = Context::new(self.definitions);
        let kept = rules.evaluate(&context, &[Value::typed(self.definitions, div, "xhtml")]);
        if !kept.and_then(|items| truth(&items)).unwrap_or(false) {
            let text = "The narrative must be one XHTML div with its namespace and some text, made \
                        of formatting, links and images only.";
            self.report(&place.child("div"), IssueType::Invariant, text);
        }
    }
}
