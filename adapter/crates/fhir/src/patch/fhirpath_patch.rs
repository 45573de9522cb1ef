//! FHIRPath Patch: <https://hl7.org/fhir/R4/fhirpatch.html>.
//!
//! An operation names its place by FHIRPath, and the table of elements says what may stand there.
//! Any expression that finds elements of the resource itself will do; `resolve()` finds nothing.

use std::collections::HashMap;

use super::content::{Content, read_content};
use super::{PatchError, malformed, not_applicable, too_many};
use crate::definitions::{Definitions, Element, Kind, Type};
use crate::links::{Key, Path};
use crate::path::{Context, Expression, Tally, Value};
use crate::{IssueType, Json, Object};

/// One operation.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    number: usize,
    name: &'static str,
    path: Expression,
    action: Action,
}

#[derive(Clone, Debug)]
enum Action {
    /// Name of the element and the part with its value.
    Add(String, Json),
    Insert(usize, Json),
    Delete,
    Replace(Json),
    Move(usize, usize),
}

/// Reads the operations of a patch for a resource of the type `resource_type`.
pub(super) fn read(
    definitions: &Definitions,
    resource_type: &str,
    parameters: &Json,
) -> Result<Vec<Operation>, PatchError> {
    let list = parameters.list("parameter");
    too_many(list.len())?;
    let read = |(number, parameter): (usize, &Json)| {
        read_one(definitions, resource_type, number, parameter).map_err(|(code, text)| {
            let error = malformed(code, format!("Operation {number} of the patch: {text}"));
            error.map(|issue| issue.at(format!("Parameters.parameter[{number}]")))
        })
    };
    list.iter().enumerate().map(read).collect()
}

/// Why something cannot be done.
pub(super) type Fault = (IssueType, String);

fn read_one(
    definitions: &Definitions,
    resource_type: &str,
    number: usize,
    parameter: &Json,
) -> Result<Operation, Fault> {
    if parameter.str_at(&["name"]) != Some("operation") {
        return Err((IssueType::Value, "the parameter must be named operation.".to_owned()));
    }
    let part = |name: &str| {
        let mut parts = parameter.list("part").iter();
        parts.find(|part| part.str_at(&["name"]) == Some(name))
    };
    let value = |name: &str| {
        let missing = || (IssueType::Required, format!("the part {name} is missing."));
        let part = part(name).ok_or_else(missing)?;
        let members = part.as_object().map(Object::iter).ok_or_else(missing)?;
        let mut values = members.filter(|(member, _)| member.starts_with("value"));
        values.next().map(|(_, value)| value).ok_or_else(missing)
    };
    let text = |name: &str| {
        let text = value(name)?.as_str();
        text.ok_or_else(|| (IssueType::Value, format!("the part {name} must be a text.")))
    };
    let index = |name: &str| {
        let index = value(name)?.as_number().and_then(|digits| digits.parse::<usize>().ok());
        index.ok_or_else(|| {
            let text = format!("the part {name} must be a valueInteger from 0, the first place.");
            (IssueType::Value, text)
        })
    };
    let content = || {
        let missing = (IssueType::Required, "the part value is missing.".to_owned());
        part("value").cloned().ok_or(missing)
    };
    let (name, action) = match text("type")? {
        "add" => ("add", Action::Add(text("name")?.to_owned(), content()?)),
        "insert" => ("insert", Action::Insert(index("index")?, content()?)),
        "delete" => ("delete", Action::Delete),
        "replace" => ("replace", Action::Replace(content()?)),
        "move" => ("move", Action::Move(index("source")?, index("destination")?)),
        _ => {
            let text = "the part type must be add, insert, delete, replace or move.".to_owned();
            return Err((IssueType::Value, text));
        }
    };
    let unclear = |error| {
        let form = format!("{resource_type}.text");
        let text = format!("the path cannot be used: {error}; a path is written as in {form}.");
        (IssueType::Value, text)
    };
    let path = Expression::parse(text("path")?).map_err(unclear)?;
    path.check(definitions, Some(resource_type)).map_err(unclear)?;
    Ok(Operation { number, name, path, action })
}

/// The resource as the operations make it, without elements that they have emptied.
pub(super) fn apply(
    definitions: &Definitions,
    operations: &[Operation],
    resource: &Json,
) -> Result<Json, PatchError> {
    let mut tree = resource.clone();
    let spent = Tally::default();
    for operation in operations {
        let Operation { number, name, .. } = operation;
        operation.apply(definitions, &mut tree, &spent).map_err(|refused| {
            let (is_malformed, (code, reason)) = match refused {
                Refused::Malformed(fault) => (true, fault),
                Refused::NotApplicable(fault) => (false, fault),
            };
            let text = format!("Operation {number} of the patch ({name}): {reason}");
            let error =
                if is_malformed { malformed(code, text) } else { not_applicable(code, text) };
            error.map(|issue| issue.at(format!("Parameters.parameter[{number}]")))
        })?;
    }
    if !operations.is_empty() {
        prune(&mut tree);
    }
    Ok(tree)
}

