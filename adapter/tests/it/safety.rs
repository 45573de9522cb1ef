//! What may mean danger: alerts of saved pages, and the stratum of a referral.

use lumbar::rules::Rules;
use lumbar_fhir::{Json, json};

use crate::app::{TestApp, fixture, on_both, reference};

const STRATIFY: &str = "ServiceRequest/s1/$stratify";

fn patient(id: &str) -> Json {
    json!({"resourceType": "Patient", "id": (id)})
}

/// The `valueString` of the inputs of a Task with this code.
fn inputs(task: &Json, code: &str) -> Vec<String> {
    let is = |input: &&Json| {
        input.at(&["type"]).unwrap().list("coding")[0].str_at(&["code"]) == Some(code)
    };
    let found = task.list("input").iter().filter(is);
    found.map(|input| input.str_at(&["valueString"]).unwrap().to_owned()).collect()
}

fn level(resource: &Json, concept: &str) -> String {
    resource.at(&[concept]).unwrap().list("coding")[0].str_at(&["code"]).unwrap().to_owned()
}

#[tokio::test]
async fn every_triage_vector_by_http() {
    let Some(shared) = lumbar_testkit::shared() else { return };
    let text = std::fs::read(shared.join("instruments/vectors.json")).unwrap();
    let vectors = Json::parse(&text).unwrap();
    let all = vectors.as_array().unwrap_or_else(|| vectors.list("vectors"));
    let vectors: Vec<&Json> =
        all.iter().filter(|vector| vector.str_at(&["kind"]) == Some("triage")).collect();
    assert!(!vectors.is_empty());
    // A form has its items in the order of its Questionnaire.
    let rules = Rules::embedded().unwrap();
    let form = rules.questionnaire("https://lumbar.example/fhir/Questionnaire/red-flags").unwrap();
    let place = |item: &Json| {
        let link_id = item.str_at(&["linkId"]);
        form.list("item").iter().position(|asked| asked.str_at(&["linkId"]) == link_id)
    };
    on_both(async |app: &TestApp| {
        for vector in &vectors {
            let id = vector.str_at(&["id"]).unwrap();
            app.put(&patient(id)).await.is(201);
            let answers = vector.get("input").and_then(Json::as_object).unwrap();
            let mut items: Vec<Json> = answers
                .iter()
                .filter_map(|(link_id, code)| {
                    let system =
                        if link_id == "rf-ces-onset" { "symptom-onset" } else { "yes-no-unsure" };
                    let system = format!("https://lumbar.example/fhir/CodeSystem/{system}");
                    let coding = json!({"system": (system), "code": (code.as_str()?)});
                    Some(json!({"linkId": (link_id), "answer": [{"valueCoding": (coding)}]}))
                })
                .collect();
            items.sort_by_key(place);
            let mut response = json!({
                "resourceType": "QuestionnaireResponse",
                "id": (id),
                "questionnaire": "https://lumbar.example/fhir/Questionnaire/red-flags",
                "status": "completed",
                "subject": {"reference": (format!("Patient/{id}"))},
                "authored": "2026-03-02T10:00:00Z"
            });
            if !items.is_empty() {
                response.set("item", items);
            }
            let status = app.put(&response).await.status;
            let expected = vector.get("expected").unwrap();
            let said = |name: &str| expected.str_at(&[name]).unwrap().to_owned();
            let (triage, at_least) = (said("triage"), said("atLeast"));
            let is_refused = expected.str_at(&["status"]) == Some("error");
            assert_eq!(status, if is_refused { 422 } else { 201 }, "{id}");
            let tasks = app.search(&format!("Task?patient=Patient/{id}")).await;
            let flags = app.search(&format!("Flag?subject=Patient/{id}")).await;
            if triage == "none" {
                assert!(tasks.is_empty() && flags.is_empty(), "{id}");
                continue;
            }
            assert_eq!((tasks.len(), flags.len()), (1, 1), "{id} on {}", app.database);
            let task = &tasks[0];
            let acted_on = match (triage.as_str(), at_least.as_str()) {
                ("incomplete-do-not-clear", "same-day-clinician") => at_least.as_str(),
                _ => triage.as_str(),
            };
            assert_eq!(level(task, "reasonCode"), acted_on, "{id}");
            assert_eq!(level(&flags[0], "code"), acted_on, "{id}");
            assert_eq!(inputs(task, "triage"), [triage], "{id}");
            assert_eq!(inputs(task, "atLeast"), [at_least], "{id}");
            let reasons: Vec<&str> =
                expected.list("reasons").iter().filter_map(Json::as_str).collect();
            assert_eq!(inputs(task, "reason"), reasons, "{id}");
        }
    })
    .await;
}

