//! Update, which also creates: <https://hl7.org/fhir/R4/http.html#update>.

use lumbar_fhir::issue::operation_outcome;
use lumbar_fhir::rest::Target;
use lumbar_fhir::{Issue, IssueType, Json};
use lumbar_store::Stored;

use super::patch::id_of;
use super::{Error, Facade, Preferences, Reply, Return, Success, Unit};

impl Facade {
    pub(super) async fn update(
        &self,
        resource: &Json,
        target: &Target,
        if_match: Option<i64>,
        prefer: Preferences,
    ) -> Result<Reply, Error> {
        id_of(target)?;
        let mut unit = Unit::new(self);
        let updated = unit.update(resource.clone(), if_match).await?;
        let committed = unit.commit().await?;
        match committed.find(&updated.resource_type, &updated.id) {
            Some(stored) => {
                let success = if updated.created { Success::Created } else { Success::Ok };
                Ok(self.written(success, stored, &committed.issues, prefer))
            }
            // Nothing changed: the version that is there answers.
            None => {
                let reply = self.read(&updated.resource_type, &updated.id).await?;
                Ok(self.shaped(reply, &committed.issues, prefer))
            }
        }
    }

    /// The answer to a write.
    pub(super) fn written(
        &self,
        success: Success,
        stored: &Stored,
        issues: &[Issue],
        prefer: Preferences,
    ) -> Reply {
        let location = self.location(&stored.resource_type, &stored.id, stored.version);
        let reply = Reply { success, location: Some(location), ..Reply::stored(stored.clone()) };
        self.shaped(reply, issues, prefer)
    }

    pub(super) fn shaped(&self, mut reply: Reply, issues: &[Issue], prefer: Preferences) -> Reply {
        match prefer.returns {
            None | Some(Return::Representation) => {}
            Some(Return::Minimal) => reply.body = None,
            Some(Return::OperationOutcome) => {
                let text = match reply.success {
                    Success::Created => "The resource was created.",
                    _ => "The resource was stored.",
                };
                let mut told = vec![Issue::information(IssueType::Informational, text)];
                told.extend(issues.iter().cloned());
                let outcome = operation_outcome(&told);
                reply.body = Some(outcome.to_string().into());
            }
        }
        reply
    }

    /// URL of one version of a resource.
    pub(super) fn location(&self, resource_type: &str, id: &str, version: i64) -> String {
        format!("{}/{resource_type}/{id}/_history/{version}", self.base)
    }
}

impl Unit<'_> {
    /// Puts a resource under its own id into the unit. A resource that says the same as the
    /// current version leaves everything as it is.
    ///
    /// # Errors
    /// [`Error::PreconditionFailed`] when `if_match` is not the current version.
    pub async fn update(
        &mut self,
        resource: Json,
        if_match: Option<i64>,
    ) -> Result<Updated, Error> {
        let resource_type = resource.str_at(&["resourceType"]).unwrap_or_default().to_owned();
        let id = resource.str_at(&["id"]).unwrap_or_default().to_owned();
        let current = self.version(&resource_type, &id).await?;
        check_version(current.version, if_match)?;
        self.check(&resource)?;
        let created = !current.exists;
        if !self.says_the_same(&resource_type, &id, &resource)? {
            self.put(&resource_type, &id, resource);
        }
        Ok(Updated { resource_type, id, created })
    }
}

/// Compares the version that the client holds with the current one.
pub(super) fn check_version(current: Option<i64>, if_match: Option<i64>) -> Result<(), Error> {
    match if_match {
        Some(held) if current != Some(held) => {
            let text = match current {
                Some(current) => format!(
                    "If-Match names version {held}, but the current version is {current}; read it and apply the change again."
                ),
                None => "If-Match names a version of a resource that does not exist.".to_owned(),
            };
            Err(Error::PreconditionFailed(Issue::error(IssueType::Conflict, text)))
        }
        _ => Ok(()),
    }
}

/// What an update came to.
pub struct Updated {
    /// Type of the resource.
    pub resource_type: String,
    /// Its id.
    pub id: String,
    /// Whether there was no such resource before.
    pub created: bool,
}
