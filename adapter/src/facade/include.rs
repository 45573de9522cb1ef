//! `_include` and `_revinclude`: <https://hl7.org/fhir/R4/search.html#revinclude>.
//!
//! One step; `:iterate` is treated as one step more over what was included, up to a bound.

use std::collections::HashSet;

use lumbar_fhir::definitions::SearchKind;
use lumbar_fhir::search::{Condition, IndexValue, Query, index, key};
use lumbar_fhir::{Issue, IssueType, Json};
use lumbar_store::Stored;

use super::{Error, Facade};

/// Most resources that are included on one page.
const MAX_INCLUDED: usize = 2000;
/// How often `:iterate` goes round.
const MAX_ROUNDS: usize = 5;

/// `_include=source:parameter[:target]`.
struct Include<'p> {
    source: &'p str,
    code: &'p str,
    target: Option<&'p str>,
    reverse: bool,
    iterate: bool,
}

impl Facade {
    /// What the request wants besides the matches, without what is among them.
    pub(super) async fn included(
        &self,
        resource_type: &str,
        parameters: &[(String, String)],
        matches: &[Stored],
    ) -> Result<Vec<Stored>, Error> {
        let includes = self.includes(resource_type, parameters)?;
        let mut included: Vec<Stored> = Vec::new();
        if includes.is_empty() {
            return Ok(included);
        }
        let name = |stored: &Stored| format!("{}/{}", stored.resource_type, stored.id);
        let mut seen: HashSet<String> = matches.iter().map(name).collect();
        let mut from: Vec<Stored> = matches.to_vec();
        for round in 0..MAX_ROUNDS {
            let mut fresh = Vec::new();
            for include in includes.iter().filter(|include| round == 0 || include.iterate) {
                let found = if include.reverse {
                    self.referring(include, &from).await?
                } else {
                    self.referred(include, &from).await?
                };
                for stored in found {
                    if stored.body.is_some() && seen.insert(name(&stored)) {
                        fresh.push(stored);
                    }
                }
            }
            if fresh.is_empty() {
                break;
            }
            included.extend(fresh.iter().cloned());
            if included.len() > MAX_INCLUDED {
                return Err(Error::Unparseable(vec![Issue::error(
                    IssueType::TooCostly,
                    "The page would include more than 2000 resources; ask for a smaller _count.",
                )]));
            }
            from = fresh;
        }
        Ok(included)
    }

    fn includes<'p>(
        &self,
        resource_type: &'p str,
        parameters: &'p [(String, String)],
    ) -> Result<Vec<Include<'p>>, Error> {
        let definitions = self.definitions();
        let mut includes = Vec::new();
        for (name, value) in parameters {
            let (name, iterate) = match name.split_once(':') {
                Some((name, "iterate" | "recurse")) => (name, true),
                _ => (name.as_str(), false),
            };
            let reverse = match name {
                "_include" => false,
                "_revinclude" => true,
                _ => continue,
            };
            let mut parts = value.splitn(3, ':');
            let (source, code) =
                (parts.next().unwrap_or(resource_type), parts.next().unwrap_or_default());
            let known = definitions.search_parameter(source, code);
            if known.is_none_or(|parameter| parameter.kind != SearchKind::Reference) {
                return Err(Error::Unparseable(vec![
                    Issue::error(
                        IssueType::Value,
                        format!("{name} must name a type and one of its reference parameters, as in Observation:subject."),
                    )
                    .at(format!("http.{name}")),
                ]));
            }
            includes.push(Include { source, code, target: parts.next(), reverse, iterate });
        }
        Ok(includes)
    }

    async fn referred(&self, include: &Include<'_>, from: &[Stored]) -> Result<Vec<Stored>, Error> {
        let definitions = self.definitions();
        let mut found = Vec::new();
        let mut asked = HashSet::new();
        for stored in from.iter().filter(|stored| stored.resource_type == include.source) {
            let Some(body) = &stored.body else { continue };
            let Ok(resource) = Json::parse(body.as_bytes()) else { continue };
            for row in index(&definitions, &self.base, &resource) {
                let IndexValue::Key(target) = row.value else { continue };
                let target = target.split(key::SEPARATOR).next().unwrap_or_default().to_owned();
                let Some((of, id)) = target.split_once('/') else { continue };
                if row.code == include.code
                    && include.target.is_none_or(|target| target == of)
                    && definitions.is_resource(of)
                    && asked.insert(target.clone())
                {
                    found.extend(self.resources.read(of, id).await?);
                }
            }
        }
        Ok(found)
    }

    async fn referring(
        &self,
        include: &Include<'_>,
        from: &[Stored],
    ) -> Result<Vec<Stored>, Error> {
        let targets = from
            .iter()
            .filter(|stored| include.target.is_none_or(|target| target == stored.resource_type));
        let any = targets.map(|stored| {
            let (from, to) = key::equal_to(format!("{}/{}", stored.resource_type, stored.id));
            Condition::Key(include.code.to_owned(), from, to)
        });
        let query = Query {
            resource_type: include.source.to_owned(),
            condition: Condition::Any(any.collect()),
            sort: Vec::new(),
            count: MAX_INCLUDED + 1,
            cursor: None,
            total: false,
        };
        Ok(self.resources.search(&query).await?.matches)
    }
}
