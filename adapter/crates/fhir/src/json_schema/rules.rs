//! What a profile adds to a type: <https://hl7.org/fhir/R4/elementdefinition.html>.

use super::{Builder, MAX_DEPTH, Open, all_of, any_of, has, items, with};
use crate::definitions::ElementType;
use crate::profile::rules::{Index, Rules, Target, TypeRule};
use crate::{Json, Object, json};

/// Where an object's conditions gather.
#[derive(Default)]
pub(super) struct Within {
    pub properties: Object,
    pub required: Vec<Json>,
    pub all: Vec<Json>,
}

impl<'a> Builder<'a> {
    /// The rules of a node.
    pub(super) fn node(&self, node: Index) -> Option<&'a Rules> {
        self.tree?.nodes.get(node)
    }

    /// The conditions that elements make for the object that holds them.
    pub(super) fn within(&mut self, children: &'a [Index], depth: usize) -> Vec<Json> {
        let mut within = Within::default();
        if depth > MAX_DEPTH {
            self.left = 0;
            return Vec::new();
        }
        for child in children {
            if let Some(rules) = self.node(*child) {
                self.element(rules, &mut within, depth);
            }
        }
        let Within { properties, required, mut all } = within;
        let mut own = Object::new();
        if !properties.is_empty() {
            own.set("properties", properties);
        }
        if !required.is_empty() {
            own.set("required", required);
        }
        if !own.is_empty() {
            all.insert(0, Json::Object(own));
        }
        all
    }

    fn element(&mut self, rules: &'a Rules, within: &mut Within, depth: usize) {
        let mut ways = Vec::new();
        for (name, of) in &rules.members {
            if !self.spend() {
                return;
            }
            let is_primitive = self.is_primitive(of);
            if rules.max == Some(0) || !is_left(rules, of) {
                within.properties.set(name, false);
                if is_primitive {
                    within.properties.set(&format!("_{name}"), false);
                }
                continue;
            }
            ways.extend(has(name, is_primitive));
            let value = self.value(rules, of, depth);
            let schema = match rules.is_list {
                true => self.list(rules, of, value, depth),
                false => self.single(rules, of, value, depth),
            };
            if !schema.is_empty() {
                within.properties.set(name, all_of(schema));
            }
        }
        let is_required = rules.min.is_some_and(|min| min > 0)
            || rules.slices.iter().any(|slice| self.is_required(slice.node));
        if is_required && rules.max != Some(0) {
            match ways.as_slice() {
                [_] => within
                    .required
                    .extend(ways.iter().flat_map(|way| way.list("required")).cloned()),
                [] => {}
                _ => within.all.push(any_of(ways)),
            }
        }
    }

    /// The conditions on one value.
    pub(super) fn value(
        &mut self,
        rules: &'a Rules,
        of: &'a ElementType,
        depth: usize,
    ) -> Vec<Json> {
        let definitions = self.sources.definitions;
        let content = definitions.content(of);
        let mut all = Vec::new();
        if let Some(fixed) = &rules.fixed {
            all.extend(self.take(json!({"const": (fixed)})));
        }
        if let Some(wanted) = &rules.pattern {
            all.extend(self.take(pattern(wanted)));
        }
        let [min, max] = &rules.bounds;
        all.extend(min.iter().filter_map(|bound| limit("minimum", bound)));
        all.extend(max.iter().filter_map(|bound| limit("maximum", bound)));
        if let Some(length) = rules.max_length {
            all.push(json!({"maxLength": (length)}));
        }
        if let Some(binding) = rules.binding.as_ref().filter(|of| of.strength == "required") {
            let name = content.map_or(of.code, |content| content.name);
            let codes = self.bound(&binding.value_set, name);
            all.extend(codes.and_then(|codes| self.take(codes)));
        }
        let targets = self.targets(rules, of);
        all.extend(targets.and_then(|targets| self.take(targets)));
        if let Some(same) = rules.same_as {
            all.push(self.refer(Open::Node(same)));
        }
        // Children are of the only type that is left.
        all.extend(self.within(&rules.children, depth + 1));
        all
    }

    /// The conditions on a list of values.
    fn list(
        &mut self,
        rules: &'a Rules,
        of: &'a ElementType,
        value: Vec<Json>,
        depth: usize,
    ) -> Vec<Json> {
        let is_primitive = self.is_primitive(of);
        let mut own = Object::new();
        if !value.is_empty() {
            own.set("items", items(all_of(value), is_primitive));
        }
        if let Some(min) = rules.min.filter(|min| *min > 1) {
            own.set("minItems", min);
        }
        if let Some(max) = rules.max {
            own.set("maxItems", max);
        }
        let mut all = Vec::new();
        if !own.is_empty() {
            all.push(Json::Object(own));
        }
        all.extend(self.slices(rules, of, &[], depth));
        all
    }

    /// The conditions on a single value, those of slices that are told by their type among them.
    fn single(
        &mut self,
        rules: &'a Rules,
        of: &'a ElementType,
        mut all: Vec<Json>,
        depth: usize,
    ) -> Vec<Json> {
        for slice in &rules.slices {
            let Some(own) = self.node(slice.node) else { continue };
            let is_meant = rules.is_choice && self.is_of_type(slice, of);
            if is_meant && self.spend() {
                all.extend(self.value(own, of, depth + 1));
            }
        }
        all
    }

    /// The types that a relative reference may name.
    fn targets(&self, rules: &Rules, of: &ElementType) -> Option<Json> {
        let mine = |rule: &&TypeRule| rule.code == of.code;
        let mut names: Vec<&str> = Vec::new();
        for rule in rules.types.iter().filter(mine) {
            if rule.targets.is_empty() {
                return None;
            }
            for target in &rule.targets {
                names.push(match target {
                    Target::Type(name) => name,
                    Target::Profile(url) => self.sources.profiles.find(url)?.of_type()?,
                });
            }
        }
        let is_any = |name: &&str| matches!(*name, "Resource" | "DomainResource");
        if names.is_empty() || names.iter().any(is_any) || of.code != "Reference" {
            return None;
        }
        let wanted = format!("^(?:{})/", names.join("|"));
        let relative = "^[A-Z][A-Za-z]*/[A-Za-z0-9.-]+(?:/_history/[A-Za-z0-9.-]+)?$";
        let text = json!({"anyOf": [{"pattern": (wanted)}, {"not": {"pattern": (relative)}}]});
        Some(json!({"properties": {"reference": (text)}}))
    }

    /// Whether there must be an item of a slice.
    pub(super) fn is_required(&self, node: Index) -> bool {
        self.node(node).and_then(|rules| rules.min).is_some_and(|min| min > 0)
    }
}

