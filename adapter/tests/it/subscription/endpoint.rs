//! An endpoint on loopback that notes what it is sent and answers as it is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// A request as it came to the endpoint.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub authorization: String,
    pub content_type: String,
    pub request_id: String,
    pub body: String,
}

/// What the endpoint answers.
#[derive(Default)]
struct Orders {
    /// The next answers; after them 200.
    next: VecDeque<u16>,
    /// Answers all requests whose method is listed.
    refused: Vec<(&'static str, u16)>,
}

#[derive(Clone, Default)]
pub struct Endpoint {
    pub address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    orders: Arc<Mutex<Orders>>,
    /// What comes below `/slow` waits for it.
    pub let_go: Arc<Notify>,
}

async fn receive(State(endpoint): State<Endpoint>, request: Request) -> StatusCode {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let header = |name: &str| {
        parts.headers.get(name).map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    };
    let method = parts.method.to_string();
    endpoint.seen.lock().unwrap().push(Seen {
        method: method.clone(),
        path: parts.uri.path().to_owned(),
        authorization: header("authorization"),
        content_type: header("content-type"),
        request_id: header("x-request-id"),
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    if parts.uri.path().starts_with("/slow") {
        endpoint.let_go.notified().await;
    }
    let mut orders = endpoint.orders.lock().unwrap();
    let refused = orders.refused.iter().find(|(of, _)| *of == method).map(|(_, status)| *status);
    let status = refused.or_else(|| orders.next.pop_front()).unwrap_or(200);
    StatusCode::from_u16(status).unwrap()
}

impl Endpoint {
    pub async fn start() -> Endpoint {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", socket.local_addr().unwrap());
        let endpoint = Endpoint { address, ..Endpoint::default() };
        let router = Router::new().fallback(receive).with_state(endpoint.clone());
        tokio::spawn(async move { axum::serve(socket, router).await });
        endpoint
    }

    /// What came since the last look.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    /// Method and path of what came since the last look.
    pub fn calls(&self) -> Vec<String> {
        self.take().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect()
    }

    pub fn answer(&self, next: &[u16]) {
        self.orders.lock().unwrap().next.extend(next);
    }

    pub fn refuse(&self, refused: &[(&'static str, u16)]) {
        self.orders.lock().unwrap().refused = refused.to_vec();
    }
}
