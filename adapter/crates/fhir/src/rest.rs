//! The grammar of a REST request: <https://hl7.org/fhir/R4/http.html>.
//!
//! The one place that knows FHIR's URLs. An HTTP request and an entry of a batch or transaction are
//! read by the same function, so the two cannot differ.

use crate::definitions::Definitions;
use crate::{Issue, IssueType, Json};

/// The HTTP methods that FHIR uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

/// A request, whether it came by HTTP or inside a Bundle.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path below the FHIR base without a leading `/`, still percent-encoded.
    pub path: String,
    /// Query after `?`, still percent-encoded; empty when there is none.
    pub query: String,
    /// `If-Match`, as sent.
    pub if_match: Option<String>,
    /// `If-None-Match`, as sent. Only an update looks at it here.
    pub if_none_match: Option<String>,
    /// `If-None-Exist`, as sent.
    pub if_none_exist: Option<String>,
    /// The resource in the body.
    pub body: Option<Json>,
    /// Parameters of a form body (`POST [type]/_search`), still percent-encoded.
    pub form: Option<String>,
}

/// Name and value of each parameter, in order.
pub type Parameters = Vec<(String, String)>;

/// Which resource of a type is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The one with this logical id.
    Id(String),
    /// The one, or those, that a search finds: <https://hl7.org/fhir/R4/http.html#cond-update>.
    Matching(Parameters),
}

/// How a resource must stand for a write to happen: RFC 9110, 13.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// `If-Match`: one of these versions is the current one. Entity tags that were not given here
    /// name none.
    Versions(Vec<i64>),
    /// `If-Match: *`: it is there.
    Exists,
    /// `If-None-Match: *`: it is not there.
    Absent,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub enum Interaction {
    /// `GET metadata`.
    Capabilities {
        /// The query's parameters.
        parameters: Parameters,
    },
    /// `GET [type]/[id]`.
    Read {
        #[expect(missing_docs, reason = "the names say it")]
        resource_type: String,
        /// Logical id.
        id: String,
        /// The query's parameters, which shape the answer.
        parameters: Parameters,
    },
    /// `GET [type]/[id]/_history/[vid]`.
    Vread {
        #[expect(missing_docs, reason = "the names say it")]
        resource_type: String,
        /// Logical id.
        id: String,
        /// Version, from 1.
        version: i64,
        /// The query's parameters, which shape the answer.
        parameters: Parameters,
    },
    /// `GET _history`, `GET [type]/_history` or `GET [type]/[id]/_history`.
    History {
        /// `None` for all types.
        resource_type: Option<String>,
        /// Logical id; `None` for all of the type.
        id: Option<String>,
        /// The query's parameters.
        parameters: Parameters,
    },
    /// `GET [type]?…`, `GET ?…`, `GET [compartment]/[id]/[type]?…`, or `POST` to `_search` there.
    Search {
        /// `None` for all types, or those that `_type` names.
        resource_type: Option<String>,
        /// Type and id of the resource whose compartment is searched.
        compartment: Option<(String, String)>,
        /// The search parameters in order.
        parameters: Parameters,
    },
    /// `POST [type]`.
    Create {
        /// The resource, whose type is that of the path.
        resource: Json,
        /// Search that must find nothing for the create to happen.
        if_none_exist: Option<Parameters>,
    },
    /// `PUT [type]/[id]` or `PUT [type]?…`.
    Update {
        /// The resource, whose type is that of the path, and so is its id, unless a search says
        /// which resource is meant; then it may have none.
        resource: Json,
        /// Which resource it replaces.
        target: Target,
        /// How it must stand for that to happen.
        precondition: Option<Precondition>,
    },
    /// `PATCH [type]/[id]` or `PATCH [type]?…`.
    Patch {
        #[expect(missing_docs, reason = "the names say it")]
        resource_type: String,
        /// Which resource is changed.
        target: Target,
        /// A JSON Patch (an array), a FHIRPath Patch (Parameters), or a Binary that holds one.
        patch: Json,
        /// How it must stand for that to happen.
        precondition: Option<Precondition>,
    },
    /// `DELETE [type]/[id]` or `DELETE [type]?…`.
    Delete {
        #[expect(missing_docs, reason = "the names say it")]
        resource_type: String,
        /// Which resource, or resources, are deleted.
        target: Target,
        /// How it must stand for that to happen.
        precondition: Option<Precondition>,
    },
    /// `POST` of a batch or transaction to the base.
    Bundle(Json),
    /// An operation (`$name`).
    Operation {
        /// Name without `$`.
        name: String,
        /// Resource type, when invoked on a type or an instance.
        resource_type: Option<String>,
        /// Logical id, when invoked on an instance.
        id: Option<String>,
        /// The query's parameters.
        parameters: Parameters,
        /// The body.
        body: Option<Json>,
        /// Whether the method was POST: only then may the operation change anything.
        post: bool,
    },
}

