//! Patch, and patch on a condition: <https://hl7.org/fhir/R4/http.html#patch>.
//!
//! A patch that cannot be understood is a 400. One that cannot be applied to the resource as it is,
//! a failing `test` among them, is a 422 (RFC 5789, 2.2), and so is one whose result is not valid.

use lumbar_fhir::patch::Patch;
use lumbar_fhir::rest::{Precondition, Target};
use lumbar_fhir::{Issue, IssueType, Json};

use super::{Error, Facade, Preferences, Reply, Unit};

impl Facade {
    pub(super) async fn patch(
        &self,
        resource_type: &str,
        target: &Target,
        patch: &Json,
        precondition: Option<&Precondition>,
        prefer: Preferences,
    ) -> Result<Reply, Error> {
        let mut unit = Unit::new(self);
        let id = unit.one(resource_type, target).await?;
        unit.hold(resource_type, &id, precondition).await?;
        let patched = unit.patched(resource_type, &id, patch).await?;
        unit.update(patched).await?;
        let committed = unit.commit().await?;
        self.updated(resource_type, &id, false, &committed, prefer).await
    }
}

impl Unit<'_> {
    /// The id of the one resource that a target means.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the condition finds none, [`Error::PreconditionFailed`] when it
    /// finds several; [`Error::NotFound`] and [`Error::Gone`] when there is none with the id.
    pub(super) async fn one(
        &mut self,
        resource_type: &str,
        target: &Target,
    ) -> Result<String, Error> {
        let id = match target {
            Target::Id(id) => id.clone(),
            Target::Matching(parameters) => {
                let found = self.matching(resource_type, parameters, 2).await?;
                match found.as_slice() {
                    [one] => one.str_at(&["id"]).unwrap_or_default().to_owned(),
                    [] => {
                        let text = format!("The condition finds no {resource_type}.");
                        return Err(Error::NotFound(Issue::error(IssueType::NotFound, text)));
                    }
                    _ => return Err(Error::several(resource_type)),
                }
            }
        };
        let current = self.version(resource_type, &id).await?;
        match current.version {
            _ if current.exists => Ok(id),
            None => Err(Error::not_found(resource_type, &id)),
            Some(version) => Err(Error::gone(resource_type, &id, version)),
        }
    }

    /// The resource as a patch makes it.
    ///
    /// # Errors
    /// The patch cannot be understood or applied, or changes what only the service changes.
    pub(super) async fn patched(
        &mut self,
        resource_type: &str,
        id: &str,
        patch: &Json,
    ) -> Result<Json, Error> {
        let definitions = self.facade().definitions();
        let patch = Patch::read(&definitions, resource_type, patch)?;
        let Some(before) = self.read(resource_type, id).await? else {
            return Err(Error::not_found(resource_type, id));
        };
        let after = patch.apply(&definitions, &before)?;
        let version = ["meta", "versionId"];
        let is_kept = |path: &[&str]| after.at(path) == before.at(path);
        for (path, name) in
            [(&["resourceType"][..], "resourceType"), (&["id"], "id"), (&version, "meta.versionId")]
        {
            if !is_kept(path) && (path != version || after.at(path).is_some()) {
                let text = format!(
                    "{name} is immutable: a patch may not change it; leave it out of the patch."
                );
                let issue = Issue::error(IssueType::Value, text);
                return Err(Error::Unparseable(vec![issue.at(format!("{resource_type}.{name}"))]));
            }
        }
        Ok(after)
    }
}
