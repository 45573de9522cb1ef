//! Whether a write changes anything: an update that says what is stored makes no version
//! (<https://hl7.org/fhir/R4/http.html#update>).

use std::borrow::Cow;

use lumbar_fhir::Json;

use super::{Unit, key, parse};
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

/// Whether two resources say the same but for the version and time that the service writes.
fn same(stored: &Json, new: &Json) -> bool {
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