/// Why a request is no interaction.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// Nothing is at this path.
    NotFound(Issue),
    /// The path exists and knows these methods only.
    MethodNotAllowed(&'static [&'static str]),
    /// The request cannot be understood.
    Invalid(Issue),
    /// The request is FHIR, but not offered here.
    NotSupported(Issue),
}

/// Reads a request.
///
/// # Errors
/// A [`Refusal`] that says what a client should do differently.
pub fn parse(definitions: &Definitions, request: Request) -> Result<Interaction, Refusal> {
    let parameters = decode_pairs(&request.query)?;
    let steps = decode_path(&request.path)?;
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    if let [first, below @ ..] = steps.as_slice()
        && !definitions.is_resource(first)
    {
        let of_all =
            matches!(*first, "metadata" | "_history" | "_search") || first.starts_with('$');
        if !of_all && !first.starts_with('_') {
            return Err(Refusal::NotFound(Issue::error(
                IssueType::NotSupported,
                format!(
                    "\"{}\" is not a resource type of FHIR R4; types are written as in Patient.",
                    shown(first)
                ),
            )));
        }
        if !of_all || !below.is_empty() {
            return Err(nothing_here());
        }
    }
    let get = matches!(request.method, Method::Get | Method::Head);
    match (steps.as_slice(), request.method) {
        (["metadata"], _) if get => Ok(Interaction::Capabilities { parameters }),
        (["metadata"], _) => Err(Refusal::MethodNotAllowed(&["GET", "HEAD"])),
        ([], Method::Post) => bundle(request.body),
        ([], _) if get => search(definitions, &[], parameters),
        ([], _) => Err(Refusal::MethodNotAllowed(&["GET", "HEAD", "POST"])),
        ([.., name], method) if name.starts_with('$') => {
            operation(&steps, method, parameters, request.body)
        }
        ([scope @ .., "_search"], Method::Post) => {
            let mut parameters = parameters;
            parameters.extend(decode_pairs(request.form.as_deref().unwrap_or_default())?);
            search(definitions, scope, parameters)
        }
        ([.., "_search"], _) => Err(Refusal::MethodNotAllowed(&["POST"])),
        ([scope @ .., "_history"], _) if scope.len() <= 2 && get => Ok(Interaction::History {
            resource_type: scope.first().map(|of| (*of).to_owned()),
            id: scope.get(1).map(|id| checked_id(id)).transpose()?,
            parameters,
        }),
        ([of, id, "_history", version], _) if get => match version.parse() {
            Ok(version) if version > 0 => Ok(Interaction::Vread {
                resource_type: (*of).into(),
                id: checked_id(id)?,
                version,
                parameters,
            }),
            _ => Err(Refusal::NotFound(Issue::error(
                IssueType::NotFound,
                "There is no such version; versions here are whole numbers from 1.",
            ))),
        },
        (["_history"] | [_, "_history"] | [_, _, "_history"] | [_, _, "_history", _], _) => {
            Err(Refusal::MethodNotAllowed(&["GET", "HEAD"]))
        }
        ([of], Method::Post) => {
            let resource = typed_body(request.body, of)?;
            let if_none_exist = request.if_none_exist.as_deref().map(|text| criteria(text, of));
            Ok(Interaction::Create { resource, if_none_exist: if_none_exist.transpose()? })
        }
        ([of] | [of, _], Method::Put) => {
            let target = target(&steps, parameters)?;
            let resource = typed_body(request.body, of)?;
            if let Target::Id(id) = &target {
                same_id(&resource, of, id)?;
            }
            let precondition = match precondition(request.if_match)? {
                None if request.if_none_match.is_some_and(|tags| tags.trim() == "*") => {
                    Some(Precondition::Absent)
                }
                precondition => precondition,
            };
            Ok(Interaction::Update { resource, target, precondition })
        }
        ([of] | [of, _], Method::Patch) => Ok(Interaction::Patch {
            resource_type: (*of).into(),
            target: target(&steps, parameters)?,
            patch: request.body.ok_or_else(|| {
                Refusal::Invalid(Issue::error(
                    IssueType::Required,
                    "The request has no body; send a JSON Patch or a Parameters resource.",
                ))
            })?,
            precondition: precondition(request.if_match)?,
        }),
        ([of] | [of, _], Method::Delete) => Ok(Interaction::Delete {
            resource_type: (*of).into(),
            target: target(&steps, parameters)?,
            precondition: precondition(request.if_match)?,
        }),
        ([of, id], _) if get => {
            Ok(Interaction::Read { resource_type: (*of).into(), id: checked_id(id)?, parameters })
        }
        ([_, _], _) => Err(Refusal::MethodNotAllowed(&["GET", "HEAD", "PUT", "PATCH", "DELETE"])),
        (scope, _) => match search(definitions, scope, parameters) {
            Ok(_) if !get => Err(Refusal::MethodNotAllowed(&["GET", "HEAD"])),
            result => result,
        },
    }
}

