//! The next question of an adaptive form: <https://hl7.org/fhir/uv/sdc/STU3/adaptive.html>.
//!
//! The response carries the questions that were asked so far as a contained Questionnaire; nothing
//! else is remembered. The next one is the first question of the whole form that its conditions
//! enable and that was not asked. When there is none, what is calculated is added and the response
//! is completed. Item response theory, which chooses from a bank by what it would tell most, is
//! not offered.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use super::calculated::{calculate, complete_all};
use super::item::ItemType;
use super::scope::{Check, Enabled, Frame};
use super::value::cut;
use super::{Form, MAX_DEPTH, extension};
use crate::path::Tally;
use crate::validate::World;
use crate::{Issue, IssueType, Json};

/// Whether a Questionnaire is adaptive, and by which server if it says so.
pub fn adaptive(questionnaire: &Json) -> Option<Option<&str>> {
    let value = extension::values(questionnaire, "questionnaireAdaptive").next()?;
    match value.as_bool() {
        Some(true) => Some(None),
        Some(false) => None,
        None => value.as_str().map(Some),
    }
}

/// The contained Questionnaire of a response, with its place among the contained resources.
pub fn contained_form(response: &Json) -> Option<(usize, &Json)> {
    let id = response.str_at(&["questionnaire"])?.strip_prefix('#')?;
    let is_own = |one: &Json| {
        one.str_at(&["id"]) == Some(id) && one.str_at(&["resourceType"]) == Some("Questionnaire")
    };
    response.list("contained").iter().enumerate().find(|(_, one)| is_own(one))
}

/// The response with the next question, or completed.
///
/// # Errors
/// What is wrong with the answers so far.
pub fn next_question(form: &Form, world: &World<'_>, response: &Json) -> Result<Json, Vec<Issue>> {
    let Some((place, asked_form)) = contained_form(response) else {
        let text = "The response contains the questions that were asked so far as a Questionnaire \
                    and names it in questionnaire, as in \"#q\".";
        let issue = Issue::error(IssueType::Required, text);
        return Err(vec![issue.at("QuestionnaireResponse.questionnaire")]);
    };
    if response.str_at(&["status"]) != Some("in-progress") {
        let text = "Only a response with the status in-progress has a next question.";
        let issue = Issue::error(IssueType::BusinessRule, text);
        return Err(vec![issue.at("QuestionnaireResponse.status")]);
    }
    let wrong: Vec<Issue> =
        form.check(world, response, &[]).into_iter().filter(Issue::is_error).collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let mut asked = HashSet::new();
    link_ids(asked_form, &mut asked, 0);
    let mut whole = response.clone();
    complete_all(form, &mut whole);
    let check = Check {
        form,
        world,
        response: &whole,
        launch: &[],
        is_strict: false,
        issues: Vec::new(),
        is_full: false,
        count: 0,
        tally: Tally::new(world.limits.steps),
        steps: Cell::new(0),
        chain: Cell::new(0),
        known: RefCell::new(HashMap::new()),
        undecided: RefCell::new(Vec::new()),
    };
    let mut search = Search { check: &check, asked: &asked, open: Vec::new() };
    let next = search.next(&Frame::root(&whole), 0);
    let open = std::mem::take(&mut search.open);
    if check.is_exhausted() {
        let text = "The conditions of the Questionnaire take too many steps.";
        return Err(vec![Issue::error(IssueType::TooCostly, text)]);
    }
    if !open.is_empty() {
        return Err(open);
    }
    let mut answer = response.clone();
    let mut shown = asked_form.clone();
    match next {
        Some(index) => {
            let mut added = vec![index];
            added.extend(before(form, index, &asked));
            show(form, &mut shown, &added);
        }
        None => {
            let rest = (0u32..).zip(&form.items).filter(|(_, item)| item.kind.is_question());
            let rest = rest.filter(|(_, item)| {
                item.calculated.is_some() || item.is_hidden || item.is_read_only
            });
            let rest: Vec<u32> = rest.map(|(index, _)| index).collect();
            show(form, &mut shown, &rest);
            let (calculated, _) = calculate(form, world, response, &[]);
            answer = calculated;
            answer.set("status", "completed");
            if let Some(now) = world.now {
                answer.set("authored", now);
            }
            let wrong: Vec<Issue> =
                form.check(world, &answer, &[]).into_iter().filter(Issue::is_error).collect();
            if !wrong.is_empty() {
                return Err(wrong);
            }
        }
    }
    contain(form, &mut answer, place, shown);
    Ok(answer)
}

/// The linkIds of a Questionnaire.
fn link_ids<'a>(element: &'a Json, found: &mut HashSet<&'a str>, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    for item in element.list("item") {
        found.extend(item.str_at(&["linkId"]));
        link_ids(item, found, depth + 1);
    }
}

struct Search<'s, 'a> {
    check: &'s Check<'a>,
    asked: &'s HashSet<&'s str>,
    /// Questions that have to be answered first.
    open: Vec<Issue>,
}

