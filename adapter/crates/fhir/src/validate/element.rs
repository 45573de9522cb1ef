//! Elements and their JSON form: <https://hl7.org/fhir/R4/json.html>.
//!
//! Which members an object may have, whether each is a list, an object or a primitive, and how a
//! primitive and its sibling `_name` fit together.

use super::binding::is_quantity;
use super::extension::Holder;
use super::invariant::broken;
use super::item::Item;
use super::{Place, Scope, Validator, primitive};
use crate::definitions::{Element, ElementType, Kind, Type};
use crate::profile::R4;
use crate::{IssueType, Json, Object};

/// An element under one of its names.
#[derive(Clone, Copy)]
pub(super) struct Member<'a> {
    pub element: &'a Element,
    pub of_type: &'a ElementType,
    pub content: &'a Type,
}

impl<'a> Validator<'a> {
    /// The members of an object whose type is known.
    pub(super) fn object(
        &mut self,
        kind: &'a Type,
        json: &'a Json,
        place: &Place,
        scope: Scope<'a>,
    ) {
        let Json::Object(object) = json else { return };
        if self.is_too_deep(place) {
            return;
        }
        let scope = match kind.name {
            "Bundle.entry" => {
                Scope { full_url: object.get("fullUrl").and_then(Json::as_str), ..scope }
            }
            _ => scope,
        };
        if object.is_empty() {
            return self.report(
                place,
                IssueType::Structure,
                "An object must not be empty; leave it out.",
            );
        }
        let has_siblings = object.iter().any(|(name, _)| name.starts_with('_'));
        for (name, value) in object.iter() {
            if name == "resourceType" && kind.kind == Kind::Resource {
                continue;
            }
            if name == "id" && kind.kind != Kind::Resource {
                self.own_id(kind, value, place);
            }
            let plain = name.strip_prefix('_').unwrap_or(name);
            let is_sibling = plain.len() < name.len();
            let member = self.member(kind, plain);
            let member =
                member.filter(|member| !is_sibling || member.content.kind == Kind::Primitive);
            let Some(member) = member else {
                self.unknown(kind, name, place);
                continue;
            };
            // The sibling of a value is looked at together with it.
            if is_sibling && object.get(plain).is_some() {
                continue;
            }
            let mut at = place.child(member.element.name).of(member.element.path);
            if member.element.is_choice {
                at = at.choice(member.content.name);
                self.only_choice(member, plain, object, place);
            }
            if is_sibling {
                self.primitives(member, None, Some(value), &at, scope);
            } else if member.content.kind == Kind::Primitive {
                let sibling = if has_siblings { sibling_of(object, name) } else { None };
                self.primitives(member, Some(value), sibling, &at, scope);
            } else {
                self.complex(member, value, &at, scope);
                if self.world.is_some() && member.content.name == "Extension" {
                    self.extensions(Holder { kind, json }, name, value, place, scope);
                }
            }
        }
        self.minimum(kind, object, place);
        match kind.name {
            "CodeSystem" => self.code_system(object, place),
            "Coding" => self.coding(object, false, place),
            "Extension" => self.extension(object, place),
            "Identifier" => self.identifier(object, place),
            "Narrative" => self.narrative(object, place),
            "ValueSet.compose.include" => self.include(object, place),
            name if is_quantity(name) => self.coding(object, true, place),
            _ => {}
        }
    }

