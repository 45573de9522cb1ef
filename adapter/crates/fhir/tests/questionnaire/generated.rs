//! Responses that are made from any Questionnaire, right and with one fault; and any trees.

use lumbar_fhir::questionnaire::Form;
use lumbar_fhir::{Json, json};
use proptest::prelude::*;

use super::{Given, R4, print};

/// A question of a Questionnaire that is made up, and what its answers are.
#[derive(Clone, Debug)]
enum Plan {
    Group { repeats: bool, required: bool, items: Vec<Plan>, times: usize },
    Display,
    Question { kind: usize, repeats: bool, required: bool, answers: usize, below: Vec<Plan> },
}

/// The types of questions: code, member of the value, a value, and rules with one that breaks them.
const KINDS: [(&str, &str, &str, &str, &str); 10] = [
    ("boolean", "valueBoolean", "true", "{}", ""),
    ("integer", "valueInteger", "5", EXTENDED_INTEGER, "11"),
    ("decimal", "valueDecimal", "1.50", EXTENDED_DECIMAL, "1.505"),
    ("date", "valueDate", "\"2026-03\"", "{}", ""),
    ("dateTime", "valueDateTime", "\"2026-03-02T10:00:00Z\"", "{}", ""),
    ("time", "valueTime", "\"10:00:00\"", "{}", ""),
    ("string", "valueString", "\"abc\"", "{\"maxLength\": 3}", "\"abcd\""),
    ("text", "valueString", "\"a\\nb\"", "{}", ""),
    (
        "choice",
        "valueCoding",
        "{\"system\": \"http://x.org\", \"code\": \"b\"}",
        "{\"answerOption\": [{\"valueCoding\": {\"system\": \"http://x.org\", \"code\": \"a\"}}, \
         {\"valueCoding\": {\"system\": \"http://x.org\", \"code\": \"b\"}}]}",
        "{\"system\": \"http://x.org\", \"code\": \"c\"}",
    ),
    (
        "quantity",
        "valueQuantity",
        "{\"value\": 900, \"system\": \"http://unitsofmeasure.org\", \"code\": \"g\"}",
        EXTENDED_QUANTITY,
        "{\"value\": 2, \"system\": \"http://unitsofmeasure.org\", \"code\": \"kg\"}",
    ),
];
const EXTENDED_INTEGER: &str = "{\"extension\": [\
    {\"url\": \"http://hl7.org/fhir/StructureDefinition/minValue\", \"valueInteger\": 0}, \
    {\"url\": \"http://hl7.org/fhir/StructureDefinition/maxValue\", \"valueInteger\": 10}]}";
const EXTENDED_DECIMAL: &str = "{\"extension\": [\
    {\"url\": \"http://hl7.org/fhir/StructureDefinition/maxDecimalPlaces\", \"valueInteger\": 2}]}";
const EXTENDED_QUANTITY: &str = "{\"extension\": [{\"url\": \"http://hl7.org/fhir/uv/sdc/\
    StructureDefinition/sdc-questionnaire-maxQuantity\", \"valueQuantity\": {\"value\": 1, \
    \"system\": \"http://unitsofmeasure.org\", \"code\": \"kg\"}}]}";

fn any_plan() -> impl Strategy<Value = Plan> {
    let question = (0..KINDS.len(), any::<bool>(), any::<bool>(), 0..3_usize).prop_map(
        |(kind, repeats, required, answers)| Plan::Question {
            kind,
            repeats,
            required,
            answers: if repeats { answers } else { answers.min(1) }.max(required.into()),
            below: Vec::new(),
        },
    );
    let leaf = prop_oneof![4 => question.clone(), 1 => Just(Plan::Display)];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        let below = prop::collection::vec(inner, 1..5);
        let flags = (any::<bool>(), any::<bool>(), 0..3_usize);
        prop_oneof![
            (flags, below.clone()).prop_map(|((repeats, required, times), items)| {
                let times = if repeats { times } else { times.min(1) };
                Plan::Group { repeats, required, items, times }
            }),
            (question.clone(), below).prop_map(|(plan, items)| match plan {
                Plan::Question { kind, repeats, required, answers, .. } => {
                    Plan::Question { kind, repeats, required, answers, below: items }
                }
                other => other,
            }),
        ]
    })
}

