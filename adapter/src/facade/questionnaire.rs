//! SDC's operations on forms: <https://hl7.org/fhir/uv/sdc/STU3/>.
//!
//! What they do with a form is [`lumbar_fhir::questionnaire`]'s, which fetches nothing: it says
//! what it would have to know. That is found here, with what the caller may find, and it is asked
//! again, until nothing is missing or nobody knows more. The parameters of SDC 3.0 and 4.0 are
//! both understood. `$populatehtml` and `$populatelink` are not offered.

mod assemble;
mod next_question;
mod package;
mod populate;
mod process_response;

use lumbar_fhir::datetime::instant;
use lumbar_fhir::terminology::Input;
use lumbar_fhir::validate::{self, Limits, Missing, Need};
use lumbar_fhir::{Issue, IssueType, Json, Severity};

use super::operation::Call;
use super::terminology::escape;
use super::validation::World;
use super::{Error, Facade, Unit};

/// Most looks at one form.
const MAX_ROUNDS: usize = 8;
/// Most steps of FHIRPath for each of the parts of one look.
const MAX_STEPS: u64 = 5_000_000;
/// What names a form.
const FORMS: [&str; 4] = ["questionnaire", "canonical", "questionnaireRef", "identifier"];

impl Facade {
    /// Evaluates something with what is known, beside the threads that answer requests. Returns
    /// what would have to be known, too.
    pub(super) async fn with_world<T, F>(
        &self,
        world: &World,
        work: F,
    ) -> Result<(T, Vec<Need>), Error>
    where
        T: Send + 'static,
        F: FnOnce(&validate::World<'_>) -> T + Send + 'static,
    {
        let (definitions, known) = (self.definitions(), world.known.clone());
        let (referred, now) = (world.referred.clone(), instant(self.source.now()));
        let done = self.work.run(move || {
            let missing = Missing::default();
            let world = validate::World {
                definitions: &definitions,
                profiles: &known.profiles,
                terminology: &known.terminology,
                resources: referred.as_ref().unwrap_or(&known.resources),
                missing: &missing,
                now: Some(&now),
                vital_signs: Severity::Warning,
                limits: Limits { steps: MAX_STEPS, ..Limits::default() },
            };
            let done = work(&world);
            (done, missing.take())
        });
        done.await
    }

    /// The form that a request is about: the instance, or the one that its parameters name or hold.
    async fn form_of(
        &self,
        call: &Call<'_>,
        input: &Input,
        unit: &mut Unit<'_>,
    ) -> Result<Json, Error> {
        if let Some(id) = call.id {
            let body = self.read("Questionnaire", id).await?.body.ok_or(Error::Internal)?;
            return Json::parse(body.as_bytes()).map_err(|_| Error::Internal);
        }
        let mut given = FORMS.iter().filter(|name| input.get(name).is_some());
        let Some(name) = given.next() else {
            let text = "Say which form is meant, as in questionnaire=https://lumbar.example/fhir/Questionnaire/start-back-9.";
            return Err(input.required("questionnaire", text).into());
        };
        if given.next().is_some() || input.all(name).count() > 1 {
            return Err(input.refuse(name, "is one of several that name a form; send one").into());
        }
        let Some(value) = input.get(name) else { return Err(Error::Internal) };
        let reference = value.str_at(&["reference"]);
        let found = match (*name, value, reference) {
            ("identifier", value, _) => {
                let token = match value.as_str() {
                    Some(text) => Some(text.to_owned()),
                    None => value.str_at(&["value"]).map(|own| match value.str_at(&["system"]) {
                        Some(system) => format!("{}|{}", escape(system), escape(own)),
                        None => escape(own),
                    }),
                };
                let token = token.ok_or_else(|| input.refuse(name, "must be an Identifier"))?;
                let parameters = [("identifier".to_owned(), token)];
                let mut found = unit.find("Questionnaire", &parameters, 2).await?;
                if found.len() > 1 {
                    return Err(input.refuse(name, "is that of several forms").into());
                }
                found.pop()
            }
            (_, Json::String(text), _) => match self.questionnaire(unit, text).await? {
                Some(found) => Some(found),
                // In a query a reference is a text, too.
                None => unit.resolve(text).await?,
            },
            (_, Json::Object(_), Some(reference)) => unit.resolve(reference).await?,
            (_, value @ Json::Object(_), None)
                if value.str_at(&["resourceType"]) == Some("Questionnaire") =>
            {
                Some(value.clone())
            }
            _ => None,
        };
        let is_form = |found: &Json| found.str_at(&["resourceType"]) == Some("Questionnaire");
        found.filter(is_form).ok_or_else(|| {
            let text = format!(
                "The form that {name} names is not here; name one of this service, or send it."
            );
            Error::NotFound(Issue::error(IssueType::NotFound, text).at(place(input, name)))
        })
    }
}

/// Where a parameter stands.
fn place(input: &Input, name: &str) -> String {
    let issues = Error::from(input.refuse(name, "")).issues();
    issues.into_iter().find_map(|issue| issue.expression).unwrap_or_default()
}
