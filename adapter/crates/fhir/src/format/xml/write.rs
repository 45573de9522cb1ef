//! From the tree to XML.

use super::reader::escape;
use super::{CONTROL, Content, FHIR, Shapes, find, is_attribute, is_char, is_numeric};
use super::{narrative, repeats, shown};
use crate::definitions::{Definitions, Element, Kind, System, Type};
use crate::format::json::MAX_DEPTH;
use crate::{Issue, IssueType, Json, Object};

/// Writes one resource; `indent` is the level of indentation, if there is one.
pub(super) fn write(
    definitions: &Definitions,
    resource: &Json,
    indent: Option<usize>,
) -> Result<String, Issue> {
    let shapes = Shapes::new(definitions);
    let mut writer = Writer { shapes, out: String::new(), indent, steps: Vec::new() };
    match writer.resource(resource) {
        Ok(()) => Ok(writer.out),
        Err((code, text)) => {
            let path = writer.path();
            let issue = Issue::error(code, format!("This cannot be written as XML: {text}."));
            Err(if path.is_empty() { issue } else { issue.at(path) })
        }
    }
}

/// Why something has no XML form; where is in [`Writer::steps`].
type Refused = (IssueType, String);

struct Writer<'j, 'd> {
    shapes: Shapes<'d>,
    out: String,
    indent: Option<usize>,
    /// The way to the present element; those that repeat have an index.
    steps: Vec<(&'j str, Option<usize>)>,
}

/// The members of an object that make one element: `birthDate` and `_birthDate`.
struct Members<'j, 'd> {
    index: usize,
    name: &'j str,
    element: &'d Element,
    content: Content<'d>,
    value: Option<&'j Json>,
    extra: Option<&'j Json>,
}

impl<'j, 'd> Writer<'j, 'd> {
    fn resource(&mut self, resource: &'j Json) -> Result<(), Refused> {
        let name = resource.get("resourceType").and_then(Json::as_str);
        let found = name.and_then(|name| self.shapes.resource(name));
        let (Some(kind), Some(object)) = (found, resource.as_object()) else {
            return refused("it is no resource of R4");
        };
        let is_root = self.steps.is_empty();
        if is_root {
            self.steps.push((kind.name, None));
        }
        self.out.push('<');
        self.out.push_str(kind.name);
        if is_root {
            self.out.push_str(&format!(" xmlns=\"{FHIR}\""));
        }
        self.rest(kind, kind.name, object)
    }

    /// The rest of an element whose tag has its name and namespace.
    fn rest(&mut self, kind: &'d Type, name: &str, object: &'j Object) -> Result<(), Refused> {
        if self.steps.len() > MAX_DEPTH {
            return refused(format!("the nesting is deeper than {MAX_DEPTH} levels"));
        }
        for attribute in ["id", "url"] {
            if is_attribute(kind, attribute)
                && let Some(value) = object.get(attribute)
            {
                self.steps.push((attribute, None));
                let Json::String(text) = value else { return refused("it is no text") };
                self.attribute(attribute, text)?;
                self.steps.pop();
            }
        }
        let members = self.members(kind, object)?;
        if members.is_empty() {
            self.out.push_str("/>");
            return Ok(());
        }
        self.out.push('>');
        self.indent = self.indent.map(|level| level + 1);
        for of in members {
            self.element(of)?;
        }
        self.indent = self.indent.map(|level| level - 1);
        self.line();
        self.close(name);
        Ok(())
    }

    /// The members that are elements, in the order of the standard.
    fn members(
        &mut self,
        kind: &'d Type,
        object: &'j Object,
    ) -> Result<Vec<Members<'j, 'd>>, Refused> {
        let shape = self.shapes.of(kind);
        let mut members: Vec<Members<'j, 'd>> = Vec::with_capacity(object.len());
        for (member, json) in object.iter() {
            if is_attribute(kind, member)
                || (member == "resourceType" && kind.kind == Kind::Resource)
            {
                continue;
            }
            let name = member.strip_prefix('_').unwrap_or(member);
            self.steps.push((member, None));
            let found = find(&shape, name)
                .and_then(|(index, element, of)| Some((index, element, self.shapes.content(of)?)))
                .filter(|(.., content)| {
                    name.len() == member.len() || matches!(content, Content::Primitive(_))
                });
            let Some((index, element, content)) = found else {
                return refused(format!("{} has no element \"{}\"", kind.name, shown(member)));
            };
            self.steps.pop();
            let place = members.iter().position(|known| known.name == name);
            let place = place.unwrap_or_else(|| {
                let (value, extra) = (None, None);
                members.push(Members { index, name, element, content, value, extra });
                members.len() - 1
            });
            if let Some(members) = members.get_mut(place) {
                match name.len() == member.len() {
                    true => members.value = Some(json),
                    false => members.extra = Some(json),
                }
            }
        }
        members.sort_by_key(|members| members.index);
        Ok(members)
    }