/// The items of a Questionnaire and those of a right response to it.
fn made(plans: &[Plan], prefix: &str) -> (Vec<Json>, Vec<Json>) {
    let (mut items, mut answers) = (Vec::new(), Vec::new());
    for (index, plan) in plans.iter().enumerate() {
        let link_id = format!("{prefix}{index}");
        match plan {
            Plan::Display => {
                items.push(json!({"linkId": (link_id), "type": "display", "text": "x"}));
            }
            Plan::Group { repeats, required, items: below, times } => {
                let (below, given) = made(below, &format!("{link_id}."));
                // A group of which nothing is answered cannot be asked for.
                let is_answered = given.iter().any(|item| item.to_string().contains("\"value"));
                items.push(json!({"linkId": (link_id.clone()), "type": "group",
                    "repeats": (*repeats), "required": (*required && is_answered),
                    "item": (below)}));
                let times = if *required && is_answered { (*times).max(1) } else { *times };
                for _ in 0..times.min(if given.is_empty() { 0 } else { times }) {
                    answers.push(json!({"linkId": (link_id.clone()), "item": (given.clone())}));
                }
            }
            Plan::Question { kind, repeats, required, answers: count, below } => {
                let (code, member, value, rules, _) = KINDS[*kind];
                let mut item = Json::parse(rules.as_bytes()).unwrap();
                item.set("linkId", link_id.clone());
                item.set("type", code);
                item.set("repeats", *repeats);
                item.set("required", *required);
                let (below, given) = made(below, &format!("{link_id}."));
                if !below.is_empty() {
                    item.set("item", below);
                }
                items.push(item);
                let mut answer = json!({});
                answer.set(member, Json::parse(value.as_bytes()).unwrap());
                if !given.is_empty() {
                    answer.set("item", given);
                }
                if *count > 0 {
                    let all = vec![answer; *count];
                    answers.push(json!({"linkId": (link_id), "answer": (all)}));
                }
            }
        }
    }
    (items, answers)
}

/// Every item of a response, as a path of indexes, with its linkId.
fn places(json: &Json, path: &mut Vec<(&'static str, usize)>, found: &mut Vec<Place>) {
    for name in ["item", "answer"] {
        for (index, below) in json.list(name).iter().enumerate() {
            path.push((name, index));
            if name == "item" {
                found.push((path.clone(), below.str_at(&["linkId"]).unwrap().to_owned()));
            }
            places(below, path, found);
            path.pop();
        }
    }
}

type Place = (Vec<(&'static str, usize)>, String);

fn reach<'a>(json: &'a mut Json, path: &[(&str, usize)]) -> &'a mut Json {
    let mut at = json;
    for (name, index) in path {
        let Some(Json::Array(items)) = at.get_mut(name) else { panic!("no {name}") };
        at = &mut items[*index];
    }
    at
}

fn item_of<'a>(questionnaire: &'a Json, link_id: &str) -> &'a Json {
    let mut open: Vec<&Json> = questionnaire.list("item").iter().collect();
    while let Some(item) = open.pop() {
        if item.str_at(&["linkId"]) == Some(link_id) {
            return item;
        }
        open.extend(item.list("item"));
    }
    panic!("no item {link_id}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_response_that_follows_its_form_is_right_and_one_fault_is_found(
        plans in prop::collection::vec(any_plan(), 1..5),
        place in any::<prop::sample::Index>(),
        fault in 0_u8..8,
    ) {
        let (items, answers) = made(&plans, "q");
        let questionnaire =
            json!({"resourceType": "Questionnaire", "status": "active", "item": (items)});
        let (form, issues) = Form::read(&R4, &questionnaire);
        prop_assert!(issues.is_empty(), "{}", print(&issues));
        let mut response = json!({"resourceType": "QuestionnaireResponse",
            "status": "completed", "item": (answers)});
        let issues = Given::default().check(&form, &response);
        prop_assert!(issues.is_empty(), "{}\n{questionnaire}\n{response}", print(&issues));

        let mut found = Vec::new();
        places(&response, &mut Vec::new(), &mut found);
        if found.is_empty() {
            return Ok(());
        }
        let (path, link_id) = place.get(&found).clone();
        let asked = item_of(&questionnaire, &link_id);
        let code = asked.str_at(&["type"]).unwrap().to_owned();
        let is_question = code != "group";
        let kind = KINDS.iter().find(|kind| kind.0 == code);
        let item = reach(&mut response, &path);
        let rule = match fault {
            0 => {
                item.set("linkId", "no such item");
                "linkId"
            }
            1 if is_question => {
                item.set("answer", json!([{"valueAttachment": {"title": "x"}}]));
                "type"
            }
            1 => {
                item.set("answer", json!([{"valueBoolean": true}]));
                "type"
            }
            2 if is_question && asked.get("repeats") == Some(&Json::Bool(false)) => {
                let first = item.list("answer")[0].clone();
                item.push("answer", first);
                "repeats"
            }
            3 if is_question && asked.get("required") == Some(&Json::Bool(true)) => {
                item.as_object_mut().unwrap().remove("answer");
                "required"
            }
            4 if is_question && kind.is_some_and(|kind| !kind.4.is_empty()) => {
                let (_, member, _, _, wrong) = kind.unwrap();
                let Some(Json::Array(answers)) = item.get_mut("answer") else { panic!() };
                answers[0].set(member, Json::parse(wrong.as_bytes()).unwrap());
                match code.as_str() {
                    "integer" | "quantity" => "maxValue",
                    "decimal" => "maxDecimalPlaces",
                    "string" => "maxLength",
                    _ => "answerOption",
                }
            }
            5 if is_question => {
                let copy = item.clone();
                let (last, above) = path.split_last().unwrap();
                let above = reach(&mut response, above);
                let Some(Json::Array(items)) = above.get_mut("item") else { panic!() };
                items.insert(last.1, copy);
                "repeats"
            }
            6 if path.len() > 1 => {
                let moved = item.clone();
                let Some(Json::Array(items)) = response.get_mut("item") else { panic!() };
                items.push(moved);
                "linkId"
            }
            7 => {
                let (last, above) = path.split_last().unwrap();
                let above = reach(&mut response, above);
                let Some(Json::Array(items)) = above.get_mut("item") else { panic!() };
                let is_other = |index: usize| items[index].get("linkId") != items[last.1].get("linkId");
                if last.1 == 0 || !is_other(last.1 - 1) {
                    return Ok(());
                }
                items.swap(last.1, last.1 - 1);
                "order"
            }
            _ => return Ok(()),
        };
        let issues = Given::default().check(&form, &response);
        let end = format!("#{rule}");
        let is_found = issues.iter().any(|issue| {
            issue.is_error() && issue.rule.as_deref().is_some_and(|rule| rule.ends_with(&end))
        });
        prop_assert!(is_found, "{rule} is not found: {}\n{response}", print(&issues));
        let has_others = issues.iter().any(|issue| {
            let known = ["linkId", "required", "order", "repeats", "type"];
            let name = issue.rule.as_deref().and_then(|rule| rule.rsplit('#').next());
            issue.is_error() && name != Some(rule) && !name.is_some_and(|name| known.contains(&name))
        });
        prop_assert!(!has_others, "more than {rule} is found: {}\n{response}", print(&issues));
    }

    /// Whatever is in a form or a response, nothing panics.
    #[test]
    fn no_tree_panics(form_json in any_tree(), response in any_tree()) {
        let (form, issues) = Form::read(&R4, &form_json);
        prop_assert!(issues.iter().all(|issue| !issue.text.is_empty()));
        let issues = Given::default().check(&form, &response);
        prop_assert!(issues.iter().all(|issue| !issue.text.is_empty()));
    }
}

