//! Questionnaires and their responses: <https://hl7.org/fhir/R4/questionnaire.html>,
//! <https://hl7.org/fhir/R4/questionnaireresponse.html> and
//! <https://hl7.org/fhir/uv/sdc/STU3/>.
//!
//! A [`Form`] is a Questionnaire that was read once; [`Form::check`] holds a response against it
//! and builds nothing while all is well. What R4's own definitions ask of both is
//! [`crate::validate`]'s, except that linkIds are unique: que-2 compares each with each, so the
//! reading says it instead and the invariant can be left out.
//!
//! A response is complete when its status is `completed` or `amended`; else nothing is required of
//! it, disabled items may keep their answers and constraints only warn. One that was
//! `entered-in-error` is not looked at. The check assembles no modular Questionnaire, makes no
//! query and runs no CQL; that is told.
//!
//! Beside the check stand SDC's operations as functions: [`populate`], [`calculate`], [`assemble`]
//! and [`next_question`].

mod answer;
mod assemble;
mod calculated;
mod constraint;
mod conversion;
mod definition;
mod enable_when;
mod environment;
mod expression;
mod extension;
pub mod extract;
mod fhir_query;
mod item;
mod link_id;
mod next_question;
mod observation;
mod populate;
mod population;
mod question;
mod response;
mod scope;
mod terminology;
mod value;

use std::cell::Cell;
use std::sync::{Arc, OnceLock};

use crate::datetime::{DateTime, Micros};
use crate::definitions::Definitions;
use crate::terminology::ValueSet;
use crate::validate::{Need, World};
use crate::{Issue, IssueType, Json};
pub use assemble::{Assembled, Parts, Wanted, assemble};
pub use calculated::calculate;
use constraint::Constraint;
use expression::Variable;
use item::Item;
use link_id::LinkIds;
pub use next_question::{adaptive, contained_form, next_question};
pub use populate::{Populated, Searches, Sources, populate};
pub use population::{LaunchContext, Population};

/// Most items of a Questionnaire.
pub const MAX_ITEMS: usize = 20_000;
/// Deepest nesting of items.
pub const MAX_DEPTH: usize = 48;

/// A Questionnaire, compiled.
#[derive(Clone, Debug)]
pub struct Form {
    source: Arc<Json>,
    url: Option<Box<str>>,
    version: Option<Box<str>>,
    /// The items, each before those below it.
    items: Vec<Item>,
    link_ids: LinkIds,
    subject_types: Vec<Box<str>>,
    /// When it may be answered.
    effective: (Option<Micros>, Option<Micros>),
    constraints: Vec<Constraint>,
    variables: Vec<Variable>,
    /// Its contained value sets, as `#id`.
    value_sets: Vec<(Box<str>, ValueSet)>,
    is_signed: bool,
    /// Whether its questions are answered in order and once only.
    is_sequential: bool,
    /// Whether parts of it stand in other Questionnaires.
    is_modular: bool,
    /// Whether people answer by other texts than those of the items.
    has_other_wording: bool,
    /// Whether an item is enabled by the answers to one that is enabled by others.
    is_chained: bool,
    /// What is to be extracted from responses; found when it is first asked for.
    plan: OnceLock<Box<extract::Plan>>,
}

impl Form {
    /// Reads a Questionnaire, and says what is wrong with it beyond the invariants of R4. What
    /// cannot be used is left out of the form.
    pub fn read(definitions: &Definitions, questionnaire: &Json) -> (Form, Vec<Issue>) {
        Form::read_within(definitions, questionnaire, &Cell::new(0))
    }

    /// The same; what it cost is added to `used`.
    pub(crate) fn read_within(
        definitions: &Definitions,
        questionnaire: &Json,
        used: &Cell<u64>,
    ) -> (Form, Vec<Issue>) {
        let (form, issues, steps) = definition::read(definitions, Arc::new(questionnaire.clone()));
        used.set(used.get().saturating_add(steps).saturating_add(size(questionnaire)));
        (form, issues)
    }

    /// The url of the Questionnaire.
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// The business version of the Questionnaire.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The Questionnaire itself.
    pub fn questionnaire(&self) -> &Json {
        &self.source
    }

    /// What the form has against a response. `launch` are the values of the Questionnaire's
    /// launchContext by their names; an expression that needs others is told as not decided.
    pub fn check(
        &self,
        world: &World<'_>,
        response: &Json,
        launch: &[(&str, &Json)],
    ) -> Vec<Issue> {
        response::check(self, world, response, launch, &Cell::new(0))
    }

    /// An item as it stands in the Questionnaire.
    fn source_of(&self, index: usize) -> Option<&Json> {
        let item = self.items.get(index)?;
        let above = match item.parent {
            Some(parent) => self.source_of(parent as usize)?,
            None => &self.source,
        };
        above.list("item").get(item.position)
    }

    /// The path of an item in the Questionnaire.
    fn place_of(&self, index: u32) -> String {
        let Some(item) = self.item(index) else { return "Questionnaire".to_owned() };
        let above = item.parent.map_or_else(|| "Questionnaire".to_owned(), |of| self.place_of(of));
        format!("{above}.item[{}]", item.position)
    }

    /// The canonical of the Questionnaire, with its version.
    pub fn canonical(&self) -> Option<String> {
        let url = self.url.as_deref()?;
        Some(match self.version.as_deref() {
            Some(version) => format!("{url}|{version}"),
            None => url.to_owned(),
        })
    }