impl<'a> Search<'_, 'a> {
    /// The first question that is enabled and was not asked.
    fn next(&mut self, frame: &Frame<'_, 'a>, depth: usize) -> Option<u32> {
        if depth > 2 * MAX_DEPTH {
            return None;
        }
        let form = self.check.form;
        for (position, node) in frame.node.list("item").iter().enumerate() {
            let link_id = node.get("linkId").and_then(Json::as_str);
            let index = link_id.and_then(|link_id| form.link_ids.get(link_id)).copied();
            let Some((index, item)) = index.and_then(|index| Some((index, form.item(index)?)))
            else {
                continue;
            };
            if item.parent != frame.item
                || item.kind == ItemType::Display
                || self.check.enabled(frame, index, Some(node)) == Enabled::No
            {
                continue;
            }
            let child = frame.item(index, node, position);
            if !item.kind.is_question() {
                if let Some(found) = self.next(&child, depth + 1) {
                    return Some(found);
                }
                continue;
            }
            if item.calculated.is_some() || item.is_hidden || item.is_read_only {
                continue;
            }
            if !self.asked.contains(item.link_id.as_ref()) {
                return Some(index);
            }
            let answers = node.list("answer");
            if answers.is_empty() && item.is_required {
                let text = format!(
                    "Question \"{}\" was asked and is required; answer it before the next one.",
                    cut(&item.link_id)
                );
                let issue = Issue::error(IssueType::Required, text);
                let issue = issue.at("QuestionnaireResponse.item");
                self.open.push(issue.rule(format!("{}#required", cut(&item.link_id))));
            }
            for (position, json) in answers.iter().enumerate() {
                if let Some(found) = self.next(&child.answer(json, position), depth + 1) {
                    return Some(found);
                }
            }
        }
        None
    }
}

/// What is displayed between the question before and this one.
fn before(form: &Form, index: u32, asked: &HashSet<&str>) -> Vec<u32> {
    let parent = form.item(index).and_then(|item| item.parent);
    let mut shown = Vec::new();
    for (other, item) in form.children(parent) {
        if other >= index {
            break;
        }
        match item.kind {
            ItemType::Display if !asked.contains(item.link_id.as_ref()) => shown.push(other),
            ItemType::Display => {}
            _ => shown.clear(),
        }
    }
    // What is displayed with the question itself.
    let below = form.children(Some(index)).filter(|(_, item)| item.kind == ItemType::Display);
    shown.extend(below.map(|(other, _)| other));
    shown
}

/// Adds items to the Questionnaire that is shown, with the groups around them, in the order of the
/// form.
fn show(form: &Form, shown: &mut Json, added: &[u32]) {
    let mut wanted = HashSet::new();
    for index in added {
        let mut at = Some(*index);
        while let Some(index) = at {
            wanted.insert(index);
            at = form.item(index).and_then(|item| item.parent);
        }
    }
    merge(form, None, shown, &wanted, 0);
}

fn merge(form: &Form, of: Option<u32>, shown: &mut Json, wanted: &HashSet<u32>, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    let mut present: HashMap<String, Json> = HashMap::new();
    let mut others = Vec::new();
    if let Some(Json::Array(items)) = shown.get_mut("item") {
        for item in std::mem::take(items) {
            let link_id = item.str_at(&["linkId"]).unwrap_or_default().to_owned();
            match form.link_ids.contains_key(link_id.as_str()) {
                true => drop(present.insert(link_id, item)),
                false => others.push(item),
            }
        }
    }
    let mut items = Vec::new();
    for (index, item) in form.children(of) {
        let own = present.remove(item.link_id.as_ref());
        let made = match own {
            Some(own) => Some(own),
            None if wanted.contains(&index) => bare(form, index),
            None => None,
        };
        if let Some(mut made) = made {
            if wanted.contains(&index) {
                merge(form, Some(index), &mut made, wanted, depth + 1);
            }
            items.push(made);
        }
    }
    items.append(&mut others);
    if !items.is_empty() {
        shown.set("item", items);
    }
}

/// An item without those below it and without its conditions, which were decided here.
fn bare(form: &Form, index: u32) -> Option<Json> {
    let mut item = form.source_of(index as usize)?.clone();
    let object = item.as_object_mut()?;
    for name in ["item", "enableWhen", "enableBehavior"] {
        object.remove(name);
    }
    if let Some(Json::Array(extensions)) = object.get_mut("extension") {
        extensions.retain(|one| extension::term(one) != Some("enableWhenExpression"));
    }
    if item.list("extension").is_empty()
        && let Some(object) = item.as_object_mut()
    {
        object.remove("extension");
    }
    Some(item)
}

/// Puts the Questionnaire into the response, with the value sets that the form contains.
fn contain(form: &Form, response: &mut Json, place: usize, shown: Json) {
    let mut contained = response.list("contained").to_vec();
    let id = |one: &Json| one.str_at(&["id"]).map(str::to_owned);
    for one in form.questionnaire().list("contained") {
        let is_set = one.str_at(&["resourceType"]) == Some("ValueSet");
        if is_set && !contained.iter().any(|other| id(other) == id(one)) {
            contained.push(one.clone());
        }
    }
    if let Some(own) = contained.get_mut(place) {
        *own = shown;
    }
    response.set("contained", contained);
}
