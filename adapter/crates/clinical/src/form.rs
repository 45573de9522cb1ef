//! The Questionnaire of an instrument: <https://hl7.org/fhir/R4/questionnaire.html>, with the
//! extensions of SDC (<http://hl7.org/fhir/uv/sdc/>).
//!
//! It is made of the instrument's table and of nothing else: the same table gives the same bytes.
//! Texts are our own labels, and the form says so; the official wording is put into it elsewhere
//! (a site's wording packs). No answer is ever selected beforehand.

mod expression;
mod terminology;
mod translation;

use lumbar_fhir::{Json, Object, json};

use crate::instrument::item::{Enable, EnableTest};
use crate::instrument::rule::{CategoryRule, ScoreRule};
use crate::instrument::{Instrument, Item, ItemKind, OptionSet, Rule};
use crate::{activation::Need, approval::Approval};
use expression::Writer;
pub use terminology::terminology;
pub use translation::Translation;

/// Begins the urls of what is ours.
const BASE: &str = "https://lumbar.example/fhir";
/// Begins the urls of R4's extensions.
const CORE: &str = "http://hl7.org/fhir/StructureDefinition";
/// Begins the urls of SDC's extensions.
const SDC: &str = "http://hl7.org/fhir/uv/sdc/StructureDefinition";
/// R5's element, which SDC asks for; the brackets are a part of the url.
const VERSION_ALGORITHM: &str =
    "http://hl7.org/fhir/5.0/StructureDefinition/extension-Questionnaire.versionAlgorithm[x]";
/// When the forms were last changed.
const DATE: &str = "2026-11-23";

/// linkId of the item that says how to answer; a wording pack puts the official words there.
pub const INSTRUCTIONS: &str = "words-instructions";
/// linkId of the item that holds the notice of the copyright.
pub const NOTICE: &str = "words-notice";

/// Whose words a form shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Words {
    /// They are ours as the instrument is.
    Own,
    /// Labels stand for an official wording that is free to use.
    Free,
    /// Labels stand for an official wording that needs a licence.
    Licensed,
}

/// linkId of the item that shows a score.
pub fn score_link_id(name: &str) -> String {
    format!("calc-score-{name}")
}

/// linkId of the item that shows a category.
pub fn category_link_id(name: &str) -> String {
    format!("calc-category-{name}")
}

/// The Questionnaire of an instrument, its texts also in the languages of the translations.
pub fn questionnaire(instrument: &Instrument, translations: &[Translation]) -> Json {
    let about = &instrument.about;
    let words = Words::of(instrument);
    let mut form = Object::new();
    form.set("resourceType", "Questionnaire");
    form.set("id", &*instrument.id);
    form.set(
        "meta",
        json!({
            "profile": [(format!("{BASE}/StructureDefinition/back-pain-questionnaire"))]
        }),
    );
    form.set("language", about.language.as_str());
    form.set("extension", extensions(instrument, words));
    form.set("url", instrument.questionnaire.as_str());
    form.set("version", instrument.version.as_str());
    form.set("name", name(&instrument.id));
    form.set("title", instrument.title.as_str());
    let title = |translation: &Translation| translation.title.clone();
    sibling(&mut form, "_title", translations, title);
    if let Some(wider) = &about.derived_from {
        form.set("derivedFrom", json!([(format!("{BASE}/Questionnaire/{wider}"))]));
    }
    form.set("status", about.status.as_str());
    form.set("experimental", Json::Bool(false));
    let subject = if about.respondent == "patient" { "Patient" } else { "Practitioner" };
    form.set("subjectType", json!([(subject)]));
    form.set("date", DATE);
    form.set("publisher", "Lumbar");
    form.set("description", description(instrument));
    if let Some(age) = about.min_age {
        form.set(
            "useContext",
            json!([{
                "code": {
                    "system": "http://terminology.hl7.org/CodeSystem/usage-context-type",
                    "code": "age"
                },
                "valueRange": {"low": {
                    "value": (age), "unit": "years",
                    "system": "http://unitsofmeasure.org", "code": "a"
                }}
            }]),
        );
    }
    form.set("purpose", purpose(instrument, words, translations));
    form.set("copyright", copyright(instrument, words));
    if !instrument.codes.is_empty() {
        form.set("code", instrument.codes.clone());
    }
    form.set("item", items(instrument, words, translations));
    Json::Object(form)
}

