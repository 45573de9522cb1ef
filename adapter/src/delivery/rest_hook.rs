//! Requests to the endpoints that subscribers name, with bounds on time and size.
//!
//! They are strangers: no redirect is followed, a name leads only to addresses that are allowed,
//! and of an answer nothing is kept but its status.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method};

use super::what_failed;

/// Longest time until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for one request and its answer.
const TIMEOUT: Duration = Duration::from_secs(15);
/// How much of an answer is read so that its connection can be used again, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// A client for all subscribers.
#[derive(Clone, Debug)]
pub struct RestHook {
    client: Client,
}

/// What is to be sent.
#[derive(Clone, Copy, Debug)]
pub enum Sent<'a> {
    /// `POST` without a body.
    Ping,
    /// `GET`, which asks whether there is a service.
    Ask,
    /// `POST` of a body of this media type.
    Post(&'a str, &'static str),
    /// `PUT` of a body of this media type.
    Put(&'a str, &'static str),
}

impl RestHook {
    /// A client that connects only to addresses that `allow` lets through.
    ///
    /// # Errors
    /// The TLS library cannot be set up.
    pub fn new(
        allow: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Result<RestHook, reqwest::Error> {
        // A further call in a process finds the provider there, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(Policy::none())
            .dns_resolver(Arc::new(Resolver { allow: Arc::new(allow) }))
            .build()?;
        Ok(RestHook { client })
    }

    /// Sends, with the subscriber's headers and an id that is the same at each attempt; gives the
    /// status of the answer.
    ///
    /// # Errors
    /// A sentence without the address: nobody answered, or not in time.
    pub async fn send(
        &self,
        sent: Sent<'_>,
        url: &str,
        headers: &[(String, String)],
        id: &str,
    ) -> Result<u16, String> {
        let (method, body) = match sent {
            Sent::Ping => (Method::POST, None),
            Sent::Ask => (Method::GET, None),
            Sent::Post(body, of) => (Method::POST, Some((body, of))),
            Sent::Put(body, of) => (Method::PUT, Some((body, of))),
        };
        let mut map = HeaderMap::new();
        if let Ok(id) = HeaderValue::from_str(id) {
            map.insert("x-request-id", id);
        }
        if let Some((_, media_type)) = body {
            map.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        }
        for (name, value) in headers {
            let name = HeaderName::try_from(name.as_str());
            let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_str(value)) else {
                return Err("A header of the channel cannot be sent.".to_owned());
            };
            value.set_sensitive(true);
            map.append(name, value);
        }
        let request = self.client.request(method, url).headers(map);
        // A body that is there and empty says Content-Length: 0, which some servers want of a POST.
        let request = match (body, sent) {
            (Some((body, _)), _) => request.body(body.to_owned()),
            (None, Sent::Ask) => request,
            (None, _) => request.body(""),
        };
        let failed = |error: reqwest::Error| format!("The endpoint {}.", what_failed(&error));
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let mut read = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            read += chunk.len();
            if read > MAX_ANSWER_BYTES {
                break;
            }
        }
        Ok(status)
    }
}

/// Looks names up, and leaves out the addresses that are not allowed.
struct Resolver {
    allow: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow = self.allow.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<_> = found.filter(|address| allow(address.ip())).collect();
            if allowed.is_empty() {
                return Err("the name leads to no address that is allowed".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
