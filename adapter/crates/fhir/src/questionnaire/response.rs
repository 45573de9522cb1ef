//! The check of a response: <https://hl7.org/fhir/R4/questionnaireresponse.html#notes>.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::constraint::Constraint;
use super::enable_when::Enable;
use super::item::{Item, ItemType};
use super::link_id;
use super::scope::{Check, Enabled, Frame, Undecided};
use super::value::{choice, cut};
use super::{Form, MAX_ITEMS, extension};
use crate::datetime::DateTime;
use crate::path::Tally;
use crate::validate::{World, nearest};
use crate::{Issue, IssueType, Json, Severity};

pub(super) fn check(
    form: &Form,
    world: &World<'_>,
    response: &Json,
    launch: &[(&str, &Json)],
    used: &Cell<u64>,
) -> Vec<Issue> {
    let status = response.str_at(&["status"]).unwrap_or_default();
    if status == "entered-in-error" {
        return Vec::new();
    }
    let mut check = Check {
        form,
        world,
        response,
        launch,
        is_strict: matches!(status, "completed" | "amended"),
        issues: Vec::new(),
        is_full: false,
        count: 0,
        tally: Tally::new(world.limits.steps),
        steps: Cell::new(0),
        chain: Cell::new(0),
        known: RefCell::new(HashMap::new()),
        undecided: RefCell::new(Vec::new()),
    };
    let root = Frame::root(response);
    check.root(&root);
    check.items(&root, Enabled::Yes);
    check.constraints(&root, u32::MAX, &form.constraints);
    check.told(&root);
    let steps = check.tally.steps().saturating_add(check.steps.get());
    used.set(used.get().saturating_add(steps).saturating_add(check.count as u64));
    check.issues
}

use Severity::{Error, Information, Warning};

impl<'a> Check<'a> {
    /// Tells of something at an element; `tail` is the rest of its path.
    #[expect(clippy::too_many_arguments, reason = "each is a part of the issue")]
    pub(super) fn tell(
        &mut self,
        severity: Severity,
        code: IssueType,
        frame: &Frame<'_, 'a>,
        tail: &str,
        index: u32,
        rule: &str,
        text: String,
    ) {
        if self.issues.len() >= self.world.limits.issues {
            if !std::mem::replace(&mut self.is_full, true) {
                let text = "There are more issues; the rest is left out.";
                self.issues.push(Issue::error(IssueType::TooCostly, text));
            }
            return;
        }
        let owner = self.form.item(index).map_or("Questionnaire", |item| &item.link_id);
        let issue = Issue::error(code, text).severity(severity).at(format!("{frame}{tail}"));
        self.issues.push(issue.rule(format!("{}#{rule}", cut(owner))));
    }

