//! Template-based extraction:
//! <https://hl7.org/fhir/uv/sdc/extraction.html#template-based-extraction>.
//!
//! A contained resource is copied; `templateExtractContext` repeats an element for each result and
//! `templateExtractValue` replaces it. What comes to nothing disappears, and so does what would be
//! empty then. Several results for an element that occurs once are told, and it is left out.

use std::borrow::Cow;
use std::collections::HashSet;

use super::cast::{Member, cast};
use super::{Here, Run, expression};
use crate::path::Value;
use crate::questionnaire::expression::Bound;
use crate::questionnaire::extension;
use crate::questionnaire::value::cut;
use crate::{IssueType, Json, Object};

/// Where expressions of a template are evaluated.
#[derive(Clone, Copy)]
struct Spot<'s> {
    here: &'s Here<'s>,
    focus: &'s [Value<'s>],
    bound: &'s [Bound<'s>],
}

/// The element that a part of a template is, if it is known.
type Kind<'d> = Option<Member<'d>>;

/// A primitive: its value, and its id and extensions.
type Primitive = (Option<Json>, Option<Json>);

impl Run<'_> {
    pub(super) fn templates(&self, root: Here<'_>) {
        let bundle = extension::values(self.source, "templateExtractBundle").next();
        if let Some(reference) = bundle.and_then(|value| value.str_at(&["reference"])) {
            self.bundle(&root, reference);
        }
        self.templates_at(root);
    }

    fn templates_at(&self, here: Here<'_>) {
        let extensions = here.source.list("extension").iter().enumerate();
        for (index, extension) in extensions {
            if extension::term(extension) != Some("templateExtract") {
                continue;
            }
            let reference = extension::part(extension, "template");
            let reference = reference.and_then(|value| value.str_at(&["reference"]));
            let Some(template) = reference.and_then(|reference| self.template(&here, reference))
            else {
                continue;
            };
            let focus = [self.focus(&here)];
            let spot = Spot { here: &here, focus: &focus, bound: here.bound };
            for mut resource in self.filled(template, None, spot) {
                if let Some(object) = resource.as_object_mut() {
                    object.remove("id");
                }
                self.entry(&here, Some(extension), resource, &format!("template {index}"));
            }
        }
        let below = |node: &Json, at: &str| {
            for child in self.children(node, here.key, at, &opens) {
                let bound = self.bound(child.source, &child.key, here.bound);
                self.templates_at(Here {
                    source: child.source,
                    node: &child.node,
                    is_root: false,
                    key: &child.key,
                    at: &child.at,
                    bound: &bound,
                });
            }
        };
        below(here.node, here.at);
        for (index, answer) in here.node.list("answer").iter().enumerate() {
            below(answer, &format!("{}.answer[{index}]", here.at));
        }
    }

    /// A contained resource by its reference.
    fn template(&self, here: &Here<'_>, reference: &str) -> Option<&Json> {
        let id = reference.strip_prefix('#');
        let mut contained = self.source.list("contained").iter();
        let found = contained.find(|other| id.is_some() && other.str_at(&["id"]) == id);
        if found.is_none() {
            let text = format!(
                "The template {} is not among the contained resources of the Questionnaire.",
                cut(reference)
            );
            self.tell(IssueType::NotFound, here.at, text);
        }
        found
    }

    /// Adds the entries of a Bundle that is a template.
    fn bundle(&self, root: &Here<'_>, reference: &str) {
        let Some(template) = self.template(root, reference) else { return };
        let focus = [self.focus(root)];
        let spot = Spot { here: root, focus: &focus, bound: root.bound };
        let mut urls: HashSet<String> = HashSet::new();
        for bundle in self.filled(template, None, spot) {
            for (index, entry) in bundle.list("entry").iter().enumerate() {
                let Some(resource) = entry.get("resource") else { continue };
                let mut entry = entry.clone();
                let own = entry.str_at(&["fullUrl"]).map(str::to_owned);
                // An entry that is repeated cannot have the same url each time.
                if own.is_none_or(|url| !urls.insert(url)) {
                    let names = ["extract", self.origin.id, "bundle", &index.to_string()];
                    let id = (self.origin.identify)(&names);
                    entry.set("fullUrl", format!("urn:uuid:{id}"));
                }
                if entry.str_at(&["request", "method"]).is_none() {
                    let of = resource.str_at(&["resourceType"]).unwrap_or_default();
                    let mut request = Object::new();
                    match resource.str_at(&["id"]) {
                        Some(id) => {
                            request.set("method", "PUT");
                            request.set("url", format!("{of}/{id}"));
                        }
                        None => {
                            request.set("method", "POST");
                            request.set("url", of);
                        }
                    }
                    entry.set("request", Json::Object(request));
                }
                self.push(entry);
            }
        }
    }

    /// What an element of a template that has parts comes to.
    fn filled(&self, template: &Json, kind: Kind<'_>, spot: Spot<'_>) -> Vec<Json> {
        let Some((name, contexts)) = self.contexts(template, spot) else {
            return self.valued(template, kind, spot);
        };
        let mut all = Vec::new();
        for context in contexts {
            let focus = [context];
            let bound = named(name, &focus, spot.bound);
            let inner = Spot { focus: &focus, bound: &bound, ..spot };
            all.append(&mut self.valued(template, kind, inner));
        }
        all
    }

    /// The results of the context of an element and the name that expressions below may use;
    /// `None` if it has no context of its own.
    fn contexts<'s>(
        &'s self,
        template: &'s Json,
        spot: Spot<'s>,
    ) -> Option<(Option<&'s str>, Vec<Value<'s>>)> {
        let value = extension::values(template, "templateExtractContext").next()?;
        let values = self.values(expression(value).unwrap_or_default(), spot.focus, spot.bound);
        Some((value.str_at(&["name"]), self.or_told(values, value, spot)))
    }

    fn or_told<'s>(
        &self,
        values: Result<Vec<Value<'s>>, String>,
        formula: &Json,
        spot: Spot<'_>,
    ) -> Vec<Value<'s>> {
        values.unwrap_or_else(|reason| {
            self.untold(spot, formula, &reason);
            Vec::new()
        })
    }

    /// Tells why an element of a template was left out.
    fn untold(&self, spot: Spot<'_>, formula: &Json, reason: &str) {
        let text = format!(
            "The expression {} in the template of \"{}\" was left out: {}.",
            cut(expression(formula).unwrap_or_default()),
            cut(spot.here.link_id()),
            cut(reason)
        );
        self.tell(IssueType::Processing, spot.here.at, text);
    }

    /// What an element comes to in its context: its values, or what its parts come to.
    fn valued(&self, template: &Json, kind: Kind<'_>, spot: Spot<'_>) -> Vec<Json> {
        if self.is_too_much() {
            return Vec::new();
        }
        if let Some(formula) = extension::values(template, "templateExtractValue").next() {
            let text = expression(formula).unwrap_or_default();
            let values = self.or_told(self.values(text, spot.focus, spot.bound), formula, spot);
            return values
                .iter()
                .filter_map(|value| self.cast(kind, value, formula, spot))
                .collect();
        }
        let parts = self.parts(template, kind, spot);
        let is_bare = parts.iter().all(|(name, _)| name == "resourceType" || name == "id");
        match is_bare && template.as_object().is_some_and(|object| object.len() > parts.len()) {
            true => Vec::new(),
            false => vec![Json::Object(parts)],
        }
    }

    fn cast(
        &self,
        kind: Kind<'_>,
        value: &Value<'_>,
        formula: &Json,
        spot: Spot<'_>,
    ) -> Option<Json> {
        let Some(member) = kind else { return Some(value.to_json()) };
        let cast = match member.of.code {
            "Resource" | "Element" | "BackboneElement" => Some(value.to_json()),
            code => cast(code, value),
        };
        if cast.is_none() {
            let reason = format!("{} is no {}", value.type_name(), member.of.code);
            self.untold(spot, formula, &reason);
        }
        cast
    }

    /// The parts of an element, each filled.
    fn parts(&self, template: &Json, kind: Kind<'_>, spot: Spot<'_>) -> Object {
        let definitions = self.world.definitions;
        let own = template.str_at(&["resourceType"]).and_then(|name| definitions.type_of(name));
        let of = own.or_else(|| kind?.content);
        let mut filled = Object::new();
        let Some(object) = template.as_object() else { return filled };
        for (name, json) in object.iter() {
            let base = name.strip_prefix('_');
            if base.is_some_and(|base| object.get(base).is_some()) {
                continue;
            }
            let member = base.unwrap_or(name);
            let (value, sibling) = match base {
                Some(_) => (None, Some(json)),
                None => (Some(json), object.get(&format!("_{name}"))),
            };
            let kind = of.and_then(|of| Member::find(definitions, of, member));
            if name == "extension" {
                let rest: Vec<Json> = template
                    .list("extension")
                    .iter()
                    .filter(|other| !is_marker(other))
                    .flat_map(|other| self.filled(other, kind, spot))
                    .collect();
                if !rest.is_empty() {
                    filled.set(name, rest);
                }
                continue;
            }
            let is_complex = |json: &Json| match json {
                Json::Object(_) => true,
                Json::Array(items) => items.iter().any(|item| item.as_object().is_some()),
                _ => false,
            };
            match value {
                Some(value) if is_complex(value) => {
                    let is_list = value.as_array().is_some();
                    let results: Vec<Json> = template
                        .list(member)
                        .iter()
                        .flat_map(|item| self.filled(item, kind, spot))
                        .collect();
                    self.set_parts(&mut filled, member, results, is_list, spot);
                }
                _ => {
                    let is_list =
                        value.or(sibling).is_some_and(|either| either.as_array().is_some());
                    let results = self.primitives(value, sibling, kind, spot);
                    self.set_primitives(&mut filled, member, results, is_list, spot);
                }
            }
        }
        filled
    }

    fn set_parts(
        &self,
        filled: &mut Object,
        member: &str,
        mut results: Vec<Json>,
        is_list: bool,
        spot: Spot<'_>,
    ) {
        match (is_list, results.len()) {
            (_, 0) => {}
            (true, _) => filled.set(member, results),
            (false, 1) => filled.set(member, results.remove(0)),
            (false, count) => self.too_many(member, count, spot),
        }
    }

    fn too_many(&self, member: &str, count: usize, spot: Spot<'_>) {
        let text = format!(
            "{} in the template of \"{}\" was left out: it has {count} values and occurs once.",
            cut(member),
            cut(spot.here.link_id())
        );
        self.tell(IssueType::Processing, spot.here.at, text);
    }

    /// What a primitive, or a list of them, comes to.
    fn primitives(
        &self,
        value: Option<&Json>,
        sibling: Option<&Json>,
        kind: Kind<'_>,
        spot: Spot<'_>,
    ) -> Vec<Primitive> {
        let values = value.map_or(&[][..], list);
        let siblings = sibling.map_or(&[][..], list);
        let count = values.len().max(siblings.len());
        let is_there = |json: &&Json| !matches!(json, Json::Null);
        (0..count)
            .flat_map(|index| {
                let value = values.get(index).filter(is_there);
                let sibling = siblings.get(index).filter(is_there);
                self.primitive(value, sibling, kind, spot)
            })
            .collect()
    }

    fn primitive(
        &self,
        value: Option<&Json>,
        sibling: Option<&Json>,
        kind: Kind<'_>,
        spot: Spot<'_>,
    ) -> Vec<Primitive> {
        let Some(sibling) = sibling else { return vec![(value.cloned(), None)] };
        if let Some((name, contexts)) = self.contexts(sibling, spot) {
            let mut all = Vec::new();
            for context in contexts {
                let focus = [context];
                let bound = named(name, &focus, spot.bound);
                let inner = Spot { focus: &focus, bound: &bound, ..spot };
                all.append(&mut self.primitive_value(value, sibling, kind, inner));
            }
            return all;
        }
        self.primitive_value(value, sibling, kind, spot)
    }

    fn primitive_value(
        &self,
        value: Option<&Json>,
        sibling: &Json,
        kind: Kind<'_>,
        spot: Spot<'_>,
    ) -> Vec<Primitive> {
        if self.is_too_much() {
            return Vec::new();
        }
        let rest = unmarked(sibling);
        let Some(formula) = extension::values(sibling, "templateExtractValue").next() else {
            return vec![(value.cloned(), rest)];
        };
        let text = expression(formula).unwrap_or_default();
        let values = self.or_told(self.values(text, spot.focus, spot.bound), formula, spot);
        let cast = values.iter().filter_map(|value| {
            let json = self.cast(kind, value, formula, spot)?;
            let is_primitive = json.as_object().is_none();
            is_primitive.then(|| (Some(json), rest.clone()))
        });
        cast.collect()
    }

    fn set_primitives(
        &self,
        filled: &mut Object,
        member: &str,
        results: Vec<Primitive>,
        is_list: bool,
        spot: Spot<'_>,
    ) {
        if !is_list && results.len() > 1 {
            return self.too_many(member, results.len(), spot);
        }
        let (values, siblings): (Vec<_>, Vec<_>) = results.into_iter().unzip();
        for (name, list) in
            [(Cow::Borrowed(member), values), (format!("_{member}").into(), siblings)]
        {
            if list.iter().all(Option::is_none) {
                continue;
            }
            let mut list: Vec<Json> =
                list.into_iter().map(|json| json.unwrap_or(Json::Null)).collect();
            match is_list {
                true => filled.set(&name, list),
                false => filled.set(&name, list.remove(0)),
            }
        }
    }
}

