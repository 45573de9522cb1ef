//! Reference parameters: <https://hl7.org/fhir/R4/search.html#reference>.
//!
//! A reference to a version is found with and without it. `:above` and `:below` go by the segments
//! of a canonical's path, or by the parts of its version when one is given (`url|1.2` is above
//! `url|1.2.3`); hierarchies of resources (`Location.partOf`) are not followed.

use std::borrow::Cow;

use crate::path::Value;

use super::condition::Condition;
use super::escape::unescape;
use super::fault::Fault;
use super::key;
use super::query::{Asked, Reader};
use super::uri;

/// What a value is found by.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) references: Vec<String>,
    /// For the modifier `:identifier`.
    pub(super) identifiers: Vec<String>,
}

pub(super) fn keys(base: &str, value: &Value<'_>) -> Keys {
    let mut keys = Keys::default();
    match value.type_name() {
        "Reference" => {
            let Some(json) = value.json() else { return keys };
            if let Some(text) = json.str_at(&["reference"]) {
                keys.references.extend(reference_key(base, text));
                keys.references.extend(versioned(base, text));
            }
            if let Some(identifier) = json.get("identifier")
                && let Some(text) = identifier.str_at(&["value"])
            {
                let system = identifier.str_at(&["system"]).unwrap_or_default();
                keys.identifiers.push(key::token(system, text));
            }
        }
        "canonical" => {
            let Some(text) = value.as_str() else { return keys };
            let text = text.split('#').next().unwrap_or_default();
            let (url, version) = text.split_once('|').unwrap_or((text, ""));
            keys.references.push(key::canonical(url, version));
            // A resource of ours may be called by its own address.
            keys.references.extend(reference_key(base, url).filter(is_relative));
        }
        // A few parameters name whole resources (Bundle.message) or plain urls.
        _ => {
            if let Some(json) = value.json()
                && let (Some(of), Some(id)) = (json.str_at(&["resourceType"]), json.str_at(&["id"]))
            {
                keys.references.push(format!("{of}/{id}"));
            } else if let Some(text) = value.as_str() {
                keys.references.push(key::canonical(&text, ""));
                keys.references.extend(reference_key(base, &text).filter(is_relative));
            }
        }
    }
    keys
}

/// A reference as it is written.
pub(super) fn text<'v>(value: &Value<'v>) -> Option<Cow<'v, str>> {
    match value.type_name() {
        "Reference" => value.json()?.str_at(&["reference"]).map(Cow::Borrowed),
        _ => value.as_str(),
    }
}

/// Whether a key is `Type/id`.
#[expect(clippy::ptr_arg, reason = "it filters an Option<String>")]
fn is_relative(key: &String) -> bool {
    !key.contains(':')
}

/// Key of a reference's text, its version left out: `Type/id` when it is ours, the text itself
/// when it is elsewhere, `None` for a contained resource, whose key its place tells.
pub fn reference_key(base: &str, text: &str) -> Option<String> {
    if text.starts_with('#') || text.is_empty() {
        return None;
    }
    let relative = relative(base, text);
    let mut parts = relative.split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(of), Some(id), None | Some("_history"), _)
            if of.starts_with(|c: char| c.is_ascii_uppercase()) && !id.is_empty() =>
        {
            Some(format!("{of}/{id}"))
        }
        _ => Some(match text.split_once("/_history/") {
            Some((resource, _)) => resource.to_owned(),
            None => text.to_owned(),
        }),
    }
}

/// Key of a reference to a version.
fn versioned(base: &str, text: &str) -> Option<String> {
    let relative = relative(base, text);
    relative.contains("/_history/").then(|| relative.to_owned())
}

fn relative<'t>(base: &str, text: &'t str) -> &'t str {
    text.strip_prefix(base).and_then(|rest| rest.strip_prefix('/')).unwrap_or(text)
}

/// A key that is looked for: the whole of it, or how it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) text: String,
    pub(super) whole: bool,
}

impl Part {
    pub(super) fn whole(text: String) -> Part {
        Part { text, whole: true }
    }

    pub(super) fn begin(text: String) -> Part {
        Part { text, whole: false }
    }

    /// That a key of `code` is it.
    pub(super) fn condition(self, code: &str) -> Condition {
        match self.whole {
            true => Condition::key(code, self.text),
            false => Condition::key_begins(code, &self.text),
        }
    }
}

