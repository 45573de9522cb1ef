//! Questionnaires made of the instruments' tables.

use std::collections::BTreeMap;

use lumbar_clinical::{Answers, Instrument, Scored, ValueSets, score};
use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::path::{Context, Expression, Value};
use lumbar_fhir::{Json, Object, json};
use lumbar_testkit::{fixtures, root, shared};

use crate::generator::made;
use crate::instruments::all;
use crate::{list, read};

const CALCULATED: &str =
    "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-calculatedExpression";
/// Answer sets that are made up for each instrument.
const ROUNDS: u64 = 120;

#[test]
fn what_is_kept_is_what_is_made() {
    let profiles = root().join("profiles");
    let mut stale = Vec::new();
    let made = made(&profiles).unwrap();
    assert!(made.len() > 70, "{} files", made.len());
    for (path, json) in made {
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        if kept != format!("{}\n", json.to_pretty()) {
            stale.push(path.display().to_string());
        }
    }
    assert!(
        stale.is_empty(),
        "run `cargo run -p lumbar-clinical --example forms` and read the difference: {stale:#?}"
    );
}

fn items(parent: &Json) -> Vec<Json> {
    let mut found = Vec::new();
    for item in parent.list("item") {
        found.push(item.clone());
        found.extend(items(item));
    }
    found
}

/// The form of an instrument, its questions by linkId and its parsed expressions.
struct Form {
    questions: BTreeMap<String, Json>,
    expressions: Vec<(String, Expression)>,
    /// Calculated items without an expression.
    without: Vec<String>,
}

impl Form {
    fn of(instrument: &Instrument) -> Form {
        let path = root().join("profiles/instruments").join(&*instrument.id);
        let form = read(&path.join("Questionnaire.json"));
        let mut found =
            Form { questions: BTreeMap::new(), expressions: Vec::new(), without: Vec::new() };
        for item in items(&form) {
            let link_id = item.str_at(&["linkId"]).unwrap().to_owned();
            if !link_id.starts_with("calc-") {
                found.questions.insert(link_id, item);
                continue;
            }
            let mut extensions = item.list("extension").iter();
            let calculated = extensions.find(|e| e.str_at(&["url"]) == Some(CALCULATED));
            match calculated.and_then(|e| e.str_at(&["valueExpression", "expression"])) {
                Some(text) => {
                    let parsed = Expression::parse(text);
                    let parsed = parsed.unwrap_or_else(|e| panic!("{link_id}: {e}: {text}"));
                    found.expressions.push((link_id, parsed));
                }
                None => found.without.push(link_id),
            }
        }
        found
    }

    /// A response with answers given as in the shared vectors.
    fn response(&self, answers: &Object) -> Json {
        let mut items = Vec::new();
        for (link_id, value) in answers.iter() {
            let Some(question) = self.questions.get(link_id) else { continue };
            let one = |value: &Json| -> Option<Json> {
                Some(match question.str_at(&["type"])? {
                    "choice" => {
                        let code = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                        let mut options = question.list("answerOption").iter();
                        let option =
                            options.find(|o| o.str_at(&["valueCoding", "code"]) == Some(&code))?;
                        json!({"valueCoding": (option.get("valueCoding").unwrap())})
                    }
                    "integer" => json!({"valueInteger": (value)}),
                    "decimal" => json!({"valueDecimal": (value)}),
                    "boolean" => json!({"valueBoolean": (value)}),
                    "date" => json!({"valueDate": (value)}),
                    _ => json!({"valueString": (value)}),
                })
            };
            let values: Vec<Json> = match value {
                Json::Null => Vec::new(),
                Json::Array(values) => values.iter().filter_map(one).collect(),
                Json::String(text) if text.is_empty() => Vec::new(),
                value => one(value).into_iter().collect(),
            };
            let mut item = Object::new();
            item.set("linkId", link_id);
            if !values.is_empty() {
                item.set("answer", values);
            }
            items.push(Json::Object(item));
        }
        json!({"resourceType": "QuestionnaireResponse", "status": "completed", "item": (items)})
    }

