//! Search parameters: <https://hl7.org/fhir/R4/searchparameter.html>.

use std::collections::HashMap;
use std::sync::Arc;

use super::element::Types;
use super::rows;
use crate::path::{Expression, PathError, branches};
use crate::search::is_offered;
use crate::{Issue, IssueType, Json};

/// One search parameter as it applies to one base type.
#[derive(Clone, Debug)]
pub struct SearchParameter {
    /// Canonical of the SearchParameter.
    pub url: String,
    /// Its name in a search.
    pub code: String,
    /// How its values are compared.
    pub kind: SearchKind,
    /// Resource types that a reference may point to; empty means any.
    pub target: Vec<String>,
    /// Where its values stand in a resource of the base type; `None` when no part of the
    /// expression applies to it.
    pub expression: Option<Expression>,
    /// The parts of a composite.
    pub components: Vec<Component>,
}

/// One part of a composite parameter.
#[derive(Clone, Debug)]
pub struct Component {
    /// Canonical of the SearchParameter that says how its values are compared.
    pub definition: String,
    /// How they are compared.
    pub kind: SearchKind,
    /// Resource types that a reference may point to; empty means any.
    pub target: Vec<String>,
    /// Where its values stand in an item of the composite's expression.
    pub expression: Expression,
}

/// <https://hl7.org/fhir/R4/valueset-search-param-type.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the codes of the value set")]
pub enum SearchKind {
    Number,
    Date,
    String,
    Token,
    Reference,
    Composite,
    Quantity,
    Uri,
    Special,
}

impl SearchKind {
    /// Reads the code of the value set.
    pub fn parse(code: &str) -> Option<SearchKind> {
        Some(match code {
            "number" => SearchKind::Number,
            "date" => SearchKind::Date,
            "string" => SearchKind::String,
            "token" => SearchKind::Token,
            "reference" => SearchKind::Reference,
            "composite" => SearchKind::Composite,
            "quantity" => SearchKind::Quantity,
            "uri" => SearchKind::Uri,
            "special" => SearchKind::Special,
            _ => return None,
        })
    }

    /// The code of the value set.
    pub fn code(self) -> &'static str {
        match self {
            SearchKind::Number => "number",
            SearchKind::Date => "date",
            SearchKind::String => "string",
            SearchKind::Token => "token",
            SearchKind::Reference => "reference",
            SearchKind::Composite => "composite",
            SearchKind::Quantity => "quantity",
            SearchKind::Uri => "uri",
            SearchKind::Special => "special",
        }
    }
}

/// Search parameters by base type. Copies share those of a base until one of them adds to it.
#[derive(Clone, Debug, Default)]
pub(super) struct SearchParameters {
    by_base: Arc<HashMap<String, Arc<Vec<SearchParameter>>>>,
    /// Type and targets by canonical, for the parts of composites.
    by_url: Arc<HashMap<String, (SearchKind, Vec<String>)>>,
}

/// A SearchParameter before its expression is split.
struct Source<'a> {
    url: &'a str,
    code: &'a str,
    kind: SearchKind,
    bases: Vec<&'a str>,
    targets: Vec<&'a str>,
    expression: &'a str,
    components: Vec<(&'a str, &'a str)>,
}

impl SearchParameters {
    pub(super) fn read(
        table: &'static str,
        corrections: &'static str,
        types: &Types,
        issues: &mut Vec<Issue>,
    ) -> SearchParameters {
        let mut parameters = SearchParameters::default();
        let words = |text: &'static str| text.split(' ').filter(|word| !word.is_empty());
        // A composite may stand before its parts.
        for [url, _, kind, _, targets] in rows(table) {
            if let Some(kind) = SearchKind::parse(kind) {
                let targets = words(targets).map(str::to_string).collect();
                let by_url = Arc::make_mut(&mut parameters.by_url);
                by_url.insert(url.to_string(), (kind, targets));
            }
        }
        let corrected: HashMap<&str, &str> =
            rows(corrections).map(|[url, components]| (url, components)).collect();
        for [url, code, kind, bases, targets, expression, components] in rows(table) {
            let components = corrected.get(url).copied().unwrap_or(components);
            let Some(kind) = SearchKind::parse(kind) else {
                issues.push(unknown_kind(url, kind));
                continue;
            };
            // No element holds the values of _text, _content and _query: they are not offered.
            if expression.is_empty() {
                continue;
            }
            parameters.insert(
                &Source {
                    url,
                    code,
                    kind,
                    bases: words(bases).collect(),
                    targets: words(targets).collect(),
                    expression,
                    components: components
                        .split(" ; ")
                        .filter_map(|part| part.split_once(' '))
                        .collect(),
                },
                types,
                issues,
            );
        }
        parameters
    }

