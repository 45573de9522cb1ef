//! The asynchronous request pattern, and files of NDJSON both ways:
//! <https://hl7.org/fhir/R4/async.html>.
//!
//! States and files of bulk jobs are at `/fhir/$bulk/[job]`, which is no path of FHIR's. An upload
//! goes to a file while it comes in, so it may be larger than other bodies.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPIRES, RETRY_AFTER,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use axum::routing::any;
use futures_util::stream;
use http_body_util::BodyExt;
use lumbar_fhir::{Issue, IssueType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::date::http_date;
use super::negotiate::Wanted;
use super::prefer::preferences;
use super::response::{describe, insert};
use super::{fhir, response};
use crate::app::App;
use crate::delivery::Folder;
use crate::facade::bulk::new_id;
use crate::facade::{Error, Reply};
use crate::security::Caller;

/// Bytes of a file that are held at a time.
const PIECE: usize = 64 * 1024;
static X_PROGRESS: HeaderName = HeaderName::from_static("x-progress");

/// The routes of bulk jobs.
pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/fhir/$import", any(import))
        .route("/fhir/$bulk/{job}", any(state))
        .route("/fhir/$bulk/{job}/{file}", any(file))
}

/// The answer to an error, in the format that the client wants.
fn error(app: &App, error: &Error, headers: &HeaderMap) -> Response {
    response::error(app, error, Wanted::of(headers, &[], false).unwrap_or_default())
}

/// The answer to what went well and has no body.
fn bare(reply: &Reply) -> Response {
    let mut response = Response::new(Body::empty());
    describe(&mut response, reply);
    response
}

fn folder(app: &App) -> Folder {
    Folder::new(&app.settings.bulk.folder)
}

/// `GET` gives the state of a job, `DELETE` cancels or removes it.
async fn state(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    // A path that is not encoded correctly is refused like all others.
    let Ok(Path(job)) = path else { return fhir::handle(State(app), request).await };
    let answer = match *request.method() {
        Method::GET | Method::HEAD => status(&app, &job).await,
        Method::DELETE => cancel(&app, &job).await.map(|reply| bare(&reply)),
        _ => Err(Error::MethodNotAllowed(&["GET", "HEAD", "DELETE"])),
    };
    let mut response = answer.unwrap_or_else(|fault| error(&app, &fault, request.headers()));
    if request.method() == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    response
}

