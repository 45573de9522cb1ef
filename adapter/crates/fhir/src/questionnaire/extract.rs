//! Extraction of resources from a response:
//! <https://hl7.org/fhir/uv/sdc/extraction.html>.
//!
//! Observation-, definition- and template-based, as the extensions of the Questionnaire ask for it;
//! all that comes of it are entries of one transaction. What cannot be extracted is left out and
//! told, the rest is still there. A StructureMap is not run. Expressions see the response, the
//! Questionnaire and allocated ids, and neither variables nor the launch context.
//!
//! Ids that SDC wants to be new follow from the response and the place in it, so the same response
//! gives the same entries.

mod cast;
mod definition;
mod element;
mod observation;
mod pattern;
mod template;

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use super::environment::Surroundings;
use super::expression::{Bound, Formula, Setting};
use super::item::ItemType;
use super::value::{choice, cut};
use super::{Form, extension};
use crate::path::{Tally, Value};
use crate::validate::World;
use crate::{Issue, IssueType, Json, Object};

/// Most entries of one extraction.
pub const MAX_ENTRIES: usize = 1_000;
/// Most elements of templates and resources that one extraction makes.
const MAX_WORK: usize = 200_000;

/// The response's place in the world.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    /// The id of the response.
    pub id: &'a str,
    /// Makes the id that follows from names; the same names give the same id.
    pub identify: &'a dyn Fn(&[&str]) -> String,
}

/// What an extraction comes to.
#[derive(Clone, Debug, Default)]
pub struct Extracted {
    /// Entries of a transaction.
    pub entries: Vec<Json>,
    /// What could not be extracted, and why.
    pub issues: Vec<Issue>,
}

/// What a Questionnaire asks to be extracted, found once.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    has_observations: bool,
    has_definitions: bool,
    has_templates: bool,
    has_map: bool,
    /// The FHIRPath expressions of extraction, by their text.
    formulas: HashMap<Box<str>, Formula>,
}

/// The parts of an extension that say how a resource becomes an entry.
const CONDITIONS: [&str; 4] = ["ifNoneMatch", "ifModifiedSince", "ifMatch", "ifNoneExist"];

impl Plan {
    fn read(source: &Json) -> Plan {
        let mut plan = Plan::default();
        plan.element(source);
        plan
    }

    fn element(&mut self, json: &Json) {
        match json {
            Json::Array(items) => items.iter().for_each(|item| self.element(item)),
            Json::Object(object) => {
                if object.get("url").is_some() {
                    self.extension(json);
                }
                object.iter().for_each(|(_, value)| self.element(value));
            }
            _ => {}
        }
    }

    fn extension(&mut self, json: &Json) {
        let Some(term) = extension::term(json) else { return };
        let parts = json.list("extension").iter();
        match term {
            "observationExtract" => self.has_observations = true,
            "definitionExtract" | "itemExtractionContext" => self.has_definitions = true,
            "templateExtract" | "templateExtractBundle" => self.has_templates = true,
            "targetStructureMap" => self.has_map = true,
            _ => {}
        }
        match term {
            "templateExtractContext" | "templateExtractValue" => {
                self.formula(extension::value(json));
            }
            "definitionExtractValue" => self.formula(extension::part(json, "expression")),
            "definitionExtract" | "templateExtract" | "observationExtractEntry" => {
                parts.for_each(|part| self.formula(part.get("valueString")));
            }
            _ => {}
        }
    }

    fn formula(&mut self, value: Option<&Json>) {
        if let Some(value) = value
            && let Some(text) = expression(value)
            && !self.formulas.contains_key(text)
        {
            self.formulas.insert(text.into(), Formula::read(value));
        }
    }
}

/// The text of an expression: a string, or an `Expression`.
fn expression(value: &Json) -> Option<&str> {
    value.as_str().or_else(|| value.str_at(&["expression"]))
}

impl Form {
    /// Whether the Questionnaire says what is to be extracted from responses.
    pub fn extracts(&self) -> bool {
        let plan = self.plan();
        plan.has_observations || plan.has_definitions || plan.has_templates || plan.has_map
    }

