//! One table over one node of the tree: what the row formats do over a record.

use lumbar_fhir::{Issue, IssueType, Json, Locator, Object};

use super::{Mapping, broken};
use crate::mapping::Settings;
use crate::mapping::convert::Convert;
use crate::mapping::rule::{Rule, Rules};
use crate::mapping::target::Tree;
use crate::text;

pub(super) struct Filler<'a> {
    pub(super) mapping: &'a Mapping,
    pub(super) settings: &'a Settings<'a>,
}

impl Filler<'_> {
    /// Fills an object by a table over a node; the path that is required and has no value is the
    /// error.
    pub(super) fn fill(
        &self,
        rules: &Rules,
        focus: &Json,
        start: Object,
        issues: &mut Vec<Issue>,
    ) -> Result<Object, String> {
        let mut tree = Tree::new(start, rules.slots);
        let definitions = self.settings.definitions;
        for deferred in [false, true] {
            for rule in rules.rules.iter().filter(|rule| rule.deferred == deferred) {
                let times = match (deferred, rule.target.slot) {
                    (true, Some(slot)) => tree.count(slot),
                    _ => 1,
                };
                let holds =
                    rule.condition.as_ref().map_or(Ok(true), |when| when.holds(focus, definitions));
                let values = holds.and_then(|holds| {
                    if holds && times > 0 {
                        rule.value.values(focus, definitions)
                    } else {
                        Ok(Vec::new())
                    }
                });
                let values = values
                    .unwrap_or_else(|error| broken(&format!("{}: {error}", rule.path), issues));
                let mut written = 0;
                for value in &values {
                    for value in self.convert(rule, value, focus, issues) {
                        if deferred {
                            (0..times).for_each(|at| tree.write(&rule.target, at, value.clone()));
                        } else {
                            tree.write(&rule.target, written, value);
                        }
                        written += 1;
                    }
                    if written > 0 && !rule.target.repeats() {
                        break;
                    }
                }
                if written == 0 && rule.required {
                    return Err(rule.path.clone());
                }
            }
        }
        Ok(tree.into_object())
    }

    fn convert(
        &self,
        rule: &Rule,
        value: &Json,
        focus: &Json,
        issues: &mut Vec<Issue>,
    ) -> Vec<Json> {
        let plain = || match value {
            Json::String(text) => text.to_string(),
            Json::Number(digits) => digits.to_string(),
            other => other.to_string(),
        };
        let convert = &rule.convert;
        match convert {
            Convert::Text => vec![plain().into()],
            Convert::Url => vec![format!("{}/{}", self.settings.base, plain()).into()],
            Convert::Map(map) | Convert::TryMap(map) | Convert::Coding(map) => {
                let text = plain();
                match (self.mapping.codes.translate(map, &text), convert) {
                    (Some(found), Convert::Coding(_)) => vec![found.coding()],
                    (Some(found), _) => vec![found.code.as_str().into()],
                    (None, Convert::TryMap(_)) => Vec::new(),
                    (None, _) => {
                        let sentence =
                            format!("This text stands for no code of the map \"{map}\".");
                        let issue = Issue::information(IssueType::CodeInvalid, sentence);
                        let issue = issue.detail("BPA-CODE-001").value(text);
                        issues.push(issue.located(locate(rule, focus)));
                        Vec::new()
                    }
                }
            }
            Convert::Postcode => vec![text::postcode(&plain()).into()],
            Convert::Words => plain().split_whitespace().map(Json::from).collect(),
            Convert::Part(name) => {
                let Some(rules) = self.mapping.parts.get(name) else { return Vec::new() };
                match self.fill(rules, value, Object::new(), issues) {
                    Ok(object) if !object.is_empty() => vec![Json::Object(object)],
                    _ => Vec::new(),
                }
            }
            // The types of row formats are refused when the mapping is read.
            _ => vec![value.clone()],
        }
    }
}

/// The node's own place; over the whole message, the rule's first source in its first segment.
fn locate(rule: &Rule, focus: &Json) -> Locator {
    let at = focus.str_at(&["at"]).filter(|at| at.contains('^'));
    let source = || rule.source.first().map(|source| source.replacen('-', "^1^", 1));
    Locator::Segment(at.map(str::to_owned).or_else(source).unwrap_or_default())
}
