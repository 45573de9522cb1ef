//! The FHIR service under `/fhir`: <https://hl7.org/fhir/R4/http.html>.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT, ALLOW, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, LAST_MODIFIED, LOCATION,
    RETRY_AFTER,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, StatusCode};
use axum::response::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use lumbar_fhir::datetime::Micros;
use lumbar_fhir::rest::{self, Method};
use lumbar_fhir::{Issue, IssueType, Json, JsonError};

use crate::app::App;
use crate::facade::{Error, Preferences, Reply, Return};
use crate::security::Caller;

const FHIR_JSON: &str = "application/fhir+json; charset=utf-8";
static IF_NONE_EXIST: HeaderName = HeaderName::from_static("if-none-exist");
static PREFER: HeaderName = HeaderName::from_static("prefer");

/// Performs one request below `/fhir`.
pub async fn handle(State(app): State<Arc<App>>, request: Request) -> Response {
    let head = *request.method() == HttpMethod::HEAD;
    let held = condition(&request);
    let mut response = match answer(&app, request).await {
        Ok(reply) if held.is_some_and(|held| reply.is_held(&held)) => {
            let mut response = success_response(&reply);
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::empty();
            response
        }
        Ok(reply) => success_response(&reply),
        Err(error) => error_response(&error),
    };
    if head {
        *response.body_mut() = Body::empty();
    }
    response
}

async fn answer(app: &App, request: Request) -> Result<Reply, Error> {
    let (parts, body) = request.into_parts();
    let method = match parts.method {
        HttpMethod::GET => Method::Get,
        HttpMethod::HEAD => Method::Head,
        HttpMethod::POST => Method::Post,
        HttpMethod::PUT => Method::Put,
        HttpMethod::PATCH => Method::Patch,
        HttpMethod::DELETE => Method::Delete,
        _ => return Err(Error::MethodNotAllowed(&["GET", "HEAD", "POST", "PUT", "DELETE"])),
    };
    let query = parts.uri.query().unwrap_or_default();
    if !accepts_json(&parts.headers, query) {
        return Err(Error::NotAcceptable);
    }
    let header = |name: &HeaderName| {
        parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let bytes = read_body(app, body).await?;
    let content_type = header(&CONTENT_TYPE).unwrap_or_default();
    let is_form = content_type.starts_with("application/x-www-form-urlencoded");
    let mut form = None;
    let mut resource = None;
    if is_form {
        let text = std::str::from_utf8(&bytes).map_err(|_| {
            Error::Unparseable(vec![Issue::error(
                IssueType::Structure,
                "The form in the body is not valid UTF-8.",
            )])
        })?;
        form = Some(text.to_owned());
    } else if !bytes.is_empty() {
        if !is_json(&content_type) {
            return Err(Error::UnsupportedMediaType);
        }
        resource = Some(Json::parse(&bytes).map_err(unparseable)?);
    }
    let path = parts.uri.path();
    let interaction = rest::parse(
        &app.facade.definitions(),
        rest::Request {
            method,
            path: path.strip_prefix("/fhir").unwrap_or(path).trim_start_matches('/').to_owned(),
            query: query.to_owned(),
            if_match: header(&IF_MATCH),
            if_none_exist: header(&IF_NONE_EXIST),
            body: resource,
            form,
        },
    )?;
    let prefer = preferences(&parts.headers);
    app.facade.perform(&Caller::Open, &interaction, prefer).await
}

/// Reads the body up to the configured size and time.
async fn read_body(app: &App, body: Body) -> Result<Bytes, Error> {
    let limit = app.settings.max_body_bytes;
    let collected = Limited::new(body, limit).collect();
    match tokio::time::timeout(app.settings.body_timeout, collected).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Error::TooLarge(limit)),
        Ok(Err(_)) => Err(Error::Unparseable(vec![Issue::error(
            IssueType::Incomplete,
            "The body broke off before its end; send it again.",
        )])),
        Err(_) => Err(Error::Timeout),
    }
}

