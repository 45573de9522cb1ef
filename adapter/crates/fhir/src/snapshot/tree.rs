//! The elements of a snapshot as a tree: <https://hl7.org/fhir/R4/elementdefinition.html#id>.

use compact_str::CompactString;

use super::{MAX_ELEMENTS, MAX_STEPS, element};
use crate::{Issue, IssueType, Json, Object};

/// An element with its children. Slices are siblings of what they slice and follow it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Last part of the path, `value[x]` for a choice.
    pub(super) name: CompactString,
    pub(super) slice: Option<CompactString>,
    pub(super) element: Object,
    pub(super) children: Vec<Node>,
}

/// One part of an element's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: CompactString,
    pub(super) slice: Option<CompactString>,
}

impl Step {
    fn read(part: &str) -> Step {
        match part.split_once(':') {
            Some((name, slice)) => Step { name: name.into(), slice: Some(slice.into()) },
            None => Step { name: part.into(), slice: None },
        }
    }
}

/// The way to an element of a differential. An id that agrees with path and sliceName says it;
/// else the slices of its parents are those of the nearest elements before it.
pub(super) fn steps(element: &Json, before: &[Step]) -> Result<Vec<Step>, Issue> {
    let Some(path) = element.str_at(&["path"]).filter(|path| !path.is_empty()) else {
        return Err(Issue::error(IssueType::Required, "an element of a differential has no path"));
    };
    if path.split('.').any(str::is_empty) {
        let said = format!("'{path}' is no path; one is written like Patient.contact.name");
        return Err(Issue::error(IssueType::Value, said));
    }
    let slice = element.str_at(&["sliceName"]);
    let by_id: Vec<Step> = match element.str_at(&["id"]) {
        Some(id) => id.split('.').map(Step::read).collect(),
        None => Vec::new(),
    };
    let agrees = by_id.iter().map(|step| step.name.as_str()).eq(path.split('.'));
    let last = by_id.last().and_then(|step| step.slice.as_deref());
    if agrees && (last == slice || slice.is_none()) {
        return Ok(by_id);
    }
    let mut by_order: Vec<Step> = path.split('.').map(Step::read).collect();
    let shared = by_order.iter().zip(before).take_while(|(own, known)| own.name == known.name);
    let shared = shared.count().min(by_order.len() - 1);
    for (own, known) in by_order.iter_mut().zip(before).take(shared) {
        own.slice.clone_from(&known.slice);
    }
    if let Some(last) = by_order.last_mut() {
        last.slice = slice.map(CompactString::from);
    }
    Ok(by_order)
}

impl Node {
    pub(super) fn new(name: &str, slice: Option<&str>, element: Object) -> Node {
        let slice = slice.map(CompactString::from);
        Node { name: name.into(), slice, element, children: Vec::new() }
    }

    /// The snapshot of a definition; `None` when it has none. Its own constraints get their source.
    pub(super) fn of(definition: &Json, canonical: &str) -> Result<Option<Node>, Issue> {
        let elements = definition.get("snapshot").map_or(&[][..], |s| s.list("element"));
        if elements.len() > MAX_ELEMENTS {
            let said = format!("{canonical} has more than {MAX_ELEMENTS} elements");
            return Err(Issue::error(IssueType::TooCostly, said));
        }
        let url = definition.str_at(&["url"]).unwrap_or(canonical);
        let mut open: Vec<Node> = Vec::new();
        for element in elements {
            let path = element.str_at(&["path"]).unwrap_or_default();
            let depth = path.split('.').count();
            let name = path.rsplit('.').next().unwrap_or_default();
            let Some(object) = element.as_object().filter(|_| !name.is_empty()) else { continue };
            let is_root = open.is_empty();
            if (is_root && depth != 1) || (!is_root && (depth < 2 || depth > open.len() + 1)) {
                let said = format!("the snapshot of {canonical} has no parent for {path}");
                return Err(Issue::error(IssueType::Structure, said).at(path));
            }
            if depth > MAX_STEPS {
                let said = format!("{canonical}: a path has {MAX_STEPS} parts at most");
                return Err(Issue::error(IssueType::TooCostly, said).at(path));
            }
            fold(&mut open, depth);
            let slice = element.str_at(&["sliceName"]).or_else(|| {
                let id = element.str_at(&["id"])?;
                id.rsplit('.').next()?.split_once(':').map(|(_, slice)| slice)
            });
            let mut object = object.clone();
            element::state_source(&mut object, url);
            open.push(Node::new(name, slice, object));
        }
        fold(&mut open, 2);
        Ok(open.pop())
    }

