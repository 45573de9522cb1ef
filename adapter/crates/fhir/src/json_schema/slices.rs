//! Slices: <https://hl7.org/fhir/R4/profiling.html#slicing>.
//!
//! A slice that is told by values, by patterns or by what is there has a schema that its items
//! pass. Where a slice is told otherwise (by a profile, by what a reference points to) nothing is
//! said about its items.

use super::rules::pattern;
use super::{Builder, MAX_DEPTH, all_of, any_of, items, with};
use crate::definitions::{Element, ElementType, Type};
use crate::profile::rules::{Matcher, Rules, Slice, SlicingRules, Step, Test};
use crate::{Json, Object, json};

impl<'a> Builder<'a> {
    /// The conditions that slices make for a list. `above` tells the slice that is sliced again.
    pub(super) fn slices(
        &mut self,
        rules: &'a Rules,
        of: &'a ElementType,
        above: &[Json],
        depth: usize,
    ) -> Vec<Json> {
        if depth > MAX_DEPTH {
            self.left = 0;
            return Vec::new();
        }
        let kind = self.sources.definitions.content(of);
        let is_primitive = self.is_primitive(of);
        let mut all = Vec::new();
        let mut tests = Vec::new();
        let mut are_told = true;
        for slice in &rules.slices {
            let told = kind.and_then(|kind| self.told(slice, kind));
            let (Some(own), Some(told), true) = (self.node(slice.node), told, self.spend()) else {
                are_told = false;
                continue;
            };
            let test = all_of(above.iter().cloned().chain([told.clone()]).collect());
            let Some(test) = self.take(test) else { return all };
            let mut count = Object::new();
            count.set("contains", test.clone());
            count.set("minContains", own.min.unwrap_or(0));
            if let Some(max) = own.max {
                count.set("maxContains", max);
            }
            if own.min.is_some() || own.max.is_some() {
                all.push(Json::Object(count));
            }
            let mut value = self.value(own, of, depth + 1);
            // What tells the slice is true of its items.
            value.retain(|condition| *condition != told);
            if !value.is_empty() {
                let item = json!({"if": (test.clone()), "then": (all_of(value))});
                all.push(json!({"items": (items(item, is_primitive))}));
            }
            let above: Vec<Json> = above.iter().cloned().chain([told]).collect();
            all.extend(self.slices(own, of, &above, depth + 1));
            tests.push(test);
        }
        let is_closed = rules.slicing.as_ref().is_some_and(|of| of.rules == SlicingRules::Closed);
        if is_closed && are_told && above.is_empty() && !tests.is_empty() {
            all.push(json!({"items": (items(any_of(tests), is_primitive))}));
        }
        all
    }

    /// Whether a slice of a choice holds the values of this type.
    pub(super) fn is_of_type(&self, slice: &Slice, of: &ElementType) -> bool {
        let is_it = |names: &[String]| names.iter().any(|name| name == of.code);
        slice.matchers.iter().any(|matcher| match &matcher.test {
            Test::Types(names) => matcher.steps.is_empty() && is_it(names),
            _ => false,
        })
    }

    /// The schema that exactly the items of a slice pass, if there is one.
    fn told(&mut self, slice: &Slice, kind: &'a Type) -> Option<Json> {
        if slice.is_default || slice.matchers.is_empty() {
            return None;
        }
        self.all(&slice.matchers, kind).map(all_of)
    }

    fn all(&mut self, matchers: &[Matcher], kind: &'a Type) -> Option<Vec<Json>> {
        matchers.iter().map(|matcher| self.matcher(matcher, kind)).collect()
    }

    fn matcher(&mut self, matcher: &Matcher, kind: &'a Type) -> Option<Json> {
        let leaf = match &matcher.test {
            Test::Fixed(json) => json!({"const": (json)}),
            Test::Pattern(json) => pattern(json),
            Test::Exists(true) => Json::Bool(true),
            Test::Exists(false) => {
                let there = self.path(kind, &matcher.steps, &Json::Bool(true))?;
                return Some(json!({"not": (there)}));
            }
            Test::Any(groups) if matcher.steps.is_empty() => {
                let groups = groups.iter().map(|group| self.all(group, kind).map(all_of));
                any_of(groups.collect::<Option<Vec<Json>>>()?)
            }
            _ => return None,
        };
        self.path(kind, &matcher.steps, &leaf)
    }

    /// Something of this kind at the end of a path.
    fn path(&mut self, kind: &'a Type, steps: &[Step], leaf: &Json) -> Option<Json> {
        let definitions = self.sources.definitions;
        let Some((step, rest)) = steps.split_first() else { return self.take(leaf.clone()) };
        match step {
            Step::Member(name) => {
                let found = definitions.element(kind, name);
                let element = found.or_else(|| definitions.choice(kind, name))?;
                let (wanted, rest) = match rest.split_first() {
                    Some((Step::OfType(of), rest)) => (Some(of.as_str()), rest),
                    _ => (None, rest),
                };
                let members = super::types::members(element).into_iter();
                let members = members.filter(|(_, of)| wanted.is_none_or(|name| of.code == name));
                let ways: Option<Vec<Json>> = members
                    .map(|(name, of)| self.member_path(&name, element, of, rest, leaf))
                    .collect();
                ways.filter(|ways| !ways.is_empty()).map(any_of)
            }
            Step::Extension(url) => {
                let extension = definitions.type_of("Extension")?;
                let inner = self.path(extension, rest, leaf)?;
                let item = all_of(vec![with("url", json!({"const": (url)})), inner]);
                Some(with("extension", json!({"contains": (item)})))
            }
            Step::Resolve | Step::OfType(_) => None,
        }
    }

    fn member_path(
        &mut self,
        name: &str,
        element: &Element,
        of: &ElementType,
        rest: &[Step],
        leaf: &Json,
    ) -> Option<Json> {
        let value = match rest {
            [] => self.take(leaf.clone())?,
            _ => self.path(self.sources.definitions.content(of)?, rest, leaf)?,
        };
        Some(match element.max {
            Some(1) => with(name, value),
            _ => with(name, json!({"contains": (value)})),
        })
    }
}