impl Words {
    fn of(instrument: &Instrument) -> Words {
        let is_refused = instrument.activation.refused.is_some();
        match () {
            () if is_refused || instrument.activation.needs.contains(&Need::WordingPack) => {
                Words::Licensed
            }
            () if instrument.about.licence.status == "own" => Words::Own,
            () => Words::Free,
        }
    }

    /// The code of our extension `wording-pack`.
    fn code(self) -> &'static str {
        match self {
            Words::Own => "none",
            Words::Free => "optional",
            Words::Licensed => "required",
        }
    }

    /// What is said wherever the labels are shown.
    fn told(self) -> Option<&'static str> {
        match self {
            Words::Own => None,
            Words::Free => Some(
                "The texts here are short labels in our own words, not the official wording of the instrument, which a site may load as a wording pack.",
            ),
            Words::Licensed => Some(
                "The texts here are short labels in our own words for staff lists and charts. Nobody answers by them: a person is asked in the official wording, which a site supplies under its licence as a wording pack.",
            ),
        }
    }
}

fn extensions(instrument: &Instrument, words: Words) -> Json {
    let mut extensions = vec![
        json!({"url": (VERSION_ALGORITHM), "valueCoding": {
            "system": "http://hl7.org/fhir/version-algorithm", "code": "semver"
        }}),
        json!({
            "url": (format!("{BASE}/StructureDefinition/wording-pack")),
            "valueCode": (words.code())
        }),
    ];
    if let Some(reason) = refusal(instrument) {
        extensions.push(json!({
            "url": (format!("{BASE}/StructureDefinition/not-activatable")), "valueString": (reason)
        }));
    }
    let mut approval = vec![json!({"url": "status", "valueCode": "unapproved"})];
    if let Approval::Approved { who, when, version, hash } = &instrument.approval {
        approval = vec![
            json!({"url": "status", "valueCode": "approved"}),
            json!({"url": "who", "valueString": (who)}),
            json!({"url": "when", "valueDate": (when)}),
            json!({"url": "version", "valueString": (version)}),
            json!({"url": "hash", "valueString": (hash)}),
        ];
    }
    extensions.push(json!({
        "url": (format!("{BASE}/StructureDefinition/approval")), "extension": (approval)
    }));
    extensions.extend(recent_answers(instrument));
    Json::Array(extensions)
}

/// The query for answers that other instruments have of the patient; `%known` then stands for them.
fn recent_answers(instrument: &Instrument) -> Vec<Json> {
    let reuses = instrument.about.reuses.iter().enumerate();
    let mut extensions: Vec<Json> = reuses
        .map(|(index, reuse)| {
            let query = format!(
                "QuestionnaireResponse?subject=Patient/{{{{%patient.id}}}}&questionnaire={BASE}/Questionnaire/{}&status=completed,amended&authored=ge{{{{today() - {} days}}}}&_sort=-authored&_count=1",
                reuse.instrument, reuse.days
            );
            json!({"url": (format!("{CORE}/variable")), "valueExpression": {
                "name": (known(index)), "language": "application/x-fhir-query", "expression": (query)
            }})
        })
        .collect();
    if !extensions.is_empty() {
        let patient = json!({
            "url": (format!("{SDC}/sdc-questionnaire-launchContext")),
            "extension": [
                {"url": "name", "valueCoding": {
                    "system": "http://hl7.org/fhir/uv/sdc/CodeSystem/launchContext", "code": "patient"
                }},
                {"url": "type", "valueCode": "Patient"}
            ]
        });
        extensions.insert(0, patient);
    }
    extensions
}

/// Name of the variable that stands for what another instrument's query found.
fn known(index: usize) -> String {
    if index == 0 { "known".to_owned() } else { format!("known{}", index + 1) }
}

