//! References: <https://hl7.org/fhir/R4/references.html#literal>.
//!
//! The form of a reference, the type that it names and what it finds in `contained` or, by its
//! whole `fullUrl`, in the Bundle. Nothing else is looked up.

use super::invariant::broken;
use super::words::shown;
use super::{Place, Scope, Validator, primitive};
use crate::definitions::ElementType;
use crate::{Issue, IssueType, Json, Object, Severity};

impl<'a> Validator<'a> {
    pub(super) fn reference(
        &mut self,
        of_type: &ElementType,
        object: &'a Object,
        at: &Place,
        scope: Scope<'a>,
    ) {
        let named = object.get("type").and_then(Json::as_str);
        let reference = object.get("reference").and_then(Json::as_str);
        let mut found = None;
        let mut is_at_hand = false;
        if let Some(reference) = reference {
            match self.target(reference, scope) {
                Target::Resource(json) => {
                    is_at_hand = true;
                    found = json.str_at(&["resourceType"]);
                }
                Target::Type(name) => {
                    if let Some(other) = self.other_of_uuid(reference, name) {
                        let text = format!(
                            "The id is the UUID of an entry of the Bundle, which is of type {}, not \
                             {name}; refer to the right one, by urn:uuid: and its UUID.",
                            shown(other)
                        );
                        return self.report(&at.child("reference"), IssueType::Value, text);
                    }
                    found = Some(name);
                }
                Target::Unknown => {}
                Target::NotContained => {
                    return self.push(at, broken("ref-1"));
                }
                Target::Doubtful => {
                    let issue = Issue::warning(IssueType::Value, FORM);
                    return self.push(&at.child("reference"), issue);
                }
                Target::Malformed => {
                    return self.report(&at.child("reference"), IssueType::Value, FORM);
                }
            }
        }
        if let (Some(found), Some(named)) = (found, named)
            && found != named
        {
            let text = format!(
                "The target is a {}, and the type of the reference names another one; correct the \
                 type or leave it out.",
                shown(found)
            );
            self.report(at, IssueType::Value, text);
        }
        let Some(name) = found.or(named).filter(|name| self.definitions.is_resource(name)) else {
            return;
        };
        let mut targets = of_type.targets().peekable();
        if targets.peek().is_some() && !targets.any(|target| self.definitions.is_a(name, target)) {
            let allowed: Vec<&str> = of_type.targets().collect();
            let text = format!(
                "The reference may point to {} only, and its target is a {name}.",
                allowed.join(", ")
            );
            // A type that is only what the text claims is doubtful: an example of the standard
            // itself claims a wrong one.
            let severity = if is_at_hand { Severity::Error } else { Severity::Warning };
            self.push(at, Issue::error(IssueType::Value, text).severity(severity));
        }
    }

    /// The type of the entry whose UUID a relative reference has for the id of another type. The
    /// rules of Bundles resolve no such reference, and a UUID means one resource only.
    fn other_of_uuid(&self, text: &str, name: &str) -> Option<&'a str> {
        const LENGTH: usize = "5d9588d8-3cd6-4b32-8fb7-ad13694e069d".len();
        let (_, id) = text.split_once('/').filter(|(_, id)| id.len() == LENGTH)?;
        let entry = self.entries.get(format!("urn:uuid:{id}").as_str())?;
        entry.str_at(&["resourceType"]).filter(|other| *other != name)
    }

    fn target(&self, text: &'a str, scope: Scope<'a>) -> Target<'a> {
        let definitions = self.definitions;
        if let Some(id) = text.strip_prefix('#') {
            if id.is_empty() {
                let is_right = scope.is_contained;
                return if is_right {
                    Target::Resource(scope.container)
                } else {
                    Target::NotContained
                };
            }
            let found = self.contained.get(id);
            return found.map_or(Target::NotContained, |resource| Target::Resource(resource));
        }
        if let Some(resource) = self.entries.get(text) {
            return Target::Resource(resource);
        }
        if text.bytes().any(|byte| byte.is_ascii_whitespace()) {
            return Target::Malformed;
        }
        let is_absolute = has_scheme(text);
        match instance(text) {
            Some((name, is_alone))
                if definitions.is_resource(name) && (is_alone || is_absolute) =>
            {
                Target::Type(name)
            }
            _ if is_absolute => Target::Unknown,
            // A conditional reference stands in a transaction only, where the server resolves it.
            _ => match text.split_once('?') {
                Some((name, query))
                    if !query.is_empty()
                        && definitions.is_resource(name)
                        && scope.bundle.is_some_and(is_request) =>
                {
                    Target::Type(name)
                }
                None if scope.bundle.is_none() => Target::Doubtful,
                _ => Target::Malformed,
            },
        }
    }
}

const FORM: &str = "A reference is Type/id, Type/id/_history/version, an absolute url, or # and \
                    the id of a contained resource.";

/// What the text of a reference tells about its target.
enum Target<'a> {
    /// The target itself.
    Resource(&'a Json),
    /// Only its type, as the text has it.
    Type(&'a str),
    Unknown,
    NotContained,
    /// A relative url of another form: no resource of a FHIR server, and ruled out in a Bundle.
    Doubtful,
    Malformed,
}

/// The type of `…/Type/id` and `…/Type/id/_history/version`, and whether nothing stands before it.
pub(super) fn instance(text: &str) -> Option<(&str, bool)> {
    let text = text.split('#').next().unwrap_or(text);
    let text = match text.split_once("/_history/") {
        Some((before, version)) => primitive::is_id(version).then_some(before)?,
        None => text,
    };
    let (before, id) = text.rsplit_once('/')?;
    let (is_alone, name) = match before.rsplit_once('/') {
        Some((_, name)) => (false, name),
        None => (true, before),
    };
    primitive::is_id(id).then_some((name, is_alone))
}

/// Whether a text begins with a scheme: <https://www.rfc-editor.org/rfc/rfc3986#section-3.1>.
pub(super) fn has_scheme(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
            && !rest.is_empty()
    })
}

fn is_request(bundle: &Json) -> bool {
    matches!(bundle.str_at(&["type"]), Some("transaction" | "batch"))
}
