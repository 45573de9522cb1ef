//! One walk through a form that is populated:
//! <https://hl7.org/fhir/uv/sdc/STU3/populate.html#expression-based-population>.
//!
//! Variables are evaluated in the order of the form, the outermost first, each with those before
//! it.

use std::cell::{Cell, RefCell};

use super::{MAX_REPEATS, Sources};
use crate::path::{Tally, Value};
use crate::questionnaire::environment::Surroundings;
use crate::questionnaire::expression::{Bound, Formula, MAX_VARIABLES, Setting, Variable};
use crate::questionnaire::fhir_query::Query;
use crate::questionnaire::item::{Item, ItemType};
use crate::questionnaire::population::{Population, Step};
use crate::questionnaire::value::{ValueType, choice, cut};
use crate::questionnaire::{Form, MAX_ITEMS, conversion, observation};
use crate::validate::World;
use crate::{Issue, IssueType, Json, Object, Severity};

/// What is told of one walk.
#[derive(Default)]
pub(super) struct Told {
    pub issues: RefCell<Vec<Issue>>,
    pub wanted: RefCell<Vec<String>>,
    /// The searches of the root's variables, by name.
    pub named: RefCell<Vec<(String, String)>>,
    pub is_full: Cell<bool>,
}

/// One walk through a form.
pub(super) struct Walk<'w> {
    pub population: &'w Population,
    pub form: &'w Form,
    pub world: &'w World<'w>,
    pub sources: &'w Sources<'w>,
    pub surroundings: &'w Surroundings<'w>,
    pub tally: &'w Tally,
    pub response: &'w Json,
    pub told: &'w Told,
    /// Items that were made.
    pub count: Cell<usize>,
}

/// An item, or the root, that is being entered.
#[derive(Clone, Copy)]
struct At<'b> {
    index: Option<u32>,
    /// The element that expressions are evaluated on.
    place: &'b Json,
    /// Whether the variables are those for `itemPopulationContext`, which the others may use.
    is_before: bool,
}

/// Why there are no values.
enum No {
    /// A search has to be made first.
    Wanted,
    Because(String),
}

impl<'w> Walk<'w> {
    pub fn start(&self) -> Vec<Json> {
        let source = Value::node(&self.form.source);
        let mut bound: Vec<Bound<'_>> = vec![("questionnaire", vec![source])];
        for (name, all) in self.sources.context {
            bound.push((name, all.iter().map(|one| Value::node(one)).collect()));
        }
        for launch in self.population.launch() {
            if !bound.iter().any(|(name, _)| *name == launch.name.as_ref()) {
                let text =
                    format!("%{} was not given; what needs it was left out.", cut(&launch.name));
                self.tell(Severity::Warning, IssueType::Incomplete, None, "launchContext", text);
                bound.push((&launch.name, Vec::new()));
            }
        }
        let batches: Vec<(&str, Json)> = self
            .population
            .sources
            .iter()
            .filter(|batch| !bound.iter().any(|(name, _)| *name == batch.name.as_ref()))
            .map(|batch| {
                let entries = batch.queries.iter().map(|query| {
                    let values = self.query(&bound, query, &[Value::node(self.response)], None);
                    let found = match &values {
                        Ok(values) => values.first().and_then(Value::json),
                        Err(no) => {
                            self.not(no, None, "sourceQueries");
                            None
                        }
                    };
                    match found {
                        Some(found) => crate::json!({"resource": (found)}),
                        None => crate::json!({"response": {"status": "404"}}),
                    }
                });
                let entries: Vec<Json> = entries.collect();
                let bundle = crate::json!({
                    "resourceType": "Bundle", "type": "batch-response", "entry": (entries)
                });
                (batch.name.as_ref(), bundle)
            })
            .collect();
        let mut all = bound.clone();
        all.extend(batches.iter().map(|(name, bundle)| (*name, vec![Value::node(bundle)])));
        let at = At {
            index: None,
            place: self.response,
            is_before: self.population.root.context.is_some(),
        };
        self.enter(at, 0, &all)
    }