/// `[type]`, nothing for all types, or `[compartment]/[id]/[type]` with `*` for all types.
fn search(
    definitions: &Definitions,
    scope: &[&str],
    parameters: Parameters,
) -> Result<Interaction, Refusal> {
    let (compartment, resource_type) = match scope {
        [] => (None, None),
        [of] => (None, Some(*of)),
        [of, id, "*"] if definitions.is_compartment(of) => (Some((*of, *id)), None),
        [of, id, within] if definitions.is_compartment(of) && definitions.is_resource(within) => {
            (Some((*of, *id)), Some(*within))
        }
        _ => return Err(nothing_here()),
    };
    let compartment = match compartment {
        Some((of, id)) => Some((of.to_owned(), checked_id(id)?)),
        None => None,
    };
    let resource_type = resource_type.map(str::to_owned);
    Ok(Interaction::Search { resource_type, compartment, parameters })
}

/// `[type]/[id]`, or `[type]` and a search.
fn target(steps: &[&str], parameters: Parameters) -> Result<Target, Refusal> {
    match steps.get(1) {
        Some(id) => Ok(Target::Id(checked_id(id)?)),
        None => Ok(Target::Matching(parameters)),
    }
}

fn same_id(resource: &Json, of: &str, id: &str) -> Result<(), Refusal> {
    let (code, text) = match resource.get("id").map(Json::as_str) {
        Some(Some(inside)) if inside == id => return Ok(()),
        Some(_) => (
            IssueType::Invalid,
            "The id in the body differs from the id in the URL; make them equal.",
        ),
        None => {
            (IssueType::Required, "The resource has no id; an update carries the id of its URL.")
        }
    };
    Err(Refusal::Invalid(Issue::error(code, text).at(format!("{of}.id"))))
}

fn nothing_here() -> Refusal {
    Refusal::NotFound(Issue::error(
        IssueType::NotFound,
        "There is nothing at this path of the FHIR service.",
    ))
}

/// Whether `id` follows R4's grammar of an id: 1 to 64 letters, digits, `-` and `.`.
pub fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
}

/// The steps of a path without their percent-encoding.
///
/// # Errors
/// As [`decode_pairs`].
pub fn decode_path(path: &str) -> Result<Vec<String>, Refusal> {
    path.split('/').filter(|step| !step.is_empty()).map(|step| decode(step, false)).collect()
}

/// Splits a query at `&` and takes the percent-encoding away; `+` is a blank.
///
/// # Errors
/// [`Refusal::Invalid`] when the encoding is broken or gives bytes that are not UTF-8.
pub fn decode_pairs(query: &str) -> Result<Vec<(String, String)>, Refusal> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name, true)?, decode(value, true)?))
        })
        .collect()
}

/// Writes a query so that [`decode_pairs`] reads the same back.
pub fn encode_pairs(pairs: &[(String, String)]) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        encode(&mut out, name);
        out.push('=');
        encode(&mut out, value);
    }
    out
}

/// Writes a part of a URL.
pub(crate) fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/,*$".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

