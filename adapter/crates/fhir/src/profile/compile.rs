//! From the elements of a snapshot to the rules that they add to their base type.

use std::borrow::Cow;
use std::cell::Cell;

use super::discriminator;
use super::outline::{Outline, last};
use super::rules::*;
use super::{Profiles, short};
use crate::Json;
use crate::definitions::{Definitions, Element, ElementType, Type};
use crate::path::Expression;

/// Most elements, constraints and values that are gone through to make the rules of a profile.
const MAX_WORK: u64 = 5_000_000;
/// Longest id of an element or key of a rule that is told, in characters.
const MAX_NAME: usize = 300;

/// Whether a compilation took more than it may; then there are no rules.
pub(super) fn is_spent(work: &Cell<u64>) -> bool {
    work.get() > MAX_WORK
}

/// Largest value set extension of a binding.
const MAX_VALUE_SET: &str = "http://hl7.org/fhir/StructureDefinition/elementdefinition-maxValueSet";

/// What a compilation looks things up in.
#[derive(Clone, Copy)]
pub(super) struct Compiler<'p> {
    pub profiles: &'p Profiles,
    pub definitions: &'p Definitions,
    pub outline: &'p Outline,
    /// Whether the snapshot came with the definition.
    pub is_given: bool,
    /// What was gone through so far.
    pub work: &'p Cell<u64>,
}

impl<'p> Compiler<'p> {
    /// The rules of the whole profile; `None` if its type is none of R4.
    pub fn compile(self) -> Option<Tree> {
        let of_type = self.outline.definition().str_at(&["type"])?;
        let kind = self.definitions.type_of(of_type)?;
        let mut nodes: Vec<Rules> = Vec::new();
        nodes.resize_with(self.outline.nodes.len(), Rules::default);
        let root = Rules {
            id: of_type.to_owned(),
            constraints: self.constraints(self.outline.element(0), None, &[kind], None),
            children: self.children(0, kind, &mut nodes),
            ..Rules::default()
        };
        *nodes.first_mut()? = root;
        if is_spent(self.work) {
            return None;
        }
        Some(Tree { of_type: of_type.to_owned(), nodes: prune(nodes) })
    }

    /// Counts work; false when there was too much.
    pub fn spend(self, work: usize) -> bool {
        self.work.set(self.work.get().saturating_add(work as u64));
        !is_spent(self.work)
    }

    /// A copy of a value, which counts by its size; nothing when that is too much.
    pub fn copy(self, json: &Json) -> Json {
        if self.spend(size(json)) { json.clone() } else { Json::Null }
    }

    fn children(self, node: usize, kind: &'p Type, nodes: &mut Vec<Rules>) -> Vec<Index> {
        let children = self.outline.nodes.get(node).map_or(&[][..], |node| &node.children);
        children.iter().copied().filter(|child| self.node(*child, kind, None, nodes)).collect()
    }

