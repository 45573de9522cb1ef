//! HTTP: <https://hl7.org/fhir/R4/http.html>. Bytes and headers in, bytes and headers out; what
//! they mean is decided elsewhere.

mod binary;
mod bulk;
mod connection;
mod date;
mod fhir;
mod health;
mod negotiate;
mod openapi;
mod position;
mod prefer;
mod request_id;
mod response;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::middleware;
use axum::response::Response;
use axum::routing::{any, get};

pub use connection::accept;

use crate::app::App;
use crate::pages;

/// The whole service as a router.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(start))
        .route("/lumbar.css", get(pages::stylesheet))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/openapi.json", get(openapi::openapi))
        .route("/fhir", any(fhir::handle))
        .route("/fhir/", any(fhir::handle))
        .route("/fhir/{*path}", any(fhir::handle))
        .merge(bulk::routes())
        .fallback(health::nothing_here)
        .layer(middleware::from_fn_with_state(app.clone(), request_id::with_request_id))
        .with_state(app)
}

async fn start(State(app): State<Arc<App>>) -> Response {
    pages::start(&app)
        .await
        .unwrap_or_else(|error| response::error(&app, &error, negotiate::Wanted::default()))
}
