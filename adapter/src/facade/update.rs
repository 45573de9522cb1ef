//! Update, which also creates, and update on a condition:
//! <https://hl7.org/fhir/R4/http.html#update>.

use lumbar_fhir::issue::operation_outcome;
use lumbar_fhir::rest::{Precondition, Target, is_id};
use lumbar_fhir::{Issue, IssueType, Json};
use lumbar_store::Stored;

use super::unit::Committed;
use super::{Error, Facade, Preferences, Reply, Return, Success, Unit};

impl Facade {
    pub(super) async fn update(
        &self,
        resource: &Json,
        target: &Target,
        precondition: Option<&Precondition>,
        prefer: Preferences,
    ) -> Result<Reply, Error> {
        let mut unit = Unit::new(self);
        let resource = unit.aimed(resource, target).await?;
        let name = |member| resource.str_at(&[member]).unwrap_or_default().to_owned();
        let (resource_type, id) = (name("resourceType"), name("id"));
        unit.hold(&resource_type, &id, precondition).await?;
        let created = unit.update(resource).await?;
        let committed = unit.commit().await?;
        self.updated(&resource_type, &id, created, &committed, prefer).await
    }

    /// The answer to an update or a patch.
    pub(super) async fn updated(
        &self,
        resource_type: &str,
        id: &str,
        created: bool,
        committed: &Committed,
        prefer: Preferences,
    ) -> Result<Reply, Error> {
        match committed.find(resource_type, id) {
            Some(stored) => {
                let success = if created { Success::Created } else { Success::Ok };
                Ok(self.written(success, stored, &committed.issues(), prefer))
            }
            // Nothing changed: the version that is there answers.
            None => {
                let reply = self.read(resource_type, id).await?;
                Ok(self.shaped(reply, &committed.issues(), prefer))
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
        reply.issues = issues.to_vec();
        reply
    }

    /// URL of one version of a resource.
    pub(super) fn location(&self, resource_type: &str, id: &str, version: i64) -> String {
        format!("{}/{resource_type}/{id}/_history/{version}", self.base)
    }
}

impl Unit<'_> {
    /// The resource with the id that its target gives it:
    /// <https://hl7.org/fhir/R4/http.html#cond-update>.
    ///
    /// # Errors
    /// [`Error::PreconditionFailed`] when the condition finds several; [`Error::Unparseable`] when
    /// the resource has another id than what it finds; [`Error::Refused`] when it finds nothing and
    /// there is a resource with the id already, which the client did not mean.
    pub(super) async fn aimed(&mut self, resource: &Json, target: &Target) -> Result<Json, Error> {
        let Target::Matching(parameters) = target else { return Ok(resource.clone()) };
        let resource_type = resource.str_at(&["resourceType"]).unwrap_or_default();
        let place = format!("{resource_type}.id");
        let wrong = |text: &str| {
            Error::Unparseable(vec![Issue::error(IssueType::Value, text).at(place.as_str())])
        };
        let given = match resource.get("id").map(Json::as_str) {
            None => None,
            Some(Some(id)) if is_id(id) => Some(id),
            Some(_) => {
                let text =
                    "This is not an id: 1 to 64 letters, digits, hyphens and points are allowed.";
                return Err(wrong(text));
            }
        };
        let id = match (self.existing(resource_type, parameters).await?, given) {
            (Some(found), Some(given)) if found != given => {
                let text = format!(
                    "The condition finds {resource_type}/{found}, but the id in the body is another one; make them equal, or leave the id out."
                );
                return Err(wrong(&text));
            }
            (Some(found), _) => found,
            (None, Some(given)) => {
                if self.version(resource_type, given).await?.exists {
                    let text = format!(
                        "The condition finds nothing, but {resource_type}/{given} is there; leave the id out, or update that resource by its id."
                    );
                    let issue = Issue::error(IssueType::Conflict, text).at(place.as_str());
                    return Err(Error::Refused(issue));
                }
                given.to_owned()
            }
            (None, None) => self.facade().source.id(),
        };
        let mut resource = resource.clone();
        if let Some(object) = resource.as_object_mut() {
            object.set_at(1, "id", id.as_str());
        }
        Ok(resource)
    }

    /// Looks whether a resource stands as the client says that it does.
    ///
    /// # Errors
    /// [`Error::PreconditionFailed`] when it does not; [`Error::PreconditionRequired`] when the
    /// client says nothing and the service asks for it.
    pub(super) async fn hold(
        &mut self,
        resource_type: &str,
        id: &str,
        precondition: Option<&Precondition>,
    ) -> Result<(), Error> {
        let current = self.version(resource_type, id).await?;
        let failed =
            |text: String| Err(Error::PreconditionFailed(Issue::error(IssueType::Conflict, text)));
        match (precondition, current.version) {
            (Some(Precondition::Versions(held)), Some(version)) if held.contains(&version) => {
                Ok(())
            }
            (Some(Precondition::Versions(held)), Some(version)) => {
                let named = match held.as_slice() {
                    [held] => format!("names version {held}"),
                    _ => "names other versions".to_owned(),
                };
                failed(format!(
                    "If-Match {named}, but the current version is {version}; read it and apply the change again."
                ))
            }
            (Some(Precondition::Versions(_) | Precondition::Exists), None) => {
                failed("If-Match names a version of a resource that does not exist.".to_owned())
            }
            (Some(Precondition::Exists), Some(_)) if !current.exists => {
                failed(format!("If-Match is *, but {resource_type}/{id} was deleted."))
            }
            (Some(Precondition::Absent), Some(version)) if current.exists => failed(format!(
                "If-None-Match is *, but {resource_type}/{id} is there as version {version}; to change it, send If-Match: W/\"{version}\"."
            )),
            (None, Some(version)) if current.exists && self.facade().policy.require_if_match => {
                Err(Error::precondition_required(resource_type, id, version))
            }
            _ => Ok(()),
        }
    }

    /// Puts a resource under its own id into the unit and says whether that creates it. A resource
    /// that says the same as the current version leaves everything as it is.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it breaks the rules and these are enforced.
    pub(super) async fn update(&mut self, resource: Json) -> Result<bool, Error> {
        let resource_type = resource.str_at(&["resourceType"]).unwrap_or_default().to_owned();
        let id = resource.str_at(&["id"]).unwrap_or_default().to_owned();
        let current = self.version(&resource_type, &id).await?;
        let resource = self.corrected(&resource_type, &id, resource);
        self.check(&resource_type, &id, &resource).await?;
        if !self.says_the_same(&resource_type, &id, &resource)? {
            self.put(&resource_type, &id, resource);
        }
        Ok(!current.exists)
    }
}
