//! Responses to instruments as they are written: only to a version that is known, without scores
//! that do not follow from the answers, and with the Provenance of those that do:
//! <https://hl7.org/fhir/R4/questionnaireresponse.html>.
//!
//! All of it holds where validation is off, too.

use lumbar_clinical::Instrument;
use lumbar_clinical::derive::derive as scores;
use lumbar_clinical::discrepancy::{corrected, has_calculated};
use lumbar_clinical::provenance::{Scoring, provenance};
use lumbar_fhir::datetime::instant;
use lumbar_fhir::{Issue, IssueType, Json};

use super::{Error, Unit};

/// Whether the scores of a response count.
pub(super) fn is_complete(response: &Json) -> bool {
    matches!(response.str_at(&["status"]), Some("completed" | "amended"))
}

impl Unit<'_> {
    /// A resource as it is stored: a complete response loses the calculated answers that do not
    /// follow from the others, which is told.
    pub(super) fn corrected(&mut self, resource_type: &str, id: &str, resource: Json) -> Json {
        let is_response = resource_type == "QuestionnaireResponse" && is_complete(&resource);
        if !is_response || !has_calculated(&resource) {
            return resource;
        }
        let rules = self.facade().rules.clone();
        let Some(instrument) = rules.instrument(&resource) else { return resource };
        // Answers that cannot be read are refused when the scores are derived.
        let Ok(derived) = scores(instrument, &resource, id) else { return resource };
        match corrected(&derived.scored, &resource) {
            Some((corrected, issues)) => {
                let (instrument, count) = (&*instrument.id, issues.len());
                tracing::warn!(
                    instrument,
                    count,
                    "scores of a client did not follow from the answers"
                );
                self.tell(resource_type, id, issues);
                corrected
            }
            None => resource,
        }
    }

    /// Refuses answers to a version of the form that nobody has.
    ///
    /// # Errors
    /// [`Error::Invalid`], or the store cannot be read.
    pub(super) async fn refuse_other_version(&mut self, response: &Json) -> Result<(), Error> {
        let canonical = response.str_at(&["questionnaire"]).unwrap_or_default();
        let Some((url, version)) = canonical.split_once('|') else { return Ok(()) };
        let facade = self.facade();
        let is_known = facade.rules.questionnaire(canonical).is_some()
            || facade.questionnaire(self, canonical).await?.is_some();
        if is_known || !is_complete(response) {
            return Ok(());
        }
        let known = facade.rules.questionnaire(url).and_then(|form| form.str_at(&["version"]));
        let known = match known {
            Some(version) => format!("the known one is {version}"),
            None => "no version is known".to_owned(),
        };
        let text = format!(
            "The answers are for version {version} of this Questionnaire, which is not known here; {known}. Store the Questionnaire of that version first, or send answers to a known one."
        );
        let issue = Issue::error(IssueType::BusinessRule, text);
        Err(Error::Invalid(vec![issue.at("QuestionnaireResponse.questionnaire")]))
    }

    /// Puts the Provenance of the scores of a response that the unit writes.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) async fn put_provenance(
        &mut self,
        instrument: &Instrument,
        response: &str,
        scores: &[Json],
    ) -> Result<(), Error> {
        let version = self.next_version("QuestionnaireResponse", response, false).await?;
        let scoring = Scoring {
            response,
            version,
            algorithm: &instrument.id,
            algorithm_version: &instrument.version,
            title: &instrument.title,
        };
        let recorded = instant(self.facade().now());
        let provenance = provenance(&scoring, scores, &recorded);
        let id = provenance.str_at(&["id"]).unwrap_or_default().to_owned();
        // No version of a response was there before, so nothing tells of it yet.
        self.put_new("Provenance", &id, provenance);
        Ok(())
    }
}
