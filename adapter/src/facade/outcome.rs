//! Errors as a client sees them: <https://hl7.org/fhir/R4/http.html#Status-Codes>.
//!
//! The only place that knows both an [`Error`] and a status. HTTP replies and the entries of a
//! Bundle's answer use the same match.

use lumbar_fhir::issue::operation_outcome;
use lumbar_fhir::patch::PatchError;
use lumbar_fhir::rest::Refusal;
use lumbar_fhir::{Issue, IssueType, Json};

/// Why an interaction was not performed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such resource, version, operation or path.
    #[error("not found")]
    NotFound(Issue),
    /// The resource was deleted; its last version.
    #[error("deleted")]
    Gone(Issue, i64),
    /// Two writers met; the client may try again.
    #[error("conflict")]
    Conflict(Issue),
    /// Others stand in the way; trying again alone does not help.
    #[error("refused")]
    Refused(Issue),
    /// The client must say which version it holds.
    #[error("precondition required")]
    PreconditionRequired(Issue),
    /// The version that the client holds, or the number of matches it expects, is not the present one.
    #[error("precondition failed")]
    PreconditionFailed(Issue),
    /// Understood, and against the rules.
    #[error("invalid")]
    Invalid(Vec<Issue>),
    /// Not understood.
    #[error("unparseable")]
    Unparseable(Vec<Issue>),
    /// FHIR, but not offered here.
    #[error("not supported")]
    NotSupported(Issue),
    /// The path knows other methods.
    #[error("method not allowed")]
    MethodNotAllowed(&'static [&'static str]),
    /// The answer cannot be given in a format that the client accepts.
    #[error("not acceptable")]
    NotAcceptable(Issue),
    /// The body is in a format that is not spoken here.
    #[error("unsupported media type")]
    UnsupportedMediaType(Issue),
    /// The body is larger than the limit, in bytes.
    #[error("too large")]
    TooLarge(usize),
    /// The body did not arrive in time.
    #[error("timeout")]
    Timeout,
    /// The client asks too often, or for too much at a time.
    #[error("too many requests")]
    TooMany(Issue),
    /// Work that goes on after its answer has failed.
    #[error("failed")]
    Failed(Issue),
    /// The store cannot take the work now.
    #[error("busy")]
    Busy,
    /// The index is not complete for what is asked, or a server that must be asked does not answer.
    #[error("unavailable")]
    Unavailable(Issue),
    /// A fault of ours; the cause is logged where it happened.
    #[error("internal error")]
    Internal,
}

