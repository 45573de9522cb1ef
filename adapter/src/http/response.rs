//! Answers as HTTP: status, headers, and a body in the format that the client wants.
//!
//! Nothing here may be kept by anybody on the way (`Cache-Control: no-store`): it is about
//! patients. A client that holds a version asks for it with `If-None-Match`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_LOCATION, CONTENT_TYPE, ETAG, LAST_MODIFIED, LOCATION,
    RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::format::xml;
use lumbar_fhir::{Issue, IssueType, Json};

use crate::app::App;
use crate::facade::{Error, Reply};

use super::date::http_date;
use super::negotiate::{BODIES, Format, PATCHES, Wanted};

static ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// The answer to an interaction that went well.
///
/// # Errors
/// [`Error::NotAcceptable`] when the resource has no form in the format.
pub fn success(
    definitions: &Definitions,
    reply: &Reply,
    wanted: Wanted,
) -> Result<Response, Error> {
    let body = match &reply.body {
        Some(text) => body(definitions, text, wanted).map_err(Error::NotAcceptable)?,
        None => Body::empty(),
    };
    let mut response = Response::new(body);
    if reply.body.is_some() {
        let kind = HeaderValue::from_static(wanted.media_type.content_type);
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    describe(&mut response, reply);
    Ok(response)
}

/// Sets the status and the headers that say what the answer is about.
pub fn describe(response: &mut Response, reply: &Reply) {
    *response.status_mut() = StatusCode::from_u16(reply.success.status()).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    guard(headers);
    if let Some(version) = reply.version {
        insert(headers, ETAG, &format!("W/\"{version}\""));
    }
    if let Some(moment) = reply.last_updated {
        insert(headers, LAST_MODIFIED, &http_date(moment));
    }
    if let Some(location) = &reply.location {
        insert(headers, LOCATION, location);
    }
    if let Some(location) = &reply.content_location {
        insert(headers, CONTENT_LOCATION, location);
    }
}

/// The answer to an error: its status and an OperationOutcome.
pub fn error(app: &App, error: &Error, wanted: Wanted) -> Response {
    let outcome = error.outcome();
    let text = outcome.to_string();
    let written = match (wanted.format(), wanted.pretty) {
        (Format::Json, false) => None,
        _ => write(&app.facade.definitions(), &outcome, wanted).ok(),
    };
    // An outcome that has no other form is JSON.
    let is_json = written.is_none() && wanted.format() == Format::Xml;
    let media_type = if is_json { Wanted::default().media_type } else { wanted.media_type };
    let mut response = Response::new(Body::from(written.unwrap_or(text)));
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    guard(headers);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type.content_type));
    match error {
        Error::MethodNotAllowed(allowed) => insert(headers, ALLOW, &allowed.join(", ")),
        Error::Gone(_, version) => insert(headers, ETAG, &format!("W/\"{version}\"")),
        Error::UnsupportedMediaType(_) => {
            headers.insert(ACCEPT, HeaderValue::from_static(BODIES));
            headers.insert(ACCEPT_PATCH.clone(), HeaderValue::from_static(PATCHES));
        }
        _ => {}
    }
    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        // As long as a terminology server is left alone.
        let seconds = if matches!(error, Error::Unavailable(_)) { "10" } else { "2" };
        headers.insert(RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    response
}

/// A JSON text in the format that is wanted. JSON is sent as it is stored, without a look inside.
fn body(definitions: &Definitions, text: &Arc<str>, wanted: Wanted) -> Result<Body, Issue> {
    if wanted.format() == Format::Json && !wanted.pretty {
        return Ok(Body::from(Bytes::from_owner(SharedText(text.clone()))));
    }
    match Json::parse(text.as_bytes()) {
        Ok(json) => write(definitions, &json, wanted).map(Body::from),
        // Only what stands around the resources of a Bundle can bring this about.
        Err(_) => Err(Issue::error(
            IssueType::NotSupported,
            "The answer is nested too deeply for this format; accept application/fhir+json.",
        )),
    }
}

fn write(definitions: &Definitions, json: &Json, wanted: Wanted) -> Result<String, Issue> {
    match (wanted.format(), wanted.pretty) {
        (Format::Json, false) => Ok(json.to_string()),
        (Format::Json, true) => Ok(json.to_pretty()),
        (Format::Xml, false) => xml::write(definitions, json),
        (Format::Xml, true) => xml::pretty(definitions, json),
    }
}

/// What every answer says to those on the way and to browsers.
fn guard(headers: &mut HeaderMap) {
    headers.insert(VARY, HeaderValue::from_static("Accept, Prefer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// Sets a header; a value that is none is left out.
pub fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A stored text as the body of an answer, without a copy.
struct SharedText(Arc<str>);

impl AsRef<[u8]> for SharedText {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