    fn item(&self, index: u32) -> Option<&Item> {
        self.items.get(index as usize)
    }

    /// The items below an item, or the outermost ones.
    fn children(&self, of: Option<u32>) -> impl Iterator<Item = (u32, &Item)> {
        let (mut next, end) = self.range(of);
        std::iter::from_fn(move || {
            let item = self.item(next).filter(|_| next < end)?;
            Some((std::mem::replace(&mut next, item.end), item))
        })
    }

    /// The first of the items below an item, and the place after the last one.
    fn range(&self, of: Option<u32>) -> (u32, u32) {
        match of {
            Some(index) => (index + 1, self.item(index).map_or(0, |item| item.end)),
            None => (0, u32::try_from(self.items.len()).unwrap_or(u32::MAX)),
        }
    }

    /// Whether an item is below another, or below the root.
    fn is_below(&self, index: u32, above: Option<u32>) -> bool {
        let (first, end) = self.range(above);
        (first..end).contains(&index)
    }
}

/// Holds a QuestionnaireResponse against the Questionnaire that it names: a contained one, one of
/// the Bundle around it, or one of `world.resources`. One that is not there is told as a warning,
/// and in `world.missing`.
pub fn check(world: &World<'_>, response: &Json, bundle: Option<&Json>) -> Vec<Issue> {
    check_within(world, response, bundle, &Cell::new(0))
}

/// The same; what it cost is added to `used`, as a Bundle may have many responses.
pub(crate) fn check_within(
    world: &World<'_>,
    response: &Json,
    bundle: Option<&Json>,
    used: &Cell<u64>,
) -> Vec<Issue> {
    let read = |found: &Json| match wrong_type(found) {
        Some(issue) => vec![issue],
        None => {
            let (form, _) = Form::read_within(world.definitions, found, used);
            response::check(&form, world, response, &[], used)
        }
    };
    let Some(canonical) = response.str_at(&["questionnaire"]) else {
        let text = "The response names no questionnaire, so its answers were not held against one.";
        let issue = Issue::information(IssueType::Incomplete, text);
        return vec![issue.at("QuestionnaireResponse").rule("questionnaire")];
    };
    if let Some(id) = canonical.strip_prefix('#') {
        let mut contained = response.list("contained").iter();
        return match contained.find(|other| other.str_at(&["id"]) == Some(id)) {
            Some(found) => read(found),
            None => {
                let text = "The questionnaire is not among the contained resources.";
                vec![Issue::error(IssueType::NotFound, text).at(AT).rule("questionnaire")]
            }
        };
    }
    if let Some(form) = world.resources.form(canonical) {
        return response::check(form, world, response, &[], used);
    }
    let (url, version) = canonical.split_once('|').unwrap_or((canonical, ""));
    let is_meant = |other: &&Json| {
        other.str_at(&["resourceType"]) == Some("Questionnaire")
            && other.str_at(&["url"]) == Some(url)
            && (version.is_empty() || other.str_at(&["version"]) == Some(version))
    };
    let entries = bundle.map_or(&[][..], |bundle| bundle.list("entry"));
    used.set(used.get().saturating_add(entries.len() as u64));
    let mut nearby = entries.iter().filter_map(|entry| entry.get("resource"));
    if let Some(found) = nearby.find(is_meant) {
        return read(found);
    }
    match world.resources.find(canonical) {
        Some(Some(found)) => read(found),
        found => {
            let unversioned = world.resources.find(url).flatten().filter(is_meant);
            if let Some(unversioned) = unversioned {
                return read(unversioned);
            }
            if let Some(issue) = other_artefact(world, canonical) {
                return vec![issue];
            }
            if found.is_none() {
                world.missing.note(Need::Questionnaire(canonical.to_owned()));
            }
            let text = "The questionnaire was not found, so the answers were not held against it; \
                        supply the Questionnaire with this url and version.";
            vec![Issue::warning(IssueType::NotFound, text).at(AT).rule("questionnaire")]
        }
    }
}

/// How many values a tree has.
fn size(json: &Json) -> u64 {
    1 + match json {
        Json::Array(items) => items.iter().map(size).sum(),
        Json::Object(object) => object.iter().map(|(_, value)| size(value)).sum(),
        _ => 0,
    }
}

/// Where a response names its Questionnaire.
const AT: &str = "QuestionnaireResponse.questionnaire";

/// HL7 names its own artefacts by their type.
fn other_artefact(world: &World<'_>, canonical: &str) -> Option<Issue> {
    let (kind, _) = canonical.strip_prefix("http://hl7.org/fhir/")?.split_once('/')?;
    not_a_questionnaire(world.definitions.type_of(kind)?.name)
}

fn wrong_type(found: &Json) -> Option<Issue> {
    not_a_questionnaire(found.str_at(&["resourceType"]).unwrap_or("resource"))
}

fn not_a_questionnaire(kind: &str) -> Option<Issue> {
    let text = format!("questionnaire is the canonical of a Questionnaire, not of a {kind}.");
    (kind != "Questionnaire")
        .then(|| Issue::error(IssueType::Invalid, text).at(AT).rule("questionnaire"))
}

/// First and last microsecond of a Period's ends.
fn period(json: Option<&Json>) -> (Option<Micros>, Option<Micros>) {
    let end = |name| DateTime::parse(json?.str_at(&[name])?).map(|moment| moment.bounds());
    (end("start").map(|(first, _)| first), end("end").map(|(_, last)| last))
}
