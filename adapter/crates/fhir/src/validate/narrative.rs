//! Narratives: <https://hl7.org/fhir/R4/narrative.html>.

use std::sync::LazyLock;

use super::{Place, Validator};
use crate::path::{Context, Expression, Value, truth};
use crate::{Issue, IssueType, Json, Object};

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
            let text = "A narrative is one XHTML div with its namespace and some text, made of \
                        formatting, links and images only (txt-1, txt-2).";
            self.push(&place.child("div"), Issue::error(IssueType::Invariant, text).rule("txt-1"));
        }
    }
}
