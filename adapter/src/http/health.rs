//! Whether the process is up, and whether it can serve.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use lumbar_fhir::{Issue, IssueType};

use crate::app::App;
use crate::facade::Error;

use super::negotiate::Wanted;
use super::response;

/// 200 as long as the process answers.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// 200 when the database answers, else 503. Wording packs that are not used do not stop the
/// service, and are told.
pub async fn readyz(State(app): State<Arc<App>>) -> Response {
    match app.facade.ready().await {
        Ok(()) => match app.facade.wording().refused.len() {
            0 => "ready\n".into_response(),
            count => {
                format!("ready\nwording packs that are not used: {count}; lumbar check says why\n")
                    .into_response()
            }
        },
        Err(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response()
        }
    }
}

/// 404 for every path that is not ours.
pub async fn nothing_here(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let issue = Issue::error(
        IssueType::NotFound,
        "There is nothing here; the FHIR service is at /fhir, the start page at /.",
    );
    let wanted = Wanted::of(&headers, &[], false).unwrap_or_default();
    response::error(&app, &Error::NotFound(issue), wanted)
}
