//! JSON Schemas of profiles: <https://json-schema.org/draft/2020-12>, of resources in
//! [JSON](https://hl7.org/fhir/R4/json.html).
//!
//! A schema holds what its language can say: structure, cardinalities, types, the form of
//! primitives, fixed values and patterns, bounds, slices that are told by values, the types of
//! relative references, and the codes of required bindings where they are known. It does not say:
//! invariants, what a contained resource, a reference's target or an extension with a definition of
//! its own must be, the order of slices. So what is valid FHIR is valid by its schema, but not the
//! other way round; [`crate::validate`] knows all of it.

mod codes;
mod rules;
mod slices;
mod types;

use std::collections::HashSet;

use crate::definitions::Definitions;
use crate::profile::rules::{Index, Tree};
use crate::profile::{Profile, Profiles};
use crate::terminology::Library;
use crate::{Json, Object, json};

/// The media type of a schema: <https://json-schema.org/draft/2020-12/json-schema-core#section-14.1>.
pub const MEDIA_TYPE: &str = "application/schema+json";

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Most values in what a profile adds to a schema; no profile that is published comes near.
const MAX_VALUES: usize = 200_000;
/// Deepest nesting of elements and slices.
const MAX_DEPTH: usize = 64;

/// What a schema is made from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The types of R4.
    pub definitions: &'a Definitions,
    /// The profiles that targets of references are.
    pub profiles: &'a Profiles,
    /// The codes of required bindings.
    pub terminology: &'a Library,
}

/// Why there is no schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSchema {
    /// It is no type of R4 and no profile of one.
    #[error("only types of R4 and profiles of them have a JSON Schema")]
    NoType,
    /// It would be too large.
    #[error("its JSON Schema would have more than {MAX_VALUES} values")]
    TooLarge,
}

/// The schema of an R4 type.
///
/// # Errors
/// There is no such type.
pub fn of_type(sources: Sources<'_>, name: &str) -> Result<Json, NoSchema> {
    let kind = sources.definitions.type_of(name).ok_or(NoSchema::NoType)?;
    let mut schema = Builder::new(sources, None);
    let root = schema.of(kind.name);
    schema.finish(kind.name, "4.0.1", vec![root])
}

/// The schema of a profile.
///
/// # Errors
/// It has no snapshot and none can be made, or its schema would be too large.
pub fn of_profile(sources: Sources<'_>, profile: &Profile) -> Result<Json, NoSchema> {
    let compiled = profile.compiled(sources.profiles, sources.definitions);
    let tree = compiled.tree.as_ref().ok_or(NoSchema::NoType)?;
    let kind = sources.definitions.type_of(&tree.of_type).ok_or(NoSchema::NoType)?;
    let mut schema = Builder::new(sources, Some(tree));
    let mut all = vec![schema.of(kind.name)];
    let children = tree.nodes.first().map_or(&[][..], |root| &root.children);
    all.extend(schema.within(children, 0));
    schema.finish(&profile.url, profile.version.as_deref().unwrap_or_default(), all)
}

/// A schema that is being made.
struct Builder<'a> {
    sources: Sources<'a>,
    tree: Option<&'a Tree>,
    definitions: Object,
    /// What is referred to and was not written yet.
    open: Vec<Open<'a>>,
    known: HashSet<Open<'a>>,
    /// How many values may still be written.
    left: usize,
}

/// Something that has a place among the `$defs`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Open<'a> {
    /// A type, under its name.
    Type(&'a str),
    /// The content of a node of the profile.
    Node(Index),
}

impl<'a> Builder<'a> {
    fn new(sources: Sources<'a>, tree: Option<&'a Tree>) -> Builder<'a> {
        Builder {
            sources,
            tree,
            definitions: Object::new(),
            open: Vec::new(),
            known: HashSet::new(),
            left: MAX_VALUES,
        }
    }

    /// A reference to the schema of a type.
    fn of(&mut self, name: &'a str) -> Json {
        self.refer(Open::Type(name))
    }

    fn refer(&mut self, open: Open<'a>) -> Json {
        if self.known.insert(open) {
            self.open.push(open);
        }
        json!({"$ref": (format!("#/$defs/{}", open.name()))})
    }

    /// Writes what is referred to, and puts all together.
    fn finish(mut self, url: &str, version: &str, all: Vec<Json>) -> Result<Json, NoSchema> {
        while let Some(open) = self.open.pop() {
            let schema = match open {
                Open::Type(name) => self.type_schema(name),
                Open::Node(node) => {
                    let of = self.tree.and_then(|tree| tree.nodes.get(node));
                    all_of(self.within(of.map_or(&[][..], |of| &of.children), 0))
                }
            };
            self.definitions.set(&open.name(), schema);
        }
        if self.left == 0 {
            return Err(NoSchema::TooLarge);
        }
        let mut schema = Object::new();
        schema.set("$schema", DIALECT);
        schema.set("title", url);
        schema.set(
            "description",
            format!("What JSON Schema can say of {url}, version {version}; invariants and more are left to a validator of FHIR."),
        );
        schema.set("allOf", all);
        schema.set("$defs", self.definitions);
        Ok(Json::Object(schema))
    }

    /// Counts a condition; false when there are too many.
    fn spend(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }

    /// Counts what a schema is made of; one that is too large is left out.
    fn take(&mut self, schema: Json) -> Option<Json> {
        self.left = self.left.saturating_sub(weight(&schema));
        (self.left > 0).then_some(schema)
    }
}

impl Open<'_> {
    fn name(self) -> String {
        match self {
            Open::Type(name) => name.to_owned(),
            Open::Node(node) => format!("content-{node}"),
        }
    }
}

/// How many values a JSON value is made of; a long text counts as several. What is read from JSON
/// is nested no deeper than its reader allows.
fn weight(json: &Json) -> usize {
    match json {
        Json::Array(items) => items.iter().fold(1, |sum, item| sum + weight(item)),
        Json::Object(object) => object.iter().fold(1, |sum, (_, value)| sum + weight(value)),
        Json::String(text) => 1 + text.len() / 64,
        _ => 1,
    }
}

/// All of several schemas.
fn all_of(mut schemas: Vec<Json>) -> Json {
    match schemas.len() {
        0 => Json::Bool(true),
        1 => schemas.pop().unwrap_or(Json::Bool(true)),
        _ => json!({"allOf": (schemas)}),
    }
}

/// One of several schemas at least.
fn any_of(mut schemas: Vec<Json>) -> Json {
    match schemas.len() {
        1 => schemas.pop().unwrap_or(Json::Bool(true)),
        _ => json!({"anyOf": (schemas)}),
    }
}

/// A schema of objects with this member.
fn with(name: &str, value: Json) -> Json {
    let mut properties = Object::new();
    properties.set(name, value);
    json!({"properties": (properties), "required": [(name)]})
}

/// The items of a list; that of a primitive has `null` where only its sibling has something.
fn items(of: Json, is_primitive: bool) -> Json {
    match is_primitive {
        true => json!({"anyOf": [(of), {"type": "null"}]}),
        false => of,
    }
}

/// Whether an object has a member, itself or, of a primitive, in its sibling.
fn has(name: &str, is_primitive: bool) -> Vec<Json> {
    let mut ways = vec![json!({"required": [(name)]})];
    if is_primitive {
        ways.push(json!({"required": [(format!("_{name}"))]}));
    }
    ways
}
