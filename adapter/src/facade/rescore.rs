//! Stored responses, scored anew: after the rules of an instrument have changed, the Observations
//! that change are written, and nothing else.
//!
//! A page of responses is read in the order of the rows, scored beside the threads that answer
//! requests, and held against the stored Observations. A new version of an Observation keeps the
//! old one in its history and has a Provenance of the rules that it follows from
//! (<https://hl7.org/fhir/R4/provenance.html>). A run that was cut
//! off is finished by another: what was written then changes no more.

use std::sync::Arc;

use lumbar_clinical::derive::{Derived, derive as scores, entered_in_error};
use lumbar_clinical::provenance::{Scoring, provenance};
use lumbar_fhir::datetime::instant;
use lumbar_fhir::{Json, json};
use lumbar_store::Stored;

use super::unit::{is_same, parse};
use super::{ATTEMPTS, Error, Facade, Unit};
use crate::rules::Rules;
use crate::security::Caller;

/// Responses that are read at once.
const PAGE: &str = "1000";
/// Responses whose changes are one commit.
const BATCH: usize = 100;

/// What became of a page of responses.
#[derive(Clone, Debug, Default)]
pub struct Rescored {
    /// Responses that were looked at.
    pub responses: u64,
    /// Those that a known instrument scores.
    pub scored: u64,
    /// Those whose answers the rules refuse, with the reason; their Observations are left alone.
    pub refused: Vec<(String, String)>,
    /// Those with Observations that change.
    pub changed: Vec<Changed>,
    /// Where the next page begins.
    pub next: Option<String>,
}

/// A response with scores that change.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The id of the response.
    pub response: String,
    /// The id of the instrument.
    pub instrument: String,
    /// The version of its rules now.
    pub version: String,
    /// Each Observation as it was, if it was there, and as it is now.
    pub observations: Vec<(Option<Json>, Json)>,
}

/// A response that was scored.
struct Fresh {
    id: String,
    version: i64,
    /// The place of its instrument among the rules.
    instrument: usize,
    derived: Derived,
}

/// A response with what is to be written.
struct Due {
    changed: Changed,
    provenance: Json,
    /// The Observations as they are stored.
    stored: Vec<Stored>,
}