/// What an item begins with: what was answered elsewhere a short time ago.
fn initial(instrument: &Instrument, item: &Item) -> Option<Json> {
    let reuses = instrument.about.reuses.iter().enumerate();
    let mut found = reuses
        .filter(|(_, reuse)| reuse.items.iter().any(|link_id| *link_id == *item.link_id))
        .map(|(index, _)| {
            let (known, link_id) = (known(index), &item.link_id);
            format!(
                "%{known}.entry.resource.descendants().where(linkId = '{link_id}').answer.value"
            )
        });
    let first = found.next()?;
    let path = found.fold(first, |path, next| format!("({path} | {next}).first()"));
    Some(json!({"url": (format!("{SDC}/sdc-questionnaire-initialExpression")), "valueExpression": {
        "language": "text/fhirpath", "expression": (path)
    }}))
}

/// Why nobody may be asked, whatever wording there is.
fn refusal(instrument: &Instrument) -> Option<String> {
    if let Some(reason) = &instrument.activation.refused {
        return Some(reason.clone());
    }
    let needs = instrument.activation.needs.contains(&Need::ScoringConfirmation);
    (needs && !instrument.approval.is_approved()).then(|| {
        "Nobody has confirmed its items and scoring rule against the licensed material and signed that in its approval.".to_owned()
    })
}

/// The id as a name for machines: `StartBack9`.
fn name(id: &str) -> String {
    let mut name = String::new();
    for part in id.split(|c: char| !c.is_ascii_alphanumeric()) {
        let mut letters = part.chars();
        name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        name.extend(letters);
    }
    name
}

fn description(instrument: &Instrument) -> String {
    let about = &instrument.about;
    let mut text =
        format!("What it measures: {}. Who answers: the {}.", about.measures, about.respondent);
    if let Some((recall, _)) = &about.recall {
        text.push_str(&format!(" Which time it is about: {recall}."));
    }
    if let Some(days) = about.validity_days {
        let days = if days == 1 { "1 day".to_owned() } else { format!("{days} days") };
        text.push_str(&format!(" Answers may be used for another purpose for {days}."));
    }
    text
}

fn purpose(instrument: &Instrument, words: Words, translations: &[Translation]) -> String {
    let mut text = instrument.about.purpose.clone();
    let mut add = |sentence: &str| {
        text.push(' ');
        text.push_str(sentence);
    };
    if let Some(told) = words.told() {
        add(told);
    }
    if let Some(reason) = refusal(instrument) {
        add(&format!("It cannot be put to anybody: {reason}"));
    }
    match instrument.about.rule_status.as_str() {
        "verified" | "verified-table" => {}
        "partly-verified" => add("Its scoring rule was verified in part."),
        "service-policy" => add("Its scoring rule is our own policy."),
        "unverified-general-knowledge" => add("Its scoring rule was not verified."),
        _ => {}
    }
    for translation in translations {
        add(&format!("Language {}: {}", translation.language, translation.review));
    }
    text
}

fn copyright(instrument: &Instrument, words: Words) -> String {
    let licence = &instrument.about.licence;
    let mut text = match words {
        Words::Own => format!("{} CC0 1.0.", licence.terms),
        Words::Free | Words::Licensed => format!("{}: {}", licence.holder, licence.terms),
    };
    if let Some(told) = words.told() {
        text.push(' ');
        text.push_str(told);
    }
    let mut systems: Vec<&str> = Vec::new();
    let codes = instrument.codes.iter();
    let codes = codes.chain(instrument.items.iter().flat_map(|item| &item.codes));
    let codes = codes.chain(instrument.scores.iter().flat_map(|score| &score.codes));
    let codes = codes.chain(instrument.categories.iter().flat_map(|category| &category.codes));
    codes.for_each(|code| systems.extend(code.str_at(&["system"])));
    if systems.contains(&"http://loinc.org") {
        text.push_str(" LOINC codes: (c) Regenstrief Institute, used under the LOINC licence.");
    }
    if systems.contains(&"http://snomed.info/sct") {
        text.push_str(" SNOMED CT codes: (c) SNOMED International; their use in the UK is licensed by NHS England.");
    }
    text
}

