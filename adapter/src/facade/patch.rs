//! Patch: <https://hl7.org/fhir/R4/http.html#patch>.

use lumbar_fhir::rest::Target;
use lumbar_fhir::{Issue, IssueType, Json};

use super::{Error, Facade, Preferences, Reply};

impl Facade {
    pub(super) async fn patch(
        &self,
        _resource_type: &str,
        _target: &Target,
        _patch: &Json,
        _if_match: Option<i64>,
        _prefer: Preferences,
    ) -> Result<Reply, Error> {
        Err(Error::NotSupported(Issue::error(IssueType::NotSupported, "Patch is not offered.")))
    }
}

/// A search instead of an id, which is not offered.
pub(super) fn id_of(target: &Target) -> Result<&str, Error> {
    match target {
        Target::Id(id) => Ok(id),
        Target::Matching(_) => Err(Error::NotSupported(Issue::error(
            IssueType::NotSupported,
            "Conditional update, patch and delete are not offered; name the resource by its id.",
        ))),
    }
}