    fn plan(&self) -> &Plan {
        self.plan.get_or_init(|| Box::new(Plan::read(&self.source)))
    }

    /// What the Questionnaire says is to be extracted from a response. One that is not complete
    /// gives nothing.
    pub fn extract(&self, world: &World<'_>, response: &Json, origin: Origin<'_>) -> Extracted {
        let plan = self.plan();
        let run = Run {
            plan,
            world,
            source: &self.source,
            response,
            origin,
            surroundings: Surroundings { world },
            tally: Tally::new(world.limits.steps),
            items: items(&self.source),
            made: RefCell::default(),
            work: Cell::new(0),
        };
        let status = response.str_at(&["status"]).unwrap_or_default();
        if !matches!(status, "completed" | "amended") {
            let text =
                format!("Nothing is extracted: the response is {}, not completed.", cut(status));
            run.tell(IssueType::BusinessRule, "QuestionnaireResponse.status", text);
            return run.made.into_inner();
        }
        if plan.has_map {
            let text = "targetStructureMap was not followed: StructureMaps are not run here; what \
                        the Questionnaire says by observationExtract, definitionExtract or \
                        templateExtract is extracted.";
            run.tell(IssueType::NotSupported, "Questionnaire.extension", text.to_owned());
        }
        let bound = run.bound(&self.source, "", &[]);
        let root = Here {
            source: &self.source,
            node: response,
            is_root: true,
            key: "",
            at: "QuestionnaireResponse",
            bound: &bound,
        };
        if plan.has_observations {
            run.observations(root);
        }
        if plan.has_definitions {
            run.definitions(root);
        }
        if plan.has_templates {
            run.templates(root);
        }
        run.made.into_inner()
    }
}

/// The items of a Questionnaire by their linkIds.
fn items(source: &Json) -> HashMap<&str, &Json> {
    let mut found = HashMap::new();
    let mut stack = vec![source.list("item")];
    while let Some(list) = stack.pop() {
        for item in list {
            if let Some(link_id) = item.str_at(&["linkId"]) {
                found.entry(link_id).or_insert(item);
            }
            stack.push(item.list("item"));
        }
    }
    found
}

/// One extraction.
struct Run<'a> {
    plan: &'a Plan,
    world: &'a World<'a>,
    source: &'a Json,
    response: &'a Json,
    origin: Origin<'a>,
    surroundings: Surroundings<'a>,
    tally: Tally,
    items: HashMap<&'a str, &'a Json>,
    made: RefCell<Extracted>,
    work: Cell<usize>,
}

/// Where something is extracted: the response or one of its items, and what stands for it in the
/// Questionnaire.
#[derive(Clone, Copy)]
struct Here<'s> {
    source: &'s Json,
    node: &'s Json,
    is_root: bool,
    /// The linkIds on the way, with the number of the repetition.
    key: &'s str,
    /// The FHIRPath of the node.
    at: &'s str,
    bound: &'s [Bound<'s>],
}

impl<'s> Here<'s> {
    /// Whether it is a question.
    fn is_question(&self) -> bool {
        let kind = self.source.str_at(&["type"]).and_then(ItemType::read);
        !self.is_root && kind.is_some_and(ItemType::is_question)
    }

    fn link_id(&self) -> &'s str {
        self.source.str_at(&["linkId"]).unwrap_or("Questionnaire")
    }
}

/// An item of a response that is below another.
struct Child<'s> {
    source: &'s Json,
    node: Cow<'s, Json>,
    key: String,
    at: String,
}

