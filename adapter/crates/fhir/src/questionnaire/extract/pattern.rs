//! The fixed values and patterns of a profile, put into a resource that is extracted by it:
//! <https://hl7.org/fhir/R4/elementdefinition.html#ElementDefinition.pattern_x_>.
//!
//! An element that is there is completed; one that is not is made if the profile wants it. Slices
//! are recognised by how an item named them. Slices of slices are not followed.

use super::cast::Member;
use super::element::SLICE;
use crate::definitions::{Definitions, Type};
use crate::{Json, Object};

/// Completes a resource by a snapshot.
pub(super) fn fill(definitions: &Definitions, snapshot: &Json, kind: &Type, json: &mut Json) {
    let elements = snapshot.get("snapshot").map_or(&[][..], |snapshot| snapshot.list("element"));
    let profile = Profile { definitions, elements };
    profile.children(kind.name, kind, json);
}

struct Profile<'p> {
    definitions: &'p Definitions,
    elements: &'p [Json],
}

impl<'p> Profile<'p> {
    /// The elements right below the one with this id: the last part of each id, and the element.
    fn below(&self, id: &str) -> impl Iterator<Item = (&'p str, &'p Json)> {
        let id = id.to_owned();
        self.elements.iter().filter_map(move |element| {
            let rest = element.str_at(&["id"])?.strip_prefix(&id)?.strip_prefix('.')?;
            (!rest.contains('.')).then_some((rest, element))
        })
    }

    fn children(&self, id: &str, kind: &Type, json: &mut Json) {
        for (part, element) in self.below(id) {
            let (name, slice) = match part.split_once(':') {
                Some((name, slice)) => (name, Some(slice)),
                None => (part, None),
            };
            let own = format!("{id}.{part}");
            let is_wanted = element.get("min").and_then(Json::as_i64).unwrap_or(0) > 0;
            let fixed = fixed(element);
            let name = name.strip_suffix("[x]").unwrap_or(name);
            let Some((member, found)) = self.member(kind, json, name, slice, &fixed) else {
                continue;
            };
            let content = found.content;
            let slice = slice.filter(|_| !found.element.is_choice);
            match json.get_mut(&member) {
                Some(Json::Array(items)) => {
                    let is_own = |item: &Json| item.str_at(&[SLICE]) == slice;
                    for item in items.iter_mut().filter(|item| slice.is_none() || is_own(item)) {
                        self.complete(&own, content, &fixed, item);
                    }
                    let is_there = match slice {
                        None => true,
                        Some(_) => items.iter().any(is_own),
                    };
                    if is_wanted && !is_there {
                        let made = self.made(&own, content, &fixed);
                        let made = made.filter(|made| !items.contains(made));
                        items.extend(made);
                    }
                }
                Some(single) => self.complete(&own, content, &fixed, single),
                None if is_wanted => {
                    let Some(made) = self.made(&own, content, &fixed) else { continue };
                    match found.is_list() {
                        true => json.push(&member, made),
                        false => json.set(&member, made),
                    }
                }
                None => {}
            }
        }
    }

    /// The JSON member of an element; of a choice the type that the slice names, that is there, or
    /// that the value has.
    fn member(
        &self,
        kind: &'p Type,
        json: &Json,
        name: &str,
        slice: Option<&str>,
        fixed: &Option<(String, Json)>,
    ) -> Option<(String, Member<'p>)> {
        let find =
            |name: &str| Some((name.to_owned(), Member::find(self.definitions, kind, name)?));
        let sliced = slice.and_then(find).filter(|(_, found)| found.element.is_choice);
        let there = || {
            let mut members = json.as_object()?.iter().filter_map(|(member, _)| find(member));
            members.find(|(_, found)| found.element.is_choice && found.element.name == name)
        };
        let valued = || find(&format!("{name}{}", fixed.as_ref()?.0));
        sliced.or_else(|| find(name)).or_else(there).or_else(valued)
    }

    /// Completes an element that is there.
    fn complete(
        &self,
        id: &str,
        content: Option<&'p Type>,
        fixed: &Option<(String, Json)>,
        json: &mut Json,
    ) {
        if let Some((_, value)) = fixed {
            merge(json, value);
        }
        if let Some(kind) = content
            && json.as_object().is_some()
        {
            self.children(id, kind, json);
        }
    }

    /// What a profile says of an element that is not there; nothing if it leaves it open.
    fn made(
        &self,
        id: &str,
        content: Option<&'p Type>,
        fixed: &Option<(String, Json)>,
    ) -> Option<Json> {
        if let Some((_, value)) = fixed {
            return Some(value.clone());
        }
        let mut json = Json::Object(Object::new());
        self.children(id, content?, &mut json);
        json.as_object().is_some_and(|object| !object.is_empty()).then_some(json)
    }
}

/// The fixed value or pattern of an element, and the end of its member's name. The url of an
/// extension is that of its profile.
fn fixed(element: &Json) -> Option<(String, Json)> {
    let mut members = element.as_object()?.iter();
    let own = members.find_map(|(name, value)| {
        let suffix = name.strip_prefix("fixed").or_else(|| name.strip_prefix("pattern"))?;
        Some((suffix.to_owned(), value.clone()))
    });
    own.or_else(|| {
        let of = element.list("type").first()?;
        let url = of.list("profile").first().filter(|_| of.str_at(&["code"]) == Some("Extension"));
        let mut extension = Object::new();
        extension.set("url", url?);
        Some(("Extension".to_owned(), Json::Object(extension)))
    })
}

/// Puts the members of a pattern that are not there into a value.
fn merge(json: &mut Json, pattern: &Json) {
    match (json, pattern) {
        (Json::Object(object), Json::Object(pattern)) => {
            for (name, value) in pattern.iter() {
                match object.get_mut(name) {
                    Some(own) => merge(own, value),
                    None => object.set(name, value),
                }
            }
        }
        (Json::Array(items), Json::Array(pattern)) => {
            for value in pattern {
                if !items.contains(value) {
                    items.push(value.clone());
                }
            }
        }
        _ => {}
    }
}
