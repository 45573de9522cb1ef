//! Observation-based extraction:
//! <https://hl7.org/fhir/uv/sdc/extraction.html#observation-based-extraction>.
//!
//! An Observation has the id that follows from the response, the linkId and the codes, so a second
//! extraction changes the same one. What a question asked before is never taken back here. Values
//! that an Observation cannot hold (attachments and references) are told.

use super::cast::{choose, suffix};
use super::{Here, Run, is_answered, quantity, unit};
use crate::path::Value;
use crate::questionnaire::extension;
use crate::questionnaire::value::{ValueType, choice, cut};
use crate::{IssueType, Json, Object, json};

/// What `observationExtract` says of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extract {
    No,
    Independent,
    Component,
    Member,
    Derived,
}

impl Extract {
    fn read(element: &Json) -> Option<Extract> {
        let value = extension::values(element, "observationExtract").next()?;
        Some(match (value.as_bool(), value.as_str()) {
            (Some(false), _) => Extract::No,
            (_, Some("component")) => Extract::Component,
            (_, Some("member")) => Extract::Member,
            (_, Some("derived")) => Extract::Derived,
            _ => Extract::Independent,
        })
    }
}

/// What items have from those above.
#[derive(Clone, Copy)]
struct Inherited<'s> {
    extract: Extract,
    categories: &'s [&'s Json],
    subject: Option<&'s Json>,
}

/// An Observation that those below it may belong to.
struct Parent {
    reference: String,
    json: Json,
    has_parts: bool,
}

