//! Delete: <https://hl7.org/fhir/R4/http.html#delete>.

use lumbar_fhir::rest::Target;

use super::patch::id_of;
use super::update::check_version;
use super::{Error, Facade, Reply, Success, Unit};

impl Facade {
    pub(super) async fn delete(
        &self,
        resource_type: &str,
        target: &Target,
        if_match: Option<i64>,
    ) -> Result<Reply, Error> {
        let id = id_of(target)?;
        let mut unit = Unit::new(self);
        unit.delete(resource_type, id, if_match).await?;
        let committed = unit.commit().await?;
        let version = committed.find(resource_type, id).map(|stored| stored.version);
        Ok(Reply { version, ..Reply::empty(Success::NoContent) })
    }
}

impl Unit<'_> {
    /// Deletes a resource; deleting what is not there, or no more, changes nothing.
    ///
    /// # Errors
    /// [`Error::PreconditionFailed`] when `if_match` is not the current version.
    pub async fn delete(
        &mut self,
        resource_type: &str,
        id: &str,
        if_match: Option<i64>,
    ) -> Result<(), Error> {
        let current = self.version(resource_type, id).await?;
        check_version(current.version, if_match)?;
        if current.exists {
            self.remove(resource_type, id);
        }
        Ok(())
    }
}
