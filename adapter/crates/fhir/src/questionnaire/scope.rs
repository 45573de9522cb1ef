//! Where an item of a response stands, which items are enabled there, and what expressions say:
//! <https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.enableWhen.question>.
//!
//! A condition looks at the nearest occurrence of its question: an item above, else one within the
//! innermost element around both, before the item rather than after it. Another repetition of a
//! group never answers for this one. The answers of an item that is disabled do not count.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;

use super::Form;
use super::enable_when::{Condition, Enable};
use super::environment::Surroundings;
use super::expression::{Bound, Formula, MAX_VARIABLES, Setting, UNKNOWN, Variable};
use crate::path::{Tally, Value};
use crate::validate::World;
use crate::{Issue, Json};

/// Most steps that conditions may take to find their questions, in one check.
const MAX_STEPS: u64 = 2_000_000;
/// Most things that are told as undecided.
const MAX_UNDECIDED: usize = 100;
/// Longest chain of items that enable each other.
const MAX_CHAIN: u32 = 60;

/// A response, an item or an answer, and what stands above it.
#[derive(Clone, Copy)]
pub(super) struct Frame<'f, 'a> {
    pub parent: Option<&'f Frame<'f, 'a>>,
    /// The item that it is of; none for the response.
    pub item: Option<u32>,
    pub node: &'a Json,
    /// Its place among its siblings.
    pub index: usize,
    pub is_answer: bool,
}

impl<'f, 'a> Frame<'f, 'a> {
    pub fn root(node: &'a Json) -> Frame<'f, 'a> {
        Frame { parent: None, item: None, node, index: 0, is_answer: false }
    }

    pub fn item(&'f self, item: u32, node: &'a Json, index: usize) -> Frame<'f, 'a> {
        Frame { parent: Some(self), item: Some(item), node, index, is_answer: false }
    }

    pub fn answer(&'f self, node: &'a Json, index: usize) -> Frame<'f, 'a> {
        Frame { parent: Some(self), item: self.item, node, index, is_answer: true }
    }
}

/// The path of the element.
impl fmt::Display for Frame<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parent {
            None => f.write_str("QuestionnaireResponse"),
            Some(parent) => {
                let name = if self.is_answer { "answer" } else { "item" };
                write!(f, "{parent}.{name}[{}]", self.index)
            }
        }
    }
}

/// Whether an item is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enabled {
    Yes,
    No,
    /// An expression cannot be decided here.
    Unknown,
}

/// One check of a response.
pub(super) struct Check<'a> {
    pub form: &'a Form,
    pub world: &'a World<'a>,
    pub response: &'a Json,
    pub launch: &'a [(&'a str, &'a Json)],
    /// Whether the response is complete.
    pub is_strict: bool,
    pub issues: Vec<Issue>,
    pub is_full: bool,
    /// Items of the response that were looked at.
    pub count: usize,
    /// Steps of expressions.
    pub tally: Tally,
    /// Steps on the way to the questions of conditions.
    pub steps: Cell<u64>,
    pub chain: Cell<u32>,
    /// What is known already, by item and element.
    pub known: RefCell<HashMap<(u32, *const Json), Enabled>>,
    /// What cannot be decided, and why.
    pub undecided: RefCell<Vec<Undecided>>,
}

/// A rule that cannot be decided.
pub(super) struct Undecided {
    pub item: u32,
    pub rule: &'static str,
    /// The path of the element, after the response's own.
    pub at: String,
    pub reason: String,
}

impl<'a> Check<'a> {
    /// Whether an item is enabled below an element that is; `node` is the item if it is there.
    pub fn enabled(&self, parent: &Frame<'_, 'a>, index: u32, node: Option<&'a Json>) -> Enabled {
        let Some(item) = self.form.item(index) else { return Enabled::Yes };
        if matches!(item.enable, Enable::Always) {
            return Enabled::Yes;
        }
        if !self.form.is_chained {
            return self.decide(parent, index, node);
        }
        let key = (index, std::ptr::from_ref(node.unwrap_or(parent.node)));
        if let Some(known) = self.known.borrow().get(&key) {
            return *known;
        }
        let depth = self.chain.get();
        if depth >= MAX_CHAIN {
            return Enabled::Unknown;
        }
        // An item that depends on itself by way of others counts as enabled for them.
        self.known.borrow_mut().insert(key, Enabled::Yes);
        self.chain.set(depth + 1);
        let enabled = self.decide(parent, index, node);
        self.chain.set(depth);
        self.known.borrow_mut().insert(key, enabled);
        enabled
    }

