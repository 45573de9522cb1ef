//! What searches must know of terminology: the modifiers `:in`, `:not-in`, `:above` and `:below` of
//! <https://hl7.org/fhir/R4/search.html#modifiers>.

use lumbar_fhir::search::{Expansions, Need};
use lumbar_fhir::{Issue, IssueType};

use super::Facade;

impl Facade {
    /// The codes of each need, or why they are not known.
    pub(super) async fn expansions(&self, needs: Vec<Need>) -> Expansions {
        let mut expansions = Expansions::new();
        for need in needs {
            let reason = match &need {
                Need::ValueSet(url) => format!(
                    "The codes of the value set {url} are not known here; name them one by one, as in code=http://loinc.org|8480-6,http://loinc.org|8462-4."
                ),
                Need::Descendants { system, .. } | Need::Ancestors { system, .. } => format!(
                    "How the codes of {system} stand above and below each other is not known here; name them one by one, as in code={system}|a,{system}|b."
                ),
            };
            expansions.insert(need, Err(Issue::error(IssueType::NotSupported, reason)));
        }
        expansions
    }
}
