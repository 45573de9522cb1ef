//! Answers that follow from others:
//! <http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-calculatedExpression>.
//!
//! Values that rest on each other are found in rounds, until nothing changes. Those that never
//! settle depend on themselves; they are taken out and told. An answer that people can edit is
//! left as it is.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};

use super::item::{Item, ItemType};
use super::scope::{Check, Enabled, Frame};
use super::value::cut;
use super::{Form, MAX_DEPTH, conversion};
use crate::path::Tally;
use crate::validate::World;
use crate::{Issue, IssueType, Json, Object};

/// Most rounds until chains have settled.
const MAX_ROUNDS: usize = 50;

/// The way to an element: places among items (`false`) and answers (`true`).
pub(super) type Place = Vec<(bool, usize)>;

/// A response with its calculated answers, and what could not be calculated. `launch` is as in
/// [`Form::check`].
pub fn calculate(
    form: &Form,
    world: &World<'_>,
    response: &Json,
    launch: &[(&str, &Json)],
) -> (Json, Vec<Issue>) {
    let calculated: Vec<u32> = (0u32..)
        .zip(&form.items)
        .filter(|(_, item)| item.calculated.is_some())
        .map(|(index, _)| index)
        .collect();
    if calculated.is_empty() {
        return (response.clone(), Vec::new());
    }
    let edited = answered(form, response);
    let mut needed = vec![false; form.items.len()];
    for index in &calculated {
        let mut at = Some(*index);
        while let Some(index) = at {
            if let Some(needed) = needed.get_mut(index as usize) {
                *needed = true;
            }
            at = form.item(index).and_then(|item| item.parent);
        }
    }
    let mut response = response.clone();
    complete(form, &needed, None, &mut response, 0);
    let mut left = world.limits.steps;
    let mut issues = Vec::new();
    // By then every chain has settled; what changes afterwards depends on itself.
    let settled = (calculated.len() + 2).min(MAX_ROUNDS);
    let last = settled + calculated.len().min(MAX_ROUNDS);
    let mut unsettled = BTreeSet::new();
    for round in 0..=last {
        let (changes, told, steps) = changes(form, world, &response, launch, &edited, left);
        left = left.saturating_sub(steps);
        issues = told;
        if changes.is_empty() {
            break;
        }
        let is_last = round == last || left == 0;
        for (index, place, answers) in changes {
            if round >= settled || is_last {
                unsettled.insert(index);
            }
            let node = at_mut(&mut response, &place).and_then(Json::as_object_mut);
            match node {
                Some(node) if answers.is_empty() => drop(node.remove("answer")),
                Some(node) => replace(node, answers),
                None => {}
            }
        }
        if !is_last {
            // What stands below a new answer may be calculated, too.
            complete(form, &needed, None, &mut response, 0);
            continue;
        }
        for index in &unsettled {
            let index = *index;
            if let Some(item) = form.item(index) {
                clear(&mut response, &item.link_id, 0);
            }
            let name = form.item(index).map(|item| cut(&item.link_id)).unwrap_or_default();
            let text = format!(
                "The calculation of \"{name}\" does not settle, so it was left out; it depends on \
                 its own value."
            );
            let issue = Issue::error(IssueType::BusinessRule, text).at(form.place_of(index));
            issues.push(issue.rule(format!("{name}#calculatedExpression")));
        }
    }
    let is_needed = |link_id: &str| {
        let index = form.link_ids.get(link_id).map(|index| *index as usize);
        index.is_some_and(|index| needed.get(index) == Some(&true))
    };
    prune(&mut response, &is_needed);
    (response, issues)
}

/// The calculated items that people can edit and that have an answer.
fn answered(form: &Form, response: &Json) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![response];
    while let Some(node) = open.pop() {
        open.extend(node.list("item"));
        open.extend(node.list("answer"));
        let index = node.get("linkId").and_then(Json::as_str);
        let Some(index) = index.and_then(|link_id| form.link_ids.get(link_id)) else { continue };
        let Some(item) = form.item(*index) else { continue };
        let is_editable = !item.is_read_only && !item.is_hidden;
        if item.calculated.is_some() && is_editable && !node.list("answer").is_empty() {
            found.push(*index);
        }
    }
    found
}

/// Adds all items that are not there, without content.
pub(super) fn complete_all(form: &Form, response: &mut Json) {
    complete(form, &vec![true; form.items.len()], None, response, 0);
}

/// Adds items without content where something is to be calculated.
fn complete(form: &Form, needed: &[bool], of: Option<u32>, node: &mut Json, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    let is_question = of.and_then(|of| form.item(of)).is_some_and(|item| item.kind.is_question());
    if is_question {
        if let Some(Json::Array(answers)) = node.get_mut("answer") {
            for answer in answers {
                complete_items(form, needed, of, answer, depth);
            }
        }
        return;
    }
    complete_items(form, needed, of, node, depth);
}

