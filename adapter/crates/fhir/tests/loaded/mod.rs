//! What the tests of profiles validate with: R4, and what a case brings.

use std::sync::{Arc, LazyLock};

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::profile::Profiles;
use lumbar_fhir::terminology::Library;
use lumbar_fhir::validate::{Found, Limits, Missing, World, validate_in};
use lumbar_fhir::{Issue, Json, Severity};

/// The types of R4.
pub static R4: LazyLock<Definitions> = LazyLock::new(Definitions::r4);
/// When the cases are looked at.
const NOW: &str = "2026-03-02T10:42:00Z";

static PROFILES: LazyLock<Profiles> = LazyLock::new(Profiles::r4);
static TERMINOLOGY: LazyLock<Library> = LazyLock::new(Library::r4);

/// What the cases bring with them.
#[derive(Clone)]
pub struct Loaded {
    pub profiles: Profiles,
    pub terminology: Library,
    pub resources: Found,
}

impl Loaded {
    /// R4 alone.
    pub fn r4() -> Loaded {
        Loaded {
            profiles: PROFILES.clone(),
            terminology: TERMINOLOGY.clone(),
            resources: Found::default(),
        }
    }

    /// Takes an artefact in; of any other resource what a reference to it finds. Returns what is
    /// wrong with a profile.
    pub fn add(&mut self, resource: &Json) -> Vec<Issue> {
        let url = resource.str_at(&["url"]).unwrap_or_default();
        match resource.str_at(&["resourceType"]) {
            Some("StructureDefinition") => return self.profiles.add(resource),
            Some("ValueSet" | "CodeSystem") => {
                let _ = self.terminology.add(resource);
            }
            Some("Bundle") if resource.str_at(&["type"]) == Some("collection") => {
                for resource in resource.list("entry").iter().filter_map(|e| e.get("resource")) {
                    self.add(resource);
                }
            }
            Some(name) => {
                let key = match resource.str_at(&["id"]) {
                    _ if !url.is_empty() => url.to_owned(),
                    Some(id) => format!("{name}/{id}"),
                    None => return Vec::new(),
                };
                self.resources.put(key, Some(Arc::new(resource.clone())));
            }
            None => {}
        }
        Vec::new()
    }

    /// What there is to say of a resource.
    pub fn issues(&self, resource: &Json, profiles: &[&str]) -> Vec<Issue> {
        self.issues_within(Limits::default(), resource, profiles)
    }

    /// The same, with other limits.
    pub fn issues_within(&self, limits: Limits, resource: &Json, profiles: &[&str]) -> Vec<Issue> {
        let missing = Missing::default();
        let world = World {
            definitions: &R4,
            profiles: &self.profiles,
            terminology: &self.terminology,
            resources: &self.resources,
            missing: &missing,
            now: Some(NOW),
            vital_signs: Severity::Error,
            limits,
        };
        validate_in(&world, resource, profiles)
    }
}