/// What expressions below a context may name: the context, if it has a name, and all above.
fn named<'s>(name: Option<&'s str>, focus: &[Value<'s>], outer: &[Bound<'s>]) -> Vec<Bound<'s>> {
    let own = name.map(|name| (name, focus.to_vec()));
    own.into_iter().chain(outer.iter().cloned()).collect()
}

/// Whether an item of a Questionnaire has a template.
fn opens(source: &Json) -> bool {
    let mut extensions = source.list("extension").iter();
    extensions.any(|other| extension::term(other) == Some("templateExtract"))
}

/// Whether an extension belongs to the template and not to what it makes.
fn is_marker(extension: &Json) -> bool {
    matches!(extension::term(extension), Some("templateExtractContext" | "templateExtractValue"))
}

/// The id and extensions of a primitive without those of the template; `None` if nothing is left.
fn unmarked(sibling: &Json) -> Option<Json> {
    let rest: Vec<Json> =
        sibling.list("extension").iter().filter(|other| !is_marker(other)).cloned().collect();
    let mut sibling = sibling.clone();
    if let Some(object) = sibling.as_object_mut() {
        object.remove("extension");
        if !rest.is_empty() {
            object.set("extension", rest);
        }
        if object.is_empty() {
            return None;
        }
    }
    Some(sibling)
}

fn list(json: &Json) -> &[Json] {
    json.as_array().unwrap_or(std::slice::from_ref(json))
}