#[test]
fn every_level_has_words_without_a_database() {
    let rules = Rules::embedded().unwrap();
    for level in [
        "emergency-now",
        "same-day-clinician",
        "incomplete-do-not-clear",
        "urgent-clinician-review",
        "routine-clinician-review",
        "self-harm-item",
    ] {
        let text = rules.emergency_text(level, "en-GB").unwrap();
        assert!(text.contains("999") && text.contains("A&E"), "{level}: {text}");
        assert_eq!(rules.emergency_text(level, "xx"), Some(text));
    }
    assert_eq!(rules.emergency_text("none", "en-GB"), None);
}

/// The parameters with this name.
fn named<'a>(answer: &'a Json, name: &str) -> Vec<&'a Json> {
    let all = answer.list("parameter").iter();
    all.filter(|parameter| parameter.str_at(&["name"]) == Some(name)).collect()
}

fn treatment(answer: &Json) -> String {
    level(named(answer, "treatment")[0], "valueCodeableConcept")
}

/// The ids of the rules that applied.
fn rules_of(answer: &Json) -> Vec<String> {
    let parts = named(answer, "rule").into_iter().map(|rule| rule.list("part")[0].clone());
    parts.map(|part| part.str_at(&["valueString"]).unwrap().to_owned()).collect()
}

fn chosen(treatment: &str, reason: &str) -> Json {
    json!({"resourceType": "Parameters", "parameter": [
        {"name": "override", "valueCode": (treatment)},
        {"name": "reason", "valueString": (reason)},
        {"name": "requester", "valueReference": {"reference": "Practitioner/quill"}}
    ]})
}

/// The answers of one form as those of another, each with this code.
fn as_form(response: &Json, id: &str, authored: &str, count: usize, code: &str) -> Json {
    let mut form = response.clone();
    form.set("id", id);
    form.set("authored", authored);
    let item = |item: &Json| {
        let link_id = item.str_at(&["linkId"]).unwrap();
        let system = item.list("answer")[0].str_at(&["valueCoding", "system"]).unwrap();
        json!({"linkId": (link_id), "answer": [{"valueCoding": {"system": (system), "code": (code)}}]})
    };
    let items: Vec<Json> = response.list("item").iter().take(count).map(item).collect();
    form.set("item", items);
    form
}

#[tokio::test]
async fn another_treatment_in_the_proposal_needs_a_note_that_says_why() {
    on_both(async |app: &TestApp| {
        let case = fixture("pathways/keele-stratified/high.json");
        app.put(&patient("p1")).await.is(201);
        app.put(&case.get("found").unwrap().list("requests")[0]).await.is(201);
        app.put(case.get("response").unwrap()).await.is(201);
        let found = app.search("ServiceRequest?instantiates-canonical:missing=false").await;
        let mut changed = found[0].clone();
        let system = "https://lumbar.example/fhir/CodeSystem/matched-treatment";
        changed.set("code", json!({"coding": [{"system": (system), "code": "advice-only"}]}));
        changed.set("intent", "plan");
        let refused = app.put(&changed).await.is(422).text;
        assert!(refused.contains("ServiceRequest.note"), "{refused}");
        changed.push("note", json!({"text": "She is much better."}));
        app.put(&changed).await.is(200);
        let kept = app.search(&format!("Provenance?target={}", reference(&changed))).await;
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].list("reason")[0].str_at(&["text"]), Some("She is much better."));
    })
    .await;
}