    fn element(&mut self, of: Members<'j, 'd>) -> Result<(), Refused> {
        self.steps.push((of.name, None));
        if !repeats(of.element) {
            self.item(&of, of.value, of.extra)?;
            self.steps.pop();
            return Ok(());
        }
        let values = list(of.value)?;
        let extras = list(of.extra)?;
        if values.is_empty() && extras.is_empty() {
            return refused("it is an empty list");
        }
        for index in 0..values.len().max(extras.len()) {
            if let Some(step) = self.steps.last_mut() {
                step.1 = Some(index);
            }
            self.item(&of, values.get(index), extras.get(index))?;
        }
        self.steps.pop();
        Ok(())
    }

    fn item(
        &mut self,
        of: &Members<'j, 'd>,
        value: Option<&'j Json>,
        extra: Option<&'j Json>,
    ) -> Result<(), Refused> {
        self.line();
        let present = |json: Option<&'j Json>| json.filter(|json| **json != Json::Null);
        match (of.content, present(value), present(extra)) {
            (Content::Primitive(_), None, None) => refused("it has neither value nor extensions"),
            (Content::Primitive(kind), value, extra) => self.primitive(of.name, kind, value, extra),
            (Content::Narrative, Some(Json::String(div)), _) => {
                let div = narrative::from_json(div)
                    .map_err(|error| (IssueType::Structure, error.to_string()))?;
                self.out.push_str(&div);
                Ok(())
            }
            (Content::Resource, Some(resource), _) => {
                self.out.push('<');
                self.out.push_str(of.name);
                self.out.push('>');
                self.indent = self.indent.map(|level| level + 1);
                self.line();
                self.resource(resource)?;
                self.indent = self.indent.map(|level| level - 1);
                self.line();
                self.close(of.name);
                Ok(())
            }
            (Content::Complex(kind), Some(Json::Object(object)), _) => {
                self.out.push('<');
                self.out.push_str(of.name);
                self.rest(kind, of.name, object)
            }
            _ => refused("the value is not of the element's type"),
        }
    }

    fn primitive(
        &mut self,
        name: &str,
        kind: &'d Type,
        value: Option<&'j Json>,
        extra: Option<&'j Json>,
    ) -> Result<(), Refused> {
        self.out.push('<');
        self.out.push_str(name);
        match value {
            None => {}
            Some(Json::Bool(value)) if kind.system == System::Boolean => {
                self.attribute("value", if *value { "true" } else { "false" })?;
            }
            Some(Json::Number(digits)) if is_numeric(kind) => self.attribute("value", digits)?,
            Some(Json::String(text)) if kind.system != System::Boolean && !is_numeric(kind) => {
                self.attribute("value", text)?;
            }
            Some(_) => return refused(format!("the value is no {}", kind.name)),
        }
        match extra {
            None => {
                self.out.push_str("/>");
                Ok(())
            }
            Some(Json::Object(object)) if object.get("value").is_none() => {
                self.rest(kind, name, object)
            }
            Some(_) => refused("beside a value only id and extension stand"),
        }
    }

    fn attribute(&mut self, name: &str, text: &str) -> Result<(), Refused> {
        if !text.chars().all(is_char) {
            return Err((IssueType::Value, CONTROL.to_owned()));
        }
        self.out.push(' ');
        self.out.push_str(name);
        self.out.push_str("=\"");
        escape(&mut self.out, text);
        self.out.push('"');
        Ok(())
    }

    fn close(&mut self, name: &str) {
        self.out.push_str("</");
        self.out.push_str(name);
        self.out.push('>');
    }

    fn line(&mut self) {
        if let Some(level) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n("  ", level));
        }
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for (name, index) in &self.steps {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&shown(name.strip_prefix('_').unwrap_or(name)));
            if let Some(index) = index {
                path.push_str(&format!("[{index}]"));
            }
        }
        path
    }
}

/// The items of a list; none when the member is not there.
fn list(json: Option<&Json>) -> Result<&[Json], Refused> {
    match json {
        None => Ok(&[]),
        Some(Json::Array(items)) => Ok(items),
        Some(_) => refused("the element is a list in JSON"),
    }
}

fn refused<T>(reason: impl Into<String>) -> Result<T, Refused> {
    Err((IssueType::Structure, reason.into()))
}
