//! Every request has an id, which is in its answer (`X-Request-Id`) and on its trace span; a fault
//! of ours becomes a 500 with that id instead of a broken connection.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use lumbar_fhir::definitions::Definitions;
use tracing::{Instrument, debug, info_span};

use crate::app::App;
use crate::facade::Error;

use super::negotiate::Wanted;
use super::response;

/// The routes outside `/fhir`.
const OURS: [&str; 5] = ["/", "/healthz", "/lumbar.css", "/openapi.json", "/readyz"];

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// Runs the request inside its span. The span names the method and the route, never an id, a query
/// or a path that is not ours, which may identify a patient.
pub async fn with_request_id(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    let given = request.headers().get(&REQUEST_ID).filter(|value| is_plain(value)).cloned();
    let id = given.clone().unwrap_or_else(|| {
        let id = uuid::Uuid::new_v4().to_string();
        HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("-"))
    });
    let correlation =
        request.headers().get(&CORRELATION_ID).filter(|value| is_plain(value)).cloned();
    let span = info_span!(
        "request",
        request_id = id.to_str().unwrap_or("-"),
        method = request.method().as_str(),
        route = route(request.uri().path(), &app.facade.definitions()),
    );
    let wanted = Wanted::of(request.headers(), &[], false).unwrap_or_default();
    let began = Instant::now();
    let run = async {
        let result = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        let response = result.unwrap_or_else(|_| {
            tracing::error!("a request handler panicked");
            response::error(&app, &Error::Internal, wanted)
        });
        let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        debug!(status = response.status().as_u16(), duration_ms, "answered");
        response
    };
    let mut response = run.instrument(span).await.into_response();
    response.headers_mut().insert(REQUEST_ID.clone(), id);
    if let Some(correlation) = correlation {
        response.headers_mut().insert(CORRELATION_ID.clone(), correlation);
    }
    response
}

/// Whether an id from outside may be echoed and logged: short, letters, digits and `-._`.
fn is_plain(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (1..=64).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(byte))
}

/// The path without what may identify somebody: `/fhir/Patient/p1` becomes `/fhir/Patient`.
fn route<'p>(path: &'p str, definitions: &Definitions) -> &'p str {
    let Some(below) = path.strip_prefix("/fhir") else {
        return if OURS.contains(&path) { path } else { "elsewhere" };
    };
    match below.split('/').nth(1) {
        Some(of) if of == "metadata" || definitions.is_resource(of) => {
            path.get(.."/fhir/".len() + of.len()).unwrap_or("/fhir")
        }
        _ => "/fhir",
    }
}
