//! Elements of a resource by the id of their definition:
//! <https://hl7.org/fhir/R4/elementdefinition.html#id>.
//!
//! `Patient.name.given`, `Observation.value[x]:valueQuantity.value`, `Patient.identifier:nhs.value`.
//! What lies on the way is made. Which of several repetitions is meant follows from the item that
//! made it ([`Anchor`]).

use super::Run;
use super::cast::{Member, cast, choose, suffix};
use super::quantity;
use crate::definitions::{Definitions, Type};
use crate::path::Value;
use crate::{Json, Object};

/// The member that remembers by which slice an element was made, until the resource is finished.
pub(super) const SLICE: &str = ":slice";
/// Most parts of a path.
const MAX_PARTS: usize = 50;

/// One step into a resource: a member, and which of its items if it has several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    member: String,
    index: Option<usize>,
}

/// An element that an item has made and that what follows below the item is put into.
#[derive(Clone, Debug)]
pub(super) struct Anchor<'d> {
    /// Which of the open resources it is in.
    pub target: usize,
    path: Vec<String>,
    steps: Vec<Step>,
    kind: &'d Type,
}

/// What is put in.
pub(super) enum Content<'s> {
    /// The element itself; its parts come later.
    Parts,
    /// These values, and the unit of those that are numbers.
    Values(Vec<Value<'s>>, Option<&'s Json>),
}

/// A resource that is being made.
pub(super) struct Draft<'d> {
    pub number: usize,
    pub kind: &'d Type,
    pub json: Json,
}

/// Puts something into the element that `path` names.
///
/// # Errors
/// Why it does not belong there.
pub(super) fn put<'d>(
    run: &Run<'_>,
    definitions: &'d Definitions,
    draft: &mut Draft<'d>,
    anchors: &mut Vec<Anchor<'d>>,
    path: &str,
    content: &Content<'_>,
) -> Result<(), String> {
    let segments: Vec<String> =
        path.split('.').skip(1).take(MAX_PARTS + 1).map(str::to_owned).collect();
    if segments.len() > MAX_PARTS {
        return Err(format!("its path has more than {MAX_PARTS} parts"));
    }
    let Some(last) = segments.len().checked_sub(1) else {
        return match content {
            Content::Parts => Ok(()),
            Content::Values(..) => Err("it names a resource and no element".to_owned()),
        };
    };
    let is_above = |anchor: &&Anchor<'d>| {
        anchor.target == draft.number
            && anchor.path.len() < segments.len()
            && segments.starts_with(&anchor.path)
    };
    let nearest = anchors.iter().filter(is_above).max_by_key(|anchor| anchor.path.len());
    let (mut steps, mut kind, mut depth) = match nearest {
        Some(anchor) => (anchor.steps.clone(), anchor.kind, anchor.path.len()),
        None => (Vec::new(), draft.kind, 0),
    };
    while depth < segments.len() {
        let segment = segments.get(depth).map_or("", String::as_str);
        let next = segments.get(depth + 1).map(String::as_str);
        let (name, slice) = split(segment);
        let is_leaf = depth == last;
        if is_leaf && let Content::Values(values, unit) = content {
            let leaf = Leaf { definitions, kind, name, slice };
            let (member, is_list, values) = leaf.values(values, *unit)?;
            let parent = reach(&mut draft.json, &steps).ok_or("its element is not there")?;
            for value in values {
                match is_list {
                    true => parent.push(&member, value),
                    false if parent.get(&member).is_some_and(|own| *own != value) => {
                        return Err(format!("{member} has another value already"));
                    }
                    false => parent.set(&member, value),
                }
            }
            return Ok(());
        }
        if run.is_too_much() {
            return Err("too much is extracted".to_owned());
        }
        let member = member(definitions, kind, name, slice, next)
            .ok_or_else(|| format!("{} has no element {segment}", kind.name))?;
        let content = member.1.content.ok_or_else(|| format!("{segment} has no parts"))?;
        let parent = reach(&mut draft.json, &steps).ok_or("its element is not there")?;
        let mut made = Object::new();
        if let Some(slice) = slice.filter(|_| !member.1.element.is_choice) {
            made.set(SLICE, slice);
        }
        let index = match member.1.is_list() {
            true => {
                parent.push(&member.0, Json::Object(made));
                Some(parent.list(&member.0).len() - 1)
            }
            false => {
                if parent.get(&member.0).is_none() {
                    parent.set(&member.0, Json::Object(made));
                }
                None
            }
        };
        steps.push(Step { member: member.0, index });
        kind = content;
        depth += 1;
        if index.is_some() || depth > last {
            let path = segments.get(..depth).unwrap_or_default().to_vec();
            anchors.push(Anchor { target: draft.number, path, steps: steps.clone(), kind });
        }
    }
    Ok(())
}

/// The name of an element and of a slice of it.
fn split(segment: &str) -> (&str, Option<&str>) {
    let (name, slice) = match segment.split_once(':') {
        Some((name, slice)) => (name, Some(slice)),
        None => (segment, None),
    };
    (name.strip_suffix("[x]").unwrap_or(name), slice)
}

