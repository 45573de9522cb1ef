//! Create: <https://hl7.org/fhir/R4/http.html#create>.

use lumbar_fhir::{Issue, IssueType, Json};

use super::{Error, Facade, Preferences, Reply, Success, Unit};

impl Facade {
    pub(super) async fn create(
        &self,
        resource: &Json,
        if_none_exist: Option<&[(String, String)]>,
        prefer: Preferences,
    ) -> Result<Reply, Error> {
        let mut unit = Unit::new(self);
        let created = unit.create(resource.clone(), if_none_exist).await?;
        if created.existed {
            let mut reply = self.read(&created.resource_type, &created.id).await?;
            reply.location = reply
                .version
                .map(|version| self.location(&created.resource_type, &created.id, version));
            return Ok(self.shaped(reply, &[], prefer));
        }
        let committed = unit.commit().await?;
        let stored = committed.find(&created.resource_type, &created.id).ok_or(Error::Internal)?;
        Ok(self.written(Success::Created, stored, &committed.issues, prefer))
    }
}

impl Unit<'_> {
    /// Puts a new resource with a new id into the unit, unless `if_none_exist` finds one.
    ///
    /// # Errors
    /// [`Error::PreconditionFailed`] when it finds several.
    pub async fn create(
        &mut self,
        mut resource: Json,
        if_none_exist: Option<&[(String, String)]>,
    ) -> Result<Created, Error> {
        let resource_type = resource.str_at(&["resourceType"]).unwrap_or_default().to_owned();
        if let Some(parameters) = if_none_exist {
            let found = self.find(&resource_type, parameters, 2).await?;
            match found.as_slice() {
                [] => self.guard(&resource_type, parameters).await?,
                [one] => {
                    let id = one.str_at(&["id"]).unwrap_or_default().to_owned();
                    return Ok(Created { resource_type, id, existed: true });
                }
                _ => {
                    return Err(Error::PreconditionFailed(Issue::error(
                        IssueType::MultipleMatches,
                        "If-None-Exist finds more than one resource; make the search narrower.",
                    )));
                }
            }
        }
        let id = self.facade().source.id();
        self.check(&resource)?;
        if let Some(object) = resource.as_object_mut() {
            object.set_at(1, "id", id.as_str());
        }
        self.put_new(&resource_type, &id, resource);
        Ok(Created { resource_type, id, existed: false })
    }
}

/// What a create came to.
pub struct Created {
    /// Type of the resource.
    pub resource_type: String,
    /// Its id.
    pub id: String,
    /// Whether it was there before.
    pub existed: bool,
}
