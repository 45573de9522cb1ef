//! Wording packs at work: who may be asked, and that no word of a pack leaves the process.

use lumbar::config::Settings;
use lumbar::wording::{Purpose, Wording};
use lumbar_fhir::{Json, json};
use lumbar_testkit::fixtures;

use crate::app::{Reply, SECOND, TestApp, on_both, on_both_with};

const DAY: i64 = 24 * 3600 * SECOND;

fn with_pack(settings: &mut Settings) {
    settings.wording = vec![fixtures().join("wording")];
    settings.organisation = "test clinic".to_owned();
}

fn task(id: &str, status: &str, form: &str) -> Json {
    json!({
        "resourceType": "Task", "id": (id), "status": (status), "intent": "order",
        "code": {"text": "Answer a form"},
        "focus": {"reference": "Patient/p1"},
        "for": {"reference": "Patient/p1"},
        "input": [{"type": {"text": "Questionnaire"}, "valueCanonical": (form)}]
    })
}

fn url(id: &str) -> String {
    format!("https://lumbar.example/fhir/Questionnaire/{id}|1.0.0")
}

fn says(reply: &Reply, expression: &str, text: &str) {
    let outcome = reply.json();
    let issue = &outcome.list("issue")[0];
    assert_eq!(issue.str_at(&["code"]), Some("business-rule"), "{outcome}");
    assert_eq!(issue.list("expression")[0].as_str(), Some(expression), "{outcome}");
    assert!(reply.text.contains(text), "{text} in {outcome}");
}

#[tokio::test]
async fn nobody_is_asked_without_the_official_wording() {
    on_both(async |app: &TestApp| {
        let asked = task("t1", "requested", &url("start-back-9"));
        says(&app.put(&asked).await.is(422), "Task.input[0].value", "--wording");
        // However it is named.
        for reference in [
            "Questionnaire/start-back-9",
            "Questionnaire/start-back-9/_history/1",
            "https://lumbar.example/fhir/Questionnaire/start-back-9",
            "http://lumbar.test/fhir/Questionnaire/start-back-9",
        ] {
            let mut asked = asked.clone();
            asked.set("focus", json!({"reference": (reference)}));
            let object = asked.as_object_mut().unwrap();
            object.remove("input");
            says(&app.put(&asked).await.is(422), "Task.focus", "--wording");
        }
        // A draft asks nobody, nor does one that is over.
        for status in ["draft", "completed", "cancelled"] {
            app.put(&task("t1", status, &url("start-back-9"))).await;
            app.get("Task/t1").await.is(200);
        }
        // In a transaction nothing else is stored either.
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
            {"resource": {"resourceType": "Patient", "id": "p1"},
             "request": {"method": "PUT", "url": "Patient/p1"}},
            {"resource": (task("t2", "ready", &url("start-back-9"))),
             "request": {"method": "PUT", "url": "Task/t2"}}
        ]});
        app.call("POST", "/fhir", &[], bundle.to_string()).await.is(422);
        app.get("Patient/p1").await.is(404);
        // A Questionnaire of the site.
        let form = json!({"resourceType": "Questionnaire", "id": "mine", "status": "active",
            "url": "http://example.org/Questionnaire/mine",
            "item": [{"linkId": "1", "text": "?", "type": "string"}]});
        app.put(&form).await.is(201);
        app.put(&task("t3", "requested", "http://example.org/Questionnaire/mine")).await.is(201);
    })
    .await;
}

#[tokio::test]
async fn a_licence_that_ends_lets_what_was_begun_be_finished() {
    on_both_with(with_pack, async |app: &TestApp| {
        app.put(&task("t1", "requested", &url("start-back-9"))).await.is(201);
        app.source.advance(35 * DAY);
        let again = task("t2", "requested", &url("start-back-9"));
        says(&app.put(&again).await.is(422), "Task.input[0].value", "ended on 2026-03-31");
        app.put(&task("t1", "in-progress", &url("start-back-9"))).await.is(200);
        app.source.advance(10 * DAY);
        app.put(&task("t1", "on-hold", &url("start-back-9"))).await.is(422);
        app.put(&task("t1", "cancelled", &url("start-back-9"))).await.is(200);
    })
    .await;
}

