//! Names and texts of others as a sentence has them, for
//! <https://hl7.org/fhir/R4/operationoutcome-definitions.html#OperationOutcome.issue.diagnostics>:
//! they may be long, and what is told is not.

/// Names of a profile as a sentence has them: the first of them.
pub(super) fn listed<'n>(mut names: impl Iterator<Item = &'n str>) -> String {
    const MAX: usize = 20;
    let mut listed = names.by_ref().take(MAX).map(shown).collect::<Vec<_>>().join(", ");
    let more = names.count();
    if more > 0 {
        listed.push_str(&format!(" and {more} others"));
    }
    listed
}

/// Cuts the text of an issue that nobody would read to its end.
pub(super) fn cut(text: &mut String) {
    const MAX: usize = 4_000;
    if text.len() > MAX {
        text.truncate(text.floor_char_boundary(MAX));
        text.push('…');
    }
}

/// Text of a profile, cut so that an issue stays short.
pub(super) fn shown(text: &str) -> String {
    const MAX: usize = 300;
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
