//! Validation: <https://hl7.org/fhir/R4/validation.html>.
//!
//! [`validate`] holds a resource against the definitions of R4: its elements and their number, the
//! JSON form of each value, the lexical form of primitives, required codes, extensions,
//! references, narratives, contained resources, bundles and the invariants of R4. [`validate_in`]
//! holds it against all that a [`World`] knows, too: the profiles that it claims, the definitions
//! of its extensions, bindings of every strength, what its references point to and its
//! Questionnaire. Nothing is fetched here; what would have been needed is told in [`Missing`].
//!
//! Not checked: the display of links in narratives, and profiles of logical models.
//!
//! Nothing is built while all is well: the path of an element is a chain of places on the
//! stack and becomes text only with an issue.

mod binding;
mod bundle;
mod cardinality;
mod coding;
mod contained;
mod document;
mod element;
mod environment;
mod extension;
mod identifier;
mod invariant;
mod item;
mod narrative;
mod nearest;
mod place;
mod presence;
mod primitive;
mod profile;
mod questionnaire;
mod reference;
mod slicing;
mod target;
mod value;
mod value_set;
mod vital_signs;
mod words;
mod world;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::ptr;

use crate::definitions::{Definitions, Kind, Type};
use crate::path::Tally;
use crate::profile::Profile;
use crate::{Issue, IssueType, Json};
use coding::Terms;
pub use invariant::broken;
use item::Item;
pub(crate) use nearest::nearest;
use place::Place;
pub use world::{Found, Limits, Missing, Need, World};

/// Most issues that are listed; more do not help anybody to mend the resource.
pub const MAX_ISSUES: usize = 500;

/// What R4 itself has against a resource, in the order of its members; nothing if it is valid.
///
/// Every issue has a FHIRPath with indexes (`Patient.name[0].given[1]`); its text names elements
/// and rules but no content of the resource. Reading stops at
/// [`crate::format::json::MAX_DEPTH`] levels and
/// [`MAX_ISSUES`] issues, each with an issue that says so.
pub fn validate(definitions: &Definitions, resource: &Json) -> Vec<Issue> {
    run(definitions, None, resource, &[])
}

fn run<'a>(
    definitions: &'a Definitions,
    world: Option<World<'a>>,
    resource: &'a Json,
    given: &'a [&'a str],
) -> Vec<Issue> {
    let limits = world.map_or_else(Limits::default, |world| world.limits);
    let mut validator = Validator {
        definitions,
        world,
        limits,
        terms: terms(world),
        tally: Tally::new(limits.steps),
        given,
        contained: HashMap::new(),
        entries: HashMap::new(),
        ids: HashSet::new(),
        issues: Vec::new(),
        is_full: false,
        applied: Vec::new(),
        work: Cell::new(0),
        is_told: false,
    };
    let name = resource.str_at(&["resourceType"]);
    let name = name.filter(|name| definitions.type_of(name).is_some()).unwrap_or("Resource");
    let root = Place::root(name);
    validator.container(resource, &root, Scope::outermost(resource));
    if let Some(issue) = validator.terms.unchecked() {
        validator.push(&root, issue);
    }
    validator.is_whole(&root);
    validator.issues
}

/// What R4 and the profiles have against a resource: those that `meta.profile` names and those that
/// are given. The same defect is told once, although several of them may forbid it.
pub fn validate_in(world: &World<'_>, resource: &Json, profiles: &[&str]) -> Vec<Issue> {
    let mut issues = run(world.definitions, Some(*world), resource, profiles);
    let mut known = HashSet::new();
    issues.retain(|issue| known.insert((issue.expression.clone(), issue.text.clone())));
    issues
}

fn terms(world: Option<World<'_>>) -> Terms<'_> {
    match world {
        Some(world) => Terms::new(world.terminology, world.missing),
        None => Terms::required(&coding::R4),
    }
}

/// One run over a resource.
struct Validator<'a> {
    definitions: &'a Definitions,
    /// What else is known; without it only R4 itself is looked at.
    world: Option<World<'a>>,
    limits: Limits,
    terms: Terms<'a>,
    /// The steps of all evaluations of FHIRPath.
    tally: Tally,
    /// Profiles for the outermost resource beyond those that it claims.
    given: &'a [&'a str],
    /// The contained resources of the container, by their ids.
    contained: HashMap<&'a str, &'a Json>,
    /// The resources of the nearest Bundle, by their `fullUrl`s.
    entries: HashMap<&'a str, &'a Json>,
    /// The ids of the elements of the nearest resource.
    ids: HashSet<&'a str>,
    issues: Vec<Issue>,
    is_full: bool,
    /// The profiles that are being applied, outermost first, each to its value.
    applied: Vec<(&'a Profile, &'a Json)>,
    /// Checks that profiles asked for.
    work: Cell<u64>,
    /// Whether it was told that these are too many.
    is_told: bool,
}

/// The resources around an element.
#[derive(Clone, Copy)]
struct Scope<'a> {
    /// The nearest resource that is not contained.
    container: &'a Json,
    /// The nearest resource, a contained one itself.
    resource: &'a Json,
    /// Whether the element is within a contained resource.
    is_contained: bool,
    /// The nearest Bundle around the container.
    bundle: Option<&'a Json>,
    /// The `fullUrl` of the nearest entry of a Bundle.
    full_url: Option<&'a str>,
}