#[tokio::test]
async fn no_word_of_a_pack_leaves_the_process() {
    on_both_with(with_pack, async |app: &TestApp| {
        app.app.serve_artefacts().await.unwrap();
        let wording = app.app.facade.wording();
        assert!(wording.refused.is_empty(), "{:?}", wording.refused);
        assert_eq!(wording.packs().len(), 1);
        app.put(&task("t1", "requested", &url("start-back-9"))).await.is(201);
        for path in [
            "Questionnaire/start-back-9",
            "Questionnaire/start-back-9/_history",
            "Questionnaire?_id=start-back-9",
            "metadata",
            "Task/t1",
        ] {
            let reply = app.get(path).await.is(200);
            assert!(!reply.text.contains("Test words"), "{path}: {}", reply.text);
        }
        let ready = app.call("GET", "/readyz", &[], "").await.is(200);
        assert_eq!(ready.text, "ready\n");
    })
    .await;
}

#[tokio::test]
async fn a_pack_that_cannot_be_used_does_not_stop_the_service() {
    on_both_with(
        |settings| {
            with_pack(settings);
            settings.organisation = "Another Clinic".to_owned();
        },
        async |app: &TestApp| {
            let ready = app.call("GET", "/readyz", &[], "").await.is(200);
            assert!(ready.text.contains("not used: 1"), "{}", ready.text);
            app.put(&task("t1", "requested", &url("start-back-9"))).await.is(422);
        },
    )
    .await;
}

#[tokio::test]
async fn an_instrument_of_our_own_is_asked_in_welsh() {
    on_both(async |app: &TestApp| {
        app.app.serve_artefacts().await.unwrap();
        let form = app.get("Questionnaire/usefulness-5").await.is(200).json();
        assert!(form.str_at(&["purpose"]).unwrap().contains("translator has yet to review"));
        app.put(&task("t1", "requested", &url("usefulness-5"))).await.is(201);
        let (wording, today) = (app.app.facade.wording(), app.app.facade.today());
        let asked = wording.words(&form, Some("cy"), today, Purpose::Begin).unwrap();
        assert_eq!(asked.str_at(&["language"]), Some("cy"));
        let question = &asked.list("item")[0];
        assert_eq!(question.str_at(&["text"]), Some("Pa mor ddefnyddiol oedd y sesiwn?"));
        let option = &question.list("answerOption")[4];
        assert_eq!(option.str_at(&["valueCoding", "display"]), Some("defnyddiol iawn"));
        assert_eq!(option.str_at(&["valueCoding", "code"]), Some("5"));
    })
    .await;
}

#[tokio::test]
async fn what_is_refused_is_neither_asked_nor_answered() {
    on_both(async |app: &TestApp| {
        app.app.serve_artefacts().await.unwrap();
        for id in ["hads", "rmdq-23-patrick", "sf-12", "start-back-6"] {
            let form = app.get(&format!("Questionnaire/{id}")).await.is(200).json();
            assert!(form.get("purpose").is_some(), "{id}");
            let asked = app.put(&task("t1", "requested", &url(id))).await.is(422);
            says(&asked, "Task.input[0].value", "cannot be put to anybody");
            let response = json!({"resourceType": "QuestionnaireResponse", "id": "r1",
                "questionnaire": (url(id)), "status": "completed",
                "item": [{"linkId": "sb6-1", "answer": [{"valueInteger": 1}]}]});
            let answered = app.put(&response).await.is(422);
            says(&answered, "QuestionnaireResponse.questionnaire", "cannot be put to anybody");
        }
        // These wait for a signature, whatever wording there is.
        for id in ["pabs-pt-19", "rmdq-18-stratford", "start-msk-10"] {
            let asked = app.put(&task("t1", "requested", &url(id))).await.is(422);
            says(&asked, "Task.input[0].value", "signed");
        }
    })
    .await;
}

/// All that is said of what may be asked agrees with the instruments' tables.
#[test]
fn every_form_says_whether_it_may_be_asked_by() {
    use lumbar_clinical::activation::Need;
    let rules = lumbar::rules::Rules::embedded().unwrap();
    let wording = Wording::default();
    let today = jiff::civil::date(2026, 3, 2);
    assert_eq!(rules.questionnaires.len(), 35);
    for instrument in &rules.instruments {
        let form = rules.questionnaire(&instrument.questionnaire).unwrap();
        let may = wording.refusal(form, today, Purpose::Begin).is_none();
        assert_eq!(may, instrument.activation.activatable(&[]), "{}", instrument.id);
        let needs = instrument.activation.needs.contains(&Need::WordingPack);
        let told = form.str_at(&["copyright"]).unwrap().contains("in our own words");
        let is_own = instrument.about.licence.status == "own";
        assert_eq!(told, !is_own, "{} says whose words these are", instrument.id);
        assert!(!(needs && is_own), "{}", instrument.id);
    }
}
