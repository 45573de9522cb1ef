//! The header `Prefer`: <https://hl7.org/fhir/R4/http.html#ops> and RFC 7240.

use axum::http::{HeaderMap, HeaderName};

use crate::facade::{Preferences, Return};

static PREFER: HeaderName = HeaderName::from_static("prefer");

/// What a client prefers. The first of several preferences of a name counts; those that nobody
/// knows are ignored. Preferences may be parted by semicolons, too, which much software does.
pub fn preferences(headers: &HeaderMap) -> Preferences {
    let mut preferences = Preferences::default();
    let mut handling = false;
    for header in headers.get_all(&PREFER).iter().filter_map(|value| value.to_str().ok()) {
        for (name, value) in split(header) {
            let returns = match (name.as_str(), value.as_str()) {
                ("return", "minimal") => Some(Return::Minimal),
                ("return", "representation") => Some(Return::Representation),
                ("return", "OperationOutcome") => Some(Return::OperationOutcome),
                ("handling", "strict" | "lenient") if !handling => {
                    handling = true;
                    preferences.strict = value == "strict";
                    None
                }
                ("respond-async", _) => {
                    preferences.asynchronous = true;
                    None
                }
                _ => None,
            };
            preferences.returns = preferences.returns.or(returns);
        }
    }
    preferences
}

/// Names in lower case, and values without their quotes.
fn split(header: &str) -> Vec<(String, String)> {
    let mut is_quoted = false;
    let parts = header.split(|c| {
        is_quoted ^= c == '"';
        matches!(c, ',' | ';') && !is_quoted
    });
    let pairs = parts.map(|part| part.split_once('=').unwrap_or((part, "")));
    let bare = |value: &str| value.trim().trim_matches('"').to_owned();
    pairs.map(|(name, value)| (bare(name).to_ascii_lowercase(), bare(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_read_and_others_ignored() {
        let cases: [(&[&str], Option<Return>, bool, bool); 12] = [
            (&[], None, false, false),
            (&["return=minimal"], Some(Return::Minimal), false, false),
            (&["Return = \"representation\""], Some(Return::Representation), false, false),
            (&["return=minimal, return=representation"], Some(Return::Minimal), false, false),
            (&["return=nothing, return=minimal"], Some(Return::Minimal), false, false),
            (&["respond-async, wait=10", "handling=strict"], None, true, true),
            (&["handling=lenient", "handling=strict"], None, false, false),
            (
                &["handling=strict; return=OperationOutcome"],
                Some(Return::OperationOutcome),
                true,
                false,
            ),
            (&["foo=\"a, return=minimal\"; handling=strict"], None, true, false),
            (&["foo; bar=\"x;handling=strict\", respond-async"], None, false, true),
            (&["\"return=minimal"], Some(Return::Minimal), false, false),
            (&[",;,=,"], None, false, false),
        ];
        for (values, returns, strict, asynchronous) in cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&PREFER, value.parse().unwrap());
            }
            let found = preferences(&headers);
            assert_eq!(
                (found.returns, found.strict, found.asynchronous),
                (returns, strict, asynchronous),
                "{values:?}"
            );
        }
    }
}