    /// The items below an element, in the order of the form.
    fn items<'b>(&'b self, of: Option<u32>, bound: &'b [Bound<'b>]) -> Vec<Json> {
        let mut made = Vec::new();
        let size: usize = bound.iter().map(|(_, values)| values.len() + 1).sum();
        for (index, item) in self.form.children(of) {
            if item.kind == ItemType::Display || self.is_full(size) {
                continue;
            }
            let place = crate::json!({"linkId": (item.link_id.as_ref())});
            let has_context = self.step(Some(index)).context.is_some();
            let at = At { index: Some(index), place: &place, is_before: has_context };
            let mut named: Vec<Bound<'_>> = Vec::with_capacity(bound.len() + 1);
            if let Some(source) = self.form.source_of(index as usize) {
                let source = Value::typed(self.world.definitions, source, "Questionnaire.item");
                named.push(("qitem", vec![source]));
            }
            named.extend(bound.iter().filter(|(name, _)| *name != "qitem").cloned());
            made.extend(self.enter(at, 0, &named));
        }
        made
    }

    /// Enters an element: its variables from the place `next` on, each with those before it, then
    /// what follows.
    fn enter<'b>(&'b self, at: At<'b>, next: usize, bound: &'b [Bound<'b>]) -> Vec<Json> {
        let variables: &[Variable] = match at.index {
            None => &self.form.variables,
            Some(index) => self.form.item(index).map_or(&[], |item| &item.variables),
        };
        let Some(variable) = variables.get(next).filter(|_| bound.len() < 4 * MAX_VARIABLES) else {
            return match at.is_before {
                true => self.contexts(at, bound),
                false => self.make(at, bound),
            };
        };
        let name = variable.name.as_ref();
        // The result of a query may have been handed in under its name.
        let is_given = || self.sources.context.iter().any(|(given, _)| given == name);
        if at.index.is_none() && variable.formula.query.is_some() && is_given() {
            return self.enter(at, next + 1, bound);
        }
        let focus = [self.typed(at)];
        let root_name = at.index.is_none().then_some(name);
        let values = self.values(bound, &variable.formula, &focus, root_name);
        let values = values.unwrap_or_else(|no| {
            if !at.is_before {
                self.not(&no, at.index, &format!("%{name}"));
            }
            Vec::new()
        });
        let mut more: Vec<Bound<'_>> = Vec::with_capacity(bound.len() + 1);
        more.push((name, values));
        more.extend_from_slice(bound);
        self.enter(at, next + 1, &more)
    }

    /// Makes an element for each of the values of its `itemPopulationContext`.
    fn contexts<'b>(&'b self, at: At<'b>, bound: &'b [Bound<'b>]) -> Vec<Json> {
        let at = At { is_before: false, ..at };
        let Some(context) = &self.step(at.index).context else { return Vec::new() };
        let item = at.index.and_then(|index| self.form.item(index));
        let rule = "itemPopulationContext";
        let values = self.values(bound, &context.formula, &[self.typed(at)], None);
        let values = values.unwrap_or_else(|no| {
            self.not(&no, at.index, rule);
            Vec::new()
        });
        let mut values: Vec<Value<'_>> = values.into_iter().flat_map(matches).collect();
        let repeats = item.is_some_and(|item| item.repeats);
        if values.len() > 1 && !repeats {
            let text = format!(
                "itemPopulationContext of \"{}\" comes to {} results where one is possible.",
                self.name(at.index),
                values.len()
            );
            self.tell(Severity::Error, IssueType::MultipleMatches, at.index, rule, text);
            if at.index.is_none() {
                return Vec::new();
            }
            values.clear();
        }
        let most = item.and_then(|item| usize::try_from(item.rules.max_occurs?).ok());
        let most = most.unwrap_or(MAX_REPEATS).min(MAX_REPEATS);
        if values.len() > most {
            let text = format!(
                "itemPopulationContext of \"{}\" comes to {} results; the first {most} were taken.",
                self.name(at.index),
                values.len()
            );
            self.tell(Severity::Warning, IssueType::Incomplete, at.index, rule, text);
            values.truncate(most);
        }
        let name = context.name.as_deref().unwrap_or_default();
        let is_group = item.is_none_or(|item| !item.kind.is_question());
        let each: Vec<Vec<Value<'_>>> = match values.is_empty() {
            true => vec![Vec::new()],
            // A question is one item, however many answers it has.
            false if !is_group => vec![values],
            false => values.into_iter().map(|value| vec![value]).collect(),
        };
        let mut made = Vec::new();
        for values in each {
            let mut more: Vec<Bound<'_>> = Vec::with_capacity(bound.len() + 1);
            more.push((name, values));
            more.extend_from_slice(bound);
            made.extend(self.enter(at, 0, &more));
        }
        made
    }

    /// The items of the root, or the item itself if there is anything in it.
    fn make<'b>(&'b self, at: At<'b>, bound: &'b [Bound<'b>]) -> Vec<Json> {
        let Some(index) = at.index else { return self.items(None, bound) };
        let Some(item) = self.form.item(index) else { return Vec::new() };
        let (name, content) = match item.kind.is_question() {
            true => ("answer", self.question(index, item, at, bound)),
            false => ("item", self.items(at.index, bound)),
        };
        if content.is_empty() {
            return Vec::new();
        }
        self.count.set(self.count.get() + 1);
        let mut node = Object::new();
        node.set("linkId", item.link_id.as_ref());
        if let Some(text) = item.texts.first() {
            node.set("text", text.as_ref());
        }
        node.set(name, content);
        vec![Json::Object(node)]
    }

    /// The answers to a question, with what stands below them.
    fn question<'b>(
        &'b self,
        index: u32,
        item: &'b Item,
        at: At<'b>,
        bound: &'b [Bound<'b>],
    ) -> Vec<Json> {
        // What follows from others is found when they are there.
        if item.calculated.is_some() {
            return Vec::new();
        }
        let step = self.step(Some(index));
        let mut answers = Vec::new();
        let mut named: Vec<Bound<'_>> = Vec::new();
        if let Some(initial) = &step.initial {
            let rule = "initialExpression";
            let has_both = self
                .form
                .source_of(index as usize)
                .is_some_and(|source| source.get("initial").is_some() || !step.selected.is_empty());
            if has_both {
                let text = format!(
                    "\"{}\" has initial values and initialExpression; the expression was taken.",
                    cut(&item.link_id)
                );
                let code = IssueType::BusinessRule;
                self.tell(Severity::Warning, code, at.index, rule, text);
            }
            match self.values(bound, &initial.formula, &[self.typed(at)], None) {
                Ok(values) => {
                    let values: Vec<Value<'_>> = values.into_iter().flat_map(matches).collect();
                    for value in &values {
                        self.answer(index, &value.to_json(), rule, &mut answers);
                    }
                    named.extend(initial.name.as_deref().map(|name| (name, values)));
                }
                Err(no) => self.not(&no, at.index, rule),
            }
        } else {
            answers.extend(self.observed(index, item, step));
            if answers.is_empty() {
                answers = self.stated(index, step);
            }
        }
        let most = match item.repeats {
            true => item.rules.max_occurs.and_then(|max| usize::try_from(max).ok()),
            false => Some(1),
        };
        if let Some(most) = most.filter(|most| answers.len() > *most) {
            let text = format!(
                "{} values were found for \"{}\", which takes {most}; none was taken, so choose.",
                answers.len(),
                cut(&item.link_id)
            );
            let rule = if step.initial.is_some() { "initialExpression" } else { "initial" };
            self.tell(Severity::Warning, IssueType::MultipleMatches, at.index, rule, text);
            return Vec::new();
        }
        named.extend_from_slice(bound);
        let has_items = item.end > index + 1;
        let answers = answers.into_iter().map(|(of, value)| {
            let mut answer = Object::new();
            answer.set(&format!("value{}", of.suffix()), value);
            let items = if has_items { self.items(at.index, &named) } else { Vec::new() };
            if !items.is_empty() {
                answer.set("item", items);
            }
            Json::Object(answer)
        });
        answers.collect()
    }

    /// Takes a value as an answer, or tells why not.
    fn answer(
        &self,
        index: u32,
        value: &Json,
        rule: &str,
        answers: &mut Vec<(ValueType, Json)>,
    ) -> bool {
        match conversion::answer(self.form, self.world, index, value) {
            Ok(answer) => {
                answers.push(answer);
                true
            }
            Err(reason) => {
                self.not(&No::Because(reason.to_owned()), Some(index), rule);
                false
            }
        }
    }

    /// The value of the newest Observation with the codes of the item.
    fn observed(&self, index: u32, item: &Item, step: &Step) -> Option<(ValueType, Json)> {
        let period = step.period.as_ref().filter(|_| !item.repeats && !step.codes.is_empty())?;
        let subject = self.sources.subject?.str_at(&["reference"])?;
        let since = period.before(self.world.now?);
        let rule = "observationLinkPeriod";
        let found = match self.sources.searches {
            None => None,
            Some(_) => match self.search(&observation::search(step, subject, &since)) {
                Ok(found) => Some(found),
                Err(no) => {
                    self.not(&no, Some(index), rule);
                    None
                }
            },
        };
        let values = observation::values(step, subject, &since, found, self.sources.data);
        let mut fitting = values
            .iter()
            .filter_map(|value| conversion::answer(self.form, self.world, index, value).ok());
        let answer = fitting.next();
        if answer.is_none() && !values.is_empty() {
            let reason = "the Observations have values of another type or unit";
            self.not(&No::Because(reason.to_owned()), Some(index), rule);
        }
        answer
    }

    /// The values that the form itself states: `initial`, and the options that are selected.
    fn stated(&self, index: u32, step: &Step) -> Vec<(ValueType, Json)> {
        let Some(source) = self.form.source_of(index as usize) else { return Vec::new() };
        let initial = source.list("initial").iter();
        let options = source.list("answerOption");
        let selected = step.selected.iter().filter_map(|place| options.get(*place));
        let mut answers = Vec::new();
        for (of, value) in initial.chain(selected).filter_map(|one| choice(one, "value")) {
            match of {
                // Without what the form says of an option.
                ValueType::Coding => {
                    self.answer(index, value, "initial", &mut answers);
                }
                _ => answers.push((of, value.clone())),
            }
        }
        answers
    }

    /// The values of a formula, or of the query in its place.
    fn values<'b>(
        &'b self,
        bound: &'b [Bound<'b>],
        formula: &'b Formula,
        focus: &[Value<'b>],
        name: Option<&str>,
    ) -> Result<Vec<Value<'b>>, No> {
        match &formula.query {
            Some(query) => self.query(bound, query, focus, name),
            None => self.setting(bound).decide(formula, focus).map_err(No::Because),
        }
    }

    fn query<'b>(
        &'b self,
        bound: &'b [Bound<'b>],
        query: &'b Query,
        focus: &[Value<'b>],
        name: Option<&str>,
    ) -> Result<Vec<Value<'b>>, No> {
        let resolved = query.resolve(self.setting(bound), focus).map_err(No::Because)?;
        let Some(text) = resolved else { return Ok(Vec::new()) };
        if let Some(name) = name {
            self.told.named.borrow_mut().push((name.to_owned(), text.clone()));
        }
        Ok(vec![Value::node(self.search(&text)?)])
    }

    /// What a search found.
    fn search(&self, text: &str) -> Result<&'w Json, No> {
        let Some(searches) = self.sources.searches else {
            return Err(No::Because("nothing is searched for, as local is false".to_owned()));
        };
        match searches.0.get(text) {
            Some(Ok(found)) => Ok(found),
            Some(Err(reason)) => Err(No::Because(reason.clone())),
            None => {
                let mut wanted = self.told.wanted.borrow_mut();
                if !wanted.iter().any(|known| known == text) {
                    wanted.push(text.to_owned());
                }
                Err(No::Wanted)
            }
        }
    }

    fn setting<'b>(&'b self, bound: &'b [Bound<'b>]) -> Setting<'b> {
        Setting {
            surroundings: self.surroundings,
            response: self.response,
            now: self.world.now,
            tally: self.tally,
            bound,
        }
    }

    fn typed<'b>(&'b self, at: At<'b>) -> Value<'b> {
        match at.index {
            None => Value::node(at.place),
            Some(_) => Value::typed(self.world.definitions, at.place, "QuestionnaireResponse.item"),
        }
    }

    fn step(&self, index: Option<u32>) -> &'w Step {
        let own = index.and_then(|index| self.population.items.get(index as usize));
        own.unwrap_or(&self.population.root)
    }

    fn name(&self, index: Option<u32>) -> String {
        let item = index.and_then(|index| self.form.item(index));
        item.map_or_else(|| "Questionnaire".to_owned(), |item| cut(&item.link_id))
    }

    /// Whether there is too much, which is told once; for each item `size` values are copied.
    fn is_full(&self, size: usize) -> bool {
        if self.count.get() < MAX_ITEMS && self.tally.count(size as u64).is_ok() {
            return false;
        }
        if !self.told.is_full.replace(true) {
            let text = format!(
                "There is too much to be populated (more than {MAX_ITEMS} items, or too many steps                  of expressions); the rest is left out."
            );
            self.tell(Severity::Warning, IssueType::TooCostly, None, "item", text);
        }
        true
    }

    /// Tells why something was left out.
    fn not(&self, no: &No, index: Option<u32>, rule: &str) {
        let No::Because(reason) = no else { return };
        let text = format!("{rule} of \"{}\" gave no value: {}.", self.name(index), cut(reason));
        self.tell(Severity::Error, IssueType::Processing, index, rule, text);
    }

    fn tell(
        &self,
        severity: Severity,
        code: IssueType,
        index: Option<u32>,
        rule: &str,
        text: String,
    ) {
        let mut issues = self.told.issues.borrow_mut();
        if issues.len() >= self.world.limits.issues {
            return;
        }
        let at = index.map_or_else(|| "Questionnaire".to_owned(), |of| self.form.place_of(of));
        let issue = Issue::error(code, text).severity(severity).at(at);
        let issue = issue.rule(format!("{}#{rule}", self.name(index)));
        if !issues.contains(&issue) {
            issues.push(issue);
        }
    }
}

/// The matches of a search, or the value itself.
fn matches(value: Value<'_>) -> Vec<Value<'_>> {
    let bundle = value.json().filter(|json| {
        json.str_at(&["resourceType"]) == Some("Bundle")
            && json.str_at(&["type"]) == Some("searchset")
    });
    let Some(bundle) = bundle else { return vec![value] };
    let entries = bundle.list("entry").iter();
    let entries = entries
        .filter(|entry| entry.str_at(&["search", "mode"]).is_none_or(|mode| mode == "match"));
    entries.filter_map(|entry| entry.get("resource")).map(Value::node).collect()
}
