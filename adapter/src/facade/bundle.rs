//! Batch and transaction: <https://hl7.org/fhir/R4/http.html#transaction>.
//!
//! Here is what both share: an entry is read as a request of its own, and its answer is written.

mod batch;
mod links;
mod transaction;

use std::time::{Duration, Instant};

use lumbar_fhir::datetime::{DateTime, instant};
use lumbar_fhir::issue::operation_outcome;
use lumbar_fhir::rest::{self, Interaction, Method, Request};
use lumbar_fhir::{Issue, IssueType, Json, Object, json};

use super::{Error, Facade, Preferences, Reply, Return, Success};
use crate::security::Caller;

/// An entry as the request that it stands for.
struct Entry {
    interaction: Interaction,
    /// Whether only the answer's head is wanted.
    head: bool,
    /// Versions that a reading client holds.
    if_none_match: Option<String>,
    /// The last moment, in microseconds, of what a reading client holds.
    if_modified_since: Option<i64>,
}

impl Facade {
    pub(super) async fn bundle(
        &self,
        caller: &Caller,
        bundle: &Json,
        prefer: Preferences,
    ) -> Result<Reply, Error> {
        let entries = bundle.list("entry");
        let most = self.policy.limits.entries;
        if entries.len() > most {
            return Err(Error::Unparseable(vec![
                Issue::error(
                    IssueType::TooCostly,
                    format!("A Bundle may have {most} entries at most; send several."),
                )
                .at("Bundle.entry"),
            ]));
        }
        let (kind, entries) = match bundle.str_at(&["type"]) {
            Some("transaction") => {
                ("transaction-response", self.transaction(caller, entries, prefer).await?)
            }
            _ => ("batch-response", self.batch(caller, entries, prefer).await),
        };
        let mut answer = json!({"resourceType": "Bundle", "type": (kind)});
        if !entries.is_empty() {
            answer.set("entry", entries);
        }
        Ok(Reply::of(&answer))
    }

    /// Reads an entry.
    fn entry(&self, entry: &Json) -> Result<Entry, Error> {
        let wrong = |code: IssueType, member: &str, text: String| {
            let issue = Issue::error(code, text).at(format!("request.{member}"));
            Err(Error::Unparseable(vec![issue]))
        };
        let method = match entry.str_at(&["request", "method"]) {
            Some("GET") => Method::Get,
            Some("HEAD") => Method::Head,
            Some("POST") => Method::Post,
            Some("PUT") => Method::Put,
            Some("PATCH") => Method::Patch,
            Some("DELETE") => Method::Delete,
            _ => {
                let text = "An entry of a batch or transaction needs request.method: GET, HEAD, POST, PUT, PATCH or DELETE.";
                return wrong(IssueType::Required, "method", text.to_owned());
            }
        };
        let Some(url) = entry.str_at(&["request", "url"]) else {
            let text =
                "An entry of a batch or transaction needs request.url, for example Patient/1.";
            return wrong(IssueType::Required, "url", text.to_owned());
        };
        let below = |rest: &str| rest.is_empty() || rest.starts_with(['/', '?']);
        let own = url.strip_prefix(&self.base).filter(|rest| below(rest));
        let is_absolute = url.split('?').next().is_some_and(|path| path.contains("://"));
        if own.is_none() && is_absolute {
            let text = format!("This service answers below {} only.", self.base);
            return wrong(IssueType::Value, "url", text);
        }
        let url = own.unwrap_or(url).trim_start_matches('/');
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let header = |name| entry.str_at(&["request", name]).map(str::to_owned);
        let if_modified_since = match header("ifModifiedSince").as_deref().map(DateTime::parse) {
            None => None,
            Some(Some(moment)) => Some(moment.bounds().1),
            Some(None) => {
                let text = "ifModifiedSince cannot be read; an instant is written as in 2026-03-02T10:42:00Z.";
                return wrong(IssueType::Value, "ifModifiedSince", text.to_owned());
            }
        };
        let request = Request {
            method,
            path: path.to_owned(),
            query: query.to_owned(),
            if_match: header("ifMatch"),
            if_none_match: header("ifNoneMatch"),
            if_none_exist: header("ifNoneExist"),
            body: entry.get("resource").cloned(),
            form: None,
        };
        let interaction = rest::parse(&self.definitions(), request)?;
        if matches!(interaction, Interaction::Bundle(_)) {
            let text = "A Bundle may not hold another batch or transaction.";
            let issue = Issue::error(IssueType::NotSupported, text);
            return Err(Error::Unparseable(vec![issue]));
        }
        Ok(Entry {
            interaction,
            head: method == Method::Head,
            if_none_match: header("ifNoneMatch"),
            if_modified_since,
        })
    }

    /// The answer of an entry to what was done.
    fn entry_answer(&self, entry: &Entry, mut reply: Reply, prefer: Preferences) -> Json {
        let reads = entry.reads();
        if reads && entry.is_held(&reply) {
            reply.success = Success::NotModified;
            reply.body = None;
        }
        let mut answer = Object::new();
        let mut outcome = None;
        let body = reply.body.as_ref().and_then(|body| Json::parse(body.as_bytes()).ok());
        match (body, prefer.returns) {
            (_, _) if reads && entry.head => {}
            (Some(body), _) if reads => answer.set("resource", body),
            (Some(body), Some(Return::OperationOutcome)) => outcome = Some(body),
            (Some(body), Some(Return::Representation)) => answer.set("resource", body),
            _ => {}
        }
        // "Hints and warnings produced as part of processing this entry", unless nothing is wanted.
        if outcome.is_none()
            && !reads
            && prefer.returns != Some(Return::Minimal)
            && !reply.issues.is_empty()
        {
            outcome = Some(operation_outcome(&reply.issues));
        }
        let mut response = Object::new();
        response.set("status", status_line(reply.success.status()));
        if let Some(location) = &reply.location {
            response.set("location", location);
        }
        if let Some(version) = reply.version {
            response.set("etag", format!("W/\"{version}\""));
        }
        if let Some(moment) = reply.last_updated {
            response.set("lastModified", instant(moment));
        }
        if let Some(outcome) = outcome {
            response.set("outcome", outcome);
        }
        answer.set("response", response);
        Json::Object(answer)
    }
}

