//! What a partner sends names our profile when it conforms: <https://hl7.org/fhir/R4/profiling.html>.

use lumbar_fhir::validate::Limits;
use lumbar_fhir::{Issue, Json, json};

use super::{Asked, Facade};
use crate::config::ID_BASE;

impl Facade {
    /// Names in `meta.profile` of each resource the profile of ours that it conforms to, where we
    /// have one for its type. Where it does not conform it stays as it is: what a partner leaves
    /// out is no reason to refuse it.
    pub fn claim(&self, resources: &mut [Json]) {
        let (definitions, known) = (self.definitions(), self.validation.standard());
        for resource in resources {
            let Some(profile) = self.profile_of(resource) else { continue };
            let (issues, _) = known.look(
                &definitions,
                &known.resources,
                resource,
                Asked { profiles: std::slice::from_ref(&profile), ..Asked::to_store() },
                Limits::default(),
                self.source.now(),
            );
            if issues.iter().any(Issue::is_error) {
                continue;
            }
            if resource.get("meta").is_none()
                && let Some(resource) = resource.as_object_mut()
            {
                resource.set_at(2, "meta", json!({}));
            }
            if let Some(meta) = resource.get_mut("meta").and_then(Json::as_object_mut) {
                meta.set_at(0, "profile", json!([(profile)]));
            }
        }
    }

    /// The one profile of ours that is about resources of this type.
    fn profile_of(&self, resource: &Json) -> Option<String> {
        let of = resource.str_at(&["resourceType"])?;
        let mut profiles = self.rules.artefacts.iter().filter(|artefact| {
            artefact.str_at(&["resourceType"]) == Some("StructureDefinition")
                && artefact.str_at(&["derivation"]) == Some("constraint")
                && artefact.str_at(&["type"]) == Some(of)
                && artefact.str_at(&["url"]).is_some_and(|url| url.starts_with(ID_BASE))
        });
        let url = profiles.next()?.str_at(&["url"])?;
        profiles.next().is_none().then(|| url.to_owned())
    }
}
