//! Binary: <https://hl7.org/fhir/R4/binary.html>. Content that is no FHIR comes and goes as it is.

use axum::body::Body;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lumbar_fhir::rest::{Interaction, Method, decode_path};
use lumbar_fhir::{Json, Object, json};

use crate::facade::Error;

use super::negotiate::header;
use super::response::insert;

/// The media type of content that comes without one: RFC 9110, 8.3.
const UNKNOWN: &str = "application/octet-stream";

static SECURITY_CONTEXT: HeaderName = HeaderName::from_static("x-security-context");

/// Operations that answer with a Binary.
const OPERATIONS: &[&str] = &["json-schema"];

/// Whether a path below the base is that of Binaries, or of an operation that answers with one.
pub fn is_binary(path: &str) -> bool {
    let operation = path.rsplit('/').next().and_then(|last| last.strip_prefix('$'));
    path.split('/').next() == Some("Binary")
        || operation.is_some_and(|name| OPERATIONS.contains(&name))
}

/// Whether a body that is written to this place is the content of a Binary, or one itself.
pub fn takes_content(method: Method, path: &str) -> bool {
    let mut steps = path.split('/').filter(|step| !step.is_empty());
    let steps = (steps.next(), steps.next(), steps.next());
    matches!(
        (method, steps),
        (Method::Post | Method::Put, (Some("Binary"), None, None))
            | (Method::Put, (Some("Binary"), Some(_), None))
    )
}

/// The resource that holds the content which was sent to `path`.
///
/// # Errors
/// [`Error::Unparseable`] when the path is not encoded correctly.
pub fn resource(headers: &HeaderMap, path: &str, content: &[u8]) -> Result<Json, Error> {
    let mut binary = Object::new();
    binary.set("resourceType", "Binary");
    if let Some(id) = decode_path(path)?.get(1) {
        binary.set("id", id.as_str());
    }
    binary.set("contentType", header(headers, &CONTENT_TYPE).map_or(UNKNOWN, str::trim));
    if let Some(context) = header(headers, &SECURITY_CONTEXT) {
        binary.set("securityContext", json!({"reference": (context.trim())}));
    }
    binary.set("data", STANDARD.encode(content));
    Ok(Json::Object(binary))
}

/// Whether the answer to an interaction is one Binary.
pub fn is_read(interaction: &Interaction) -> bool {
    match interaction {
        Interaction::Read { resource_type, .. } | Interaction::Vread { resource_type, .. } => {
            resource_type == "Binary"
        }
        Interaction::Operation { name, .. } => OPERATIONS.contains(&name.as_str()),
        _ => false,
    }
}

/// Takes the parameters away that ask for a part: they do not apply to content.
pub fn take_all(interaction: &mut Interaction) {
    if let Interaction::Read { parameters, .. }
    | Interaction::Vread { parameters, .. }
    | Interaction::Operation { parameters, .. } = interaction
    {
        parameters.retain(|(name, _)| !matches!(name.as_str(), "_summary" | "_elements"));
    }
}

/// Answers with the content of a Binary; `None` when it cannot be had out of it.
pub fn content(binary: &str) -> Option<Response> {
    let binary = Json::parse(binary.as_bytes()).ok()?;
    let kind = HeaderValue::from_str(binary.str_at(&["contentType"])?).ok()?;
    let data: String = binary.str_at(&["data"]).unwrap_or_default().split_whitespace().collect();
    let mut response = Response::new(Body::from(STANDARD.decode(data).ok()?));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    if let Some(context) = binary.str_at(&["securityContext", "reference"]) {
        insert(headers, SECURITY_CONTEXT.clone(), context);
    }
    // What somebody stored as HTML must not run as a page of ours.
    headers
        .insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    Some(response)
}