/// Whether a type is one of those that are left of a choice.
fn is_left(rules: &Rules, of: &ElementType) -> bool {
    let is_it = |rule: &TypeRule| rule.code == of.code;
    !rules.is_choice || rules.types.is_empty() || rules.types.iter().any(is_it)
}

/// A value that has at least what a pattern has:
/// <https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.pattern_x_>.
pub(super) fn pattern(json: &Json) -> Json {
    match json {
        Json::Object(object) => {
            all_of(object.iter().map(|(name, value)| with(name, pattern(value))).collect())
        }
        Json::Array(wanted) => {
            all_of(wanted.iter().map(|item| json!({"contains": (pattern(item))})).collect())
        }
        value => json!({"const": (value)}),
    }
}

/// A limit of numbers; of quantities that of those in the same unit.
fn limit(keyword: &str, bound: &Json) -> Option<Json> {
    let number = |value: &Json| {
        let mut limit = Object::new();
        value.as_number()?;
        limit.set(keyword, value);
        Some(Json::Object(limit))
    };
    let Some(value) = bound.get("value") else { return number(bound) };
    let unit = bound.get("code").map(|code| with("code", json!({"const": (code)})))?;
    let within = json!({"properties": {"value": (number(value)?)}});
    Some(json!({"if": (unit), "then": (within)}))
}