impl Run<'_> {
    pub(super) fn observations(&self, root: Here<'_>) {
        let categories = categories(self.source);
        let inherited = Inherited {
            extract: Extract::read(self.source).unwrap_or(Extract::No),
            categories: &categories,
            subject: self.response.get("subject"),
        };
        self.observe_items(root, inherited, None);
    }

    fn observe_items(
        &self,
        here: Here<'_>,
        inherited: Inherited<'_>,
        mut parent: Option<&mut Parent>,
    ) {
        let children = self.children(here.node, here.key, here.at, &|_| false);
        let is_subject = |source: &Json| {
            extension::values(source, "isSubject").any(|value| value.as_bool() == Some(true))
        };
        let named = children.iter().find(|child| is_subject(child.source));
        let named =
            named.and_then(|child| child.node.list("answer").first()?.get("valueReference"));
        let inherited = Inherited { subject: named.or(inherited.subject), ..inherited };
        for child in &children {
            let bound = self.bound(child.source, &child.key, here.bound);
            let inner = Here {
                source: child.source,
                node: &child.node,
                is_root: false,
                key: &child.key,
                at: &child.at,
                bound: &bound,
            };
            self.observe(inner, inherited, parent.as_deref_mut());
        }
    }

    fn observe(&self, here: Here<'_>, inherited: Inherited<'_>, mut parent: Option<&mut Parent>) {
        let own = categories(here.source);
        let inherited = Inherited {
            extract: Extract::read(here.source).unwrap_or(inherited.extract),
            categories: if own.is_empty() { inherited.categories } else { &own },
            ..inherited
        };
        let codes = codes(here.source, inherited.extract);
        if !here.is_question() {
            if codes.is_empty() || !is_answered(here.node) {
                return self.observe_items(here, inherited, parent);
            }
            let mut group = self.begin(&here, inherited, &codes, 0);
            self.observe_items(here, inherited, Some(&mut group));
            if group.has_parts {
                self.finish(&here, group, inherited.extract, parent);
            }
            return;
        }
        for (index, answer) in here.node.list("answer").iter().enumerate() {
            let at = format!("{}.answer[{index}]", here.at);
            let below = Here { node: answer, at: &at, ..here };
            let value = match codes.is_empty() {
                true => None,
                false => self.value(&here, answer, &at),
            };
            let Some((name, value)) = value else {
                self.observe_items(below, inherited, parent.as_deref_mut());
                continue;
            };
            if inherited.extract == Extract::Component
                && let Some(parent) = parent.as_deref_mut()
            {
                let mut component = Object::new();
                component.set("code", concept(&codes));
                component.set(&name, value);
                parent.json.push("component", Json::Object(component));
                parent.has_parts = true;
                self.observe_items(below, inherited, Some(parent));
                continue;
            }
            let mut made = self.begin(&here, inherited, &codes, index);
            made.json.set(&name, value);
            self.observe_items(below, inherited, Some(&mut made));
            self.finish(&here, made, inherited.extract, parent.as_deref_mut());
        }
    }

    /// An Observation without a value.
    fn begin(
        &self,
        here: &Here<'_>,
        inherited: Inherited<'_>,
        codes: &[Json],
        index: usize,
    ) -> Parent {
        let response = self.response;
        let id = self.observation_id(here, codes, index);
        let mut json = Object::new();
        json.set("resourceType", "Observation");
        json.set("id", id.as_str());
        // What follows from restricted answers is as restricted as they are.
        if let Some(security) = response.get("meta").and_then(|meta| meta.get("security")) {
            json.set("meta", json!({"security": (security)}));
        }
        copy(response, "basedOn", &mut json, "basedOn", &[]);
        copy(response, "partOf", &mut json, "partOf", &["Procedure"]);
        let is_amended = response.str_at(&["status"]) == Some("amended");
        json.set("status", if is_amended { "amended" } else { "final" });
        if !inherited.categories.is_empty() {
            let all = inherited.categories.iter().map(|category| (*category).clone());
            json.set("category", Json::Array(all.collect()));
        }
        json.set("code", concept(codes));
        if let Some(subject) = inherited.subject {
            json.set("subject", subject);
        }
        if let Some(encounter) = response.get("encounter") {
            json.set("encounter", encounter);
        }
        if let Some(authored) = response.get("authored") {
            json.set("effectiveDateTime", authored);
            let has_time = authored.as_str().is_some_and(|text| text.contains('T'));
            if has_time {
                json.set("issued", authored);
            }
        }
        // Its author may be a device, its performer may not.
        let performers =
            ["Practitioner", "PractitionerRole", "Organization", "Patient", "RelatedPerson"];
        copy(response, "author", &mut json, "performer", &performers);
        let reference = format!("QuestionnaireResponse/{}", self.origin.id);
        json.set("derivedFrom", json!([{"reference": (reference)}]));
        let reference = format!("Observation/{id}");
        Parent { reference, json: Json::Object(json), has_parts: false }
    }

    /// The id of the Observation of one answer.
    fn observation_id(&self, here: &Here<'_>, codes: &[Json], index: usize) -> String {
        let part = |code: &Json, name: &str| code.str_at(&[name]).unwrap_or_default().to_owned();
        let codes: Vec<String> =
            codes.iter().map(|code| part(code, "system") + "#" + &part(code, "code")).collect();
        let index = index.to_string();
        let names = ["Observation", self.origin.id, "item", here.key, &index, &codes.join(" ")];
        (self.origin.identify)(&names)
    }

    /// Ties an Observation to its parent and adds it to what is extracted.
    fn finish(
        &self,
        here: &Here<'_>,
        mut made: Parent,
        extract: Extract,
        parent: Option<&mut Parent>,
    ) {
        let entry = here.source.list("extension").iter();
        let mut entry =
            entry.filter(|other| extension::term(other) == Some("observationExtractEntry"));
        let details = entry.next();
        if self.text(here, details, "ifNoneExist").is_some()
            && self.text(here, details, "resourceId").is_none()
            && let Some(object) = made.json.as_object_mut()
        {
            object.remove("id");
        }
        let reference = match self.text(here, details, "fullUrl") {
            Some(url) => url,
            None => match self.text(here, details, "resourceId") {
                Some(id) => format!("Observation/{}", id.trim_start_matches("urn:uuid:")),
                None => made.reference,
            },
        };
        match (extract, parent) {
            (Extract::Member, Some(parent)) => {
                parent.json.push("hasMember", json!({"reference": (reference)}));
                parent.has_parts = true;
            }
            (Extract::Derived, Some(parent)) => {
                made.json.push("derivedFrom", json!({"reference": (&parent.reference)}));
                parent.has_parts = true;
            }
            _ => {}
        }
        ordered(self, &mut made.json);
        let name = made.json.str_at(&["id"]).unwrap_or_default().to_owned();
        self.entry(here, details, made.json, &name);
    }

    /// An answer as the value of an Observation; the name of its member, too.
    fn value(&self, here: &Here<'_>, answer: &Json, at: &str) -> Option<(String, Json)> {
        let (of, json) = choice(answer, "value")?;
        let unit = unit(here.source);
        let is_number = matches!(of, ValueType::Integer | ValueType::Decimal);
        if is_number && (unit.is_some() || of == ValueType::Decimal) {
            return Some(("valueQuantity".to_owned(), quantity(json.clone(), unit)));
        }
        let definitions = self.world.definitions;
        let value = Value::typed(definitions, json, of.name());
        let element = definitions.child("Observation", "value")?;
        let chosen = match of {
            ValueType::Attachment | ValueType::Reference => None,
            _ => choose(element, &value),
        };
        let Some((of, json)) = chosen else {
            let text = format!(
                "The answer of \"{}\" is not extracted: an Observation has no value of type {}.",
                cut(here.link_id()),
                of.name()
            );
            self.tell(IssueType::NotSupported, at, text);
            return None;
        };
        Some((format!("value{}", suffix(of.code)), json))
    }
}

