//! Patch: <https://hl7.org/fhir/R4/http.html#patch>.
//!
//! JSON Patch (RFC 6902) and FHIRPath Patch (<https://hl7.org/fhir/R4/fhirpatch.html>) change a
//! copy of a tree: all operations are done or none. The result is not validated here. XML Patch is
//! not offered: a FHIRPath Patch says the same in XML and JSON.

mod content;
mod fhirpath_patch;
mod json_patch;
mod pointer;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::definitions::Definitions;
use crate::{Issue, IssueType, Json};

/// Most operations of one patch.
pub const MAX_OPERATIONS: usize = 1000;

/// Media type of a JSON Patch.
pub const JSON_PATCH: &str = "application/json-patch+json";

/// Why a patch was not applied.
#[derive(Clone, Debug, PartialEq)]
pub enum PatchError {
    /// It is no patch, whatever it is applied to.
    Malformed(Issue),
    /// It is a patch, but it cannot be applied to this resource.
    NotApplicable(Issue),
}

/// A patch that has been read.
#[derive(Clone, Debug)]
pub struct Patch(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Json(Vec<json_patch::Operation>),
    FhirPath(Vec<fhirpath_patch::Operation>),
}

impl Patch {
    /// Reads a patch for a resource of the type `resource_type`: an array is a JSON Patch, a
    /// Parameters resource a FHIRPath Patch, and a Binary holds a JSON Patch in its `data`.
    ///
    /// # Errors
    /// [`PatchError::Malformed`] with the operation that cannot be understood.
    pub fn read(
        definitions: &Definitions,
        resource_type: &str,
        document: &Json,
    ) -> Result<Patch, PatchError> {
        let kind = match (document, document.str_at(&["resourceType"])) {
            (Json::Array(operations), _) => Kind::Json(json_patch::read(operations)?),
            (_, Some("Parameters")) => {
                Kind::FhirPath(fhirpath_patch::read(definitions, resource_type, document)?)
            }
            (_, Some("Binary")) => match in_binary(document)? {
                Json::Array(operations) => Kind::Json(json_patch::read(&operations)?),
                _ => {
                    let error = malformed(IssueType::Structure, NO_LIST);
                    return Err(error.map(|issue| issue.at("Binary.data")));
                }
            },
            _ => return Err(malformed(IssueType::Structure, NO_PATCH)),
        };
        Ok(Patch(kind))
    }

    /// The resource as the patch makes it.
    ///
    /// # Errors
    /// The operation that cannot be done; nothing is changed then.
    pub fn apply(&self, definitions: &Definitions, resource: &Json) -> Result<Json, PatchError> {
        match &self.0 {
            Kind::Json(operations) => json_patch::apply(operations, resource),
            Kind::FhirPath(operations) => fhirpath_patch::apply(definitions, operations, resource),
        }
    }
}

impl PatchError {
    fn map(self, change: impl FnOnce(Issue) -> Issue) -> PatchError {
        match self {
            PatchError::Malformed(issue) => PatchError::Malformed(change(issue)),
            PatchError::NotApplicable(issue) => PatchError::NotApplicable(change(issue)),
        }
    }
}

const NO_PATCH: &str = "This is no patch: send a JSON Patch, for example \
    [{\"op\": \"replace\", \"path\": \"/active\", \"value\": true}], as application/json-patch+json, \
    or a Parameters resource with the parameter operation.";
const NO_LIST: &str = "A JSON Patch is a list of operations, for example \
    [{\"op\": \"remove\", \"path\": \"/active\"}].";

fn malformed(code: IssueType, text: impl Into<String>) -> PatchError {
    PatchError::Malformed(Issue::error(code, text))
}

fn not_applicable(code: IssueType, text: impl Into<String>) -> PatchError {
    PatchError::NotApplicable(Issue::error(code, text))
}

fn in_binary(binary: &Json) -> Result<Json, PatchError> {
    let kind = binary.str_at(&["contentType"]).unwrap_or_default();
    if kind.split(';').next().unwrap_or_default().trim() != JSON_PATCH {
        let text = format!("A Binary that is a patch has the contentType {JSON_PATCH}.");
        return Err(malformed(IssueType::Value, text).map(|i| i.at("Binary.contentType")));
    }
    let data: String = binary
        .str_at(&["data"])
        .unwrap_or_default()
        .chars()
        .filter(|character| !character.is_ascii_whitespace())
        .collect();
    let bytes = STANDARD.decode(data).map_err(|_| {
        malformed(IssueType::Value, "The data of the Binary is not base64.")
            .map(|issue| issue.at("Binary.data"))
    })?;
    Json::parse(&bytes).map_err(|error| {
        malformed(IssueType::Structure, format!("The data of the Binary is not JSON: {error}."))
            .map(|issue| issue.at("Binary.data"))
    })
}

/// The error of a patch with too many operations.
fn too_many(count: usize) -> Result<(), PatchError> {
    if count <= MAX_OPERATIONS {
        return Ok(());
    }
    let text = format!("A patch may have {MAX_OPERATIONS} operations at most; send several.");
    Err(malformed(IssueType::TooCostly, text))
}

#[cfg(test)]
mod tests;