    /// What is asked of the response as a whole.
    fn root(&mut self, root: &Frame<'_, 'a>) {
        const NONE: u32 = u32::MAX;
        let (form, response) = (self.form, self.response);
        let canonical = response.str_at(&["questionnaire"]).unwrap_or_default();
        let (url, version) = canonical.split_once('|').unwrap_or((canonical, ""));
        let is_other = form.url.as_deref().is_some_and(|own| own != url) && !url.starts_with('#');
        let is_older = !version.is_empty() && form.version.as_deref().is_some_and(|v| v != version);
        if is_other || is_older {
            let own = form.url.as_deref().unwrap_or_default();
            let version = form.version.as_deref().map(|v| format!("|{v}")).unwrap_or_default();
            let text = format!(
                "The answers were held against {}, which is not the questionnaire that is named.",
                cut(&format!("{own}{version}"))
            );
            let code = IssueType::BusinessRule;
            self.tell(Warning, code, root, ".questionnaire", NONE, "questionnaire", text);
        }
        if !form.subject_types.is_empty()
            && let Some(kind) = response.get("subject").and_then(|s| target_type(s, response))
            && !form.subject_types.iter().any(|own| own.as_ref() == kind)
        {
            let text = format!(
                "The subject of a response is a {}, not a {}.",
                form.subject_types.join(" or "),
                cut(kind)
            );
            self.tell(Error, IssueType::BusinessRule, root, ".subject", NONE, "subjectType", text);
        }
        let authored = response.str_at(&["authored"]).and_then(DateTime::parse);
        if let Some((first, last)) = authored.map(|moment| moment.bounds()) {
            let is_early = form.effective.0.is_some_and(|start| last < start);
            let is_late = form.effective.1.is_some_and(|end| first > end);
            if is_early || is_late {
                let text = "The response was authored outside the effectivePeriod of the \
                            Questionnaire.";
                let (code, text) = (IssueType::BusinessRule, text.to_owned());
                self.tell(Warning, code, root, ".authored", NONE, "effectivePeriod", text);
            }
        }
        if form.is_signed && self.is_strict && !is_signed(response) {
            let text = "A complete response to this Questionnaire is signed; add the extension \
                        questionnaireresponse-signature.";
            let (code, text) = (IssueType::Required, text.to_owned());
            self.tell(Error, code, root, "", NONE, "signatureRequired", text);
        }
        if form.is_sequential && response.str_at(&["status"]) == Some("amended") {
            let text = "The questions of this Questionnaire are asked one after the other; its \
                        responses are not amended.";
            let (code, text) = (IssueType::BusinessRule, text.to_owned());
            self.tell(Error, code, root, ".status", NONE, "entryMode", text);
        }
        if form.is_modular {
            let text = "The Questionnaire is modular and was not assembled; items of its parts \
                        were not checked.";
            let (code, text) = (IssueType::NotSupported, text.to_owned());
            self.tell(Information, code, root, "", NONE, "subQuestionnaire", text);
        }
    }

    /// What could not be decided.
    fn told(&mut self, root: &Frame<'_, 'a>) {
        for undecided in self.undecided.take() {
            let Undecided { item, rule, at, reason } = undecided;
            let link_id = self.form.item(item).map_or("the Questionnaire", |item| &item.link_id);
            let text =
                format!("{rule} of \"{}\" could not be decided: {}.", cut(link_id), cut(&reason));
            let severity = if rule == "enableWhenExpression" { Warning } else { Information };
            self.tell(severity, IssueType::NotSupported, root, &at, item, rule, text);
        }
        if self.is_exhausted() {
            let text = "The conditions of the Questionnaire take too many steps; some were not \
                        decided.";
            let (code, text) = (IssueType::TooCostly, text.to_owned());
            self.tell(Error, code, root, "", u32::MAX, "enableWhen", text);
        }
    }

    /// The items of a response, a group or an answer.
    pub(super) fn items(&mut self, frame: &Frame<'_, 'a>, enabled: Enabled) {
        let form = self.form;
        let list = frame.node.list("item");
        let (first, end) = form.range(frame.item);
        // Where a walk in the order of the form stands, and whether the response left that order.
        let mut cursor = first;
        let mut last: Option<(u32, i64)> = None;
        let mut is_regular = true;
        for (index, node) in list.iter().enumerate() {
            self.count += 1;
            if self.count > MAX_ITEMS {
                if self.count == MAX_ITEMS + 1 {
                    let text = format!("A response has at most {MAX_ITEMS} items.");
                    let code = IssueType::TooCostly;
                    self.tell(Error, code, frame, "", u32::MAX, "number", text);
                }
                return;
            }
            let Some(link_id) = node.get("linkId").and_then(Json::as_str) else {
                is_regular = false;
                continue;
            };
            let Some(found) = self.find(frame, cursor, end, link_id) else {
                is_regular = false;
                self.stray(frame, index, link_id);
                continue;
            };
            let Some(item) = form.item(found) else { continue };
            let child = frame.item(found, node, index);
            let times = match last {
                Some((same, times)) if same == found => times + 1,
                _ => 1,
            };
            last = Some((found, times));
            if found < cursor {
                is_regular = false;
                let text = format!(
                    "Item \"{}\" comes too late; keep the order of the Questionnaire, and \
                     repetitions together.",
                    cut(link_id)
                );
                self.tell(Error, IssueType::Structure, &child, "", found, "order", text);
            }
            cursor = cursor.max(found);
            self.times(&child, found, item, times);
            self.item(&child, found, item, enabled);
        }
        if self.is_strict && enabled == Enabled::Yes && first < end {
            self.absent(frame, list, is_regular);
        }
    }

