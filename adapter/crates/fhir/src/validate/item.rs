//! The values of an element, wherever they stand: <https://hl7.org/fhir/R4/json.html#primitive>.
//!
//! A primitive's value and its id and extensions are two members of an object; a list has two
//! arrays then. Nothing is copied.

use std::slice;

use crate::definitions::{Definitions, ElementType, Kind, Type};
use crate::profile::rules::Rules;
use crate::{Json, Object};

/// One value.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    /// The value; none if there is only an id or extensions.
    pub value: Option<&'a Json>,
    /// The member `_name` of a primitive.
    pub sibling: Option<&'a Json>,
    /// Its type; for a resource the one that it states.
    pub kind: &'a Type,
}

/// All values of an element.
#[derive(Clone, Copy)]
pub(super) struct Items<'a> {
    values: &'a [Json],
    siblings: &'a [Json],
    kind: &'a Type,
    pub is_list: bool,
}

impl<'a> Item<'a> {
    /// A resource or a value of a type with elements.
    pub fn complex(value: &'a Json, kind: &'a Type) -> Item<'a> {
        Item { value: Some(value), sibling: None, kind }
    }

    /// The object that holds its elements.
    pub fn object(&self) -> Option<&'a Object> {
        let holder = if self.kind.kind == Kind::Primitive { self.sibling } else { self.value };
        holder?.as_object()
    }

    /// What tells it from all others.
    pub fn identity(&self) -> Option<&'a Json> {
        self.value.or(self.sibling)
    }

    /// The text of a primitive or of a member.
    pub fn text(&self, member: &str) -> Option<&'a str> {
        self.object()?.get(member)?.as_str()
    }

    /// The values of one of its elements, by the name without a type; none for a name that its
    /// type does not have.
    pub fn child(&self, definitions: &'a Definitions, name: &str) -> Option<Items<'a>> {
        let object = self.object()?;
        let element = match definitions.element(self.kind, name) {
            Some(element) => element,
            None => definitions.choice(self.kind, name)?,
        };
        let is_list = element.max != Some(1);
        if !element.is_choice {
            return Items::read(definitions, object, name, element.types.first()?, is_list);
        }
        if name != element.name {
            return Items::read(definitions, object, name, element.member(name)?, is_list);
        }
        object.iter().find_map(|(member, _)| {
            let plain = member.strip_prefix('_').unwrap_or(member);
            Items::read(definitions, object, plain, element.member(plain)?, is_list)
        })
    }
}

impl<'a> Items<'a> {
    /// The values that rules are about.
    pub fn of(
        definitions: &'a Definitions,
        rules: &Rules,
        object: &'a Object,
    ) -> Option<Items<'a>> {
        if !rules.is_choice {
            let (name, of_type) = rules.members.first()?;
            return Items::read(definitions, object, name, of_type, rules.is_list);
        }
        object.iter().find_map(|(member, _)| {
            let plain = member.strip_prefix('_').unwrap_or(member);
            if !plain.starts_with(rules.name.as_str()) {
                return None;
            }
            let (_, of_type) = rules.members.iter().find(|(name, _)| name == plain)?;
            Items::read(definitions, object, plain, of_type, rules.is_list)
        })
    }

    /// The values of a member.
    fn read(
        definitions: &'a Definitions,
        object: &'a Object,
        name: &str,
        of_type: &ElementType,
        is_list: bool,
    ) -> Option<Items<'a>> {
        let kind = definitions.content(of_type)?;
        let part = |json: Option<&'a Json>| match json {
            Some(Json::Array(items)) if is_list => items.as_slice(),
            Some(one) if !is_list => slice::from_ref(one),
            _ => &[],
        };
        let values = part(object.get(name));
        let siblings = match kind.kind {
            Kind::Primitive => part(super::element::sibling_of(object, name)),
            _ => &[],
        };
        let is_there = !values.is_empty() || !siblings.is_empty();
        is_there.then_some(Items { values, siblings, kind, is_list })
    }

    pub fn len(&self) -> usize {
        self.values.len().max(self.siblings.len())
    }

    pub fn get(&self, definitions: &'a Definitions, index: usize) -> Item<'a> {
        let part = |list: &'a [Json]| list.get(index).filter(|item| **item != Json::Null);
        let value = part(self.values);
        let kind = match (self.kind.kind, value) {
            (Kind::Resource, Some(value)) => {
                let own = value.str_at(&["resourceType"]);
                own.and_then(|name| definitions.type_of(name)).unwrap_or(self.kind)
            }
            _ => self.kind,
        };
        Item { value, sibling: part(self.siblings), kind }
    }

    pub fn iter(self, definitions: &'a Definitions) -> impl Iterator<Item = Item<'a>> {
        (0..self.len()).map(move |index| self.get(definitions, index))
    }
}
