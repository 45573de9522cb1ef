//! Invariants that only ask which elements are there, such as `code.empty() or system.exists()`.
//!
//! Most invariants are of this kind, and the frequent ones above all. Their outcome is the same
//! for every value with the same elements, so FHIRPath evaluates each combination once.

use std::sync::OnceLock;

use crate::Json;

/// Most elements that such an invariant may ask for; 2 to that power are the combinations.
const MAX_NAMES: usize = 6;

/// The elements that an invariant asks for, and the outcomes that are known by now.
pub(super) struct Presence {
    names: Vec<&'static str>,
    outcomes: Vec<OnceLock<bool>>,
}

impl Presence {
    /// `None` for an expression that asks for anything else.
    pub fn read(expression: &'static str) -> Option<Presence> {
        let mut names = Vec::new();
        let mut rest = expression;
        while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic()) {
            let (between, word) = rest.split_at(start);
            if !is_glue(between) {
                return None;
            }
            let end = word.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(word.len());
            let (word, after) = word.split_at(end);
            rest = after;
            match word {
                "and" | "or" | "xor" | "implies" => {}
                // A function of a name is taken with it, so this one follows a parenthesis.
                "not" if between.ends_with(").") => {}
                name => {
                    let functions = [".exists()", ".empty()"];
                    rest = functions.iter().find_map(|function| after.strip_prefix(function))?;
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
            }
        }
        let is_whole = is_glue(rest) && !names.is_empty() && names.len() <= MAX_NAMES;
        is_whole.then(|| Presence {
            outcomes: (0..1_usize << names.len()).map(|_| OnceLock::new()).collect(),
            names,
        })
    }

    /// Where the outcome for a value is kept; `None` if a member may be a choice element that is
    /// asked for, which only FHIRPath can tell.
    pub fn outcome(&self, value: &Json) -> Option<&OnceLock<bool>> {
        let mut index = 0;
        for (member, _) in value.as_object()?.iter() {
            let member = member.strip_prefix('_').unwrap_or(member);
            for (bit, name) in self.names.iter().enumerate() {
                match member.strip_prefix(name) {
                    Some("") => index |= 1 << bit,
                    Some(rest) if rest.starts_with(|c: char| c.is_ascii_uppercase()) => {
                        return None;
                    }
                    _ => {}
                }
            }
        }
        self.outcomes.get(index)
    }
}

/// Whether a text between words has nothing but blanks, parentheses and the dot of `.not()`.
fn is_glue(text: &str) -> bool {
    text.chars().all(|c| matches!(c, ' ' | '(' | ')' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn only_presence_is_asked_for() {
        let names = |text| Presence::read(text).map(|presence| presence.names.join(" "));
        for (text, expected) in [
            ("(answer.exists() and item.exists()).not()", Some("answer item")),
            ("code.empty() or system.exists()", Some("code system")),
            ("a.empty() or (b.exists() xor a.exists())", Some("a b")),
            ("start.hasValue().not() or (start <= end)", None),
            ("a.b.exists()", None),
            ("$this.exists()", None),
            ("where(use = 'home').empty()", None),
            ("(identifier.count() + name.count()) > 0", None),
            ("type!='display' or code.empty()", None),
            ("name.exists(use = 'x')", None),
            ("true", None),
            ("not.exists()", Some("not")),
            ("", None),
        ] {
            assert_eq!(names(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn outcomes_are_kept_by_the_elements_that_are_there() {
        let presence = Presence::read("value.empty() or dataAbsentReason.empty()").unwrap();
        let at = |json: Json| presence.outcome(&json).map(std::ptr::from_ref);
        assert_eq!(at(json!({"a": 1})), at(json!({})));
        assert_eq!(at(json!({"value": 1})), at(json!({"_value": {"id": "x"}, "b": 1})));
        assert_ne!(at(json!({"value": 1})), at(json!({"dataAbsentReason": {}})));
        assert_eq!(at(json!({"valueString": "x"})), None);
        assert_eq!(at(json!("x")), None);
    }
}
