//! The elements that expressions of issues name, as they are looked for in a text:
//! <https://hl7.org/fhir/R4/operationoutcome-definitions.html#OperationOutcome.issue.expression>.
//!
//! Only the plain expressions of issues are understood (`Patient.name[0].given[1]`,
//! `Observation.value.ofType(Quantity)`); of others the part that is. No text is read here.

/// The ways to elements that are looked for, as a tree.
pub(super) struct Wanted(Vec<Node>);

/// A place in [`Wanted`].
pub(super) type NodeId = usize;

struct Node {
    parent: NodeId,
    step: Step,
    /// How well what was found fits, less is better, and where it begins.
    found: Option<(u8, usize)>,
    children: Vec<NodeId>,
}

#[derive(PartialEq)]
enum Step {
    Root,
    /// An element by its name and, of a choice, its type.
    Element(String, Option<String>),
    Item(usize),
}

impl Wanted {
    /// The whole of the text.
    pub(super) const ROOT: NodeId = 0;

    pub(super) fn new() -> Wanted {
        Wanted(vec![Node { parent: 0, step: Step::Root, found: None, children: Vec::new() }])
    }

    /// Adds the element that an expression names; `None` when it is no element of a resource.
    pub(super) fn add(&mut self, below: &str, expression: &str) -> Option<NodeId> {
        if !expression.starts_with(|c: char| c.is_ascii_uppercase()) {
            return None;
        }
        let mut node = Self::ROOT;
        for step in steps(below).into_iter().chain(steps(expression)) {
            let known = self.children(node).find(|child| self.0[*child].step == step);
            node = known.unwrap_or_else(|| {
                let id = self.0.len();
                self.0.push(Node { parent: node, step, found: None, children: Vec::new() });
                self.0[node].children.push(id);
                id
            });
        }
        Some(node)
    }

    fn children(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        self.0[node].children.iter().copied()
    }

    /// The elements below `node` that something called `name` may be, and how well it fits.
    pub(super) fn elements(&self, node: NodeId, name: &str) -> Vec<(NodeId, u8)> {
        let fit = |child: NodeId| match &self.0[child].step {
            Step::Element(wanted, kind) => Some((child, fit(name, wanted, kind.as_deref())?)),
            _ => None,
        };
        self.children(node).filter_map(fit).collect()
    }

    /// The item of a list with this index.
    pub(super) fn item(&self, node: NodeId, index: usize) -> Option<NodeId> {
        self.children(node).find(|child| self.0[*child].step == Step::Item(index))
    }

    /// Says where something begins.
    pub(super) fn found(&mut self, node: NodeId, fit: u8, offset: usize) {
        let found = &mut self.0[node].found;
        if found.is_none_or(|(known, _)| fit < known) {
            *found = Some((fit, offset));
        }
    }

    /// Where the element, or the nearest one around it, begins.
    pub(super) fn offset(&self, mut node: NodeId) -> Option<usize> {
        loop {
            match self.0[node].found {
                Some((_, offset)) => return Some(offset),
                None if node == Self::ROOT => return None,
                None => node = self.0[node].parent,
            }
        }
    }
}

/// How well a member or tag called `name` fits the element `wanted` (of the type `kind`, if it is a
/// choice): itself, the member `_name` beside it, one of its choices.
fn fit(name: &str, wanted: &str, kind: Option<&str>) -> Option<u8> {
    let (bare, beside) = name.strip_prefix('_').map_or((name, 0), |bare| (bare, 1));
    let rest = bare.strip_prefix(wanted)?;
    match (rest.chars().next(), kind) {
        (None, _) => Some(beside),
        (Some(first), Some(kind)) if first.is_ascii_uppercase() => {
            rest.eq_ignore_ascii_case(kind).then_some(2 + beside)
        }
        (Some(first), None) if first.is_ascii_uppercase() => Some(2 + beside),
        _ => None,
    }
}

/// The steps of an expression after its type, as far as they are plain.
fn steps(expression: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = expression;
    let mut is_first = true;
    while !rest.is_empty() {
        let end = rest.find(['.', '(', '[', '/']).unwrap_or(rest.len());
        let name = rest[..end].trim_matches('`');
        rest = &rest[end..];
        if let Some(arguments) = rest.strip_prefix('(') {
            let Some((argument, after)) = arguments.split_once(')') else { return steps };
            match (name, steps.last_mut()) {
                ("ofType" | "as", Some(Step::Element(_, kind))) => *kind = Some(argument.into()),
                ("ofType" | "as", _) => {}
                _ => return steps,
            }
            rest = after;
        } else if !is_first {
            steps.push(Step::Element(name.to_owned(), None));
        }
        is_first = false;
        // `/*Patient/p1*/` of HL7's validator.
        if let Some((_, after)) = rest.strip_prefix("/*").and_then(|rest| rest.split_once("*/")) {
            rest = after;
        }
        if let Some((index, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let Ok(index) = index.parse() else { return steps };
            steps.push(Step::Item(index));
            rest = after;
        }
        if let Some((_, after)) = rest.strip_prefix("/*").and_then(|rest| rest.split_once("*/")) {
            rest = after;
        }
        match rest.strip_prefix('.') {
            Some(after) => rest = after,
            None => return steps,
        }
    }
    steps
}
