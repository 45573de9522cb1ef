//! Where elements stand in an XML text.

use std::collections::HashMap;

use super::super::expression::{NodeId, Wanted};
use super::reader::{Cursor, Namespace, Piece};
use crate::format::json::MAX_DEPTH;

/// Reads along the ways of `wanted` and notes where they lead; ends at the first fault.
pub(in super::super) fn locate(text: &str, wanted: &mut Wanted) {
    let mut cursor = Cursor::new(text, Namespace::None);
    let mut open: Vec<Open<'_>> = Vec::new();
    while let Ok(piece) = cursor.next() {
        match piece {
            Piece::Open(tag) => {
                // Two elements for each of the tree's levels: one holds a resource.
                if open.len() > 2 * MAX_DEPTH {
                    return;
                }
                let (start, _) = cursor.span();
                let nodes = match open.last_mut() {
                    None => {
                        wanted.found(Wanted::ROOT, 0, start);
                        vec![Wanted::ROOT]
                    }
                    Some(parent) => parent.child(wanted, tag.name, start),
                };
                open.push(Open { nodes, counts: HashMap::new() });
            }
            Piece::Close => {
                open.pop();
            }
            Piece::End => return,
            Piece::Text(_) | Piece::Unescaped(_) | Piece::Aside(_) => {}
        }
    }
}

/// An element that is open.
struct Open<'a> {
    /// What it is of all that is wanted.
    nodes: Vec<NodeId>,
    /// How many elements of a name it has so far.
    counts: HashMap<&'a str, usize>,
}

impl<'a> Open<'a> {
    fn child(&mut self, wanted: &mut Wanted, name: &'a str, start: usize) -> Vec<NodeId> {
        if self.nodes.is_empty() {
            return Vec::new();
        }
        // The tag of a resource within the element that holds it.
        if name.starts_with(|c: char| c.is_ascii_uppercase()) {
            return self.nodes.clone();
        }
        let count = self.counts.entry(name).or_default();
        let index = *count;
        *count += 1;
        let mut below = Vec::new();
        for node in &self.nodes {
            for (child, fit) in wanted.elements(*node, name) {
                if index == 0 {
                    wanted.found(child, fit, start);
                    below.push(child);
                }
                if let Some(item) = wanted.item(child, index) {
                    wanted.found(item, 0, start);
                    below.push(item);
                }
            }
        }
        below
    }
}