enum Refused {
    Malformed(Fault),
    NotApplicable(Fault),
}

fn refuse<T>(code: IssueType, text: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::NotApplicable((code, text.into())))
}

/// Where an element stands in its parent.
struct Spot {
    /// The way to the object that holds it.
    parent: Path,
    member: String,
    index: Option<usize>,
}

impl Operation {
    fn apply(
        &self,
        definitions: &Definitions,
        tree: &mut Json,
        spent: &Tally,
    ) -> Result<(), Refused> {
        let found = self.find(definitions, tree, spent)?;
        match (&self.action, found.as_slice()) {
            (Action::Delete, []) => Ok(()),
            (_, []) => refuse(
                IssueType::NotFound,
                "its path finds nothing; to add the first item of a list, use add.",
            ),
            (Action::Insert(index, value), paths) => {
                let (spot, length) = list(tree, paths)?;
                if *index > length {
                    let text = format!("the index must be from 0 to {length}, the list's length.");
                    return refuse(IssueType::Value, text);
                }
                let (_, element) = element_at(definitions, tree, &spot)?;
                let content = read_content(definitions, element, value).map_err(malformed_value)?;
                insert_item(holder(tree, &spot.parent)?, &spot.member, *index, content);
                Ok(())
            }
            (Action::Move(source, destination), paths) => {
                let (spot, length) = list(tree, paths)?;
                if *source >= length || *destination >= length {
                    let text = format!(
                        "source and destination must be below {length}, the length of the list."
                    );
                    return refuse(IssueType::Value, text);
                }
                let object = holder(tree, &spot.parent)?;
                let item = take_item(object, &spot.member, *source);
                insert_item(object, &spot.member, *destination, item);
                Ok(())
            }
            (_, [_, _, ..]) => refuse(
                IssueType::MultipleMatches,
                format!("its path finds {} elements, but must find one.", found.len()),
            ),
            (Action::Add(name, value), [path]) => add(definitions, tree, path, name, value),
            (Action::Delete, [path]) => {
                let spot = spot(path)?;
                let object = holder(tree, &spot.parent)?;
                match spot.index {
                    Some(index) => drop(take_item(object, &spot.member, index)),
                    None => {
                        object.remove(&spot.member);
                        object.remove(&format!("_{}", spot.member));
                    }
                }
                Ok(())
            }
            (Action::Replace(value), [path]) => {
                let spot = spot(path)?;
                let (_, element) = element_at(definitions, tree, &spot)?;
                let content = read_content(definitions, element, value).map_err(malformed_value)?;
                let object = holder(tree, &spot.parent)?;
                match spot.index {
                    Some(index) => {
                        take_item(object, &spot.member, index);
                        insert_item(object, &spot.member, index, content);
                    }
                    None => {
                        let place = object.iter().position(|(name, _)| {
                            name.strip_prefix('_').unwrap_or(name) == spot.member
                        });
                        object.remove(&spot.member);
                        object.remove(&format!("_{}", spot.member));
                        put(object, place.unwrap_or(usize::MAX), content);
                    }
                }
                Ok(())
            }
        }
    }

    /// The ways to the elements that the path finds.
    fn find(
        &self,
        definitions: &Definitions,
        tree: &Json,
        spent: &Tally,
    ) -> Result<Vec<Path>, Refused> {
        let context = Context { resource: Some(Value::node(tree)), ..Context::new(definitions) };
        let items = match self.path.evaluate_within(spent, &context, &[Value::node(tree)]) {
            Ok(items) => items,
            Err(error) => {
                let text = format!("its path cannot be evaluated: {error}.");
                return refuse(IssueType::Processing, text);
            }
        };
        let wanted = items.iter().map(|item| match item.json() {
            // A primitive without a value is found by its id and extensions.
            Some(Json::Null) => item.sibling(),
            json => json,
        });
        let wanted: Vec<Option<*const Json>> =
            wanted.map(|json| json.map(std::ptr::from_ref)).collect();
        let mut places = wanted.iter().flatten().map(|address| (*address, None)).collect();
        locate(tree, &mut Vec::new(), &mut places, spent);
        let place = |address: Option<*const Json>| places.get(&address?)?.clone();
        match wanted.into_iter().map(place).collect() {
            Some(paths) => Ok(paths),
            None => refuse(
                IssueType::Value,
                "its path gives a computed value; it must find an element of the resource.",
            ),
        }
    }
}

