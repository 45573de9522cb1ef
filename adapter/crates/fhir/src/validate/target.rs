//! What references point to: <https://hl7.org/fhir/R4/references.html>.
//!
//! Contained resources, entries of the same Bundle and what was handed in. Of a target that is not
//! at hand nothing is claimed but the type that the reference itself names.

use super::item::Item;
use super::profile::{Applied, named};
use super::words::listed;
use super::{Need, Place, Scope, Validator, reference};
use crate::profile::rules::{Aggregation, Rules, Target, TypeRule};
use crate::{Issue, IssueType, Json};

/// Longest `fullUrl` that relative references continue, in bytes.
pub(super) const MAX_URL: usize = 2_048;

/// The target of a reference.
#[derive(Clone, Copy)]
pub(super) struct Pointed<'a> {
    pub json: &'a Json,
    pub scope: Scope<'a>,
    pub place: Aggregation,
}

impl<'a> Validator<'a> {
    /// The resource that a reference means, if it is at hand.
    pub(super) fn resolve(&self, text: &'a str, scope: Scope<'a>) -> Option<Pointed<'a>> {
        if let Some(id) = text.strip_prefix('#') {
            let container = scope.container;
            let json = match id {
                "" => container,
                _ => {
                    let contained = container.list("contained");
                    let steps = contained.len() as u64 / 16;
                    self.work.set(self.work.get().saturating_add(steps));
                    contained.iter().find(|json| json.str_at(&["id"]) == Some(id))?
                }
            };
            let scope = Scope { resource: json, is_contained: !id.is_empty(), ..scope };
            return Some(Pointed { json, scope, place: Aggregation::Contained });
        }
        if let Some((json, full_url)) = self.entry(text, scope) {
            let scope = Scope {
                container: json,
                resource: json,
                is_contained: false,
                bundle: scope.bundle,
                full_url: Some(full_url),
            };
            return Some(Pointed { json, scope, place: Aggregation::Bundled });
        }
        let json = self.world?.resources.find(text)??;
        let scope = Scope::outermost(json);
        Some(Pointed { json, scope, place: Aggregation::Referenced })
    }

    /// The entry of the nearest Bundle that a reference means, and its `fullUrl`:
    /// <https://hl7.org/fhir/R4/bundle.html#references>.
    pub(super) fn entry(&self, text: &str, scope: Scope<'a>) -> Option<(&'a Json, &'a str)> {
        if self.entries.is_empty() {
            return None;
        }
        let text = text.split('#').next().unwrap_or(text);
        let (plain, version) = match text.split_once("/_history/") {
            Some((plain, version)) => (plain, Some(version)),
            None => (text, None),
        };
        let found = match reference::has_scheme(plain) {
            true => self.entries.get_key_value(plain),
            // A relative reference continues the `fullUrl` of the entry in which it stands.
            false => {
                let base = base_of(scope.full_url?, scope.container);
                let whole = base.map(|base| format!("{base}{plain}"));
                // That a `fullUrl` is relative itself is told there.
                self.entries.get_key_value(whole.as_deref().unwrap_or(plain))
            }
        };
        let (full_url, json) = found?;
        let is_version = |version: &str| json.str_at(&["meta", "versionId"]) == Some(version);
        version.is_none_or(is_version).then_some((*json, *full_url))
    }

    /// The type of a target that is not at hand, as the reference names it.
    pub(super) fn type_named(&self, text: &'a str, item: Item<'a>) -> Option<&'a str> {
        let in_text = reference::instance(text).map(|(name, _)| name);
        let name = item.text("type").or(in_text)?;
        self.definitions.is_resource(name).then_some(name)
    }

    /// Notes what would have been needed.
    pub(super) fn miss(&self, need: Need) {
        if let Some(world) = self.world {
            world.missing.note(need);
        }
    }

    /// What a profile says about where a reference points to.
    pub(super) fn pointing(
        &mut self,
        on: Applied<'a>,
        rules: &'a Rules,
        rule: &'a TypeRule,
        item: Item<'a>,
        place: &Place,
        scope: Scope<'a>,
    ) {
        let is_reference = item.kind.name == "Reference";
        let text = match is_reference {
            true => item.text("reference"),
            false => item.value.and_then(Json::as_str),
        };
        if let (Some(text), Some(is_versioned)) = (text, rule.is_versioned)
            && (text.contains("/_history/") || (!is_reference && text.contains('|')))
                != is_versioned
        {
            let words = if is_versioned { "must name a version" } else { "names no version" };
            let text = format!("{} {words}.", named(rules));
            self.broken(on, &rules.id, place, Issue::error(IssueType::Value, text));
        }
        if !is_reference {
            return;
        }
        let found = text.and_then(|text| self.resolve(text, scope));
        if text.is_some() && !rule.aggregation.is_empty() {
            let mode = found.map_or(Aggregation::Referenced, |found| found.place);
            if !rule.aggregation.contains(&mode) {
                let modes: Vec<&str> = rule.aggregation.iter().map(|mode| word(*mode)).collect();
                let text = format!(
                    "The target of {} is {}; it must be {}.",
                    named(rules),
                    word(mode),
                    modes.join(" or ")
                );
                self.broken(on, &rules.id, place, Issue::error(IssueType::Structure, text));
            }
        }
        if !rule.targets.is_empty() {
            self.target_is_right(on, rules, rule, (item, text, found), place);
        }
    }

    fn target_is_right(
        &mut self,
        on: Applied<'a>,
        rules: &'a Rules,
        rule: &'a TypeRule,
        (item, text, found): (Item<'a>, Option<&'a str>, Option<Pointed<'a>>),
        place: &Place,
    ) {
        let Some(world) = self.world else { return };
        let definitions = self.definitions;
        let name = match found {
            Some(found) => found.json.str_at(&["resourceType"]),
            None => self.type_named(text.unwrap_or_default(), item),
        };
        let Some(name) = name else { return };
        let mut profiles: Vec<&'a str> = Vec::new();
        for target in &rule.targets {
            match target {
                Target::Type(of) if definitions.is_a(name, of) => return,
                Target::Type(_) => {}
                Target::Profile(url) => match world.profiles.find(url) {
                    Some(profile)
                        if profile.of_type().is_some_and(|of| definitions.is_a(name, of)) =>
                    {
                        profiles.push(url);
                    }
                    Some(_) => {}
                    // What is not known cannot rule anything out.
                    None => return,
                },
            }
        }
        if profiles.is_empty() {
            let text = format!(
                "{} points to a {name}; allowed: {}.",
                named(rules),
                targets(&rule.targets)
            );
            return self.broken(on, &rules.id, place, Issue::error(IssueType::Value, text));
        }
        let Some(found) = found else {
            if let Some(text) = text {
                self.miss(Need::Resource(text.to_owned()));
            }
            return;
        };
        let Some(kind) = definitions.type_of(name) else { return };
        let at = place.child("resolve()");
        let mut nearest: Option<Vec<Issue>> = None;
        for url in &profiles {
            let conforms = self.conforms(url, Item::complex(found.json, kind), &at, found.scope);
            match conforms {
                Some(issues) if !issues.is_empty() => {
                    if nearest.as_ref().is_none_or(|other| issues.len() < other.len()) {
                        nearest = Some(issues);
                    }
                }
                _ => return,
            }
        }
        let why = nearest.and_then(|issues| issues.into_iter().next());
        let text = format!(
            "The target of {} does not conform to {}: {}",
            named(rules),
            listed(profiles.iter().copied()),
            why.map_or_else(String::new, |issue| issue.text)
        );
        self.broken(on, &rules.id, place, Issue::error(IssueType::Structure, text));
    }
}

/// The part of a `fullUrl` before the type and id, if it ends with those of its resource; none of
/// one that is longer than [`MAX_URL`], as each relative reference would copy it.
pub(super) fn base_of<'u>(full_url: &'u str, resource: &Json) -> Option<&'u str> {
    if full_url.len() > MAX_URL {
        return None;
    }
    let is_http = full_url.starts_with("http://") || full_url.starts_with("https://");
    let before = full_url.strip_suffix(resource.str_at(&["id"])?)?.strip_suffix('/')?;
    let base = before.strip_suffix(resource.str_at(&["resourceType"])?)?;
    (is_http && base.ends_with('/')).then_some(base)
}

fn word(mode: Aggregation) -> &'static str {
    match mode {
        Aggregation::Contained => "contained",
        Aggregation::Referenced => "outside of the resource and its Bundle",
        Aggregation::Bundled => "in the same Bundle",
    }
}

fn targets(targets: &[Target]) -> String {
    listed(targets.iter().map(|target| match target {
        Target::Type(name) => name.as_str(),
        Target::Profile(url) => url.as_str(),
    }))
}