    /// Fills in the rules of a node and of all below it; false for an element that its type does
    /// not have.
    fn node(
        self,
        node: usize,
        parent: &'p Type,
        head: Option<&'p Json>,
        nodes: &mut Vec<Rules>,
    ) -> bool {
        if !self.spend(1) {
            return false;
        }
        let path = self.outline.path(node);
        let name = last(path);
        let definitions = self.definitions;
        let found = definitions.element(parent, name).or_else(|| definitions.choice(parent, name));
        let Some(base) = found else { return false };
        let element = self.outline.element(node);
        let mut rules = self.rules(element, base, head);
        // `valueQuantity` without a slice is about that type only.
        if base.is_choice && name != base.name {
            rules.members.retain(|(member, _)| member == name);
        }
        let content = self.content(element, base);
        let children = match (content, definitions.type_of("Element")) {
            (Some(kind), _) | (None, Some(kind)) => self.children(node, kind, nodes),
            _ => Vec::new(),
        };
        // In a snapshot that is made here, as in those that HL7's tools make today, the content is
        // that of the base, without what the profile says of the other element.
        if children.is_empty()
            && self.is_given
            && let Some(original) = element.str_at(&["contentReference"])
            && let Some(original) = original.strip_prefix('#')
        {
            self.spend(self.outline.nodes.len());
            let is_original = |other: &usize| self.outline.path(*other) == original;
            rules.same_as = (0..self.outline.nodes.len()).find(is_original);
        }
        rules.children = children;
        let slices = self.outline.nodes.get(node).map_or(&[][..], |node| &node.slices);
        let slicing = element.get("slicing");
        let discriminators = slicing.map_or(&[][..], |slicing| slicing.list("discriminator"));
        for slice in slices.iter().copied() {
            if !self.node(slice, parent, Some(element), nodes) {
                continue;
            }
            let name = self.outline.element(slice).str_at(&["sliceName"]).unwrap_or_default();
            let is_default = name == "@default";
            let matchers = match (is_default, discriminators.is_empty()) {
                (true, _) => Vec::new(),
                (false, true) => discriminator::implicit(self, slice, base),
                (false, false) => {
                    let matcher =
                        |discriminator| discriminator::matcher(self, slice, discriminator);
                    self.spend(discriminators.len());
                    let mut matchers: Vec<Matcher> = discriminators.iter().map(matcher).collect();
                    // What the slice says nothing about does not tell it, if something else does.
                    let is_open = |matcher: &Matcher| matches!(matcher.test, Test::Undecided);
                    if !matchers.iter().all(is_open) {
                        matchers.retain(|matcher| !is_open(matcher));
                    }
                    matchers
                }
            };
            rules.slices.push(Slice { name: name.to_owned(), matchers, is_default, node: slice });
        }
        rules.slicing = slicing.map(|slicing| Slicing {
            rules: match slicing.str_at(&["rules"]) {
                Some("closed") => SlicingRules::Closed,
                Some("openAtEnd") => SlicingRules::OpenAtEnd,
                _ => SlicingRules::Open,
            },
            is_ordered: slicing.get("ordered").and_then(Json::as_bool) == Some(true),
        });
        if let Some(place) = nodes.get_mut(node) {
            *place = rules;
        }
        true
    }

