//! The version and time that the service writes into a resource, and whether two resources say the
//! same without them: <https://hl7.org/fhir/R4/resource.html#Meta>.

use std::borrow::Cow;
use std::sync::Arc;

use lumbar_fhir::datetime::instant;
use lumbar_fhir::{Json, Object};
use lumbar_store::Stored;

use super::{Unit, key};
use crate::facade::Error;

impl Unit<'_> {
    /// Whether the unit leaves a resource alone and the store holds it saying the same.
    pub(in crate::facade) fn says_the_same(
        &self,
        resource_type: &str,
        id: &str,
        new: &Json,
    ) -> Result<bool, Error> {
        let key = key(resource_type, id);
        let stored = self.loaded.get(&key).and_then(Option::as_ref);
        match stored.and_then(|stored| stored.body.as_ref()) {
            Some(text) if !self.places.contains_key(&key) => Ok(same(&parse(text)?, new)),
            _ => Ok(false),
        }
    }

    /// Whether the store holds a resource, whose type and id it carries, saying the same.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(in crate::facade) async fn holds(&mut self, resource: &Json) -> Result<bool, Error> {
        let name = |name: &str| resource.str_at(&[name]).unwrap_or_default();
        let (resource_type, id) = (name("resourceType"), name("id"));
        self.load(resource_type, id).await?;
        self.says_the_same(resource_type, id, resource)
    }
}

/// A stored resource, read.
///
/// # Errors
/// The text is none of ours.
pub(in crate::facade) fn parse(body: &Arc<str>) -> Result<Json, Error> {
    Json::parse(body.as_bytes()).map_err(|error| {
        tracing::error!(%error, "a stored resource cannot be read");
        Error::Internal
    })
}

/// Writes version and time into `meta`, which stands after `resourceType` and `id`.
pub(super) fn stamp(mut resource: Json, version: i64, now: i64) -> Json {
    if let Some(object) = resource.as_object_mut() {
        if object.get("meta").and_then(Json::as_object).is_none() {
            object.set_at(2, "meta", Object::new());
        }
        if let Some(meta) = object.get_mut("meta").and_then(Json::as_object_mut) {
            meta.set("versionId", version.to_string());
            meta.set("lastUpdated", instant(now));
        }
    }
    resource
}

/// Whether a stored resource says the same as another; by the text where that is written alike.
pub(in crate::facade) fn is_same(stored: &Stored, new: &Json) -> Result<bool, Error> {
    let Some(body) = &stored.body else { return Ok(false) };
    let text = stamp(new.clone(), stored.version, stored.last_updated).to_string();
    if text == **body {
        return Ok(true);
    }
    Ok(same(&parse(body)?, new))
}

/// Whether two resources say the same but for the version and time that the service writes.
pub(super) fn same(stored: &Json, new: &Json) -> bool {
    fn members(resource: &Json) -> Vec<(&str, Cow<'_, Json>)> {
        let Some(object) = resource.as_object() else { return Vec::new() };
        let mut members = Vec::with_capacity(object.len());
        for (name, value) in object.iter() {
            let mut value = Cow::Borrowed(value);
            if name == "meta"
                && value.as_object().is_some()
                && let Some(meta) = value.to_mut().as_object_mut()
            {
                meta.remove("versionId");
                meta.remove("lastUpdated");
                if meta.is_empty() {
                    continue;
                }
            }
            members.push((name, value));
        }
        members.sort_by_key(|(name, _)| *name);
        members
    }
    members(stored) == members(new)
}
