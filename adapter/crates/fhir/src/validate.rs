//! Base validation: <https://hl7.org/fhir/R4/validation.html>.
//!
//! [`validate`] holds a resource against the definitions of R4: its elements and their number, the
//! JSON form of each value, the lexical form of primitives, required codes, extensions,
//! references, narratives, contained resources, bundles and the invariants of R4. Profiles, slices
//! and bindings that need a terminology service are not here; nor is any fetching of what a
//! reference points to.
//!
//! Nothing is built while all is well: the path of an element is a chain of places on the
//! stack and becomes text only with an issue.

mod binding;
mod bundle;
mod cardinality;
mod contained;
mod element;
mod extension;
mod identifier;
mod invariant;
mod narrative;
mod place;
mod presence;
mod primitive;
mod reference;

use std::collections::HashMap;

use crate::definitions::Definitions;
use crate::format::json::MAX_DEPTH;
use crate::{Issue, IssueType, Json};
pub(crate) use binding::is_system_of;
use place::Place;

/// Most issues that are listed; more do not help anybody to mend the resource.
pub const MAX_ISSUES: usize = 500;

/// What R4 itself has against a resource, in the order of its members; nothing if it is valid.
///
/// Every issue has a FHIRPath with indexes (`Patient.name[0].given[1]`); its text names elements
/// and rules but no content of the resource. Reading stops at [`MAX_DEPTH`] levels and
/// [`MAX_ISSUES`] issues, each with an issue that says so.
pub fn validate(definitions: &Definitions, resource: &Json) -> Vec<Issue> {
    let mut validator = Validator {
        definitions,
        contained: HashMap::new(),
        entries: HashMap::new(),
        issues: Vec::new(),
        is_full: false,
    };
    let name = resource.str_at(&["resourceType"]);
    let name = name.filter(|name| definitions.type_of(name).is_some()).unwrap_or("Resource");
    validator.container(resource, &Place::root(name), Scope::outermost(resource));
    validator.issues
}

/// One run over a resource.
struct Validator<'a> {
    definitions: &'a Definitions,
    /// The contained resources of the container, by their ids.
    contained: HashMap<&'a str, &'a Json>,
    /// The resources of the nearest Bundle, by their `fullUrl`s.
    entries: HashMap<&'a str, &'a Json>,
    issues: Vec<Issue>,
    is_full: bool,
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
}

impl<'a> Scope<'a> {
    fn outermost(container: &'a Json) -> Scope<'a> {
        Scope { container, resource: container, is_contained: false, bundle: None }
    }

    /// Within a resource that is an element's value.
    fn within(self, resource: &'a Json) -> Scope<'a> {
        let is_bundle = self.container.str_at(&["resourceType"]) == Some("Bundle");
        let bundle = if is_bundle { Some(self.container) } else { self.bundle };
        Scope { container: resource, resource, is_contained: false, bundle }
    }
}

impl<'a> Validator<'a> {
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
        if name == "Bundle" {
            let by_url =
                |entry: &'a Json| Some((entry.str_at(&["fullUrl"])?, entry.get("resource")?));
            let entries = json.list("entry").iter().filter_map(by_url).collect();
            let outer = std::mem::replace(&mut self.entries, entries);
            self.object(kind, object, place, scope);
            self.entries = outer;
            self.bundle(json, place);
        } else {
            self.object(kind, object, place, scope);
        }
        self.contained(json, place, scope);
        self.type_invariants(kind, json, json, place);
    }

    /// Whether a value at this place is too deep to be looked at; then an issue says so.
    fn is_too_deep(&mut self, place: &Place) -> bool {
        let is_too_deep = place.depth > MAX_DEPTH;
        if is_too_deep {
            let text = format!("The nesting is deeper than {MAX_DEPTH} levels.");
            self.report(place, IssueType::TooCostly, text);
        }
        is_too_deep
    }

    fn report(&mut self, place: &Place, code: IssueType, text: impl Into<String>) {
        self.push(place, Issue::error(code, text));
    }

    fn push(&mut self, place: &Place, issue: Issue) {
        if self.issues.len() < MAX_ISSUES {
            self.issues.push(issue.at(place.to_string()));
        } else if !self.is_full {
            self.is_full = true;
            let text = format!("There are more than {MAX_ISSUES} issues; the rest is left out.");
            self.issues.push(Issue::error(IssueType::TooCostly, text));
        }
    }
}
