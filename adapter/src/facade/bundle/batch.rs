//! Batch: <https://hl7.org/fhir/R4/http.html#trules>. Each entry is a request of its own; what
//! is wrong with one does not touch the others. They are done in the order of a transaction.

use lumbar_fhir::Json;

use super::{Facade, Preferences, Room, error_answer, of_entry};
use crate::security::Caller;

impl Facade {
    pub(super) async fn batch(
        &self,
        caller: &Caller,
        entries: &[Json],
        prefer: Preferences,
    ) -> Vec<Json> {
        let mut order: Vec<(usize, &Json)> = entries.iter().enumerate().collect();
        order.sort_by_key(|(_, entry)| turn(entry));
        let mut answers = Vec::with_capacity(entries.len());
        let mut room = Room::new(self.policy.limits.response_bytes);
        for (index, entry) in order {
            let answer = match room.in_time().and_then(|()| self.entry(entry)) {
                Ok(entry) if entry.reads() && room.is_full() => {
                    error_answer(&of_entry(room.error(), index))
                }
                Ok(entry) => {
                    // Boxed because a Bundle's entry is performed like any request.
                    let reply = Box::pin(self.perform(caller, &entry.interaction, prefer)).await;
                    match reply {
                        Ok(reply) => self.entry_answer(&entry, room.taken(reply), prefer),
                        Err(error) => error_answer(&of_entry(error, index)),
                    }
                }
                Err(error) => error_answer(&of_entry(error, index)),
            };
            answers.push((index, answer));
        }
        answers.sort_by_key(|(index, _)| *index);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }
}

/// When an entry's turn is: deletes, creates, updates and patches, reads.
fn turn(entry: &Json) -> u8 {
    match entry.str_at(&["request", "method"]) {
        Some("DELETE") => 0,
        Some("POST") => 1,
        Some("PUT" | "PATCH") => 2,
        _ => 3,
    }
}
