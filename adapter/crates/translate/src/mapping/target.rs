//! Where a value goes in a resource, and the tree that grows there.
//!
//! A target is an element path. `name[label]` is one item of a repeating element: every row with
//! that label means the same item. `name[label*]` is a family of items, one for every value.
//! `name[]` adds the value at the end.

use std::collections::HashMap;

use lumbar_fhir::{Json, Object};

/// A parsed target.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    steps: Vec<Step>,
    append: bool,
    /// The innermost labelled item on the way.
    pub(crate) slot: Option<usize>,
    /// Whether that item is one of a family.
    pub(crate) each: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Member(String),
    Slot { name: String, slot: usize, each: bool },
}

impl Target {
    /// Whether more than one value can be written.
    pub(crate) fn repeats(&self) -> bool {
        self.append || self.each
    }
}

/// Numbers the labelled items of one table.
#[derive(Debug, Default)]
pub(crate) struct Slots(HashMap<String, usize>);

impl Slots {
    /// How many labelled items there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Reads a target; the error is a sentence part.
    pub(crate) fn parse(&mut self, text: &str) -> Result<Target, String> {
        let mut target = Target { steps: Vec::new(), append: false, slot: None, each: false };
        let mut path = String::new();
        for part in text.split('.') {
            if target.append {
                return Err("something follows []".into());
            }
            path.push('.');
            path.push_str(part);
            let (name, label) = match part.split_once('[') {
                Some((name, rest)) => {
                    (name, Some(rest.strip_suffix(']').ok_or("a bracket is not closed")?))
                }
                None => (part, None),
            };
            // A primitive's extensions stand under its name with a line before it.
            let letters = name.strip_prefix('_').unwrap_or(name);
            if letters.is_empty() || !letters.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(format!("\"{part}\" is no element"));
            }
            match label {
                None => target.steps.push(Step::Member(name.into())),
                Some("") => {
                    target.steps.push(Step::Member(name.into()));
                    target.append = true;
                }
                Some(label) => {
                    let next = self.0.len();
                    let slot = *self.0.entry(path.clone()).or_insert(next);
                    let each = label.ends_with('*');
                    if target.each {
                        return Err("a family of items stands inside another".into());
                    }
                    target.steps.push(Step::Slot { name: name.into(), slot, each });
                    target.slot = Some(slot);
                    target.each = each;
                }
            }
        }
        Ok(target)
    }
}

/// A resource that grows.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Object,
    /// For every labelled item, its places in its array, one for every member of a family.
    places: Vec<Vec<usize>>,
}

impl Tree {
    pub(crate) fn new(root: Object, slots: usize) -> Self {
        Tree { root, places: vec![Vec::new(); slots] }
    }

    pub(crate) fn into_object(self) -> Object {
        self.root
    }

    /// How many items of a label there are.
    pub(crate) fn count(&self, slot: usize) -> usize {
        self.places.get(slot).map_or(0, Vec::len)
    }

    /// Writes a value; `index` tells the items of a family apart.
    pub(crate) fn write(&mut self, target: &Target, index: usize, value: Json) {
        descend(&mut self.root, &mut self.places, &target.steps, target.append, index, value);
    }

    /// Writes a literal to all items of its label, before what stands there.
    pub(crate) fn write_first(&mut self, target: &Target, value: &Json) {
        let Some((Step::Member(name), way)) = target.steps.split_last() else { return };
        let count = target.slot.map_or(0, |slot| self.count(slot));
        for index in 0..count {
            let mut member = Object::new();
            member.set(name, value.clone());
            prepend(&mut self.root, &self.places, way, index, member);
        }
    }
}

fn descend(
    object: &mut Object,
    places: &mut [Vec<usize>],
    steps: &[Step],
    append: bool,
    index: usize,
    value: Json,
) {
    let Some((step, rest)) = steps.split_first() else { return };
    match step {
        Step::Member(name) if rest.is_empty() && append => {
            match object.get_mut(name) {
                Some(Json::Array(items)) => items.push(value),
                _ => object.set(name, vec![value]),
            };
        }
        Step::Member(name) if rest.is_empty() => object.set(name, value),
        Step::Member(name) => {
            if object.get(name).is_none() {
                object.set(name, Object::new());
            }
            if let Some(Json::Object(inner)) = object.get_mut(name) {
                descend(inner, places, rest, append, index, value);
            }
        }
        Step::Slot { name, slot, each } => {
            if object.get(name).is_none() {
                object.set(name, Vec::new());
            }
            let Some(Json::Array(items)) = object.get_mut(name) else { return };
            let Some(known) = places.get_mut(*slot) else { return };
            let member = if *each { index } else { 0 };
            while known.len() <= member {
                known.push(items.len());
                items.push(Json::Object(Object::new()));
            }
            let Some(item) = known.get(member).and_then(|place| items.get_mut(*place)) else {
                return;
            };
            match (item, value) {
                (Json::Object(item), value) if !rest.is_empty() => {
                    descend(item, places, rest, append, index, value);
                }
                (Json::Object(item), Json::Object(value)) => {
                    value.iter().for_each(|(name, value)| item.set(name, value));
                }
                (item, value) => *item = value,
            }
        }
    }
}

/// Puts the members of `first` before those of the object that the steps lead to.
fn prepend(
    object: &mut Object,
    places: &[Vec<usize>],
    steps: &[Step],
    index: usize,
    first: Object,
) {
    let Some((step, rest)) = steps.split_first() else {
        for (name, value) in first.iter() {
            object.set_at(0, name, value);
        }
        return;
    };
    let (name, place) = match step {
        Step::Member(name) => (name, None),
        Step::Slot { name, slot, each } => {
            let member = if *each { index } else { 0 };
            let place = places.get(*slot).and_then(|known| known.get(member)).copied();
            (name, Some(place.unwrap_or(usize::MAX)))
        }
    };
    if place.is_none() && object.get(name).is_none() {
        object.set(name, Object::new());
    }
    let next = match (object.get_mut(name), place) {
        (Some(Json::Array(items)), Some(place)) => items.get_mut(place),
        (next, _) => next,
    };
    if let Some(Json::Object(next)) = next {
        prepend(next, places, rest, index, first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lumbar_fhir::json;

    #[test]
    fn labels_families_and_additions() {
        let mut slots = Slots::default();
        let mut target = |text: &str| slots.parse(text).unwrap();
        let rows = [
            (target("name[a].family"), 0, json!("F")),
            (target("name[a].given[]"), 0, json!("G1")),
            (target("name[a].given[]"), 0, json!("G2")),
            (target("code.coding[x].code"), 0, json!("1")),
            (target("actor[u*].who"), 0, json!("U0")),
            (target("actor[u*].who"), 1, json!("U1")),
            (target("identifier[i]"), 0, json!({"value": "v"})),
            (target("identifier[i].use"), 0, json!("official")),
        ];
        let mut tree = Tree::new(Object::new(), slots.len());
        for (target, index, value) in rows {
            tree.write(&target, index, value);
        }
        assert_eq!(
            Json::Object(tree.into_object()).to_string(),
            r#"{"name":[{"family":"F","given":["G1","G2"]}],"code":{"coding":[{"code":"1"}]},"actor":[{"who":"U0"},{"who":"U1"}],"identifier":[{"value":"v","use":"official"}]}"#
        );
    }

    #[test]
    fn faults() {
        for bad in ["", "a..b", "a[x", "a[].b", "a[x*].b[y*]", "a b"] {
            assert!(Slots::default().parse(bad).is_err(), "{bad}");
        }
    }
}
