//! `_include` and `_revinclude`: <https://hl7.org/fhir/R4/search.html#revinclude>.
//!
//! What is included is looked up together: one query for all references of a round, and one for
//! each type whose canonical urls are named or whose resources refer to the others.

use std::collections::{BTreeMap, BTreeSet};

use lumbar_fhir::definitions::{Definitions, SearchKind, SearchParameter};
use lumbar_fhir::path::{Context, Value};
use lumbar_fhir::rest::is_id;
use lumbar_fhir::search::key;
use lumbar_fhir::{Issue, IssueType, Json};
use lumbar_store::{Named, Stored};

use super::{Error, Facade};

/// How often `:iterate` goes round.
const MAX_ROUNDS: usize = 50;

/// `_include=source:parameter[:target]`; `*` stands for all of them.
struct Include<'p> {
    /// `None` for all types.
    source: Option<&'p str>,
    /// `None` for all reference parameters.
    code: Option<&'p str>,
    target: Option<&'p str>,
    reverse: bool,
    iterate: bool,
}

/// What resources name.
#[derive(Default)]
struct References {
    resources: BTreeSet<Named>,
    /// Canonical urls and their versions, if any, by the type that they are looked for in.
    canonicals: BTreeMap<String, BTreeSet<(String, Option<String>)>>,
}

impl Facade {
    /// What the request wants besides the matches, without what is among them.
    pub(super) async fn included(
        &self,
        parameters: &[(String, String)],
        matches: &[Stored],
        bytes: usize,
    ) -> Result<Vec<Stored>, Error> {
        let definitions = self.definitions();
        let includes = includes(&definitions, parameters)?;
        let mut included: Vec<Stored> = Vec::new();
        if includes.is_empty() {
            return Ok(included);
        }
        let mut seen: BTreeSet<Named> = BTreeSet::new();
        let mut room = bytes;
        let mut from: Vec<Stored> = matches.to_vec();
        note(&mut seen, &from);
        for round in 0.. {
            let active: Vec<&Include<'_>> =
                includes.iter().filter(|include| round == 0 || include.iterate).collect();
            if active.is_empty() || from.is_empty() {
                break;
            }
            let most = self.policy.limits.included;
            let left = most.saturating_sub(included.len());
            let mut found = self.referred(&definitions, &active, &from, &mut seen).await?;
            found.extend(self.referring(&definitions, &active, &from, left, &mut seen).await?);
            from = Vec::new();
            for stored in found {
                if stored.body.is_none() || !seen.insert(named(&stored)) {
                    continue;
                }
                room = match room.checked_sub(stored.body.as_ref().map_or(0, |body| body.len())) {
                    Some(room) if from.len() < left => room,
                    _ => return Err(too_much(most)),
                };
                from.push(stored);
            }
            included.extend(from.iter().cloned());
            if round == MAX_ROUNDS && !from.is_empty() {
                return Err(too_much(most));
            }
        }
        Ok(included)
    }

