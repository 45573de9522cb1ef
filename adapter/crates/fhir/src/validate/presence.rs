//! Invariants that only ask which elements are there, such as `code.empty() or system.exists()`.
//!
//! Most invariants are of this kind, and the frequent ones above all. Their outcome is the same
//! for every value with the same elements, so FHIRPath evaluates each combination once, beforehand.

use crate::definitions::Definitions;
use crate::path::{Context, Expression, Value};
use crate::{Json, Object};

/// Most elements that such an invariant may ask for; 2 to that power are the combinations.
const MAX_NAMES: usize = 6;

/// The elements that an invariant asks for, and the outcome for each combination of them.
pub(super) struct Presence {
    names: Vec<&'static str>,
    outcomes: Vec<bool>,
}

impl Presence {
    /// `None` for an expression that asks for anything else.
    pub fn read(definitions: &Definitions, text: &'static str) -> Option<Presence> {
        let mut names: Vec<&'static str> = Vec::new();
        let mut rest = text;
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
        if !is_whole {
            return None;
        }
        let expression = Expression::parse(text).ok()?;
        let outcome = |combination: usize| {
            let there = names.iter().enumerate().filter(|(bit, _)| combination & 1 << bit != 0);
            let object: Object = there.map(|(_, name)| ((*name).into(), true.into())).collect();
            let value = Json::Object(object);
            let focus = [Value::node(&value)];
            match expression.evaluate(&Context::new(definitions), &focus).ok()?.as_slice() {
                [Value::Boolean(holds)] => Some(*holds),
                _ => None,
            }
        };
        let outcomes = (0..1_usize << names.len()).map(outcome).collect::<Option<_>>()?;
        Some(Presence { names, outcomes })
    }

    /// Whether the invariant holds for a value; `None` if a member may be a choice element that
    /// is asked for, which only FHIRPath can tell.
    pub fn holds(&self, value: &Json) -> Option<bool> {
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
        self.outcomes.get(index).copied()
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

    fn read(text: &'static str) -> Option<Presence> {
        Presence::read(&Definitions::r4(), text)
    }

    #[test]
    fn only_presence_is_asked_for() {
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
            ("", None),
        ] {
            let names = read(text).map(|presence| presence.names.join(" "));
            assert_eq!(names.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn the_outcome_depends_on_names_alone() {
        let presence = read("value.empty() or dataAbsentReason.empty()").unwrap();
        for (value, expected) in [
            (json!({"a": 1}), Some(true)),
            (json!({"value": 1}), Some(true)),
            (json!({"_value": {"id": "x"}, "dataAbsentReason": {}}), Some(false)),
            (json!({"value": null, "dataAbsentReason": []}), Some(false)),
            (json!({"valueString": "x"}), None),
            (json!("x"), None),
        ] {
            assert_eq!(presence.holds(&value), expected, "{value}");
        }
    }
}
