//! What is asked of the terminology server of the configuration:
//! <https://hl7.org/fhir/R4/terminology-service.html>.

use std::sync::Arc;

use lumbar_fhir::terminology::Input;
use lumbar_fhir::{Issue, IssueType, Json, json};

use super::super::{Error, Facade, Reply};

/// Most characters of what the server says that are told.
const MAX_TOLD: usize = 200;

impl Facade {
    /// The answer of the server to a whole operation; `None` when there is no server.
    pub(super) async fn elsewhere(
        &self,
        operation: &str,
        input: Input,
    ) -> Result<Option<Reply>, Error> {
        let Some(answer) = self.ask(operation, &input.to_json()).await? else { return Ok(None) };
        Ok(Some(Reply::of(&answer)))
    }

    /// The codes of an `include` as the server expands it; `None` when there is no server.
    pub(super) async fn codes_elsewhere(
        &self,
        include: &str,
    ) -> Result<Option<Arc<Vec<Json>>>, Error> {
        let limit = self.policy.limits.expansion;
        let parameters = json!({
            "resourceType": "Parameters",
            "parameter": [
                {"name": "valueSet", "resource": (value_set(include)?)},
                {"name": "count", "valueInteger": (limit + 1)}
            ]
        });
        let Some(answer) = self.ask("ValueSet/$expand", &parameters).await? else {
            return Ok(None);
        };
        let expansion = answer.get("expansion").ok_or_else(|| no_answer("it has no expansion"))?;
        let codes = expansion.list("contains").to_vec();
        let total = expansion.get("total").and_then(Json::as_i64).unwrap_or(0);
        let is_part = usize::try_from(total).is_ok_and(|total| total > codes.len());
        if codes.len() > limit || is_part {
            let text = format!(
                "A part of the value set has more than {limit} codes on the terminology server; narrow it."
            );
            return Err(Error::Invalid(vec![Issue::error(IssueType::TooCostly, text)]));
        }
        Ok(Some(Arc::new(codes)))
    }

    /// Whether the server finds a code in an `include`; `None` when there is no server.
    pub(super) async fn is_member_elsewhere(
        &self,
        include: &str,
        system: &str,
        code: &str,
    ) -> Result<Option<bool>, Error> {
        let parameters = json!({
            "resourceType": "Parameters",
            "parameter": [
                {"name": "valueSet", "resource": (value_set(include)?)},
                {"name": "coding", "valueCoding": {"system": (system), "code": (code)}}
            ]
        });
        let Some(answer) = self.ask("ValueSet/$validate-code", &parameters).await? else {
            return Ok(None);
        };
        let result =
            answer.list("parameter").iter().find(|p| p.str_at(&["name"]) == Some("result"));
        let result = result.and_then(|result| result.get("valueBoolean")?.as_bool());
        result.map(Some).ok_or_else(|| no_answer("it has no result"))
    }

    /// Invokes an operation of the server; `None` when there is none.
    async fn ask(&self, operation: &str, parameters: &Json) -> Result<Option<Arc<Json>>, Error> {
        let Some(server) = &self.terminology_server else { return Ok(None) };
        let answer = server.ask(self.source.now(), operation, parameters).await;
        let answer = answer.map_err(|reason| {
            Error::Unavailable(Issue::error(
                IssueType::Transient,
                format!(
                    "This is not known here, and the terminology server could not be asked. {reason} Try again in a few seconds."
                ),
            ))
        })?;
        if (200..300).contains(&answer.status) {
            return Ok(Some(answer.body));
        }
        let told = ["diagnostics", "details"].iter().find_map(|name| {
            let path: &[&str] =
                if *name == "details" { &["issue", "details", "text"] } else { &["issue", name] };
            answer.body.str_at(path)
        });
        let told: String = told.unwrap_or("no reason").chars().take(MAX_TOLD).collect();
        let text = format!("The terminology server refused with {}: {told}", answer.status);
        Err(match answer.status {
            404 => Error::NotFound(Issue::error(IssueType::NotFound, text)),
            _ => Error::Invalid(vec![Issue::error(IssueType::Processing, text)]),
        })
    }
}

/// A value set of one `include`.
fn value_set(include: &str) -> Result<Json, Error> {
    let include = Json::parse(include.as_bytes()).map_err(|_| Error::Internal)?;
    Ok(json!({
        "resourceType": "ValueSet", "status": "active", "compose": {"include": [(include)]}
    }))
}

fn no_answer(what: &str) -> Error {
    let text = format!("The terminology server's answer cannot be used: {what}.");
    Error::Unavailable(Issue::error(IssueType::Transient, text))
}
