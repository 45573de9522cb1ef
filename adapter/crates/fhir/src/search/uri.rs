//! Uri parameters: <https://hl7.org/fhir/R4/search.html#uri>.
//!
//! Uris are compared as they are written. `:above` and `:below` go by the segments of a URL's
//! path; urns have none, so they are refused there.

use crate::path::Value;

use super::condition::Condition;
use super::escape::unescape;
use super::fault::Fault;
use super::query::{Asked, Reader};

/// Most parts of what one may ask to find what stands above it.
const MAX_PARTS: usize = 100;

/// Keys of a value: its text, and that of a canonical without its version.
pub(super) fn keys(value: &Value<'_>) -> Vec<String> {
    let Some(text) = value.as_str() else { return Vec::new() };
    let mut keys = vec![text.to_string()];
    if value.type_name() == "canonical"
        && let Some((url, _)) = text.split_once('|')
    {
        keys.push(url.to_owned());
    }
    keys
}

impl Reader<'_> {
    pub(super) fn uri(&self, asked: &Asked<'_>, value: &str) -> Result<Condition, Fault> {
        let code = asked.code();
        let value = unescape(value);
        if value.trim().is_empty() {
            return Err(asked.expected("a URL such as http://example.org/fhir/ValueSet/x"));
        }
        match asked.modifier {
            None => Ok(Condition::key(code, value)),
            Some("below") => {
                let url = url(asked, &value)?;
                Ok(Condition::any(vec![
                    Condition::key(code, url.to_owned()),
                    Condition::key_begins(code, &format!("{url}/")),
                ]))
            }
            Some("above") => {
                let url = url(asked, &value)?;
                let any = above(asked, url)?
                    .into_iter()
                    .flat_map(|url| [url.to_owned(), format!("{url}/")]);
                Ok(Condition::Any(any.map(|url| Condition::key(code, url)).collect()))
            }
            Some(_) => Err(asked.unknown_modifier("above, below and missing")),
        }
    }
}

/// A URL without a slash at its end.
pub(super) fn url<'v>(asked: &Asked<'_>, value: &'v str) -> Result<&'v str, Fault> {
    match value.contains("://") {
        true => Ok(value.trim_end_matches('/')),
        false => Err(asked.expected(
            "a URL such as http://example.org/fhir/ValueSet/x, because only URLs stand above and below each other",
        )),
    }
}

/// The URL and those above it, up to its host.
pub(super) fn above<'v>(asked: &Asked<'_>, url: &'v str) -> Result<Vec<&'v str>, Fault> {
    let host = url.find("://").map_or(0, |at| at + 3);
    prefixes(asked, url, '/', host)
}

/// The text and what it begins with up to each `separator` behind `start`.
pub(super) fn prefixes<'v>(
    asked: &Asked<'_>,
    text: &'v str,
    separator: char,
    start: usize,
) -> Result<Vec<&'v str>, Fault> {
    let ends = text.match_indices(separator).map(|(at, _)| at).filter(move |at| *at >= start);
    let prefixes: Vec<&str> =
        ends.chain([text.len()]).filter_map(|end| text.get(..end)).take(MAX_PARTS + 1).collect();
    if prefixes.len() > MAX_PARTS {
        return Err(Fault::too_costly(format!(
            "The value of the search parameter {} has more than {MAX_PARTS} parts with {separator} between them; ask for what stands above a shorter one.",
            asked.name
        )));
    }
    Ok(prefixes)
}
