//! Slices: <https://hl7.org/fhir/R4/profiling.html#slicing>.
//!
//! Each value belongs to the first slice whose discriminators all match. Where a discriminator
//! cannot be decided, because the target of a reference is not at hand or the profile does not say
//! what tells the slice, that is told, and nothing is claimed about the value.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::item::{Item, Items};
use super::profile::{Applied, named};
use super::words::listed;
use super::{Need, Place, Scope, Validator, value};
use crate::profile::rules::{Matcher, Rules, Slice, SlicingRules, Step, Test};
use crate::{Issue, IssueType, Json};

/// The slice of each value, by its position among the slices.
type Belongs = SmallVec<[Option<usize>; 16]>;

impl<'a> Validator<'a> {
    /// All values of an element that has slices.
    pub(super) fn sliced(
        &mut self,
        on: Applied<'a>,
        rules: &'a Rules,
        items: Items<'a>,
        place: &Place,
        scope: Scope<'a>,
    ) {
        self.divide(on, rules, None, items, place, scope);
    }

    /// An element that is not there has no values of its slices.
    pub(super) fn no_slices(&mut self, on: Applied<'a>, rules: &'a Rules, place: &Place) {
        self.spend(rules.slices.len() / 4);
        // That the element is missing says enough.
        if rules.min.is_some() {
            return;
        }
        for slice in &rules.slices {
            if let Some(own) = on.tree.nodes.get(slice.node) {
                self.counted(on, rules, slice, own, 0, 0, place);
            }
        }
    }

    /// Divides all values of an element, or those of one of its slices, among slices.
    fn divide(
        &mut self,
        on: Applied<'a>,
        rules: &'a Rules,
        which: Option<&[usize]>,
        items: Items<'a>,
        place: &Place,
        scope: Scope<'a>,
    ) {
        self.spend(which.map_or(items.len(), <[usize]>::len) + rules.slices.len() / 16);
        let index_of = |number: usize| match which {
            Some(which) => which.get(number).copied().unwrap_or_default(),
            None => number,
        };
        let mut belongs = Belongs::new();
        let mut doubts = 0;
        let (mut last, mut is_beyond) = (0, false);
        for number in 0..which.map_or(items.len(), <[usize]>::len) {
            let index = index_of(number);
            let item = items.get(self.definitions, index);
            let at = self.place_of(rules, items, index, item, place);
            if self.is_spent(&at) {
                return;
            }
            if which.is_none() {
                self.node(on, rules, item, &at, scope);
            }
            let (found, is_doubtful) = self.slice_of(rules, item, &at, scope);
            let rule = rules.slicing.as_ref().map(|slicing| slicing.rules);
            belongs.push(found.map(|(position, _)| position));
            let Some((position, slice)) = found else {
                if is_doubtful {
                    doubts += 1;
                    let text = format!(
                        "Whether this is one of the slices {} could not be decided, as it rests \
                         on {}, which is not known here; so it was not checked against them.",
                        names(rules),
                        rests_on(rules)
                    );
                    let issue = Issue::information(IssueType::Informational, text);
                    self.broken(on, &rules.id, &at, issue);
                } else if rule == Some(SlicingRules::Closed) {
                    let text = match rules.slices.is_empty() {
                        true => format!("{} allows no such value.", named(rules)),
                        false => format!(
                            "{} must be one of the slices {}; others are not allowed.",
                            named(rules),
                            names(rules)
                        ),
                    };
                    self.broken(on, &rules.id, &at, Issue::error(IssueType::Structure, text));
                }
                is_beyond = true;
                continue;
            };
            if rule == Some(SlicingRules::OpenAtEnd) && is_beyond && doubts == 0 {
                let text = format!(
                    "A value of the slice {} stands behind others; those of slices come first.",
                    slice.name
                );
                self.broken(on, &rules.id, &at, Issue::error(IssueType::Structure, text));
            }
            let is_ordered = rules.slicing.as_ref().is_some_and(|slicing| slicing.is_ordered);
            if is_ordered && position < last {
                let text = format!(
                    "A value of the slice {} stands too late; the order is {}.",
                    slice.name,
                    names(rules)
                );
                self.broken(on, &rules.id, &at, Issue::error(IssueType::Structure, text));
            }
            last = last.max(position);
            if let Some(rules) = on.tree.nodes.get(slice.node) {
                self.node(on, rules, item, &at, scope);
            }
        }
        let mut counts: HashMap<usize, usize> = HashMap::new();
        for position in belongs.iter().flatten() {
            *counts.entry(*position).or_default() += 1;
        }
        for (position, slice) in rules.slices.iter().enumerate() {
            let Some(own) = on.tree.nodes.get(slice.node) else { continue };
            let count = counts.get(&position).copied().unwrap_or_default();
            self.counted(on, rules, slice, own, count + doubts, count, place);
            if !own.slices.is_empty() && !self.is_spent(place) {
                self.spend(belongs.len() / 16);
                let is_one = |of: &Option<usize>| *of == Some(position);
                let numbers = belongs.iter().enumerate().filter(|(_, of)| is_one(of));
                let members: Vec<usize> = numbers.map(|(number, _)| index_of(number)).collect();
                self.divide(on, own, Some(&members), items, place, scope);
            }
        }
    }

