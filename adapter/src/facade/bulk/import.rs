//! `$import`: <https://hl7.org/fhir/uv/bulkdata/> as the draft for imports has it
//! (<https://github.com/smart-on-fhir/bulk-import>), and NDJSON as the body of the request.
//!
//! Every resource brings its id and is put under it, so the same import again changes nothing.
//! Not offered: resources without an id, and files that need more than an address to be fetched.

use lumbar_fhir::rest::is_id;
use lumbar_fhir::{Issue, IssueType, Json};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::{IMPORT, new_id, refused, write};
use crate::facade::operation::Call;
use crate::facade::unit::Unit;
use crate::facade::{ATTEMPTS, Error, Facade, Preferences, Reply};
use crate::security::Caller;

/// Most files of one import.
const MOST_INPUTS: usize = 1000;

/// What is to be imported; it is kept with the job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// URL of the request.
    url: String,
    /// The files, in their order.
    pub inputs: Vec<Input>,
}

/// A file that is to be imported.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Input {
    /// The type that all its resources have, when that was said.
    pub kind: Option<String>,
    /// Where it is fetched from; `None` when it was the body of the request.
    pub url: Option<String>,
}

impl Facade {
    /// Takes an import on whose files are to be fetched.
    pub(in crate::facade) async fn import(&self, call: &Call<'_>) -> Result<Reply, Error> {
        if !call.post {
            return Err(Error::MethodNotAllowed(&["POST"]));
        }
        let inputs = self.inputs(call.body)?;
        self.may_begin("import", call.prefer).await?;
        let asked = Asked { url: self.import_url(), inputs };
        self.enqueue(&new_id(), IMPORT, &write(&asked)?).await
    }

    /// Takes an import on whose only file is in the folder of the job `id` already.
    ///
    /// # Errors
    /// Too many jobs are open.
    pub async fn import_uploaded(&self, caller: &Caller, id: &str) -> Result<Reply, Error> {
        let (Caller::Open | Caller::System) = caller;
        let inputs = vec![Input { kind: None, url: None }];
        self.enqueue(id, IMPORT, &write(&Asked { url: self.import_url(), inputs })?).await
    }

    /// A place for an upload, to be held while it comes in.
    ///
    /// # Errors
    /// As [`Facade::may_begin`].
    pub async fn may_upload(
        &self,
        caller: &Caller,
        prefer: Preferences,
    ) -> Result<OwnedSemaphorePermit, Error> {
        let (Caller::Open | Caller::System) = caller;
        self.may_begin("import", prefer).await?;
        self.bulk.uploads.clone().try_acquire_owned().map_err(|_| self.crowded())
    }

    fn import_url(&self) -> String {
        format!("{}/$import", self.base())
    }

    /// Reads the manifest: a Parameters resource, or an object as the draft's first version had it.
    fn inputs(&self, body: Option<&Json>) -> Result<Vec<Input>, Error> {
        const FORM: &str = "Send NDJSON, or a manifest as in {\"resourceType\": \"Parameters\", \"parameter\": [{\"name\": \"inputFormat\", \"valueCode\": \"application/fhir+ndjson\"}, {\"name\": \"input\", \"part\": [{\"name\": \"type\", \"valueCode\": \"Patient\"}, {\"name\": \"url\", \"valueUri\": \"https://data.example.org/patients.ndjson\"}]}]}.";
        let Some(body) = body else {
            return Err(refused(IssueType::Required, "Parameters", FORM));
        };
        let is_parameters = body.str_at(&["resourceType"]) == Some("Parameters");
        if !is_parameters && body.get("resourceType").is_some() {
            return Err(refused(IssueType::Structure, "resourceType", FORM));
        }
        let format = if is_parameters {
            let mut parameters = body.list("parameter").iter();
            let named = |parameter: &&Json| parameter.str_at(&["name"]) == Some("inputFormat");
            parameters.find(named).and_then(value)
        } else {
            body.str_at(&["inputFormat"])
        };
        if !matches!(
            format,
            None | Some("application/fhir+ndjson" | "application/ndjson" | "ndjson")
        ) {
            return Err(refused(
                IssueType::NotSupported,
                "Parameters.parameter.where(name = 'inputFormat')",
                "inputFormat is application/fhir+ndjson.",
            ));
        }
        let listed: Vec<(String, Option<&str>, Option<&str>)> = if is_parameters {
            let parameters = body.list("parameter").iter().enumerate();
            parameters
                .filter(|(_, parameter)| parameter.str_at(&["name"]) == Some("input"))
                .map(|(index, parameter)| {
                    let part = |names: [&str; 2]| {
                        let mut parts = parameter.list("part").iter();
                        let named = |part: &&Json| {
                            part.str_at(&["name"]).is_some_and(|name| names.contains(&name))
                        };
                        parts.find(named).and_then(value)
                    };
                    let place = format!("Parameters.parameter[{index}]");
                    (place, part(["type", "resourceType"]), part(["url", "url"]))
                })
                .collect()
        } else {
            let inputs = body.list("input").iter().enumerate();
            inputs
                .map(|(index, input)| {
                    let place = format!("input[{index}]");
                    (place, input.str_at(&["type"]), input.str_at(&["url"]))
                })
                .collect()
        };
        if listed.is_empty() {
            return Err(refused(IssueType::Required, "Parameters.parameter", FORM));
        }
        if listed.len() > MOST_INPUTS {
            return Err(refused(
                IssueType::TooCostly,
                "Parameters.parameter",
                format!("An import has at most {MOST_INPUTS} files; send several imports."),
            ));
        }
        listed.into_iter().map(|(place, kind, url)| self.input(&place, kind, url)).collect()
    }