/// Notes the way from the root to each value whose address is wanted, in one walk, whose steps are
/// counted with those of the paths.
fn locate(
    json: &Json,
    keys: &mut Vec<Key>,
    places: &mut HashMap<*const Json, Option<Path>>,
    spent: &Tally,
) {
    // What is too much stops the next evaluation.
    let _ = spent.count(1);
    if let Some(place) = places.get_mut(&std::ptr::from_ref(json)) {
        *place = Some(Path(keys.clone()));
    }
    let mut enter = |key: Key, value: &Json| {
        keys.push(key);
        locate(value, keys, places, spent);
        keys.pop();
    };
    match json {
        Json::Object(object) => {
            object.iter().for_each(|(name, value)| enter(Key::Member(name.into()), value));
        }
        Json::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| enter(Key::Item(index), value));
        }
        _ => {}
    }
}

fn spot(path: &Path) -> Result<Spot, Refused> {
    let whole = || refuse(IssueType::Invalid, "the resource as a whole cannot be changed so.");
    let (before, index) = match path.0.split_last() {
        Some((Key::Item(index), before)) => (before, Some(*index)),
        Some(_) => (path.0.as_slice(), None),
        None => return whole(),
    };
    match before.split_last() {
        Some((Key::Member(name), parent)) => Ok(Spot {
            parent: Path(parent.to_vec()),
            member: name.strip_prefix('_').unwrap_or(name).to_owned(),
            index,
        }),
        _ => whole(),
    }
}

/// The one list that all elements stand in, and its length.
fn list(tree: &mut Json, paths: &[Path]) -> Result<(Spot, usize), Refused> {
    let no_list = || {
        refuse(IssueType::Value, "its path must find all items of one list, as Patient.name does.")
    };
    let spots = paths.iter().map(spot).collect::<Result<Vec<Spot>, Refused>>()?;
    let Some(first) = spots.into_iter().reduce(|first, spot| {
        let is_same = first.parent == spot.parent && first.member == spot.member;
        if is_same { first } else { Spot { index: None, ..first } }
    }) else {
        return no_list();
    };
    let object = holder(tree, &first.parent)?;
    let length = length(object, &first.member);
    if first.index.is_none() || length != paths.len() {
        return no_list();
    }
    Ok((first, length))
}

fn length(object: &Object, member: &str) -> usize {
    let count = |name: &str| object.get(name).and_then(Json::as_array).map_or(0, <[Json]>::len);
    count(member).max(count(&format!("_{member}")))
}

fn holder<'t>(tree: &'t mut Json, path: &Path) -> Result<&'t mut Object, Refused> {
    match path.find_mut(tree).and_then(Json::as_object_mut) {
        Some(object) => Ok(object),
        None => refuse(IssueType::Processing, "its place cannot hold elements."),
    }
}

/// The type of what is at the end of a way.
fn type_at<'d>(definitions: &'d Definitions, tree: &Json, path: &Path) -> Option<&'d Type> {
    let mut json = tree;
    let mut kind = definitions.type_of(tree.str_at(&["resourceType"])?)?;
    for key in &path.0 {
        match key {
            Key::Item(index) => json = json.as_array()?.get(*index)?,
            Key::Member(name) => {
                json = json.get(name)?;
                kind = if name.starts_with('_') {
                    definitions.type_of("Element")?
                } else {
                    definitions.content(definitions.child(kind.name, name)?.member(name)?)?
                };
            }
        }
        if kind.kind == Kind::Resource && json.as_object().is_some() {
            kind = definitions.type_of(json.str_at(&["resourceType"])?)?;
        }
    }
    Some(kind)
}

fn element_at<'d>(
    definitions: &'d Definitions,
    tree: &Json,
    spot: &Spot,
) -> Result<(&'d Type, &'d Element), Refused> {
    let kind = type_at(definitions, tree, &spot.parent);
    let found = kind.and_then(|kind| Some((kind, definitions.child(kind.name, &spot.member)?)));
    match found {
        Some(found) => Ok(found),
        None => refuse(IssueType::Structure, "its path finds an element that R4 does not define."),
    }
}

fn malformed_value(fault: Fault) -> Refused {
    Refused::Malformed(fault)
}