fn items(instrument: &Instrument, words: Words, translations: &[Translation]) -> Json {
    let mut items = Vec::new();
    if let Some(reason) = refusal(instrument).filter(|_| instrument.items.is_empty()) {
        let text = format!("It cannot be put to anybody: {reason}");
        return Json::Array(vec![display(INSTRUCTIONS, &text)]);
    }
    if let Some(told) = words.told() {
        items.push(display(INSTRUCTIONS, told));
    }
    items.extend(children(instrument, None, translations));
    if words.told().is_some() {
        let licence = &instrument.about.licence;
        let text = format!("{}: {}", licence.holder, licence.terms);
        items.push(display(NOTICE, &text));
    }
    let writer = Writer::new(instrument);
    items.extend(instrument.scores.iter().map(|rule| score(&writer, rule)));
    items.extend(instrument.categories.iter().map(|rule| category(&writer, rule)));
    if let Some(triage) = writer.triage() {
        let link_id = category_link_id("triage");
        let text = "Level of triage".to_owned();
        items.push(calculated(link_id, text, "string", &[], Some(triage)));
    }
    Json::Array(items)
}

fn display(link_id: &str, text: &str) -> Json {
    json!({"linkId": (link_id), "text": (text), "type": "display"})
}

fn children(
    instrument: &Instrument,
    parent: Option<usize>,
    translations: &[Translation],
) -> Vec<Json> {
    let items = instrument.items.iter().enumerate();
    let own = items.filter(|(_, item)| item.parent == parent);
    own.map(|(index, item)| {
        let mut form = question(instrument, item, translations);
        let within = children(instrument, Some(index), translations);
        if let Some(form) = form.as_object_mut().filter(|_| !within.is_empty()) {
            form.set("item", within);
        }
        form
    })
    .collect()
}

fn question(instrument: &Instrument, item: &Item, translations: &[Translation]) -> Json {
    let mut form = Object::new();
    let bound = |name: &str, value: Json, suffix: &str| {
        let mut extension = Object::new();
        extension.set("url", format!("{CORE}/{name}"));
        extension.set(&format!("value{suffix}"), value);
        Json::Object(extension)
    };
    let number = |value: &rust_decimal::Decimal| crate::score::number(*value);
    let mut extensions = match &item.kind {
        ItemKind::Integer(min, max) => vec![
            bound("minValue", Json::from(*min), "Integer"),
            bound("maxValue", Json::from(*max), "Integer"),
        ],
        ItemKind::Decimal(min, max) => vec![
            bound("minValue", number(min), "Decimal"),
            bound("maxValue", number(max), "Decimal"),
        ],
        _ => Vec::new(),
    };
    extensions.extend(initial(instrument, item));
    if !extensions.is_empty() {
        form.set("extension", extensions);
    }
    form.set("linkId", &*item.link_id);
    if !item.codes.is_empty() {
        form.set("code", item.codes.clone());
    }
    form.set("text", item.label.as_str());
    let text = |translation: &Translation| translation.text(&item.link_id).map(str::to_owned);
    sibling(&mut form, "_text", translations, text);
    form.set(
        "type",
        match &item.kind {
            ItemKind::Choice(_) => "choice",
            ItemKind::Integer(..) => "integer",
            ItemKind::Decimal(..) => "decimal",
            ItemKind::Boolean => "boolean",
            ItemKind::Date => "date",
            ItemKind::Text { long: false } => "string",
            ItemKind::Text { long: true } => "text",
            ItemKind::Group => "group",
        },
    );
    if let Some(enable) = &item.enable {
        enable_when(&mut form, instrument, enable);
    }
    if item.required {
        form.set("required", Json::Bool(true));
    }
    if item.several {
        form.set("repeats", Json::Bool(true));
    }
    if let ItemKind::Choice(set) = &item.kind {
        form.set("answerOption", options(item, set, translations));
    }
    Json::Object(form)
}

/// What each answer is worth stands where renderers look for it: on the option.
fn options(item: &Item, set: &OptionSet, translations: &[Translation]) -> Json {
    let option = |option: &crate::instrument::AnswerOption| {
        let mut form = Object::new();
        let value = option.value.map(rust_decimal::Decimal::from);
        if let Some(value) = value {
            let points = item.points(value).unwrap_or(value);
            let weight = |name: &str, value| json!({"url": (format!("{CORE}/{name}")), "valueDecimal": (crate::score::number(value))});
            form.set(
                "extension",
                vec![weight("ordinalValue", value), weight("itemWeight", points)],
            );
        }
        let mut coding = Object::new();
        coding.set("system", set.system.as_str());
        coding.set("code", &*option.code);
        coding.set("display", option.label.as_str());
        let display = |translation: &Translation| {
            translation.option(&item.link_id, &option.code).map(str::to_owned)
        };
        sibling(&mut coding, "_display", translations, display);
        form.set("valueCoding", coding);
        Json::Object(form)
    };
    Json::Array(set.options.iter().map(option).collect())
}

