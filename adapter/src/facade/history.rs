//! History of a resource, a type or all: <https://hl7.org/fhir/R4/http.html#history>.
//!
//! Of one resource the versions go by number, of a type and of all types by time, newest first. The
//! Bundle is written around the stored texts, which are not read again. `_list` is not offered.

use std::fmt::Write;
use std::sync::Arc;

use lumbar_fhir::datetime::{DateTime, Micros, instant};
use lumbar_fhir::format::json::write_string;
use lumbar_fhir::rest::encode_pairs;
use lumbar_fhir::{Issue, IssueType};
use lumbar_store::{History, Method, Version};

use super::{Error, Facade, Reply, Success};

/// Parameters that shape the answer and are read elsewhere.
const SHAPING: [&str; 4] = ["_elements", "_format", "_pretty", "_summary"];

/// The parameters of a history, read.
struct Parameters<'a> {
    count: Option<usize>,
    since: Option<Micros>,
    at: Option<(Micros, Micros)>,
    cursor: Option<&'a str>,
    /// Those that took part, but for the cursor.
    used: Vec<(String, String)>,
}

impl<'a> Parameters<'a> {
    fn read(parameters: &'a [(String, String)], strict: bool) -> Result<Parameters<'a>, Error> {
        let mut read =
            Parameters { count: None, since: None, at: None, cursor: None, used: Vec::new() };
        let mut issues = Vec::new();
        for (index, (name, value)) in parameters.iter().enumerate() {
            let expected = match name.as_str() {
                _ if value.is_empty() => continue,
                "_count" => {
                    read.count = value.parse().ok();
                    read.count.is_none().then_some("a whole number from 0, as in _count=20")
                }
                "_since" => {
                    read.since = DateTime::parse(value).map(|since| since.bounds().0);
                    read.since.is_none().then_some(
                        "an instant, as in _since=2026-03-02T10:00:00Z (a + of the zone is sent as %2B)",
                    )
                }
                "_at" => {
                    read.at = DateTime::parse(value).map(|at| at.bounds());
                    read.at.is_none().then_some(
                        "a date or time, as in _at=2026-03-02 (a + of the zone is sent as %2B)",
                    )
                }
                "_cursor" => {
                    read.cursor = Some(value);
                    None
                }
                name if SHAPING.contains(&name) => None,
                name if strict => {
                    issues.push(
                        Issue::error(
                            IssueType::NotSupported,
                            format!("A history has no parameter {name}; it knows _count, _since and _at."),
                        )
                        .at(format!("http.{name}")),
                    );
                    continue;
                }
                _ => continue,
            };
            let again = parameters
                .iter()
                .take(index)
                .any(|(other, value)| other == name && !value.is_empty());
            let expected = if again { Some("given once") } else { expected };
            match expected {
                Some(expected) => issues.push(
                    Issue::error(
                        IssueType::Value,
                        format!("The parameter {name} cannot be read; expected is {expected}."),
                    )
                    .at(format!("http.{name}")),
                ),
                None if name == "_cursor" => {}
                None => read.used.push((name.clone(), value.clone())),
            }
        }
        if issues.is_empty() { Ok(read) } else { Err(Error::Unparseable(issues)) }
    }

    /// Whether only the number of versions is wanted.
    fn counts_only(&self) -> bool {
        self.count == Some(0)
            || self.used.iter().any(|(name, value)| name == "_summary" && value == "count")
    }
}

impl Facade {
    pub(super) async fn history(
        &self,
        resource_type: Option<&str>,
        id: Option<&str>,
        parameters: &[(String, String)],
        strict: bool,
    ) -> Result<Reply, Error> {
        let parameters = Parameters::read(parameters, strict)?;
        let limits = self.policy.limits;
        let asked = History {
            resource_type,
            id,
            since: parameters.since,
            at: parameters.at,
            count: parameters
                .count
                .unwrap_or(limits.search.default_count)
                .min(limits.search.max_count),
            bytes: limits.response_bytes,
            cursor: parameters.cursor,
        };
        let mut newest = None;
        if let (Some(resource_type), Some(id)) = (resource_type, id) {
            let current = self.resources.read(resource_type, id).await?;
            let current = current.ok_or_else(|| Error::not_found(resource_type, id))?;
            newest = u64::try_from(current.version).ok();
        }
        let (page, total) = if parameters.counts_only() {
            (lumbar_store::Versions::default(), Some(self.resources.history_total(&asked).await?))
        } else {
            // The versions of one resource are numbered from 1; else counting would cost a walk.
            let total = newest.filter(|_| asked.since.is_none() && asked.at.is_none());
            (self.resources.history(&asked).await?, total)
        };

        let bytes = |version: &Version| version.stored.body.as_ref().map_or(0, |body| body.len());
        let bytes: usize = page.versions.iter().map(|version| bytes(version) + 320).sum();
        let mut out = String::with_capacity(bytes + 512);
        out.push_str(r#"{"resourceType":"Bundle","type":"history""#);
        if let Some(total) = total {
            let _ = write!(out, r#","total":{total}"#);
        }
        let mut url = self.base.clone();
        for step in [resource_type, id, Some("_history")].into_iter().flatten() {
            url.push('/');
            url.push_str(step);
        }
        let mut mark = r#","link":["#;
        let mut link = |out: &mut String, relation: &str, cursor: Option<&str>| {
            let mut pairs = parameters.used.clone();
            pairs.extend(cursor.map(|cursor| ("_cursor".to_owned(), cursor.to_owned())));
            let query = encode_pairs(&pairs);
            let question = if query.is_empty() { "" } else { "?" };
            let _ = write!(out, r#"{mark}{{"relation":"{relation}","url":"#);
            mark = ",";
            write_string(out, &format!("{url}{question}{query}"));
            out.push('}');
        };
        link(&mut out, "self", parameters.cursor);
        if page.previous.is_some() || page.next.is_some() {
            link(&mut out, "first", None);
        }
        for (relation, cursor) in [("previous", &page.previous), ("next", &page.next)] {
            if let Some(cursor) = cursor {
                link(&mut out, relation, Some(cursor));
            }
        }
        out.push(']');
        let mut mark = r#","entry":["#;
        for version in &page.versions {
            out.push_str(mark);
            mark = ",";
            self.write_entry(&mut out, version);
        }
        out.push_str(if mark == "," { "]}" } else { "}" });
        Ok(Reply { body: Some(Arc::from(out)), ..Reply::empty(Success::Ok) })
    }

    fn write_entry(&self, out: &mut String, version: &Version) {
        let stored = &version.stored;
        let of = format!("{}/{}", stored.resource_type, stored.id);
        let (method, status, url) = match stored.method {
            Method::Create => ("POST", "201 Created", stored.resource_type.as_str()),
            Method::Update if version.created => ("PUT", "201 Created", of.as_str()),
            Method::Update => ("PUT", "200 OK", of.as_str()),
            Method::Delete => ("DELETE", "204 No Content", of.as_str()),
        };
        out.push_str(r#"{"fullUrl":"#);
        write_string(out, &format!("{}/{of}", self.base));
        if let Some(body) = &stored.body {
            let _ = write!(out, r#","resource":{body}"#);
        }
        let _ = write!(
            out,
            r#","request":{{"method":"{method}","url":"{url}"}},"response":{{"status":"{status}","etag":"W/\"{}\"","lastModified":"{}"}}}}"#,
            stored.version,
            instant(stored.last_updated)
        );
    }
}
