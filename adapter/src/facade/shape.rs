//! Parts of resources in answers: <https://hl7.org/fhir/R4/search.html#summary> and
//! <https://hl7.org/fhir/R4/search.html#elements>.
//!
//! Reads `_summary` and `_elements` of an interaction and applies them to whatever answers it. A
//! Bundle stays whole, the resources in it do not; outcomes are left alone. Elements without a type
//! are those of the type that is asked for, so they leave included resources alone. `count` has no
//! resources to shape: searches and histories read it themselves.

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::rest::Interaction;
use lumbar_fhir::summary::{self, Part};
use lumbar_fhir::{Issue, IssueType, Json};

use super::{Error, Reply};

/// Most names in `_elements`.
const MAX_ELEMENTS: usize = 200;

/// What an answer is to be made of.
pub(super) struct Shape {
    wanted: Wanted,
    /// Whether the answer is a Bundle around what was asked for.
    is_bundle: bool,
}

enum Wanted {
    Part(Part),
    /// Elements with the type that they are of, if it was named.
    Elements(Vec<(Option<String>, String)>),
}

impl Shape {
    /// What an interaction asks for; `None`: whole resources.
    ///
    /// # Errors
    /// [`Error::Unparseable`] for a value that R4 does not know.
    pub(super) fn asked(
        definitions: &Definitions,
        interaction: &Interaction,
    ) -> Result<Option<Shape>, Error> {
        let (parameters, of, is_bundle) = match interaction {
            Interaction::Read { resource_type, parameters, .. }
            | Interaction::Vread { resource_type, parameters, .. } => {
                (parameters, Some(resource_type.as_str()), false)
            }
            Interaction::History { resource_type, parameters, .. }
            | Interaction::Search { resource_type, parameters, .. } => {
                (parameters, resource_type.as_deref(), true)
            }
            // What an operation gives is known when it is there.
            Interaction::Operation { parameters, .. } => (parameters, None, true),
            _ => return Ok(None),
        };
        let summary = given(parameters, "_summary")?;
        let elements = given(parameters, "_elements")?;
        let part = match summary {
            None | Some("false") => None,
            Some("true") => Some(Part::Summary),
            Some("text") => Some(Part::Text),
            Some("data") => Some(Part::Data),
            Some("count") if is_bundle => {
                return match elements {
                    Some(_) => Err(both()),
                    None => Ok(None),
                };
            }
            Some("count") => {
                return Err(unreadable(
                    "_summary",
                    "true, text, data or false where one resource is read",
                ));
            }
            Some(_) => return Err(unreadable("_summary", "true, text, data, count or false")),
        };
        let includes = |name: &str| {
            let name = name.split(':').next();
            matches!(name, Some("_include" | "_revinclude"))
        };
        if part == Some(Part::Text) && parameters.iter().any(|(name, _)| includes(name)) {
            return Err(unreadable(
                "_summary",
                "something else than text where _include or _revinclude is asked for",
            ));
        }
        let wanted = match (part, elements) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return Err(both()),
            (Some(part), None) => Wanted::Part(part),
            (None, Some(list)) => Wanted::Elements(names(definitions, of, list)?),
        };
        Ok(Some(Shape { wanted, is_bundle }))
    }

    /// The answer with the parts that are wanted of its resources.
    ///
    /// # Errors
    /// [`Error::Internal`] when the answer cannot be read.
    pub(super) fn apply(&self, definitions: &Definitions, reply: Reply) -> Result<Reply, Error> {
        let Some(body) = &reply.body else { return Ok(reply) };
        let mut answer = Json::parse(body.as_bytes()).map_err(|error| {
            tracing::error!(%error, "an answer cannot be read");
            Error::Internal
        })?;
        let is_bundle = answer.str_at(&["resourceType"]) == Some("Bundle");
        if !(self.is_bundle && is_bundle) {
            answer = self.shaped(definitions, &answer, false).unwrap_or(answer);
        } else if let Some(Json::Array(entries)) = answer.get_mut("entry") {
            for entry in entries {
                let is_included = entry.str_at(&["search", "mode"]) == Some("include");
                let shaped = entry
                    .get("resource")
                    .and_then(|resource| self.shaped(definitions, resource, is_included));
                if let Some(shaped) = shaped {
                    entry.set("resource", shaped);
                }
            }
        }
        Ok(Reply { body: Some(answer.to_string().into()), ..reply })
    }

    /// The part of a resource; `None`: all of it.
    fn shaped(
        &self,
        definitions: &Definitions,
        resource: &Json,
        is_included: bool,
    ) -> Option<Json> {
        let of = resource.str_at(&["resourceType"])?;
        if matches!(of, "OperationOutcome" | "Parameters") {
            return None;
        }
        match &self.wanted {
            Wanted::Part(part) => Some(summary::part(definitions, resource, part)),
            Wanted::Elements(names) => {
                let applies = |named: &Option<String>| match named {
                    Some(named) => named == of,
                    None => !is_included,
                };
                let names: Vec<String> = names
                    .iter()
                    .filter(|(named, _)| applies(named))
                    .map(|(_, name)| name.clone())
                    .collect();
                let part = (!names.is_empty()).then_some(Part::Elements(names))?;
                Some(summary::part(definitions, resource, &part))
            }
        }
    }
}