    /// The item below `frame` with a linkId, looked for first where it would stand.
    fn find(&self, frame: &Frame<'_, 'a>, cursor: u32, end: u32, link_id: &str) -> Option<u32> {
        let here = self.form.item(cursor).filter(|_| cursor < end)?;
        if here.link_id.as_ref() == link_id {
            return Some(cursor);
        }
        let next = self.form.item(here.end).filter(|_| here.end < end);
        if next.is_some_and(|item| item.link_id.as_ref() == link_id) {
            return Some(here.end);
        }
        let found = *self.form.link_ids.get(link_id)?;
        (self.form.item(found)?.parent == frame.item).then_some(found)
    }

    /// An item whose linkId is not among those below its parent.
    fn stray(&mut self, frame: &Frame<'_, 'a>, index: usize, link_id: &str) {
        let form = self.form;
        let name = link_id::shown(link_id);
        let tail = format!(".item[{index}]");
        let severity = if form.is_modular { Warning } else { Error };
        let Some(known) = form.link_ids.get(link_id) else {
            let known = form.items.iter().map(|item| item.link_id.as_ref());
            let near = match self.issues.len() < 20 {
                true => nearest(link_id, known),
                false => None,
            };
            let text = match near {
                Some(near) => {
                    format!("The Questionnaire has no item \"{name}\"; is \"{}\" meant?", cut(near))
                }
                None => format!("The Questionnaire has no item \"{name}\"."),
            };
            let (code, tail) = (IssueType::NotFound, format!("{tail}.linkId"));
            return self.tell(severity, code, frame, &tail, u32::MAX, "linkId", text);
        };
        let parent = form.item(*known).and_then(|item| form.item(item.parent?));
        let place = match parent {
            None => "stands in QuestionnaireResponse.item".to_owned(),
            Some(item) if item.kind.is_question() => {
                format!("stands in answer.item of \"{}\"", cut(&item.link_id))
            }
            Some(item) => format!("stands in item of \"{}\"", cut(&item.link_id)),
        };
        let text = format!("Item \"{name}\" {place}, not here.");
        self.tell(Error, IssueType::Structure, frame, &tail, *known, "linkId", text);
    }

    /// How often an item is there already.
    fn times(&mut self, child: &Frame<'_, 'a>, index: u32, item: &Item, times: i64) {
        if times > 1 && item.kind.is_question() {
            let text = format!(
                "Question \"{}\" is one item; give all its answers there.",
                cut(&item.link_id)
            );
            self.tell(Error, IssueType::Structure, child, "", index, "repeats", text);
        } else if times > 1 && !item.repeats {
            let text = format!("Item \"{}\" occurs once.", cut(&item.link_id));
            self.tell(Error, IssueType::Structure, child, "", index, "repeats", text);
        } else if let Some(max) = item.rules.max_occurs
            && times == max.saturating_add(1)
            && !item.kind.is_question()
        {
            let text = format!("Group \"{}\" occurs at most {max} times.", cut(&item.link_id));
            self.tell(Error, IssueType::Structure, child, "", index, "maxOccurs", text);
        }
    }

