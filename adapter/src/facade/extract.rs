//! `QuestionnaireResponse/$extract`:
//! <https://hl7.org/fhir/uv/sdc/OperationDefinition-QuestionnaireResponse-extract.html>.
//!
//! The score Observations as they are stored, under the same ids, and what the Questionnaire says
//! is to be extracted. Nothing is stored. Where there is nothing to tell besides, the transaction
//! is the answer itself; else it is the parameter `return` beside `issues`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use lumbar_clinical::derive::derive as scores;
use lumbar_clinical::id;
use lumbar_fhir::datetime::Micros;
use lumbar_fhir::issue::operation_outcome;
use lumbar_fhir::questionnaire::Form;
use lumbar_fhir::questionnaire::extract::{Extracted, Origin};
use lumbar_fhir::validate::{self, Need};
use lumbar_fhir::{Issue, IssueType, Json, Object, json};

use super::operation::Call;
use super::validation::World;
use super::{Error, Facade, Reply, Success, Unit};

/// Most answers that are kept.
const MAX_KEPT: usize = 1_000;
/// Longest answer that is kept, in bytes.
const MAX_LENGTH: usize = 64 * 1024;
/// How long, in microseconds, an answer counts.
const MAX_AGE: Micros = 10_000_000;

/// Scores that were extracted from stored responses, by their ids. They follow from the version of
/// the response and from the rules, which stay; and from what is stored of its Questionnaire, which
/// may change.
#[derive(Default)]
pub(super) struct Cache(Mutex<HashMap<String, Kept>>);

struct Kept {
    version: i64,
    /// How often artefacts had been forgotten then.
    forgotten: u64,
    since: Micros,
    body: Arc<str>,
}

impl Cache {
    fn find(&self, id: &str, version: i64, forgotten: u64, now: Micros) -> Option<Arc<str>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |kept: &&Kept| {
            kept.version == version && kept.forgotten == forgotten && now - kept.since < MAX_AGE
        };
        all.get(id).filter(is_fresh).map(|kept| kept.body.clone())
    }

    fn keep(&self, id: &str, kept: Kept) {
        if kept.body.len() > MAX_LENGTH {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_KEPT {
            all.clear();
        }
        all.insert(id.to_owned(), kept);
    }
}

impl Facade {
    /// What follows from a response, as a transaction.
    ///
    /// # Errors
    /// The request cannot be understood, the response is not valid, or its Questionnaire is not
    /// known.
    pub(super) async fn extract(&self, call: &Call<'_>) -> Result<Reply, Error> {
        let mut unit = Unit::new(self);
        let (now, forgotten) = (self.now(), self.validation.forgotten());
        let mut version = None;
        let own = match call.body.and_then(|body| body.str_at(&["resourceType"])) {
            Some("Parameters") => sent(call.body, "questionnaire", "Questionnaire")?,
            _ => None,
        };
        if let Some(own) = own {
            // The response is held against it as if it were stored.
            let id = own.str_at(&["id"]).unwrap_or("questionnaire");
            unit.preview_artefact("Questionnaire", id, own);
        }
        let (response, mut issues) = match call.id {
            Some(id) => {
                let read = self.read("QuestionnaireResponse", id).await?;
                version = read.version.filter(|_| call.body.is_none());
                let kept =
                    version.and_then(|version| self.extracts.find(id, version, forgotten, now));
                if kept.is_some() {
                    return Ok(Reply { body: kept, ..Reply::empty(Success::Ok) });
                }
                let parsed = read.body.and_then(|body| Json::parse(body.as_bytes()).ok());
                (parsed.ok_or(Error::Internal)?, Vec::new())
            }
            None => {
                let sent = sent(call.body, "questionnaire-response", "QuestionnaireResponse")?;
                let response = sent.ok_or_else(required)?.clone();
                let issues = self.check(&mut unit, &response).await?;
                (response, issues)
            }
        };
        let id = match response.str_at(&["id"]) {
            Some(id) => id.to_owned(),
            None => {
                let text = "The response has no id, so what is extracted names one that follows from its content; send it with the id under which it is stored.";
                issues.push(
                    Issue::information(IssueType::Incomplete, text).at("QuestionnaireResponse.id"),
                );
                id::derived(&["QuestionnaireResponse", &response.to_string()])
            }
        };
        let instrument = self.rules.instrument(&response);
        let mut entries = Vec::new();
        if let Some(instrument) = instrument {
            let derived = scores(instrument, &response, &id)
                .map_err(|refused| Error::Invalid(refused.issues))?;
            issues.extend(derived.issues);
            entries.extend(derived.observations.into_iter().map(|score| self.put_entry(score)));
        }
        let mut world = self.world(&unit);
        let form = match own {
            Some(own) => Some(self.form(own.clone()).await?),
            None => self.form_named(&mut world, &mut unit, &response).await?,
        };
        match form {
            Some(form) if form.extracts() => {
                version = None;
                let extracted = self.extracted(&mut world, &mut unit, form, response, &id).await?;
                let is_new = |entry: &Json| !entries.iter().any(|score| is_about(score, entry));
                let more: Vec<Json> = extracted.entries.into_iter().filter(is_new).collect();
                entries.extend(more);
                issues.extend(extracted.issues);
            }
            Some(_) => {}
            None if instrument.is_some() => {}
            None => return Err(unknown()),
        }
        self.keep(&mut unit, world);
        let reply = answer(entries, issues);
        if let (Some(version), Some(body)) = (version, &reply.body) {
            let kept = Kept { version, forgotten, since: now, body: body.clone() };
            self.extracts.keep(&id, kept);
        }
        Ok(reply)
    }