    /// What the expressions give; nothing is null.
    fn evaluate<'a>(
        &'a self,
        definitions: &'a Definitions,
        response: &'a Json,
    ) -> BTreeMap<String, Json> {
        let resource = Value::typed(definitions, response, "QuestionnaireResponse");
        let context = Context { resource: Some(resource.clone()), ..Context::new(definitions) };
        let mut values = BTreeMap::new();
        for (link_id, expression) in &self.expressions {
            let found = expression.evaluate(&context, std::slice::from_ref(&resource));
            let found = found.unwrap_or_else(|e| panic!("{link_id}: {e}: {}", expression.text()));
            assert!(found.len() < 2, "{link_id} has {} values", found.len());
            values.insert(link_id.clone(), found.first().map_or(Json::Null, Value::to_json));
        }
        values
    }
}

/// What the engine gives, by the linkIds of the calculated items; an instrument of triage has its
/// level.
fn engine(instrument: &Instrument, answers: &Answers, form: &Form) -> BTreeMap<String, Json> {
    let scored = score::score(instrument, answers).to_json();
    let value = |link_id: &str| -> Json {
        let found = match link_id.strip_prefix("calc-score-") {
            Some(name) => scored.at(&["scores", name]).cloned(),
            None if link_id == "calc-category-triage" => {
                instrument.triage(answers).map(|triage| Json::from(&*triage.triage))
            }
            None => {
                let name = link_id.strip_prefix("calc-category-").unwrap();
                scored.at(&["categories", name]).cloned()
            }
        };
        found.unwrap_or(Json::Null)
    };
    form.expressions.iter().map(|(link_id, _)| (link_id.clone(), value(link_id))).collect()
}

fn same(one: &Json, other: &Json) -> bool {
    match (one.as_number(), other.as_number()) {
        (Some(one), Some(other)) => one.parse::<f64>() == other.parse::<f64>(),
        _ => one == other,
    }
}

/// Says where expressions and engine differ; whether the answers could be read.
fn compare(
    definitions: &Definitions,
    instrument: &Instrument,
    form: &Form,
    answers: &Object,
    failures: &mut Vec<String>,
) -> bool {
    // Answers that no form lets through are refused, and nothing is computed of them.
    let Ok(read) = Answers::from_map(instrument, &Json::Object(answers.clone())) else {
        return false;
    };
    let response = form.response(answers);
    let found = form.evaluate(definitions, &response);
    for (link_id, expected) in engine(instrument, &read, form) {
        if !same(&expected, &found[&link_id]) {
            failures.push(format!(
                "{} {link_id}: the engine gives {expected}, the expression {} for {response}",
                instrument.id, found[&link_id]
            ));
        }
    }
    true
}

