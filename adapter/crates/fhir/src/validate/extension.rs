//! Extensions: <https://hl7.org/fhir/R4/extensibility.html>.
//!
//! What an extension's own definition says about it is not checked.

use super::{Place, Validator};
use crate::{IssueType, Object};

impl Validator<'_> {
    /// A value or extensions, not both (ext-1); an absolute url unless it stands in an extension.
    pub(super) fn extension(&mut self, object: &Object, place: &Place) {
        let has_extensions = object.get("extension").is_some();
        let has_value = object
            .iter()
            .any(|(name, _)| name.strip_prefix('_').unwrap_or(name).starts_with("value"));
        if has_extensions == has_value {
            let text = match has_value {
                true => "An extension has a value or extensions, not both.",
                false => "An extension needs a value or extensions.",
            };
            self.report(place, IssueType::Invariant, text);
        }
        let is_nested = matches!(place.parent_name(), Some("extension" | "modifierExtension"));
        let url = object.get("url").and_then(crate::Json::as_str).unwrap_or_default();
        if !is_nested && !url.is_empty() && !url.contains(':') {
            let text = "The url of an extension is absolute unless it is within an extension.";
            self.report(&place.child("url"), IssueType::Value, text);
        }
    }
}
