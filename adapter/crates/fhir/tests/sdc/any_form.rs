//! Whatever a form says of its answers: what comes out is a valid draft.

use std::sync::Arc;

use lumbar_fhir::questionnaire::{Form, Population, Searches, Sources, calculate, populate};
use lumbar_fhir::validate::validate;
use lumbar_fhir::{Issue, Json, json};
use proptest::prelude::*;

use super::{Given, NOW, R4, print};

const KINDS: [&str; 14] = [
    "boolean",
    "integer",
    "decimal",
    "date",
    "dateTime",
    "time",
    "string",
    "text",
    "url",
    "choice",
    "open-choice",
    "quantity",
    "reference",
    "group",
];

const EXPRESSIONS: [&str; 30] = [
    "true",
    "1",
    "-7",
    "2.50",
    "10.0",
    "'a'",
    "'a\\nb'",
    "''",
    "{}",
    "1 | 2 | 3",
    "@2026-03",
    "@2026-03-02T10:00:00Z",
    "@T10:00",
    "today()",
    "now()",
    "5 'kg'",
    "3 'cm'",
    "%patient",
    "%patient.name",
    "%patient.name.family",
    "%patient.name.given",
    "%patient.gender",
    "%patient.birthDate",
    "%patient.maritalStatus",
    "%resource.item.answer.value",
    "%resource.descendants().where(linkId = '0').answer.value",
    "%questionnaire",
    "%nobody",
    "1 +",
    "1 + 'a'",
];

/// One item: kind, expressions, flags, and what is below it.
#[derive(Clone, Debug)]
struct Plan {
    kind: usize,
    expression: usize,
    how: u8,
    repeats: bool,
    rule: u8,
    below: Vec<Plan>,
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let one = (0..KINDS.len(), 0..EXPRESSIONS.len(), 0..5_u8, any::<bool>(), 0..6_u8).prop_map(
        |(kind, expression, how, repeats, rule)| Plan {
            kind,
            expression,
            how,
            repeats,
            rule,
            below: Vec::new(),
        },
    );
    one.prop_recursive(3, 30, 4, |inner| {
        (inner.clone(), prop::collection::vec(inner, 1..4))
            .prop_map(|(plan, below)| Plan { below, ..plan })
    })
}

fn item(plan: &Plan, link_id: &str) -> Json {
    const SDC: &str = "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-";
    const CORE: &str = "http://hl7.org/fhir/StructureDefinition/";
    let kind = if plan.below.is_empty() && KINDS[plan.kind] == "group" {
        "string"
    } else {
        KINDS[plan.kind]
    };
    let mut extensions = Vec::new();
    let expression = EXPRESSIONS[plan.expression];
    let mut add = |url: String, name: &str| {
        extensions.push(json!({
            "url": (url),
            "valueExpression": {"name": (name), "language": "text/fhirpath", "expression": (expression)}
        }));
    };
    match (plan.how, kind) {
        (0, "group") | (4, _) => add(format!("{SDC}itemPopulationContext"), "patient"),
        (_, "group") => add(format!("{CORE}variable"), "v"),
        (1, _) => add(format!("{SDC}calculatedExpression"), "c"),
        _ => add(format!("{SDC}initialExpression"), "i"),
    }
    match plan.rule {
        1 => extensions.push(json!({"url": (format!("{CORE}minValue")), "valueInteger": 2})),
        2 => extensions.push(json!({
            "url": (format!("{CORE}questionnaire-maxOccurs")), "valueInteger": 2
        })),
        3 => extensions.push(json!({"url": (format!("{CORE}regex")), "valueString": "[a-z]+"})),
        4 => extensions.push(json!({
            "url": (format!("{CORE}questionnaire-unit")), "valueCoding": {"code": "kg"}
        })),
        _ => {}
    }
    let mut made = json!({
        "extension": (extensions), "linkId": (link_id), "text": "x", "type": (kind),
        "repeats": (plan.repeats)
    });
    if plan.rule == 5 && kind.ends_with("choice") {
        made.set(
            "answerOption",
            json!([{"valueCoding": {"code": "female"}}, {"valueString": "a"}]),
        );
    }
    let below: Vec<Json> = plan
        .below
        .iter()
        .enumerate()
        .map(|(index, plan)| item(plan, &format!("{link_id}.{index}")))
        .collect();
    if !below.is_empty() {
        made.set("item", below);
    }
    made
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_is_populated_is_a_valid_draft(plans in prop::collection::vec(any_plan(), 1..6)) {
        let items: Vec<Json> =
            plans.iter().enumerate().map(|(index, plan)| item(plan, &index.to_string())).collect();
        let questionnaire = json!({
            "resourceType": "Questionnaire", "url": "http://lumbar.test/Questionnaire/q",
            "status": "active", "item": (items)
        });
        let given = Given::new(NOW);
        let form = Form::read(&R4, &questionnaire).0;
        let population = Population::read(Arc::new(form.clone()));
        let patient = json!({
            "resourceType": "Patient", "id": "p1", "gender": "female", "birthDate": "1980-02-03",
            "name": [{"family": "Smith", "given": ["Ann", "Mary"]}, {"family": "Jones"}]
        });
        let context = [("patient".to_owned(), vec![Arc::new(patient)])];
        let subject = json!({"reference": "Patient/p1"});
        let searches = Searches::default();
        let sources = Sources {
            subject: Some(&subject), context: &context, data: &[], searches: Some(&searches),
        };
        let populated = populate(&population, &given.world(), &sources);
        let mut wrong = form.check(&given.world(), &populated.response, &[]);
        wrong.extend(validate(&R4, &populated.response));
        let wrong: Vec<Issue> = wrong.into_iter().filter(Issue::is_error).collect();
        prop_assert!(wrong.is_empty(), "{}\n{}", populated.response, print(&wrong));
        // What was calculated once stays.
        let launch = [("patient", context[0].1[0].as_ref())];
        let (once, _) = calculate(&form, &given.world(), &populated.response, &launch);
        let (twice, _) = calculate(&form, &given.world(), &once, &launch);
        prop_assert_eq!(once.to_string(), twice.to_string());
    }
}

#[test]
fn deep_forms_are_populated() {
    let mut inner = json!({"linkId": "leaf", "type": "string", "initial": [{"valueString": "x"}]});
    for depth in 0..47 {
        let variable = |name: &str, expression: &str| {
            json!({
                "url": "http://hl7.org/fhir/StructureDefinition/variable",
                "valueExpression": {
                    "name": (name), "language": "text/fhirpath", "expression": (expression)
                }
            })
        };
        inner = json!({
            "extension": [
                (variable("a", "%patient.name")), (variable("b", "%a.family")),
                (variable("c", "%b | 'c'")), (variable("d", "%c.count()"))
            ],
            "linkId": (format!("g{depth}")), "type": "group", "item": [(inner)]
        });
    }
    let questionnaire = json!({
        "resourceType": "Questionnaire", "url": "http://lumbar.test/Questionnaire/deep",
        "status": "active", "item": [(inner)]
    });
    let given = Given::new(NOW);
    let form = Arc::new(Form::read(&R4, &questionnaire).0);
    let population = Population::read(form);
    let sources = Sources { subject: None, context: &[], data: &[], searches: None };
    let populated = populate(&population, &given.world(), &sources);
    assert!(populated.response.to_string().contains("\"leaf\""));
}