/// Trees with the names and texts that matter.
fn any_tree() -> impl Strategy<Value = Json> {
    let names = vec![
        "item",
        "linkId",
        "type",
        "answer",
        "valueString",
        "valueInteger",
        "valueCoding",
        "code",
        "system",
        "extension",
        "url",
        "enableWhen",
        "question",
        "operator",
        "answerInteger",
        "answerBoolean",
        "repeats",
        "required",
        "status",
        "valueExpression",
        "expression",
        "answerOption",
        "maxLength",
        "text",
        "contained",
    ];
    let texts = vec![
        "a",
        "b",
        "group",
        "string",
        "choice",
        "integer",
        "=",
        "exists",
        "completed",
        "",
        "http://hl7.org/fhir/StructureDefinition/minValue",
        "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-enableWhenExpression",
        "http://hl7.org/fhir/StructureDefinition/variable",
        "http://hl7.org/fhir/StructureDefinition/regex",
        "%resource.item.answer.value",
        "(",
    ];
    let leaf = prop_oneof![
        4 => prop::sample::select(texts).prop_map(Json::from),
        1 => any::<i64>().prop_map(Json::from),
        1 => any::<bool>().prop_map(Json::from),
        1 => Just(Json::Null),
    ];
    let tree = leaf.prop_recursive(7, 80, 6, move |inner| {
        let member = (prop::sample::select(names.clone()), inner.clone());
        prop_oneof![
            2 => prop::collection::vec(inner, 0..4).prop_map(Json::Array),
            3 => prop::collection::vec(member, 0..7).prop_map(|members| {
                let mut object = json!({});
                for (name, value) in members {
                    object.set(name, value);
                }
                object
            }),
        ]
    });
    // The items of the root are what is looked at.
    prop::collection::vec(tree, 0..5).prop_map(|mut items| {
        for item in &mut items {
            if item.get("linkId").is_none() {
                item.set("linkId", "a");
                item.set("type", "group");
            }
        }
        json!({"status": "completed", "item": (items)})
    })
}