/// Longest time for the entries of one Bundle: what 10,000 slow writes take, and much less than
/// 10,000 operations could.
const MAX_TIME: Duration = Duration::from_secs(300);

/// How many bytes the answers of a Bundle's entries may have together, and until when they are
/// made. They are counted when they are there, so the last one may reach beyond.
struct Room {
    most: usize,
    left: usize,
    until: Instant,
}

impl Room {
    fn new(most: usize) -> Room {
        Room { most, left: most, until: Instant::now() + MAX_TIME }
    }

    /// Refuses an entry for which there is no time left.
    fn in_time(&self) -> Result<(), Error> {
        if Instant::now() < self.until {
            return Ok(());
        }
        let text = format!(
            "The entries before this one took {} seconds, the limit; send this entry by itself.",
            MAX_TIME.as_secs()
        );
        Err(Error::Unparseable(vec![Issue::error(IssueType::TooCostly, text)]))
    }

    fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Why an entry that reads is not answered any more.
    fn error(&self) -> Error {
        Error::Unparseable(vec![Issue::error(
            IssueType::TooCostly,
            format!(
                "The answers before this one have {} bytes together, the limit; send this entry by itself.",
                self.most
            ),
        )])
    }

    /// The reply, without its body when there is no room for it.
    fn taken(&mut self, mut reply: Reply) -> Reply {
        if self.is_full() {
            reply.body = None;
        }
        self.left = self.left.saturating_sub(reply.body.as_ref().map_or(0, |body| body.len()));
        reply
    }
}

impl Entry {
    /// Whether the entry gives what there is, instead of writing.
    fn reads(&self) -> bool {
        !matches!(
            self.interaction,
            Interaction::Create { .. }
                | Interaction::Update { .. }
                | Interaction::Patch { .. }
                | Interaction::Delete { .. }
        )
    }

    /// Whether the client holds already what is read:
    /// <https://hl7.org/fhir/R4/http.html#cread>.
    fn is_held(&self, reply: &Reply) -> bool {
        match (&self.if_none_match, self.if_modified_since) {
            (Some(held), _) => reply.is_held(held),
            (None, Some(moment)) => reply.last_updated.is_some_and(|changed| changed <= moment),
            (None, None) => false,
        }
    }
}

/// The same error, its issues naming the entry.
fn of_entry(error: Error, index: usize) -> Error {
    let place = |mut issue: Issue| {
        let inner = issue.expression.take().map_or(String::new(), |path| {
            // `Patient.name` of the entry's resource becomes `resource.name`.
            match path.split_once('.') {
                // A parameter of the entry's url.
                Some(("http", _)) => ".request.url".to_owned(),
                Some((of, rest)) if of.starts_with(|c: char| c.is_ascii_uppercase()) => {
                    format!(".resource.{rest}")
                }
                // The resource as a whole.
                None if path.starts_with(|c: char| c.is_ascii_uppercase()) => {
                    ".resource".to_owned()
                }
                _ => format!(".{path}"),
            }
        });
        issue.text = format!("Entry {index}: {}", issue.text);
        issue.at(format!("Bundle.entry[{index}]{inner}"))
    };
    each(error, &place)
}

/// The same error with each of its issues changed.
fn each(error: Error, change: &dyn Fn(Issue) -> Issue) -> Error {
    match error {
        Error::NotFound(issue) => Error::NotFound(change(issue)),
        Error::Gone(issue, version) => Error::Gone(change(issue), version),
        Error::Conflict(issue) => Error::Conflict(change(issue)),
        Error::Refused(issue) => Error::Refused(change(issue)),
        Error::PreconditionFailed(issue) => Error::PreconditionFailed(change(issue)),
        Error::PreconditionRequired(issue) => Error::PreconditionRequired(change(issue)),
        Error::NotSupported(issue) => Error::NotSupported(change(issue)),
        Error::Invalid(issues) => Error::Invalid(issues.into_iter().map(change).collect()),
        Error::Unparseable(issues) => Error::Unparseable(issues.into_iter().map(change).collect()),
        other => other,
    }
}

fn error_answer(error: &Error) -> Json {
    let mut response = json!({
        "status": (status_line(error.status())),
        "outcome": (error.outcome())
    });
    if let Error::Gone(_, version) = error {
        response.set("etag", format!("W/\"{version}\""));
    }
    json!({"response": (response)})
}

/// The status as a Bundle's answer shows it: number and reason.
fn status_line(status: u16) -> String {
    let reason = match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        422 => "Unprocessable Entity",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => return status.to_string(),
    };
    format!("{status} {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_comes_too_late_is_told_so() {
        let room = Room::new(1);
        assert!(room.in_time().is_ok());
        let late = Room { until: Instant::now(), ..room };
        let error = late.in_time().unwrap_err();
        assert_eq!(error.status(), 400);
        let issues = error.issues();
        assert!(issues.iter().any(|issue| issue.code == IssueType::TooCostly), "{issues:?}");
    }
}
