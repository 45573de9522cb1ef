//! History of one resource: <https://hl7.org/fhir/R4/http.html#history>.

use lumbar_fhir::datetime::{DateTime, instant};
use lumbar_fhir::rest::encode_pairs;
use lumbar_fhir::{Issue, IssueType, Json, Object, json};
use lumbar_store::{Method, Stored};

use super::{Error, Facade, Reply};

/// Versions on a page when the request does not say, and at most.
const COUNT: (usize, usize) = (50, 1000);

impl Facade {
    pub(super) async fn history(
        &self,
        resource_type: Option<&str>,
        id: Option<&str>,
        parameters: &[(String, String)],
    ) -> Result<Reply, Error> {
        let (Some(resource_type), Some(id)) = (resource_type, id) else {
            return Err(Error::NotSupported(Issue::error(
                IssueType::NotSupported,
                "The history of a type or of all types is not offered.",
            )));
        };
        let number = |name: &str| {
            let given = parameters.iter().find(|(other, _)| other == name);
            given.map(|(_, value)| {
                value.parse::<i64>().ok().filter(|n| *n >= 0).ok_or_else(|| {
                    Error::Unparseable(vec![
                        Issue::error(
                            IssueType::Value,
                            format!("{name} must be a whole number from 0."),
                        )
                        .at(format!("http.{name}")),
                    ])
                })
            })
        };
        let count = number("_count").transpose()?.and_then(|count| usize::try_from(count).ok());
        let count = count.unwrap_or(COUNT.0).min(COUNT.1);
        let before = number("_before").transpose()?;
        let since = parameters.iter().find(|(name, _)| name == "_since");
        let since = since.map(|(_, text)| {
            DateTime::parse(text).map(|since| (text, since.bounds().0)).ok_or_else(|| {
                let text = "_since must be an instant, for example 2026-03-02T10:00:00Z.";
                Error::Unparseable(vec![Issue::error(IssueType::Value, text).at("http._since")])
            })
        });
        let since = since.transpose()?;
        let Some(current) = self.resources.read(resource_type, id).await? else {
            return Err(Error::not_found(resource_type, id));
        };
        let mut versions = if count == 0 {
            Vec::new()
        } else {
            self.resources.history(resource_type, id, before, count + 1).await?
        };
        if let Some((_, since)) = since {
            versions.retain(|version| version.last_updated >= since);
        }
        let more = versions.len() > count;
        let page = versions.len().min(count);
        let url = format!("{}/{resource_type}/{id}/_history", self.base);
        let mut shape = vec![("_count".to_owned(), count.to_string())];
        shape.extend(since.map(|(text, _)| ("_since".to_owned(), text.clone())));
        let link = |relation: &str, before: Option<i64>| {
            let mut pairs = shape.clone();
            pairs.extend(before.map(|version| ("_before".to_owned(), version.to_string())));
            json!({"relation": (relation), "url": (format!("{url}?{}", encode_pairs(&pairs)))})
        };
        let mut links = vec![link("self", before)];
        if let (true, Some(last)) = (more, versions[..page].last()) {
            links.push(link("next", Some(last.version)));
        }
        let entries = versions[..page].iter().enumerate().map(|(index, version)| {
            // What follows a deletion, or nothing, creates.
            let previous = versions.get(index + 1).map(|previous| previous.method);
            let created = version.version == 1 || previous == Some(Method::Delete);
            self.history_entry(version, created)
        });
        let entries = entries.collect::<Result<Vec<Json>, Error>>()?;
        let mut bundle = json!({"resourceType": "Bundle", "type": "history"});
        if since.is_none() {
            bundle.set("total", current.version);
        }
        bundle.set("link", links);
        if !entries.is_empty() {
            bundle.set("entry", entries);
        }
        Ok(Reply::of(&bundle))
    }

    fn history_entry(&self, stored: &Stored, created: bool) -> Result<Json, Error> {
        let Stored { resource_type, id, version, .. } = stored;
        let (method, status, path) = match stored.method {
            Method::Create => ("POST", "201", resource_type.clone()),
            Method::Update if created => ("PUT", "201", format!("{resource_type}/{id}")),
            Method::Update => ("PUT", "200", format!("{resource_type}/{id}")),
            Method::Delete => ("DELETE", "204", format!("{resource_type}/{id}")),
        };
        let mut entry = Object::new();
        entry.set("fullUrl", format!("{}/{resource_type}/{id}", self.base));
        if let Some(body) = &stored.body {
            let resource = Json::parse(body.as_bytes()).map_err(|error| {
                tracing::error!(%error, resource_type, version, "a stored resource cannot be read");
                Error::Internal
            })?;
            entry.set("resource", resource);
        }
        entry.set("request", json!({"method": (method), "url": (path)}));
        entry.set(
            "response",
            json!({
                "status": (status),
                "etag": (format!("W/\"{version}\"")),
                "lastModified": (instant(stored.last_updated))
            }),
        );
        Ok(Json::Object(entry))
    }
}
