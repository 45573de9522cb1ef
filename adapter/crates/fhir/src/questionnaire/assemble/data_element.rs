//! Items that are defined by elements:
//! <https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.definition>.
//!
//! What an item says itself stays. The label becomes the text; length, binding, bounds and the
//! extensions that are about questions follow. A group without questions gets one for each element
//! below its own. Slices are not made questions, and R4's own elements are not looked at.

use super::{Wanted, Work};
use crate::questionnaire::value::cut;
use crate::{Issue, IssueType, Json, Object};

/// Where R4's own types are defined.
const CORE: &str = "http://hl7.org/fhir/StructureDefinition/";
const MIN_VALUE: &str = "http://hl7.org/fhir/StructureDefinition/minValue";
const MAX_VALUE: &str = "http://hl7.org/fhir/StructureDefinition/maxValue";
/// Extensions of an element that are about itself, not about the question.
const NOT_ABOUT_QUESTIONS: [&str; 2] = [
    "http://hl7.org/fhir/StructureDefinition/structuredefinition-",
    "http://hl7.org/fhir/StructureDefinition/elementdefinition-",
];

impl Work<'_> {
    /// Fills in what the element that an item is defined by says.
    pub(super) fn define(
        &mut self,
        item: &mut Json,
        extensions: &mut Vec<Json>,
        items: &mut Vec<Json>,
        at: &str,
    ) {
        let definition = item.str_at(&["definition"]).unwrap_or_default().to_owned();
        let Some((canonical, id)) = definition.split_once('#') else { return };
        let (url, _) = canonical.split_once('|').unwrap_or((canonical, ""));
        let is_core = url.strip_prefix(CORE);
        if is_core.is_some_and(|name| self.world.definitions.type_of(name).is_some()) {
            return;
        }
        let wanted =
            Wanted { resource_type: "StructureDefinition", canonical: canonical.to_owned() };
        let parts = self.parts;
        let found = match parts.0.get(&wanted) {
            None => return self.want(wanted),
            Some(found) => found.as_deref(),
        };
        let of = |list: &'static str| {
            found.and_then(|found| found.get(list)).map_or(&[][..], |view| view.list("element"))
        };
        let elements = match of("snapshot") {
            [] => of("differential"),
            elements => elements,
        };
        let element = elements.iter().find(|element| element.str_at(&["id"]) == Some(id));
        let Some(element) = element else {
            let name = cut(&definition);
            let is_choice = matches!(item.str_at(&["type"]), Some("choice" | "open-choice"));
            let has_options =
                ["answerOption", "answerValueSet"].iter().any(|n| item.get(n).is_some());
            let is_usable = item.get("text").is_some() && (!is_choice || has_options);
            if found.is_some() || !is_usable {
                let text = format!("The element {name} is not here, and the item needs it.");
                self.error(IssueType::NotFound, at, text);
            } else {
                let text = format!(
                    "The element {name} is not here; what it says of the item is not known."
                );
                let issue = Issue::warning(IssueType::Incomplete, text);
                self.issues.push(issue.at(format!("{at}.definition")).rule("definition"));
            }
            return;
        };
        fill(item, extensions, element);
        let has_questions = items.iter().any(|item| item.str_at(&["type"]) != Some("display"));
        if item.str_at(&["type"]) == Some("group") && !has_questions {
            let link_id = item.str_at(&["linkId"]).unwrap_or_default().to_owned();
            let made = self.questions(canonical, elements, id, &link_id, at);
            items.extend(made);
        }
    }

    /// A question for each element below another.
    fn questions(
        &mut self,
        canonical: &str,
        elements: &[Json],
        above: &str,
        link_id: &str,
        at: &str,
    ) -> Vec<Json> {
        let mut made = Vec::new();
        for element in elements {
            let Some(id) = element.str_at(&["id"]) else { continue };
            let Some(name) = id.strip_prefix(above).and_then(|rest| rest.strip_prefix('.')) else {
                continue;
            };
            let is_own = matches!(name, "id" | "extension" | "modifierExtension");
            let members = element.as_object().into_iter().flat_map(Object::iter);
            let mut members = members.map(|(member, _)| member);
            let is_fixed =
                members.any(|member| member.starts_with("fixed") || member.starts_with("pattern"));
            if name.contains(['.', ':'])
                || is_own
                || is_fixed
                || element.str_at(&["max"]) == Some("0")
            {
                continue;
            }
            let of = element.list("type").first().and_then(|of| of.str_at(&["code"]));
            let Some(kind) = of.and_then(item_type) else { continue };
            self.items += 1;
            if self.items > super::MAX_ITEMS {
                return made;
            }
            let link_id = format!("{link_id}.{name}");
            if !self.link_ids.insert(link_id.clone()) {
                let text = format!("The linkId \"{}\" would be there twice.", cut(&link_id));
                self.error(IssueType::Duplicate, at, text);
            }
            let mut item = crate::json!({
                "linkId": (link_id.as_str()), "definition": (format!("{canonical}#{id}")),
                "type": (kind)
            });
            let mut extensions = Vec::new();
            fill(&mut item, &mut extensions, element);
            if element.get("min").and_then(Json::as_i64).is_some_and(|min| min > 0) {
                item.set("required", true);
            }
            if element.str_at(&["max"]).is_some_and(|max| max != "1") {
                item.set("repeats", true);
            }
            if !extensions.is_empty()
                && let Some(object) = item.as_object_mut()
            {
                object.set_at(0, "extension", extensions);
            }
            let below = match kind {
                "group" => self.questions(canonical, elements, id, &link_id, at),
                _ => Vec::new(),
            };
            if kind == "group" && below.is_empty() {
                continue;
            }
            if !below.is_empty() {
                item.set("item", below);
            }
            made.push(item);
        }
        made
    }
}

