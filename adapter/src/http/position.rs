//! Line and column of what is told about a body:
//! <https://hl7.org/fhir/R4/operationoutcome-definitions.html#OperationOutcome.issue.expression>.
//!
//! The body is looked at again only when there is an OperationOutcome about its elements.

use axum::body::Bytes;
use lumbar_fhir::format::position::{Syntax, locate};
use lumbar_fhir::issue::set_position;
use lumbar_fhir::rest::Interaction;
use lumbar_fhir::{Issue, IssueType, Json};

use crate::facade::{Error, Reply};

/// A body as it was sent.
pub struct Sent {
    /// Its syntax.
    pub syntax: Syntax,
    /// Its bytes.
    pub bytes: Bytes,
    /// Type of the resource.
    pub resource_type: String,
}

impl Sent {
    /// Says where in the body an error has its causes.
    pub fn mark_error(&self, error: &mut Error) {
        if let Error::Invalid(issues) | Error::Unparseable(issues) = error {
            let is_about = |issue: &Issue| {
                issue.expression.as_deref().is_some_and(|text| {
                    text.strip_prefix(self.resource_type.as_str())
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
                        && !text.contains(".where(")
                })
            };
            if issues.iter().all(is_about) {
                return locate(self.syntax, &self.bytes, "", issues);
            }
            for issue in issues.iter_mut().filter(|issue| is_about(issue)) {
                locate(self.syntax, &self.bytes, "", std::slice::from_mut(issue));
            }
        }
    }

    /// Says where in the body that has what an answer tells about it.
    pub fn mark_reply(&self, interaction: &Interaction, reply: &mut Reply) {
        let is_told = reply.body.as_ref().is_some_and(|body| body.contains("\"OperationOutcome\""));
        if !is_told {
            return;
        }
        let below = match interaction {
            Interaction::Operation { name, body: Some(body), .. } if name == "validate" => {
                within(body)
            }
            // A stored OperationOutcome is no answer of ours.
            Interaction::Create { .. } | Interaction::Update { .. }
                if self.resource_type != "OperationOutcome" =>
            {
                String::new()
            }
            Interaction::Bundle(_) => String::new(),
            _ => return,
        };
        let Some(Ok(mut answer)) = reply.body.as_ref().map(|body| Json::parse(body.as_bytes()))
        else {
            return;
        };
        let mut marks = Marks::default();
        match interaction {
            Interaction::Bundle(body) => {
                for (index, entry) in answer.list("entry").iter().enumerate() {
                    let below = format!("Bundle.entry[{index}].resource");
                    let sent =
                        body.list("entry").get(index).and_then(|entry| entry.get("resource"));
                    let inner = sent.map(within).unwrap_or_default();
                    let inner = inner.strip_prefix("Parameters").unwrap_or_default();
                    if validates(body, index) {
                        marks.read(entry.get("resource"), &format!("{below}{inner}"));
                    }
                    marks.read(entry.at(&["response", "outcome"]), &below);
                }
            }
            _ => marks.read(Some(&answer), &below),
        }
        locate(self.syntax, &self.bytes, "", &mut marks.0);
        let mut marks = marks.0.into_iter();
        match interaction {
            Interaction::Bundle(body) => {
                let Some(Json::Array(entries)) = answer.get_mut("entry") else { return };
                for (index, entry) in entries.iter_mut().enumerate() {
                    if validates(body, index) {
                        mark(entry.get_mut("resource"), &mut marks);
                    }
                    let response = entry.get_mut("response");
                    mark(response.and_then(|response| response.get_mut("outcome")), &mut marks);
                }
            }
            _ => mark(Some(&mut answer), &mut marks),
        }
        reply.body = Some(answer.to_string().into());
    }
}

/// Whether an entry of a Bundle asks for a validation.
fn validates(bundle: &Json, index: usize) -> bool {
    let url = bundle.list("entry").get(index).and_then(|entry| entry.str_at(&["request", "url"]));
    let path = url.and_then(|url| url.split('?').next());
    path.is_some_and(|path| path.ends_with("$validate"))
}

/// Where the resource that is to be validated stands in a body of `$validate`; empty when it is the
/// whole of it.
fn within(body: &Json) -> String {
    if body.str_at(&["resourceType"]) != Some("Parameters") {
        return String::new();
    }
    let mut parameters = body.list("parameter").iter();
    let index = parameters.position(|parameter| parameter.str_at(&["name"]) == Some("resource"));
    index.map_or_else(String::new, |index| format!("Parameters.parameter[{index}].resource"))
}

/// An issue for each of an answer's, with its expression as one of the whole body.
#[derive(Default)]
struct Marks(Vec<Issue>);

impl Marks {
    fn read(&mut self, outcome: Option<&Json>, below: &str) {
        for issue in issues(outcome) {
            let text = issue.str_at(&["expression"]).unwrap_or("http");
            let text = match text.split_once('.') {
                // An error of a Bundle's entry names the entry already.
                _ if below.is_empty() || text.starts_with("Bundle.entry[") => text.to_owned(),
                Some((_, rest)) => format!("{below}.{rest}"),
                None => below.to_owned(),
            };
            let is_new = issue.list("extension").is_empty() || !is_marked(issue);
            let text = if is_new && !text.contains(".where(") { text } else { "http".to_owned() };
            self.0.push(Issue::error(IssueType::Value, "").at(text));
        }
    }
}

fn issues(outcome: Option<&Json>) -> &[Json] {
    match outcome {
        Some(outcome) if is_outcome(outcome) => outcome.list("issue"),
        _ => &[],
    }
}

fn is_outcome(json: &Json) -> bool {
    json.str_at(&["resourceType"]) == Some("OperationOutcome")
}

fn is_marked(issue: &Json) -> bool {
    let mut extensions = issue.list("extension").iter();
    extensions.any(|extension| {
        extension.str_at(&["url"]).is_some_and(|url| url.ends_with("/operationoutcome-issue-line"))
    })
}

fn mark(outcome: Option<&mut Json>, marks: &mut impl Iterator<Item = Issue>) {
    let Some(outcome) = outcome.filter(|outcome| is_outcome(outcome)) else { return };
    let Some(Json::Array(issues)) = outcome.get_mut("issue") else { return };
    for issue in issues {
        if let Some((line, column)) = marks.next().and_then(|mark| mark.position) {
            set_position(issue, line, column);
        }
    }
}
