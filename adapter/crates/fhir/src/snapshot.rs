//! Snapshots of StructureDefinitions: <https://hl7.org/fhir/R4/profiling.html> and
//! <https://hl7.org/fhir/R4/elementdefinition.html>.
//!
//! [`generate`] lays a differential over the snapshot of the base; [`of_type`] makes the definition
//! of an R4 type from the tables. A differential's element is placed by its `id`, or, where that
//! does not agree with `path` and `sliceName`, by what stands before it. Whether a differential only
//! narrows what the base allows is not judged here: a value that contradicts the base is taken over
//! as it is stated.

mod element;
#[cfg(test)]
mod tests;
mod tree;
mod type_of;

use std::collections::HashMap;
use std::sync::Arc;

pub use type_of::of_type;

use crate::{Issue, IssueType, Json, Object, json};
use tree::{Node, Step, steps};

/// Where HL7's own StructureDefinitions have their canonicals.
pub const CORE: &str = "http://hl7.org/fhir/StructureDefinition/";

/// Names the FHIR type of a plain value.
const FHIR_TYPE: &str = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type";

/// Most elements of one snapshot or differential. The largest published ones have about 1,000.
pub(crate) const MAX_ELEMENTS: usize = 20_000;
/// Most elements and list items that are gone through for one snapshot.
const MAX_WORK: usize = 20_000_000;
/// Most elements of a differential that are told of.
const MAX_TOLD: usize = 100;
/// Most parts of an element's path.
const MAX_STEPS: usize = 50;

/// The definition with its snapshot made anew from its differential. `base_of` gives
/// StructureDefinitions that have a snapshot by canonical: the base, the types of elements into
/// which the differential walks, and the profiles on these. Without a type's profile its type is
/// used; without the base there is no snapshot. A caller that generates these snapshots, too, must
/// answer `None` for a definition that is being generated.
///
/// # Errors
/// An issue for each element of the differential that cannot be placed, and for what is missing;
/// `expression` is the element's id.
pub fn generate(
    definition: &Json,
    base_of: &dyn Fn(&str) -> Option<Arc<Json>>,
) -> Result<Json, Vec<Issue>> {
    let text = |name: &str| definition.str_at(&[name]).unwrap_or_default();
    let name = if text("url").is_empty() { text("name") } else { text("url") };
    let base = text("baseDefinition");
    if base.is_empty() {
        let said = format!("{name} names no baseDefinition, so its snapshot cannot be made");
        return Err(vec![Issue::error(IssueType::Required, said)]);
    }
    let differential = definition.get("differential").map_or(&[][..], |d| d.list("element"));
    if differential.len() > MAX_ELEMENTS {
        let said = format!("the differential of {name} has more than {MAX_ELEMENTS} elements");
        return Err(vec![Issue::error(IssueType::TooCostly, said)]);
    }
    let mut generator = Generator {
        base_of,
        url: text("url"),
        is_specialization: text("derivation") == "specialization",
        trees: HashMap::new(),
        base: None,
        elements: 0,
        work: 0,
    };
    let Some(base_tree) = generator.tree(base).map_err(|issue| vec![issue])? else {
        let said = format!(
            "the base {base} of {name} is not known with a snapshot; load the package that holds it"
        );
        return Err(vec![Issue::error(IssueType::NotFound, said)]);
    };
    let mut root = (*base_tree).clone();
    generator.base = Some(base_tree);
    generator.elements = root.count();
    if generator.is_specialization {
        let path = differential.first().and_then(|first| first.str_at(&["path"]));
        let of = path.and_then(|path| path.split('.').next()).unwrap_or_else(|| text("type"));
        root.become_type(of);
    }
    let issues = generator.apply(&mut root, differential);
    if !issues.is_empty() {
        return Err(issues);
    }
    let mut made = definition.clone();
    if let Json::Object(object) = &mut made {
        let elements = json!({"element": (root.flatten())});
        let before = object.iter().position(|(name, _)| name == "differential");
        object.set_at(before.unwrap_or(usize::MAX), "snapshot", elements);
    }
    Ok(made)
}

