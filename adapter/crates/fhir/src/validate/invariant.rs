//! The invariants of R4: <https://hl7.org/fhir/R4/conformance-rules.html#constraints>.
//!
//! An invariant that comes to nothing, because it compares what is not comparable, holds. Those
//! in [`ELSEWHERE`] have their own code, and `dom-6` (a resource should have a narrative) is left
//! out: software that writes resources for software would be warned of every one.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::element::Member;
use super::environment::Truth;
use super::presence::Presence;
use super::{Place, Scope, Validator};
use crate::Json;
use crate::definitions::{Definitions, Invariant, Kind, Type};
use crate::path::{Expression, Value};

/// Invariants that are not evaluated here.
const ELSEWHERE: [&str; 12] = [
    "dom-2", "dom-3", "dom-4", "dom-5", "dom-6", "ele-1", "ext-1", "ref-1", "txt-1", "txt-2",
    "bdl-7", "que-2",
];

/// An invariant, ready to be evaluated.
struct Rule {
    text: &'static str,
    expression: Expression,
    presence: Option<Presence>,
}

/// The rules by their key, which two of them may share.
static RULES: LazyLock<HashMap<&'static str, Vec<Rule>>> = LazyLock::new(|| {
    let mut rules: HashMap<&str, Vec<Rule>> = HashMap::new();
    let definitions = Definitions::r4();
    for invariant in all(&definitions) {
        let text = invariant.expression;
        if !ELSEWHERE.contains(&invariant.key)
            && let Ok(expression) = Expression::parse(text)
        {
            let presence = Presence::read(&definitions, text);
            rules.entry(invariant.key).or_default().push(Rule { text, expression, presence });
        }
    }
    rules
});

fn all(definitions: &Definitions) -> impl Iterator<Item = &Invariant> {
    definitions.types().flat_map(|kind| {
        let of_elements = kind.elements.iter().flat_map(|element| &element.invariants);
        kind.invariants.iter().chain(of_elements)
    })
}

impl<'a> Validator<'a> {
    /// The invariants of a type and of those from which it is derived.
    pub(super) fn type_invariants(
        &mut self,
        kind: &'a Type,
        value: &'a Json,
        scope: Scope<'a>,
        place: &Place,
    ) {
        let definitions = self.definitions;
        // The one rule of `Element` is checked elsewhere.
        let lineage = std::iter::successors(Some(kind), |kind| definitions.base(kind))
            .take_while(|kind| kind.name != "Element");
        for kind in lineage {
            for invariant in &kind.invariants {
                self.invariant(invariant, kind, value, scope, place);
            }
        }
    }

    /// The invariants of an element and those of its type.
    pub(super) fn element_invariants(
        &mut self,
        member: Member<'a>,
        value: &'a Json,
        scope: Scope<'a>,
        place: &Place,
    ) {
        let content = member.content;
        for invariant in &member.element.invariants {
            self.invariant(invariant, content, value, scope, place);
        }
        // An element with the content of another has that one's invariants, too.
        if content.kind == Kind::Backbone && content.name != member.element.path {
            let definitions = self.definitions;
            let original =
                content.name.rsplit_once('.').and_then(|(of, name)| definitions.child(of, name));
            for invariant in original.iter().flat_map(|element| &element.invariants) {
                self.invariant(invariant, content, value, scope, place);
            }
        }
        self.type_invariants(content, value, scope, place);
    }

    /// One invariant, on a value of the type `kind`.
    pub(super) fn invariant(
        &mut self,
        invariant: &Invariant,
        kind: &Type,
        value: &'a Json,
        scope: Scope<'a>,
        place: &Place,
    ) {
        let named = RULES.get(invariant.key).map_or(&[][..], Vec::as_slice);
        let Some(rule) = named.iter().find(|rule| rule.text == invariant.expression) else {
            return;
        };
        let known = rule.presence.as_ref().and_then(|presence| presence.holds(value));
        let truth = match known {
            Some(true) => return,
            Some(false) => Ok(Truth::Fails),
            None => {
                let focus = Value::typed(self.definitions, value, kind.name);
                self.truth(&rule.expression, focus, scope, place.depth)
            }
        };
        let key = invariant.key;
        if let Some(issue) = self.outcome(key, invariant.is_error, rule.text, truth) {
            self.push(place, issue.rule(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_invariant_of_the_standard_is_checked_somewhere() {
        let definitions = Definitions::r4();
        let is_missing = |invariant: &&Invariant| {
            let rules = RULES.get(invariant.key).map_or(&[][..], Vec::as_slice);
            !ELSEWHERE.contains(&invariant.key)
                && !rules.iter().any(|rule| rule.text == invariant.expression)
        };
        let missing: Vec<&str> =
            all(&definitions).filter(is_missing).map(|invariant| invariant.key).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(all(&definitions).count() > 230);
        let simple = RULES.values().flatten().filter(|rule| rule.presence.is_some()).count();
        assert!(simple > 60, "only {simple} rules ask for presence alone");
    }
}