    /// The element that a member's name means; `value` of a primitive is no member.
    fn member(&self, kind: &'a Type, name: &str) -> Option<Member<'a>> {
        let definitions = self.definitions;
        let (element, of_type) = match definitions.element(kind, name) {
            Some(element) if !element.is_choice => (element, element.types.first()?),
            _ => {
                let element = definitions.choice(kind, name)?;
                (element, element.member(name)?)
            }
        };
        if element.max == Some(0) || (kind.kind == Kind::Primitive && name == "value") {
            return None;
        }
        Some(Member { element, of_type, content: definitions.content(of_type)? })
    }

    fn unknown(&mut self, kind: &Type, name: &str, place: &Place) {
        let plain = name.strip_prefix('_').unwrap_or(name);
        let is_name = plain.len() <= 64
            && !plain.is_empty()
            && plain.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let text = match is_name {
            true => format!("{} has no element \"{name}\" in R4.", kind.name),
            false => format!("{} has a member whose name no element has.", kind.name),
        };
        self.report(place, IssueType::Structure, text);
    }

    /// A choice element has one type only; told at the later of two.
    fn only_choice(&mut self, member: Member<'a>, name: &str, object: &Object, place: &Place) {
        let element = member.element;
        let other = object
            .iter()
            .map(|(other, _)| other.strip_prefix('_').unwrap_or(other))
            .take_while(|other| *other != name)
            .find(|other| other.starts_with(element.name) && element.member(other).is_some());
        if let Some(other) = other {
            let text = format!("{} has one type only; keep {other} or {name}.", element.path);
            self.report(place, IssueType::Structure, text);
        }
    }

    /// One or more values of a type with elements.
    fn complex(&mut self, member: Member<'a>, value: &'a Json, at: &Place, scope: Scope<'a>) {
        if member.element.max == Some(1) {
            return match value {
                Json::Object(_) => self.content(member, value, at, scope),
                _ => self.wrong_form(member, value, at),
            };
        }
        let Json::Array(items) = value else { return self.wrong_form(member, value, at) };
        self.count(member, items.len(), at);
        for (index, item) in items.iter().enumerate() {
            let at = at.item(index);
            match item {
                Json::Object(_) => self.content(member, item, &at, scope),
                _ => {
                    let text = format!("Each {} is a JSON object.", member.element.name);
                    self.report(&at, IssueType::Structure, text);
                }
            }
        }
    }

    /// A value of a type with elements, which is an object.
    fn content(&mut self, member: Member<'a>, value: &'a Json, at: &Place, scope: Scope<'a>) {
        let Json::Object(object) = value else { return };
        if member.content.kind == Kind::Resource {
            if self.is_too_deep(at) {
                return;
            }
            return match member.element.path {
                "DomainResource.contained" => {
                    self.resource(value, at, Scope { is_contained: true, ..scope });
                }
                _ => self.container(value, at, scope.within(value)),
            };
        }
        self.object(member.content, value, at, scope);
        self.coded(member, value, at);
        if let (Some(world), Some(name)) = (self.world, member.of_type.profiles().next())
            && let Some(profile) = world.profiles.find(&format!("{R4}{name}"))
        {
            self.apply(profile, Item::complex(value, member.content), at, scope);
        }
        if member.content.name == "Reference" {
            self.reference(member.of_type, object, at, scope);
        }
        self.element_invariants(member, value, scope, at);
    }

    /// One or more primitive values and what their sibling `_name` adds.
    fn primitives(
        &mut self,
        member: Member<'a>,
        value: Option<&'a Json>,
        sibling: Option<&'a Json>,
        at: &Place,
        scope: Scope<'a>,
    ) {
        if member.element.max == Some(1) {
            if let Some(value) = value {
                self.primitive(member, value, at, scope);
            }
            if let Some(sibling) = sibling {
                self.sibling(member, sibling, value.is_some(), at, scope);
            }
            return;
        }
        let mut lists: [Option<&'a [Json]>; 2] = [None, None];
        for (list, part) in lists.iter_mut().zip([value, sibling]) {
            match part {
                Some(Json::Array(items)) => *list = Some(items),
                Some(other) => return self.wrong_form(member, other, at),
                None => {}
            }
        }
        let [values, siblings] = lists;
        if let (Some(values), Some(siblings)) = (values, siblings)
            && values.len() != siblings.len()
        {
            let name = member.element.name;
            let text = format!("{name} and _{name} have the same number of items; fill with null.");
            self.report(at, IssueType::Structure, text);
        }
        let length = values.map_or(0, <[Json]>::len).max(siblings.map_or(0, <[Json]>::len));
        self.count(member, length, at);
        for index in 0..length {
            let at = at.item(index);
            let present = |list: Option<&'a [Json]>| {
                list.and_then(|list| list.get(index)).filter(|item| **item != Json::Null)
            };
            let (value, sibling) = (present(values), present(siblings));
            if value.is_none() && sibling.is_none() {
                let text = "An item that is null needs an extension beside it.";
                self.report(&at, IssueType::Structure, text);
            }
            if let Some(value) = value {
                self.primitive(member, value, &at, scope);
            }
            if let Some(sibling) = sibling {
                self.sibling(member, sibling, value.is_some(), &at, scope);
            }
        }
    }

    /// One primitive value, which is not null if it stands in a list.
    fn primitive(&mut self, member: Member<'a>, value: &'a Json, at: &Place, scope: Scope<'a>) {
        match primitive::check(form_name(member), value) {
            None => {
                self.coded(member, value, at);
                for invariant in &member.element.invariants {
                    self.invariant(invariant, member.content, value, scope, at);
                }
            }
            Some(fault) => {
                let mut issue = crate::Issue::error(fault.code, fault.text);
                if let Some(text) = value.as_str().filter(|text| text.len() <= 256) {
                    issue = issue.value(text);
                }
                self.push(at, issue);
            }
        }
    }

    /// The id and extensions of one primitive.
    fn sibling(
        &mut self,
        member: Member<'a>,
        sibling: &'a Json,
        has_value: bool,
        at: &Place,
        scope: Scope<'a>,
    ) {
        let Json::Object(object) = sibling else {
            let text = format!("_{} is a JSON object with id or extension.", member.element.name);
            return self.report(at, IssueType::Structure, text);
        };
        self.object(member.content, sibling, at, scope);
        if has_value {
            return;
        }
        if object.get("id").is_some() && object.len() == 1 {
            self.push(at, broken("ele-1"));
        }
        // An extension says why there is no code, and is none.
        let is_required = member.element.binding.is_some_and(|of| of.strength == "required");
        if is_required && member.content.name == "code" {
            let text = format!("{} needs a code; an extension is none.", member.element.path);
            self.report(at, IssueType::CodeInvalid, text);
        }
    }

    /// The id of an element is its own within the resource:
    /// <https://hl7.org/fhir/R4/element.html#id>. The definitions of elements have theirs twice, in
    /// the snapshot and in the differential.
    fn own_id(&mut self, kind: &Type, value: &'a Json, place: &Place) {
        let Some(id) = value.as_str().filter(|_| kind.name != "ElementDefinition") else { return };
        if !self.ids.insert(id) {
            let text = "Another element of the resource has this id; give each its own.";
            let issue = crate::Issue::error(IssueType::BusinessRule, text);
            let issue = if id.len() <= 256 { issue.value(id) } else { issue };
            self.push(&place.child("id"), issue);
        }
    }

    fn wrong_form(&mut self, member: Member<'a>, value: &Json, at: &Place) {
        let name = member.element.name;
        let text = match (member.element.max, value) {
            (_, Json::Null) => format!("{name} must not be null; leave it out."),
            (Some(1), Json::Array(_)) => format!("{name} occurs once; it is no array."),
            (Some(1), _) => format!("{name} is a JSON object."),
            _ => format!("{name} can repeat; it is a JSON array."),
        };
        self.report(at, IssueType::Structure, text);
    }
}

/// The logical id of a resource and the id of an element are `string` in the definitions of R4;
/// their own rules stand in <https://hl7.org/fhir/R4/resource.html#id> and
/// <https://hl7.org/fhir/R4/element.html#id>.
fn form_name<'a>(member: Member<'a>) -> &'a str {
    match member.element.path {
        "Resource.id" => "id",
        "Element.id" => primitive::ELEMENT_ID,
        _ => member.content.name,
    }
}

/// The member `_name` beside `name`.
pub(super) fn sibling_of<'a>(object: &'a Object, name: &str) -> Option<&'a Json> {
    object.iter().find(|(key, _)| key.strip_prefix('_') == Some(name)).map(|(_, value)| value)
}
