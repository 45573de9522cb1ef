//! HTTP requests to partners, with bounds on time and size.

use std::time::Duration;

use reqwest::redirect::Policy;

use super::what_failed;

/// Longest time for one request and its answer.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// A client for all partners.
#[derive(Clone, Debug)]
pub struct Web {
    client: reqwest::Client,
}

/// What a partner answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, whole.
    pub body: Vec<u8>,
}

impl Web {
    /// A client that follows no redirects: patient data goes where it was addressed.
    ///
    /// # Errors
    /// The TLS library cannot be set up.
    pub fn new() -> Result<Web, reqwest::Error> {
        Web::within(TIMEOUT)
    }

    /// The same with another bound on the time of a request and its answer.
    ///
    /// # Errors
    /// The TLS library cannot be set up.
    pub fn within(timeout: Duration) -> Result<Web, reqwest::Error> {
        // The second call in a process finds the provider there, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client =
            reqwest::Client::builder().timeout(timeout).redirect(Policy::none()).build()?;
        Ok(Web { client })
    }

    /// `GET url`.
    ///
    /// # Errors
    /// A sentence: nobody answered, not in time, or too much.
    pub async fn get(&self, url: &str, headers: &[(&str, String)]) -> Result<Answer, String> {
        self.send(self.client.get(url), headers).await
    }

    /// `POST url`; the headers hold the content type.
    ///
    /// # Errors
    /// A sentence: nobody answered, not in time, or too much.
    pub async fn post(
        &self,
        url: &str,
        headers: &[(&str, String)],
        body: String,
    ) -> Result<Answer, String> {
        self.send(self.client.post(url).body(body), headers).await
    }

    async fn send(
        &self,
        mut request: reqwest::RequestBuilder,
        headers: &[(&str, String)],
    ) -> Result<Answer, String> {
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let failed = |error: reqwest::Error| format!("The receiver {}.", what_failed(&error));
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(format!("The receiver's answer is over {MAX_ANSWER_BYTES} bytes."));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body })
    }
}
