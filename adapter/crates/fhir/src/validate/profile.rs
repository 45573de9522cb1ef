//! What profiles say of an instance: <https://hl7.org/fhir/R4/profiling.html>.
//!
//! The rules of a profile are a tree beside the resource; only elements that it speaks about are
//! visited, and nothing is built while all is well. A profile that is being applied to a value and
//! is met there again is taken to be kept.

use std::cmp::Ordering;
use std::ptr;

use super::binding::Bound;
use super::environment::Truth;
use super::item::{Item, Items};
use super::words::{listed, shown};
use super::{Need, Place, Scope, Validator, value};
use crate::definitions::{System, Type};
use crate::path::{PathError, Value};
use crate::profile::rules::{BindingRule, Constraint, Rules, Tree, TypeRule};
use crate::profile::{Profile, short};
use crate::{Issue, IssueType, Json, Severity};

/// A profile and its rules.
#[derive(Clone, Copy)]
pub(super) struct Applied<'a> {
    pub profile: &'a Profile,
    pub tree: &'a Tree,
}

impl<'a> Validator<'a> {
    /// The profiles that `meta.profile` names, and for the outermost resource those that were given.
    pub(super) fn profiles(
        &mut self,
        json: &'a Json,
        kind: &'a Type,
        place: &Place,
        scope: Scope<'a>,
    ) {
        let Some(world) = self.world else { return };
        let item = Item::complex(json, kind);
        let claimed = json.get("meta").map_or(&[][..], |meta| meta.list("profile"));
        for (index, canonical) in claimed.iter().enumerate() {
            let Some(canonical) = canonical.as_str() else { continue };
            match world.profiles.find(canonical) {
                Some(profile) => self.apply(profile, item, place, scope),
                // Every instance conforms to the definition of its type.
                None if short(canonical) == Some(kind.name) => {}
                None => {
                    self.miss(Need::Profile(canonical.to_owned()));
                    let meta = place.child("meta");
                    let at = meta.child("profile").item(index);
                    let text = format!(
                        "The profile {} is not known here, so it was not checked; load the \
                         package that defines it.",
                        shown(canonical)
                    );
                    self.push(&at, Issue::warning(IssueType::NotFound, text));
                }
            }
        }
        self.vital_sign(item, claimed, place, scope);
        if place.depth > 0 {
            return;
        }
        for canonical in self.given {
            let is_claimed = claimed.iter().any(|claimed| claimed.as_str() == Some(canonical));
            match world.profiles.find(canonical) {
                _ if is_claimed => {}
                Some(profile) => self.apply(profile, item, place, scope),
                None if short(canonical)
                    .is_some_and(|name| self.definitions.derives(kind, name)) => {}
                None => {
                    self.miss(Need::Profile((*canonical).to_owned()));
                    let text = format!(
                        "The profile {} is not known here; load the package that defines it.",
                        shown(canonical)
                    );
                    self.push(place, Issue::error(IssueType::NotFound, text));
                }
            }
        }
    }

    /// Whether a value conforms to a profile; `None` for a profile that is not known.
    pub(super) fn conforms(
        &mut self,
        canonical: &str,
        item: Item<'a>,
        place: &Place,
        scope: Scope<'a>,
    ) -> Option<Vec<Issue>> {
        let (profile, part) = self.profile_of(canonical)?;
        let mut found = self.tried(|this| this.apply_part(profile, part, item, place, scope));
        found.retain(Issue::is_error);
        Some(found)
    }

    /// The issues of a check that may fail; they are not told yet.
    pub(super) fn tried(&mut self, check: impl FnOnce(&mut Self)) -> Vec<Issue> {
        let outer = std::mem::take(&mut self.issues);
        let was_full = std::mem::replace(&mut self.is_full, false);
        check(self);
        self.is_full = was_full;
        std::mem::replace(&mut self.issues, outer)
    }