    fn input(&self, place: &str, kind: Option<&str>, url: Option<&str>) -> Result<Input, Error> {
        if kind.is_some_and(|kind| !self.definitions().is_resource(kind)) {
            return Err(refused(
                IssueType::Value,
                place,
                "The type of a file is a resource type of R4, as in Patient.",
            ));
        }
        let Some(url) = url else {
            return Err(refused(
                IssueType::Required,
                place,
                "A file has a url, as in https://data.example.org/patients.ndjson.",
            ));
        };
        let Some(host) = host(url) else {
            return Err(refused(
                IssueType::Value,
                place,
                "The url of a file begins with https:// or http:// and names a host without a password.",
            ));
        };
        let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
        let allowed =
            |entry: &String| entry.eq_ignore_ascii_case(&host) || entry.eq_ignore_ascii_case(name);
        if !self.bulk_settings().hosts.iter().any(allowed) {
            return Err(refused(
                IssueType::Forbidden,
                place,
                "Files are fetched only from hosts that the operator named with --import-hosts; upload the NDJSON as the body instead.",
            ));
        }
        Ok(Input { kind: kind.map(str::to_owned), url: Some(url.to_owned()) })
    }

    /// Puts the resources of an import, which have types and ids, and all that follows from them
    /// in one commit. Tells of each whether it was written; one that is there already is not.
    ///
    /// # Errors
    /// As [`Facade::perform`]; nothing is stored then.
    pub async fn import_lines(
        &self,
        caller: &Caller,
        resources: &[Json],
    ) -> Result<Vec<bool>, Error> {
        let (Caller::Open | Caller::System) = caller;
        let mut attempt = 1;
        loop {
            let mut unit = Unit::new(self);
            unit.prefetch(resources.iter()).await?;
            for resource in resources {
                unit.put_resource(resource.clone()).await?;
            }
            match unit.commit().await {
                Err(Error::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
                Ok(committed) => {
                    let is_written = |resource: &Json| {
                        let part = |name| resource.str_at(&[name]).unwrap_or_default();
                        committed.find(part("resourceType"), part("id")).is_some()
                    };
                    return Ok(resources.iter().map(is_written).collect());
                }
            }
        }
    }

    /// A line of an import as a resource that can be put.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn import_line(&self, line: &[u8], kind: Option<&str>) -> Result<Json, Vec<Issue>> {
        let resource = Json::parse(line).map_err(|error| {
            let text = format!("The line is not JSON as FHIR uses it: {error}.");
            vec![Issue::error(IssueType::Structure, text)]
        })?;
        let of = resource.str_at(&["resourceType"]).unwrap_or_default();
        let issue = if !self.definitions().is_resource(of) {
            let text = "resourceType is a resource type of R4, as in Patient.";
            Issue::error(IssueType::Structure, text).at("resourceType")
        } else if kind.is_some_and(|kind| kind != of) {
            let text = "The resource is of another type than the manifest says of its file.";
            Issue::error(IssueType::Invalid, text).at(of)
        } else {
            match resource.str_at(&["id"]) {
                Some(id) if is_id(id) => return Ok(resource),
                Some(_) => Issue::error(
                    IssueType::Value,
                    "An id has 1 to 64 letters, digits, hyphens and points.",
                )
                .at(format!("{of}.id")),
                None => Issue::error(
                    IssueType::Required,
                    "The resource has no id, so a second import would store it again; give it one.",
                )
                .at(format!("{of}.id")),
            }
        };
        Err(vec![issue])
    }
}

/// The value of a parameter that is a text.
fn value(parameter: &Json) -> Option<&str> {
    let mut members = parameter.as_object()?.iter();
    members.find(|(name, _)| name.starts_with("value")).and_then(|(_, value)| value.as_str())
}

/// `host` or `host:port` of an http(s) URL without user and password.
fn host(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let host = rest.split(['/', '?', '#', '\\']).next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '_');
    (!host.is_empty() && host.chars().all(plain)).then(|| host.to_owned())
}
