//! Identifiers: <https://hl7.org/fhir/R4/datatypes.html#Identifier>.

use super::{Place, Validator, reference};
use crate::{Issue, IssueType, Json, Object, terminology};

impl Validator<'_> {
    /// The value of the system `urn:ietf:rfc:3986` is a full URI; only a warning, because an example
    /// of the standard has a bare OID. Numbers of the NHS have a form.
    pub(super) fn identifier(&mut self, object: &Object, place: &Place) {
        let text = |name: &str| object.get(name).and_then(Json::as_str);
        if text("system") == Some("urn:ietf:rfc:3986")
            && text("value").is_some_and(|value| !reference::has_scheme(value))
        {
            let text = "With the system urn:ietf:rfc:3986 the value is a full URI, for example \
                        urn:oid: and an OID.";
            self.push(&place.child("value"), Issue::warning(IssueType::Value, text));
        }
        let form = text("system")
            .zip(text("value"))
            .and_then(|(system, value)| terminology::identifier(system, value));
        if let Some((is_error, rule)) = form {
            let issue = match is_error {
                true => Issue::error(IssueType::Value, rule),
                false => Issue::warning(IssueType::Value, rule),
            };
            self.push(&place.child("value"), issue);
        }
    }
}
