//! Batch: <https://hl7.org/fhir/R4/http.html#trules>. Each entry is a request of its own, done in
//! the order in which they stand; what is wrong with one does not touch the others.

use lumbar_fhir::Json;

use super::{Facade, Preferences, error_answer, of_entry};
use crate::security::Caller;

impl Facade {
    pub(super) async fn batch(
        &self,
        caller: &Caller,
        entries: &[Json],
        prefer: Preferences,
    ) -> Vec<Json> {
        let mut answers = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            answers.push(match self.entry(entry) {
                Ok(entry) => {
                    // Boxed because a Bundle's entry is performed like any request.
                    let reply = Box::pin(self.perform(caller, &entry.interaction, prefer)).await;
                    match reply {
                        Ok(reply) => self.entry_answer(&entry, reply, prefer),
                        Err(error) => error_answer(&error),
                    }
                }
                Err(error) => error_answer(&of_entry(error, index)),
            });
        }
        answers
    }
}
