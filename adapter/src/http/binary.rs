//! Binary: <https://hl7.org/fhir/R4/binary.html>. Content that is no FHIR comes and goes as it is.

use axum::body::Body;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lumbar_fhir::rest::{Interaction, Method};
use lumbar_fhir::{Json, Object, json};

use super::negotiate::{Sent, header};

static SECURITY_CONTEXT: HeaderName = HeaderName::from_static("x-security-context");

/// Whether a path below the base is that of Binaries.
pub fn is_binary(path: &str) -> bool {
    path.split('/').next() == Some("Binary")
}

/// Whether a body is the content of a Binary: one that FHIR's own media types do not name.
pub fn is_content(method: Method, path: &str, sent: Sent) -> bool {
    let mut steps = path.split('/').filter(|step| !step.is_empty());
    let steps = (steps.next(), steps.next(), steps.next());
    let is_place = matches!(
        (method, steps),
        (Method::Post | Method::Put, (Some("Binary"), None, None))
            | (Method::Put, (Some("Binary"), Some(_), None))
    );
    is_place && !matches!(sent, Sent::Resource(_, true))
}

/// The resource that holds the content which was sent to `path`.
pub fn resource(headers: &HeaderMap, path: &str, content: &[u8]) -> Json {
    let mut binary = Object::new();
    binary.set("resourceType", "Binary");
    if let Some(id) = path.split('/').filter(|step| !step.is_empty()).nth(1) {
        binary.set("id", id);
    }
    binary.set("contentType", header(headers, &CONTENT_TYPE).unwrap_or_default().trim());
    if let Some(context) = header(headers, &SECURITY_CONTEXT) {
        binary.set("securityContext", json!({"reference": (context.trim())}));
    }
    binary.set("data", STANDARD.encode(content));
    Json::Object(binary)
}

/// Whether the answer to an interaction is one Binary.
pub fn is_read(interaction: &Interaction) -> bool {
    match interaction {
        Interaction::Read { resource_type, .. } | Interaction::Vread { resource_type, .. } => {
            resource_type == "Binary"
        }
        _ => false,
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
    // What somebody stored as HTML must not run as a page of ours.
    headers
        .insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    Some(response)
}