    /// A profile by its canonical, and the id of the element of it that is meant after `#`.
    fn profile_of<'c>(&self, canonical: &'c str) -> Option<(&'a Profile, Option<&'c str>)> {
        let profiles = self.world?.profiles;
        match canonical.split_once('#') {
            Some((url, part)) => Some((profiles.find(url)?, Some(part))),
            None => Some((profiles.find(canonical)?, None)),
        }
    }

    /// Holds a value against a profile.
    pub(super) fn apply(
        &mut self,
        profile: &'a Profile,
        item: Item<'a>,
        place: &Place,
        scope: Scope<'a>,
    ) {
        self.apply_part(profile, None, item, place, scope);
    }

    /// Holds a value against a profile or what it says of one of its elements.
    fn apply_part(
        &mut self,
        profile: &'a Profile,
        part: Option<&str>,
        item: Item<'a>,
        place: &Place,
        scope: Scope<'a>,
    ) {
        let (Some(world), Some(identity)) = (self.world, item.identity()) else { return };
        let is_same = |(other, json): &(&'a Profile, &'a Json)| {
            ptr::eq(*other, profile) && ptr::eq(*json, identity)
        };
        if self.applied.iter().any(is_same) || self.is_spent(place) {
            return;
        }
        if self.applied.len() >= self.limits.profiles {
            let text = format!(
                "More than {} profiles stand within each other here; the rest is not checked.",
                self.limits.profiles
            );
            return self.push(place, Issue::warning(IssueType::TooCostly, text));
        }
        let Some(tree) = &profile.compiled(world.profiles, world.definitions).tree else {
            if profile.is_too_large() {
                let text = format!(
                    "The profile {} is too large, so it was not checked; split it into smaller \
                     ones.",
                    profile.url
                );
                let issue = Issue::warning(IssueType::TooCostly, text).rule(&profile.url);
                return self.push(place, issue);
            }
            let text = format!(
                "The profile {} cannot be used, as it has no snapshot and none can be made of it.",
                profile.url
            );
            let issue = Issue::warning(IssueType::NotSupported, text).rule(&profile.url);
            return self.push(place, issue);
        };
        if part.is_none() && !self.definitions.derives(item.kind, &tree.of_type) {
            let text = format!(
                "The profile {} is for {}, and this is a {}.",
                profile.url, tree.of_type, item.kind.name
            );
            let issue = Issue::error(IssueType::Structure, text).rule(&profile.url);
            return self.push(place, issue);
        }
        self.spend(part.map_or(0, |_| tree.nodes.len() / 8));
        let root = match part {
            Some(part) => tree.nodes.iter().find(|rules| rules.id == part),
            None => tree.nodes.first(),
        };
        let Some(root) = root else { return };
        self.applied.push((profile, identity));
        self.node(Applied { profile, tree }, root, item, place, scope);
        self.applied.pop();
    }

    /// Holds one value against the rules on its element.
    pub(super) fn node(
        &mut self,
        on: Applied<'a>,
        rules: &'a Rules,
        item: Item<'a>,
        place: &Place,
        scope: Scope<'a>,
    ) {
        if self.is_spent(place) || self.is_too_deep(place) {
            return;
        }
        let scope = scope.of(item);
        if let Some(json) = item.value {
            self.value(on, rules, item.kind, json, place);
        }
        if let Some(binding) = &rules.binding {
            self.bound(on, rules, binding, item, place);
        }
        if !rules.types.is_empty() {
            self.typed(on, rules, item, place, scope);
        }
        for constraint in &rules.constraints {
            self.constraint(on, constraint, item, place, scope);
        }
        let Some(object) = item.object() else { return };
        let same = rules.same_as.and_then(|index| on.tree.nodes.get(index));
        let children = rules.children.iter().chain(same.iter().flat_map(|same| &same.children));
        for child in children {
            let Some(child) = on.tree.nodes.get(*child) else { continue };
            // The object is looked through for each of them.
            self.spend(object.len() / 4);
            if self.is_spent(place) {
                return;
            }
            match Items::of(self.definitions, child, object) {
                Some(items) => self.items(on, child, items, place, scope),
                None => {
                    self.minimum_of(on, child, 0, place);
                    self.no_slices(on, child, place);
                }
            }
        }
    }

    /// All values of an element.
    fn items(
        &mut self,
        on: Applied<'a>,
        rules: &'a Rules,
        items: Items<'a>,
        place: &Place,
        scope: Scope<'a>,
    ) {
        self.minimum_of(on, rules, items.len(), place);
        if let Some(max) = rules.max.filter(|max| items.len() > *max) {
            let at = place.child(&rules.name);
            let text = match max {
                0 => format!("{} is not allowed here; leave it out.", named(rules)),
                _ => format!(
                    "{} occurs {} times, and {max} at most are allowed.",
                    named(rules),
                    items.len()
                ),
            };
            self.broken(on, &rules.id, &at, Issue::error(IssueType::Structure, text));
        }
        if rules.slicing.is_some() || !rules.slices.is_empty() {
            return self.sliced(on, rules, items, place, scope);
        }
        for (index, item) in items.iter(self.definitions).enumerate() {
            let at = self.place_of(rules, items, index, item, place);
            self.node(on, rules, item, &at, scope);
        }
    }

    /// Where one value of an element stands.
    pub(super) fn place_of<'p>(
        &self,
        rules: &'p Rules,
        items: Items<'a>,
        index: usize,
        item: Item<'a>,
        place: &'p Place<'p>,
    ) -> Place<'p>
    where
        'a: 'p,
    {
        let mut at = place.child(&rules.name);
        if rules.is_choice {
            at = at.choice(item.kind.name);
        }
        if items.is_list { at.item(index) } else { at }
    }

    fn minimum_of(&mut self, on: Applied<'a>, rules: &'a Rules, count: usize, place: &Place) {
        let Some(min) = rules.min.filter(|min| count < *min) else { return };
        let text = match count {
            0 if min == 1 => format!("{} is required but missing.", named(rules)),
            _ => format!("{} is needed {min} times, and {count} are there.", named(rules)),
        };
        self.broken(on, &rules.id, place, Issue::error(IssueType::Required, text));
    }

    /// Fixed values, patterns, bounds and length.
    fn value(
        &mut self,
        on: Applied<'a>,
        rules: &'a Rules,
        kind: &'a Type,
        json: &'a Json,
        place: &Place,
    ) {
        for (wanted, is_fixed) in [(&rules.fixed, true), (&rules.pattern, false)] {
            let Some(wanted) = wanted else { continue };
            let is_right = match is_fixed {
                true => value::is_equal(json, wanted),
                false => value::has_pattern(json, wanted),
            };
            if is_right {
                continue;
            }
            let what = if is_fixed { "exactly" } else { "at least" };
            let whole = wanted.to_string();
            self.spend(whole.len() / 16);
            let wanted_text = shown(&whole);
            let text = match value::difference(json, wanted, is_fixed) {
                Some(member) => format!(
                    "{} must have {what} the value {wanted_text}; it differs in {member}.",
                    named(rules)
                ),
                None => format!("{} must have {what} the value {wanted_text}.", named(rules)),
            };
            self.broken(on, &rules.id, place, Issue::error(IssueType::Value, text));
        }
        for (bound, is_smallest) in [(&rules.bounds[0], true), (&rules.bounds[1], false)] {
            let Some(bound) = bound else { continue };
            // A duration stands for the time that lies it before or after now.
            let is_relative = matches!(kind.system, System::Date | System::DateTime)
                && bound.as_object().is_some();
            let now = self.world.and_then(|world| world.now);
            let moment = match (is_relative, now) {
                (true, Some(now)) => value::moment(now, bound, is_smallest),
                (true, None) => continue,
                (false, _) => None,
            };
            let bound = moment.as_ref().unwrap_or(bound);
            let (wrong, words) = match is_smallest {
                true => (Ordering::Less, "less than the smallest"),
                false => (Ordering::Greater, "more than the largest"),
            };
            if value::compare(kind, json, bound) == Some(wrong) {
                let text = format!("{} is {words} value allowed, {}.", named(rules), said(bound));
                self.broken(on, &rules.id, place, Issue::error(IssueType::Value, text));
            }
        }
        if let Some(max) = rules.max_length
            && let Some(text) = json.as_str().filter(|text| text.len() > max)
        {
            let length = text.chars().count();
            if length > max {
                let text = format!(
                    "{} has {length} characters, and {max} at most are allowed.",
                    named(rules)
                );
                self.broken(on, &rules.id, place, Issue::error(IssueType::TooLong, text));
            }
        }
    }

    /// The type of a value, and the profiles and targets that are stated for it.
    fn typed(
        &mut self,
        on: Applied<'a>,
        rules: &'a Rules,
        item: Item<'a>,
        place: &Place,
        scope: Scope<'a>,
    ) {
        let definitions = self.definitions;
        let fits = |rule: &&'a TypeRule| definitions.derives(item.kind, &rule.code);
        let mut fitting = rules.types.iter().filter(fits).peekable();
        if fitting.peek().is_none() {
            let codes = listed(rules.types.iter().map(|rule| rule.code.as_str()));
            let text =
                format!("{} has the type {}; allowed: {}.", named(rules), item.kind.name, codes);
            return self.broken(on, &rules.id, place, Issue::error(IssueType::Structure, text));
        }
        for rule in fitting {
            // An extension is held against its definition wherever it stands.
            if !rule.profiles.is_empty() && item.kind.name != "Extension" {
                self.profiled(on, rules, &rule.profiles, item, place, scope);
            }
            if !rule.targets.is_empty()
                || !rule.aggregation.is_empty()
                || rule.is_versioned.is_some()
            {
                self.pointing(on, rules, rule, item, place, scope);
            }
        }
    }

    /// A value that conforms to one of several profiles.
    fn profiled(
        &mut self,
        on: Applied<'a>,
        rules: &'a Rules,
        profiles: &'a [String],
        item: Item<'a>,
        place: &Place,
        scope: Scope<'a>,
    ) {
        if let [only] = profiles
            && let Some((profile, part)) = self.profile_of(only)
        {
            return self.apply_part(profile, part, item, place, scope);
        }
        let mut nearest: Option<Vec<Issue>> = None;
        for canonical in profiles {
            // The definition of a type is a profile that every value of it conforms to.
            let of_type = short(canonical).and_then(|name| {
                let kind = self.definitions.type_of(name)?;
                Some(self.definitions.derives(item.kind, kind.name))
            });
            match self.conforms(canonical, item, place, scope) {
                None if of_type == Some(true) => return,
                None if of_type == Some(false) => {}
                None => return self.unchecked(on, &rules.id, canonical, place),
                Some(found) if found.is_empty() => return,
                Some(found) => {
                    if nearest.as_ref().is_none_or(|other| found.len() < other.len()) {
                        nearest = Some(found);
                    }
                }
            }
        }
        let profiles = listed(profiles.iter().map(String::as_str));
        let text = match nearest.and_then(|issues| issues.into_iter().next()) {
            Some(why) => format!(
                "{} conforms to none of the profiles {profiles}; for the nearest: {}",
                named(rules),
                why.text
            ),
            None => {
                format!("{} is a {} and must conform to {profiles}.", named(rules), item.kind.name)
            }
        };
        self.broken(on, &rules.id, place, Issue::error(IssueType::Structure, text));
    }

    fn unchecked(&mut self, on: Applied<'a>, id: &str, canonical: &str, place: &Place) {
        self.miss(Need::Profile(canonical.to_owned()));
        let text = format!(
            "The profile {canonical} is not known here, so it was not checked; load the package \
             that defines it."
        );
        self.broken(on, id, place, Issue::warning(IssueType::NotFound, text));
    }

    /// The codes of a value against the value set that a profile names.
    fn bound(
        &mut self,
        on: Applied<'a>,
        rules: &'a Rules,
        binding: &'a BindingRule,
        item: Item<'a>,
        place: &Place,
    ) {
        let Some(value) = item.value else { return };
        if let Some(issue) = self.terms.binding(bound(rules, binding), item.kind.name, value) {
            self.broken(on, &rules.id, place, issue);
        }
    }

    fn constraint(
        &mut self,
        on: Applied<'a>,
        constraint: &'a Constraint,
        item: Item<'a>,
        place: &Place,
        scope: Scope<'a>,
    ) {
        let key = constraint.key.as_str();
        let Some(expression) = &constraint.expression else {
            let text = format!("Rule {key} is not checked, as its expression cannot be read.");
            let issue = Issue::warning(IssueType::NotSupported, text);
            return self.broken(on, key, place, issue);
        };
        let value = item.value.unwrap_or(&Json::Null);
        let focus =
            Value::typed(self.definitions, value, item.kind.name).with_sibling(item.sibling);
        let words = match constraint.human.trim() {
            "" => expression.text(),
            human => human,
        };
        let told = || format!("Rule {key} must hold: {}", shown(words));
        let truth = self.truth(expression, focus, scope, place.depth);
        if let Some(issue) = self.outcome(key, constraint.is_error, told, truth) {
            self.broken(on, key, place, issue);
        }
    }

    /// What is told of an invariant, in the words of `told` if it is broken; nothing if it holds.
    pub(super) fn outcome(
        &mut self,
        key: &str,
        is_error: bool,
        told: impl FnOnce() -> String,
        truth: Result<Truth, PathError>,
    ) -> Option<Issue> {
        match truth {
            Ok(Truth::Holds) => None,
            Ok(Truth::Fails) => {
                let severity = if is_error { Severity::Error } else { Severity::Warning };
                Some(Issue::error(IssueType::Invariant, told()).severity(severity))
            }
            Ok(Truth::Undecided(lacking)) => {
                let text = format!(
                    "Whether rule {key} holds could not be decided, as it rests on {lacking}, \
                     which is not known here."
                );
                Some(Issue::information(IssueType::Incomplete, text))
            }
            Err(_) if self.tally.steps() > self.limits.steps => {
                if std::mem::replace(&mut self.is_told, true) {
                    return None;
                }
                let text = format!(
                    "The rules take more than {} steps; the rest of them is not checked.",
                    self.limits.steps
                );
                Some(Issue::error(IssueType::TooCostly, text))
            }
            Err(error) => {
                let text = format!("Rule {key} could not be evaluated: {error}.");
                let code = error.limit.unwrap_or(IssueType::Invariant);
                Some(Issue::warning(code, text))
            }
        }
    }

    /// An issue with the rule that was broken: the profile and the id of an element, the name of a
    /// slice or the key of an invariant.
    pub(super) fn broken(&mut self, on: Applied<'a>, rule: &str, place: &Place, issue: Issue) {
        self.push(place, issue.rule(format!("{}#{rule}", on.profile.url)));
    }

    /// Counts work that is done at once.
    pub(super) fn spend(&self, work: usize) {
        self.work.set(self.work.get().saturating_add(work as u64));
    }

    /// Whether all work was done that may be done; then an issue says so, once.
    pub(super) fn is_spent(&mut self, place: &Place) -> bool {
        let work = self.work.get().saturating_add(1);
        self.work.set(work);
        let is_spent = work > self.limits.work;
        if is_spent && !self.is_told {
            self.is_told = true;
            let text = format!(
                "The profiles ask for more than {} checks; the rest is not checked.",
                self.limits.work
            );
            self.add(Issue::error(IssueType::TooCostly, text).at(place.to_string()));
        }
        is_spent
    }
}

/// A binding as the terminology takes it.
pub(super) fn bound<'r>(rules: &'r Rules, binding: &'r BindingRule) -> Bound<'r> {
    Bound {
        path: named(rules),
        strength: &binding.strength,
        value_set: &binding.value_set,
        max: binding.max_value_set.as_deref(),
    }
}

/// A value as a sentence has it: a quantity by its number and unit.
fn said(value: &Json) -> String {
    let unit = value.str_at(&["code"]).or_else(|| value.str_at(&["unit"]));
    match (value.at(&["value"]).and_then(Json::as_number), unit) {
        (Some(number), Some(unit)) => format!("{number} {unit}"),
        _ => shown(value.as_str().unwrap_or(&value.to_string())),
    }
}

/// An element as a sentence names it: its path.
pub(super) fn named(rules: &Rules) -> &str {
    if rules.id.is_empty() { &rules.name } else { &rules.id }
}
