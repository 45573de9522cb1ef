//! Search of a type, of several, and of a compartment: <https://hl7.org/fhir/R4/http.html#search>.
//!
//! The Bundle is written around the stored texts, which are not read again.

mod contained;

use std::fmt::Write;
use std::sync::Arc;

use lumbar_fhir::format::json::write_string;
use lumbar_fhir::issue::operation_outcome;
use lumbar_fhir::rest::encode_pairs;
use lumbar_fhir::search::{Condition, Contained, Query, Search, compartment};
use lumbar_fhir::{Issue, IssueType, Severity};
use lumbar_store::{Bounds, Page, Stored, Total};

use super::{Error, Facade, Reply, Success};
pub(super) use contained::no_contained;
use contained::{Alone, containers};

/// Rows that are looked at for one page: where matches are rarer than that, pages are short.
const LOOKED: usize = 20_000;

/// Bytes of an entry besides its resource.
const AROUND: usize = 200;

/// What is searched.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    /// `None` for all types.
    pub(super) resource_type: Option<&'a str>,
    /// Type and id of the resource whose compartment it is.
    pub(super) compartment: Option<&'a (String, String)>,
}

impl Scope<'_> {
    /// The path below the base, with a slash before it.
    fn path(self) -> String {
        match (self.compartment, self.resource_type) {
            (Some((of, id)), within) => format!("/{of}/{id}/{}", within.unwrap_or("*")),
            (None, Some(of)) => format!("/{of}"),
            (None, None) => String::new(),
        }
    }
}

/// A search that has been read.
struct Asked {
    /// One for each type, equal but for type and condition; none when nothing can match.
    queries: Vec<Query>,
    /// What is given of what is found, when it is not that itself.
    alone: Option<Alone>,
    /// The parameters that took part, for `link.self`.
    used: Vec<(String, String)>,
    /// What was ignored, and why.
    ignored: Vec<Issue>,
}

