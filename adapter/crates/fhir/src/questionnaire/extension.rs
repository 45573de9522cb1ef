//! The extensions that a Questionnaire is understood by:
//! <https://hl7.org/fhir/R4/questionnaire-profiles.html> and
//! <https://hl7.org/fhir/uv/sdc/STU3/artifacts.html>.

use crate::Json;

const CORE: &str = "http://hl7.org/fhir/StructureDefinition/";
const SDC: &str = "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-";
/// The national extension of Finland, which R4 forms use and SDC's `enableWhenExpression` follows.
const KANTA: &str = "http://phr.kanta.fi/StructureDefinition/fiphr-ext-questionnaire-enablewhen";

/// What an extension is called, without what its url has in common with others: some moved from
/// SDC to the core between releases.
pub(super) fn term(extension: &Json) -> Option<&str> {
    let url = extension.str_at(&["url"])?;
    if let Some(name) = url.strip_prefix(SDC) {
        return Some(name);
    }
    match url.strip_prefix(CORE) {
        Some(name) => Some(name.strip_prefix("questionnaire-").unwrap_or(name)),
        None => (url == KANTA).then_some("enableWhenExpression"),
    }
}

/// The value of an extension: the member whose name begins with `value`.
pub(super) fn value(extension: &Json) -> Option<&Json> {
    let mut members = extension.as_object()?.iter();
    members.find(|(name, _)| name.starts_with("value")).map(|(_, value)| value)
}

/// The value of the part `name` of an extension that has parts.
pub(super) fn part<'a>(extension: &'a Json, name: &str) -> Option<&'a Json> {
    let mut parts = extension.list("extension").iter();
    value(parts.find(|part| part.str_at(&["url"]) == Some(name))?)
}

/// The values of the extension `name` of an element.
pub(super) fn values<'a>(element: &'a Json, name: &str) -> impl Iterator<Item = &'a Json> {
    let named = element.list("extension").iter().filter(move |other| term(other) == Some(name));
    named.filter_map(value)
}