/// The categories that stand at an element.
fn categories(element: &Json) -> Vec<&Json> {
    extension::values(element, "observation-extract-category").collect()
}

/// The codes of an item that are extracted: those that are tagged, or all if the item is.
fn codes(source: &Json, extract: Extract) -> Vec<Json> {
    let codes = source.list("code");
    let is = |code: &Json| Extract::read(code);
    let tagged: Vec<&Json> =
        codes.iter().filter(|code| is(code).is_some_and(|tag| tag != Extract::No)).collect();
    let chosen = match (tagged.is_empty(), extract) {
        (false, _) => tagged,
        (true, Extract::No) => Vec::new(),
        (true, _) => codes.iter().filter(|code| is(code) != Some(Extract::No)).collect(),
    };
    chosen.into_iter().map(without_tag).collect()
}

/// A code without the extension that says that it is extracted.
fn without_tag(code: &Json) -> Json {
    let mut code = code.clone();
    let rest: Vec<Json> = code
        .list("extension")
        .iter()
        .filter(|other| extension::term(other) != Some("observationExtract"))
        .cloned()
        .collect();
    if let Some(object) = code.as_object_mut()
        && object.get("extension").is_some()
    {
        match rest.is_empty() {
            true => {
                object.remove("extension");
            }
            false => object.set("extension", rest),
        }
    }
    code
}

fn concept(codes: &[Json]) -> Json {
    json!({"coding": (Json::Array(codes.to_vec()))})
}

/// Copies references; only those to one of `types`, if there are any.
fn copy(response: &Json, from: &str, json: &mut Object, to: &str, types: &[&str]) {
    let is_fit = |reference: &&Json| {
        let text = reference.str_at(&["reference"]).unwrap_or_default();
        let of = reference.str_at(&["type"]).or_else(|| text.rsplit('/').nth(1));
        types.is_empty() || of.is_some_and(|of| types.contains(&of))
    };
    let all: Vec<Json> = response.list(from).iter().filter(is_fit).cloned().collect();
    if !all.is_empty() {
        json.set(to, all);
    }
}

/// Puts the members that came later where the standard has them.
fn ordered(run: &Run<'_>, json: &mut Json) {
    if let Some(kind) = run.world.definitions.type_of("Observation") {
        super::element::tidy(run.world.definitions, Some(kind), json);
    }
}
