//! Filters of a value set: <https://hl7.org/fhir/R4/valueset-filter-operator.html>.

use std::collections::HashSet;

use compact_str::CompactString;
use regex::{Regex, RegexBuilder};

use super::value_set::Filter;
use super::{CodeSystem, Refusal, shown};
use crate::{Issue, IssueType};

/// Longest regular expression.
const MAX_REGEX: usize = 1000;
/// Memory that a compiled regular expression may take, in bytes.
const MAX_REGEX_BYTES: usize = 64 * 1024;
/// Work that a regular expression is for each concept, where other filters are 1.
const REGEX_WORK: usize = 10;

/// A filter made ready for one code system.
pub(super) struct Test<'f> {
    property: &'f str,
    kind: Kind,
}

enum Kind {
    /// Whether the concept is among these.
    Among(HashSet<u32>, bool),
    /// Whether one of the property's values is among these.
    Values(HashSet<CompactString>, bool),
    Matches(Regex),
    Exists(bool),
}

impl<'f> Test<'f> {
    /// How much work a filter is for each concept.
    pub(super) fn work(filter: &Filter) -> usize {
        if filter.op == "regex" { REGEX_WORK } else { 1 }
    }

    /// Makes a filter ready.
    ///
    /// # Errors
    /// The system has no such property or code, or the operator or value is not understood.
    pub(super) fn new(system: &CodeSystem, filter: &'f Filter) -> Result<Test<'f>, Refusal> {
        let property = filter.property.as_str();
        let refuse = |code: IssueType, text: String| {
            let issue = Issue::error(code, text).at("ValueSet.compose.include.filter");
            Refusal::Unprocessable(issue)
        };
        let known = matches!(
            property,
            "concept" | "code" | "display" | "definition" | "parent" | "child" | "inactive"
        ) || matches!(property, "notSelectable" | "abstract" | "status" | "deprecated");
        if !known && !system.has_property(property) {
            return Err(refuse(
                IssueType::NotSupported,
                format!(
                    "The code system {} has no property \"{}\" to filter by.",
                    shown(&system.url),
                    shown(property)
                ),
            ));
        }
        let place = || {
            system.find(&filter.value).ok_or_else(|| {
                let text = format!(
                    "The filter's code \"{}\" is not in {}.",
                    shown(&filter.value),
                    shown(&system.url)
                );
                refuse(IssueType::CodeInvalid, text)
            })
        };
        let family = |upwards: bool, own: bool| -> Result<HashSet<u32>, Refusal> {
            let root = place()?;
            let mut found = system.closure(root, upwards);
            found.remove(&root);
            if own {
                found.insert(root);
            }
            Ok(found)
        };
        let listed = || filter.value.split(',').map(|value| system.key(value.trim())).collect();
        let kind = match filter.op.as_str() {
            "=" => Kind::Values(HashSet::from([system.key(&filter.value)]), true),
            "is-a" => Kind::Among(family(false, true)?, true),
            "descendent-of" => Kind::Among(family(false, false)?, true),
            "is-not-a" => Kind::Among(family(false, true)?, false),
            "generalizes" => Kind::Among(family(true, true)?, true),
            "in" => Kind::Values(listed(), true),
            "not-in" => Kind::Values(listed(), false),
            "exists" => match filter.value.as_str() {
                "true" => Kind::Exists(true),
                "false" => Kind::Exists(false),
                _ => {
                    let text = "The filter operator exists takes the value true or false.";
                    return Err(refuse(IssueType::Value, text.to_owned()));
                }
            },
            "regex" => {
                Kind::Matches(regex(&filter.value).map_err(|text| refuse(IssueType::Value, text))?)
            }
            other => {
                return Err(refuse(
                    IssueType::NotSupported,
                    format!(
                        "\"{}\" is not a filter operator; known are =, is-a, descendent-of, is-not-a, regex, in, not-in, generalizes and exists.",
                        shown(other)
                    ),
                ));
            }
        };
        Ok(Test { property, kind })
    }

    /// Whether the concept at `place` passes.
    pub(super) fn accepts(&self, system: &CodeSystem, place: u32) -> bool {
        let values = || system.values(place, self.property);
        match &self.kind {
            Kind::Among(places, wanted) => places.contains(&place) == *wanted,
            Kind::Values(wanted, within) => {
                values().iter().any(|value| wanted.contains(&system.key(value))) == *within
            }
            Kind::Matches(regex) => values().iter().any(|value| regex.is_match(value)),
            Kind::Exists(wanted) => values().is_empty() != *wanted,
        }
    }
}

/// The expression must match the whole value.
fn regex(text: &str) -> Result<Regex, String> {
    if text.len() > MAX_REGEX {
        return Err(format!("The filter's regex is longer than {MAX_REGEX} characters."));
    }
    RegexBuilder::new(&format!("^(?:{text})$"))
        .size_limit(MAX_REGEX_BYTES)
        .build()
        .map_err(|_| "The filter's regex cannot be read; write it as in [A-Z]+.*.".to_owned())
}
