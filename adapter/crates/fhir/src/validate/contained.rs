//! Contained resources: <https://hl7.org/fhir/R4/references.html#contained>.

use std::collections::HashSet;

use super::invariant::broken;
use super::{Place, Scope, Validator};
use crate::{IssueType, Json};

impl<'a> Validator<'a> {
    /// The rules dom-2 to dom-5, and ids that are there and differ.
    pub(super) fn contained(&mut self, resource: &'a Json, place: &Place, scope: Scope<'a>) {
        let contained = resource.list("contained");
        if scope.is_contained {
            if !contained.is_empty() {
                self.push(place, broken("dom-2"));
            }
            let has = |name| resource.at(&["meta", name]).is_some();
            if has("versionId") || has("lastUpdated") {
                self.push(place, broken("dom-4"));
            }
            if has("security") {
                self.push(place, broken("dom-5"));
            }
            return;
        }
        if contained.is_empty() {
            return;
        }
        let mut mentioned = HashSet::new();
        mentions(resource, 0, &mut mentioned);
        let mut ids = HashSet::new();
        for (index, item) in contained.iter().enumerate() {
            let at = place.child("contained").item(index);
            let Some(id) = item.str_at(&["id"]) else {
                let text = "A contained resource needs an id that its container refers to.";
                self.report(&at, IssueType::Required, text);
                continue;
            };
            if !ids.insert(id) {
                let text = "Another contained resource has the same id; give each its own.";
                self.report(&at, IssueType::Duplicate, text);
            }
            let mut own = HashSet::new();
            mentions(item, 0, &mut own);
            if !mentioned.contains(id) && !own.contains("") {
                self.push(&at, broken("dom-3"));
            }
        }
    }
}

/// The texts that begin with `#`, without it, wherever they stand: references and canonicals.
fn mentions<'a>(json: &'a Json, depth: usize, found: &mut HashSet<&'a str>) {
    if depth > 2 * crate::format::json::MAX_DEPTH {
        return;
    }
    match json {
        Json::String(text) => {
            found.extend(text.strip_prefix('#'));
        }
        Json::Array(items) => items.iter().for_each(|item| mentions(item, depth + 1, found)),
        Json::Object(object) => {
            object.iter().for_each(|(_, value)| mentions(value, depth + 1, found));
        }
        _ => {}
    }
}