impl Facade {
    pub(super) async fn search(
        &self,
        scope: Scope<'_>,
        parameters: &[(String, String)],
        strict: bool,
    ) -> Result<Reply, Error> {
        let Asked { mut queries, alone, mut used, ignored } =
            self.read_search(scope, parameters, strict).await?;
        let given = |name: &str, value: &str| used.iter().any(|(n, v)| n == name && v == value);
        let count = queries.first().map_or(0, |query| query.count);
        let count_only = count == 0 || given("_summary", "count");
        let total = match (count_only || queries.iter().any(|query| query.total), count) {
            (true, _) => Total::Accurate,
            _ if given("_total", "estimate") => Total::Estimate,
            _ => Total::None,
        };
        for query in queries.iter_mut().filter(|_| count_only) {
            query.count = 0;
        }
        for (name, value) in &mut used {
            if name == "_count" {
                *value = count.to_string();
            }
        }
        // Whole resources are given, so the self link does not claim parts of them.

        let most = self.policy.limits.response_bytes;
        let room = most.saturating_sub(AROUND * count);
        let mut page = Page { matches: Vec::new(), previous: None, next: None, total: Some(0) };
        if !queries.is_empty() {
            let bounds = Bounds { looked: LOOKED, bytes: room };
            page = match &alone {
                Some(alone) => self.contained_page(&queries, alone, total, bounds).await?,
                None => self.resources.page(&queries, total, bounds).await?,
            };
        }
        let bytes: usize = page.matches.iter().map(length).sum();
        let included = self.included(parameters, &page.matches, room.saturating_sub(bytes)).await?;

        let bytes = bytes + included.iter().map(length).sum::<usize>();
        let entries = page.matches.len() + included.len();
        let mut out = String::with_capacity(bytes + entries * AROUND + 1024);
        out.push_str(r#"{"resourceType":"Bundle","type":"searchset""#);
        if let Some(total) = page.total {
            let _ = write!(out, r#","total":{total}"#);
        }
        let path = scope.path();
        let mut separator = r#","link":["#;
        let mut link = |out: &mut String, relation: &str, cursor: Option<&String>| {
            let mut pairs = used.clone();
            pairs.extend(cursor.map(|cursor| ("_cursor".to_owned(), cursor.clone())));
            let query = encode_pairs(&pairs);
            let mark = if query.is_empty() { "" } else { "?" };
            let _ = write!(out, r#"{separator}{{"relation":"{relation}","url":"#);
            separator = ",";
            write_string(out, &format!("{}{path}{mark}{query}", self.base));
            out.push('}');
        };
        let begin = queries.first().and_then(|query| query.cursor.as_ref());
        link(&mut out, "self", begin);
        if begin.is_some() || page.next.is_some() {
            link(&mut out, "first", None);
        }
        for (relation, cursor) in [("previous", &page.previous), ("next", &page.next)] {
            if cursor.is_some() {
                link(&mut out, relation, cursor.as_ref());
            }
        }
        out.push(']');

        let mut separator = r#","entry":["#;
        for (stored, mode) in page
            .matches
            .iter()
            .map(|stored| (stored, "match"))
            .chain(included.iter().map(|stored| (stored, "include")))
        {
            let Some(body) = &stored.body else { continue };
            out.push_str(separator);
            separator = ",";
            out.push_str(r#"{"fullUrl":"#);
            write_string(&mut out, &self.full_url(stored));
            let _ = write!(out, r#","resource":{body},"search":{{"mode":"{mode}"}}}}"#);
        }
        if !ignored.is_empty() {
            let outcome = operation_outcome(&ignored);
            let _ =
                write!(out, r#"{separator}{{"resource":{outcome},"search":{{"mode":"outcome"}}}}"#);
            separator = ",";
        }
        out.push_str(if separator == "," { "]}" } else { "}" });
        Ok(Reply { body: Some(Arc::from(out)), ..Reply::empty(Success::Ok) })
    }

    /// Where a resource is; a contained one is where its container is.
    fn full_url(&self, stored: &Stored) -> String {
        match stored.id.contains('#') {
            true => format!("{}/{}", self.base, stored.id),
            false => format!("{}/{}/{}", self.base, stored.resource_type, stored.id),
        }
    }

    /// Reads the parameters for each type that is searched.
    async fn read_search(
        &self,
        scope: Scope<'_>,
        parameters: &[(String, String)],
        strict: bool,
    ) -> Result<Asked, Error> {
        let definitions = self.definitions();
        let mut parameters = parameters.to_vec();
        let mut named = Vec::new();
        let types: Vec<&str> = match scope.resource_type {
            Some(of) => vec![of],
            None => {
                parameters.retain(|(name, value)| {
                    let of_type = name == "_type" && !value.is_empty();
                    if of_type {
                        named.push((name.clone(), value.clone()));
                    }
                    name != "_type"
                });
                let names = named.iter().flat_map(|(_, value)| value.split(','));
                let mut types: Vec<&str> = names.map(str::trim).collect();
                if let Some(unknown) = types.iter().find(|of| !definitions.is_resource(of)) {
                    let text = format!(
                        "_type names {:?}, which is no resource type of FHIR R4; expected are types with commas between them, as in _type=Patient,Observation.",
                        unknown.chars().take(64).collect::<String>()
                    );
                    let issue = Issue::error(IssueType::Value, text).at("http._type");
                    return Err(Error::Unparseable(vec![issue]));
                }
                if types.is_empty() {
                    types = definitions.resource_types().collect();
                }
                types.sort_unstable();
                types.dedup();
                types
            }
        };
        if let (Some(of), None) = (scope.resource_type, scope.compartment) {
            let Search { query, used, ignored, contained, alone } =
                self.parse_any_search(of, &parameters, strict).await?;
            let (queries, alone) = match contained {
                Contained::Without => (vec![query], None),
                which => {
                    let queries = containers(definitions.resource_types(), &query, which)?;
                    (queries, alone.then(|| Alone::new(query, which)))
                }
            };
            return Ok(Asked { queries, alone, used, ignored });
        }
        let mut asked = self.parse_all(&types, &parameters, strict).await?;
        asked.used.splice(0..0, named.iter().cloned());
        if let Some((of, id)) = scope.compartment {
            asked.queries.retain_mut(|query| {
                let within = compartment(&definitions, of, id, &query.resource_type);
                let Some(within) = within else { return false };
                let rest = std::mem::replace(&mut query.condition, Condition::All(Vec::new()));
                let mut all = vec![within];
                match rest {
                    Condition::All(rest) => all.extend(rest),
                    rest => all.push(rest),
                }
                query.condition = Condition::All(all);
                true
            });
        }
        Ok(asked)
    }

    /// Reads the parameters for several types: only those that all the types have take part.
    async fn parse_all(
        &self,
        types: &[&str],
        parameters: &[(String, String)],
        strict: bool,
    ) -> Result<Asked, Error> {
        let mut searches = Vec::with_capacity(types.len());
        for of in types {
            searches.push(self.parse_search(of, parameters, strict).await?);
        }
        let Some(first) = searches.first() else {
            return Ok(Asked {
                queries: Vec::new(),
                alone: None,
                used: Vec::new(),
                ignored: Vec::new(),
            });
        };
        let mut ignored = first.ignored.clone();
        let is_common = |pair: &&(String, String)| {
            pair.0 == "_cursor" || searches.iter().all(|search| search.used.contains(*pair))
        };
        let common: Vec<_> = parameters.iter().filter(is_common).cloned().collect();
        let partial = searches.iter().any(|search| {
            let shared = |pair: &&(String, String)| !common.contains(*pair);
            search.used.iter().any(|pair| shared(&pair))
        });
        if partial || searches.iter().any(|search| search.query.sort != first.query.sort) {
            if parameters.iter().any(|(name, _)| name == "_sort")
                && (!common.iter().any(|(name, _)| name == "_sort") || !partial)
            {
                let text = "A search of several types can be sorted by parameters only that all of them have, such as _sort=-_lastUpdated or _sort=_id; name other types with _type, or search one type.";
                let issue = Issue::error(IssueType::NotSupported, text).at("http._sort");
                return Err(Error::Unparseable(vec![issue]));
            }
            let missing = parameters.iter().filter(|pair| {
                !common.contains(pair) && searches.iter().any(|search| search.used.contains(pair))
            });
            ignored = missing
                .map(|(name, _)| {
                    let text = format!(
                        "Not all types that are searched have the parameter {name}; name types that have it, as in _type=Condition,Observation."
                    );
                    Issue::error(IssueType::NotSupported, text)
                        .severity(Severity::Warning)
                        .at(format!("http.{name}"))
                })
                .collect();
            searches.clear();
            for of in types {
                searches.push(self.parse_search(of, &common, strict).await?);
            }
        }
        let used = searches.first().map(|search| search.used.clone()).unwrap_or_default();
        let queries = searches.into_iter().map(|search| search.query).collect();
        Ok(Asked { queries, alone: None, used, ignored })
    }
}

fn length(stored: &Stored) -> usize {
    stored.body.as_ref().map_or(0, |body| body.len())
}