fn enable_when(form: &mut Object, instrument: &Instrument, enable: &Enable) {
    let test = |test: &EnableTest| {
        let (index, operator) = match test {
            EnableTest::Answered(index, _) => (*index, "exists"),
            EnableTest::Is(index, _) => (*index, "="),
        };
        let item = instrument.items.get(index)?;
        let mut when = Object::new();
        when.set("question", &*item.link_id);
        when.set("operator", operator);
        match (test, &item.kind) {
            (EnableTest::Answered(_, answered), _) => {
                when.set("answerBoolean", Json::Bool(*answered));
            }
            (EnableTest::Is(_, code), ItemKind::Choice(set)) => when
                .set("answerCoding", json!({"system": (set.system.as_str()), "code": (&**code)})),
            (EnableTest::Is(_, code), _) => {
                when.set("answerBoolean", Json::Bool(&**code == "true"));
            }
        }
        Some(Json::Object(when))
    };
    let tests: Vec<Json> = enable.tests.iter().filter_map(test).collect();
    let behaviour = (tests.len() > 1).then_some(if enable.all { "all" } else { "any" });
    form.set("enableWhen", tests);
    if let Some(behaviour) = behaviour {
        form.set("enableBehavior", behaviour);
    }
}

fn score(writer: &Writer<'_>, rule: &ScoreRule) -> Json {
    let of_type = match &rule.rule {
        Rule::Profile => "string",
        Rule::ValueSet(_) => "decimal",
        _ if rule.decimals > 0 => "decimal",
        _ => "integer",
    };
    let expression = writer.score(rule);
    let text = match &expression {
        Some(_) => rule.label.clone(),
        None => {
            format!("{} (computed by the service, from a table that the site supplies)", rule.label)
        }
    };
    calculated(score_link_id(&rule.name), text, of_type, &rule.codes, expression)
}

fn category(writer: &Writer<'_>, rule: &CategoryRule) -> Json {
    let of_type = match rule.values.first().map(|value| &value.value) {
        Some(Json::Bool(_)) => "boolean",
        Some(Json::Number(_)) => "integer",
        _ => "string",
    };
    let expression = writer.category(rule);
    let text = match &expression {
        Some(_) => rule.label.clone(),
        None => format!("{} (computed by the service)", rule.label),
    };
    calculated(category_link_id(&rule.name), text, of_type, &rule.codes, expression)
}

/// An item for eyes only: the service computes every score anew.
fn calculated(
    link_id: String,
    text: String,
    of_type: &str,
    codes: &[Json],
    expression: Option<String>,
) -> Json {
    let mut extensions =
        vec![json!({"url": (format!("{CORE}/questionnaire-hidden")), "valueBoolean": true})];
    if let Some(expression) = expression {
        extensions.push(json!({
            "url": (format!("{SDC}/sdc-questionnaire-calculatedExpression")),
            "valueExpression": {"language": "text/fhirpath", "expression": (expression)}
        }));
    }
    let mut item = Object::new();
    item.set("extension", extensions);
    item.set("linkId", link_id);
    if !codes.is_empty() {
        item.set("code", codes.to_vec());
    }
    item.set("text", text);
    item.set("type", of_type);
    item.set("readOnly", Json::Bool(true));
    Json::Object(item)
}

/// The texts of the translations: <https://hl7.org/fhir/R4/extension-translation.html>.
fn sibling(
    form: &mut Object,
    name: &str,
    translations: &[Translation],
    text: impl Fn(&Translation) -> Option<String>,
) {
    let extensions: Vec<Json> = translations
        .iter()
        .filter_map(|translation| {
            let text = text(translation)?;
            Some(json!({"url": (format!("{CORE}/translation")), "extension": [
                {"url": "lang", "valueCode": (translation.language.as_str())},
                {"url": "content", "valueString": (text)}
            ]}))
        })
        .collect();
    if !extensions.is_empty() {
        form.set(name, json!({"extension": (extensions)}));
    }
}
