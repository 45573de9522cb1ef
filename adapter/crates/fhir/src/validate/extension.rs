//! Extensions: <https://hl7.org/fhir/R4/extensibility.html>.
//!
//! One whose definition is known is held against it, wherever it stands: its values, where it may
//! be used and whether it modifies.

use std::ptr;

use super::environment::Truth;
use super::invariant::broken;
use super::item::Item;
use super::words::{listed, shown};
use super::{Need, Place, Scope, Validator, reference};
use crate::definitions::{Kind, Type};
use crate::path::Value;
use crate::profile::{self, Profile};
use crate::{Issue, IssueType, Json, Object};

/// The element that has an extension.
#[derive(Clone, Copy)]
pub(super) struct Holder<'a> {
    pub kind: &'a Type,
    /// Its object; for a primitive the member `_name`.
    pub json: &'a Json,
}

impl<'a> Validator<'a> {
    /// A value or extensions, not both (ext-1); an absolute url unless it stands in an extension.
    pub(super) fn extension(&mut self, object: &Object, place: &Place) {
        let has_extensions = object.get("extension").is_some();
        let has_value = object
            .iter()
            .any(|(name, _)| name.strip_prefix('_').unwrap_or(name).starts_with("value"));
        if has_extensions == has_value {
            self.push(place, broken("ext-1"));
        }
        let url = object.get("url").and_then(crate::Json::as_str).unwrap_or_default();
        let is_nested = place.parent_name() == Some("extension");
        if !is_nested && !url.is_empty() && !reference::has_scheme(url) {
            let text = "The url of an extension is absolute unless it is within an extension.";
            self.report(&place.child("url"), IssueType::Value, text);
        }
    }

    /// The extensions of an element, each against its definition.
    pub(super) fn extensions(
        &mut self,
        holder: Holder<'a>,
        name: &str,
        value: &'a Json,
        place: &Place,
        scope: Scope<'a>,
    ) {
        let (Some(world), Json::Array(items)) = (self.world, value) else { return };
        let is_modifier = name == "modifierExtension";
        let Some(kind) = self.definitions.type_of("Extension") else { return };
        for (index, item) in items.iter().enumerate() {
            let Some(url) = item.str_at(&["url"]).filter(|url| reference::has_scheme(url)) else {
                continue;
            };
            let list = place.child(name);
            let at = list.item(index);
            if self.is_spent(&at) {
                return;
            }
            let Some(profile) = world.profiles.find(url) else {
                self.miss(Need::Profile(url.to_owned()));
                let url = shown(url);
                let issue = match is_modifier {
                    true => Issue::warning(
                        IssueType::Extension,
                        format!(
                            "The modifier extension {url} is not known here; who does not know it \
                             must not use what has it."
                        ),
                    ),
                    false => Issue::information(
                        IssueType::Extension,
                        format!("The extension {url} is not known here, so it was not checked."),
                    ),
                };
                self.push(&at, issue);
                continue;
            };
            let compiled = profile.compiled(world.profiles, world.definitions);
            let Some(definition) = &compiled.extension else {
                let text = format!("{} does not define an extension.", profile.url);
                self.push(&at, Issue::error(IssueType::Extension, text).rule(&profile.url));
                continue;
            };
            if definition.is_modifier != is_modifier && compiled.tree.is_some() {
                let text = match definition.is_modifier {
                    true => "This extension modifies meaning; it belongs in modifierExtension.",
                    false => "This extension does not modify meaning; it belongs in extension.",
                };
                self.push(&at, Issue::error(IssueType::Extension, text).rule(&profile.url));
            }
            self.in_context(profile, definition, holder, place, &at, scope);
            self.parts(profile, definition, item, &at);
            self.apply(profile, Item::complex(item, kind), &at, scope);
        }
    }

    /// Whether an extension may stand where it does.
    fn in_context(
        &mut self,
        profile: &'a Profile,
        definition: &'a profile::Extension,
        holder: Holder<'a>,
        place: &Place,
        at: &Place,
        scope: Scope<'a>,
    ) {
        let contexts = &definition.contexts;
        self.spend(contexts.len().saturating_mul(4));
        if !contexts.is_empty()
            && !contexts.iter().any(|context| self.is_context(context, holder, place, scope))
        {
            let named = listed(contexts.iter().map(|context| match context {
                profile::Context::Element(text)
                | profile::Context::Extension(text)
                | profile::Context::Path(text, _) => text.as_str(),
            }));
            let text = format!(
                "The extension {} is not for {}; it is for {}.",
                profile.url,
                place.path(),
                named
            );
            self.push(at, Issue::error(IssueType::Extension, text).rule(&profile.url));
        }
        for (text, expression) in &definition.invariants {
            let Some(expression) = expression else { continue };
            let focus = match holder.kind.kind {
                Kind::Primitive => Value::typed(self.definitions, &Json::Null, holder.kind.name)
                    .with_sibling(Some(holder.json)),
                _ => Value::typed(self.definitions, holder.json, holder.kind.name),
            };
            if let Ok(Truth::Fails) = self.truth(expression, focus, scope, place.depth) {
                let text = format!(
                    "The extension {} may stand only where this holds: {}",
                    profile.url,
                    shown(text)
                );
                self.push(at, Issue::error(IssueType::Extension, text).rule(&profile.url));
            }
        }
    }

    fn is_context(
        &self,
        context: &'a profile::Context,
        holder: Holder<'a>,
        place: &Place,
        scope: Scope<'a>,
    ) -> bool {
        match context {
            // A part of a profile is taken for the type, as nothing says which part is meant.
            profile::Context::Element(text) => {
                text == "Element"
                    || text.contains('#')
                    || self.definitions.derives(holder.kind, text)
                    || place.is_element(text, self.definitions)
            }
            profile::Context::Extension(url) => {
                holder.kind.name == "Extension" && holder.json.str_at(&["url"]) == Some(url)
            }
            profile::Context::Path(_, None) => true,
            profile::Context::Path(_, Some(expression)) => {
                let is_it = |value: &Value<'_>| {
                    let of = |json: Option<&Json>| json.is_some_and(|j| ptr::eq(j, holder.json));
                    of(value.json()) || of(value.sibling())
                };
                let selected = self.selects(expression, scope, |found| {
                    found.iter().any(is_it)
                        || matches!(found, [one] if one.to_json() == Json::Bool(true))
                });
                // What cannot be evaluated cannot rule anything out.
                selected.unwrap_or(true)
            }
        }
    }

    /// The extensions within an extension are those that its definition has.
    fn parts(
        &mut self,
        profile: &'a Profile,
        definition: &'a profile::Extension,
        item: &'a Json,
        at: &Place,
    ) {
        if !definition.is_complex {
            return;
        }
        for (index, part) in item.list("extension").iter().enumerate() {
            self.spend(definition.parts.len() / 8);
            if self.is_spent(at) {
                return;
            }
            let Some(url) = part.str_at(&["url"]) else { continue };
            let is_part = definition.parts.iter().any(|known| known == url);
            if is_part || reference::has_scheme(url) {
                continue;
            }
            let list = at.child("extension");
            let text = format!(
                "The extension {} has no part {}; its parts are {}.",
                profile.url,
                shown(url),
                listed(definition.parts.iter().map(String::as_str))
            );
            let issue = Issue::error(IssueType::Extension, text).rule(&profile.url);
            self.push(&list.item(index), issue);
        }
    }
}
