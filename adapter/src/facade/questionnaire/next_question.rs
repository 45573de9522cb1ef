//! `$next-question`:
//! <https://hl7.org/fhir/uv/sdc/STU3/OperationDefinition-Questionnaire-next-question.html>.
//!
//! Nothing is kept: the response that is sent holds all there is.

use std::sync::Arc;

use lumbar_fhir::questionnaire::{adaptive, contained_form, next_question};
use lumbar_fhir::terminology::Input;
use lumbar_fhir::{Issue, IssueType, Json};

use crate::facade::operation::Call;
use crate::facade::{Error, Facade, Reply, Unit};

impl Facade {
    /// `$next-question`.
    ///
    /// # Errors
    /// The form is not here or not adaptive, or the answers so far are wrong.
    pub(in crate::facade) async fn next_question(&self, call: &Call<'_>) -> Result<Reply, Error> {
        const NAME: &str = "questionnaire-response";
        self.begin().await?;
        let input = Input::read(call.parameters, call.body, "QuestionnaireResponse", NAME)?;
        let response = input
            .get(NAME)
            .filter(|response| response.str_at(&["resourceType"]) == Some("QuestionnaireResponse"));
        let Some(response) = response else {
            let text =
                "Send a QuestionnaireResponse, alone or as the parameter questionnaire-response.";
            return Err(input.required(NAME, text).into());
        };
        let mut unit = Unit::new(self);
        let form = self.form(self.adaptive_form(&mut unit, response).await?).await?;
        let response = Arc::new(response.clone());
        let mut world = self.world(&unit);
        loop {
            let (form, response) = (form.clone(), response.clone());
            let work = move |world: &lumbar_fhir::validate::World<'_>| {
                next_question(&form, world, &response)
            };
            let (done, needs) = self.with_world(&world, work).await?;
            if self.fetch_needs(&mut world, &mut unit, needs).await? {
                continue;
            }
            self.keep(&mut unit, world);
            return done.map(|response| Reply::of(&response)).map_err(Error::Invalid);
        }
    }

    /// The whole form from which the contained one takes its questions.
    async fn adaptive_form(&self, unit: &mut Unit<'_>, response: &Json) -> Result<Json, Error> {
        const AT: &str = "QuestionnaireResponse.questionnaire";
        let refuse = |code, text: &str| Error::Invalid(vec![Issue::error(code, text).at(AT)]);
        let Some((_, contained)) = contained_form(response) else {
            let text = "The response contains a Questionnaire and names it, as in \"questionnaire\": \"#q\".";
            return Err(refuse(IssueType::Required, text));
        };
        let derived = contained.list("derivedFrom").iter().filter_map(Json::as_str);
        let version = contained.str_at(&["version"]);
        let url = contained.str_at(&["url"]).map(|url| match version {
            Some(version) => format!("{url}|{version}"),
            None => url.to_owned(),
        });
        let names: Vec<String> = url.into_iter().chain(derived.map(str::to_owned)).collect();
        for name in names.iter().take(5) {
            let Some(found) = self.questionnaire(unit, name).await? else { continue };
            return match adaptive(&found) {
                Some(Some(url)) if url.trim_end_matches('/') != self.base => {
                    let text = "The form says that another server has its next question; ask that.";
                    Err(refuse(IssueType::NotSupported, text))
                }
                Some(_) => Ok(found),
                None => {
                    let text = "The form is not adaptive; ask all its questions.";
                    Err(refuse(IssueType::BusinessRule, text))
                }
            };
        }
        let text =
            "The form is not here; name it by url or derivedFrom in the contained Questionnaire.";
        Err(refuse(IssueType::NotFound, text))
    }
}