fn add(
    definitions: &Definitions,
    tree: &mut Json,
    path: &Path,
    name: &str,
    value: &Json,
) -> Result<(), Refused> {
    // The id and extensions of a primitive stand in the member with the underscore.
    let is_primitive = path.find_mut(tree).is_some_and(|target| target.as_object().is_none())
        || path.0.iter().rev().find_map(Key::member).is_some_and(|name| name.starts_with('_'));
    let kind = match is_primitive {
        true => definitions.type_of("Element"),
        false => type_at(definitions, tree, path),
    };
    let Some(kind) = kind else {
        return refuse(IssueType::Structure, "its path finds an element that R4 does not define.");
    };
    let name = name.strip_suffix("[x]").unwrap_or(name);
    let Some(element) = definitions.child(kind.name, name) else {
        let name: String = name.chars().take(64).collect();
        let text = format!("{} has no element {name}.", kind.name);
        return Err(Refused::Malformed((IssueType::Value, text)));
    };
    let content = read_content(definitions, element, value).map_err(malformed_value)?;
    let object = if is_primitive { sibling(tree, path)? } else { holder(tree, path)? };
    if element.max == Some(1) {
        let is_there =
            |member: &str| element.member(member.strip_prefix('_').unwrap_or(member)).is_some();
        if object.iter().any(|(member, _)| is_there(member)) {
            let text = format!("there is {} already; to change it, use replace.", element.name);
            return refuse(IssueType::Duplicate, text);
        }
        put(object, usize::MAX, content);
    } else {
        let index = length(object, element.name);
        insert_item(object, element.name, index, content);
    }
    Ok(())
}

/// The object with the id and extensions of a primitive, made when it is not there.
fn sibling<'t>(tree: &'t mut Json, path: &Path) -> Result<&'t mut Object, Refused> {
    let spot = spot(path)?;
    let object = holder(tree, &spot.parent)?;
    let member = format!("_{}", spot.member);
    let count = length(object, &spot.member);
    if object.get(&member).is_none() {
        let empty = match spot.index {
            Some(_) => Json::Array(vec![Json::Null; count]),
            None => Json::Object(Object::new()),
        };
        object.set(&member, empty);
    }
    let place = object.get_mut(&member).and_then(|value| match (spot.index, value) {
        (Some(index), Json::Array(items)) => {
            if items.len() <= index {
                items.resize(count.max(index + 1), Json::Null);
            }
            items.get_mut(index)
        }
        (_, value) => Some(value),
    });
    if let Some(place) = place {
        if *place == Json::Null {
            *place = Json::Object(Object::new());
        }
        if let Some(object) = place.as_object_mut() {
            return Ok(object);
        }
    }
    refuse(IssueType::Processing, "its place cannot hold elements.")
}

/// Puts an element that does not repeat at a place among the members.
fn put(object: &mut Object, place: usize, content: Content) {
    let Content { member, json, sibling } = content;
    if let Some(sibling) = sibling {
        object.set_at(place, &format!("_{member}"), sibling);
    }
    if json != Json::Null {
        object.set_at(place, &member, json);
    }
}

/// Puts an item into a list; a list of primitives has two, for values and for extensions.
fn insert_item(object: &mut Object, member: &str, index: usize, content: Content) {
    let Content { json, sibling, .. } = content;
    let beside = format!("_{member}");
    let count = length(object, member);
    let has_siblings = sibling.is_some() || object.get(&beside).is_some();
    let mut place = |name: &str, item: Json| {
        if object.get(name).and_then(Json::as_array).is_none() {
            object.set(name, Json::Array(Vec::new()));
        }
        if let Some(Json::Array(items)) = object.get_mut(name) {
            items.resize(count, Json::Null);
            items.insert(index.min(count), item);
        }
    };
    place(member, json);
    if has_siblings {
        place(&beside, sibling.unwrap_or(Json::Null));
    }
}

fn take_item(object: &mut Object, member: &str, index: usize) -> Content {
    let mut take = |name: &str| match object.get_mut(name) {
        Some(Json::Array(items)) if index < items.len() => Some(items.remove(index)),
        _ => None,
    };
    let json = take(member).unwrap_or(Json::Null);
    let sibling = take(&format!("_{member}"));
    for name in [member.to_owned(), format!("_{member}")] {
        if object.get(&name).and_then(Json::as_array).is_some_and(<[Json]>::is_empty) {
            object.remove(&name);
        }
    }
    Content { member: member.to_owned(), json, sibling: sibling.filter(|item| *item != Json::Null) }
}

/// Takes out what is empty, for an element without content is none in FHIR; in a list of
/// extensions of primitives `null` keeps the places.
fn prune(json: &mut Json) {
    match json {
        Json::Object(object) => {
            for (_, value) in object.iter_mut() {
                prune(value);
            }
            let keep = |(name, value): (&str, &mut Json)| {
                if let Json::Array(items) = value {
                    if name.starts_with('_') {
                        items.iter_mut().filter(|item| is_empty(item)).for_each(|item| {
                            *item = Json::Null;
                        });
                        if items.iter().all(|item| *item == Json::Null) {
                            items.clear();
                        }
                    } else {
                        items.retain(|item| !is_empty(item));
                    }
                }
                is_empty(value).then(|| name.to_owned())
            };
            let emptied: Vec<String> = object.iter_mut().filter_map(keep).collect();
            for name in emptied {
                object.remove(&name);
            }
        }
        Json::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn is_empty(json: &Json) -> bool {
    match json {
        Json::Object(object) => object.is_empty(),
        Json::Array(items) => items.is_empty(),
        _ => false,
    }
}