/// The value of a parameter that may be given once.
fn given<'a>(parameters: &'a [(String, String)], wanted: &str) -> Result<Option<&'a str>, Error> {
    let mut values = parameters.iter().filter(|(name, value)| name == wanted && !value.is_empty());
    let first = values.next().map(|(_, value)| value.as_str());
    match values.next() {
        Some(_) => Err(unreadable(wanted, "one value; elements are a list with commas")),
        None => Ok(first),
    }
}

/// Reads `name,Type.name,…`.
fn names(
    definitions: &Definitions,
    of: Option<&str>,
    list: &str,
) -> Result<Vec<(Option<String>, String)>, Error> {
    let mut names = Vec::new();
    for item in list.split(',').map(str::trim) {
        let (named, name) = match item.split_once('.') {
            Some((named, name)) => (Some(named), name),
            None => (None, item),
        };
        let known = match named.or(of) {
            Some(of) => definitions.is_resource(of) && summary::has_element(definitions, of, name),
            None => !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        };
        if !known {
            return Err(unreadable(
                "_elements",
                "a list of elements at the top of a resource, as in _elements=identifier,Patient.name",
            ));
        }
        names.push((named.map(str::to_owned), name.to_owned()));
    }
    if names.len() > MAX_ELEMENTS {
        let text =
            format!("_elements names {} elements; name {MAX_ELEMENTS} at most.", names.len());
        let issue = Issue::error(IssueType::TooCostly, text).at("http._elements");
        return Err(Error::Unparseable(vec![issue]));
    }
    Ok(names)
}

fn both() -> Error {
    unreadable("_elements", "no _summary beside it, or _summary=false")
}

fn unreadable(name: &str, expected: &str) -> Error {
    Error::Unparseable(vec![
        Issue::error(
            IssueType::Value,
            format!("The parameter {name} cannot be used so; expected is {expected}."),
        )
        .at(format!("http.{name}")),
    ])
}

/// Refuses a resource that says that it is only a part of one: writing it would lose the rest.
pub(super) fn refuse_part(resource: &Json) -> Result<(), Error> {
    if !summary::is_part(resource) {
        return Ok(());
    }
    let of = resource.str_at(&["resourceType"]).unwrap_or("Resource");
    Err(Error::Invalid(vec![
        Issue::error(
            IssueType::BusinessRule,
            "The resource is tagged SUBSETTED, so it is only a part and writing it would lose the rest: read it without _summary and _elements, change that, or take the tag off if it is whole.",
        )
        .at(format!("{of}.meta.tag")),
    ]))
}