impl Error {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Error::NotFound(_) => 404,
            Error::Gone(..) => 410,
            Error::Conflict(_) | Error::Refused(_) => 409,
            Error::PreconditionRequired(_) => 428,
            Error::PreconditionFailed(_) => 412,
            Error::Invalid(_) => 422,
            Error::Unparseable(_) => 400,
            Error::NotSupported(_) => 501,
            Error::MethodNotAllowed(_) => 405,
            Error::NotAcceptable(_) => 406,
            Error::UnsupportedMediaType(_) => 415,
            Error::TooLarge(_) => 413,
            Error::Timeout => 408,
            Error::TooMany(_) => 429,
            Error::Failed(_) => 500,
            Error::Busy | Error::Unavailable(_) => 503,
            Error::Internal => 500,
        }
    }

    /// What to tell the client.
    pub fn issues(&self) -> Vec<Issue> {
        match self {
            Error::NotFound(issue)
            | Error::Gone(issue, _)
            | Error::Conflict(issue)
            | Error::Refused(issue)
            | Error::PreconditionRequired(issue)
            | Error::PreconditionFailed(issue)
            | Error::NotSupported(issue)
            | Error::NotAcceptable(issue)
            | Error::UnsupportedMediaType(issue)
            | Error::TooMany(issue)
            | Error::Failed(issue)
            | Error::Unavailable(issue) => vec![issue.clone()],
            Error::Invalid(issues) | Error::Unparseable(issues) => issues.clone(),
            Error::MethodNotAllowed(allowed) => vec![Issue::error(
                IssueType::NotSupported,
                format!("This path does not know the method; it knows {}.", allowed.join(", ")),
            )],
            Error::TooLarge(limit) => vec![Issue::error(
                IssueType::TooLong,
                format!("The body is larger than the limit of {limit} bytes; send less at once."),
            )],
            Error::Timeout => vec![Issue::error(
                IssueType::Timeout,
                "The body did not arrive in time; send it again.",
            )],
            Error::Busy => vec![Issue::error(
                IssueType::Transient,
                "The store cannot take more work now; try again in a few seconds.",
            )],
            Error::Internal => vec![Issue::error(
                IssueType::Exception,
                "This is a fault of the service; give its operator the X-Request-Id of this answer.",
            )],
        }
    }

    /// The OperationOutcome.
    pub fn outcome(&self) -> Json {
        operation_outcome(&self.issues())
    }

    /// A resource that is not there.
    pub fn not_found(resource_type: &str, id: &str) -> Error {
        Error::NotFound(Issue::error(
            IssueType::NotFound,
            format!("There is no {resource_type} with the id {id}."),
        ))
    }

    /// A change of a resource that is there, without the version that the client holds:
    /// <https://www.rfc-editor.org/rfc/rfc6585#section-3>.
    pub fn precondition_required(resource_type: &str, id: &str, version: i64) -> Error {
        let text = format!(
            "{resource_type}/{id} is there, and this service asks for If-Match when it is changed: read it and send the ETag you were given, for example If-Match: W/\"{version}\"."
        );
        Error::PreconditionRequired(Issue::error(IssueType::Required, text))
    }

    /// A search that should find one resource at most, and finds several.
    pub fn several(resource_type: &str) -> Error {
        Error::PreconditionFailed(Issue::error(
            IssueType::MultipleMatches,
            format!("The condition finds more than one {resource_type}; make it narrower."),
        ))
    }

    /// A resource that was deleted as version `version`.
    pub fn gone(resource_type: &str, id: &str, version: i64) -> Error {
        let text = format!("The {resource_type} with the id {id} was deleted.");
        Error::Gone(Issue::error(IssueType::Deleted, text), version)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound(issue) => Error::NotFound(issue),
            Refusal::MethodNotAllowed(allowed) => Error::MethodNotAllowed(allowed),
            Refusal::Invalid(issue) => Error::Unparseable(vec![issue]),
            Refusal::NotSupported(issue) => Error::NotSupported(issue),
        }
    }
}

impl From<PatchError> for Error {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Malformed(issue) => Error::Unparseable(vec![issue]),
            PatchError::NotApplicable(issue) => Error::Invalid(vec![issue]),
        }
    }
}

impl From<lumbar_store::Error> for Error {
    fn from(error: lumbar_store::Error) -> Self {
        match error {
            lumbar_store::Error::Conflict { .. } | lumbar_store::Error::Epoch => {
                Error::Conflict(Issue::error(
                    IssueType::Conflict,
                    "Somebody else changed the resource at the same time; read it and try again.",
                ))
            }
            lumbar_store::Error::Cursor => Error::Unparseable(vec![
                Issue::error(
                    IssueType::Value,
                    "The page cursor is not one that this service gave; begin at the first page.",
                )
                .at("http._cursor"),
            ]),
            lumbar_store::Error::TooComplex => Error::Unparseable(vec![Issue::error(
                IssueType::TooCostly,
                "The search is nested too deeply or names too many values; ask for less at once.",
            )]),
            lumbar_store::Error::NotIndexed { resource_type, code } => {
                let text = format!(
                    "Stored resources are still being indexed by the search parameter {code} of {resource_type}, so matches would be missing: try again later; [base]/$reindex tells how far it is."
                );
                let issue = Issue::error(IssueType::Transient, text);
                Error::Unavailable(issue.at(format!("http.{code}")))
            }
            lumbar_store::Error::Outdated => Error::Conflict(Issue::error(
                IssueType::Conflict,
                "The search parameters were changed at the same time; try again.",
            )),
            lumbar_store::Error::TooCostly => Error::Unparseable(vec![Issue::error(
                IssueType::TooCostly,
                "The search takes too long; add a parameter that few resources match, as in patient=123.",
            )]),
            lumbar_store::Error::Busy => Error::Busy,
            lumbar_store::Error::Unavailable(cause) => {
                tracing::error!(?cause, "the database is not available");
                Error::Busy
            }
            other => {
                // Logged here because this is where the cause is lost to the caller.
                tracing::error!(error = %other, cause = ?std::error::Error::source(&other), "store failed");
                Error::Internal
            }
        }
    }
}
