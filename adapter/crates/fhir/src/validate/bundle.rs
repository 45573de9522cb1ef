//! Bundles: <https://hl7.org/fhir/R4/bundle.html#bundle-unique>.

use std::collections::HashSet;

use super::invariant::broken;
use super::target::MAX_URL;
use super::{Place, Validator, reference};
use crate::{Issue, IssueType, Json};

impl<'a> Validator<'a> {
    /// Each `fullUrl` is absolute, its own but for versions (bdl-7), and agrees with the id.
    pub(super) fn bundle(&mut self, bundle: &'a Json, place: &Place) {
        self.linked(bundle, place);
        let is_history = bundle.str_at(&["type"]) == Some("history");
        let mut known = HashSet::new();
        for (index, entry) in bundle.list("entry").iter().enumerate() {
            let Some(url) = entry.str_at(&["fullUrl"]) else { continue };
            let entry_place = place.child("entry").item(index);
            let at = entry_place.child("fullUrl");
            if !reference::has_scheme(url) {
                let text = "A fullUrl is absolute: a url, urn:uuid: or urn:oid:.";
                self.report(&at, IssueType::Value, text);
            }
            if url.len() > MAX_URL {
                let text = format!(
                    "A fullUrl has {MAX_URL} bytes at most; relative references of this entry \
                     were not followed."
                );
                self.report(&at, IssueType::TooLong, text);
            }
            let version = entry.str_at(&["resource", "meta", "versionId"]);
            if !known.insert((url, version)) && !is_history {
                self.push(&at, broken("bdl-7"));
            }
            let id = entry.str_at(&["resource", "id"]);
            let name = entry.str_at(&["resource", "resourceType"]);
            if let (Some(id), Some(name)) = (id, name)
                && url.starts_with("http")
                && reference::instance(url).is_some_and(|(of, _)| self.definitions.is_resource(of))
                && !url
                    .strip_suffix(id)
                    .is_some_and(|url| url.strip_suffix('/').is_some_and(|url| url.ends_with(name)))
            {
                // Only a warning: three of the standard's own examples break the rule.
                let text = format!(
                    "The fullUrl of this resource ends in {name}/ and its id; correct one of the two."
                );
                self.push(&at, Issue::warning(IssueType::Value, text));
            }
        }
    }
}