async fn status(app: &App, job: &str) -> Result<Response, Error> {
    let status = app.facade.bulk_status(&Caller::Open, job).await?;
    let body = status.manifest.map(|manifest| manifest.to_string()).unwrap_or_default();
    let is_manifest = !body.is_empty();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(status.success.status()).unwrap_or(StatusCode::OK);
    let headers = response.headers_mut();
    if is_manifest {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(progress) = &status.progress {
        insert(headers, X_PROGRESS.clone(), progress);
        insert(headers, RETRY_AFTER, "5");
    }
    if let Some(expires) = status.expires {
        insert(headers, EXPIRES, &http_date(expires));
    }
    Ok(response)
}

async fn cancel(app: &App, job: &str) -> Result<Reply, Error> {
    let reply = app.facade.bulk_cancel(&Caller::Open, job).await?;
    if let Err(error) = folder(app).remove(job).await {
        tracing::error!(%error, "the files of a bulk job cannot be removed");
    }
    Ok(reply)
}

/// A file of a job, piece by piece.
async fn file(
    State(app): State<Arc<App>>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    let Ok(Path((job, name))) = path else { return fhir::handle(State(app), request).await };
    let head = request.method() == Method::HEAD;
    let answer = match *request.method() {
        Method::GET | Method::HEAD => open(&app, &job, &name, head).await,
        _ => Err(Error::MethodNotAllowed(&["GET", "HEAD"])),
    };
    answer.unwrap_or_else(|fault| error(&app, &fault, request.headers()))
}

async fn open(app: &App, job: &str, name: &str, head: bool) -> Result<Response, Error> {
    let file = app.facade.bulk_file(&Caller::Open, job, name).await?;
    let opened = folder(app).open(job, &file.name, 0).await.map_err(|error| {
        tracing::error!(%error, "a file of a bulk job is not there");
        Error::Internal
    })?;
    let pieces = stream::try_unfold((opened, file.bytes), async |(mut opened, left)| {
        if left == 0 {
            return Ok::<_, std::io::Error>(None);
        }
        let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
        let read = opened.read(&mut piece).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        piece.truncate(read);
        let left = left.saturating_sub(u64::try_from(read).unwrap_or(left));
        Ok(Some((Bytes::from(piece), (opened, left))))
    });
    let mut response =
        Response::new(if head { Body::empty() } else { Body::from_stream(Box::pin(pieces)) });
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/fhir+ndjson"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    insert(headers, CONTENT_LENGTH, &file.bytes.to_string());
    Ok(response)
}

/// `POST /fhir/$import`: NDJSON is an upload, all else is a manifest, an operation like others.
async fn import(State(app): State<Arc<App>>, request: Request) -> Response {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = content_type.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    let is_upload = matches!(
        kind.to_ascii_lowercase().as_str(),
        "application/fhir+ndjson" | "application/ndjson" | "application/x-ndjson"
    );
    if !is_upload || request.method() != Method::POST {
        return fhir::handle(State(app), request).await;
    }
    let headers = request.headers().clone();
    let answer = upload(&app, request).await;
    answer.map_or_else(|fault| error(&app, &fault, &headers), |reply| bare(&reply))
}

async fn upload(app: &App, request: Request) -> Result<Reply, Error> {
    let (parts, body) = request.into_parts();
    let encoding = parts.headers.get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding.as_bytes() != b"identity") {
        return Err(Error::UnsupportedMediaType(Issue::error(
            IssueType::NotSupported,
            "An upload is sent as it is; send the NDJSON without a Content-Encoding.",
        )));
    }
    let _place = app.facade.may_upload(&Caller::Open, preferences(&parts.headers)).await?;
    let job = new_id();
    let taken = match keep(app, &job, body).await {
        Ok(()) => app.facade.import_uploaded(&Caller::Open, &job).await,
        Err(error) => Err(error),
    };
    if taken.is_err()
        && let Err(error) = folder(app).remove(&job).await
    {
        tracing::error!(%error, "a refused upload cannot be removed");
    }
    taken
}

/// Writes a body to the job's folder as it comes in.
async fn keep(app: &App, job: &str, mut body: Body) -> Result<(), Error> {
    let failed = |error: std::io::Error| {
        tracing::error!(%error, "an upload cannot be kept");
        Error::Internal
    };
    let most = app.settings.bulk.file_bytes;
    let mut file = folder(app).append(job, "input-1.ndjson", 0).await.map_err(failed)?;
    let mut length: u64 = 0;
    // A slow sender may take its time, one that is silent may not.
    while let Some(frame) = tokio::time::timeout(app.settings.body_timeout, body.frame())
        .await
        .map_err(|_| Error::Timeout)?
    {
        let frame = frame.map_err(|_| {
            Error::Unparseable(vec![Issue::error(
                IssueType::Incomplete,
                "The body broke off before its end; send it again.",
            )])
        })?;
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(u64::try_from(data.len()).unwrap_or(u64::MAX));
        if length > most {
            return Err(Error::TooLarge(usize::try_from(most).unwrap_or(usize::MAX)));
        }
        file.write_all(&data).await.map_err(failed)?;
    }
    if length == 0 {
        return Err(Error::Unparseable(vec![Issue::error(
            IssueType::Required,
            "The body is empty; send a resource on each line.",
        )]));
    }
    file.flush().await.map_err(failed)?;
    file.sync_all().await.map_err(failed)
}
