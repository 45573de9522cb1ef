//! JSON Patch: <https://www.rfc-editor.org/rfc/rfc6902>.
//!
//! The digits of numbers survive, as everywhere in the tree. What `copy` may add is bounded, and
//! so is the depth of the result.

use std::collections::HashMap;

use super::pointer::{Pointer, find_mut, index};
use super::{PatchError, malformed, not_applicable, too_many};
use crate::format::json::MAX_DEPTH;
use crate::{Issue, IssueType, Json, Locator};

/// Most that all `copy` of a patch may add together: values, and the bytes of their texts.
const MAX_COPIED: usize = 1_000_000;

/// One operation.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    number: usize,
    name: &'static str,
    path: Pointer,
    action: Action,
}

#[derive(Clone, Debug)]
enum Action {
    Add(Json),
    Remove,
    Replace(Json),
    Move(Pointer),
    Copy(Pointer),
    Test(Json),
}

/// Reads the operations of a patch.
pub(super) fn read(operations: &[Json]) -> Result<Vec<Operation>, PatchError> {
    too_many(operations.len())?;
    operations.iter().enumerate().map(|(number, operation)| read_one(number, operation)).collect()
}

fn read_one(number: usize, operation: &Json) -> Result<Operation, PatchError> {
    let fault = |code: IssueType, member: &str, text: String| {
        let at =
            if member.is_empty() { format!("/{number}") } else { format!("/{number}/{member}") };
        malformed(code, format!("Operation {number} of the patch: {text}"))
            .map(|issue| issue.located(Locator::Pointer(at)))
    };
    if operation.as_object().is_none() {
        return Err(fault(IssueType::Structure, "", "it is no object.".to_owned()));
    }
    let pointer = |member: &str| {
        let text = operation.get(member).and_then(Json::as_str).ok_or_else(|| {
            let text = format!("the member {member} is missing or is no text.");
            fault(IssueType::Required, member, text)
        })?;
        Pointer::parse(text).ok_or_else(|| {
            let text = format!(
                "{member} is no JSON pointer; it is written as in /name/0/family, with ~1 for / and ~0 for ~ in a name."
            );
            fault(IssueType::Value, member, text)
        })
    };
    let value = || {
        let missing = || fault(IssueType::Required, "value", "the member value is missing.".into());
        operation.get("value").cloned().ok_or_else(missing)
    };
    let path = || pointer("path");
    let (name, path, action) = match operation.get("op").and_then(Json::as_str) {
        Some("add") => ("add", path()?, Action::Add(value()?)),
        Some("remove") => ("remove", path()?, Action::Remove),
        Some("replace") => ("replace", path()?, Action::Replace(value()?)),
        Some("move") => ("move", path()?, Action::Move(pointer("from")?)),
        Some("copy") => ("copy", path()?, Action::Copy(pointer("from")?)),
        Some("test") => ("test", path()?, Action::Test(value()?)),
        _ => {
            let text = "op must be add, remove, replace, move, copy or test.".to_owned();
            return Err(fault(IssueType::Value, "op", text));
        }
    };
    Ok(Operation { number, name, path, action })
}

/// The tree as the operations make it.
pub(super) fn apply(operations: &[Operation], resource: &Json) -> Result<Json, PatchError> {
    let mut tree = resource.clone();
    let mut copied = 0;
    for operation in operations {
        operation.apply(&mut tree, &mut copied).map_err(|reason| {
            let Operation { number, name, path, .. } = operation;
            let (code, reason) = reason;
            let text = format!("Operation {number} of the patch ({name}): {reason}");
            not_applicable(code, text)
                .map(|issue: Issue| issue.located(Locator::Pointer(path.text().to_owned())))
        })?;
    }
    Ok(tree)
}

