//! What can be wrong with data: <https://hl7.org/fhir/R4/operationoutcome.html>.
//!
//! An [`Issue`] travels beside a result; it never stops the work by itself. Whether it does is
//! decided where the result is used.

use std::fmt;

use crate::json;
use crate::{Json, Object};

/// The line of an issue: <https://hl7.org/fhir/extensions/StructureDefinition-operationoutcome-issue-line.html>.
const ISSUE_LINE: &str = "http://hl7.org/fhir/StructureDefinition/operationoutcome-issue-line";
/// The column of an issue: <https://hl7.org/fhir/extensions/StructureDefinition-operationoutcome-issue-col.html>.
const ISSUE_COLUMN: &str = "http://hl7.org/fhir/StructureDefinition/operationoutcome-issue-col";
/// What said so: <https://hl7.org/fhir/extensions/StructureDefinition-operationoutcome-message-id.html>.
const MESSAGE_ID: &str = "http://hl7.org/fhir/StructureDefinition/operationoutcome-message-id";

/// How much an issue matters: <https://hl7.org/fhir/R4/valueset-issue-severity.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing, nothing to do.
    Information,
    /// It worked; somebody should look.
    Warning,
    /// This part did not work.
    Error,
    /// Nothing worked.
    Fatal,
}

/// What kind of trouble it is: <https://hl7.org/fhir/R4/valueset-issue-type.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the codes of the value set")]
pub enum IssueType {
    Invalid,
    Structure,
    Required,
    Value,
    Invariant,
    Security,
    Login,
    Unknown,
    Expired,
    Forbidden,
    Suppressed,
    Processing,
    NotSupported,
    Duplicate,
    MultipleMatches,
    NotFound,
    Deleted,
    TooLong,
    CodeInvalid,
    Extension,
    TooCostly,
    BusinessRule,
    Conflict,
    Transient,
    LockError,
    NoStore,
    Exception,
    Timeout,
    Incomplete,
    Throttled,
    Informational,
}

/// Where in the source the trouble stands, in the source's own terms.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Locator {
    /// A cell of a table: file name, row from 1 for the first row after the header, column name.
    Cell {
        /// Name of the file, without folders.
        file: String,
        /// Row, from 1; 0 is the header.
        row: u64,
        /// Column header; empty when the whole row is meant.
        column: String,
    },
    /// A part of an HL7 v2 message, for example `PID^1^3^1` (segment, occurrence, field, component).
    Segment(String),
    /// A JSON pointer (RFC 6901).
    Pointer(String),
    /// A file as a whole.
    File(String),
}

/// A piece of source data that may identify a person: it prints as dots unless asked for by name.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Masked(String);

/// One finding about data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// How much it matters.
    pub severity: Severity,
    /// What kind it is.
    pub code: IssueType,
    /// Our own finer code, for example `BPA-ID-001`.
    pub detail: Option<&'static str>,
    /// The rule that was broken: the key of an invariant (`dom-6`), or the canonical of a profile
    /// and what it asks for, for example `https://lumbar.example/fhir/StructureDefinition/x#slice`.
    pub rule: Option<Box<str>>,
    /// FHIRPath of the element, for example `Patient.name[0].family`.
    pub expression: Option<String>,
    /// Line and column in the text, both from 1, when the source is a text in a format of FHIR.
    pub position: Option<(u32, u32)>,
    /// Place in the source, when the source is not FHIR.
    pub locator: Option<Box<Locator>>,
    /// The offending raw value.
    pub value: Option<Masked>,
    /// One sentence that a person can act on; it holds no patient data.
    pub text: String,
}

impl Severity {
    /// The code of the value set.
    pub fn code(self) -> &'static str {
        match self {
            Severity::Information => "information",
            Severity::Warning => "warning",
            Severity::Error => "error",
            Severity::Fatal => "fatal",
        }
    }
}

impl IssueType {
    /// The code of the value set.
    pub fn code(self) -> &'static str {
        match self {
            IssueType::Invalid => "invalid",
            IssueType::Structure => "structure",
            IssueType::Required => "required",
            IssueType::Value => "value",
            IssueType::Invariant => "invariant",
            IssueType::Security => "security",
            IssueType::Login => "login",
            IssueType::Unknown => "unknown",
            IssueType::Expired => "expired",
            IssueType::Forbidden => "forbidden",
            IssueType::Suppressed => "suppressed",
            IssueType::Processing => "processing",
            IssueType::NotSupported => "not-supported",
            IssueType::Duplicate => "duplicate",
            IssueType::MultipleMatches => "multiple-matches",
            IssueType::NotFound => "not-found",
            IssueType::Deleted => "deleted",
            IssueType::TooLong => "too-long",
            IssueType::CodeInvalid => "code-invalid",
            IssueType::Extension => "extension",
            IssueType::TooCostly => "too-costly",
            IssueType::BusinessRule => "business-rule",
            IssueType::Conflict => "conflict",
            IssueType::Transient => "transient",
            IssueType::LockError => "lock-error",
            IssueType::NoStore => "no-store",
            IssueType::Exception => "exception",
            IssueType::Timeout => "timeout",
            IssueType::Incomplete => "incomplete",
            IssueType::Throttled => "throttled",
            IssueType::Informational => "informational",
        }
    }
}

impl Masked {
    /// Wraps a raw value.
    pub fn new(value: impl Into<String>) -> Self {
        Masked(value.into())
    }