struct Generator<'a> {
    base_of: &'a dyn Fn(&str) -> Option<Arc<Json>>,
    url: &'a str,
    is_specialization: bool,
    /// Snapshots that were read, by canonical; those that are not known, too.
    trees: HashMap<String, Option<Arc<Node>>>,
    base: Option<Arc<Node>>,
    elements: usize,
    work: usize,
}

impl Generator<'_> {
    fn apply(&mut self, root: &mut Node, differential: &[Json]) -> Vec<Issue> {
        let mut issues = Vec::new();
        let mut before: Vec<Step> = Vec::new();
        for element in differential {
            let placed = steps(element, &before).and_then(|steps| {
                before.clone_from(&steps);
                let Some((first, rest)) = steps.split_first() else { return Ok(()) };
                if first.name != root.name {
                    let said = format!("the definition is about {}, not {}", root.name, first.name);
                    return Err(Issue::error(IssueType::Structure, said));
                }
                if steps.len() > MAX_STEPS {
                    let said = format!("a path has {MAX_STEPS} parts at most");
                    return Err(Issue::error(IssueType::TooCostly, said));
                }
                let Some(object) = element.as_object() else { return Ok(()) };
                self.place(root, rest, object)
            });
            if let Err(issue) = placed {
                let costly = issue.code == IssueType::TooCostly;
                let id = element.str_at(&["id"]).or_else(|| element.str_at(&["path"]));
                issues.push(issue.at(id.unwrap_or(self.url)));
                if costly || issues.len() == MAX_TOLD {
                    break;
                }
            }
        }
        issues
    }

    /// Lays the differential's element over the one that lies `steps` below `node`.
    fn place(
        &mut self,
        node: &mut Node,
        steps: &[Step],
        differential: &Object,
    ) -> Result<(), Issue> {
        let Some((step, rest)) = steps.split_first() else {
            let extension = self.extension_definition(node, differential)?;
            self.spend(element::work(&node.element, differential))?;
            element::merge(&mut node.element, differential, extension.as_deref(), self.url);
            return Ok(());
        };
        self.expand(node)?;
        self.spend(node.children.len())?;
        let index = self.child(node, step, rest.is_empty(), differential)?;
        let Some(child) = node.children.get_mut(index) else { return Ok(()) };
        self.place(child, rest, differential)?;
        if rest.is_empty() && step.name != child.name {
            element::only_choice(node, index);
        }
        Ok(())
    }

    /// The place of the child that a step names; a new slice, and a new element of a
    /// specialization, are made.
    fn child(
        &mut self,
        node: &mut Node,
        step: &Step,
        is_last: bool,
        differential: &Object,
    ) -> Result<usize, Issue> {
        if let Some(index) = node.find(&step.name, step.slice.as_deref()) {
            return Ok(index);
        }
        let Some(unsliced) = node.find(&step.name, None) else {
            if let Some(index) = self.of_one_type(node, &step.name)? {
                return Ok(index);
            }
            // The name of a choice with a type, which is short for the slice of that type.
            if let Some((choice, code)) = node.choice(&step.name) {
                let slice = step.slice.as_deref().unwrap_or(&step.name);
                if let Some(index) = node.find(&choice, Some(slice)) {
                    return Ok(index);
                }
                let index = self.slice(node, &choice, slice)?;
                if let Some(child) = node.children.get_mut(index) {
                    element::narrow(&mut child.element, &code);
                }
                return Ok(index);
            }
            if self.is_specialization && is_last && step.slice.is_none() {
                self.grow(1)?;
                node.children.push(Node::new(&step.name, None, self.added(differential)?));
                return Ok(node.children.len() - 1);
            }
            if node.children.iter().any(|child| child.name == step.name) {
                let said = format!(
                    "the slices of '{}' need an element '{}' with slicing (discriminator and \
                     rules) before them",
                    step.name, step.name
                );
                return Err(Issue::error(IssueType::Required, said));
            }
            let said = format!(
                "'{}' has no element '{}'; the elements there are {}",
                node.name,
                step.name,
                node.names()
            );
            return Err(Issue::error(IssueType::Structure, said));
        };
        let Some(slice) = step.slice.as_deref() else { return Ok(unsliced) };
        if let Some(child) = node.children.get_mut(unsliced)
            && child.element.get("slicing").is_none()
            && (element::implied_slicing(&step.name).is_none()
                || (step.name.ends_with("[x]") && child.type_named(slice).is_none()))
            && is_last
        {
            // Published profiles name an element so that they do not slice.
            child.slice = Some(slice.into());
            return Ok(unsliced);
        }
        let index = self.slice(node, &step.name, slice)?;
        let child = node.children.get_mut(index);
        if let (Some(child), Some(stem)) = (child, step.name.strip_suffix("[x]")) {
            if let Some(code) = slice.strip_prefix(stem).and_then(|_| child.type_named(slice)) {
                element::narrow(&mut child.element, &code);
            }
        } else if !is_last {
            let said = format!(
                "the slice '{slice}' of '{}' is used before an element with this sliceName",
                step.name
            );
            return Err(Issue::error(IssueType::Structure, said));
        }
        Ok(index)
    }

    /// Makes a slice of what the children `name` are, or of the slice that it re-slices
    /// (`parent/slice`), and says where it stands.
    fn slice(&mut self, node: &mut Node, name: &str, slice: &str) -> Result<usize, Issue> {
        let parent = slice.rsplit_once('/').map(|(parent, _)| parent);
        let of = parent.and_then(|parent| node.find(name, Some(parent)));
        let Some(of) = of.or_else(|| node.find(name, None)) else {
            let said = format!("'{name}' is sliced and not there");
            return Err(Issue::error(IssueType::Structure, said));
        };
        let Some(source) = node.children.get_mut(of) else { return Ok(of) };
        if source.element.get("slicing").is_none()
            && let Some(implied) = element::implied_slicing(name)
        {
            element::set(&mut source.element, "slicing", implied);
        }
        let mut made = source.clone();
        made.slice = Some(slice.into());
        element::begin_slice(&mut made.element);
        self.grow(made.count())?;
        let after = node.last_of(name, parent);
        node.children.insert(after, made);
        Ok(after)
    }

    /// Gives an element the children of its content reference, its type's profile or its type.
    fn expand(&mut self, node: &mut Node) -> Result<(), Issue> {
        if !node.children.is_empty() {
            return Ok(());
        }
        let reference = node.element.get("contentReference").and_then(Json::as_str);
        if let Some(reference) = reference {
            let path = reference.rsplit('#').next().unwrap_or(reference).to_owned();
            let of = path.split('.').next().unwrap_or_default();
            let own = self.base.clone().filter(|base| base.name == of);
            let tree = match own {
                Some(base) => Some(base),
                None => self.tree(&format!("{CORE}{of}"))?,
            };
            let Some(target) = tree.as_deref().and_then(|tree| tree.by_path(&path)) else {
                let said = format!("the contentReference {reference} points to nothing");
                return Err(Issue::error(IssueType::NotFound, said));
            };
            self.grow(target.count())?;
            node.children.clone_from(&target.children);
            node.element.remove("contentReference");
            if let Some(types) = target.element.get("type") {
                element::set(&mut node.element, "type", types.clone());
            }
            return Ok(());
        }
        let (codes, profiles) = element::types(&node.element);
        let mut wanted = profiles;
        match codes.as_slice() {
            [] => {
                let said = format!("'{}' has no type whose elements are known", node.name);
                return Err(Issue::error(IssueType::Structure, said));
            }
            [code] => wanted.push(element::canonical(code)),
            // What several types share.
            _ => wanted = vec![format!("{CORE}Element")],
        }
        for canonical in &wanted {
            if let Some(tree) = self.tree(canonical)? {
                self.grow(tree.count())?;
                node.children.clone_from(&tree.children);
                return Ok(());
            }
        }
        let said = format!("the type of '{}' is not known: {}", node.name, wanted.join(", "));
        Err(Issue::error(IssueType::NotFound, said))
    }

    /// An element of which only one of several types has such a child gets that type's children.
    fn of_one_type(&mut self, node: &mut Node, name: &str) -> Result<Option<usize>, Issue> {
        let (codes, _) = element::types(&node.element);
        if codes.len() < 2 {
            return Ok(None);
        }
        let mut found = None;
        for code in &codes {
            let tree = self.tree(&element::canonical(code))?;
            if let Some(tree) = tree.filter(|tree| tree.find(name, None).is_some()) {
                if found.is_some() {
                    return Ok(None);
                }
                found = Some(tree);
            }
        }
        let Some(tree) = found else { return Ok(None) };
        self.grow(tree.count())?;
        for child in &tree.children {
            if node.find(&child.name, None).is_none() {
                node.children.push(child.clone());
            }
        }
        Ok(node.find(name, None))
    }

    /// A new element of a specialization, as its type makes it.
    fn added(&mut self, differential: &Object) -> Result<Object, Issue> {
        let (codes, _) = element::types(differential);
        let mut constraints = Vec::new();
        let code = codes.first().map_or("Element", String::as_str);
        if !element::is_plain(differential) {
            let is_extension = code == "Extension";
            let type_tree = self.tree(&element::canonical(code))?;
            let lists = type_tree.iter().map(|tree| tree.element.get("constraint"));
            for constraint in lists.flatten().flat_map(|list| list.as_array().unwrap_or_default()) {
                if constraint.str_at(&["key"]) == Some("ele-1") || is_extension {
                    constraints.push(constraint.clone());
                }
            }
        }
        Ok(element::added(differential, constraints))
    }

    /// The definition of the extension that an element is, if it is one.
    fn extension_definition(
        &mut self,
        node: &Node,
        differential: &Object,
    ) -> Result<Option<Arc<Node>>, Issue> {
        if node.name != "extension" && node.name != "modifierExtension" {
            return Ok(None);
        }
        let (_, profiles) = element::types(differential);
        if let [profile] = profiles.as_slice() {
            return self.tree(profile);
        }
        let (_, before) = element::types(&node.element);
        if before.is_empty() { self.tree(&format!("{CORE}Extension")) } else { Ok(None) }
    }

    /// The snapshot of a definition.
    fn tree(&mut self, canonical: &str) -> Result<Option<Arc<Node>>, Issue> {
        if let Some(known) = self.trees.get(canonical) {
            return Ok(known.clone());
        }
        let definition = (self.base_of)(canonical);
        let tree = match definition.as_deref() {
            Some(definition) => Node::of(definition, canonical)?.map(Arc::new),
            None => None,
        };
        self.trees.insert(canonical.to_owned(), tree.clone());
        Ok(tree)
    }

    fn spend(&mut self, by: usize) -> Result<(), Issue> {
        self.work = self.work.saturating_add(by);
        if self.work > MAX_WORK {
            let said = format!("the snapshot takes more than {MAX_WORK} steps to make");
            return Err(Issue::error(IssueType::TooCostly, said));
        }
        Ok(())
    }

    fn grow(&mut self, by: usize) -> Result<(), Issue> {
        self.elements = self.elements.saturating_add(by);
        if self.elements > MAX_ELEMENTS {
            let said = format!("the snapshot would have more than {MAX_ELEMENTS} elements");
            return Err(Issue::error(IssueType::TooCostly, said));
        }
        Ok(())
    }
}
