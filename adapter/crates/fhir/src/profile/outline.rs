//! The elements of a snapshot as a tree:
//! <https://hl7.org/fhir/R4/elementdefinition.html#interpretation>.
//!
//! A list of ElementDefinitions says by paths and slice names what belongs to what. Here each
//! element has its children and its slices; a slice of a slice (`a/b`) stands below it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::Json;

/// Deepest path that is looked at.
const MAX_DEPTH: usize = 64;

/// Longest chain of slices of slices.
const MAX_RESLICES: usize = 8;

/// How many elements back a slice has the element that it slices.
const MAX_SIBLINGS: usize = 500;

/// The elements of one snapshot; the first is the root.
#[derive(Debug)]
pub(crate) struct Outline {
    definition: Arc<Json>,
    pub nodes: Vec<OutlineNode>,
}

/// One element of a snapshot.
#[derive(Debug)]
pub(crate) struct OutlineNode {
    index: usize,
    /// The elements within it.
    pub children: Vec<usize>,
    /// Its slices.
    pub slices: Vec<usize>,
}

impl Outline {
    /// The tree of a StructureDefinition that has a snapshot.
    pub fn read(definition: Arc<Json>) -> Outline {
        let mut nodes: Vec<OutlineNode> = Vec::new();
        let mut named: Named<'_> = HashMap::new();
        // The open node of each depth.
        let mut open: Vec<usize> = Vec::new();
        let elements = elements(&definition);
        let path = |node: &OutlineNode| {
            let element = elements.get(node.index);
            element.and_then(|element| element.str_at(&["path"])).unwrap_or_default()
        };
        for (index, element) in elements.iter().enumerate() {
            let own = element.str_at(&["path"]).unwrap_or_default();
            let depth = own.matches('.').count();
            // A second root, or an element whose parent is not there, belongs to nothing.
            if open.len() < depth || (depth == 0 && index > 0) || depth > MAX_DEPTH {
                continue;
            }
            open.truncate(depth);
            let new = nodes.len();
            if let Some(parent) = open.last().copied() {
                let siblings = nodes.get(parent).map_or(&[][..], |node| &node.children);
                let slice = element.str_at(&["sliceName"]);
                let is_head =
                    |other: &usize| nodes.get(*other).is_some_and(|node| is_same(path(node), own));
                let head = slice
                    .and_then(|_| siblings.iter().rev().take(MAX_SIBLINGS).copied().find(is_head));
                let holder = head.map(|head| holder(&named, head, slice));
                if let (Some(holder), Some(slice)) = (holder, slice) {
                    named.insert((holder, slice), new);
                }
                match holder.and_then(|holder| nodes.get_mut(holder)) {
                    Some(holder) => holder.slices.push(new),
                    None => {
                        if let Some(parent) = nodes.get_mut(parent) {
                            parent.children.push(new);
                        }
                    }
                }
            }
            nodes.push(OutlineNode { index, children: Vec::new(), slices: Vec::new() });
            open.push(new);
        }
        Outline { definition, nodes }
    }

    /// The ElementDefinition of a node.
    pub fn element(&self, node: usize) -> &Json {
        let index = self.nodes.get(node).map_or(usize::MAX, |node| node.index);
        elements(&self.definition).get(index).unwrap_or(&Json::Null)
    }

    /// The StructureDefinition.
    pub fn definition(&self) -> &Arc<Json> {
        &self.definition
    }

    /// The child of this name, the one that is no slice.
    pub fn child(&self, node: usize, name: &str) -> Option<usize> {
        let named = |child: &usize| last(self.path(*child)) == name;
        self.nodes.get(node)?.children.iter().copied().find(named)
    }

    /// The path of a node.
    pub fn path(&self, node: usize) -> &str {
        self.element(node).str_at(&["path"]).unwrap_or_default()
    }
}

/// The last part of a path, without `[x]`.
pub(super) fn last(path: &str) -> &str {
    let name = path.rsplit('.').next().unwrap_or(path);
    name.strip_suffix("[x]").unwrap_or(name)
}

fn elements(definition: &Json) -> &[Json] {
    definition.get("snapshot").map_or(&[], |snapshot| snapshot.list("element"))
}

/// Whether a slice of the path `slice` is one of the element `head`; the slices of a choice may
/// have the name of their type (`valueQuantity`).
fn is_same(head: &str, slice: &str) -> bool {
    head == slice
        || head.strip_suffix("[x]").is_some_and(|stem| {
            slice.strip_prefix(stem).is_some_and(|rest| rest.starts_with(char::is_uppercase))
        })
}

/// The slices so far, by what they slice and their name.
type Named<'a> = HashMap<(usize, &'a str), usize>;

/// The slice that holds a slice of its own, or the element itself.
fn holder(named: &Named<'_>, head: usize, slice: Option<&str>) -> usize {
    let slice = slice.unwrap_or_default();
    let mut holder = head;
    for _ in 0..MAX_RESLICES {
        let mut prefixes = slice.match_indices('/').take(MAX_RESLICES).map(|(at, _)| at);
        let inner = prefixes.find_map(|at| named.get(&(holder, slice.get(..at)?)));
        match inner {
            Some(inner) if *inner != holder => holder = *inner,
            _ => break,
        }
    }
    holder
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn slices_stand_below_what_they_slice() {
        let definition = json!({"snapshot": {"element": [
            {"path": "A"},
            {"path": "A.b"},
            {"path": "A.b.c"},
            {"path": "A.b", "sliceName": "x"},
            {"path": "A.b.c"},
            {"path": "A.b", "sliceName": "x/y"},
            {"path": "A.value[x]"},
            {"path": "A.valueQuantity", "sliceName": "valueQuantity"},
            {"path": "A.d.lost.child"},
            {"path": "A.e"}
        ]}});
        let outline = Outline::read(Arc::new(definition));
        let names = |list: &[usize]| -> Vec<String> {
            list.iter().map(|node| outline.path(*node).to_string()).collect()
        };
        assert_eq!(names(&outline.nodes[0].children), ["A.b", "A.value[x]", "A.e"]);
        let b = outline.child(0, "b").unwrap();
        assert_eq!(names(&outline.nodes[b].slices), ["A.b"]);
        let x = outline.nodes[b].slices[0];
        assert_eq!(names(&outline.nodes[x].slices), ["A.b"]);
        assert_eq!(names(&outline.nodes[x].children), ["A.b.c"]);
        let value = outline.child(0, "value").unwrap();
        assert_eq!(names(&outline.nodes[value].slices), ["A.valueQuantity"]);
    }
}
