//! How often an element occurs: <https://hl7.org/fhir/R4/conformance-rules.html#cardinality>.

use super::element::Member;
use super::invariant::broken;
use super::{Place, Validator};
use crate::definitions::{Kind, Type};
use crate::{IssueType, Object};

impl<'a> Validator<'a> {
    /// The number of items of a list.
    pub(super) fn count(&mut self, member: Member<'a>, length: usize, at: &Place) {
        let element = member.element;
        if length == 0 {
            let text = format!("{} is an empty array; leave it out.", element.name);
            self.report(at, IssueType::Structure, text);
        } else if length < usize::try_from(element.min).unwrap_or(usize::MAX) {
            let text = format!(
                "{} is needed {} times, and {length} are there.",
                element.path, element.min
            );
            self.report(at, IssueType::Required, text);
        } else if let Some(max) = element.max
            && length > usize::try_from(max).unwrap_or(usize::MAX)
        {
            let text = format!(
                "{} occurs at most {max} times, and {length} are there; remove the others.",
                element.path
            );
            self.report(at, IssueType::Structure, text);
        }
    }

    /// The elements that must occur. One that has only extensions (`_name`) counts.
    pub(super) fn minimum(&mut self, kind: &'a Type, object: &Object, place: &Place) {
        if kind.kind == Kind::Primitive {
            return;
        }
        let definitions = self.definitions;
        let lineage = std::iter::successors(Some(kind), |kind| definitions.base(kind));
        for ancestor in lineage {
            for element in ancestor.elements.iter().filter(|element| element.min > 0) {
                let is_present = object.iter().any(|(name, _)| {
                    let name = name.strip_prefix('_').unwrap_or(name);
                    match element.is_choice {
                        true => name.starts_with(element.name) && element.member(name).is_some(),
                        false => name == element.name,
                    }
                });
                // A derived type may state the element anew.
                let is_changed = || {
                    let own = definitions.element(kind, element.name);
                    own.is_some_and(|own| own.path != element.path)
                };
                if !is_present && !is_changed() {
                    let text = format!("{} is required but missing.", element.path);
                    self.report(place, IssueType::Required, text);
                }
            }
        }
        if kind.kind != Kind::Resource && object.len() == 1 && object.get("id").is_some() {
            self.push(place, broken("ele-1"));
        }
    }
}
