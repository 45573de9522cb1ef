//! One wording pack: the JSON of `profiles/schema/wording-pack.schema.json`.

use std::collections::BTreeMap;
use std::fmt;

use lumbar_fhir::{Json, Object, json};
use ring::digest;
use serde::Deserialize;

use super::licence::{Licence, Organisation};
use crate::schema;

/// Most linkIds and codes that a complaint names.
const MOST_NAMED: usize = 5;
/// linkId of the item of a Questionnaire that says how to answer.
const INSTRUCTIONS: &str = "words-instructions";
/// linkId of the item of a Questionnaire that shows the notice of the copyright.
const NOTICE: &str = "words-notice";

/// The words of one version of an instrument in one language.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pack {
    /// The instrument's id.
    pub instrument: String,
    /// The version of its Questionnaire.
    pub instrument_version: String,
    /// BCP 47.
    pub language: String,
    title: Option<String>,
    instructions: Option<String>,
    items: BTreeMap<String, Words>,
    copyright_notice: String,
    /// Under what it may be shown.
    pub licence: Licence,
    sha256: Option<String>,
}

/// The words of one item.
#[derive(Clone, Deserialize)]
struct Words {
    text: String,
    help: Option<String>,
    #[serde(default)]
    options: BTreeMap<String, String>,
}

/// Which one it is; none of its words.
impl fmt::Debug for Pack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Pack { instrument, instrument_version, language, .. } = self;
        write!(f, "Pack({instrument} {instrument_version} {language})")
    }
}

impl Pack {
    /// Reads a pack.
    ///
    /// # Errors
    /// What is wrong with its form, without a word of it.
    pub fn read(text: &[u8]) -> Result<Pack, Vec<String>> {
        // This reader also refuses what stands twice.
        Json::parse(text).map_err(|error| vec![error.to_string()])?;
        let value: serde_json::Value =
            serde_json::from_slice(text).map_err(|error| vec![error.to_string()])?;
        let faults = schema::masked_faults_of("wording-pack", &value);
        if !faults.is_empty() {
            return Err(faults);
        }
        let is_date = |name: &str| {
            let text = value.pointer(&format!("/licence/{name}")).and_then(|date| date.as_str());
            text.is_some_and(|text| text.parse::<jiff::civil::Date>().is_ok())
        };
        let missing = ["validFrom", "validTo"].into_iter().filter(|name| !is_date(name));
        let missing: Vec<String> =
            missing.map(|name| format!("/licence/{name}: there is no such day")).collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        serde_json::from_value(value)
            .map_err(|_| vec!["it is not of the form of a wording pack".to_owned()])
    }

    /// Whether it is for a Questionnaire, of whatever version.
    pub(super) fn is_of(&self, form: &Json) -> bool {
        form.str_at(&["id"]) == Some(&self.instrument)
    }

    /// Whether it words this version of a Questionnaire.
    pub(super) fn words_of(&self, form: &Json) -> bool {
        self.is_of(form) && form.str_at(&["version"]) == Some(&self.instrument_version)
    }

    /// What keeps it from being used whatever the day, beside its Questionnaire.
    pub(super) fn faults(&self, form: Option<&Json>, organisation: &Organisation) -> Vec<String> {
        let mut faults = Vec::new();
        match form {
            None => faults.push(format!("there is no instrument {}", self.instrument)),
            Some(form) if !self.words_of(form) => faults.push(format!(
                "it words version {} of {}, and version {} is served",
                self.instrument_version,
                self.instrument,
                form.str_at(&["version"]).unwrap_or_default()
            )),
            Some(form) => self.compare(form, &mut faults),
        }
        if self.copyright_notice.trim().is_empty() {
            faults.push("/copyrightNotice: it is blank".to_owned());
        }
        for (link_id, words) in &self.items {
            if words.text.trim().is_empty() || words.options.values().any(|t| t.trim().is_empty()) {
                faults.push(format!("/items/{link_id}: its words are blank"));
            }
        }
        faults.extend(self.licence.faults(organisation));
        let digest = self.digest();
        if self.sha256.as_ref().is_some_and(|stated| *stated != digest) {
            faults.push(format!(
                "/sha256: the items were changed after it was made; that of the items as they are is {digest}"
            ));
        }
        faults
    }

    /// Says which items and options are without words, and which words without an item or option.
    fn compare(&self, form: &Json, faults: &mut Vec<String>) {
        let mut asked = BTreeMap::new();
        questions(form, &mut asked);
        if asked.is_empty() {
            faults.push(format!("{} is not asked here, so it has no words", self.instrument));
            return;
        }
        let without = asked.keys().filter(|link_id| !self.items.contains_key(**link_id));
        tell(faults, "no words for the items", without.map(|link_id| (*link_id).to_owned()));
        let beside = self.items.keys().filter(|link_id| !asked.contains_key(link_id.as_str()));
        tell(faults, "words for items that are not there:", beside.cloned());
        let (mut missing, mut surplus) = (Vec::new(), Vec::new());
        for (link_id, codes) in &asked {
            let Some(words) = self.items.get(*link_id) else { continue };
            let name = |code: &str| format!("{link_id} {code}");
            missing
                .extend(codes.iter().filter(|c| !words.options.contains_key(**c)).map(|c| name(c)));
            let known = |code: &&String| codes.contains(&code.as_str());
            surplus.extend(words.options.keys().filter(|c| !known(c)).map(|c| name(c)));
        }
        tell(faults, "no words for the options", missing.into_iter());
        tell(faults, "words for options that are not there:", surplus.into_iter());
    }

