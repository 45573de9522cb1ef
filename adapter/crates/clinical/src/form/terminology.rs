//! The CodeSystems and ValueSets that the forms and their results are coded with:
//! <https://hl7.org/fhir/R4/codesystem.html>.

use lumbar_fhir::{Json, Object, json};

use super::{BASE, CORE, DATE, name};
use crate::instrument::{Instrument, OptionSet, OptionSets};

/// One CodeSystem and one ValueSet for each set of options whose system is ours, and the CodeSystems
/// of scores and of scoring rules.
pub fn terminology(instruments: &[Instrument], options: &OptionSets) -> Vec<Json> {
    let mut artefacts = Vec::new();
    for set in options.iter().filter(|set| set.system == format!("{BASE}/CodeSystem/{}", set.name))
    {
        artefacts.push(code_system(
            &set.name,
            &title(&set.name),
            "Answers of questionnaires; labels in our own words.",
            option_concepts(set),
        ));
        artefacts.push(value_set(&set.name, &title(&set.name)));
    }
    let mut scores: Vec<Json> = Vec::new();
    for instrument in instruments {
        let rules = instrument.scores.iter().map(|rule| (&rule.name, &rule.label));
        let rules = rules.chain(instrument.categories.iter().map(|rule| (&rule.name, &rule.label)));
        for (name, label) in rules {
            let code = format!("{}.{name}", instrument.id);
            // A score and the category that is made of it may share a name.
            if !scores.iter().any(|known| known.str_at(&["code"]) == Some(&code)) {
                scores.push(json!({"code": (code), "display": (label)}));
            }
        }
    }
    artefacts.push(code_system(
        "score",
        "Scores and categories of instruments",
        "One code for each score and category of an instrument: the instrument's id, a full stop, the result's name.",
        scores,
    ));
    let rules = instruments.iter().map(
        |instrument| json!({"code": (&*instrument.id), "display": (instrument.title.as_str())}),
    );
    artefacts.push(code_system(
        "scoring-table",
        "Scoring rules",
        "The algorithm that gave a score: one code for each instrument; a coding's version is the instrument's.",
        rules.collect(),
    ));
    artefacts
}

fn option_concepts(set: &OptionSet) -> Vec<Json> {
    let concept = |option: &crate::instrument::AnswerOption| {
        let mut concept = Object::new();
        if let Some(value) = option.value {
            concept.set(
                "extension",
                json!([{
                    "url": (format!("{CORE}/ordinalValue")), "valueDecimal": (value)
                }]),
            );
        }
        concept.set("code", &*option.code);
        concept.set("display", option.label.as_str());
        Json::Object(concept)
    };
    set.options.iter().map(concept).collect()
}

/// `freq-0-3` is `Freq 0 to 3`.
fn title(name: &str) -> String {
    let mut words: Vec<String> = name.split('-').map(str::to_owned).collect();
    if let Some(first) = words.first_mut() {
        let mut letters = first.chars();
        let upper = letters.next().map(|letter| letter.to_ascii_uppercase());
        *first = upper.into_iter().chain(letters).collect();
    }
    let is_number = |word: &String| word.chars().all(|c| c.is_ascii_digit());
    match words.as_slice() {
        [start @ .., low, high] if is_number(low) && is_number(high) => {
            format!("{}: {low} to {high}", start.join(" "))
        }
        words => words.join(" "),
    }
}

fn code_system(id: &str, title: &str, description: &str, concepts: Vec<Json>) -> Json {
    json!({
        "resourceType": "CodeSystem",
        "id": (id),
        "url": (format!("{BASE}/CodeSystem/{id}")),
        "version": "1.0.0",
        "name": (name(id)),
        "title": (title),
        "status": "active",
        "experimental": false,
        "date": (DATE),
        "publisher": "Lumbar",
        "description": (description),
        "copyright": "CC0 1.0",
        "caseSensitive": true,
        "content": "complete",
        "count": (i64::try_from(concepts.len()).unwrap_or_default()),
        "concept": (concepts)
    })
}

fn value_set(id: &str, title: &str) -> Json {
    json!({
        "resourceType": "ValueSet",
        "id": (id),
        "url": (format!("{BASE}/ValueSet/{id}")),
        "version": "1.0.0",
        "name": (format!("{}Codes", name(id))),
        "title": (title),
        "status": "active",
        "experimental": false,
        "date": (DATE),
        "publisher": "Lumbar",
        "description": (format!("All codes of the CodeSystem {id}.")),
        "copyright": "CC0 1.0",
        "compose": {"include": [{"system": (format!("{BASE}/CodeSystem/{id}"))}]}
    })
}