    /// What has to be below an element and is not. The list is walked beside the form, unless it
    /// left the form's order.
    fn absent(&mut self, frame: &Frame<'_, 'a>, list: &'a [Json], is_regular: bool) {
        let form = self.form;
        let mut rest = list;
        for (index, item) in form.children(frame.item) {
            let is_own = |node: &&Json| {
                node.get("linkId").and_then(Json::as_str) == Some(item.link_id.as_ref())
            };
            let may_matter = item.is_required || item.required.is_some();
            let of_item = match is_regular {
                true => {
                    let count = rest.iter().take_while(is_own).count();
                    let (own, others) = rest.split_at(count);
                    rest = others;
                    own
                }
                false if !may_matter => continue,
                false => list,
            };
            let is_group = item.kind == ItemType::Group;
            if !may_matter && (of_item.is_empty() || item.rules.min_occurs.is_none()) {
                continue;
            }
            let count = of_item.iter().filter(is_own).count();
            let is_there = match is_group {
                true => of_item.iter().filter(is_own).any(|node| has_answer(node, 0)),
                false => count > 0,
            };
            let min = item.rules.min_occurs.filter(|min| is_group && *min > 1);
            let is_few = min.is_some_and(|min| i64::try_from(count).unwrap_or(i64::MAX) < min);
            if is_there && !is_few {
                continue;
            }
            let node = of_item.iter().find(is_own);
            if self.enabled(frame, index, node) != Enabled::Yes
                || !(is_there || self.is_required(frame, index, item))
            {
                continue;
            }
            let name = cut(&item.link_id);
            let text = match (is_group, min) {
                (true, Some(min)) if is_there => {
                    format!("Group \"{name}\" occurs at least {min} times.")
                }
                (true, _) => format!("Group \"{name}\" is required; answer one of its questions."),
                (false, _) => format!("Question \"{name}\" is required; add an item for it."),
            };
            let rule = if is_there { "minOccurs" } else { "required" };
            self.missing(frame, index, item, rule, text);
        }
    }

    /// Something that is required is not there; what people cannot see cannot be asked of them.
    pub(super) fn missing(
        &mut self,
        frame: &Frame<'_, 'a>,
        index: u32,
        item: &Item,
        rule: &str,
        text: String,
    ) {
        let severity = if item.is_hidden { Warning } else { Error };
        self.tell(severity, IssueType::Required, frame, "", index, rule, text);
    }

    pub(super) fn is_required(&self, frame: &Frame<'_, 'a>, index: u32, item: &Item) -> bool {
        let Some(formula) = &item.required else { return item.is_required };
        match self.evaluate(frame, index, formula) {
            Ok(values) => matches!(values.as_slice(), [Json::Bool(true)]),
            Err(reason) => {
                self.note(frame, index, "required", reason);
                false
            }
        }
    }

    /// One item of the response.
    fn item(&mut self, frame: &Frame<'_, 'a>, index: u32, item: &'a Item, above: Enabled) {
        let node = frame.node;
        let mut enabled = above;
        if above != Enabled::No
            && let Some(parent) = frame.parent
        {
            enabled = match self.enabled(parent, index, Some(node)) {
                Enabled::Yes => above,
                other => other,
            };
            if enabled == Enabled::No && self.is_strict && has_answer(node, 0) {
                let text = format!(
                    "Item \"{}\" is not enabled by the other answers, so it has none itself; take \
                     its answers out.",
                    cut(&item.link_id)
                );
                let rule = match item.enable {
                    Enable::Expression(_) => "enableWhenExpression",
                    _ => "enableWhen",
                };
                self.tell(Error, IssueType::BusinessRule, frame, "", index, rule, text);
            }
        }
        self.labels(frame, index, item);
        match item.kind {
            ItemType::Group => {
                if node.get("answer").is_some() {
                    let text = format!(
                        "Item \"{}\" is a group; its questions have the answers.",
                        cut(&item.link_id)
                    );
                    self.tell(Error, IssueType::Structure, frame, "", index, "type", text);
                }
                self.items(frame, enabled);
            }
            ItemType::Display => {
                if node.get("answer").is_some() || node.get("item").is_some() {
                    let text = format!(
                        "Item \"{}\" is only displayed; it has no answers and no items.",
                        cut(&item.link_id)
                    );
                    self.tell(Error, IssueType::Structure, frame, "", index, "type", text);
                }
            }
            _ => self.question(frame, index, item, enabled),
        }
        if enabled == Enabled::Yes {
            self.constraints(frame, index, &item.constraints);
            if item.rules.is_signed && self.is_strict && !is_signed(node) {
                let text =
                    format!("Item \"{}\" is signed when it is complete.", cut(&item.link_id));
                let code = IssueType::Required;
                self.tell(Error, code, frame, "", index, "signatureRequired", text);
            }
        }
    }

