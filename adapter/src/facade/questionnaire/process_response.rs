//! `$process-response`:
//! <https://hl7.org/fhir/uv/sdc/STU3/OperationDefinition-Questionnaire-process-response.html>.
//!
//! The response is created as by any create, with all that follows from it.

use lumbar_fhir::issue::operation_outcome;
use lumbar_fhir::rest::Interaction;
use lumbar_fhir::terminology::Input;
use lumbar_fhir::{Issue, IssueType, Json};

use crate::facade::operation::Call;
use crate::facade::{Error, Facade, Reply};

impl Facade {
    /// `$process-response`.
    ///
    /// # Errors
    /// There is no response, it is to another form, or it cannot be created.
    pub(in crate::facade) async fn process_response(
        &self,
        call: &Call<'_>,
    ) -> Result<Reply, Error> {
        const NAME: &str = "response";
        let input = Input::read(call.parameters, call.body, "QuestionnaireResponse", NAME)?;
        let response = input
            .get(NAME)
            .filter(|response| response.str_at(&["resourceType"]) == Some("QuestionnaireResponse"));
        let Some(response) = response else {
            let text = "Send a QuestionnaireResponse, alone or as the parameter response.";
            return Err(input.required(NAME, text).into());
        };
        if let Some(id) = call.id {
            let body = self.read("Questionnaire", id).await?.body.ok_or(Error::Internal)?;
            let form = Json::parse(body.as_bytes()).map_err(|_| Error::Internal)?;
            let named = response.str_at(&["questionnaire"]).unwrap_or_default();
            let (named, _) = named.split_once('|').unwrap_or((named, ""));
            if form.str_at(&["url"]) != Some(named) {
                let text = "The response is to another form than the one that it was sent to.";
                let issue = Issue::error(IssueType::BusinessRule, text);
                return Err(Error::Invalid(vec![issue.at("QuestionnaireResponse.questionnaire")]));
            }
        }
        let create = Interaction::Create { resource: response.clone(), if_none_exist: None };
        let created = Box::pin(self.write(call.caller, &create, call.prefer)).await?;
        let outcome = operation_outcome(&created.issues);
        Ok(Reply { location: created.location, ..Reply::of(&outcome) })
    }
}
