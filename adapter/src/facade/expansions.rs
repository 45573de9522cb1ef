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
            let codes = match &need {
                Need::ValueSet(name) => self.codes_of_set(name).await,
                Need::Descendants { system, code } => self.related_codes(system, code, false).await,
                Need::Ancestors { system, code } => self.related_codes(system, code, true).await,
            };
            let codes = codes.map_err(|error| {
                let issue = error.issues().into_iter().next();
                issue.unwrap_or_else(|| {
                    Issue::error(IssueType::Exception, "The codes cannot be found out.")
                })
            });
            expansions.insert(need, codes);
        }
        expansions
    }
}
