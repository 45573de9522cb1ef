//! Create, and create on a condition: <https://hl7.org/fhir/R4/http.html#create>.

use lumbar_fhir::Json;

use super::{Error, Facade, Preferences, Reply, Success, Unit};

impl Facade {
    pub(super) async fn create(
        &self,
        resource: &Json,
        if_none_exist: Option<&[(String, String)]>,
        prefer: Preferences,
    ) -> Result<Reply, Error> {
        let resource_type = resource.str_at(&["resourceType"]).unwrap_or_default();
        let mut unit = Unit::new(self);
        if let Some(parameters) = if_none_exist
            && let Some(id) = unit.existing(resource_type, parameters).await?
        {
            let mut reply = self.read(resource_type, &id).await?;
            reply.location =
                reply.version.map(|version| self.location(resource_type, &id, version));
            return Ok(self.shaped(reply, &[], prefer));
        }
        let id = self.source.id();
        let mut resource = resource.clone();
        if let Some(object) = resource.as_object_mut() {
            object.set_at(1, "id", id.as_str());
        }
        unit.create(resource_type, &id, resource).await?;
        let committed = unit.commit().await?;
        let stored = committed.find(resource_type, &id).ok_or(Error::Internal)?;
        Ok(self.written(Success::Created, stored, &committed.issues(), prefer))
    }
}

impl Unit<'_> {
    /// The id of the resource that `If-None-Exist` finds. When it finds none, the commit goes
    /// through only if that is still so.
    ///
    /// # Errors
    /// [`Error::PreconditionFailed`] when it finds several.
    pub(super) async fn existing(
        &mut self,
        resource_type: &str,
        parameters: &[(String, String)],
    ) -> Result<Option<String>, Error> {
        match self.matching(resource_type, parameters, 2).await?.as_slice() {
            [] => {
                self.guard(resource_type, parameters).await?;
                Ok(None)
            }
            [one] => Ok(Some(one.str_at(&["id"]).unwrap_or_default().to_owned())),
            _ => Err(Error::several(resource_type)),
        }
    }

    /// Puts a new resource with a new id into the unit.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it breaks the rules and these are enforced.
    pub(super) async fn create(
        &mut self,
        resource_type: &str,
        id: &str,
        resource: Json,
    ) -> Result<(), Error> {
        let resource = self.corrected(resource_type, id, resource);
        self.check(resource_type, id, &resource).await?;
        self.put_new(resource_type, id, resource);
        Ok(())
    }
}