    fn decide(&self, parent: &Frame<'_, 'a>, index: u32, node: Option<&'a Json>) -> Enabled {
        let Some(item) = self.form.item(index) else { return Enabled::Yes };
        match &item.enable {
            Enable::Always => Enabled::Yes,
            Enable::When { any, conditions } => {
                let mut outcome = if *any { Enabled::No } else { Enabled::Yes };
                for condition in conditions {
                    match self.holds(parent, index, condition) {
                        Some(holds) if holds == *any => {
                            return if *any { Enabled::Yes } else { Enabled::No };
                        }
                        Some(_) => {}
                        None => outcome = Enabled::Unknown,
                    }
                }
                outcome
            }
            Enable::Expression(formula) => {
                let frame = node.map(|node| parent.item(index, node, 0));
                match self.evaluate(frame.as_ref().unwrap_or(parent), index, formula) {
                    Ok(values) => match values.as_slice() {
                        [] | [Json::Bool(false)] => Enabled::No,
                        _ => Enabled::Yes,
                    },
                    Err(reason) => {
                        self.note(parent, index, "enableWhenExpression", reason);
                        Enabled::Unknown
                    }
                }
            }
        }
    }

    /// Notes that a rule of an item cannot be decided; once for each reason.
    pub fn note(&self, frame: &Frame<'_, 'a>, item: u32, rule: &'static str, reason: String) {
        let mut undecided = self.undecided.borrow_mut();
        let is_known =
            |known: &Undecided| known.item == item && known.rule == rule && known.reason == reason;
        if undecided.len() < MAX_UNDECIDED && !undecided.iter().any(is_known) {
            let at = frame.to_string();
            let at = at.strip_prefix("QuestionnaireResponse").unwrap_or_default().to_owned();
            undecided.push(Undecided { item, rule, at, reason });
        }
    }

    /// Whether a condition of the item `index`, which stands below `parent`, holds; `None` when it
    /// cannot be told.
    fn holds(&self, parent: &Frame<'_, 'a>, index: u32, condition: &Condition) -> Option<bool> {
        let Some(question) = condition.question else { return Some(condition.holds(&[])) };
        let mut at = Some(parent);
        while let Some(frame) = at {
            if frame.item == Some(question) {
                return Some(condition.holds(answers(frame)));
            }
            if self.form.is_below(question, frame.item) {
                let is_before = question < index;
                let found = self.seek(frame, frame, question, is_before, condition);
                return found.unwrap_or_else(|| Some(condition.holds(&[])));
            }
            at = frame.parent;
        }
        Some(condition.holds(&[]))
    }