/// The JSON member of an element that has parts; of a choice the type that is named, or the first
/// that has the part that comes next.
fn member<'d>(
    definitions: &'d Definitions,
    kind: &'d Type,
    name: &str,
    slice: Option<&str>,
    next: Option<&str>,
) -> Option<(String, Member<'d>)> {
    let named = slice.and_then(|slice| Some((slice, Member::find(definitions, kind, slice)?)));
    let own = || Member::find(definitions, kind, name).map(|member| (name, member));
    if let Some((name, member)) = named.filter(|(_, m)| m.element.is_choice).or_else(own) {
        return Some((name.to_owned(), member));
    }
    let element = definitions.child(kind.name, name)?;
    let (next, _) = split(next?);
    let fits = element.types.iter().find_map(|of| {
        let content = definitions.content(of)?;
        definitions.child(content.name, next)?;
        Some((of, content))
    });
    let (of, content) = fits?;
    Some((
        format!("{}{}", element.name, suffix(of.code)),
        Member { element, of, content: Some(content) },
    ))
}

/// An element that values are put into.
struct Leaf<'d, 'p> {
    definitions: &'d Definitions,
    kind: &'d Type,
    name: &'p str,
    slice: Option<&'p str>,
}

impl Leaf<'_, '_> {
    /// The member, whether it is a list, and the values as it has them.
    fn values(
        &self,
        values: &[Value<'_>],
        unit: Option<&Json>,
    ) -> Result<(String, bool, Vec<Json>), String> {
        let Leaf { definitions, kind, name, slice } = *self;
        let sliced = slice.and_then(|slice| Some((slice, Member::find(definitions, kind, slice)?)));
        let sliced = sliced.filter(|(_, member)| member.element.is_choice);
        let plain = || Member::find(definitions, kind, name).map(|member| (name, member));
        let in_unit = |value: &Value<'_>| {
            let json = value.to_json();
            json.as_number().is_some().then(|| quantity(json, unit))
        };
        let mut out = Vec::with_capacity(values.len());
        if let Some((member, found)) = sliced.or_else(plain) {
            for value in values {
                let cast = match found.of.code == "Quantity" && unit.is_some() {
                    true => in_unit(value).or_else(|| cast("Quantity", value)),
                    false => cast(found.of.code, value),
                };
                let wrong = || format!("{} is no {}", value.type_name(), found.of.code);
                out.push(cast.ok_or_else(wrong)?);
            }
            let is_list = found.is_list();
            return one(&out, is_list).map(|()| (member.to_owned(), is_list, out));
        }
        let unknown = || format!("{} has no element {name}", kind.name);
        let element = definitions.child(kind.name, name).ok_or_else(unknown)?;
        let mut member = None;
        for value in values {
            let with_unit = unit.filter(|_| element.types.iter().any(|of| of.code == "Quantity"));
            let (code, json) = match with_unit.and_then(|_| in_unit(value)) {
                Some(quantity) => ("Quantity", quantity),
                None => {
                    let (of, json) = choose(element, value)
                        .ok_or_else(|| format!("{name} cannot be a {}", value.type_name()))?;
                    (of.code, json)
                }
            };
            member = Some(format!("{}{}", element.name, suffix(code)));
            out.push(json);
        }
        one(&out, false)?;
        Ok((member.unwrap_or_default(), false, out))
    }
}

/// That an element which occurs once is given one value.
fn one(values: &[Json], is_list: bool) -> Result<(), String> {
    match values.len() > 1 && !is_list {
        true => Err(format!("it has {} values and the element one", values.len())),
        false => Ok(()),
    }
}

fn reach<'j>(root: &'j mut Json, steps: &[Step]) -> Option<&'j mut Json> {
    let mut at = root;
    for step in steps {
        let member = at.get_mut(&step.member)?;
        at = match (member, step.index) {
            (Json::Array(items), Some(index)) => items.get_mut(index)?,
            (other, _) => other,
        };
    }
    Some(at)
}

/// Takes out what is empty and what only helped, and puts members in the order of the standard.
pub(super) fn tidy(definitions: &Definitions, kind: Option<&Type>, json: &mut Json) {
    match json {
        Json::Array(items) => {
            items.iter_mut().for_each(|item| tidy(definitions, kind, item));
            items.retain(|item| !is_empty(item));
        }
        Json::Object(object) => {
            object.remove(SLICE);
            let mut members: Vec<(usize, String, Json)> = Vec::with_capacity(object.len());
            let order = kind.map_or_else(Vec::new, |kind| definitions.elements(kind.name));
            for (name, value) in std::mem::take(object).iter() {
                let base = name.trim_start_matches('_');
                let found = kind.and_then(|kind| Member::find(definitions, kind, base));
                let mut value = value.clone();
                tidy(definitions, found.and_then(|found| found.content), &mut value);
                if is_empty(&value) {
                    continue;
                }
                let place = match (name, found) {
                    ("resourceType", _) => 0,
                    (_, Some(found)) => order
                        .iter()
                        .position(|element| element.name == found.element.name)
                        .map_or(usize::MAX, |place| place + 1),
                    _ => usize::MAX,
                };
                members.push((place, name.to_owned(), value));
            }
            members.sort_by_key(|(place, _, _)| *place);
            members.into_iter().for_each(|(_, name, value)| object.set(&name, value));
        }
        _ => {}
    }
}

fn is_empty(json: &Json) -> bool {
    match json {
        Json::Array(items) => items.is_empty(),
        Json::Object(object) => object.is_empty(),
        _ => false,
    }
}