fn complete_items(form: &Form, needed: &[bool], of: Option<u32>, node: &mut Json, depth: usize) {
    let wanted = form.children(of).any(|(index, _)| needed.get(index as usize) == Some(&true));
    if !wanted {
        return;
    }
    let taken = match node.get_mut("item") {
        Some(Json::Array(items)) => std::mem::take(items),
        _ => Vec::new(),
    };
    // Items with linkIds that the form does not have stay at the end.
    let mut own: HashMap<u32, Vec<Json>> = HashMap::new();
    let mut strays = Vec::new();
    for item in taken {
        let link_id = item.get("linkId").and_then(Json::as_str);
        match link_id.and_then(|link_id| form.link_ids.get(link_id)) {
            Some(index) => own.entry(*index).or_default().push(item),
            None => strays.push(item),
        }
    }
    let mut items = Vec::new();
    for (index, item) in form.children(of) {
        let is_needed = needed.get(index as usize) == Some(&true);
        let mut nodes = own.remove(&index).unwrap_or_default();
        if nodes.is_empty() && is_needed {
            let mut made = Object::new();
            made.set("linkId", item.link_id.as_ref());
            if let Some(text) = item.texts.first() {
                made.set("text", text.as_ref());
            }
            nodes.push(Json::Object(made));
        }
        for mut node in nodes {
            if is_needed {
                complete(form, needed, Some(index), &mut node, depth + 1);
            }
            items.push(node);
        }
    }
    let mut misplaced: Vec<(u32, Vec<Json>)> = own.into_iter().collect();
    misplaced.sort_by_key(|(index, _)| *index);
    items.extend(misplaced.into_iter().flat_map(|(_, nodes)| nodes));
    items.extend(strays);
    if !items.is_empty() {
        node.set("item", items);
    }
}

type Change = (u32, Place, Vec<Json>);

/// The calculated items whose answers are others than they should be; what could not be
/// calculated; the steps that were taken.
fn changes(
    form: &Form,
    world: &World<'_>,
    response: &Json,
    launch: &[(&str, &Json)],
    edited: &[u32],
    steps: u64,
) -> (Vec<Change>, Vec<Issue>, u64) {
    let check = Check {
        form,
        world,
        response,
        launch,
        is_strict: false,
        issues: Vec::new(),
        is_full: false,
        count: 0,
        tally: Tally::new(steps),
        steps: Cell::new(0),
        chain: Cell::new(0),
        known: RefCell::new(HashMap::new()),
        undecided: RefCell::new(Vec::new()),
    };
    let mut round = Round { check: &check, edited, changes: Vec::new(), issues: Vec::new() };
    round.items(&Frame::root(response), &mut Vec::new(), 0);
    let (changes, issues) = (round.changes, round.issues);
    (changes, issues, check.tally.steps())
}

/// One round.
struct Round<'r, 'a> {
    check: &'r Check<'a>,
    edited: &'r [u32],
    changes: Vec<Change>,
    issues: Vec<Issue>,
}

impl<'a> Round<'_, 'a> {
    fn items(&mut self, frame: &Frame<'_, 'a>, place: &mut Place, depth: usize) {
        if depth > 2 * MAX_DEPTH {
            return;
        }
        for (position, node) in frame.node.list("item").iter().enumerate() {
            let link_id = node.get("linkId").and_then(Json::as_str);
            let found = link_id.and_then(|link_id| self.check.form.link_ids.get(link_id));
            let Some((index, item)) =
                found.and_then(|index| Some((*index, self.check.form.item(*index)?)))
            else {
                continue;
            };
            if item.parent != frame.item {
                continue;
            }
            let child = frame.item(index, node, position);
            let enabled = self.check.enabled(frame, index, Some(node));
            place.push((false, position));
            if item.calculated.is_some() {
                self.calculate(&child, index, item, enabled, place);
            }
            if enabled == Enabled::Yes {
                match item.kind {
                    ItemType::Group => self.items(&child, place, depth + 1),
                    _ => {
                        for (position, json) in node.list("answer").iter().enumerate() {
                            place.push((true, position));
                            self.items(&child.answer(json, position), place, depth + 1);
                            place.pop();
                        }
                    }
                }
            }
            place.pop();
        }
    }

    fn calculate(
        &mut self,
        frame: &Frame<'_, 'a>,
        index: u32,
        item: &'a Item,
        enabled: Enabled,
        place: &Place,
    ) {
        let Some(formula) = &item.calculated else { return };
        if self.edited.contains(&index) {
            return;
        }
        let (form, world) = (self.check.form, self.check.world);
        let mut answers = Vec::new();
        if enabled == Enabled::Yes {
            match self.check.evaluate(frame, index, formula) {
                Ok(values) => {
                    for value in values {
                        match conversion::answer(form, world, index, &value) {
                            Ok((of, value)) => {
                                let mut answer = Object::new();
                                answer.set(&format!("value{}", of.suffix()), value);
                                answers.push(Json::Object(answer));
                            }
                            Err(reason) => self.tell(index, item, reason),
                        }
                    }
                }
                Err(reason) => self.tell(index, item, &reason),
            }
            if answers.len() > 1 && !item.repeats {
                self.tell(index, item, "it came to several values");
                answers.clear();
            }
        }
        let value = |answer: &Json| {
            let mut members = answer.as_object()?.iter();
            members
                .find(|(name, _)| *name != "item")
                .map(|(name, one)| (name.to_owned(), one.clone()))
        };
        let present = frame.node.list("answer").iter();
        if !present.map(value).eq(answers.iter().map(value)) {
            self.changes.push((index, place.clone(), answers));
        }
    }

    fn tell(&mut self, index: u32, item: &Item, reason: &str) {
        let name = cut(&item.link_id);
        let text = format!("calculatedExpression of \"{name}\" gave no value: {}.", cut(reason));
        let issue = Issue::error(IssueType::Processing, text).at(self.check.form.place_of(index));
        let issue = issue.rule(format!("{name}#calculatedExpression"));
        if self.issues.len() < self.check.world.limits.issues && !self.issues.contains(&issue) {
            self.issues.push(issue);
        }
    }
}