/// Why an operation cannot be done.
type Fault = (IssueType, &'static str);

const MISSING: Fault = (IssueType::NotFound, "there is nothing at its path.");
const DEEP: Fault = (IssueType::TooCostly, "the result would be nested too deeply.");

impl Operation {
    fn apply(&self, tree: &mut Json, copied: &mut usize) -> Result<(), Fault> {
        match &self.action {
            Action::Add(value) => add(tree, &self.path, value.clone()),
            Action::Remove => remove(tree, &self.path).map(|_| ()),
            Action::Replace(value) => {
                if self.path.depth() + depth(value) > MAX_DEPTH {
                    return Err(DEEP);
                }
                let place = match self.path.split() {
                    None => Some(tree),
                    Some((before, last)) => {
                        find_mut(tree, before).and_then(|parent| match parent {
                            Json::Object(object) => object.get_mut(last),
                            Json::Array(items) => items.get_mut(index(last)?),
                            _ => None,
                        })
                    }
                };
                *place.ok_or(MISSING)? = value.clone();
                Ok(())
            }
            Action::Move(from) if *from == self.path => {
                from.find(tree).map(|_| ()).ok_or(NO_SOURCE)
            }
            Action::Move(from) => {
                if from.contains(&self.path) {
                    return Err((IssueType::Invalid, "a value cannot be moved into itself."));
                }
                let value = remove(tree, from).map_err(|_| NO_SOURCE)?;
                add(tree, &self.path, value)
            }
            Action::Copy(from) => {
                let value = from.find(tree).ok_or(NO_SOURCE)?;
                *copied += size(value);
                if *copied > MAX_COPIED {
                    return Err((IssueType::TooCostly, "the patch copies too much."));
                }
                let value = value.clone();
                add(tree, &self.path, value)
            }
            Action::Test(value) => {
                let found = self.path.find(tree).ok_or(MISSING)?;
                let differs: Fault = (
                    IssueType::Conflict,
                    "the value there is another one; read the resource and make the patch again.",
                );
                if same(found, value) { Ok(()) } else { Err(differs) }
            }
        }
    }
}

const NO_SOURCE: Fault = (IssueType::NotFound, "there is nothing at the pointer in from.");

fn add(tree: &mut Json, path: &Pointer, value: Json) -> Result<(), Fault> {
    if path.depth() + depth(&value) > MAX_DEPTH {
        return Err(DEEP);
    }
    let Some((before, last)) = path.split() else {
        *tree = value;
        return Ok(());
    };
    let nowhere: Fault = (
        IssueType::NotFound,
        "what should hold the value is not there; add it first, or name an object or a list that is.",
    );
    match find_mut(tree, before) {
        Some(Json::Object(object)) => {
            object.set(last, value);
            Ok(())
        }
        Some(Json::Array(items)) if last == "-" => {
            items.push(value);
            Ok(())
        }
        Some(Json::Array(items)) => match index(last) {
            Some(index) if index <= items.len() => {
                items.insert(index, value);
                Ok(())
            }
            _ => Err((
                IssueType::Value,
                "the place in the list is neither a number from 0 to its length, nor - for its end.",
            )),
        },
        _ => Err(nowhere),
    }
}

fn remove(tree: &mut Json, path: &Pointer) -> Result<Json, Fault> {
    let Some((before, last)) = path.split() else {
        return Err((IssueType::Invalid, "the resource as a whole cannot be taken away."));
    };
    let removed = find_mut(tree, before).and_then(|parent| match parent {
        Json::Object(object) => object.remove(last),
        Json::Array(items) => {
            let index = index(last).filter(|index| *index < items.len())?;
            Some(items.remove(index))
        }
        _ => None,
    });
    removed.ok_or(MISSING)
}

/// Whether two values are equal as RFC 6902, 4.6 says: numbers by their value, objects whatever
/// the order of their members.
pub(super) fn same(one: &Json, two: &Json) -> bool {
    match (one, two) {
        (Json::Number(one), Json::Number(two)) => {
            one == two || matches!((number(one), number(two)), (Some(a), Some(b)) if a == b)
        }
        (Json::Array(one), Json::Array(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| same(one, two))
        }
        (Json::Object(one), Json::Object(two)) => {
            // A map, as a look-up in an object goes through its members.
            let two: HashMap<&str, &Json> = two.iter().collect();
            one.len() == two.len()
                && one
                    .iter()
                    .all(|(name, value)| two.get(name).is_some_and(|other| same(value, other)))
        }
        (one, two) => one == two,
    }
}

/// Sign, digits without zeros at either end, and the exponent of the last digit.
fn number(text: &str) -> Option<(bool, String, i64)> {
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let kept = digits.trim_end_matches('0');
    let zeros = i64::try_from(digits.len() - kept.len()).ok()?;
    let significant = kept.trim_start_matches('0');
    if significant.is_empty() {
        return Some((false, String::new(), 0));
    }
    let fraction = i64::try_from(fraction.len()).ok()?;
    let exponent = exponent.checked_sub(fraction)?.checked_add(zeros)?;
    Some((is_negative, significant.to_owned(), exponent))
}

/// Levels of arrays and objects.
fn depth(value: &Json) -> usize {
    match value {
        Json::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Json::Object(object) => 1 + object.iter().map(|(_, value)| depth(value)).max().unwrap_or(0),
        _ => 0,
    }
}

/// Values, and the bytes of names and texts.
fn size(value: &Json) -> usize {
    match value {
        Json::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Json::Object(object) => {
            1 + object.iter().map(|(name, value)| name.len() + size(value)).sum::<usize>()
        }
        Json::String(text) | Json::Number(text) => 1 + text.len(),
        _ => 1,
    }
}