#[test]
fn other_renderers_compute_the_same() {
    let definitions = Definitions::r4();
    let mut instruments = all();
    let folder = shared().map(|shared| shared.join("instruments"));
    if let Some(folder) = &folder {
        let sets = ValueSets::parse(&read(&folder.join("eq5d5l-value-sets.json"))).unwrap();
        instruments.iter_mut().for_each(|instrument| instrument.supply(&sets));
    }
    let vectors = folder.map(|folder| read(&folder.join("vectors.json")));
    let (mut compared, mut refused) = (BTreeMap::new(), 0);
    let mut failures = Vec::new();
    let mut without = Vec::new();
    for instrument in &instruments {
        let form = Form::of(instrument);
        without.extend(form.without.iter().map(|link_id| format!("{} {link_id}", instrument.id)));
        let mut sets: Vec<(&str, Object)> = Vec::new();
        for vector in vectors.iter().flat_map(|vectors| vectors.list("vectors")) {
            let is_ours = vector.str_at(&["instrument"]) == Some(&instrument.id)
                && matches!(vector.str_at(&["kind"]), Some("score" | "triage"));
            if let Some(answers) = vector.get("answers").and_then(Json::as_object)
                && is_ours
            {
                sets.push(("vectors", answers.clone()));
            }
        }
        let own = fixtures().join("instruments").join(&*instrument.id);
        for path in list(own.parent().unwrap()).iter().filter(|path| **path == own) {
            for case in list(path) {
                let answers = read(&case);
                if let Some(answers) = answers.get("answers").and_then(Json::as_object) {
                    sets.push(("cases", answers.clone()));
                }
            }
        }
        sets.extend((0..ROUNDS).map(|round| ("made up", made_up(&form, &instrument.id, round))));
        for (of, answers) in sets {
            match compare(&definitions, instrument, &form, &answers, &mut failures) {
                true => *compared.entry(of).or_insert(0) += 1,
                false => refused += 1,
            }
        }
    }
    println!("compared: {compared:?}; refused by the form: {refused}");
    failures.truncate(20);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    // The tables are the site's, so no expression can hold them.
    let tables = ["eq-5d-5l calc-score-indexUk2026", "eq-5d-5l calc-score-indexUkCw2012"];
    assert_eq!(without, tables);
}

/// Answers that a form lets through, the same each time.
fn made_up(form: &Form, id: &str, round: u64) -> Object {
    let mut state =
        id.bytes().fold(round + 1, |state, byte| state.wrapping_mul(31).wrapping_add(byte.into()));
    let mut next = |below: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below.max(1)
    };
    let gaps = [0, 5, 20, 80][usize::try_from(round % 4).unwrap()];
    let mut answers = Object::new();
    for (link_id, question) in &form.questions {
        if next(100) < gaps {
            continue;
        }
        let bound = |name: &str| {
            let url = format!("http://hl7.org/fhir/StructureDefinition/{name}");
            let mut extensions = question.list("extension").iter();
            let found = extensions.find(|e| e.str_at(&["url"]) == Some(&url));
            found.and_then(|e| e.get("valueInteger")).and_then(Json::as_i64)
        };
        let value = match question.str_at(&["type"]).unwrap() {
            "choice" => {
                let options = question.list("answerOption");
                let mut code = || {
                    let index = usize::try_from(next(options.len() as u64)).unwrap();
                    let code = options[index].str_at(&["valueCoding", "code"]).unwrap();
                    code.parse::<i64>().map_or_else(|_| Json::from(code), Json::from)
                };
                match question.get("repeats").is_some() {
                    true => Json::Array(vec![code(), code()]),
                    false => code(),
                }
            }
            "integer" => {
                let (low, high) = (bound("minValue").unwrap(), bound("maxValue").unwrap());
                let span = u64::try_from(high - low + 1).unwrap();
                Json::from(low + i64::try_from(next(span)).unwrap())
            }
            "boolean" => Json::Bool(next(3) == 0),
            _ => continue,
        };
        answers.set(link_id, value);
    }
    answers
}

/// The expressions can be checked by themselves, without data.
#[test]
fn expressions_fit_the_response() {
    let definitions = Definitions::r4();
    for instrument in all() {
        for (link_id, expression) in Form::of(&instrument).expressions {
            let checked = expression.check(&definitions, Some("QuestionnaireResponse"));
            checked.unwrap_or_else(|e| panic!("{} {link_id}: {e}", instrument.id));
        }
    }
}

#[test]
fn a_score_that_is_refused_is_no_score() {
    let answers = json!({"rm-none": true, "rm-1": true});
    let instrument = crate::instruments::instrument("rmdq-24");
    let form = Form::of(&instrument);
    let response = form.response(answers.as_object().unwrap());
    let found = form.evaluate(&Definitions::r4(), &response);
    assert!(found.values().all(|value| *value == Json::Null), "{found:?}");
    let read = Answers::from_map(&instrument, &answers).unwrap();
    let scored: Scored = score::score(&instrument, &read);
    assert_eq!(scored.flags, ["contradictory-none-selected"]);
}