/// Fills in what an item does not say itself.
fn fill(item: &mut Json, extensions: &mut Vec<Json>, element: &Json) {
    let kind = item.str_at(&["type"]).unwrap_or_default().to_owned();
    let text = element.get("label").or_else(|| element.get("short"));
    if item.get("text").is_none()
        && let Some(text) = text.filter(|text| text.as_str() != Some("n/a"))
    {
        item.set("text", text.clone());
    }
    if item.get("code").is_none() && !element.list("code").is_empty() {
        item.set("code", element.list("code").to_vec());
    }
    if item.get("maxLength").is_none()
        && let Some(length) = element.get("maxLength")
    {
        item.set("maxLength", length.clone());
    }
    let has_options =
        ["answerOption", "answerValueSet"].iter().any(|name| item.get(name).is_some());
    let set = element.at(&["binding", "valueSet"]);
    if matches!(kind.as_str(), "choice" | "open-choice")
        && !has_options
        && let Some(set) = set
    {
        item.set("answerValueSet", set.clone());
    }
    let has = |extensions: &[Json], url: &str| {
        extensions.iter().any(|own| own.str_at(&["url"]) == Some(url))
    };
    for (url, name) in [(MIN_VALUE, "minValue"), (MAX_VALUE, "maxValue")] {
        let mut members = element.as_object().into_iter().flat_map(Object::iter);
        let bound = members.find_map(|(member, value)| Some((member.strip_prefix(name)?, value)));
        if let Some((suffix, value)) = bound
            && !has(extensions, url)
        {
            let mut made = crate::json!({"url": (url)});
            made.set(&format!("value{suffix}"), value.clone());
            extensions.push(made);
        }
    }
    for one in element.list("extension") {
        let url = one.str_at(&["url"]).unwrap_or_default();
        if !NOT_ABOUT_QUESTIONS.iter().any(|start| url.starts_with(start)) && !has(extensions, url)
        {
            extensions.push(one.clone());
        }
    }
}

/// The type of a question for values of a type.
fn item_type(of: &str) -> Option<&'static str> {
    Some(match of {
        "boolean" => "boolean",
        "decimal" => "decimal",
        "integer" | "positiveInt" | "unsignedInt" => "integer",
        "date" => "date",
        "dateTime" | "instant" => "dateTime",
        "time" => "time",
        "string" | "id" => "string",
        "markdown" => "text",
        "uri" | "url" | "canonical" => "url",
        "code" | "Coding" | "CodeableConcept" => "choice",
        "Attachment" => "attachment",
        "Reference" => "reference",
        "Quantity" => "quantity",
        "Element" | "BackboneElement" => "group",
        _ => return None,
    })
}
