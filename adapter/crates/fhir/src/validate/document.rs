//! The links within documents and messages: <https://hl7.org/fhir/R4/documents.html#bundle>,
//! <https://hl7.org/fhir/R4/messaging.html#bundle>.
//!
//! What a Composition or the focus of a MessageHeader points to is among the entries, and every
//! entry belongs to what is told. Links of narratives are not followed.

use std::collections::HashMap;

use super::{Place, Validator, reference, target};
use crate::format::json::MAX_DEPTH;
use crate::{Issue, IssueType, Json};

/// The elements of a Composition that point to what is in the document.
const OF_COMPOSITION: [&str; 4] = ["subject", "encounter", "author", "custodian"];
/// Those of a section.
const OF_SECTION: [&str; 3] = ["author", "focus", "entry"];

/// A `fullUrl`, and the version where one is meant.
type Named<'a> = (&'a str, Option<&'a str>);

/// The entries of a Bundle.
struct Entries<'a> {
    entries: &'a [Json],
    /// The group that a name means.
    by_name: HashMap<Named<'a>, usize>,
    /// The entries of each group: those with one `fullUrl`, or with one `fullUrl` and version.
    groups: Vec<Vec<usize>>,
}

impl<'a> Entries<'a> {
    fn read(bundle: &'a Json) -> Entries<'a> {
        let entries = bundle.list("entry");
        let mut found = Entries { entries, by_name: HashMap::new(), groups: Vec::new() };
        for (index, entry) in entries.iter().enumerate() {
            let Some(url) = entry.str_at(&["fullUrl"]) else { continue };
            let version = entry.str_at(&["resource", "meta", "versionId"]);
            for name in [Some((url, None)), version.map(|version| (url, Some(version)))] {
                let Some(name) = name else { continue };
                let new = found.groups.len();
                let group = *found.by_name.entry(name).or_insert(new);
                if group == new {
                    found.groups.push(Vec::new());
                }
                if let Some(group) = found.groups.get_mut(group) {
                    group.push(index);
                }
            }
        }
        found
    }

    /// The group of entries that a reference within an entry means.
    fn find(&self, text: &str, from: usize) -> Option<usize> {
        let text = text.split('#').next().unwrap_or(text);
        let (plain, version) = match text.split_once("/_history/") {
            Some((plain, version)) => (plain, Some(version)),
            None => (text, None),
        };
        if reference::has_scheme(plain) {
            return self.by_name.get(&(plain, version)).copied();
        }
        let entry = self.entries.get(from)?;
        let base = target::base_of(entry.str_at(&["fullUrl"])?, entry.get("resource")?);
        let whole = base.map(|base| format!("{base}{plain}"));
        // That a `fullUrl` is relative itself is told there.
        self.by_name.get(&(whole.as_deref().unwrap_or(plain), version)).copied()
    }
}

impl<'a> Validator<'a> {
    /// The links from the first entry, and whether all entries hang together.
    pub(super) fn linked(&mut self, bundle: &'a Json, place: &Place) {
        let is_document = match bundle.str_at(&["type"]) {
            Some("document") => true,
            Some("message") => false,
            _ => return,
        };
        let entries = Entries::read(bundle);
        let first = entries.entries.first().and_then(|entry| entry.get("resource"));
        let list = place.child("entry");
        let entry = list.item(0);
        let at = entry.child("resource");
        match first.and_then(|first| Some((first, first.str_at(&["resourceType"])?))) {
            Some((first, "Composition")) if is_document => {
                for name in OF_COMPOSITION {
                    self.point(&entries, first, name, &at);
                }
                for (name, inner) in [("attester", "party"), ("event", "detail")] {
                    for (index, part) in first.list(name).iter().enumerate() {
                        let list = at.child(name);
                        self.point(&entries, part, inner, &list.item(index));
                    }
                }
                self.sections(&entries, first, &at);
            }
            Some((first, "MessageHeader")) if !is_document => {
                self.point(&entries, first, "focus", &at);
            }
            _ => return,
        }
        self.reach_all(&entries, is_document, place);
    }