    /// Looks for the nearest occurrence of a question below `frame`: the last one of those before
    /// the item, the first one of those after it. What the condition says of it; `None` when there
    /// is none.
    fn seek(
        &self,
        around: &Frame<'_, 'a>,
        frame: &Frame<'_, 'a>,
        question: u32,
        is_before: bool,
        condition: &Condition,
    ) -> Option<Option<bool>> {
        let next = self.on_the_way(frame.item, question)?;
        let link_id = &self.form.item(next)?.link_id;
        let items = frame.node.list("item");
        for step in 0..items.len() {
            let index = if is_before { items.len() - 1 - step } else { step };
            let node = items.get(index)?;
            if self.step() {
                return Some(None);
            }
            if node.get("linkId").and_then(Json::as_str) != Some(link_id) {
                continue;
            }
            let item = frame.item(next, node, index);
            if next == question {
                return Some(match self.is_active(around, &item) {
                    Enabled::Yes => Some(condition.holds(answers(&item))),
                    Enabled::No => Some(condition.holds(&[])),
                    Enabled::Unknown => None,
                });
            }
            let found = match self.form.item(next)?.kind.is_question() {
                true => {
                    let all = node.list("answer");
                    (0..all.len()).find_map(|step| {
                        let index = if is_before { all.len() - 1 - step } else { step };
                        let answer = item.answer(all.get(index)?, index);
                        self.seek(around, &answer, question, is_before, condition)
                    })
                }
                false => self.seek(around, &item, question, is_before, condition),
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The child of `above` that is the item `index` or above it.
    fn on_the_way(&self, above: Option<u32>, index: u32) -> Option<u32> {
        let mut at = index;
        loop {
            let parent = self.form.item(at)?.parent;
            if parent == above {
                return Some(at);
            }
            at = parent?;
        }
    }

    /// Whether an item and those above it, up to `around`, are enabled.
    fn is_active(&self, around: &Frame<'_, 'a>, item: &Frame<'_, 'a>) -> Enabled {
        if !self.form.is_chained {
            return Enabled::Yes;
        }
        let mut at = *item;
        let mut outcome = Enabled::Yes;
        while let (Some(parent), Some(index)) = (at.parent, at.item) {
            if std::ptr::eq(at.node, around.node) {
                break;
            }
            if !at.is_answer {
                match self.enabled(parent, index, Some(at.node)) {
                    Enabled::No => return Enabled::No,
                    Enabled::Unknown => outcome = Enabled::Unknown,
                    Enabled::Yes => {}
                }
            }
            at = *parent;
        }
        outcome
    }

    /// Counts a step; whether there were too many.
    fn step(&self) -> bool {
        self.steps.set(self.steps.get() + 1);
        self.steps.get() > MAX_STEPS
    }

    pub fn is_exhausted(&self) -> bool {
        self.steps.get() > MAX_STEPS || self.tally.count(0).is_err()
    }

    /// The values of an expression that stands at an item (or at the root) and is evaluated on
    /// `frame`.
    ///
    /// # Errors
    /// Why it cannot be decided.
    pub fn evaluate(
        &self,
        frame: &Frame<'_, 'a>,
        index: u32,
        formula: &Formula,
    ) -> Result<Vec<Json>, String> {
        let expression = formula.expression.as_ref().map_err(Clone::clone)?;
        let focus = [self.typed(frame)];
        let mut pending: Vec<(&Variable, Value<'_>)> = Vec::new();
        let mut bound: Vec<Bound<'_>> = Vec::new();
        if formula.uses_variables {
            self.variables(frame, &mut pending);
            bound.push(("questionnaire", vec![Value::node(&self.form.source)]));
            if let Some(json) = self.form.source_of(index as usize) {
                let value = Value::typed(self.world.definitions, json, "Questionnaire.item");
                bound.push(("qitem", vec![value]));
            }
            let launch = self.launch.iter();
            bound.extend(launch.map(|(name, json)| (*name, vec![Value::node(json)])));
        }
        let setting = Setting {
            surroundings: &Surroundings { world: self.world },
            response: self.response,
            now: self.response.str_at(&["authored"]).filter(|text| text.contains('T')),
            tally: &self.tally,
            bound: &bound,
        };
        let values = setting.with_variables(&pending, expression, &focus);
        match self.tally.take_undecided() {
            true => Err(UNKNOWN.to_owned()),
            false => values.map_err(|error| error.to_string()),
        }
    }

    /// The variables that an element sees, the outermost first.
    fn variables<'s>(&'s self, frame: &Frame<'_, 'a>, found: &mut Vec<(&'s Variable, Value<'s>)>)
    where
        'a: 's,
    {
        if let Some(parent) = frame.parent {
            self.variables(parent, found);
        }
        if frame.is_answer {
            return;
        }
        let own = match frame.item {
            None => &self.form.variables,
            Some(index) => match self.form.item(index) {
                Some(item) => &item.variables,
                None => return,
            },
        };
        let room = MAX_VARIABLES.saturating_sub(found.len());
        found.extend(own.iter().take(room).map(|variable| (variable, self.typed(frame))));
    }

    fn typed<'s>(&'s self, frame: &Frame<'_, 'a>) -> Value<'s>
    where
        'a: 's,
    {
        let of = match (frame.item, frame.is_answer) {
            (None, _) => return Value::node(frame.node),
            (Some(_), false) => "QuestionnaireResponse.item",
            (Some(_), true) => "QuestionnaireResponse.item.answer",
        };
        Value::typed(self.world.definitions, frame.node, of)
    }
}

/// The answers that a frame stands for.
fn answers<'a>(frame: &Frame<'_, 'a>) -> &'a [Json] {
    match frame.is_answer {
        true => std::slice::from_ref(frame.node),
        false => frame.node.list("answer"),
    }
}
