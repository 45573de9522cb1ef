//! A message as a record tree for mapping tables.
//!
//! The tree is an object with a list for each segment name. A segment has `at` (its place), `set`
//! (its number among those of its name), a list `f3` for each field that is sent, and lists of the
//! segments that belong to it. A repetition has `at`, `repetition` (its number), `text` (the whole,
//! as free text has it, where a delimiter may be meant as itself) and a member `c1`
//! for each component that holds something, with `c1s2` for its second subcomponent; a null (`""`)
//! has `null` and nothing else. Values are text, escapes resolved.

use std::collections::HashMap;

use lumbar_fhir::{Issue, Json, Locator, Object};

use super::{Delimiters, Message, Segment, unescape};

/// Which segments belong to which: pairs of parent and child. A child belongs to the nearest
/// segment before it that can hold it, unless a segment that belongs to nobody came between.
#[derive(Clone, Copy, Debug)]
pub struct Groups<'a>(pub &'a [(&'a str, &'a str)]);

impl Groups<'static> {
    /// The groups of referral (REF, RRI), result (ORU) and schedule (SIU) messages.
    pub const STANDARD: Groups<'static> = Groups(&[
        ("PRD", "CTD"),
        ("AUT", "CTD"),
        ("PR1", "AUT"),
        ("IN1", "IN2"),
        ("IN1", "IN3"),
        ("ORC", "OBR"),
        ("OBR", "OBX"),
        ("OBR", "NTE"),
        ("OBX", "NTE"),
        ("OBR", "SPM"),
        ("OBR", "TQ1"),
        ("RGS", "AIS"),
        ("RGS", "AIG"),
        ("RGS", "AIL"),
        ("RGS", "AIP"),
        ("AIS", "NTE"),
        ("AIG", "NTE"),
        ("AIL", "NTE"),
        ("AIP", "NTE"),
    ]);
}

impl Groups<'_> {
    fn holds(&self, parent: &str, child: &str) -> bool {
        self.0.iter().any(|(of, name)| *of == parent && *name == child)
    }
}

/// The tree of a message, and what was odd about its values. Nesting is bounded by the groups.
pub fn tree(message: &Message, groups: Groups<'_>) -> (Json, Vec<Issue>) {
    let mut issues = Vec::new();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let mut top = Object::new();
    // Open segments, outermost first; each waits for its own.
    let mut open: Vec<(&str, Object)> = Vec::new();
    for segment in &message.segments {
        let count = counts.entry(&segment.name).or_default();
        *count += 1;
        let object = branch(segment, *count, message, &mut issues);
        while open.last().is_some_and(|(name, _)| !groups.holds(name, &segment.name)) {
            close(&mut open, &mut top);
        }
        open.push((&segment.name, object));
    }
    while !open.is_empty() {
        close(&mut open, &mut top);
    }
    (Json::Object(top), issues)
}

/// Hands the innermost open segment to the one around it.
fn close(open: &mut Vec<(&str, Object)>, top: &mut Object) {
    let Some((name, object)) = open.pop() else { return };
    let parent = open.last_mut().map_or(top, |(_, parent)| parent);
    match parent.get_mut(name) {
        Some(Json::Array(items)) => items.push(object.into()),
        _ => parent.set(name, vec![Json::Object(object)]),
    }
}

fn branch(segment: &Segment, count: usize, message: &Message, issues: &mut Vec<Issue>) -> Object {
    let at = format!("{}^{count}", segment.name);
    let mut object = Object::new();
    object.set("at", at.as_str());
    object.set("set", count);
    for (index, field) in segment.fields.iter().enumerate().filter(|(_, field)| !field.is_empty()) {
        let number = index + 1;
        let place = format!("{at}^{number}");
        // The delimiters themselves are no text with delimiters in it.
        if segment.name == "MSH" && number <= 2 {
            let mut whole = Object::new();
            whole.set("at", place);
            whole.set("text", field.as_str());
            object.set(&format!("f{number}"), vec![Json::Object(whole)]);
            continue;
        }
        let before = issues.len();
        let repetitions: Vec<Json> = message
            .delimiters
            .repetitions(field)
            .zip(1_usize..)
            .map(|(text, number)| {
                let mut repetition = repetition(text, &place, message, issues);
                repetition.set("repetition", number);
                Json::Object(repetition)
            })
            .collect();
        for issue in issues.iter_mut().skip(before) {
            issue.locator = Some(Box::new(Locator::Segment(place.clone())));
        }
        object.set(&format!("f{number}"), repetitions);
    }
    object
}

fn repetition(text: &str, at: &str, message: &Message, issues: &mut Vec<Issue>) -> Object {
    let delimiters: &Delimiters = &message.delimiters;
    let mut resolve = |text: &str| unescape(text, delimiters, message.charset, issues);
    let mut object = Object::new();
    object.set("at", at);
    if text == "\"\"" {
        object.set("null", true);
        return object;
    }
    let mut parts = Vec::new();
    for (index, component) in delimiters.components(text).enumerate() {
        let name = format!("c{}", index + 1);
        for (sub, value) in delimiters.subcomponents(component).enumerate() {
            let value = resolve(value);
            if value.is_empty() || value == "\"\"" {
                continue;
            }
            let name = if sub == 0 { name.clone() } else { format!("{name}s{}", sub + 1) };
            parts.push((name, value));
        }
    }
    object.set("text", resolve(text));
    for (name, value) in parts {
        object.set(&name, value);
    }
    object
}