    /// The text and definition that an item repeats.
    fn labels(&mut self, frame: &Frame<'_, 'a>, index: u32, item: &Item) {
        let text = |name: &str| frame.node.get(name).and_then(Json::as_str);
        if let Some(given) = text("text")
            && !item.texts.is_empty()
            && !self.form.has_other_wording
            && !item.texts.iter().any(|own| own.trim() == given.trim())
        {
            let text = format!(
                "The text of \"{}\" is the one of the Questionnaire, or is left out.",
                cut(&item.link_id)
            );
            self.tell(Warning, IssueType::BusinessRule, frame, ".text", index, "text", text);
        }
        if let (Some(given), Some(own)) = (text("definition"), &item.definition)
            && given != own.as_ref()
        {
            let text = format!("The definition of \"{}\" is {}.", cut(&item.link_id), cut(own));
            let code = IssueType::BusinessRule;
            self.tell(Warning, code, frame, ".definition", index, "definition", text);
        }
    }

    /// The constraints of the Questionnaire or of an item; those of a draft only warn.
    fn constraints(&mut self, frame: &Frame<'_, 'a>, index: u32, constraints: &[Constraint]) {
        for constraint in constraints {
            match self.evaluate(frame, index, &constraint.formula) {
                Ok(values) if !matches!(values.as_slice(), [Json::Bool(false)]) => {}
                Ok(_) => {
                    let is_error = constraint.is_error && self.is_strict;
                    let severity = if is_error { Error } else { Warning };
                    let tail = constraint.location.as_ref().map(|path| format!(".{path}"));
                    let tail = tail.unwrap_or_default();
                    let text = format!("{} ({})", constraint.human, cut(&constraint.key));
                    let code = IssueType::Invariant;
                    self.tell(severity, code, frame, &tail, index, &constraint.key, text);
                }
                Err(reason) => {
                    let reason = format!("constraint {}: {reason}", cut(&constraint.key));
                    self.note(frame, index, "targetConstraint", reason);
                }
            }
        }
    }
}

/// Whether there is an answer with a value at or below an item.
fn has_answer(node: &Json, depth: usize) -> bool {
    depth <= super::MAX_DEPTH * 2
        && (node
            .list("answer")
            .iter()
            .any(|answer| choice(answer, "value").is_some() || has_answer(answer, depth + 1))
            || node.list("item").iter().any(|item| has_answer(item, depth + 1)))
}

fn is_signed(element: &Json) -> bool {
    element.list("extension").iter().any(|other| {
        matches!(extension::term(other), Some("questionnaireresponse-signature" | "signature"))
    })
}

/// The type of what a reference means, if its text or the contained resources tell.
pub(super) fn target_type<'a>(reference: &'a Json, response: &'a Json) -> Option<&'a str> {
    let is_name = |part: &&str| part.starts_with(|c: char| c.is_ascii_uppercase());
    if let Some(text) = reference.get("reference").and_then(Json::as_str) {
        if let Some(id) = text.strip_prefix('#') {
            let mut contained = response.list("contained").iter();
            let target = contained.find(|other| other.str_at(&["id"]) == Some(id));
            return target?.str_at(&["resourceType"]);
        }
        let path = text.split("/_history/").next().unwrap_or_default();
        let mut parts = path.rsplit('/').skip(1);
        let is_known = !text.starts_with("urn:");
        if let Some(kind) = parts.next().filter(is_name).filter(|_| is_known) {
            return Some(kind);
        }
    }
    reference.str_at(&["type"])
}
