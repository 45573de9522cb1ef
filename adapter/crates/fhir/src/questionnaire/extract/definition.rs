//! Definition-based extraction:
//! <https://hl7.org/fhir/uv/sdc/extraction.html#definition-based-extraction>.
//!
//! `definitionExtract` opens a resource for each occurrence of its item; what stands below is put
//! into the innermost open resource whose canonical its `definition` begins with. A resource with
//! an id is replaced, not merged. `itemExtractionContext`, which SDC 4.0 gave up, opens one by the
//! name of its type; its queries are not made.

use super::element::{Anchor, Content, Draft, put, tidy};
use super::{Here, Run, expression, is_answered, pattern, unit};
use crate::definitions::Type;
use crate::path::Value;
use crate::profile::R4;
use crate::questionnaire::extension;
use crate::questionnaire::value::cut;
use crate::validate::Need;
use crate::{IssueType, Json, Object};

/// A resource that items are put into.
struct Open<'d> {
    /// The canonical of its profile; none where an `itemExtractionContext` opened it.
    canonical: Option<String>,
    draft: Draft<'d>,
}

/// The resources that are open, the outermost first, and the elements that items have made.
struct Stack<'d> {
    open: Vec<Open<'d>>,
    anchors: Vec<Anchor<'d>>,
    /// How many were opened.
    count: usize,
}

impl<'a> Run<'a> {
    pub(super) fn definitions(&self, root: Here<'_>) {
        let mut stack = Stack { open: Vec::new(), anchors: Vec::new(), count: 0 };
        self.define(root, &mut stack);
    }