/// Reads the way to the innermost item or answer from the path of an issue.
pub(super) fn place(expression: &str) -> Place {
    let mut place = Vec::new();
    for step in expression.split('.').skip(1) {
        let part = |name: &str| step.strip_prefix(name)?.strip_suffix(']')?.parse().ok();
        match (part("item["), part("answer[")) {
            (Some(index), _) => place.push((false, index)),
            (_, Some(index)) => place.push((true, index)),
            _ => break,
        }
    }
    place
}

fn at_mut<'j>(root: &'j mut Json, place: &[(bool, usize)]) -> Option<&'j mut Json> {
    let mut at = root;
    for (is_answer, index) in place {
        let Json::Array(list) = at.get_mut(if *is_answer { "answer" } else { "item" })? else {
            return None;
        };
        at = list.get_mut(*index)?;
    }
    Some(at)
}

/// Replaces the answers to a question; what stands below them stays.
fn replace(node: &mut Object, mut answers: Vec<Json>) {
    if let Some(Json::Array(old)) = node.get_mut("answer") {
        for (old, new) in old.iter_mut().zip(&mut answers) {
            if let Some(items) = old.as_object_mut().and_then(|old| old.remove("item")) {
                new.set("item", items);
            }
        }
    }
    node.set("answer", answers);
}

/// Takes the answers of all items with a linkId out.
fn clear(node: &mut Json, link_id: &str, depth: usize) {
    if depth > 2 * MAX_DEPTH {
        return;
    }
    if node.get("linkId").and_then(Json::as_str) == Some(link_id)
        && let Some(node) = node.as_object_mut()
    {
        node.remove("answer");
    }
    for name in ["item", "answer"] {
        if let Some(Json::Array(list)) = node.get_mut(name) {
            list.iter_mut().for_each(|one| clear(one, link_id, depth + 1));
        }
    }
}

/// The linkId of the innermost item on the way to an element.
pub(super) fn link_id_at<'j>(root: &'j Json, place: &[(bool, usize)]) -> Option<&'j str> {
    let mut at = root;
    let mut found = None;
    for (is_answer, index) in place {
        at = at.list(if *is_answer { "answer" } else { "item" }).get(*index)?;
        found = at.get("linkId").and_then(Json::as_str).or(found);
    }
    found
}

/// Takes an item or an answer out.
pub(super) fn remove(root: &mut Json, place: &[(bool, usize)]) {
    let Some(((is_answer, index), above)) = place.split_last() else { return };
    let list =
        at_mut(root, above).and_then(|at| at.get_mut(if *is_answer { "answer" } else { "item" }));
    if let Some(Json::Array(list)) = list
        && *index < list.len()
    {
        list.remove(*index);
    }
}

/// Takes out those items without an answer and without items that `may_go`, and lists without
/// members.
pub(super) fn prune(node: &mut Json, may_go: &dyn Fn(&str) -> bool) {
    for name in ["item", "answer"] {
        let Some(Json::Array(list)) = node.get_mut(name) else { continue };
        list.iter_mut().for_each(|one| prune(one, may_go));
        list.retain(|one| {
            let has = |name: &str| one.get(name).is_some();
            let link_id = one.get("linkId").and_then(Json::as_str).unwrap_or_default();
            match name {
                "item" => has("answer") || has("item") || !may_go(link_id),
                _ => one.as_object().is_some_and(|one| !one.is_empty()),
            }
        });
        if list.is_empty()
            && let Some(node) = node.as_object_mut()
        {
            node.remove(name);
        }
    }
}