    fn sections(&mut self, entries: &Entries<'a>, holder: &'a Json, place: &Place) {
        if place.depth > self.limits.depth {
            return;
        }
        for (index, section) in holder.list("section").iter().enumerate() {
            let list = place.child("section");
            let at = list.item(index);
            for name in OF_SECTION {
                self.point(entries, section, name, &at);
            }
            self.sections(entries, section, &at);
        }
    }

    /// One element of the first entry that points to others.
    fn point(&mut self, entries: &Entries<'a>, holder: &'a Json, name: &str, place: &Place) {
        let is_list = holder.get(name).is_some_and(|json| json.as_array().is_some());
        for (index, item) in holder.list(name).iter().enumerate() {
            let Some(text) = item.str_at(&["reference"]).filter(|text| !text.starts_with('#'))
            else {
                continue;
            };
            let group = entries.find(text, 0).and_then(|group| entries.groups.get(group));
            let text = match group.map_or(0, Vec::len) {
                1 => continue,
                0 => {
                    "The target is not among the entries of the Bundle; put it in, with a fullUrl \
                      that this reference matches."
                }
                _ => {
                    "Several entries of the Bundle are the target; name the version that is meant."
                }
            };
            let at = place.child(name);
            let at = if is_list { at.item(index) } else { at };
            self.report(&at, IssueType::NotFound, text);
        }
    }

    /// Whether each entry refers to one that is reached from the first, or is referred to by one.
    fn reach_all(&mut self, entries: &Entries<'a>, is_document: bool, place: &Place) {
        let count = entries.entries.len();
        // The groups of each entry: those to which it refers and those of which it is one. A group
        // stands between, as many entries may refer to many of the same name.
        let mut around: Vec<Vec<usize>> = vec![Vec::new(); count];
        let mut members: Vec<Vec<usize>> = entries.groups.clone();
        for (group, entries) in entries.groups.iter().enumerate() {
            for index in entries {
                around.get_mut(*index).into_iter().for_each(|around| around.push(group));
            }
        }
        for (from, entry) in entries.entries.iter().enumerate() {
            let mut texts = Vec::new();
            references(entry, 0, &mut texts);
            for group in texts.iter().filter_map(|text| entries.find(text, from)) {
                around.get_mut(from).into_iter().for_each(|around| around.push(group));
                members.get_mut(group).into_iter().for_each(|members| members.push(from));
            }
        }
        let mut is_reached = vec![false; count];
        let mut open = vec![0];
        while let Some(index) = open.pop() {
            if let Some(place @ false) = is_reached.get_mut(index) {
                *place = true;
                for group in around.get(index).into_iter().flatten() {
                    // What was taken is not gone through again.
                    open.extend(members.get_mut(*group).map(std::mem::take).unwrap_or_default());
                }
            }
        }
        let what = if is_document { "Composition" } else { "MessageHeader" };
        for index in is_reached.iter().enumerate().filter(|(_, is)| !**is).map(|(at, _)| at) {
            let list = place.child("entry");
            let text = format!(
                "Nothing in the {what} leads to this entry, and no reference leads from here to \
                 the {what}; add a reference or remove the entry."
            );
            self.push(&list.item(index), Issue::warning(IssueType::BusinessRule, text));
        }
    }
}

/// The texts of all references below.
fn references<'a>(json: &'a Json, depth: usize, found: &mut Vec<&'a str>) {
    if depth > 2 * MAX_DEPTH {
        return;
    }
    match json {
        Json::Array(items) => items.iter().for_each(|item| references(item, depth + 1, found)),
        Json::Object(object) => {
            for (name, value) in object.iter() {
                match value {
                    Json::String(text) if name == "reference" && !text.starts_with('#') => {
                        found.push(text);
                    }
                    _ => references(value, depth + 1, found),
                }
            }
        }
        _ => {}
    }
}
