//! A terminology server elsewhere: <https://hl7.org/fhir/R4/terminology-service.html>.
//!
//! Its answers are kept for an hour, within bounds. After it did not answer it is left alone for
//! some seconds, so that nobody waits for a dead server.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lumbar_fhir::Json;
use lumbar_fhir::datetime::Micros;

use super::Web;

/// How long an answer is good, in microseconds: an hour.
const LIFETIME: Micros = 3_600_000_000;
/// How long a server that did not answer is left alone, in microseconds: ten seconds.
const PAUSE: Micros = 10_000_000;
/// Most answers that are kept.
const MAX_ANSWERS: usize = 2000;
/// Most bytes that the kept answers and their questions may have.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// The server that is asked for what is not known here.
#[derive(Debug)]
pub struct TerminologyServer {
    web: Web,
    /// FHIR base URL without a slash at its end.
    base: String,
    state: Mutex<State>,
}

/// What it answered.
#[derive(Clone, Debug)]
pub struct TerminologyAnswer {
    /// HTTP status, below 500.
    pub status: u16,
    /// The resource.
    pub body: Arc<Json>,
}

/// Operation and parameters.
type Question = (String, String);

#[derive(Debug, Default)]
struct State {
    answers: HashMap<Question, Kept>,
    /// The questions in the order in which they were answered.
    order: VecDeque<Question>,
    bytes: usize,
    /// Why it is left alone, and until when.
    pause: Option<(String, Micros)>,
}

#[derive(Debug)]
struct Kept {
    answer: TerminologyAnswer,
    until: Micros,
    bytes: usize,
}

impl TerminologyServer {
    /// A server at `base` that has `timeout` for an answer.
    ///
    /// # Errors
    /// The TLS library cannot be set up.
    pub fn new(base: &str, timeout: Duration) -> Result<TerminologyServer, reqwest::Error> {
        Ok(TerminologyServer {
            web: Web::within(timeout)?,
            base: base.trim_end_matches('/').to_owned(),
            state: Mutex::default(),
        })
    }

    /// Invokes an operation (`ValueSet/$expand`) with a Parameters resource.
    ///
    /// # Errors
    /// A sentence: nobody answered, not in time, too much, or no FHIR.
    pub async fn ask(
        &self,
        now: Micros,
        operation: &str,
        parameters: &Json,
    ) -> Result<TerminologyAnswer, String> {
        let question = (operation.to_owned(), parameters.to_string());
        if let Some(known) = self.known(now, &question) {
            return known;
        }
        let headers = [
            ("accept", "application/fhir+json".to_owned()),
            ("content-type", "application/fhir+json".to_owned()),
        ];
        let url = format!("{}/{operation}", self.base);
        let sent = self.web.post(&url, &headers, question.1.clone()).await;
        let read = sent.and_then(|answer| {
            if answer.status >= 500 || answer.status == 429 {
                return Err(format!("The receiver answered {}.", answer.status));
            }
            let body =
                Json::parse(&answer.body).ok().filter(|body| body.get("resourceType").is_some());
            let body =
                body.ok_or_else(|| "The receiver's answer is no FHIR resource.".to_owned())?;
            Ok((
                TerminologyAnswer { status: answer.status, body: Arc::new(body) },
                answer.body.len(),
            ))
        });
        let mut state = self.state();
        match read {
            Ok((answer, bytes)) => {
                state.pause = None;
                state.keep(question, answer.clone(), bytes, now);
                Ok(answer)
            }
            Err(reason) => {
                tracing::warn!(%reason, operation, "the terminology server is left alone for some seconds");
                state.pause = Some((reason.clone(), now + PAUSE));
                Err(reason)
            }
        }
    }

    /// What need not be asked again.
    fn known(&self, now: Micros, question: &Question) -> Option<Result<TerminologyAnswer, String>> {
        let state = self.state();
        let kept = state.answers.get(question).filter(|kept| kept.until > now);
        if let Some(kept) = kept {
            return Some(Ok(kept.answer.clone()));
        }
        let (reason, _) = state.pause.as_ref().filter(|(_, until)| *until > now)?;
        Some(Err(reason.clone()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep(&mut self, question: Question, answer: TerminologyAnswer, bytes: usize, now: Micros) {
        let bytes = bytes + question.0.len() + 2 * question.1.len();
        if bytes > MAX_BYTES / 4 {
            return;
        }
        let kept = Kept { answer, until: now + LIFETIME, bytes };
        self.bytes += bytes;
        match self.answers.insert(question.clone(), kept) {
            Some(old) => self.bytes -= old.bytes,
            None => self.order.push_back(question),
        }
        while self.bytes > MAX_BYTES || self.order.len() > MAX_ANSWERS {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(old) = self.answers.remove(&oldest) {
                self.bytes -= old.bytes;
            }
        }
    }
}
