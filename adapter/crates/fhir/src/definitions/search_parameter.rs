//! Search parameters: <https://hl7.org/fhir/R4/searchparameter.html>.

use std::collections::HashMap;

use super::element::Types;
use super::rows;
use crate::path::{Expression, PathError, branches};
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
    /// Where its values stand in a resource of the base type; `None` for those that no element
    /// holds, for example `_text`.
    pub expression: Option<Expression>,
    /// The parts of a composite: canonical of each part's SearchParameter and its expression on
    /// an item of [`SearchParameter::expression`].
    pub components: Vec<(String, Expression)>,
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

/// Search parameters by base type.
#[derive(Clone, Debug, Default)]
pub(super) struct SearchParameters(HashMap<String, Vec<SearchParameter>>);

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
        types: &Types,
        issues: &mut Vec<Issue>,
    ) -> SearchParameters {
        let mut parameters = SearchParameters::default();
        for [url, code, kind, bases, targets, expression, components] in rows(table) {
            let Some(kind) = SearchKind::parse(kind) else {
                issues.push(unknown_kind(url, kind));
                continue;
            };
            let words = |text: &'static str| text.split(' ').filter(|word| !word.is_empty());
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
            match parameter(source, base, types) {
                Ok(parameter) => {
                    let known = self.0.entry((*base).to_string()).or_default();
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

    pub(super) fn of(&self, base: &str) -> &[SearchParameter] {
        self.0.get(base).map_or(&[], Vec::as_slice)
    }
}

fn unknown_kind(url: &str, kind: &str) -> Issue {
    let reason = format!("the SearchParameter {url} has the unknown type \"{kind}\"");
    Issue::error(IssueType::CodeInvalid, reason)
}

fn parameter(source: &Source, base: &str, types: &Types) -> Result<SearchParameter, PathError> {
    let part = |(definition, expression): &(&str, &str)| {
        Ok(((*definition).to_string(), Expression::parse(expression)?))
    };
    Ok(SearchParameter {
        url: source.url.into(),
        code: source.code.into(),
        kind: source.kind,
        target: source.targets.iter().map(|target| (*target).to_string()).collect(),
        expression: expression(source.expression, base, types)?,
        components: source.components.iter().map(part).collect::<Result<_, PathError>>()?,
    })
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
