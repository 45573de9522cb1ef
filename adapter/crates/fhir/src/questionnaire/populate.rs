//! Population of a form with what is known: <https://hl7.org/fhir/uv/sdc/STU3/populate.html>.
//!
//! Expressions, queries and Observations; a StructureMap or CQL is told as not run. Nothing is
//! fetched here: a search that would have to be made is told, and what it found is handed in.
//!
//! A value that cannot be had, or cannot be an answer, is left out and told, and so are several
//! where the question takes one; the rest is populated all the same. What comes out breaks no rule
//! that a draft is held to: [`Form::check`] says so before.

mod walk;

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use super::Form;
use super::calculated::{self, calculate};
use super::environment::Surroundings;
use super::population::Population;
use crate::path::Tally;
use crate::validate::{World, validate};
use crate::{Issue, IssueType, Json, Object, Severity};
use walk::{Told, Walk};

/// How often values are found again that rest on others.
const MAX_ROUNDS: usize = 10;
/// Most repetitions of one group.
const MAX_REPEATS: usize = 500;
/// Most looks at what has to be taken out again.
const MAX_LOOKS: usize = 5;

/// What a form is populated with.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// `QuestionnaireResponse.subject`.
    pub subject: Option<&'a Json>,
    /// Resources by the name of the variable that holds them.
    pub context: &'a [(String, Vec<Arc<Json>>)],
    /// Other resources that were handed in.
    pub data: &'a [Json],
    /// What searches found; `None` where nothing is to be searched for.
    pub searches: Option<&'a Searches>,
}

/// What searches found, by their text (`Observation?subject=Patient/p1`), or why they were not
/// made.
#[derive(Clone, Debug, Default)]
pub struct Searches(HashMap<String, Result<Arc<Json>, String>>);

impl Searches {
    /// Answers a search with a Bundle or a resource, or with why there is none.
    pub fn put(&mut self, search: String, answer: Result<Arc<Json>, String>) {
        self.0.insert(search, answer);
    }

    /// How many were answered.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none was answered.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A response with what is known.
#[derive(Debug)]
pub struct Populated {
    /// The QuestionnaireResponse, `in-progress`.
    pub response: Json,
    /// What was left out, and why.
    pub issues: Vec<Issue>,
    /// Searches that would have to be made for all of it.
    pub wanted: Vec<String>,
    /// Whether the form says where its answers come from, and not one could be had because of
    /// errors.
    pub has_failed: bool,
}

/// Populates a form.
pub fn populate(population: &Population, world: &World<'_>, sources: &Sources<'_>) -> Populated {
    let form = population.form();
    let head = head(form, world, sources);
    let tally = Tally::new(world.limits.steps);
    let surroundings = Surroundings { world };
    let mut response = head.clone();
    let is_of_subject =
        |issue: &Issue| issue.expression.as_deref() == Some("QuestionnaireResponse.subject");
    let wrong = form.check(world, &head, &[]).into_iter();
    let wrong: Vec<Issue> =
        wrong.filter(|issue| issue.is_error() && is_of_subject(issue)).collect();
    if !wrong.is_empty() {
        return Populated { response, issues: wrong, wanted: Vec::new(), has_failed: true };
    }
    let mut told = Told::default();
    for _ in 0..MAX_ROUNDS {
        told = Told::default();
        let walk = Walk {
            population,
            form,
            world,
            sources,
            surroundings: &surroundings,
            tally: &tally,
            response: &response,
            told: &told,
            count: Cell::new(0),
        };
        let items = walk.start();
        let mut next = head.clone();
        if !items.is_empty() {
            next.set("item", items);
        }
        let is_settled = next == response;
        response = next;
        if !population.looks_back || is_settled {
            break;
        }
    }
    let Told { issues, wanted, named, .. } = told;
    let mut issues = issues.into_inner();
    if population.has_map {
        let text = "The form names a StructureMap, which is not run here; its expressions were.";
        let issue = Issue::warning(IssueType::NotSupported, text);
        issues.push(issue.at("Questionnaire").rule("Questionnaire#sourceStructureMap"));
    }
    // What was searched for by the root's variables is there for calculations, too.
    let named = named.into_inner();
    let found = named.iter().filter_map(|(name, search)| {
        let found = sources.searches?.0.get(search)?.as_ref().ok()?;
        Some((name.as_str(), found.as_ref()))
    });
    let given = sources.context.iter();
    let given = given.filter_map(|(name, all)| Some((name.as_str(), all.first()?.as_ref())));
    let launch: Vec<(&str, &Json)> = given.chain(found).collect();
    let (mut response, more) = calculate(form, world, &response, &launch);
    issues.extend(more);
    take_out_wrong(form, world, &mut response, &launch, &mut issues);
    let has_failed =
        population.is_any() && response.get("item").is_none() && issues.iter().any(Issue::is_error);
    for issue in &mut issues {
        // The response is there, so nothing of it is an error.
        if !has_failed {
            issue.severity = issue.severity.min(Severity::Warning);
        }
    }
    Populated { response, issues, wanted: wanted.into_inner(), has_failed }
}

/// The response without items. A form without a url is contained.
fn head(form: &Form, world: &World<'_>, sources: &Sources<'_>) -> Json {
    let mut head = Object::new();
    head.set("resourceType", "QuestionnaireResponse");
    match form.canonical() {
        Some(canonical) => head.set("questionnaire", canonical),
        None => {
            let mut contained = form.questionnaire().clone();
            contained.set("id", "form");
            head.set("contained", vec![contained]);
            head.set("questionnaire", "#form");
        }
    }
    head.set("status", "in-progress");
    if let Some(subject) = sources.subject {
        head.set("subject", subject.clone());
    }
    if let Some(now) = world.now {
        head.set("authored", now);
    }
    Json::Object(head)
}

/// Takes out the answers that a draft may not have. The check names them.
fn take_out_wrong(
    form: &Form,
    world: &World<'_>,
    response: &mut Json,
    launch: &[(&str, &Json)],
    issues: &mut Vec<Issue>,
) {
    for _ in 0..MAX_LOOKS {
        // What R4 itself says of values, too: the texts of dates and times.
        let mut wrong = validate(world.definitions, response);
        wrong.extend(form.check(world, response, launch));
        let wrong = wrong.into_iter().filter(Issue::is_error);
        let mut places: Vec<Vec<(bool, usize)>> = Vec::new();
        for issue in wrong {
            let place = issue.expression.as_deref().map(calculated::place).unwrap_or_default();
            if place.is_empty() || places.contains(&place) {
                continue;
            }
            let text = format!("A value that was found is no answer: {}", issue.text);
            let index = calculated::link_id_at(response, &place)
                .and_then(|link_id| form.link_ids.get(link_id));
            let at = index.map_or_else(|| "Questionnaire".to_owned(), |of| form.place_of(*of));
            issues.push(Issue { rule: issue.rule, ..Issue::warning(issue.code, text).at(at) });
            places.push(place);
        }
        if places.is_empty() {
            return;
        }
        // The last first, so that the places of the others stay.
        places.sort();
        for place in places.iter().rev() {
            calculated::remove(response, place);
        }
        calculated::prune(response, &|_| true);
    }
    // Nothing that is left can be trusted.
    response.as_object_mut().map(|response| response.remove("item"));
}
