//! Where an element stands in the text that it was read from:
//! <https://hl7.org/fhir/R4/operationoutcome-definitions.html#OperationOutcome.issue.expression>.
//!
//! The tree knows no places, which keeps it small. When there is something to tell, the text is
//! read once more along the ways of the expressions, and nothing else of it. Only the plain
//! expressions of issues are understood (`Patient.name[0].given[1]`, `Observation.value.ofType(Quantity)`);
//! of others the part that is. An element that is not there has the place of the nearest one
//! around it.

use std::borrow::Cow;

use super::{json, xml};
use crate::Issue;

/// The syntax of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Syntax {
    Json,
    Xml,
}

/// Sets line and column of the issues that name an element and have none. `below` is where the
/// resource stands in the text that they are about, for example `Parameters.parameter[0].resource`;
/// empty when it is the whole of it. A text that cannot be read leaves them as they are.
pub fn locate(syntax: Syntax, bytes: &[u8], below: &str, issues: &mut [Issue]) {
    let mut wanted = Wanted::new();
    let mut places = Vec::new();
    for (number, issue) in issues.iter().enumerate() {
        if issue.position.is_none()
            && let Some(node) = issue.expression.as_deref().and_then(|text| wanted.add(below, text))
        {
            places.push((number, node));
        }
    }
    if places.is_empty() {
        return;
    }
    let text = match syntax {
        Syntax::Json => json::text(bytes).map(Cow::Borrowed),
        Syntax::Xml => xml::text(bytes).ok(),
    };
    let Some(text) = text else { return };
    match syntax {
        Syntax::Json => json::locate(&text, &mut wanted),
        Syntax::Xml => xml::locate(&text, &mut wanted),
    }
    let found =
        places.into_iter().filter_map(|(number, node)| Some((wanted.offset(node)?, number)));
    let mut found: Vec<(usize, usize)> = found.collect();
    found.sort_unstable();
    let (mut line, mut column, mut read) = (1_u32, 1_u32, 0);
    for (offset, number) in found {
        for byte in text.as_bytes().get(read..offset).unwrap_or_default() {
            match byte {
                b'\n' => (line, column) = (line.saturating_add(1), 1),
                // A byte that continues a character.
                0x80..0xc0 => {}
                _ => column = column.saturating_add(1),
            }
        }
        read = offset;
        if let Some(issue) = issues.get_mut(number) {
            issue.position = Some((line, column));
        }
    }
}

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

    fn new() -> Wanted {
        Wanted(vec![Node { parent: 0, step: Step::Root, found: None, children: Vec::new() }])
    }

    /// Adds the element that an expression names; `None` when it is no element of a resource.
    fn add(&mut self, below: &str, expression: &str) -> Option<NodeId> {
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
    fn offset(&self, mut node: NodeId) -> Option<usize> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::IssueType;

    const JSON: &str = r#"{
  "resourceType": "Bundle",
  "entry": [
    {"fullUrl": "urn:x"},
    {
      "resource": {
        "resourceType": "Observation", "id": "ö", "valueQuantity": {"value": 1},
        "_status": {"extension": [{"url": "a"}]}, "status": "final",
        "category": [{"text": "a"}, {"text": "]}"}],
        "_issued": {"id": "x"}
      }
    }
  ]
}"#;
    const XML: &str = r#"<Bundle xmlns="http://hl7.org/fhir">
  <!-- <entry/> -->
  <entry><fullUrl value="urn:x"/></entry>
  <entry>
    <resource>
      <Observation>
        <id value="ö"/><status value="final"><extension url="a"/></status>
        <category><text value="a"/></category>
        <category><text value="]>"/></category>
        <valueQuantity><value value="1"/></valueQuantity>
      </Observation>
    </resource>
  </entry>
</Bundle>"#;

    fn place(syntax: Syntax, text: &str, expression: &str) -> Option<(u32, u32)> {
        let issue = Issue::error(IssueType::Value, "x").at(expression);
        let mut issues = [issue];
        locate(syntax, text.as_bytes(), "", &mut issues);
        issues[0].position
    }

    #[track_caller]
    fn begins(text: &str, position: Option<(u32, u32)>, with: &str) {
        let (line, column) = position.unwrap();
        let line = text.lines().nth(line as usize - 1).unwrap();
        let rest: String = line.chars().skip(column as usize - 1).collect();
        assert!(rest.starts_with(with), "{with} is not at {position:?}, but {rest}");
    }

    #[test]
    fn an_element_is_found_in_either_form() {
        let of = "Bundle.entry[1].resource";
        for (expression, json, xml) in [
            ("Bundle", "{", "<Bundle xmln"),
            ("Bundle.entry", "\"entry\": [", "<entry><full"),
            ("Bundle.entry[0]", "{\"fullUrl\": ", "<entry><full"),
            ("Bundle.entry[1]", "{", "<entry>"),
            ("Bundle.entry[7].fullUrl", "\"entry\": [", "<entry><full"),
            (of, "\"resource\": ", "<resource>"),
            (&format!("{of}.id"), "\"id\": \"ö\", ", "<id value=\"ö"),
            (&format!("{of}.status"), "\"status\": \"f", "<status valu"),
            (&format!("{of}.status.extension[0].url"), "\"url\": \"a\"}]", "<extension u"),
            (&format!("{of}.value"), "\"valueQuanti", "<valueQuanti"),
            (&format!("{of}.value.ofType(Quantity).value"), "\"value\": 1},", "<value value"),
            (
                &format!("{of}.ofType(Observation).category[1].text"),
                "\"text\": \"]}\"",
                "<text value=",
            ),
            (&format!("{of}/*Observation/x*/.category[0]"), "{\"text\": \"a\"", "<category><t"),
            (&format!("{of}.subject.reference"), "\"resource\": ", "<resource>"),
            (&format!("{of}.category[0].where(true)"), "{\"text\": \"a\"", "<category><t"),
        ] {
            begins(JSON, place(Syntax::Json, JSON, expression), json);
            begins(XML, place(Syntax::Xml, XML, expression), xml);
        }
        let beside = place(Syntax::Json, JSON, "Bundle.entry[1].resource.issued");
        begins(JSON, beside, "\"_issued\": {");
        assert_eq!(place(Syntax::Json, JSON, "http._id"), None);
        assert_eq!(place(Syntax::Json, "{\"a\":", "Bundle.a.b"), Some((1, 2)));
    }

    #[test]
    fn a_resource_within_parameters_has_its_place_there() {
        let text = r#"{"resourceType":"Parameters","parameter":[{"name":"mode"},{"name":"resource","resource":{"resourceType":"Patient","id":"x"}}]}"#;
        let mut issues = [Issue::error(IssueType::Value, "x").at("Patient.id")];
        locate(Syntax::Json, text.as_bytes(), "Parameters.parameter[1].resource", &mut issues);
        begins(text, issues[0].position, "\"id\":\"x\"");
    }

    proptest! {
        #[test]
        fn no_text_or_expression_panics(text in ".{0,80}", expression in "A[a-c.\\[\\]0-9()/*']{0,20}") {
            place(Syntax::Json, &text, &expression);
            place(Syntax::Xml, &text, &expression);
        }

        #[test]
        fn a_broken_text_does_not_panic(cut in 0..600_usize) {
            for (syntax, text) in [(Syntax::Json, JSON), (Syntax::Xml, XML)] {
                let cut: String = text.chars().take(cut).collect();
                place(syntax, &cut, "Bundle.entry[1].resource.category[1].text");
            }
        }
    }
}