    /// The type whose elements the children are.
    fn content(self, element: &Json, base: &'p Element) -> Option<&'p Type> {
        let definitions = self.definitions;
        let types = element.list("type");
        let only = match types {
            [only] => only.str_at(&["code"]),
            _ => None,
        };
        match (base.types.as_slice(), only) {
            ([own], Some(code)) if own.code != code => {
                definitions.type_of(code).or_else(|| definitions.content(own))
            }
            ([own], _) => definitions.content(own),
            (_, Some(code)) => definitions.type_of(code),
            _ => None,
        }
    }

    /// The rules on the element itself.
    fn rules(self, element: &'p Json, base: &'p Element, head: Option<&'p Json>) -> Rules {
        let number = |json: &Json, name: &str| {
            let value = json.get(name)?;
            value.as_number().or_else(|| value.as_str())?.parse::<usize>().ok()
        };
        let base_min = usize::try_from(base.min).unwrap_or(usize::MAX);
        let base_max = base.max.and_then(|max| usize::try_from(max).ok());
        let (min, max) = (number(element, "min"), number(element, "max"));
        let is_slice = head.is_some();
        let id = element.str_at(&["id"]).or_else(|| element.str_at(&["path"]));
        // What a slice has from the element that it is a slice of is checked there.
        let inherited = |name: &str| head.is_some_and(|head| head.get(name) == element.get(name));
        let value_of = |prefix: &str| {
            let (name, value) = choice(element, prefix)?;
            (!inherited(name)).then(|| value.clone())
        };
        let types = if inherited("type") { Vec::new() } else { self.types(element, base) };
        let kinds: Vec<&Type> =
            base.types.iter().filter_map(|of_type| self.definitions.content(of_type)).collect();
        Rules {
            id: id.unwrap_or_default().chars().take(MAX_NAME).collect(),
            name: base.name.to_owned(),
            members: members(base),
            is_choice: base.is_choice,
            is_list: base.max != Some(1),
            min: min.filter(|min| *min > if is_slice { 0 } else { base_min }),
            max: max.filter(|max| is_slice || base_max.is_none_or(|base| *max < base)),
            types,
            fixed: value_of("fixed"),
            pattern: value_of("pattern"),
            bounds: [value_of("minValue"), value_of("maxValue")],
            max_length: number(element, "maxLength").filter(|_| !inherited("maxLength")),
            binding: if inherited("binding") { None } else { binding(element, base) },
            constraints: self.constraints(element, Some(base), &kinds, head),
            ..Rules::default()
        }
    }

    fn types(self, element: &Json, base: &Element) -> Vec<TypeRule> {
        let rule = |json: &Json| {
            let code = json.str_at(&["code"]).unwrap_or_default();
            let texts = |name: &str| -> Vec<String> {
                json.list(name).iter().filter_map(Json::as_str).map(str::to_owned).collect()
            };
            let own = base.types.iter().find(|own| own.code == code);
            let base_profile = |profile: &String| {
                own.is_some_and(|own| {
                    own.profiles().any(|name| short(profile).unwrap_or(profile) == name)
                })
            };
            let mut profiles: Vec<String> =
                discriminator::type_profiles(json).map(Cow::into_owned).collect();
            if profiles.iter().all(base_profile) {
                profiles.clear();
            }
            let targets = texts("targetProfile").into_iter().map(|url| self.target(url));
            let mut targets: Vec<Target> = targets.collect();
            let is_base_target = |target: &Target| match target {
                Target::Type(name) => {
                    own.is_some_and(|own| own.targets().any(|of| of == name)) || name == "Resource"
                }
                Target::Profile(_) => false,
            };
            if own.is_some_and(|own| own.targets().count().max(1) == targets.len())
                && targets.iter().all(is_base_target)
            {
                targets.clear();
            }
            let aggregation = json.list("aggregation").iter().filter_map(|mode| {
                Some(match mode.as_str()? {
                    "contained" => Aggregation::Contained,
                    "referenced" => Aggregation::Referenced,
                    "bundled" => Aggregation::Bundled,
                    _ => return None,
                })
            });
            let is_versioned = match json.str_at(&["versioning"]) {
                Some("specific") => Some(true),
                Some("independent") => Some(false),
                _ => None,
            };
            let aggregation = aggregation.collect();
            TypeRule { code: code.to_owned(), profiles, targets, aggregation, is_versioned }
        };
        let rules: Vec<TypeRule> = element.list("type").iter().map(rule).collect();
        let is_system = |rule: &TypeRule| rule.code.starts_with("http://hl7.org/fhirpath/");
        let is_plain = |rule: &TypeRule| {
            rule.profiles.is_empty()
                && rule.targets.is_empty()
                && rule.aggregation.is_empty()
                && rule.is_versioned.is_none()
        };
        let has_all = base.types.iter().all(|own| rules.iter().any(|rule| rule.code == own.code));
        if rules.iter().any(is_system) || (has_all && rules.iter().all(is_plain)) {
            return Vec::new();
        }
        rules
    }

    /// The target of a canonical: a type, if it is the canonical of one.
    fn target(self, url: String) -> Target {
        match short(&url).filter(|name| self.definitions.type_of(name).is_some()) {
            Some(name) => Target::Type(name.to_owned()),
            None => Target::Profile(url),
        }
    }

    /// The constraints that neither the base nor the sliced element has.
    fn constraints(
        self,
        element: &Json,
        base: Option<&Element>,
        kinds: &[&Type],
        head: Option<&Json>,
    ) -> Vec<Constraint> {
        let definitions = self.definitions;
        let is_of_base = |key: &str| {
            let of = |invariants: &[crate::definitions::Invariant]| {
                invariants.iter().any(|invariant| invariant.key == key)
            };
            let of_lineage = |kind: &&Type| {
                let mut lineage = std::iter::successors(Some(*kind), |kind| definitions.base(kind));
                lineage.any(|kind| of(&kind.invariants))
            };
            base.is_some_and(|base| of(&base.invariants)) || kinds.iter().any(of_lineage)
        };
        let own = element.list("constraint");
        let of_head = head.map_or(0, |head| head.list("constraint").len());
        if !self.spend(own.len().saturating_mul(1 + of_head)) {
            return Vec::new();
        }
        let known = own.iter().filter_map(|constraint| {
            let key = constraint.str_at(&["key"])?;
            let source = constraint.str_at(&["source"]).and_then(short);
            let is_known = key == "ele-1"
                || is_of_base(key)
                || source.is_some_and(|source| definitions.type_of(source).is_some())
                || head.is_some_and(|head| {
                    let mut keys = head.list("constraint").iter();
                    keys.any(|other| other.str_at(&["key"]) == Some(key))
                });
            let text = constraint.str_at(&["expression"])?;
            (!is_known).then(|| Constraint {
                key: key.chars().take(MAX_NAME).collect(),
                is_error: constraint.str_at(&["severity"]) != Some("warning"),
                human: constraint.str_at(&["human"]).unwrap_or_default().to_owned(),
                expression: Expression::parse(text).ok(),
            })
        });
        known.collect()
    }
}

/// About how much a value is.
fn size(json: &Json) -> usize {
    1 + match json {
        Json::String(text) => text.len() / 64,
        Json::Array(items) => items.iter().map(size).sum(),
        Json::Object(object) => object.iter().map(|(_, value)| size(value)).sum(),
        _ => 0,
    }
}

/// The JSON names of an element and the type that each means.
fn members(base: &Element) -> Vec<(String, ElementType)> {
    let name = |of_type: &ElementType| {
        if !base.is_choice {
            return base.name.to_owned();
        }
        let mut letters = of_type.code.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().fold(base.name.to_owned(), |name, first| format!("{name}{first}"))
            + letters.as_str()
    };
    let of_types = base.types.iter().take(if base.is_choice { usize::MAX } else { 1 });
    of_types.map(|of_type| (name(of_type), *of_type)).collect()
}

/// The value of a choice element of an ElementDefinition, such as `fixed[x]`.
pub(super) fn choice<'a>(element: &'a Json, prefix: &str) -> Option<(&'a str, &'a Json)> {
    element.as_object()?.iter().find(|(name, _)| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(char::is_uppercase))
    })
}

