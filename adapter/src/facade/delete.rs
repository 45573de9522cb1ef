//! Delete, and delete on a condition: <https://hl7.org/fhir/R4/http.html#delete>.
//!
//! A condition that finds nothing is no error: the standard lets it do what an ordinary delete
//! does, which is nothing where nothing is.

use lumbar_fhir::issue::operation_outcome;
use lumbar_fhir::rest::{Precondition, Target};
use lumbar_fhir::{Issue, IssueType};

use super::unit::Committed;
use super::{Error, Facade, Preferences, Reply, Return, Success, Unit};
use crate::config::ConditionalDelete;

impl Facade {
    pub(super) async fn delete(
        &self,
        resource_type: &str,
        target: &Target,
        precondition: Option<&Precondition>,
        prefer: Preferences,
    ) -> Result<Reply, Error> {
        let mut unit = Unit::new(self);
        let ids = unit.delete(resource_type, target, precondition).await?;
        let committed = unit.commit().await?;
        self.deleted(resource_type, &ids, &committed, prefer).await
    }

    /// The answer to a delete.
    pub(super) async fn deleted(
        &self,
        resource_type: &str,
        ids: &[String],
        committed: &Committed,
        prefer: Preferences,
    ) -> Result<Reply, Error> {
        let mut reply = Reply::empty(Success::NoContent);
        if let [id] = ids {
            let stored = match committed.find(resource_type, id) {
                Some(stored) => Some(stored.clone()),
                None => self.resources.read(resource_type, id).await?,
            };
            reply.version = stored.as_ref().map(|stored| stored.version);
            reply.last_updated = stored.map(|stored| stored.last_updated);
        }
        if prefer.returns == Some(Return::OperationOutcome) {
            let count = ids.iter().filter(|id| committed.find(resource_type, id).is_some()).count();
            let text = match count {
                0 => "There was nothing to delete.".to_owned(),
                1 => "The resource was deleted.".to_owned(),
                count => format!("{count} resources were deleted."),
            };
            let told = [Issue::information(IssueType::Informational, text)];
            reply.body = Some(operation_outcome(&told).to_string().into());
            reply.success = Success::Ok;
        }
        Ok(reply)
    }
}

impl Unit<'_> {
    /// Deletes what the target means and gives the ids; deleting what is not there, or no more,
    /// changes nothing.
    ///
    /// # Errors
    /// [`Error::PreconditionFailed`] when the resource does not stand as the client says, or when the
    /// condition finds more than one and only one may be deleted.
    pub(super) async fn delete(
        &mut self,
        resource_type: &str,
        target: &Target,
        precondition: Option<&Precondition>,
    ) -> Result<Vec<String>, Error> {
        let ids = match target {
            Target::Id(id) => {
                self.hold(resource_type, id, precondition).await?;
                vec![id.clone()]
            }
            Target::Matching(parameters) => {
                let ids = self.condemned(resource_type, parameters).await?;
                // The condition stands for the version, unless the client names one as well.
                if precondition.is_some() {
                    for id in &ids {
                        self.hold(resource_type, id, precondition).await?;
                    }
                }
                ids
            }
        };
        for id in &ids {
            if self.version(resource_type, id).await?.exists {
                self.remove(resource_type, id);
            }
        }
        Ok(ids)
    }

    /// The ids of the resources that a condition deletes.
    async fn condemned(
        &mut self,
        resource_type: &str,
        parameters: &[(String, String)],
    ) -> Result<Vec<String>, Error> {
        let policy = &self.facade().policy;
        let most = match policy.conditional_delete {
            ConditionalDelete::Single => 1,
            ConditionalDelete::Multiple => policy.limits.entries,
        };
        let found = self.matching(resource_type, parameters, most + 1).await?;
        if found.len() > most {
            return Err(match policy.conditional_delete {
                ConditionalDelete::Single => Error::several(resource_type),
                ConditionalDelete::Multiple => {
                    let text = format!(
                        "The condition finds more than {most} resources, which is too many to delete at once; make it narrower."
                    );
                    Error::PreconditionFailed(Issue::error(IssueType::TooCostly, text))
                }
            });
        }
        let ids = found.iter().map(|one| one.str_at(&["id"]).unwrap_or_default().to_owned());
        Ok(ids.collect())
    }
}