    pub(super) fn add(&mut self, resource: &Json, types: &Types) -> Vec<Issue> {
        let text = |name: &str| resource.str_at(&[name]).unwrap_or_default();
        if text("resourceType") != "SearchParameter" {
            let reason = format!("a {} is no definition that can be added", text("resourceType"));
            return vec![Issue::error(IssueType::NotSupported, reason)];
        }
        let url = text("url");
        let Some(kind) = SearchKind::parse(text("type")) else {
            return vec![unknown_kind(url, text("type"))];
        };
        let list = |name: &str| resource.list(name).iter().filter_map(Json::as_str).collect();
        let component = |part: &'_ Json| -> Option<(String, String)> {
            let definition = part.str_at(&["definition"])?.to_string();
            Some((definition, part.str_at(&["expression"])?.to_string()))
        };
        let components: Vec<(String, String)> =
            resource.list("component").iter().filter_map(component).collect();
        let source = Source {
            url,
            code: text("code"),
            kind,
            bases: list("base"),
            targets: list("target"),
            expression: text("expression"),
            components: components.iter().map(|(d, e)| (d.as_str(), e.as_str())).collect(),
        };
        let mut issues = Vec::new();
        if source.code.is_empty() || source.bases.is_empty() {
            let reason = format!("the SearchParameter {url} has no code or no base");
            issues.push(Issue::error(IssueType::Required, reason));
            return issues;
        }
        if source.expression.is_empty() || kind == SearchKind::Special {
            let reason = format!(
                "the SearchParameter {url} has no expression or is special; only what an expression finds can be indexed"
            );
            issues.push(Issue::error(IssueType::NotSupported, reason));
            return issues;
        }
        let targets = source.targets.iter().map(|target| (*target).to_string()).collect();
        Arc::make_mut(&mut self.by_url).insert(url.to_string(), (kind, targets));
        self.insert(&source, types, &mut issues);
        issues
    }

    fn insert(&mut self, source: &Source, types: &Types, issues: &mut Vec<Issue>) {
        for base in &source.bases {
            if types.find(base).is_none() {
                let reason = format!("the base {base} of {} is no resource type", source.url);
                issues.push(Issue::error(IssueType::Value, reason));
                continue;
            }
            match self.parameter(source, base, types) {
                Ok(parameter) => {
                    let is_whole = parameter.components.len() == source.components.len();
                    if parameter.kind == SearchKind::Composite
                        && !(is_whole && is_offered(&parameter.components))
                    {
                        let reason = format!(
                            "the parts of the composite SearchParameter {} are not known or of types that are not offered together",
                            source.url
                        );
                        issues.push(Issue::error(IssueType::NotSupported, reason));
                        return;
                    }
                    let by_base = Arc::make_mut(&mut self.by_base);
                    let known = Arc::make_mut(by_base.entry((*base).to_string()).or_default());
                    known.retain(|other| other.code != parameter.code);
                    known.push(parameter);
                }
                Err(error) => {
                    let reason = format!("the expression of {}: {error}", source.url);
                    issues.push(Issue::error(IssueType::Invalid, reason));
                }
            }
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &SearchParameter> {
        self.by_base.values().flat_map(|known| known.iter())
    }

    pub(super) fn of(&self, base: &str) -> &[SearchParameter] {
        self.by_base.get(base).map_or(&[], |known| known.as_slice())
    }

    fn parameter(
        &self,
        source: &Source,
        base: &str,
        types: &Types,
    ) -> Result<SearchParameter, PathError> {
        let part = |(definition, expression): &(&str, &str)| {
            let url = definition.split('|').next().unwrap_or_default();
            let (kind, target) = self.by_url.get(url)?;
            Some(Expression::parse(expression).map(|expression| Component {
                definition: (*definition).to_string(),
                kind: *kind,
                target: target.clone(),
                expression,
            }))
        };
        Ok(SearchParameter {
            url: source.url.into(),
            code: source.code.into(),
            kind: source.kind,
            target: source.targets.iter().map(|target| (*target).to_string()).collect(),
            expression: expression(source.expression, base, types)?,
            components: source.components.iter().filter_map(part).collect::<Result<_, _>>()?,
        })
    }
}

fn unknown_kind(url: &str, kind: &str) -> Issue {
    let reason = format!("the SearchParameter {url} has the unknown type \"{kind}\"");
    Issue::error(IssueType::CodeInvalid, reason)
}

/// The branches of a union that can apply to the base type: those that begin with it, with a type
/// from which it is derived, or with no type at all.
fn expression(text: &str, base: &str, types: &Types) -> Result<Option<Expression>, PathError> {
    if text.is_empty() {
        return Ok(None);
    }
    let applies = |name: Option<&str>| match name.filter(|name| types.find(name).is_some()) {
        Some(name) => {
            let kind = types.find(base);
            kind.is_some_and(|kind| types.lineage(kind).any(|ancestor| ancestor.name == name))
        }
        None => true,
    };
    let kept: Vec<&str> = branches(text)?
        .into_iter()
        .filter(|(name, _)| applies(*name))
        .map(|(_, branch)| branch)
        .collect();
    match kept.is_empty() {
        true => Ok(None),
        false => Expression::parse(&kept.join(" | ")).map(Some),
    }
}
