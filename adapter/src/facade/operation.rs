//! Operations: <https://hl7.org/fhir/R4/operations.html>.

use lumbar_clinical::derive::derive as scores;
use lumbar_fhir::{Issue, IssueType, Json, json};

use super::bulk::Level;
use super::{Error, Facade, Preferences, Reply};

/// An operation that is offered.
pub(super) struct Operation {
    /// Name without `$`.
    pub(super) name: &'static str,
    /// Canonical of its definition.
    pub(super) definition: &'static str,
    /// Whether it may be invoked on the base.
    pub(super) system: bool,
    /// Resource types on which it may be invoked.
    pub(super) resource_types: &'static [&'static str],
}

/// Every operation that is offered.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "export",
        definition: "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/export",
        system: true,
        resource_types: &[],
    },
    Operation {
        name: "export",
        definition: "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/group-export",
        system: false,
        resource_types: &["Group"],
    },
    Operation {
        name: "export",
        definition: "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/patient-export",
        system: false,
        resource_types: &["Patient"],
    },
    Operation {
        name: "extract",
        definition: "http://hl7.org/fhir/uv/sdc/OperationDefinition/QuestionnaireResponse-extract",
        system: false,
        resource_types: &["QuestionnaireResponse"],
    },
    Operation {
        name: "import",
        definition: "https://lumbar.example/fhir/OperationDefinition/import",
        system: true,
        resource_types: &[],
    },
    Operation {
        name: "reindex",
        definition: "https://lumbar.example/fhir/OperationDefinition/reindex",
        system: true,
        resource_types: &[],
    },
    Operation {
        name: "replay",
        definition: "https://lumbar.example/fhir/OperationDefinition/Subscription-replay",
        system: false,
        resource_types: &["Subscription"],
    },
    Operation {
        name: "status",
        definition: "https://lumbar.example/fhir/OperationDefinition/Subscription-status",
        system: false,
        resource_types: &["Subscription"],
    },
];

/// One invocation.
pub(super) struct Call<'a> {
    /// Name without `$`.
    pub(super) name: &'a str,
    /// `None` when it is invoked on the base.
    pub(super) resource_type: Option<&'a str>,
    /// `None` when it is invoked on a type or on the base.
    pub(super) id: Option<&'a str>,
    /// The query's parameters.
    pub(super) parameters: &'a [(String, String)],
    /// The body.
    pub(super) body: Option<&'a Json>,
    /// Whether the method was POST.
    pub(super) post: bool,
    /// What the client prefers.
    pub(super) prefer: Preferences,
}

impl Facade {
    pub(super) async fn operation(&self, call: Call<'_>) -> Result<Reply, Error> {
        match (call.resource_type, call.id, call.name) {
            (Some("QuestionnaireResponse"), _, "extract") => self.extract(call.id, call.body).await,
            (None, None, "export") => self.export(&call, Level::System).await,
            (Some("Patient"), None, "export") => self.export(&call, Level::Patient).await,
            (Some("Group"), Some(id), "export") => {
                self.export(&call, Level::Group(id.to_owned())).await
            }
            (Some("Group"), None, "export") => Err(Error::Unparseable(vec![Issue::error(
                IssueType::Required,
                "An export of a group names it, as in Group/g1/$export.",
            )])),
            (None, None, "import") => self.import(&call).await,
            (Some("Subscription"), _, "replay" | "status") => self.subscription(&call).await,
            (None, None, "reindex") => self.progress().await,
            _ => Err(Error::NotFound(Issue::error(
                IssueType::NotSupported,
                "There is no such operation here; /fhir/metadata lists those there are.",
            ))),
        }
    }

    /// The score Observations of a response as a transaction, without storing them.
    async fn extract(&self, id: Option<&str>, body: Option<&Json>) -> Result<Reply, Error> {
        let response = match id {
            Some(id) => {
                let body = self.read("QuestionnaireResponse", id).await?.body;
                let parsed = body.and_then(|body| Json::parse(body.as_bytes()).ok());
                parsed.ok_or(Error::Internal)?
            }
            None => in_body(body)?.clone(),
        };
        let Some(table) = self.rules.table(&response) else {
            return Err(Error::Invalid(vec![
                Issue::error(
                    IssueType::NotFound,
                    "No scoring rules are known for this questionnaire, so nothing can be extracted.",
                )
                .at("QuestionnaireResponse.questionnaire"),
            ]));
        };
        let id = response.str_at(&["id"]).map_or_else(|| self.source.id(), str::to_owned);
        let derived =
            scores(table, &response, &id).map_err(|refused| Error::Invalid(refused.issues))?;
        let entries: Vec<Json> = derived
            .observations
            .into_iter()
            .map(|observation| {
                let url =
                    format!("Observation/{}", observation.str_at(&["id"]).unwrap_or_default());
                json!({
                    "fullUrl": (format!("{}/{url}", self.base)),
                    "resource": (observation),
                    "request": {"method": "PUT", "url": (url)}
                })
            })
            .collect();
        let mut bundle = json!({"resourceType": "Bundle", "type": "transaction"});
        if !entries.is_empty() {
            bundle.set("entry", entries);
        }
        if derived.issues.is_empty() {
            return Ok(Reply::of(&bundle));
        }
        let parameters = json!({
            "resourceType": "Parameters",
            "parameter": [
                {"name": "return", "resource": (bundle)},
                {"name": "issues", "resource": (lumbar_fhir::issue::operation_outcome(&derived.issues))}
            ]
        });
        Ok(Reply::of(&parameters))
    }
}

/// The response in the body, alone or as the parameter `questionnaire-response`.
fn in_body(body: Option<&Json>) -> Result<&Json, Error> {
    let response = match body.and_then(|body| body.str_at(&["resourceType"])) {
        Some("QuestionnaireResponse") => body,
        Some("Parameters") => body.and_then(|body| {
            body.list("parameter")
                .iter()
                .find(|parameter| parameter.str_at(&["name"]) == Some("questionnaire-response"))?
                .get("resource")
        }),
        _ => None,
    };
    response.ok_or_else(|| {
        Error::Unparseable(vec![Issue::error(
            IssueType::Required,
            "Send a QuestionnaireResponse, alone or as the parameter questionnaire-response.",
        )])
    })
}