    /// What resources refer to.
    async fn referred(
        &self,
        definitions: &Definitions,
        includes: &[&Include<'_>],
        from: &[Stored],
        seen: &mut BTreeSet<Named>,
    ) -> Result<Vec<Stored>, Error> {
        let mut references = References::default();
        let forward: Vec<_> = includes.iter().filter(|include| !include.reverse).collect();
        for stored in from {
            let of = stored.resource_type.as_str();
            let wanted = forward.iter().filter(|i| i.source.is_none_or(|source| source == of));
            if wanted.clone().next().is_none() {
                continue;
            }
            let Some(Ok(resource)) = stored.body.as_ref().map(|body| Json::parse(body.as_bytes()))
            else {
                continue;
            };
            for include in wanted {
                for parameter in referring_parameters(definitions, of, include.code) {
                    let target = include.target;
                    self.references(definitions, parameter, &resource, target, &mut references);
                }
            }
        }
        let names: Vec<Named> = references.resources.difference(seen).cloned().collect();
        let mut found =
            if names.is_empty() { Vec::new() } else { self.resources.named(&names).await? };
        seen.extend(names.into_iter().filter(|name| name.version.is_none()));
        let most = self.policy.limits.included + seen.len() + 1;
        for (of, canonicals) in &references.canonicals {
            let urls = canonicals.iter().map(|(url, _)| url.clone()).collect();
            let with_url = self.resources.keyed(of, &["url"], &urls, most).await?;
            found.extend(with_url.into_iter().filter(|stored| is_named(stored, canonicals)));
        }
        Ok(found)
    }

    /// Notes what a parameter of a resource refers to.
    fn references(
        &self,
        definitions: &Definitions,
        parameter: &SearchParameter,
        resource: &Json,
        target: Option<&str>,
        references: &mut References,
    ) {
        let Some(expression) = &parameter.expression else { return };
        let focus = [Value::node(resource)];
        let context = Context { resource: Some(focus[0].clone()), ..Context::new(definitions) };
        let Ok(values) = expression.evaluate(&context, &focus) else { return };
        for value in &values {
            match value.type_name() {
                "Reference" => {
                    let text = value.json().and_then(|json| json.str_at(&["reference"]));
                    let name = text.and_then(|text| self.name_of(definitions, text));
                    let name = name.filter(|name| target.is_none_or(|of| of == name.resource_type));
                    references.resources.extend(name);
                }
                "canonical" | "uri" => {
                    let Some(text) = value.as_str() else { continue };
                    let text = text.split('#').next().unwrap_or_default();
                    let (url, version) = match text.split_once('|') {
                        Some((url, version)) => (url, Some(version.to_owned())),
                        None => (text, None),
                    };
                    for of in parameter.target.iter().map(String::as_str) {
                        if target.is_none_or(|target| target == of) {
                            let canonicals = references.canonicals.entry(of.to_owned());
                            canonicals.or_default().insert((url.to_owned(), version.clone()));
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// The resource of ours that a reference names.
    fn name_of(&self, definitions: &Definitions, text: &str) -> Option<Named> {
        let own = text.strip_prefix(&self.base).and_then(|rest| rest.strip_prefix('/'));
        let steps: Vec<&str> = own.unwrap_or(text).split('/').collect();
        let (of, id, version) = match steps.as_slice() {
            [of, id] => (*of, *id, None),
            [of, id, "_history", version] => (*of, *id, Some(version.parse().ok()?)),
            _ => return None,
        };
        let known = definitions.is_resource(of) && is_id(id);
        known.then(|| Named { resource_type: of.to_owned(), id: id.to_owned(), version })
    }

    /// What refers to resources.
    async fn referring(
        &self,
        definitions: &Definitions,
        includes: &[&Include<'_>],
        from: &[Stored],
        left: usize,
        seen: &mut BTreeSet<Named>,
    ) -> Result<Vec<Stored>, Error> {
        let most = left + seen.len() + 1;
        let mut found = Vec::new();
        for include in includes.iter().filter(|include| include.reverse) {
            let keys = keys(from.iter().filter(|stored| {
                include.target.is_none_or(|target| target == stored.resource_type)
            }));
            let sources: Vec<&str> = match include.source {
                Some(source) => vec![source],
                None => definitions.resource_types().collect(),
            };
            for of in sources.into_iter().filter(|_| !keys.is_empty()) {
                let codes: Vec<&str> = referring_parameters(definitions, of, include.code)
                    .map(|parameter| parameter.code.as_str())
                    .collect();
                found.extend(self.resources.keyed(of, &codes, &keys, most).await?);
            }
        }
        seen.extend(found.iter().map(|stored| Named { version: None, ..named(stored) }));
        Ok(found)
    }
}

/// Reads the parameters.
fn includes<'p>(
    definitions: &Definitions,
    parameters: &'p [(String, String)],
) -> Result<Vec<Include<'p>>, Error> {
    let mut includes = Vec::new();
    let mut issues = Vec::new();
    for (given, value) in parameters {
        let (name, modifier) = match given.split_once(':') {
            Some((name, modifier)) => (name, Some(modifier)),
            None => (given.as_str(), None),
        };
        let reverse = match name {
            "_include" => false,
            "_revinclude" => true,
            _ => continue,
        };
        if value.is_empty() {
            continue;
        }
        let form = format!(
            "expected is a type and one of its reference parameters, as in {name}=Observation:subject, {name}=Observation:subject:Patient or {name}=Observation:*."
        );
        let mut fault = |text: String| {
            issues.push(
                Issue::error(IssueType::Value, format!("{text}; {form}"))
                    .at(format!("http.{name}")),
            );
        };
        let iterate = match modifier {
            None => false,
            // The name of the draft before R4.
            Some("iterate" | "recurse") => true,
            Some(_) => {
                fault(format!("{name} knows the modifier :iterate only"));
                continue;
            }
        };
        let shown = |text: &str| text.chars().take(64).collect::<String>();
        let mut parts = value.splitn(3, ':');
        let some = |part: Option<&'p str>| part.filter(|part| *part != "*");
        let first = parts.next();
        let (source, second, third) = (some(first), parts.next(), parts.next());
        if source.is_some_and(|of| !definitions.is_resource(of)) {
            fault(format!("{name} names {:?}, which is no resource type", shown(value)));
            continue;
        }
        if second.is_none() && first != Some("*") {
            fault(format!("{name}={} names no parameter", shown(value)));
            continue;
        }
        let (code, target) = (some(second), some(third));
        let parameter = match (source, code) {
            (Some(source), Some(code)) => {
                let known = definitions.search_parameter(source, code);
                let known = known.filter(|known| known.kind == SearchKind::Reference);
                if known.is_none() {
                    fault(format!("{source} has no reference parameter {:?}", shown(code)));
                    continue;
                }
                known
            }
            (None, Some(_)) => {
                fault(format!("{name}={} names a parameter of no type", shown(value)));
                continue;
            }
            _ => None,
        };
        let refers_to = |of: &str| {
            definitions.is_resource(of)
                && parameter.is_none_or(|parameter| {
                    parameter.target.is_empty() || parameter.target.iter().any(|to| to == of)
                })
        };
        if target.is_some_and(|of| !refers_to(of)) {
            fault(format!("{name}={} names a target that it never refers to", shown(value)));
            continue;
        }
        includes.push(Include { source, code, target, reverse, iterate });
    }
    if issues.is_empty() { Ok(includes) } else { Err(Error::Unparseable(issues)) }
}

/// The reference parameters of a type, or the one with this code.
fn referring_parameters<'d>(
    definitions: &'d Definitions,
    of: &str,
    code: Option<&str>,
) -> impl Iterator<Item = &'d SearchParameter> {
    definitions.search_parameters(of).filter(move |parameter| {
        parameter.kind == SearchKind::Reference && code.is_none_or(|code| code == parameter.code)
    })
}

fn named(stored: &Stored) -> Named {
    let Stored { resource_type, id, version, .. } = stored;
    Named { resource_type: resource_type.clone(), id: id.clone(), version: Some(*version) }
}

/// Notes current versions as seen, by name and by version.
fn note(seen: &mut BTreeSet<Named>, found: &[Stored]) {
    for stored in found {
        seen.insert(Named { version: None, ..named(stored) });
        seen.insert(named(stored));
    }
}

/// The keys under which references to resources are found.
fn keys<'s>(targets: impl Iterator<Item = &'s Stored>) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for stored in targets {
        // Nothing elsewhere refers to a contained resource.
        if stored.id.contains('#') {
            continue;
        }
        keys.insert(format!("{}/{}", stored.resource_type, stored.id));
        let body = stored.body.as_ref().filter(|body| body.contains("\"url\""));
        let Some(Ok(resource)) = body.map(|body| Json::parse(body.as_bytes())) else { continue };
        if let Some(url) = resource.str_at(&["url"]) {
            keys.insert(key::canonical(url, ""));
            keys.extend(resource.str_at(&["version"]).map(|version| key::canonical(url, version)));
        }
    }
    keys
}

/// Whether one of the canonicals means this resource, which has the url of one.
fn is_named(stored: &Stored, canonicals: &BTreeSet<(String, Option<String>)>) -> bool {
    let Some(Ok(resource)) = stored.body.as_ref().map(|body| Json::parse(body.as_bytes())) else {
        return false;
    };
    let (url, version) = (resource.str_at(&["url"]), resource.str_at(&["version"]));
    canonicals.iter().any(|(named, of)| {
        Some(named.as_str()) == url && (of.is_none() || of.as_deref() == version)
    })
}

fn too_much(most: usize) -> Error {
    Error::Unparseable(vec![
        Issue::error(
            IssueType::TooCostly,
            format!("More would be included than fits one answer ({most} resources at most); ask for fewer matches, as in _count=10, or include less."),
        )
        .at("http._include"),
    ])
}