    fn define(&self, here: Here<'_>, stack: &mut Stack<'a>) {
        let (first, anchors) = (stack.open.len(), stack.anchors.len());
        let mut details = Vec::new();
        if here.is_root || is_answered(here.node) {
            for extension in here.source.list("extension") {
                if let Some(open) = self.open(&here, extension, stack.count) {
                    details.push(extension);
                    stack.open.push(open);
                    stack.count += 1;
                }
            }
            self.own(&here, stack);
        }
        let below = |node: &Json, at: &str, stack: &mut Stack<'a>| {
            for child in self.children(node, here.key, at, &opens) {
                let bound = self.bound(child.source, &child.key, here.bound);
                let inner = Here {
                    source: child.source,
                    node: &child.node,
                    is_root: false,
                    key: &child.key,
                    at: &child.at,
                    bound: &bound,
                };
                self.define(inner, stack);
            }
        };
        below(here.node, here.at, stack);
        for (index, answer) in here.node.list("answer").iter().enumerate() {
            below(answer, &format!("{}.answer[{index}]", here.at), stack);
        }
        stack.anchors.truncate(anchors);
        for (open, extension) in stack.open.split_off(first).into_iter().zip(details) {
            self.close(&here, open, extension);
        }
    }

    /// Opens a resource, if an extension says so.
    fn open(&self, here: &Here<'_>, extension: &Json, number: usize) -> Option<Open<'a>> {
        let definitions = self.world.definitions;
        let (canonical, name) = match extension::term(extension)? {
            "definitionExtract" => {
                let canonical = extension::part(extension, "definition").and_then(Json::as_str);
                let name = canonical.and_then(|canonical| self.type_of(here.source, canonical));
                (canonical, name)
            }
            "itemExtractionContext" => {
                let value = extension::value(extension)?;
                let text = expression(value).unwrap_or_default();
                let query = text.split(['?', '/']).next();
                if query != Some(text) {
                    let text = format!(
                        "The query of itemExtractionContext of \"{}\" was not made; a resource is \
                         extracted anew.",
                        cut(here.link_id())
                    );
                    self.tell(IssueType::NotSupported, here.at, text);
                }
                (None, query.map(str::to_owned))
            }
            _ => return None,
        };
        let kind = name.filter(|name| definitions.is_resource(name));
        let Some(kind) = kind.and_then(|name| definitions.type_of(&name)) else {
            let text = format!(
                "\"{}\" is not extracted: it is not known which type of resource {} is.",
                cut(here.link_id()),
                cut(canonical.unwrap_or("its itemExtractionContext"))
            );
            self.tell(IssueType::NotFound, here.at, text);
            return None;
        };
        let mut json = Object::new();
        json.set("resourceType", kind.name);
        let draft = Draft { number, kind, json: Json::Object(json) };
        Some(Open { canonical: canonical.map(str::to_owned), draft })
    }

    /// The type of resource that a canonical is about: R4's own, that of the profile, or what the
    /// paths of the items below say.
    fn type_of(&self, source: &Json, canonical: &str) -> Option<String> {
        let url = unversioned(canonical);
        if let Some(name) = url.strip_prefix(R4)
            && self.world.definitions.is_resource(name)
        {
            return Some(name.to_owned());
        }
        match self.world.profiles.find(canonical) {
            Some(profile) => profile.of_type().map(str::to_owned),
            None => {
                self.world.missing.note(Need::Profile(canonical.to_owned()));
                first_path(source, url)
            }
        }
    }

    /// Puts in what stands at an item itself: its answers, and fixed or computed values.
    fn own(&self, here: &Here<'_>, stack: &mut Stack<'a>) {
        if let Some(definition) = here.source.str_at(&["definition"]) {
            let content = match here.is_question() {
                true => Content::Values(self.answers(here.node), unit(here.source)),
                false => Content::Parts,
            };
            // Without an open resource the definition only says what the question means.
            if let Some(Err(reason)) = self.put(stack, definition, &content) {
                self.left_out(here, definition, &reason);
            }
        }
        for extension in here.source.list("extension") {
            if extension::term(extension) != Some("definitionExtractValue") {
                continue;
            }
            let definition = extension::part(extension, "definition").and_then(Json::as_str);
            let Some(definition) = definition else { continue };
            let values = match extension::part(extension, "expression") {
                Some(formula) => self.values(
                    expression(formula).unwrap_or_default(),
                    &[self.focus(here)],
                    here.bound,
                ),
                None => Ok(self.fixed(extension).into_iter().collect()),
            };
            let put = values.and_then(|values| {
                if values.is_empty() {
                    return Ok(());
                }
                let none = || Err("no resource is open that it belongs to".to_owned());
                self.put(stack, definition, &Content::Values(values, None)).unwrap_or_else(none)
            });
            if let Err(reason) = put {
                self.left_out(here, definition, &reason);
            }
        }
    }

    fn left_out(&self, here: &Here<'_>, definition: &str, reason: &str) {
        let text = format!(
            "{} of \"{}\" was left out: {}.",
            cut(definition),
            cut(here.link_id()),
            cut(reason)
        );
        self.tell(IssueType::Processing, here.at, text);
    }

    /// The fixed value of an extension, with its type.
    fn fixed<'s>(&'s self, extension: &'s Json) -> Option<Value<'s>> {
        let mut parts = extension.list("extension").iter();
        let part = parts.find(|part| part.str_at(&["url"]) == Some("fixed-value"))?;
        let mut members = part.as_object()?.iter();
        let (name, value) =
            members.find_map(|(name, value)| Some((name.strip_prefix("value")?, value)))?;
        let definitions = self.world.definitions;
        let mut primitive = name.to_owned();
        if let Some(first) = primitive.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        let code = [primitive.as_str(), name]
            .into_iter()
            .find(|code| definitions.type_of(code).is_some_and(|kind| kind.name == *code));
        Some(Value::typed(definitions, value, code.unwrap_or_default()))
    }

    /// Puts something into the innermost open resource that a definition is of; `None` if there is
    /// none.
    fn put(
        &self,
        stack: &mut Stack<'a>,
        definition: &str,
        content: &Content<'_>,
    ) -> Option<Result<(), String>> {
        let (url, path) = definition.rsplit_once('#')?;
        let of = path.split('.').next().unwrap_or_default();
        let is_of = |open: &&mut Open<'a>| match open.canonical.as_deref() {
            Some(canonical) => canonical == url || unversioned(canonical) == unversioned(url),
            None => of == open.draft.kind.name,
        };
        let open = stack.open.iter_mut().rev().find(is_of)?;
        let definitions = self.world.definitions;
        Some(put(self, definitions, &mut open.draft, &mut stack.anchors, path, content))
    }

    /// Finishes a resource and adds it to what is extracted.
    fn close(&self, here: &Here<'_>, open: Open<'a>, extension: &Json) {
        let Open { canonical, draft: Draft { kind, mut json, number } } = open;
        let definitions = self.world.definitions;
        let profile = canonical.as_deref().filter(|url| is_profile(url, kind));
        if let Some(canonical) = profile {
            if let Some(profile) = self.world.profiles.find(canonical)
                && let Some(snapshot) = profile.snapshot(self.world.profiles, definitions)
            {
                pattern::fill(definitions, &snapshot, kind, &mut json);
            }
            let mut meta = json.get("meta").cloned().unwrap_or(Json::Object(Object::new()));
            meta.push("profile", canonical);
            json.set("meta", meta);
        }
        tidy(definitions, Some(kind), &mut json);
        self.entry(here, Some(extension), json, &number.to_string());
    }
}

/// Whether an item of a Questionnaire opens a resource.
fn opens(source: &Json) -> bool {
    source.list("extension").iter().any(|other| {
        matches!(extension::term(other), Some("definitionExtract" | "itemExtractionContext"))
    })
}

/// Whether a canonical is that of a profile, not of R4's own type.
fn is_profile(canonical: &str, kind: &Type) -> bool {
    unversioned(canonical).strip_prefix(R4) != Some(kind.name)
}

fn unversioned(canonical: &str) -> &str {
    canonical.split('|').next().unwrap_or_default()
}

/// The first part of the path of a definition that begins with a canonical.
fn first_path(source: &Json, url: &str) -> Option<String> {
    let mut stack = vec![source];
    while let Some(json) = stack.pop() {
        match json {
            Json::String(text) => {
                if let Some((own, path)) = text.rsplit_once('#')
                    && unversioned(own) == url
                {
                    return path.split('.').next().map(str::to_owned);
                }
            }
            Json::Array(items) => stack.extend(items),
            Json::Object(object) => stack.extend(object.iter().map(|(_, value)| value)),
            _ => {}
        }
    }
    None
}