fn decode(text: &str, plus: bool) -> Result<String, Refusal> {
    let invalid = || {
        Refusal::Invalid(Issue::error(
            IssueType::Invalid,
            "The URL is not encoded correctly: after % two hexadecimal digits of UTF-8 text must follow.",
        ))
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' if plus => b' ',
            b'%' => {
                let mut digit = || {
                    let digit = char::from(rest.next()?).to_digit(16)?;
                    u8::try_from(digit).ok()
                };
                let (high, low) = (digit().ok_or_else(invalid)?, digit().ok_or_else(invalid)?);
                high * 16 + low
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| invalid())
}

fn checked_id(id: &str) -> Result<String, Refusal> {
    if is_id(id) {
        return Ok(id.to_owned());
    }
    Err(Refusal::Invalid(Issue::error(
        IssueType::Value,
        "This is not an id: 1 to 64 letters, digits, hyphens and points are allowed.",
    )))
}

/// Reads `If-None-Exist`: what stands behind the `?` of a search of the type, or all of that.
fn criteria(text: &str, of: &str) -> Result<Parameters, Refusal> {
    let (before, query) = match text.split_once('?') {
        Some((before, query)) if !before.contains('=') => (before, query),
        _ => ("", text),
    };
    let named = before.rsplit('/').next().unwrap_or_default();
    if named.is_empty() || named == of {
        return decode_pairs(query);
    }
    let text = format!(
        "If-None-Exist searches for another type than the URL; send the parameters of a search for {of}, for example identifier=http://example.org/id|1."
    );
    Err(Refusal::Invalid(Issue::error(IssueType::Value, text)))
}

fn precondition(if_match: Option<String>) -> Result<Option<Precondition>, Refusal> {
    match if_match.as_deref().map(str::trim) {
        None => Ok(None),
        Some("*") => Ok(Some(Precondition::Exists)),
        Some(tags) => match versions(tags) {
            Some(versions) => Ok(Some(Precondition::Versions(versions))),
            None => Err(Refusal::Invalid(Issue::error(
                IssueType::Value,
                "If-Match cannot be read; send the ETag of the version you hold, for example W/\"3\".",
            ))),
        },
    }
}

/// The versions that a list of entity tags names, as in `W/"3", W/"4"`. Much software leaves out the
/// `W/`, and the quotes of a number.
fn versions(tags: &str) -> Option<Vec<i64>> {
    if tags.is_empty() {
        return None;
    }
    let mut versions = Vec::new();
    let mut rest = tags;
    while !rest.is_empty() {
        let tag = rest.strip_prefix("W/").unwrap_or(rest);
        let after = match tag.strip_prefix('"') {
            Some(opaque) => {
                let (opaque, after) = opaque.split_once('"')?;
                versions.extend(opaque.parse::<i64>().ok());
                after
            }
            None => {
                let (number, after) = tag.split_at(tag.find(',').unwrap_or(tag.len()));
                versions.push(number.trim().parse().ok()?);
                after
            }
        };
        rest = after.trim_start();
        if !rest.is_empty() {
            rest = rest.strip_prefix(',')?.trim_start();
        }
    }
    Some(versions)
}

fn typed_body(body: Option<Json>, expected: &str) -> Result<Json, Refusal> {
    let Some(resource) = body else {
        return Err(Refusal::Invalid(Issue::error(
            IssueType::Required,
            format!("The request has no body; send a {expected} resource."),
        )));
    };
    match resource.str_at(&["resourceType"]) {
        Some(found) if found == expected => Ok(resource),
        Some(found) => Err(Refusal::Invalid(
            Issue::error(
                IssueType::Invalid,
                format!("The body is a {}, but the URL is that of a {expected}.", shown(found)),
            )
            .at("resourceType"),
        )),
        None => Err(Refusal::Invalid(
            Issue::error(
                IssueType::Structure,
                "The body is no FHIR resource: the member resourceType is missing or is no text.",
            )
            .at("resourceType"),
        )),
    }
}

fn bundle(body: Option<Json>) -> Result<Interaction, Refusal> {
    let bundle = typed_body(body, "Bundle")?;
    if bundle.get("entry").is_some_and(|entry| entry.as_array().is_none()) {
        let text = "The entries of a Bundle must be a list.";
        let issue = Issue::error(IssueType::Structure, text).at("Bundle.entry");
        return Err(Refusal::Invalid(issue));
    }
    match bundle.str_at(&["type"]) {
        Some("batch" | "transaction") => Ok(Interaction::Bundle(bundle)),
        _ => Err(Refusal::Invalid(
            Issue::error(
                IssueType::Value,
                "A Bundle posted to the base must have the type batch or transaction.",
            )
            .at("Bundle.type"),
        )),
    }
}

fn operation(
    steps: &[&str],
    method: Method,
    parameters: Parameters,
    body: Option<Json>,
) -> Result<Interaction, Refusal> {
    if !matches!(method, Method::Get | Method::Head | Method::Post) {
        return Err(Refusal::MethodNotAllowed(&["GET", "HEAD", "POST"]));
    }
    let (resource_type, id, name) = match steps {
        [name] => (None, None, name),
        [of, name] => (Some((*of).to_owned()), None, name),
        [of, id, name] => (Some((*of).to_owned()), Some(checked_id(id)?), name),
        _ => return Err(nothing_here()),
    };
    let name = name.trim_start_matches('$').to_owned();
    // A GET begins an export, which HEAD, being safe, must not do.
    if method == Method::Head && name == "export" {
        return Err(Refusal::MethodNotAllowed(&["GET", "POST"]));
    }
    let post = method == Method::Post;
    Ok(Interaction::Operation { name, resource_type, id, parameters, body, post })
}

/// A name from outside, cut so that an answer stays short.
fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}