impl<'a> Scope<'a> {
    fn outermost(container: &'a Json) -> Scope<'a> {
        Scope { container, resource: container, is_contained: false, bundle: None, full_url: None }
    }

    /// Within a resource that is an element's value.
    fn within(self, resource: &'a Json) -> Scope<'a> {
        let is_bundle = self.container.str_at(&["resourceType"]) == Some("Bundle");
        let bundle = if is_bundle { Some(self.container) } else { self.bundle };
        Scope { container: resource, resource, is_contained: false, bundle, ..self }
    }

    /// Within a value: an entry of a Bundle or another resource has surroundings of its own.
    fn of(self, item: Item<'a>) -> Scope<'a> {
        let Some(json) = item.value else { return self };
        if item.kind.kind == Kind::Resource && !ptr::eq(json, self.resource) {
            let contained = self.container.list("contained");
            return match contained.as_ptr_range().contains(&ptr::from_ref(json)) {
                true => Scope { resource: json, is_contained: true, ..self },
                false => self.within(json),
            };
        }
        match item.kind.name {
            "Bundle.entry" => Scope { full_url: json.str_at(&["fullUrl"]), ..self },
            _ => self,
        }
    }
}

impl<'a> Validator<'a> {
    /// Another run that stands where this one does and whose issues are its own.
    fn within<'v>(&'v self) -> Validator<'v> {
        let within = Validator {
            definitions: self.definitions,
            world: self.world,
            limits: self.limits,
            terms: terms(self.world),
            tally: Tally::new(self.limits.steps.saturating_sub(self.tally.steps())),
            given: &[],
            contained: self.contained.clone(),
            entries: self.entries.clone(),
            ids: HashSet::new(),
            issues: Vec::new(),
            is_full: false,
            applied: self.applied.clone(),
            work: self.work.clone(),
            is_told: false,
        };
        within.terms.work().set(self.terms.work().get());
        within
    }

    /// A resource that is not contained.
    fn container(&mut self, json: &'a Json, place: &Place, scope: Scope<'a>) {
        let by_id = |item: &'a Json| Some((item.str_at(&["id"])?, item));
        let contained = json.list("contained").iter().filter_map(by_id).collect();
        let outer = std::mem::replace(&mut self.contained, contained);
        self.resource(json, place, scope);
        self.contained = outer;
    }

    fn resource(&mut self, json: &'a Json, place: &Place, scope: Scope<'a>) {
        let scope = Scope { resource: json, ..scope };
        let Json::Object(object) = json else {
            return self.report(place, IssueType::Structure, "A resource is a JSON object.");
        };
        let name = match object.get("resourceType") {
            Some(Json::String(name)) => name.as_str(),
            Some(_) => {
                return self.report(place, IssueType::Structure, "resourceType is a string.");
            }
            None => {
                let text = "The resource has no resourceType.";
                return self.report(place, IssueType::Structure, text);
            }
        };
        let kind = self.definitions.type_of(name).filter(|_| self.definitions.is_resource(name));
        let Some(kind) = kind else {
            let text = "The resourceType is none of R4's resource types.";
            return self.report(place, IssueType::Structure, text);
        };
        let outer = std::mem::take(&mut self.ids);
        if name == "Bundle" {
            let by_url =
                |entry: &'a Json| Some((entry.str_at(&["fullUrl"])?, entry.get("resource")?));
            let entries = json.list("entry").iter().filter_map(by_url).collect();
            let outer = std::mem::replace(&mut self.entries, entries);
            self.of_kind(kind, json, place, scope);
            self.entries = outer;
            self.bundle(json, place);
        } else {
            self.of_kind(kind, json, place, scope);
        }
        self.ids = outer;
    }

    /// A resource whose type is known.
    fn of_kind(&mut self, kind: &'a Type, json: &'a Json, place: &Place, scope: Scope<'a>) {
        let place = &place.of(kind.name);
        self.object(kind, json, place, scope);
        self.contained(json, place, scope);
        self.type_invariants(kind, json, scope, place);
        self.profiles(json, kind, place, scope);
        self.questionnaire(kind, json, place, scope);
    }

    /// Whether a value at this place is too deep to be looked at; then an issue says so.
    fn is_too_deep(&mut self, place: &Place) -> bool {
        let is_too_deep = place.depth > self.limits.depth;
        if is_too_deep {
            let text = format!("The nesting is deeper than {} levels.", self.limits.depth);
            self.report(place, IssueType::TooCostly, text);
        }
        is_too_deep
    }

    /// Tells that the work came to its end before all was looked at, wherever that was: what is
    /// only tried, as the profile of a slice, tells nothing itself.
    fn is_whole(&mut self, place: &Place) {
        let is_short = self.work.get() > self.limits.work
            || self.tally.steps() > self.limits.steps
            || self.terms.is_spent();
        if is_short && self.issues.iter().all(|issue| issue.code != IssueType::TooCostly) {
            let text =
                "The rules and profiles ask for too much work; not all of them were checked.";
            self.issues.push(Issue::error(IssueType::TooCostly, text).at(place.to_string()));
        }
    }

    fn report(&mut self, place: &Place, code: IssueType, text: impl Into<String>) {
        self.push(place, Issue::error(code, text));
    }

    fn push(&mut self, place: &Place, mut issue: Issue) {
        // What an issue says may come from a profile and be long.
        self.spend(issue.text.len() / 16);
        words::cut(&mut issue.text);
        match self.issues.len() < self.limits.issues {
            true => self.add(issue.at(place.to_string())),
            false => self.add(issue),
        }
    }

    /// Adds an issue whose place is known.
    fn add(&mut self, issue: Issue) {
        if self.issues.len() < self.limits.issues {
            self.issues.push(issue);
        } else if !self.is_full {
            self.is_full = true;
            let text =
                format!("There are more than {} issues; the rest is left out.", self.limits.issues);
            self.issues.push(Issue::error(IssueType::TooCostly, text));
        }
    }
}
