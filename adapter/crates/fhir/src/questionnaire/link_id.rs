//! linkIds: <https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.linkId>.

use std::collections::HashMap;

/// The place of each linkId's item in the order of the Questionnaire.
pub(super) type LinkIds = HashMap<Box<str>, u32>;

/// Longest linkId that is repeated.
const MAX_LENGTH: usize = 64;

/// A linkId as a sentence shows it. One from a response that no form has may hold anything, so
/// only what looks like an identifier is repeated.
pub(super) fn shown(link_id: &str) -> &str {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    match link_id.len() <= MAX_LENGTH && link_id.chars().all(is_plain) {
        true => link_id,
        false => "(not shown)",
    }
}