    /// SHA-256 of the items in the form of <https://www.rfc-editor.org/rfc/rfc8785>: members in
    /// order of their names, no white space.
    fn digest(&self) -> String {
        let mut items = Object::new();
        for (link_id, words) in &self.items {
            let mut item = Object::new();
            if let Some(help) = &words.help {
                item.set("help", help.as_str());
            }
            if !words.options.is_empty() {
                let mut options = Object::new();
                for (code, text) in &words.options {
                    options.set(code, text.as_str());
                }
                item.set("options", options);
            }
            item.set("text", words.text.as_str());
            items.set(link_id, item);
        }
        let digest = digest::digest(&digest::SHA256, Json::Object(items).to_string().as_bytes());
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A Questionnaire in these words.
    pub(super) fn word(&self, form: &Json) -> Json {
        let mut form = form.clone();
        if let Some(object) = form.as_object_mut() {
            object.remove("_title");
            object.remove("_copyright");
            if let Some(title) = &self.title {
                object.set("title", title.as_str());
            }
            object.set("language", self.language.as_str());
            let Licence { holder, reference, granted_to, .. } = &self.licence;
            object.set(
                "copyright",
                format!(
                    "{} Used by {granted_to} under the licence {reference} of {holder}.",
                    self.copyright_notice
                ),
            );
            if let Some(Json::Array(items)) = object.get_mut("item") {
                self.items(items);
            }
        }
        form
    }

    fn items(&self, items: &mut Vec<Json>) {
        items.retain(|item| {
            item.str_at(&["linkId"]) != Some(INSTRUCTIONS) || self.instructions.is_some()
        });
        for item in items {
            let link_id = item.str_at(&["linkId"]).unwrap_or_default().to_owned();
            let Some(object) = item.as_object_mut() else { continue };
            let words = self.items.get(&link_id);
            let text = match link_id.as_str() {
                INSTRUCTIONS => self.instructions.as_deref(),
                NOTICE => Some(self.copyright_notice.as_str()),
                _ => words.map(|words| words.text.as_str()),
            };
            if let Some(text) = text {
                object.set("text", text);
                object.remove("_text");
            }
            if let (Some(words), Some(Json::Array(options))) =
                (words, object.get_mut("answerOption"))
            {
                options.iter_mut().for_each(|option| words.word(option));
            }
            if let Some(Json::Array(items)) = object.get_mut("item") {
                self.items(items);
            }
            if let Some(help) = words.and_then(|words| words.help.as_deref()) {
                item.push("item", help_item(&link_id, help));
            }
        }
    }
}

impl Words {
    fn word(&self, option: &mut Json) {
        let Some(coding) = option.get_mut("valueCoding").and_then(Json::as_object_mut) else {
            return;
        };
        let code = coding.get("code").and_then(Json::as_str).unwrap_or_default();
        if let Some(text) = self.options.get(code) {
            coding.set("display", text.as_str());
            coding.remove("_display");
        }
    }
}

/// linkIds and codes of the options of all items that are put to a person.
fn questions<'f>(parent: &'f Json, asked: &mut BTreeMap<&'f str, Vec<&'f str>>) {
    for item in parent.list("item") {
        let link_id = item.str_at(&["linkId"]).unwrap_or_default();
        let is_ours = link_id == INSTRUCTIONS || link_id == NOTICE || is_hidden(item);
        if is_ours {
            continue;
        }
        let codes = item.list("answerOption").iter();
        let codes = codes.filter_map(|option| option.str_at(&["valueCoding", "code"]));
        asked.insert(link_id, codes.collect());
        questions(item, asked);
    }
}

fn is_hidden(item: &Json) -> bool {
    item.list("extension").iter().any(|extension| {
        extension.str_at(&["url"])
            == Some("http://hl7.org/fhir/StructureDefinition/questionnaire-hidden")
            && extension.get("valueBoolean").and_then(Json::as_bool) == Some(true)
    })
}

/// <https://hl7.org/fhir/R4/extension-questionnaire-itemcontrol.html>, `help`.
fn help_item(link_id: &str, help: &str) -> Json {
    json!({
        "linkId": (format!("{link_id}-help")),
        "extension": [{
            "url": "http://hl7.org/fhir/StructureDefinition/questionnaire-itemControl",
            "valueCodeableConcept": {"coding": [{
                "system": "http://hl7.org/fhir/questionnaire-item-control", "code": "help"
            }]}
        }],
        "text": (help),
        "type": "display"
    })
}

fn tell(faults: &mut Vec<String>, what: &str, names: impl Iterator<Item = String>) {
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        return;
    }
    let more = names.len().saturating_sub(MOST_NAMED);
    let mut text = names.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    faults.push(format!("{what} {text}"));
}