    /// A score as an entry that puts it where it is stored.
    fn put_entry(&self, observation: Json) -> Json {
        let url = format!("Observation/{}", observation.str_at(&["id"]).unwrap_or_default());
        let mut entry = Object::new();
        entry.set("fullUrl", format!("{}/{url}", self.base));
        entry.set("resource", observation);
        entry.set("request", json!({"method": "PUT", "url": (url)}));
        Json::Object(entry)
    }

    /// The Questionnaire that a response names, read; `None` if nobody has it.
    async fn form_named(
        &self,
        world: &mut World,
        unit: &mut Unit<'_>,
        response: &Json,
    ) -> Result<Option<Arc<Form>>, Error> {
        let Some(canonical) = response.str_at(&["questionnaire"]) else { return Ok(None) };
        if let Some(id) = canonical.strip_prefix('#') {
            let mut contained = response.list("contained").iter();
            return match contained.find(|other| other.str_at(&["id"]) == Some(id)) {
                Some(own) => Ok(Some(self.form(own.clone()).await?)),
                None => Ok(None),
            };
        }
        if world.resources().shared_form(canonical).is_none() {
            let need = Need::Questionnaire(canonical.to_owned());
            self.fetch_needs(world, unit, vec![need]).await?;
        }
        Ok(world.resources().shared_form(canonical))
    }

    /// What a Questionnaire says is to be extracted, looked at again until nothing is missing.
    async fn extracted(
        &self,
        world: &mut World,
        unit: &mut Unit<'_>,
        form: Arc<Form>,
        response: Json,
        id: &str,
    ) -> Result<Extracted, Error> {
        let (response, id): (_, Arc<str>) = (Arc::new(response), id.into());
        loop {
            let (form, response, id) = (form.clone(), response.clone(), id.clone());
            let extract = move |world: &validate::World<'_>| {
                let origin = Origin { id: &id, identify: &id::derived };
                form.extract(world, &response, origin)
            };
            let (extracted, needs) = self.with_world(world, extract).await?;
            if !self.fetch_needs(world, unit, needs).await? {
                return Ok(extracted);
            }
        }
    }
}

/// The transaction, with what there is to tell. Nothing is no transaction.
fn answer(entries: Vec<Json>, mut issues: Vec<Issue>) -> Reply {
    if entries.is_empty() {
        if issues.is_empty() {
            let text = "There is nothing to extract from this response: its Questionnaire has no scores and no extensions that say so.";
            issues.push(Issue::warning(IssueType::Informational, text));
        }
        return Reply::of(&operation_outcome(&issues));
    }
    let mut bundle = json!({"resourceType": "Bundle", "type": "transaction"});
    bundle.set("entry", entries);
    if issues.is_empty() {
        return Reply::of(&bundle);
    }
    Reply::of(&json!({
        "resourceType": "Parameters",
        "parameter": [
            {"name": "return", "resource": (bundle)},
            {"name": "issues", "resource": (operation_outcome(&issues))}
        ]
    }))
}

/// Whether an entry is an Observation with a code of a score, which is there already.
fn is_about(score: &Json, entry: &Json) -> bool {
    let codes = |entry: &Json| -> Vec<(String, String)> {
        let codings = entry.at(&["resource", "code"]).map_or(&[][..], |code| code.list("coding"));
        let part = |coding: &Json, name| coding.str_at(&[name]).unwrap_or_default().to_owned();
        codings.iter().map(|coding| (part(coding, "system"), part(coding, "code"))).collect()
    };
    let scored = codes(score);
    entry.str_at(&["resource", "resourceType"]) == Some("Observation")
        && codes(entry).iter().any(|code| scored.contains(code))
}

/// A resource of the body: alone, or as a parameter.
fn sent<'b>(body: Option<&'b Json>, name: &str, of: &str) -> Result<Option<&'b Json>, Error> {
    let Some(body) = body else { return Ok(None) };
    let found = match body.str_at(&["resourceType"]) {
        Some("Parameters") => {
            let mut named = body.list("parameter").iter();
            named
                .find(|parameter| parameter.str_at(&["name"]) == Some(name))
                .and_then(|parameter| parameter.get("resource"))
        }
        _ => Some(body),
    };
    match found {
        Some(resource) if resource.str_at(&["resourceType"]) != Some(of) => {
            let text = format!("{name} must be a {of}, alone or as a parameter with a resource.");
            Err(Error::Unparseable(vec![Issue::error(IssueType::Value, text)]))
        }
        found => Ok(found),
    }
}

fn required() -> Error {
    Error::Unparseable(vec![Issue::error(
        IssueType::Required,
        "Send a QuestionnaireResponse, alone or as the parameter questionnaire-response; or name a stored one, as in QuestionnaireResponse/r1/$extract.",
    )])
}

fn unknown() -> Error {
    let text = "The Questionnaire of this response is not known here, so it cannot be said what is to be extracted; store it, or send it as the parameter questionnaire.";
    let issue = Issue::error(IssueType::NotFound, text);
    Error::Invalid(vec![issue.at("QuestionnaireResponse.questionnaire")])
}
