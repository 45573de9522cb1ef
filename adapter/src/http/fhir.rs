//! The FHIR service under `/fhir`: <https://hl7.org/fhir/R4/http.html>.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    CONTENT_ENCODING, CONTENT_TYPE, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method as HttpMethod, StatusCode};
use axum::response::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use lumbar_fhir::format::position::Syntax;
use lumbar_fhir::format::xml;
use lumbar_fhir::rest::{self, Interaction, Method, Refusal};
use lumbar_fhir::{Issue, IssueType, Json};

use crate::app::App;
use crate::facade::{Error, Reply};
use crate::security::Caller;

use super::date::read_http_date;
use super::negotiate::{BODIES, Format, PATCHES, Sent, Wanted, header, sent};
use super::prefer::preferences;
use super::{binary, position, response};

static IF_NONE_EXIST: HeaderName = HeaderName::from_static("if-none-exist");
const METHODS: [Method; 6] =
    [Method::Get, Method::Head, Method::Post, Method::Put, Method::Patch, Method::Delete];

/// Performs one request below `/fhir`.
pub async fn handle(State(app): State<Arc<App>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    // The format of errors, too, which those before the negotiation have in the plainest form.
    let mut wanted = Wanted::default();
    let mut sent = None;
    let answered = answer(&app, &parts, body, &mut wanted, &mut sent).await;
    answered.unwrap_or_else(|mut error| {
        if let Some(sent) = &sent {
            sent.mark_error(&mut error);
        }
        response::error(&app, &error, wanted)
    })
}

