//! Read and vread: <https://hl7.org/fhir/R4/http.html#read>.

use super::{Error, Facade, Reply};

impl Facade {
    pub(super) async fn read(&self, resource_type: &str, id: &str) -> Result<Reply, Error> {
        match self.resources.read(resource_type, id).await? {
            None => Err(Error::not_found(resource_type, id)),
            Some(stored) if stored.body.is_none() => {
                Err(Error::gone(resource_type, id, stored.version))
            }
            Some(stored) => Ok(Reply::stored(stored)),
        }
    }

    pub(super) async fn vread(
        &self,
        resource_type: &str,
        id: &str,
        version: i64,
    ) -> Result<Reply, Error> {
        match self.resources.vread(resource_type, id, version).await? {
            None => {
                Err(Error::not_found(resource_type, &format!("{id} and the version {version}")))
            }
            Some(stored) if stored.body.is_none() => {
                Err(Error::gone(resource_type, id, stored.version))
            }
            Some(stored) => Ok(Reply::stored(stored)),
        }
    }
}