const FORMS: &str = "23, Patient/23, a URL such as http://example.org/fhir/Patient/23, or a canonical such as http://example.org/fhir/Questionnaire/x|1.0";

impl Reader<'_> {
    pub(super) fn reference(&self, asked: &Asked<'_>, value: &str) -> Result<Condition, Fault> {
        let code = asked.code();
        let targets = &asked.parameter.target;
        let keys = match asked.modifier {
            None => self.references(asked, targets, value)?,
            Some("identifier") => {
                return self.coded(asked, &format!("{code}:identifier"), value);
            }
            Some("above") => above(asked, &unescape(value))?,
            Some("below") => below(asked, &unescape(value))?,
            Some(of) if self.definitions.is_resource(of) => {
                let keys = self.references(asked, &[of.to_owned()], value)?;
                let (start, within) = (format!("{of}/"), format!("/{of}/"));
                let is_of = |part: &Part| {
                    part.text.starts_with(&start)
                        || part.text.contains(&within)
                        || part.text.starts_with("urn:")
                };
                keys.into_iter().filter(is_of).collect()
            }
            Some(_) => {
                return Err(asked.unknown_modifier(
                    "a resource type (subject:Patient=23), identifier, above, below and missing",
                ));
            }
        };
        Ok(Condition::any(keys.into_iter().map(|part| part.condition(code)).collect()))
    }

    /// The keys of what a reference in a search may mean.
    pub(super) fn references(
        &self,
        asked: &Asked<'_>,
        targets: &[String],
        value: &str,
    ) -> Result<Vec<Part>, Fault> {
        let value = unescape(value);
        if value.trim().is_empty() {
            return Err(asked.expected(FORMS));
        }
        if !value.contains(['/', ':']) {
            let id = |of: &str| Part::whole(format!("{of}/{value}"));
            return Ok(match targets {
                [] => self.definitions.resource_types().map(id).collect(),
                targets => targets.iter().map(|of| id(of)).collect(),
            });
        }
        if let Some(version) = versioned(self.base, &value) {
            return Ok(vec![Part::whole(version)]);
        }
        let (url, version) = match value.split_once('|') {
            Some((url, version)) => (url, Some(version)),
            None => (value.as_str(), None),
        };
        let own = reference_key(self.base, url).unwrap_or_default();
        let is_ours = own
            .split_once('/')
            .is_some_and(|(of, id)| self.definitions.is_resource(of) && !id.is_empty());
        if !url.contains(':') {
            // A relative reference is no canonical.
            return match is_ours && version.is_none() {
                true => Ok(vec![Part::whole(own)]),
                false => Err(asked.expected(FORMS)),
            };
        }
        let url = url.split('#').next().unwrap_or_default();
        let canonical = match version {
            Some(version) => Part::whole(key::canonical(url, version)),
            None => Part::begin(key::canonical(url, "")),
        };
        Ok(match version {
            Some(_) => vec![canonical],
            None => vec![Part::whole(own), canonical],
        })
    }
}

fn above(asked: &Asked<'_>, value: &str) -> Result<Vec<Part>, Fault> {
    let (url, version) = canonical(asked, value)?;
    Ok(match version {
        Some(version) => {
            let versions = uri::prefixes(asked, version, '.', 0)?.into_iter();
            versions.map(|version| Part::whole(key::canonical(url, version))).collect()
        }
        None => {
            let urls = uri::above(asked, url)?.into_iter();
            urls.map(|url| Part::begin(key::canonical(url, ""))).collect()
        }
    })
}

fn below(asked: &Asked<'_>, value: &str) -> Result<Vec<Part>, Fault> {
    let (url, version) = canonical(asked, value)?;
    Ok(match version {
        Some(version) => vec![
            Part::whole(key::canonical(url, version)),
            Part::begin(key::canonical(url, &format!("{version}."))),
        ],
        None => vec![Part::begin(key::canonical(url, "")), Part::begin(format!("{url}/"))],
    })
}

fn canonical<'v>(asked: &Asked<'_>, value: &'v str) -> Result<(&'v str, Option<&'v str>), Fault> {
    if !value.contains("://") {
        return Err(asked.unsupported(
            "above and below are offered for canonicals, as in http://example.org/fhir/Questionnaire/x|1.0; hierarchies of resources are not followed",
        ));
    }
    let (url, version) = match value.split_once('|') {
        Some((url, version)) => (url, Some(version)),
        None => (value, None),
    };
    Ok((uri::url(asked, url)?, version))
}