impl Run<'_> {
    /// Notes what could not be done.
    fn tell(&self, code: IssueType, at: &str, text: String) {
        let mut made = self.made.borrow_mut();
        if made.issues.len() < self.world.limits.issues {
            made.issues.push(Issue::warning(code, text).at(at));
        }
    }

    /// Counts something that is made; whether there is too much of it, which is told once.
    fn is_too_much(&self) -> bool {
        let work = self.work.get();
        self.work.set(work.saturating_add(1));
        if work == MAX_WORK {
            let text =
                format!("More than {MAX_WORK} elements are extracted; the rest is left out.");
            self.tell(IssueType::TooCostly, "QuestionnaireResponse", text);
        }
        work >= MAX_WORK
    }

    /// The values of an expression of the Questionnaire.
    ///
    /// # Errors
    /// Why it has none.
    fn values<'s>(
        &'s self,
        text: &str,
        focus: &[Value<'s>],
        bound: &'s [Bound<'s>],
    ) -> Result<Vec<Value<'s>>, String> {
        let formula = self.plan.formulas.get(text).ok_or("it is no expression of FHIRPath")?;
        let setting = Setting {
            surroundings: &self.surroundings,
            response: self.response,
            now: self.world.now,
            tally: &self.tally,
            bound,
        };
        setting.decide(formula, focus)
    }

    /// The node that expressions at a place are evaluated on.
    fn focus<'s>(&'s self, here: &Here<'s>) -> Value<'s> {
        match here.is_root {
            true => Value::node(here.node),
            false => Value::typed(self.world.definitions, here.node, "QuestionnaireResponse.item"),
        }
    }

    /// What expressions at a place may name: the Questionnaire, its item, and the ids that are
    /// allocated there or above.
    fn bound<'s>(&'s self, source: &'s Json, key: &str, outer: &[Bound<'s>]) -> Vec<Bound<'s>> {
        let mut bound: Vec<Bound<'s>> = Vec::new();
        if !key.is_empty() {
            let item = Value::typed(self.world.definitions, source, "Questionnaire.item");
            bound.push(("qitem", vec![item]));
        }
        for name in extension::values(source, "extractAllocateId").filter_map(Json::as_str) {
            let id = (self.origin.identify)(&["extract", self.origin.id, key, name]);
            let url = Value::String(Cow::Owned(format!("urn:uuid:{id}")));
            bound.push((name, vec![url]));
        }
        match outer.is_empty() {
            true => bound.push(("questionnaire", vec![Value::node(self.source)])),
            false => bound.extend(outer.iter().filter(|(name, _)| *name != "qitem").cloned()),
        }
        bound
    }

    /// The items below a node, each with its item of the Questionnaire. Where an answer of its own
    /// stands for a repetition (`splits`), a question with several answers is several items.
    fn children<'s>(
        &'s self,
        node: &'s Json,
        key: &str,
        at: &str,
        splits: &dyn Fn(&Json) -> bool,
    ) -> Vec<Child<'s>> {
        let mut times: HashMap<&str, usize> = HashMap::new();
        let mut children = Vec::new();
        for (index, node) in node.list("item").iter().enumerate() {
            let Some(link_id) = node.str_at(&["linkId"]) else { continue };
            let Some(source) = self.items.get(link_id).copied() else { continue };
            let time = times.entry(link_id).or_insert(0);
            let at = format!("{at}.item[{index}]");
            let mut child = |node: Cow<'s, Json>| {
                let key = match *time {
                    0 => format!("{key}/{link_id}"),
                    time => format!("{key}/{link_id}:{time}"),
                };
                *time += 1;
                children.push(Child { source, node, key, at: at.clone() });
            };
            let answers = node.list("answer");
            if answers.len() < 2 || !splits(source) {
                child(Cow::Borrowed(node));
                continue;
            }
            for answer in answers {
                let mut single = node.clone();
                single.set("answer", Json::Array(vec![answer.clone()]));
                child(Cow::Owned(single));
            }
        }
        children
    }

    /// The text that an expression in a part of an extension comes to; nothing where there is no
    /// such part.
    fn text(&self, here: &Here<'_>, details: Option<&Json>, part: &str) -> Option<String> {
        let text = extension::part(details?, part)?.as_str()?;
        let values = self.values(text, &[self.focus(here)], here.bound);
        let text = match values {
            Ok(values) => values.first()?.to_json(),
            Err(reason) => {
                let text = format!(
                    "{part} of \"{}\" was left out: {}.",
                    cut(here.link_id()),
                    cut(&reason)
                );
                self.tell(IssueType::Processing, here.at, text);
                return None;
            }
        };
        match text {
            Json::String(text) => Some(text.to_string()),
            Json::Number(_) | Json::Bool(_) => Some(text.to_string()),
            _ => None,
        }
    }

    /// Adds a resource to what is extracted, as the parts of an extension say. `name` tells it from
    /// others that are extracted at the same place.
    fn entry(&self, here: &Here<'_>, details: Option<&Json>, mut resource: Json, name: &str) {
        if let Some(id) = self.text(here, details, "resourceId") {
            let id = id.strip_prefix("urn:uuid:").unwrap_or(&id);
            match is_id(id) {
                true => {
                    if let Some(object) = resource.as_object_mut() {
                        object.set_at(1, "id", id);
                    }
                }
                false => {
                    let text = format!("resourceId of \"{}\" is no id.", cut(here.link_id()));
                    self.tell(IssueType::Value, here.at, text);
                }
            }
        }
        let of = resource.str_at(&["resourceType"]).unwrap_or_default().to_owned();
        let mut request = Object::new();
        match resource.str_at(&["id"]) {
            Some(id) => {
                request.set("method", "PUT");
                request.set("url", format!("{of}/{id}"));
            }
            None => {
                request.set("method", "POST");
                request.set("url", of);
            }
        }
        for condition in CONDITIONS {
            if let Some(text) = self.text(here, details, condition) {
                request.set(condition, text);
            }
        }
        let full_url = self.text(here, details, "fullUrl").unwrap_or_else(|| {
            let names = ["extract", self.origin.id, here.key, "fullUrl", name];
            format!("urn:uuid:{}", (self.origin.identify)(&names))
        });
        let mut entry = Object::new();
        entry.set("fullUrl", full_url);
        entry.set("resource", resource);
        entry.set("request", Json::Object(request));
        self.push(Json::Object(entry));
    }

    fn push(&self, entry: Json) {
        let count = self.made.borrow().entries.len();
        if count < MAX_ENTRIES {
            return self.made.borrow_mut().entries.push(entry);
        }
        let is_told = self.made.borrow().issues.iter().any(|i| i.code == IssueType::TooCostly);
        if !is_told {
            let text =
                format!("More than {MAX_ENTRIES} resources are extracted; the rest is left out.");
            self.tell(IssueType::TooCostly, "QuestionnaireResponse", text);
        }
    }

    /// The values of a question's answers, with their types.
    fn answers<'s>(&'s self, node: &'s Json) -> Vec<Value<'s>> {
        let values = node.list("answer").iter().filter_map(|answer| choice(answer, "value"));
        values.map(|(of, json)| Value::typed(self.world.definitions, json, of.name())).collect()
    }
}

/// The unit of a number that is asked for: the extension `questionnaire-unit`.
fn unit(source: &Json) -> Option<&Json> {
    extension::values(source, "unit").next()
}

/// A number in a unit.
fn quantity(value: Json, unit: Option<&Json>) -> Json {
    let mut quantity = Object::new();
    quantity.set("value", value);
    if let Some(unit) = unit {
        let code = unit.get("code");
        if let Some(name) = unit.get("display").or(code) {
            quantity.set("unit", name);
        }
        for (name, value) in [("system", unit.get("system")), ("code", code)] {
            if let Some(value) = value {
                quantity.set(name, value);
            }
        }
    }
    Json::Object(quantity)
}

/// Whether a text can be the id of a resource: <https://hl7.org/fhir/R4/datatypes.html#id>.
fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

/// Whether a question or a group has an answer.
fn is_answered(node: &Json) -> bool {
    let mut stack = vec![node];
    while let Some(node) = stack.pop() {
        if !node.list("answer").is_empty() {
            return true;
        }
        stack.extend(node.list("item"));
    }
    false
}
