//! The links of a resource: <https://hl7.org/fhir/R4/references.html>, and the elements in which a
//! transaction puts final addresses in place of those of its entries
//! (<https://hl7.org/fhir/R4/http.html#trules>).
//!
//! Which elements hold links is read from the table of elements, never from the name of a member:
//! an identifier's value that looks like a link is none. Elements of type canonical are left out,
//! as the standard says; nothing is fetched here.

use compact_str::CompactString;

use crate::definitions::{Definitions, ElementType, Kind, Type};
use crate::rest::is_id;
use crate::{Json, Object};

/// What kind of element holds the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// `Reference.reference`.
    Reference,
    /// An element of type uri, url, oid or uuid.
    Uri,
    /// The text of a narrative, which may hold several links.
    Narrative,
}

/// One element that holds a link.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// What kind of element it is.
    pub kind: LinkKind,
    /// Its text.
    pub text: &'a str,
    /// The type of the element; of a reference it tells what it may point to.
    pub of_type: &'a ElementType,
}

/// A step from a value to one within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// To a member of an object.
    Member(CompactString),
    /// To an item of an array.
    Item(usize),
}

impl Key {
    /// The name of the member.
    pub fn member(&self) -> Option<&str> {
        match self {
            Key::Member(name) => Some(name),
            Key::Item(_) => None,
        }
    }
}

/// The way from a tree to a value within it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Key>);

impl Path {
    /// The value at the end of the way.
    pub fn find_mut<'t>(&self, tree: &'t mut Json) -> Option<&'t mut Json> {
        self.0.iter().try_fold(tree, |value, key| match (key, value) {
            (Key::Member(name), Json::Object(object)) => object.get_mut(name),
            (Key::Item(index), Json::Array(items)) => items.get_mut(*index),
            _ => None,
        })
    }
}

/// Where a link stands: a chain on the stack that becomes text or a path only when asked.
#[derive(Clone, Copy)]
pub struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    /// The member's name in JSON; of the outermost place the resource type.
    member: &'p str,
    /// Name of the element and the type of a choice.
    element: (&'p str, Option<&'p str>),
    index: Option<usize>,
}

impl Place<'_> {
    fn chain(&self) -> Vec<&Place<'_>> {
        let mut chain: Vec<&Place> =
            std::iter::successors(Some(self), |place| place.parent).collect();
        chain.reverse();
        chain
    }

    /// The place as FHIRPath, for example `Observation.value.ofType(Reference)`.
    pub fn expression(&self) -> String {
        let mut out = String::new();
        for place in self.chain() {
            let (name, choice) = place.element;
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(name);
            if let Some(choice) = choice {
                out.push_str(&format!(".ofType({choice})"));
            }
            if let Some(index) = place.index {
                out.push_str(&format!("[{index}]"));
            }
        }
        out
    }

    /// The way to the text of the link.
    pub fn path(&self) -> Path {
        let mut keys = Vec::new();
        for place in self.chain().into_iter().skip(1) {
            keys.push(Key::Member(place.member.into()));
            keys.extend(place.index.map(Key::Item));
        }
        Path(keys)
    }
}

/// Calls `see` with every link of a resource, in the order in which they stand.
pub fn visit<'a>(
    definitions: &'a Definitions,
    resource: &'a Json,
    see: &mut dyn FnMut(Link<'a>, &Place<'_>),
) {
    let name = resource.str_at(&["resourceType"]).unwrap_or_default();
    if let (Some(kind), Json::Object(object)) = (definitions.type_of(name), resource) {
        let place = Place { parent: None, member: name, element: (name, None), index: None };
        Visitor { definitions, see }.object(kind, object, &place);
    }
}

struct Visitor<'a, 's> {
    definitions: &'a Definitions,
    see: &'s mut dyn FnMut(Link<'a>, &Place<'_>),
}

impl<'a> Visitor<'a, '_> {
    fn object(&mut self, kind: &'a Type, object: &'a Object, place: &Place<'_>) {
        let definitions = self.definitions;
        for (member, json) in object.iter() {
            let place = |name, choice| Place {
                parent: Some(place),
                member,
                element: (name, choice),
                index: None,
            };
            // The id and extensions of a primitive.
            if let Some(name) = member.strip_prefix('_') {
                if let Some(kind) = definitions.type_of("Element") {
                    each(json, place(name, None), &mut |item, place| {
                        if let Json::Object(object) = item {
                            self.object(kind, object, place);
                        }
                    });
                }
                continue;
            }
            let Some(element) = definitions.child(kind.name, member) else { continue };
            let Some(of_type) = element.member(member) else { continue };
            let choice = element.is_choice.then_some(of_type.code);
            each(json, place(element.name, choice), &mut |item, place| {
                self.value(of_type, item, place);
            });
        }
    }

    fn value(&mut self, of_type: &'a ElementType, json: &'a Json, place: &Place<'_>) {
        match json {
            Json::String(text) => {
                let kind = match of_type.code {
                    "uri" | "url" | "oid" | "uuid" => LinkKind::Uri,
                    "xhtml" => LinkKind::Narrative,
                    _ => return,
                };
                (self.see)(Link { kind, text, of_type }, place);
            }
            Json::Object(object) => {
                if of_type.code == "Reference"
                    && let Some(text) = object.get("reference").and_then(Json::as_str)
                {
                    let element = ("reference", None);
                    let inner =
                        Place { parent: Some(place), member: "reference", element, index: None };
                    (self.see)(Link { kind: LinkKind::Reference, text, of_type }, &inner);
                }
                let definitions = self.definitions;
                let content = definitions.content(of_type).and_then(|kind| match kind.kind {
                    Kind::Resource => definitions.type_of(json.str_at(&["resourceType"])?),
                    _ => Some(kind),
                });
                if let Some(kind) = content {
                    self.object(kind, object, place);
                }
            }
            _ => {}
        }
    }
}

