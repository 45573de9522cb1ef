//! The invariants of R4: <https://hl7.org/fhir/R4/conformance-rules.html#constraints>.
//!
//! An invariant that comes to nothing, because it compares what is not comparable, holds. Those
//! in [`ELSEWHERE`] have their own code, and `dom-6` (a resource should have a narrative) is left
//! out: software that writes resources for software would be warned of every one.
//!
//! What is told of a broken one is our sentence, as the expression says nothing to most people.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::element::Member;
use super::environment::Truth;
use super::presence::Presence;
use super::{Place, Scope, Validator};
use crate::definitions::{Definitions, Invariant, Kind, Type, rows};
use crate::path::{Expression, Value};
use crate::{Issue, IssueType, Json};

/// What is expected, for people, by key and path. The path is blank where the key alone says which
/// invariant is meant.
static SENTENCES: LazyLock<HashMap<(&'static str, &'static str), &'static str>> =
    LazyLock::new(|| {
        let table = include_str!("../../../../../profiles/r4/invariant-sentences.tsv");
        rows(table).map(|[key, path, sentence]| ((key, path), sentence)).collect()
    });

/// Invariants that are not evaluated here.
const ELSEWHERE: [&str; 12] = [
    "dom-2", "dom-3", "dom-4", "dom-5", "dom-6", "ele-1", "ext-1", "ref-1", "txt-1", "txt-2",
    "bdl-7", "que-2",
];

/// An invariant, ready to be evaluated.
struct Rule {
    text: &'static str,
    /// What is expected, for people.
    sentence: &'static str,
    expression: Expression,
    presence: Option<Presence>,
}

/// The rules by their key, which two of them may share.
static RULES: LazyLock<HashMap<&'static str, Vec<Rule>>> = LazyLock::new(|| {
    let mut rules: HashMap<&str, Vec<Rule>> = HashMap::new();
    let definitions = Definitions::r4();
    for (path, invariant) in all(&definitions) {
        let (key, text) = (invariant.key, invariant.expression);
        let sentence = SENTENCES.get(&(key, path)).or_else(|| SENTENCES.get(&(key, "")));
        if !ELSEWHERE.contains(&key)
            && let Ok(expression) = Expression::parse(text)
        {
            let presence = Presence::read(&definitions, text);
            let sentence = sentence.copied().unwrap_or(text);
            rules.entry(key).or_default().push(Rule { text, sentence, expression, presence });
        }
    }
    rules
});

/// All invariants, each with the path on which it is.
fn all(definitions: &Definitions) -> impl Iterator<Item = (&str, &Invariant)> {
    definitions.types().flat_map(|kind| {
        let of_type = kind.invariants.iter().map(|invariant| (kind.name, invariant));
        of_type.chain(kind.elements.iter().flat_map(|element| {
            element.invariants.iter().map(|invariant| (element.path, invariant))
        }))
    })
}

/// That an invariant of the standard does not hold, whoever finds it: `ext-1`.
pub fn broken(key: &'static str) -> Issue {
    let sentence = SENTENCES.get(&(key, "")).copied().unwrap_or("An invariant does not hold.");
    Issue::error(IssueType::Invariant, told(sentence, key)).rule(key)
}

fn told(sentence: &str, key: &str) -> String {
    format!("{} ({key}).", sentence.trim_end_matches('.'))
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
        let told = || told(rule.sentence, key);
        if let Some(issue) = self.outcome(key, invariant.is_error, told, truth) {
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
        let is_missing = |(_, invariant): &(&str, &Invariant)| {
            let rules = RULES.get(invariant.key).map_or(&[][..], Vec::as_slice);
            !ELSEWHERE.contains(&invariant.key)
                && !rules.iter().any(|rule| rule.text == invariant.expression)
        };
        let missing: Vec<&str> =
            all(&definitions).filter(is_missing).map(|(_, invariant)| invariant.key).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(all(&definitions).count() > 230);
        let simple = RULES.values().flatten().filter(|rule| rule.presence.is_some()).count();
        assert!(simple > 60, "only {simple} rules ask for presence alone");
    }

    #[test]
    fn every_invariant_that_is_checked_elsewhere_has_a_sentence() {
        for key in ELSEWHERE {
            let sentence = SENTENCES.get(&(key, ""));
            assert!(sentence.is_some_and(|sentence| sentence.ends_with('.')), "{key}");
        }
    }

    #[test]
    fn every_invariant_that_is_evaluated_is_told_by_a_sentence() {
        let silent = |rule: &&Rule| rule.sentence == rule.text || !rule.sentence.ends_with('.');
        let silent: Vec<&str> =
            RULES.values().flatten().filter(silent).map(|rule| rule.text).collect();
        assert!(silent.is_empty(), "{silent:?}");
        let of = |key: &str| -> Vec<&str> {
            let mut found: Vec<&str> = RULES[key].iter().map(|rule| rule.sentence).collect();
            found.sort_unstable();
            found.dedup();
            found
        };
        assert_eq!(of("inv-1").len(), 3, "a key that is used thrice: {:?}", of("inv-1"));
    }
}
