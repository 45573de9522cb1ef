//! `$assemble`: <https://hl7.org/fhir/uv/sdc/STU3/OperationDefinition-Questionnaire-assemble.html>.

use std::sync::Arc;

use lumbar_fhir::issue::operation_outcome;
use lumbar_fhir::questionnaire::{Parts, Wanted, assemble};
use lumbar_fhir::terminology::Input;
use lumbar_fhir::{Issue, IssueType, Json, json};

use super::MAX_ROUNDS;
use crate::facade::operation::Call;
use crate::facade::{Error, Facade, Reply, Unit};

/// Most Questionnaires and StructureDefinitions of one assembly.
const MAX_PARTS: usize = 200;

impl Facade {
    /// `$assemble`.
    ///
    /// # Errors
    /// The form is not here, or its parts do not fit together.
    pub(in crate::facade) async fn assemble(&self, call: &Call<'_>) -> Result<Reply, Error> {
        self.begin().await?;
        let input = Input::read(call.parameters, call.body, "Questionnaire", "questionnaire")?;
        let mut unit = Unit::new(self);
        let form = self.form_of(call, &input, &mut unit).await?;
        let (form, issues) = self.all_parts(&mut unit, form).await?;
        if issues.is_empty() {
            return Ok(Reply::of(&form));
        }
        let outcome = operation_outcome(&issues);
        Ok(Reply::of(&json!({
            "resourceType": "Parameters",
            "parameter": [
                {"name": "return", "resource": (form)},
                {"name": "outcome", "resource": (outcome)}
            ]
        })))
    }

    /// A form that is modular, assembled; any other as it is.
    pub(super) async fn assembled(
        &self,
        unit: &mut Unit<'_>,
        form: Json,
    ) -> Result<(Json, Vec<Issue>), Error> {
        match is_modular(&form, 0) {
            true => self.all_parts(unit, form).await,
            false => Ok((form, Vec::new())),
        }
    }

    async fn all_parts(
        &self,
        unit: &mut Unit<'_>,
        form: Json,
    ) -> Result<(Json, Vec<Issue>), Error> {
        let form = Arc::new(form);
        let mut parts = Parts::default();
        let (mut count, mut round) = (0, 0);
        let world = self.world(unit);
        loop {
            let (form, known) = (form.clone(), parts.clone());
            let work =
                move |world: &lumbar_fhir::validate::World<'_>| assemble(world, &known, &form);
            let (done, _) = self.with_world(&world, work).await?;
            if done.wanted.is_empty() {
                return match done.questionnaire {
                    Some(questionnaire) => Ok((questionnaire, done.issues)),
                    None => Err(Error::Invalid(done.issues)),
                };
            }
            round += 1;
            for wanted in done.wanted {
                count += 1;
                if count > MAX_PARTS || round > 2 * MAX_ROUNDS {
                    let text = format!(
                        "The form is made of more than {MAX_PARTS} parts, or they are nested too deeply."
                    );
                    return Err(Error::Invalid(vec![Issue::error(IssueType::TooCostly, text)]));
                }
                let Wanted { resource_type, canonical } = &wanted;
                let found = match *resource_type {
                    "Questionnaire" => self.questionnaire(unit, canonical).await?,
                    of => {
                        let packed = || self.rules.packages.resource(of, canonical);
                        self.canonical(unit, of, canonical).await?.or_else(packed)
                    }
                };
                parts.put(wanted, found.map(Arc::new));
            }
        }
    }
}

/// Whether items of a form stand for other forms.
fn is_modular(element: &Json, depth: usize) -> bool {
    const URL: &str =
        "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-subQuestionnaire";
    let is_part = |one: &Json| one.str_at(&["url"]) == Some(URL);
    depth < 100
        && element
            .list("item")
            .iter()
            .any(|item| item.list("extension").iter().any(is_part) || is_modular(item, depth + 1))
}
