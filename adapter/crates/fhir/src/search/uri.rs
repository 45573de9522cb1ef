//! Uri parameters: <https://hl7.org/fhir/R4/search.html#uri>.
//!
//! Uris are compared as they are written. `:above` and `:below` go by the segments of a URL's
//! path; urns have none, so they are refused there.

use crate::path::Value;

use super::condition::Condition;
use super::escape::unescape;
use super::fault::Fault;
use super::query::{Asked, Reader};

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
                let any = above(url).flat_map(|url| [url.to_owned(), format!("{url}/")]);
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
pub(super) fn above(url: &str) -> impl Iterator<Item = &str> {
    let host = url.find("://").map_or(0, |at| at + 3);
    let ends = url.match_indices('/').map(|(at, _)| at).filter(move |at| *at >= host);
    ends.chain([url.len()]).filter_map(|end| url.get(..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_goes_up_by_segments() {
        let urls: Vec<&str> = above("http://acme.org/fhir/ValueSet/1").collect();
        assert_eq!(
            urls,
            [
                "http://acme.org",
                "http://acme.org/fhir",
                "http://acme.org/fhir/ValueSet",
                "http://acme.org/fhir/ValueSet/1"
            ]
        );
    }
}