#[tokio::test]
async fn a_referral_is_stratified_and_a_clinician_chooses_otherwise() {
    on_both(async |app: &TestApp| {
        let case = fixture("pathways/keele-stratified/high.json");
        let response = case.get("response").unwrap();
        let referral = &case.get("found").unwrap().list("requests")[0];
        assert_eq!(reference(referral), "ServiceRequest/s1");
        let nothing = json!({"resourceType": "Parameters"});
        app.put(&patient("p1")).await.is(201);
        app.get(STRATIFY).await.is(404);
        app.put(referral).await.is(201);
        // Nothing is known.
        let answer = app.get(STRATIFY).await.is(200).json();
        assert!(named(&answer, "risk").is_empty() && named(&answer, "request").is_empty());
        // Two answers are no stratum, and the gap is told.
        let half = as_form(response, "r0", "2026-03-02T09:00:00Z", 2, "1");
        app.put(&half).await.is(201);
        let answer = app.post(STRATIFY, &nothing).await.is(200).json();
        assert_eq!(rules_of(&answer), ["K4"], "{answer}");
        assert!(!named(&answer, "missing").is_empty(), "{answer}");
        assert_eq!(app.count("ServiceRequest").await, 1);

        // The whole form gives high risk; the points are told.
        app.put(response).await.is(201);
        let answer = app.get(STRATIFY).await.is(200).json();
        assert_eq!(treatment(&answer), "physio-psychologically-informed");
        assert_eq!(level(named(&answer, "risk")[0], "valueCodeableConcept"), "LA9193-9");
        assert!(rules_of(&answer).contains(&"K3".to_owned()), "{answer}");
        assert!(named(&answer, "point").len() >= 9, "{answer}");
        // The match itself may be asked, too.
        let matched = named(&answer, "request")[0].at(&["resource"]).unwrap().clone();
        let path = format!("{}/$stratify", reference(&matched));
        let again = app.get(&path).await.is(200).json();
        assert_eq!(treatment(&again), "physio-psychologically-informed");

        // A later result is monitoring (rule K8): the first stratum stays.
        let later = as_form(response, "r2", "2026-04-02T10:00:00Z", 9, "0");
        app.put(&later).await.is(201);
        let answer = app.post(STRATIFY, &nothing).await.is(200).json();
        assert_eq!(level(named(&answer, "risk")[0], "valueCodeableConcept"), "LA9193-9");
        assert!(rules_of(&answer).contains(&"K8".to_owned()), "{answer}");

        // Another treatment needs all three, and one that there is.
        let alone = json!({"resourceType": "Parameters", "parameter": [{"name": "override", "valueCode": "advice-only"}]});
        app.post(STRATIFY, &alone).await.is(400);
        app.post(STRATIFY, &chosen("acupuncture", "She asks for it.")).await.is(422);
        let why = "Recovered well since; she wants to try alone first.";
        // Not applied, nothing is stored.
        let mut rehearsed = chosen("advice-only", why);
        rehearsed.push("parameter", json!({"name": "apply", "valueBoolean": false}));
        let answer = app.post(STRATIFY, &rehearsed).await.is(200).json();
        assert_eq!(treatment(&answer), "advice-only");
        assert_eq!(app.count("ServiceRequest").await, 2);
        let answer = app.post(STRATIFY, &chosen("advice-only", why)).await.is(200).json();
        assert_eq!(treatment(&answer), "advice-only");
        assert_eq!(level(named(&answer, "risk")[0], "valueCodeableConcept"), "LA9193-9");
        let new = named(&answer, "request")[0].at(&["resource"]).unwrap().clone();
        assert_eq!(new.list("replaces")[0].str_at(&["reference"]), Some(&*reference(&matched)));
        assert_eq!(new.str_at(&["intent"]), Some("plan"));
        assert_eq!(new.list("note")[0].str_at(&["text"]), Some(why));
        let old = app.get(&reference(&matched)).await.is(200).json();
        assert_eq!(old.str_at(&["status"]), Some("revoked"));
        let target = format!("Provenance?target={}", reference(&new));
        let provenance = app.search(&target).await;
        assert_eq!(provenance.len(), 1);
        assert_eq!(provenance[0].list("reason")[0].str_at(&["text"]), Some(why));
        let who = provenance[0].list("agent")[0].str_at(&["who", "reference"]);
        assert_eq!(who, Some("Practitioner/quill"));
        // The same again changes nothing; a result that comes now leaves the choice alone.
        app.post(STRATIFY, &chosen("advice-only", why)).await.is(200);
        app.put(&as_form(response, "r3", "2026-04-09T10:00:00Z", 9, "1")).await.is(201);
        let answer = app.post(STRATIFY, &nothing).await.is(200).json();
        assert_eq!(treatment(&answer), "advice-only");
        assert_eq!(app.count("ServiceRequest").await, 3);
    })
    .await;
}
