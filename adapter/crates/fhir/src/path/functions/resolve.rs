//! `resolve()`: <https://hl7.org/fhir/R4/references.html> and
//! <https://hl7.org/fhir/R4/bundle.html#references>.
//!
//! A reference is looked up among the contained resources, in the Bundle at hand, and in the
//! environment, in this order.

use super::{Call, Evaluated, Function, row};
use crate::Json;
use crate::path::PathError;
use crate::path::environment::Target;
use crate::path::eval::{Items, Scope};
use crate::path::value::{Node, Typing, Value};

pub(super) static FUNCTIONS: &[Function] = &[row("resolve", (0, 0), resolve)];

/// A reference of which nobody knows where it leads still shows the type that its text names. Where
/// more than that is asked for, the answer is undecided.
fn resolve<'a>(call: &Call<'_, 'a>) -> Evaluated<'a> {
    let mut found = Items::new();
    for item in call.focus {
        let json = item.json();
        let text = match (item, json) {
            (Value::String(text), _) => Some(text.as_ref()),
            (_, Some(Json::String(text))) => Some(text.as_str()),
            (_, Some(json)) => json.str_at(&["reference"]),
            _ => None,
        };
        let Some(text) = text.filter(|text| !text.is_empty()) else { continue };
        match target(call.scope, json, text)? {
            Target::Found(json) => found.push(Value::node(json)),
            Target::Absent => {}
            Target::Unknown => match json.zip(referenced_type(call, json, text)) {
                Some((json, typing)) => {
                    found.push(Value::Node(Node { json, sibling: None, typing }));
                }
                None => call.scope.tally.leave_open(),
            },
        }
    }
    Ok(found)
}

fn target<'a>(
    scope: &Scope<'_, 'a>,
    from: Option<&'a Json>,
    text: &str,
) -> Result<Target<'a>, PathError> {
    let context = scope.context;
    let root = context.root_resource().and_then(Value::json);
    let resource = context.resource.as_ref().and_then(Value::json);
    let is_bundle = |json: &&Json| json.str_at(&["resourceType"]) == Some("Bundle");
    let bundle = context.bundle.or_else(|| [root, resource].into_iter().flatten().find(is_bundle));
    // The entry in which the reference stands says what a relative one means.
    let entry = match (bundle, from) {
        (Some(bundle), Some(from)) if !is_absolute(text) => entry_of(scope, bundle, from)?,
        _ => None,
    };
    if let Some(id) = text.strip_prefix('#') {
        let counts =
            [root, resource].into_iter().flatten().map(|of| of.list("contained").len() as u64);
        scope.work(counts.sum())?;
        let within = |of: &'a Json| match id {
            "" => Some(of),
            id => of.list("contained").iter().find(|json| json.str_at(&["id"]) == Some(id)),
        };
        let entry = entry.and_then(|entry| entry.get("resource"));
        let contained = [entry, root, resource].into_iter().flatten().find_map(within);
        return Ok(contained.map_or(Target::Absent, Target::Found));
    }
    if let Some(bundle) = bundle {
        scope.work(bundle.list("entry").len() as u64)?;
        if let Some(json) = in_bundle(bundle, entry, text) {
            return Ok(Target::Found(json));
        }
    }
    Ok(context.environment.map_or(Target::Unknown, |world| world.resolve(text)))
}

/// The entry in which a part of the Bundle stands.
fn entry_of<'a>(
    scope: &Scope<'_, 'a>,
    bundle: &'a Json,
    part: &Json,
) -> Result<Option<&'a Json>, PathError> {
    let entries = bundle.list("entry");
    scope.work(entries.len() as u64)?;
    // An evaluation is mostly about one entry's resource.
    let context = scope.context;
    let own = [context.resource.as_ref(), context.root_resource()];
    let is_own = |resource: &Json| {
        own.iter().flatten().filter_map(|own| own.json()).any(|own| std::ptr::eq(own, resource))
    };
    if let Some(entry) = entries.iter().find(|entry| entry.get("resource").is_some_and(is_own)) {
        return Ok(Some(entry));
    }
    for entry in entries {
        if contains(scope, entry, part)? {
            return Ok(Some(entry));
        }
    }
    Ok(None)
}

/// A tree is no deeper than the JSON that is read.
fn contains(scope: &Scope, tree: &Json, part: &Json) -> Result<bool, PathError> {
    if std::ptr::eq(tree, part) {
        return Ok(true);
    }
    let object =
        tree.as_object().into_iter().flat_map(|object| object.iter().map(|(_, json)| json));
    let items = tree.as_array().into_iter().flatten();
    scope.work(1)?;
    for json in object.chain(items) {
        // Where an object is looked for, leaves are passed over.
        let is_leaf = !matches!(json, Json::Object(_) | Json::Array(_));
        if !(is_leaf && part.as_object().is_some()) && contains(scope, json, part)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A relative reference is read against the base of its own entry's `fullUrl`; if that has none,
/// the one entry whose `fullUrl` ends with it is meant.
fn in_bundle<'a>(bundle: &'a Json, entry: Option<&Json>, text: &str) -> Option<&'a Json> {
    let (text, version) = match text.split_once("/_history/") {
        Some((text, version)) => (text, Some(version)),
        None => (text, None),
    };
    let is_version = |resource: &&Json| {
        version.is_none_or(|version| resource.str_at(&["meta", "versionId"]) == Some(version))
    };
    let named = |url: &str| {
        let is_it = |entry: &&Json| entry.str_at(&["fullUrl"]) == Some(url);
        let mut entries = bundle.list("entry").iter().filter(is_it);
        entries.find_map(|entry| entry.get("resource").filter(is_version))
    };
    if is_absolute(text) {
        return named(text);
    }
    let own = entry.and_then(|entry| entry.str_at(&["fullUrl"]));
    let base = own.and_then(|url| {
        let (rest, _) = url.rsplit_once('/')?;
        let (base, _) = rest.rsplit_once('/')?;
        url.starts_with("http").then_some(base)
    });
    if let Some(base) = base {
        return named(&format!("{base}/{text}"));
    }
    let mut ending = bundle.list("entry").iter().filter_map(|entry| {
        let url = entry.str_at(&["fullUrl"])?;
        let is_it = url.strip_suffix(text)?.ends_with('/');
        entry.get("resource").filter(|_| is_it).filter(is_version)
    });
    let first = ending.next();
    first.filter(|_| ending.next().is_none())
}

/// Whether a reference begins with a scheme.
fn is_absolute(text: &str) -> bool {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    !scheme.is_empty()
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn referenced_type<'a>(
    call: &Call<'_, 'a>,
    json: Option<&'a Json>,
    text: &str,
) -> Option<Typing<'a>> {
    let definitions = call.scope.context.definitions;
    let named = json.and_then(|json| json.str_at(&["type"]));
    let path = text.split("/_history/").next().unwrap_or(text);
    let name =
        named.or_else(|| path.rsplit('/').nth(1)).filter(|name| definitions.is_resource(name))?;
    definitions.type_of(name).map(Typing::Unresolved)
}