/// The items of an array, or the one value.
fn each<'a>(json: &'a Json, place: Place<'_>, take: &mut dyn FnMut(&'a Json, &Place<'_>)) {
    match json {
        Json::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                take(item, &Place { index: Some(index), ..place });
            }
        }
        json => take(json, &place),
    }
}

/// A literal reference to a resource of the service itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Literal<'a> {
    /// The type that it names.
    pub resource_type: &'a str,
    /// The logical id.
    pub id: &'a str,
    /// The version, when it names one.
    pub version: Option<&'a str>,
}

/// Reads `Type/id` or `Type/id/_history/version`, relative or below `base`; `None` for contained
/// resources, urns, searches and what is elsewhere.
pub fn literal<'a>(definitions: &Definitions, base: &str, text: &'a str) -> Option<Literal<'a>> {
    let own = text.strip_prefix(base).and_then(|rest| rest.strip_prefix('/'));
    let text = own.unwrap_or(text).split('#').next().unwrap_or_default();
    let mut parts = text.split('/');
    let (resource_type, id) = (parts.next()?, parts.next()?);
    let version = match (parts.next(), parts.next(), parts.next()) {
        (None, ..) => None,
        (Some("_history"), Some(version), None) => Some(version),
        _ => return None,
    };
    let is_literal = definitions.is_resource(resource_type) && is_id(id);
    is_literal.then_some(Literal { resource_type, id, version })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn links_are_found_by_the_table_of_elements() {
        let definitions = Definitions::r4();
        let mut resource = json!({
            "resourceType": "Observation",
            "text": {"div": "<div><a href=\"urn:x\">x</a></div>"},
            "contained": [{"resourceType": "Patient", "managingOrganization": {"reference": "urn:c"}}],
            "extension": [{"url": "urn:e", "valueReference": {"reference": "urn:v"}},
                          {"url": "urn:f", "valueCanonical": "urn:no"}],
            "identifier": [{"system": "urn:s", "value": "urn:no"}],
            "instantiatesCanonical": "urn:no",
            "_status": {"extension": [{"url": "urn:p", "valueUuid": "urn:u"}]},
            "subject": {"reference": "urn:r", "display": "urn:no", "identifier": {"assigner": {"reference": "urn:a"}}},
            "valueString": "urn:no",
            "unknown": {"reference": "urn:no"}
        });
        let mut found = Vec::new();
        visit(&definitions, &resource, &mut |link, place| {
            found.push((link.text.to_owned(), place.expression(), place.path()));
        });
        let texts: Vec<&str> = found.iter().map(|(text, ..)| text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "<div><a href=\"urn:x\">x</a></div>",
                "urn:c",
                "urn:e",
                "urn:v",
                "urn:f",
                "urn:s",
                "urn:p",
                "urn:u",
                "urn:r",
                "urn:a"
            ]
        );
        let expressions: Vec<&str> = found.iter().map(|(_, at, _)| at.as_str()).collect();
        assert_eq!(expressions[3], "Observation.extension[0].value.ofType(Reference).reference");
        assert_eq!(expressions[6], "Observation.status.extension[0].url");
        for (text, _, path) in &found {
            let place = path.find_mut(&mut resource).expect("the path leads to the link");
            assert_eq!(place.as_str(), Some(text.as_str()));
        }
    }

    #[test]
    fn only_our_own_literals_are_literals() {
        let definitions = Definitions::r4();
        let read = |text| {
            let found = literal(&definitions, "http://x/fhir", text)?;
            Some((found.resource_type, found.id, found.version))
        };
        assert_eq!(read("Patient/1"), Some(("Patient", "1", None)));
        assert_eq!(read("http://x/fhir/Patient/1"), Some(("Patient", "1", None)));
        assert_eq!(read("Patient/1/_history/2"), Some(("Patient", "1", Some("2"))));
        assert_eq!(read("Patient/1#part"), Some(("Patient", "1", None)));
        for other in [
            "#p",
            "",
            "urn:uuid:1",
            "http://y/fhir/Patient/1",
            "Patient",
            "Patient?x=1",
            "Nobody/1",
            "Patient/1/2",
            "Patient/a b",
            "http://x/fhirPatient/1",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