fn unparseable(error: JsonError) -> Error {
    let mut issue = Issue::error(
        IssueType::Structure,
        format!("The body is not JSON as FHIR uses it: {error}."),
    );
    if !error.path.is_empty() {
        issue = issue.at(error.path);
    }
    Error::Unparseable(vec![issue])
}

fn is_json(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(kind.as_str(), "" | "application/fhir+json" | "application/json" | "text/json")
}

/// Whether JSON may be sent: `_format` decides, then `Accept`.
fn accepts_json(headers: &HeaderMap, query: &str) -> bool {
    let format = query.split('&').find_map(|pair| pair.strip_prefix("_format="));
    if let Some(format) = format {
        let format = format.replace("%2F", "/").replace("%2f", "/").replace("%2B", "+");
        let format = format.replace(' ', "+");
        return matches!(
            format.split([';', '%']).next().unwrap_or_default(),
            "json" | "application/json" | "application/fhir+json" | "text/json"
        );
    }
    let mut accepts =
        headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if accepts.peek().is_none() {
        return true;
    }
    accepts.flat_map(|value| value.split(',')).any(|range| {
        let range = range.to_ascii_lowercase();
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let refused = |part: &str| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
        !parts.any(refused)
            && matches!(
                kind,
                "*/*"
                    | "application/*"
                    | "application/fhir+json"
                    | "application/json"
                    | "text/json"
                    | ""
            )
    })
}

/// The versions that a reading client holds: `If-None-Match: W/"3"`.
fn condition(request: &Request) -> Option<String> {
    if !matches!(*request.method(), HttpMethod::GET | HttpMethod::HEAD) {
        return None;
    }
    Some(request.headers().get(IF_NONE_MATCH)?.to_str().ok()?.to_owned())
}

/// The `Prefer` headers: <https://hl7.org/fhir/R4/http.html#prefer>; unknown preferences are ignored.
fn preferences(headers: &HeaderMap) -> Preferences {
    let mut preferences = Preferences::default();
    for header in headers.get_all(&PREFER).iter().filter_map(|value| value.to_str().ok()) {
        for preference in header.split([',', ';']) {
            match preference.trim() {
                "return=minimal" => preferences.returns = Some(Return::Minimal),
                "return=representation" => preferences.returns = Some(Return::Representation),
                "return=OperationOutcome" => preferences.returns = Some(Return::OperationOutcome),
                "handling=strict" => preferences.strict = true,
                "respond-async" => preferences.asynchronous = true,
                _ => {}
            }
        }
    }
    preferences
}

fn success_response(reply: &Reply) -> Response {
    let body = match &reply.body {
        Some(body) => Body::from(Bytes::from_owner(SharedText(body.clone()))),
        None => Body::empty(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(reply.success.status()).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    if reply.body.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(FHIR_JSON));
    }
    if let Some(version) = reply.version {
        insert(headers, ETAG, &format!("W/\"{version}\""));
    }
    if let Some(moment) = reply.last_updated {
        insert(headers, LAST_MODIFIED, &http_date(moment));
    }
    if let Some(location) = &reply.location {
        insert(headers, LOCATION, location);
    }
    response
}

/// The answer to an error: its status and an OperationOutcome.
pub fn error_response(error: &Error) -> Response {
    let mut response = Response::new(Body::from(error.outcome().to_string()));
    *response.status_mut() =
        StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(FHIR_JSON));
    match error {
        Error::MethodNotAllowed(allowed) => insert(headers, ALLOW, &allowed.join(", ")),
        Error::Gone(_, version) => insert(headers, ETAG, &format!("W/\"{version}\"")),
        Error::Busy => insert(headers, RETRY_AFTER, "2"),
        _ => {}
    }
    response
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// A moment as HTTP writes it (RFC 9110, 5.6.7): `Mon, 02 Mar 2026 10:42:00 GMT`.
fn http_date(moment: Micros) -> String {
    let moment = jiff::Timestamp::from_microsecond(moment).unwrap_or_default();
    moment.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// A stored text as the body of an answer, without a copy.
struct SharedText(Arc<str>);

impl AsRef<[u8]> for SharedText {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