    /// The raw value, for the report that the data's owner reads; never for a log.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

impl fmt::Display for Locator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Locator::Cell { file, row, column } if column.is_empty() => {
                write!(f, "{file}, row {row}")
            }
            Locator::Cell { file, row, column } => write!(f, "{file}, row {row}, column {column}"),
            Locator::Segment(place) | Locator::Pointer(place) | Locator::File(place) => {
                f.write_str(place)
            }
        }
    }
}

impl Issue {
    /// An issue of severity `error`.
    pub fn error(code: IssueType, text: impl Into<String>) -> Self {
        Issue {
            severity: Severity::Error,
            code,
            detail: None,
            rule: None,
            expression: None,
            position: None,
            locator: None,
            value: None,
            text: text.into(),
        }
    }

    /// An issue of severity `warning`.
    pub fn warning(code: IssueType, text: impl Into<String>) -> Self {
        Issue { severity: Severity::Warning, ..Issue::error(code, text) }
    }

    /// An issue of severity `information`.
    pub fn information(code: IssueType, text: impl Into<String>) -> Self {
        Issue { severity: Severity::Information, ..Issue::error(code, text) }
    }

    /// The same with another severity.
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// The same with our own finer code.
    pub fn detail(mut self, detail: &'static str) -> Self {
        self.detail = Some(detail);
        self
    }

    /// The same with the rule that was broken.
    pub fn rule(mut self, rule: impl Into<String>) -> Self {
        self.rule = Some(rule.into().into_boxed_str());
        self
    }

    /// The same with the line and the column in the text.
    pub fn position(mut self, line: usize, column: usize) -> Self {
        let short = |number| u32::try_from(number).unwrap_or(u32::MAX);
        self.position = Some((short(line), short(column)));
        self
    }

    /// The same with the element's path.
    pub fn at(mut self, expression: impl Into<String>) -> Self {
        self.expression = Some(expression.into());
        self
    }

    /// The same with the place in the source.
    pub fn located(mut self, locator: Locator) -> Self {
        self.locator = Some(Box::new(locator));
        self
    }

    /// The same with the raw value.
    pub fn value(mut self, value: impl Into<String>) -> Self {
        self.value = Some(Masked::new(value));
        self
    }

    /// Whether the issue says that something did not work.
    pub fn is_error(&self) -> bool {
        self.severity >= Severity::Error
    }

    /// The issue as an element of `OperationOutcome.issue`; the raw value stays out. Line, column
    /// and rule are the extensions in which HL7's validator writes them.
    pub fn to_json(&self) -> Json {
        let mut issue = Object::new();
        let mut extensions = Vec::new();
        if let Some((line, column)) = self.position {
            extensions.push(json!({"url": (ISSUE_LINE), "valueInteger": (line)}));
            extensions.push(json!({"url": (ISSUE_COLUMN), "valueInteger": (column)}));
        }
        if let Some(rule) = self.rule.as_deref() {
            extensions.push(json!({"url": (MESSAGE_ID), "valueString": (rule)}));
        }
        if !extensions.is_empty() {
            issue.set("extension", extensions);
        }
        issue.set("severity", self.severity.code());
        issue.set("code", self.code.code());
        let mut details = Object::new();
        if let Some(detail) = self.detail {
            details.set(
                "coding",
                json!([{"system": "https://lumbar.example/fhir/CodeSystem/issue", "code": detail}]),
            );
        }
        details.set("text", self.text.as_str());
        issue.set("details", details);
        let place = self.locator.as_ref().map(|locator| format!("{}: {locator}", self.text));
        issue.set("diagnostics", place.unwrap_or_else(|| self.text.clone()));
        if let Some(expression) = &self.expression {
            issue.set("expression", json!([(expression)]));
        }
        Json::Object(issue)
    }
}

/// Writes line and column into an element of `OperationOutcome.issue`, before what else is there.
pub fn set_position(issue: &mut Json, line: u32, column: u32) {
    let mut extensions = vec![
        json!({"url": (ISSUE_LINE), "valueInteger": (line)}),
        json!({"url": (ISSUE_COLUMN), "valueInteger": (column)}),
    ];
    extensions.extend(issue.list("extension").iter().cloned());
    if let Json::Object(object) = issue {
        object.set_at(0, "extension", extensions);
    }
}

/// An OperationOutcome resource that holds `issues`; without issues it says that all is well, as
/// R4 asks for at least one.
pub fn operation_outcome(issues: &[Issue]) -> Json {
    let list = if issues.is_empty() {
        vec![Issue::information(IssueType::Informational, "All OK").to_json()]
    } else {
        issues.iter().map(Issue::to_json).collect()
    };
    json!({"resourceType": "OperationOutcome", "issue": (list)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_and_position_are_extensions_of_the_issue() {
        let issue = Issue::error(IssueType::Invariant, "Say it.").rule("dom-6").position(3, 14);
        let mut extensions = Vec::new();
        for extension in issue.to_json().list("extension") {
            let url = extension.str_at(&["url"]).unwrap().rsplit('/').next().unwrap();
            let value = extension.get("valueInteger").or(extension.get("valueString")).unwrap();
            extensions.push(format!("{url} {value}"));
        }
        let line = "operationoutcome-issue-line 3";
        let column = "operationoutcome-issue-col 14";
        assert_eq!(extensions, [line, column, "operationoutcome-message-id \"dom-6\""]);
    }
}
