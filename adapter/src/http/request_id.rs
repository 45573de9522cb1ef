//! Every request has an id, which is in its answer (`X-Request-Id`) and on its trace span; a fault
//! of ours becomes a 500 with that id instead of a broken connection.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tracing::{Instrument, debug, info_span};

use crate::facade::Error;

use super::fhir::error_response;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// Runs the request inside its span. The span names the method and the first two steps of the
/// path, never an id or a query, which may identify a patient.
pub async fn with_request_id(request: Request, next: Next) -> Response {
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
        route = route(request.uri().path()),
    );
    let began = Instant::now();
    let run = async {
        let result = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        let response = result.unwrap_or_else(|_| {
            tracing::error!("a request handler panicked");
            error_response(&Error::Internal)
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
fn route(path: &str) -> &str {
    let mut slashes = path.match_indices('/').map(|(index, _)| index).skip(1);
    if path.starts_with("/fhir/") {
        slashes.next();
    }
    slashes.next().map_or(path, |end| &path[..end])
}