    /// How many elements it is.
    pub(super) fn count(&self) -> usize {
        1 + self.children.iter().map(Node::count).sum::<usize>()
    }

    pub(super) fn find(&self, name: &str, slice: Option<&str>) -> Option<usize> {
        let is = |node: &Node| node.name == name && node.slice.as_deref() == slice;
        self.children.iter().position(is)
    }

    /// Where the slices of `name`, or the re-slices of its slice `parent`, end.
    pub(super) fn last_of(&self, name: &str, parent: Option<&str>) -> usize {
        let belongs = |node: &Node| {
            node.name == name
                && parent.is_none_or(|parent| {
                    node.slice.as_deref().is_some_and(|slice| {
                        slice
                            .strip_prefix(parent)
                            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                    })
                })
        };
        let last = self.children.iter().rposition(belongs);
        let last = last.or_else(|| self.children.iter().rposition(|node| node.name == name));
        last.map_or(self.children.len(), |last| last + 1)
    }

    /// The choice and the type that a name like `valueQuantity` stands for.
    pub(super) fn choice(&self, name: &str) -> Option<(CompactString, CompactString)> {
        self.children.iter().filter(|child| child.slice.is_none()).find_map(|child| {
            child.name.strip_suffix("[x]").filter(|stem| name.starts_with(stem))?;
            Some((child.name.clone(), child.type_named(name)?))
        })
    }

    /// Of a choice, the type that a name like `valueQuantity` ends with.
    pub(super) fn type_named(&self, name: &str) -> Option<CompactString> {
        let rest = name.strip_prefix(self.name.strip_suffix("[x]")?)?;
        let (codes, _) = element::types(&self.element);
        let code = codes.iter().find(|code| {
            let mut letters = code.chars();
            let first = letters.next().map(|first| first.to_ascii_uppercase());
            first.is_some_and(|first| rest.strip_prefix(first) == Some(letters.as_str()))
        });
        code.map(|code| CompactString::from(code.as_str()))
    }

    /// The element with a path that begins with this element's name, slices left out.
    pub(super) fn by_path(&self, path: &str) -> Option<&Node> {
        let mut parts = path.split('.');
        let root = parts.next().filter(|root| *root == self.name).map(|_| self)?;
        parts.try_fold(root, |node, part| node.children.get(node.find(part, None)?))
    }

    /// The children's names, for a sentence.
    pub(super) fn names(&self) -> String {
        const MAX: usize = 50;
        let unsliced = self.children.iter().filter(|child| child.slice.is_none()).take(MAX);
        unsliced.map(|child| child.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The root of a type that is derived from this one.
    pub(super) fn become_type(&mut self, name: &str) {
        self.name = name.into();
        element::own_base(&mut self.element, name);
    }

    /// The elements in order, with their paths and ids.
    pub(super) fn flatten(self) -> Vec<Json> {
        let mut elements = Vec::new();
        let (path, id) = (self.name.to_string(), self.name.to_string());
        self.write(&path, &id, &mut elements);
        elements
    }

    fn write(mut self, path: &str, id: &str, elements: &mut Vec<Json>) {
        self.element.set_at(0, "id", id);
        self.element.set_at(1, "path", path);
        if let Some(slice) = &self.slice {
            self.element.set_at(2, "sliceName", slice.as_str());
        }
        element::finish(&mut self.element, path);
        elements.push(Json::Object(self.element));
        for child in self.children {
            let path = format!("{path}.{}", child.name);
            let id = match &child.slice {
                Some(slice) => format!("{id}.{}:{slice}", child.name),
                None => format!("{id}.{}", child.name),
            };
            child.write(&path, &id, elements);
        }
    }
}

/// Puts open elements of the depth `depth` and more into their parents.
fn fold(open: &mut Vec<Node>, depth: usize) {
    while open.len() >= depth.max(2) {
        let Some(done) = open.pop() else { return };
        if let Some(parent) = open.last_mut() {
            parent.children.push(done);
        }
    }
}