    /// The number of values of one slice; `most` counts those, too, that may belong to it.
    #[expect(clippy::too_many_arguments, reason = "the walk's state, and two numbers")]
    fn counted(
        &mut self,
        on: Applied<'a>,
        rules: &'a Rules,
        slice: &'a Slice,
        own: &'a Rules,
        most: usize,
        count: usize,
        place: &Place,
    ) {
        if let Some(min) = own.min.filter(|min| most < *min) {
            let text = match (min, count) {
                (1, _) => format!("{} needs a value of the slice {}.", rules.name, slice.name),
                _ => format!(
                    "{} needs {min} values of the slice {}, and {count} are there.",
                    rules.name, slice.name
                ),
            };
            self.broken(on, &own.id, place, Issue::error(IssueType::Required, text));
        }
        if let Some(max) = own.max.filter(|max| count > *max) {
            let at = place.child(&rules.name);
            let text = match max {
                0 => format!("A value of the slice {} is not allowed here.", slice.name),
                _ => format!(
                    "{} has {count} values of the slice {}, and {max} at most are allowed.",
                    rules.name, slice.name
                ),
            };
            self.broken(on, &own.id, &at, Issue::error(IssueType::Structure, text));
        }
    }

    /// The slice of a value, and whether one could not be decided.
    fn slice_of(
        &mut self,
        rules: &'a Rules,
        item: Item<'a>,
        place: &Place,
        scope: Scope<'a>,
    ) -> (Option<(usize, &'a Slice)>, bool) {
        let mut is_doubtful = false;
        for (position, slice) in rules.slices.iter().enumerate().filter(|(_, s)| !s.is_default) {
            match self.all_match(&slice.matchers, item, place, scope) {
                Some(true) => return (Some((position, slice)), false),
                Some(false) => {}
                None => is_doubtful = true,
            }
        }
        let default = rules.slices.iter().enumerate().find(|(_, slice)| slice.is_default);
        (default.filter(|_| !is_doubtful), is_doubtful)
    }

    /// Whether all discriminators match; `None` if one is open and none fails.
    fn all_match(
        &mut self,
        matchers: &'a [Matcher],
        item: Item<'a>,
        place: &Place,
        scope: Scope<'a>,
    ) -> Option<bool> {
        let mut is_open = false;
        for matcher in matchers {
            match self.matches(matcher, item, place, scope) {
                Some(true) => {}
                Some(false) => return Some(false),
                None => is_open = true,
            }
        }
        (!is_open).then_some(true)
    }

    fn matches(
        &mut self,
        matcher: &'a Matcher,
        item: Item<'a>,
        place: &Place,
        scope: Scope<'a>,
    ) -> Option<bool> {
        if self.is_spent(place) {
            return None;
        }
        match &matcher.test {
            Test::Undecided => None,
            Test::Exists(wanted) => {
                self.reach(&matcher.steps, None, item, place, scope).map(|found| found == *wanted)
            }
            test => self.reach(&matcher.steps, Some(test), item, place, scope),
        }
    }

    /// Whether any value that the path leads to passes a test; without a test, whether there is one.
    fn reach(
        &mut self,
        steps: &'a [Step],
        test: Option<&'a Test>,
        item: Item<'a>,
        place: &Place,
        scope: Scope<'a>,
    ) -> Option<bool> {
        if self.is_spent(place) {
            return None;
        }
        let definitions = self.definitions;
        let scope = scope.of(item);
        let Some((step, rest)) = steps.split_first() else {
            return test.map_or(Some(true), |test| self.passes(test, item, place, scope));
        };
        let mut is_open = false;
        let mut any = |this: &mut Self, item: Item<'a>, scope: Scope<'a>| {
            let found = this.reach(rest, test, item, place, scope);
            is_open |= found.is_none();
            found == Some(true)
        };
        match step {
            Step::Member(name) => {
                if let Some(items) = item.child(definitions, name)
                    && items.iter(definitions).any(|item| any(self, item, scope))
                {
                    return Some(true);
                }
            }
            Step::Extension(url) => {
                let is_it = |item: &Item<'a>| item.text("url") == Some(url.as_str());
                if let Some(items) = item.child(definitions, "extension")
                    && items.iter(definitions).filter(is_it).any(|item| any(self, item, scope))
                {
                    return Some(true);
                }
            }
            Step::OfType(name) => {
                if item.kind.name == name && any(self, item, scope) {
                    return Some(true);
                }
            }
            Step::Resolve => {
                let text = item.text("reference").or_else(|| item.value.and_then(Json::as_str));
                let Some(text) = text else {
                    // Only an identifier or a display: what it means cannot be known.
                    return None;
                };
                let Some(found) = self.resolve(text, scope) else {
                    // The type may stand in the reference itself.
                    return match test {
                        Some(Test::Types(types)) if rest.is_empty() => {
                            let name = self.type_named(text, item)?;
                            Some(types.iter().any(|of| definitions.is_a(name, of)))
                        }
                        _ => {
                            self.miss(Need::Resource(text.to_owned()));
                            None
                        }
                    };
                };
                let name = found.json.str_at(&["resourceType"])?;
                let target = Item::complex(found.json, definitions.type_of(name)?);
                if any(self, target, found.scope) {
                    return Some(true);
                }
            }
        }
        (!is_open).then_some(false)
    }

    fn passes(
        &mut self,
        test: &'a Test,
        item: Item<'a>,
        place: &Place,
        scope: Scope<'a>,
    ) -> Option<bool> {
        match test {
            Test::Fixed(wanted) => Some(item.value.is_some_and(|v| value::is_equal(v, wanted))),
            Test::Pattern(wanted) => {
                Some(item.value.is_some_and(|v| value::has_pattern(v, wanted)))
            }
            Test::Binding(binding) => {
                self.terms.is_member(&binding.value_set, item.kind.name, item.value?)
            }
            Test::Types(types) => {
                Some(types.iter().any(|of| self.definitions.derives(item.kind, of)))
            }
            Test::Profiles(profiles) => {
                let mut is_open = false;
                for canonical in profiles {
                    match self.conforms(canonical, item, place, scope) {
                        Some(found) if found.is_empty() => return Some(true),
                        Some(_) => {}
                        None => is_open = true,
                    }
                }
                (!is_open).then_some(false)
            }
            Test::Any(groups) => {
                let mut is_open = false;
                for group in groups {
                    match self.all_match(group, item, place, scope) {
                        Some(true) => return Some(true),
                        Some(false) => {}
                        None => is_open = true,
                    }
                }
                (!is_open).then_some(false)
            }
            Test::Exists(wanted) => Some(*wanted),
            Test::Undecided => None,
        }
    }
}

/// What may be lacking where it cannot be told to which slice a value belongs.
fn rests_on(rules: &Rules) -> String {
    let lacking = |matcher: &Matcher| match &matcher.test {
        _ if matcher.steps.iter().any(|step| matches!(step, Step::Resolve)) => {
            Some("the target of a reference".to_owned())
        }
        Test::Binding(binding) => {
            Some(format!("the content of the value set {}", binding.value_set))
        }
        Test::Profiles(profiles) => Some(format!("the profile {}", profiles.join(" or "))),
        Test::Undecided => Some("a discriminator of the profile".to_owned()),
        _ => None,
    };
    let mut matchers = rules.slices.iter().flat_map(|slice| &slice.matchers);
    matchers.find_map(lacking).unwrap_or_else(|| "what stands outside of the resource".to_owned())
}

fn names(rules: &Rules) -> String {
    listed(rules.slices.iter().map(|slice| slice.name.as_str()))
}