impl Facade {
    /// Scores a page of stored responses anew and writes what changes, unless `is_dry`.
    ///
    /// # Errors
    /// As [`Facade::put`]; what was written before stays.
    pub async fn rescore(
        &self,
        caller: &Caller,
        instrument: Option<&str>,
        is_dry: bool,
        cursor: Option<String>,
    ) -> Result<Rescored, Error> {
        self.begin().await?;
        let mut attempt = 1;
        loop {
            let result = self.rescore_page(caller, instrument, is_dry, cursor.clone()).await;
            match result {
                // A response or a score was changed meanwhile: look again.
                Err(Error::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    async fn rescore_page(
        &self,
        caller: &Caller,
        instrument: Option<&str>,
        is_dry: bool,
        cursor: Option<String>,
    ) -> Result<Rescored, Error> {
        let parameters = [("_count", PAGE)];
        let (texts, next) = self.scan(caller, "QuestionnaireResponse", &parameters, cursor).await?;
        let mut page = Rescored { responses: count(texts.len()), next, ..Rescored::default() };
        let fresh = self.scored(&texts, instrument, &mut page).await?;
        page.scored = count(fresh.len());
        let ids: Vec<&str> = fresh.iter().flat_map(|fresh| names(&fresh.derived)).collect();
        let stored = match ids.is_empty() {
            true => Vec::new(),
            false => self.resources.read_many("Observation", &ids).await?,
        };
        let due = self.due(fresh, stored).await?;
        if !is_dry {
            for batch in due.chunks(BATCH) {
                self.write_scores(batch).await?;
            }
        }
        page.changed = due.into_iter().map(|due| due.changed).collect();
        Ok(page)
    }

    /// Scores responses, on all processors.
    async fn scored(
        &self,
        texts: &[Arc<str>],
        instrument: Option<&str>,
        page: &mut Rescored,
    ) -> Result<Vec<Fresh>, Error> {
        let mut tasks = Vec::new();
        for part in texts.chunks(texts.len().div_ceil(workers()).max(1)) {
            let (part, rules) = (part.to_vec(), self.rules.clone());
            let instrument = instrument.map(str::to_owned);
            tasks.push(tokio::task::spawn_blocking(move || {
                part.iter()
                    .filter_map(|text| score(&rules, text, instrument.as_deref()))
                    .collect::<Vec<_>>()
            }));
        }
        let mut fresh = Vec::with_capacity(texts.len());
        for task in tasks {
            for scored in task.await.map_err(broke_off)? {
                match scored {
                    Ok(scored) => fresh.push(scored),
                    Err(refused) => page.refused.push(refused),
                }
            }
        }
        Ok(fresh)
    }

    /// Which scores are not stored as they follow from the answers.
    async fn due(&self, fresh: Vec<Fresh>, stored: Vec<Stored>) -> Result<Vec<Due>, Error> {
        let mut known: std::collections::HashMap<String, Stored> =
            stored.into_iter().map(|stored| (stored.id.clone(), stored)).collect();
        let now = instant(self.source.now());
        let mut parts: Vec<Vec<(Fresh, Vec<Stored>)>> = Vec::new();
        let size = fresh.len().div_ceil(workers()).max(1);
        for fresh in fresh {
            let own = names(&fresh.derived).filter_map(|id| known.remove(id)).collect();
            match parts.last_mut() {
                Some(part) if part.len() < size => part.push((fresh, own)),
                _ => parts.push(vec![(fresh, own)]),
            }
        }
        let mut tasks = Vec::new();
        for part in parts {
            let (rules, now) = (self.rules.clone(), now.clone());
            tasks.push(tokio::task::spawn_blocking(move || {
                let due = part.into_iter().map(|(fresh, own)| compare(&rules, fresh, own, &now));
                due.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()
            }));
        }
        let mut due = Vec::new();
        for task in tasks {
            due.append(&mut task.await.map_err(broke_off)??);
        }
        Ok(due)
    }

    async fn write_scores(&self, batch: &[Due]) -> Result<(), Error> {
        let mut unit = Unit::new(self);
        for due in batch {
            for stored in &due.stored {
                unit.hold_loaded(stored.clone());
            }
            for (_, after) in &due.changed.observations {
                let id = after.str_at(&["id"]).unwrap_or_default();
                // One that was deleted has versions, too.
                match due.stored.iter().any(|stored| stored.id == id) {
                    true => unit.put("Observation", id, after.clone()),
                    false => unit.put_new("Observation", id, after.clone()),
                }
            }
            unit.put_resource(due.provenance.clone()).await?;
        }
        unit.commit().await.map(|_| ())
    }
}

/// Scores one stored response; `None` if it has no scores or is of another instrument.
fn score(
    rules: &Rules,
    text: &Arc<str>,
    instrument: Option<&str>,
) -> Option<Result<Fresh, (String, String)>> {
    let response = Json::parse(text.as_bytes()).ok()?;
    let status = response.str_at(&["status"])?;
    if !matches!(status, "completed" | "amended") {
        return None;
    }
    let known = rules.instrument(&response)?;
    if instrument.is_some_and(|only| *known.id != *only) {
        return None;
    }
    let id = response.str_at(&["id"])?.to_owned();
    let version = response.str_at(&["meta", "versionId"])?.parse().ok()?;
    let place = rules.instruments.iter().position(|other| std::ptr::eq(other, known))?;
    Some(match scores(known, &response, &id) {
        Ok(derived) => Ok(Fresh { id, version, instrument: place, derived }),
        Err(refused) => {
            let reason = refused.issues.first().map(|issue| issue.text.clone());
            Err((id, reason.unwrap_or(refused.flag)))
        }
    })
}

/// The ids of all Observations that a response may have.
fn names(derived: &Derived) -> impl Iterator<Item = &str> {
    let of = |observation| Json::str_at(observation, &["id"]);
    derived.observations.iter().filter_map(of).chain(derived.retracted.iter().map(String::as_str))
}

/// What of a response's scores is not stored as it should be; `None` if all is.
fn compare(
    rules: &Rules,
    fresh: Fresh,
    stored: Vec<Stored>,
    now: &str,
) -> Result<Option<Due>, Error> {
    let mut changes = Vec::new();
    let find = |id: &str| stored.iter().find(|stored| stored.id == id && stored.body.is_some());
    for observation in &fresh.derived.observations {
        let id = observation.str_at(&["id"]).unwrap_or_default();
        match find(id) {
            Some(stored) if is_same(stored, observation)? => {}
            Some(stored) => changes.push((body(stored)?, observation.clone())),
            None => changes.push((None, observation.clone())),
        }
    }
    for id in &fresh.derived.retracted {
        let before = find(id).map(body).transpose()?.flatten();
        if let Some(before) = before
            && before.str_at(&["status"]) != Some("entered-in-error")
        {
            let after = entered_in_error(&before);
            changes.push((Some(before), after));
        }
    }
    let instrument = rules.instruments.get(fresh.instrument);
    let Some(instrument) = instrument.filter(|_| !changes.is_empty()) else {
        return Ok(None);
    };
    let scoring = Scoring {
        response: &fresh.id,
        version: fresh.version,
        algorithm: &instrument.id,
        algorithm_version: &instrument.version,
        title: &instrument.title,
    };
    let written: Vec<Json> = changes.iter().map(|(_, after)| after.clone()).collect();
    let provenance = provenance(&scoring, &written, now);
    let changed = Changed {
        response: fresh.id,
        instrument: instrument.id.to_string(),
        version: instrument.version.clone(),
        observations: changes,
    };
    Ok(Some(Due { changed, provenance, stored }))
}

fn body(stored: &Stored) -> Result<Option<Json>, Error> {
    stored.body.as_ref().map(parse).transpose()
}

fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn broke_off(error: tokio::task::JoinError) -> Error {
    tracing::error!(%error, "the scoring of stored responses broke off");
    Error::Internal
}

impl Changed {
    /// One line of a report.
    pub fn to_json(&self) -> Json {
        let value = |observation: &Json| -> Json {
            let found = observation.as_object().and_then(|object| {
                object.iter().find(|(name, _)| name.starts_with("value")).map(|(_, value)| value)
            });
            let found = found.map(|value| {
                value.get("value").or_else(|| value.get("text")).unwrap_or(value).clone()
            });
            found.unwrap_or(Json::Null)
        };
        let changes: Vec<Json> = self
            .observations
            .iter()
            .map(|(before, after)| {
                let part = |name: &[&str]| after.str_at(name).unwrap_or_default().to_owned();
                let mut line = json!({
                    "observation": (format!("Observation/{}", part(&["id"]))),
                    "score": (part(&["code", "text"])),
                    "status": (part(&["status"]))
                });
                line.set("before", before.as_ref().map_or(Json::Null, value));
                line.set("after", value(after));
                line
            })
            .collect();
        let mut line = json!({
            "response": (format!("QuestionnaireResponse/{}", self.response)),
            "instrument": (&self.instrument),
            "version": (&self.version)
        });
        line.set("changes", changes);
        line
    }

    /// From which category to which an Observation moves, with the category's name.
    pub fn moves(&self) -> impl Iterator<Item = (String, String, String)> {
        self.observations.iter().filter_map(|(before, after)| {
            let text = |of: &Json| of.str_at(&["valueCodeableConcept", "text"]).map(str::to_owned);
            let (from, to) = (text(before.as_ref()?)?, text(after)?);
            let name = after.str_at(&["code", "text"]).unwrap_or_default().to_owned();
            (from != to).then_some((name, from, to))
        })
    }
}
