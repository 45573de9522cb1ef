//! Where and how a subscriber is told:
//! <https://hl7.org/fhir/R4/subscription-definitions.html#Subscription.channel>.
//!
//! Of the kinds of channel there is `rest-hook`, of the formats JSON.

use lumbar_fhir::{Issue, IssueType, Json};
use url::Url;

use crate::config::Hosts;

/// Most header lines of a channel.
const MOST_HEADERS: usize = 50;

/// Headers that say how a message travels, which is not the subscriber's to say.
const NOT_THEIRS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The form of a resource that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Payload {
    Json,
    Xml,
}

impl Payload {
    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Payload::Json => "application/fhir+json",
            Payload::Xml => "application/fhir+xml",
        }
    }
}

/// A `rest-hook` channel that can be used.
#[derive(Clone, Debug)]
pub struct Channel {
    endpoint: Url,
    /// Name and value of each header that the subscriber asked for.
    pub headers: Vec<(String, String)>,
    /// In which form the resource itself is to be sent; `None`: it is not.
    pub payload: Option<Payload>,
}

impl Channel {
    /// Reads the channel of a Subscription.
    ///
    /// # Errors
    /// An issue for each element that cannot be used.
    pub fn read(subscription: &Json, hosts: &Hosts) -> Result<Channel, Vec<Issue>> {
        let mut issues = Vec::new();
        let text = |name| subscription.str_at(&["channel", name]);
        match text("type") {
            Some("rest-hook") => {}
            _ => issues.push(
                Issue::error(
                    IssueType::NotSupported,
                    "The only type of channel that is offered is rest-hook.",
                )
                .at("Subscription.channel.type"),
            ),
        }
        let payload = text("payload").map(|payload| payload.split(';').next().unwrap_or_default());
        let payload = match payload.map(str::trim) {
            None => None,
            Some("application/fhir+json" | "application/json") => Some(Payload::Json),
            Some("application/fhir+xml" | "application/xml" | "text/xml") => Some(Payload::Xml),
            Some(_) => {
                issues.push(
                    Issue::error(
                        IssueType::NotSupported,
                        "Resources are sent as application/fhir+json or application/fhir+xml; say so, or leave the payload out to be sent no content.",
                    )
                    .at("Subscription.channel.payload"),
                );
                None
            }
        };
        let endpoint = endpoint(text("endpoint"), payload.is_some(), hosts);
        let headers = headers(subscription, &mut issues);
        match endpoint {
            Ok(endpoint) if issues.is_empty() => Ok(Channel { endpoint, headers, payload }),
            Ok(_) => Err(issues),
            Err(issue) => {
                issues.push(issue.at("Subscription.channel.endpoint"));
                Err(issues)
            }
        }
    }

    /// The address of notifications without content.
    pub fn endpoint(&self) -> &str {
        self.endpoint.as_str()
    }

    /// The address of a resource, the endpoint being the base of a FHIR service.
    pub fn below(&self, path: &str) -> String {
        format!("{}/{path}", self.endpoint.as_str().trim_end_matches('/'))
    }
}

fn endpoint(text: Option<&str>, has_payload: bool, hosts: &Hosts) -> Result<Url, Issue> {
    let wrong = |text: &str| Issue::error(IssueType::Value, text.to_owned());
    let Some(text) = text else {
        return Err(Issue::error(
            IssueType::Required,
            "A rest-hook channel needs an endpoint, as in https://clinic.example/on-result.",
        ));
    };
    let Ok(url) = Url::parse(text) else {
        return Err(wrong(
            "The endpoint is not an absolute URL; give one as in https://clinic.example/on-result.",
        ));
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(
            "The endpoint of a rest-hook begins with https:// or http://, as in https://clinic.example/on-result.",
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong(
            "The endpoint holds a user or a password; send them in a header, as in Authorization: Bearer ….",
        ));
    }
    if url.fragment().is_some() {
        return Err(wrong(
            "The endpoint has a part behind #, which no server is sent; leave it out.",
        ));
    }
    if has_payload && url.query().is_some() {
        return Err(wrong(
            "With a payload the endpoint is the base of a FHIR service, which has no part behind ?, as in https://clinic.example/fhir.",
        ));
    }
    if !hosts.allow(&url) {
        return Err(Issue::error(
            IssueType::Forbidden,
            "Notifications may not be sent to this host; ask the operator of this service to allow it (--subscription-hosts).",
        ));
    }
    Ok(url)
}

fn headers(subscription: &Json, issues: &mut Vec<Issue>) -> Vec<(String, String)> {
    let lines = subscription.get("channel").map_or(&[][..], |channel| channel.list("header"));
    if lines.len() > MOST_HEADERS {
        issues.push(
            Issue::error(
                IssueType::TooLong,
                format!("A channel has at most {MOST_HEADERS} header lines."),
            )
            .at("Subscription.channel.header"),
        );
        return Vec::new();
    }
    let mut headers = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        let fault = |code, text: &str| {
            Issue::error(code, text.to_owned()).at(format!("Subscription.channel.header[{index}]"))
        };
        match line.as_str().and_then(header) {
            Some((name, _)) if NOT_THEIRS.iter().any(|own| name.eq_ignore_ascii_case(own)) => {
                issues.push(fault(
                    IssueType::BusinessRule,
                    "This header is set by the sender of the notification; leave it out.",
                ));
            }
            Some(header) => headers.push(header),
            None => issues.push(fault(
                IssueType::Value,
                "This is no HTTP header; give name and value as in Authorization: Bearer abc.",
            )),
        }
    }
    headers
}

/// `Name: value`, by the grammar of HTTP.
fn header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    let value = value.trim();
    let in_name = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
    let in_value = |c: u8| (0x20..0x7f).contains(&c) || c == b'\t';
    let sound = !name.is_empty() && name.bytes().all(in_name) && value.bytes().all(in_value);
    sound.then(|| (name.to_owned(), value.to_owned()))
}
