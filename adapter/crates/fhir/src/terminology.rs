//! Terminology: <https://hl7.org/fhir/R4/terminology-service.html>.
//!
//! The operations as functions over content that was fetched before: [`Library::needs`] says what
//! is missing, the caller puts it in, and then everything is a look-up. What is not in a library
//! is not known; post-coordinated codes, `context` and dates are not looked at.

mod code_system;
mod concept_map;
mod expand;
mod external;
mod filter;
mod input;
mod library;
mod lookup;
mod membership;
pub mod r4;
mod translate;
mod ucum;
mod validate_code;
mod value_set;

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

pub use code_system::{CodeSystem, Concept};
pub use concept_map::ConceptMap;
pub use expand::{Expand, Member, expand, members};
pub(crate) use external::{form, identifier, mistaken};
pub use input::Input;
pub(crate) use library::Find;
pub use library::{Library, Need, Purpose};
pub use lookup::{lookup, subsumes};
pub use membership::Membership;
pub(crate) use membership::split;
pub use translate::{Translate, other_maps, translate, unknown_map};
pub use validate_code::{ValidateCode, in_code_system, in_value_set};
pub use value_set::ValueSet;

use crate::{Issue, IssueType, Json, Object};

/// Most concepts of a code system that is used here.
pub const MAX_CONCEPTS: usize = 500_000;
/// Most codes that one expansion looks at on its way.
const MAX_WORK: usize = 2_000_000;
/// Longest chain of value sets that import each other.
const MAX_IMPORTS: usize = 16;

/// A url and, where one is stated, a business version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Canonical {
    /// The url, without a version.
    pub url: String,
    /// The version after `|`.
    pub version: Option<String>,
}

impl Canonical {
    /// Reads `url` or `url|version`: <https://hl7.org/fhir/R4/references.html#canonical>.
    pub fn parse(text: &str) -> Canonical {
        match text.split_once('|') {
            Some((url, version)) => Canonical::new(url, Some(version)),
            None => Canonical::new(text, None),
        }
    }

    /// From its parts; an empty version is none.
    pub fn new(url: &str, version: Option<&str>) -> Canonical {
        let version = version.filter(|version| !version.is_empty()).map(str::to_owned);
        Canonical { url: url.to_owned(), version }
    }
}

impl fmt::Display for Canonical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}|{version}", self.url),
            None => f.write_str(&self.url),
        }
    }
}

/// A code of a system, as a request names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of Coding")]
pub struct Coding {
    pub system: Option<String>,
    pub version: Option<String>,
    pub code: String,
    pub display: Option<String>,
}

impl Coding {
    /// A `Coding`; `None` without a code.
    pub fn read(coding: &Json) -> Option<Coding> {
        let text = |name: &str| coding.str_at(&[name]).map(str::to_owned);
        Some(Coding {
            system: text("system"),
            version: text("version"),
            code: text("code")?,
            display: text("display"),
        })
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// The request cannot be understood.
    Malformed(Issue),
    /// What it asks about is not known.
    Unknown(Issue),
    /// Understood, and the content does not allow an answer.
    Unprocessable(Issue),
}

impl Refusal {
    /// What to tell.
    pub fn issue(&self) -> &Issue {
        match self {
            Refusal::Malformed(issue) | Refusal::Unknown(issue) | Refusal::Unprocessable(issue) => {
                issue
            }
        }
    }

    fn unprocessable(code: IssueType, text: impl Into<String>) -> Refusal {
        Refusal::Unprocessable(Issue::error(code, text))
    }
}

/// Orders business versions as <https://semver.org> does: numbers between points as numbers, a
/// version before its release (`1.0.0-ballot`) before it. Others are ordered in the same way.
pub fn compare_versions(one: &str, two: &str) -> Ordering {
    type Parts<'v> = Vec<(bool, u64, &'v str)>;
    fn parts(text: &str) -> Parts<'_> {
        let part = |text| u64::from_str(text).map_or((true, 0, text), |number| (false, number, ""));
        text.split(['.', '-']).map(part).collect()
    }
    fn halves(version: &str) -> (Parts<'_>, Option<Parts<'_>>) {
        match version.split_once('-') {
            Some((release, before)) => (parts(release), Some(parts(before))),
            None => (parts(version), None),
        }
    }
    let ((release, before), (other, other_before)) = (halves(one), halves(two));
    let by_before = match (before, other_before) {
        (Some(one), Some(two)) => one.cmp(&two),
        (one, two) => one.is_none().cmp(&two.is_none()),
    };
    release.cmp(&other).then(by_before).then_with(|| one.cmp(two))
}

/// Text from outside, cut so that an answer stays short.
fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Whether a language tag is `wanted` or a kind of it: `en-GB` is a kind of `en`.
fn speaks(language: &str, wanted: &str) -> bool {
    let (language, wanted) = (language.to_ascii_lowercase(), wanted.to_ascii_lowercase());
    language.strip_prefix(wanted.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('-'))
}

/// A parameter of an answer.
fn parameter(name: &str, value_name: &str, value: impl Into<Json>) -> Json {
    let mut parameter = Object::new();
    parameter.set("name", name);
    parameter.set(value_name, value);
    Json::Object(parameter)
}

/// A Parameters resource.
fn parameters(list: Vec<Json>) -> Json {
    crate::json!({"resourceType": "Parameters", "parameter": (list)})
}
