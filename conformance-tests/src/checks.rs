//! The checks: each names what the standard asks, and where.

use std::fmt;
use std::time::Duration;

use lumbar_fhir::Json;

const CAPABILITIES: &str = "https://hl7.org/fhir/R4/http.html#capabilities";
const SEARCH: &str = "https://hl7.org/fhir/R4/http.html#search";
const TIMEOUT: Duration = Duration::from_secs(30);

/// One check and how it ended.
pub struct Check {
    what: String,
    requirement: &'static str,
    /// What was seen instead; `None` when all is well.
    seen: Option<String>,
}

impl Check {
    fn new(what: impl Into<String>, requirement: &'static str, seen: Option<String>) -> Check {
        Check { what: what.into(), requirement, seen }
    }

    /// Whether the server did not do what the standard asks.
    pub fn failed(&self) -> bool {
        self.seen.is_some()
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.seen {
            None => write!(f, "ok    {}", self.what),
            Some(seen) => write!(f, "FAIL  {}: {seen} ({})", self.what, self.requirement),
        }
    }
}

struct Server<'a> {
    client: reqwest::Client,
    base: &'a str,
    token: Option<&'a str>,
}

/// Runs all checks.
///
/// # Errors
/// A sentence: the server cannot be reached or has no CapabilityStatement, so nothing else can be
/// said about it.
pub async fn run(base: &str, token: Option<&str>) -> Result<Vec<Check>, String> {
    // The second call in a process finds the provider there, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().timeout(TIMEOUT).build();
    let client = client.map_err(|error| format!("no HTTP client: {error}"))?;
    let server = Server { client, base: base.trim_end_matches('/'), token };
    let (status, content_type, body) = server.get("metadata").await?;
    let statement = Json::parse(&body).map_err(|_| {
        format!("{base}/metadata answered {status} with something that is not JSON; is this a FHIR base?")
    })?;
    let mut checks = vec![
        Check::new(
            "metadata answers 200",
            CAPABILITIES,
            (status != 200).then(|| format!("it answered {status}")),
        ),
        Check::new(
            "metadata is application/fhir+json",
            CAPABILITIES,
            (!content_type.starts_with("application/fhir+json"))
                .then(|| format!("its Content-Type is {content_type:?}")),
        ),
        Check::new(
            "metadata is a CapabilityStatement",
            CAPABILITIES,
            differs(&statement, &["resourceType"], "CapabilityStatement"),
        ),
        Check::new(
            "the FHIR version is 4.0.1",
            CAPABILITIES,
            differs(&statement, &["fhirVersion"], "4.0.1"),
        ),
        Check::new(
            "the server describes itself as a server",
            CAPABILITIES,
            differs(&statement, &["rest", "mode"], "server"),
        ),
    ];
    let resources = statement.at(&["rest"]).map(|rest| rest.list("resource")).unwrap_or_default();
    for resource in resources {
        let Some(of) = resource.str_at(&["type"]) else { continue };
        let claims = |code: &str| {
            resource.list("interaction").iter().any(|i| i.str_at(&["code"]) == Some(code))
        };
        if claims("search-type") {
            let (status, _, body) = server.get(&format!("{of}?_count=1")).await?;
            let kind = Json::parse(&body)
                .ok()
                .and_then(|bundle| bundle.str_at(&["type"]).map(str::to_owned));
            let seen = match (status, kind.as_deref()) {
                (200, Some("searchset")) => None,
                // A server may want to know more before it searches, and says so.
                (401 | 403, _) => None,
                _ => Some(format!("it answered {status} with a Bundle of type {kind:?}")),
            };
            checks.push(Check::new(format!("{of} can be searched, as claimed"), SEARCH, seen));
        }
    }
    Ok(checks)
}

fn differs(statement: &Json, path: &[&str], expected: &str) -> Option<String> {
    let found = statement.str_at(path);
    (found != Some(expected)).then(|| format!("{} is {found:?}", path.join(".")))
}

impl Server<'_> {
    async fn get(&self, path: &str) -> Result<(u16, String, Vec<u8>), String> {
        let mut request = self
            .client
            .get(format!("{}/{path}", self.base))
            .header("Accept", "application/fhir+json");
        if let Some(token) = self.token {
            request = request.bearer_auth(token);
        }
        let failed = |error: reqwest::Error| {
            format!("{} cannot be reached: {}", self.base, error.without_url())
        };
        let response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let content_type = response.headers().get("content-type");
        let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let content_type = content_type.to_owned();
        let body = response.bytes().await.map_err(failed)?;
        Ok((status, content_type, body.to_vec()))
    }
}