async fn answer(
    app: &App,
    parts: &Parts,
    body: Body,
    wanted: &mut Wanted,
    body_sent: &mut Option<position::Sent>,
) -> Result<Response, Error> {
    let path = parts.uri.path();
    let path = path.strip_prefix("/fhir").unwrap_or(path).trim_start_matches('/');
    let query = parts.uri.query().unwrap_or_default();
    let of_binary = binary::is_binary(path);
    *wanted = Wanted::of(&parts.headers, &shape(query), of_binary)?;
    let definitions = app.facade.definitions();
    let mut request = rest::Request {
        method: Method::Get,
        path: path.to_owned(),
        query: query.to_owned(),
        if_match: list(&parts.headers, &IF_MATCH),
        if_none_match: list(&parts.headers, &IF_NONE_MATCH),
        if_none_exist: parts.headers.get(&IF_NONE_EXIST).map(text),
        body: None,
        form: None,
    };
    let allowed =
        || allowed(|method| rest::parse(&definitions, rest::Request { method, ..request.clone() }));
    request.method = match parts.method {
        HttpMethod::GET => Method::Get,
        HttpMethod::HEAD => Method::Head,
        HttpMethod::POST => Method::Post,
        HttpMethod::PUT => Method::Put,
        HttpMethod::PATCH => Method::Patch,
        HttpMethod::DELETE => Method::Delete,
        _ => return Err(allowed()),
    };
    if matches!(request.method, Method::Post | Method::Put | Method::Patch) {
        let bytes = read_body(app, body).await?;
        if !bytes.is_empty() {
            take_body(app, &parts.headers, &bytes, &mut request)?;
            *body_sent = as_sent(&parts.headers, bytes, request.body.as_ref());
        }
        if let Some(form) = &request.form {
            let mut parameters = shape(query);
            parameters.extend(shape(form));
            *wanted = Wanted::of(&parts.headers, &parameters, of_binary)?;
        }
    }
    let is_safe = matches!(request.method, Method::Get | Method::Head);
    let mut interaction = rest::parse(&definitions, request)?;
    let is_content = !wanted.is_fhir && binary::is_read(&interaction);
    if is_content {
        binary::take_all(&mut interaction);
    }
    let prefer = preferences(&parts.headers);
    let mut reply = app.facade.perform(&Caller::Open, &interaction, prefer).await?;
    if let Some(sent) = body_sent {
        sent.mark_reply(&interaction, &mut reply);
    }
    if is_safe && is_held(&reply, &parts.headers) {
        let mut response = Response::new(Body::empty());
        response::describe(&mut response, &reply);
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    if is_content && let Some(mut response) = reply.body.as_deref().and_then(binary::content) {
        response::describe(&mut response, &reply);
        return Ok(response);
    }
    match response::success(&definitions, &reply, *wanted) {
        // What is stored is stored: the answer must not say otherwise.
        Err(_) if !is_safe => response::success(&definitions, &reply, Wanted::default()),
        result => result,
    }
}

/// The resource in a body as it was sent, so that its elements can be found in it.
fn as_sent(headers: &HeaderMap, bytes: Bytes, body: Option<&Json>) -> Option<position::Sent> {
    let resource_type = body?.str_at(&["resourceType"])?.to_owned();
    let Ok(Sent::Resource(format, _)) = sent(headers) else { return None };
    let syntax = match format {
        Format::Json => Syntax::Json,
        Format::Xml => Syntax::Xml,
    };
    Some(position::Sent { syntax, bytes, resource_type })
}

/// The parameters of a query or form that shape the answer. One that cannot be read is left to the
/// reading of the request, which says so.
fn shape(query: &str) -> Vec<(String, String)> {
    if !query.contains("_format") && !query.contains("_pretty") {
        return Vec::new();
    }
    rest::decode_pairs(query).unwrap_or_default()
}

/// Reads the body into the request, by its media type.
fn take_body(
    app: &App,
    headers: &HeaderMap,
    bytes: &[u8],
    request: &mut rest::Request,
) -> Result<(), Error> {
    // What was packed must not be stored as if it were not.
    if let Some(coding) = header(headers, &CONTENT_ENCODING)
        && !coding.trim().eq_ignore_ascii_case("identity")
    {
        let text = "The Content-Encoding is not supported; send the body as it is, without one.";
        return Err(Error::UnsupportedMediaType(Issue::error(IssueType::NotSupported, text)));
    }
    let sent = sent(headers);
    if binary::takes_content(request.method, &request.path) {
        request.body = Some(binary_body(app, headers, bytes, sent, &request.path)?);
        return Ok(());
    }
    let sent = sent?;
    let is_patch = request.method == Method::Patch;
    let is_search = request.method == Method::Post
        && request.path.trim_end_matches('/').rsplit('/').next() == Some("_search");
    match sent {
        Sent::Resource(format, _) if !is_search => {
            request.body = Some(parse(app, format, bytes)?);
        }
        Sent::JsonPatch if is_patch => request.body = Some(parse_json(bytes)?),
        Sent::Form if is_search => {
            let text = std::str::from_utf8(bytes).map_err(|_| {
                let text = "The form in the body is not valid UTF-8.";
                Error::Unparseable(vec![Issue::error(IssueType::Structure, text)])
            })?;
            request.form = Some(text.to_owned());
        }
        _ => {
            let text = match (is_patch, is_search) {
                (true, _) => {
                    format!("The Content-Type of the patch is not supported; send {PATCHES}.")
                }
                (_, true) => "The Content-Type is not supported; send a search as \
                              application/x-www-form-urlencoded."
                    .to_owned(),
                _ => format!("The Content-Type is not supported; send {BODIES}."),
            };
            return Err(Error::UnsupportedMediaType(Issue::error(IssueType::NotSupported, text)));
        }
    }
    Ok(())
}

/// The Binary that a body is, or else the one that holds it: "the data is accepted as is ... except
/// for the special case where the content is actually a Binary resource",
/// <https://hl7.org/fhir/R4/binary.html#rest>.
fn binary_body(
    app: &App,
    headers: &HeaderMap,
    bytes: &[u8],
    sent: Result<Sent, Error>,
    path: &str,
) -> Result<Json, Error> {
    if let Ok(Sent::Resource(format, is_fhir)) = sent {
        match parse(app, format, bytes) {
            Ok(body) if body.str_at(&["resourceType"]) == Some("Binary") => return Ok(body),
            Err(error) if is_fhir && headers.contains_key(CONTENT_TYPE) => return Err(error),
            _ => {}
        }
    }
    binary::resource(headers, path, bytes)
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

fn parse(app: &App, format: Format, bytes: &[u8]) -> Result<Json, Error> {
    match format {
        Format::Json => parse_json(bytes),
        Format::Xml => xml::parse(&app.facade.definitions(), bytes).map_err(|error| {
            let text = format!("The body is not XML as FHIR uses it: {error}.");
            unparseable(error.code, text, error.path, (error.line, error.column))
        }),
    }
}

fn parse_json(bytes: &[u8]) -> Result<Json, Error> {
    Json::parse(bytes).map_err(|error| {
        let text = format!("The body is not JSON as FHIR uses it: {error}.");
        unparseable(IssueType::Structure, text, error.path, (error.line, error.column))
    })
}

/// A header whose lines are one list.
fn list(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Vec<String> = headers.get_all(name).iter().map(text).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// A header that must not be passed over, whatever its bytes are, as it says when not to write.
fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn unparseable(code: IssueType, text: String, path: String, place: (usize, usize)) -> Error {
    let issue = Issue::error(code, text).position(place.0, place.1);
    Error::Unparseable(vec![if path.is_empty() { issue } else { issue.at(path) }])
}

/// Why a method that FHIR does not use is refused: the path knows others, or does not exist.
fn allowed(read: impl Fn(Method) -> Result<Interaction, Refusal>) -> Error {
    for method in METHODS {
        match read(method) {
            Err(refusal @ Refusal::MethodNotAllowed(_)) => return refusal.into(),
            Err(refusal @ Refusal::NotFound(_)) if method == Method::Get => return refusal.into(),
            _ => {}
        }
    }
    Error::MethodNotAllowed(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
}

/// Whether the client holds what the answer is about (RFC 9110, 13.2.2): `If-None-Match: W/"3"`
/// decides; without it `If-Modified-Since`, in whole seconds.
fn is_held(reply: &Reply, headers: &HeaderMap) -> bool {
    let mut tags = headers.get_all(IF_NONE_MATCH).iter().peekable();
    if tags.peek().is_some() {
        return tags.filter_map(|tag| tag.to_str().ok()).any(|tag| reply.is_held(tag));
    }
    let since = header(headers, &IF_MODIFIED_SINCE).and_then(read_http_date);
    match (since, reply.last_updated) {
        (Some(since), Some(moment)) => moment.div_euclid(1_000_000) <= since,
        _ => false,
    }
}