/// The binding of an element, if it has one.
pub(super) fn binding_of(element: &Json) -> Option<BindingRule> {
    let binding = element.get("binding")?;
    let largest = binding.list("extension").iter().find_map(|extension| {
        let is_it = extension.str_at(&["url"]) == Some(MAX_VALUE_SET);
        let value = extension.str_at(&["valueCanonical"]);
        is_it.then(|| value.or_else(|| extension.str_at(&["valueUri"])))?
    });
    Some(BindingRule {
        strength: binding.str_at(&["strength"])?.to_owned(),
        value_set: binding.str_at(&["valueSet"])?.to_owned(),
        max_value_set: largest.map(str::to_owned),
    })
}

/// The binding, unless the base has the same.
fn binding(element: &Json, base: &Element) -> Option<BindingRule> {
    let rule = binding_of(element)?;
    let url = |canonical: &str| canonical.split('|').next().unwrap_or_default().to_owned();
    let is_same = base.binding.is_some_and(|binding| {
        binding.strength == rule.strength && url(binding.value_set) == url(&rule.value_set)
    });
    (!is_same).then_some(rule)
}

/// Leaves only the nodes that have a rule or lead to one.
fn prune(mut nodes: Vec<Rules>) -> Vec<Rules> {
    // Children and slices stand behind what holds them.
    for index in (0..nodes.len()).rev() {
        let Some(mut rules) = nodes.get_mut(index).map(std::mem::take) else { continue };
        let is_useful = |child: &Index| nodes.get(*child).is_some_and(|child| !child.is_empty());
        rules.children.retain(is_useful);
        // An open slicing whose slices demand nothing is none.
        let is_closed =
            rules.slicing.as_ref().is_some_and(|slicing| slicing.rules == SlicingRules::Closed);
        let is_ordered = rules.slicing.as_ref().is_some_and(|slicing| slicing.is_ordered);
        if !is_closed && !is_ordered && !rules.slices.iter().any(|slice| is_useful(&slice.node)) {
            rules.slices.clear();
            rules.slicing = None;
        }
        if let Some(place) = nodes.get_mut(index) {
            *place = rules;
        }
    }
    compact(nodes)
}

/// Takes out what the root does not lead to.
fn compact(mut nodes: Vec<Rules>) -> Vec<Rules> {
    let mut new: Vec<Option<Index>> = vec![None; nodes.len()];
    let mut order: Vec<Index> = Vec::new();
    let mut open: Vec<Index> = vec![0];
    while let Some(index) = open.pop() {
        let Some(place @ None) = new.get_mut(index) else { continue };
        *place = Some(order.len());
        order.push(index);
        if let Some(rules) = nodes.get(index) {
            let slices = rules.slices.iter().map(|slice| slice.node);
            open.extend(rules.children.iter().copied().chain(slices).chain(rules.same_as));
        }
    }
    let moved = |index: Index| new.get(index).copied().flatten();
    let mut kept = Vec::with_capacity(order.len());
    for index in order {
        let Some(mut rules) = nodes.get_mut(index).map(std::mem::take) else { continue };
        rules.children = rules.children.iter().filter_map(|child| moved(*child)).collect();
        rules.same_as = rules.same_as.and_then(moved);
        for slice in &mut rules.slices {
            slice.node = moved(slice.node).unwrap_or_default();
        }
        kept.push(rules);
    }
    kept
}
