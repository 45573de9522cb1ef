//! Answers become scores, scores meet referrals: in the same commit, by whatever way they come.

use lumbar_fhir::{Json, json};
use lumbar_testkit::fixtures;

use crate::app::{TestApp, fixture, on_both, reference};
use crate::program::lumbar;

const ENTERED_IN_ERROR: Option<&str> = Some("entered-in-error");

fn patient() -> Json {
    json!({"resourceType": "Patient", "id": "p1", "name": [{"family": "Marlowe-Quist", "given": ["Ida"]}]})
}

/// Answers that give high risk: 7 of 9, psychosocial 4 of 5.
fn answers() -> Json {
    fixture("instruments/start-back-9/response-high.json")
}

fn expected_observations() -> Vec<Json> {
    fixture("instruments/start-back-9/response-high.expected.json").list("observations").to_vec()
}

/// An active referral for back pain.
fn referral() -> Json {
    let case = fixture("pathways/keele-stratified/high.json");
    case.at(&["found"]).unwrap().list("requests")[0].clone()
}

fn without_meta(mut resource: Json) -> Json {
    resource.as_object_mut().unwrap().remove("meta");
    resource
}

fn entry(method: &str, url: &str, resource: &Json) -> Json {
    json!({"request": {"method": (method), "url": (url)}, "resource": (resource)})
}

fn transaction(entries: Vec<Json>) -> Json {
    json!({"resourceType": "Bundle", "type": "transaction", "entry": (entries)})
}

/// Code and value of an Observation, short.
fn said(observation: &Json) -> (String, String) {
    let coding = |concept: Option<&Json>| {
        concept.and_then(|c| c.list("coding").first()?.str_at(&["code"]).map(str::to_owned))
    };
    let value =
        observation.at(&["valueQuantity", "value"]).and_then(Json::as_number).map(str::to_owned);
    let value = value.or_else(|| coding(observation.get("valueCodeableConcept")));
    (coding(observation.get("code")).unwrap(), value.unwrap_or_default())
}

/// What high risk says, in the order of codes.
fn high() -> Vec<(String, String)> {
    [("91350-9", "4"), ("91351-7", "7"), ("91352-5", "LA9193-9")]
        .map(|(code, value)| (code.to_owned(), value.to_owned()))
        .to_vec()
}

async fn scores_of(app: &TestApp, response: &str) -> Vec<(String, String)> {
    let found = app.search(&format!("Observation?derived-from={response}&status=final")).await;
    let mut scores: Vec<_> = found.iter().map(said).collect();
    scores.sort();
    scores
}

#[tokio::test]
async fn a_completed_response_has_its_scores_at_once() {
    on_both(async |app: &TestApp| {
        app.put(&answers()).await.is(201);
        for expected in expected_observations() {
            let stored = app.get(&reference(&expected)).await.is(200);
            assert_eq!(stored.header("etag"), Some("W/\"1\""));
            let stored = stored.json();
            // Both were written by one commit, which has one time.
            let response = app.get("QuestionnaireResponse/r1").await.is(200).json();
            assert_eq!(stored.at(&["meta", "lastUpdated"]), response.at(&["meta", "lastUpdated"]));
            let profile = ["meta", "profile"];
            assert_eq!(stored.at(&profile), expected.at(&profile));
            assert_eq!(without_meta(stored), without_meta(expected));
        }
        assert_eq!(app.count("Observation").await, 3);
        // The risk is found by what it says, too.
        let query = "Observation?subject=Patient/p1&code=http://loinc.org|91352-5&value-concept=http://snomed.info/sct|945601000000103";
        assert_eq!(app.search(query).await.len(), 1);
        // The same again changes nothing.
        app.put(&answers()).await.is(200);
        for expected in expected_observations() {
            assert_eq!(app.get(&reference(&expected)).await.header("etag"), Some("W/\"1\""));
        }
    })
    .await;
}

#[tokio::test]
async fn by_every_way_in_the_scores_are_the_same() {
    on_both(async |app: &TestApp| {
        let posted = app.post("QuestionnaireResponse", &answers()).await.is(201).json();
        assert_eq!(scores_of(app, &reference(&posted)).await, high());

        let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": [
            (entry("PUT", "QuestionnaireResponse/r1", &answers()))
        ]});
        app.post("", &batch).await.is(200);
        assert_eq!(scores_of(app, "QuestionnaireResponse/r1").await, high());

        let mut again = answers();
        again.set("id", "r2");
        let bundle = transaction(vec![entry("PUT", "QuestionnaireResponse/r2", &again)]);
        app.post("", &bundle).await.is(200);
        assert_eq!(scores_of(app, "QuestionnaireResponse/r2").await, high());

        let bundle = transaction(vec![entry("POST", "QuestionnaireResponse", &answers())]);
        let answer = app.post("", &bundle).await.is(200).json();
        let location =
            answer.list("entry")[0].str_at(&["response", "location"]).unwrap().to_owned();
        let id = location.split('/').rev().nth(2).unwrap();
        assert_eq!(scores_of(app, &format!("QuestionnaireResponse/{id}")).await, high());
        assert_eq!(app.count("Observation").await, 12);
    })
    .await;
}

/// The answers of `r1` with item 9 (how bothersome) answered otherwise.
fn answers_with_bother(code: &str) -> Json {
    let mut amended = answers();
    amended.set("status", "amended");
    let text = amended.to_string();
    let (before, after) =
        text.split_once("bother-0-4\",\"code\":\"4\"").expect("item 9 is answered 4");
    let text = format!("{before}bother-0-4\",\"code\":\"{code}\"{after}");
    Json::parse(text.as_bytes()).unwrap()
}

#[tokio::test]
async fn amended_answers_update_the_same_observations() {
    on_both(async |app: &TestApp| {
        app.put(&answers()).await.is(201);
        app.put(&answers_with_bother("0")).await.is(200);
        assert_eq!(app.count("Observation").await, 3);
        let found = app.search("Observation?derived-from=QuestionnaireResponse/r1").await;
        let mut scores: Vec<_> = found.iter().map(said).collect();
        scores.sort();
        // 6 of 9, psychosocial 3 of 5: medium.
        let expected = [("91350-9", "3"), ("91351-7", "6"), ("91352-5", "LA8982-6")];
        assert_eq!(scores, expected.map(|(code, value)| (code.to_owned(), value.to_owned())));
        for observation in expected_observations() {
            let stored = app.get(&reference(&observation)).await.is(200);
            assert_eq!(stored.header("etag"), Some("W/\"2\""), "an old version stays");
        }
    })
    .await;
}

#[tokio::test]
async fn a_deleted_or_withdrawn_response_takes_its_scores_back() {
    on_both(async |app: &TestApp| {
        app.put(&answers()).await.is(201);
        app.call("DELETE", "/fhir/QuestionnaireResponse/r1", &[], "").await.is(204);
        for expected in expected_observations() {
            let stored = app.get(&reference(&expected)).await.is(200).json();
            assert_eq!(stored.str_at(&["status"]), ENTERED_IN_ERROR);
        }
        assert_eq!(scores_of(app, "QuestionnaireResponse/r1").await, []);

        let mut second = answers();
        second.set("id", "r2");
        app.put(&second).await.is(201);
        assert_eq!(scores_of(app, "QuestionnaireResponse/r2").await, high());
        second.set("status", "entered-in-error");
        app.put(&second).await.is(200);
        assert_eq!(scores_of(app, "QuestionnaireResponse/r2").await, []);

        // Put back, the scores are back.
        app.put(&answers()).await.is(201);
        assert_eq!(scores_of(app, "QuestionnaireResponse/r1").await, high());
    })
    .await;
}

#[tokio::test]
async fn what_is_not_finished_has_no_scores() {
    on_both(async |app: &TestApp| {
        let mut open = answers();
        open.set("status", "in-progress");
        app.put(&open).await.is(201);
        assert_eq!(app.count("Observation").await, 0);
        // Too few answers to say anything.
        let mut short = fixture("instruments/start-back-9/response-incomplete.json");
        short.set("id", "r2");
        let expected = fixture("instruments/start-back-9/response-incomplete.expected.json");
        app.put(&short).await.is(201);
        assert_eq!(
            scores_of(app, "QuestionnaireResponse/r2").await.len(),
            expected.list("observations").len()
        );
        // Another questionnaire that nobody has rules for.
        let mut other = answers();
        other.set("id", "r3");
        other.set("questionnaire", "http://lumbar.test/Questionnaire/other");
        app.put(&other).await.is(201);
        assert_eq!(scores_of(app, "QuestionnaireResponse/r3").await, []);
    })
    .await;
}

#[tokio::test]
async fn answers_against_the_rules_are_422_and_nothing_is_stored() {
    on_both(async |app: &TestApp| {
        let wrong = fixture("instruments/start-back-9/response-wrong-answers.json");
        let outcome = app.put(&wrong).await.is(422).json();
        assert_eq!(outcome.str_at(&["resourceType"]), Some("OperationOutcome"));
        let expected = fixture("instruments/start-back-9/response-wrong-answers.expected.json");
        // The form itself says no before the scoring does, of the same answers.
        let places = |of: &Json, list: &str| -> Vec<String> {
            let issues = of.list(list).iter();
            issues.map(|issue| issue.str_at(&["expression"]).unwrap().to_owned()).collect()
        };
        let found = places(&outcome, "issue");
        for place in places(&expected, "issues") {
            assert!(found.iter().any(|found| found.starts_with(&place)), "{place}: {found:?}");
        }
        let bundle = transaction(vec![
            entry("PUT", "Patient/p1", &patient()),
            entry("PUT", "QuestionnaireResponse/r1", &wrong),
        ]);
        app.post("", &bundle).await.is(422);
        for of in ["Patient", "QuestionnaireResponse", "Observation"] {
            assert_eq!(app.count(of).await, 0, "{of}");
        }
        // A sound response that turns wrong keeps its old version and its scores.
        app.put(&answers()).await.is(201);
        app.put(&wrong).await.is(422);
        assert_eq!(app.get("QuestionnaireResponse/r1").await.header("etag"), Some("W/\"1\""));
        assert_eq!(scores_of(app, "QuestionnaireResponse/r1").await, high());
    })
    .await;
}

/// The one proposal, whose links are those of the pathway.
async fn proposal(app: &TestApp, how: &str) -> Json {
    let mut found = app.search("ServiceRequest?instantiates-canonical:missing=false").await;
    assert_eq!(found.len(), 1, "{how}, on {}", app.database);
    let proposal = found.remove(0);
    let first = |name: &str| proposal.list(name).first().cloned().unwrap_or(Json::Null);
    assert_eq!(first("basedOn").str_at(&["reference"]), Some("ServiceRequest/s1"), "{how}");
    assert_eq!(
        first("instantiatesCanonical").as_str(),
        Some("https://lumbar.example/fhir/PlanDefinition/keele-stratified|1.1.0"),
        "{how}"
    );
    assert_eq!(proposal.str_at(&["status"]), Some("draft"), "{how}");
    assert_eq!(proposal.str_at(&["intent"]), Some("proposal"), "{how}");
    assert_eq!(proposal.str_at(&["subject", "reference"]), Some("Patient/p1"), "{how}");
    let reason = first("reasonReference");
    let risk = app.get(reason.str_at(&["reference"]).unwrap()).await.is(200).json();
    assert_eq!(said(&risk), ("91352-5".to_owned(), "LA9193-9".to_owned()), "{how}");
    let codes: Vec<_> =
        proposal.get("code").unwrap().list("coding").iter().map(|c| c.str_at(&["code"])).collect();
    assert!(codes.contains(&Some("physio-psychologically-informed")), "{how}: {codes:?}");
    let notes: Vec<_> =
        proposal.list("note").iter().filter_map(|note| note.str_at(&["text"])).collect();
    assert!(
        notes.iter().any(|note| note.starts_with("STarT Back total 7 of 9, psychosocial 4 of 5: high risk")),
        "{how}, the reason does not tell the scores: {notes:?}"
    );
    proposal
}

#[tokio::test]
async fn a_risk_meets_the_referral_whichever_comes_first() {
    on_both(async |app: &TestApp| {
        app.put(&patient()).await.is(201);
        app.put(&referral()).await.is(201);
        app.put(&answers()).await.is(201);
        proposal(app, "referral, then answers").await;
        // Another result of the same episode leaves the decision and its reason alone.
        let mut later = answers();
        later.set("id", "r2");
        later.set("authored", "2026-03-30T10:00:00Z");
        app.put(&later).await.is(201);
        let again = proposal(app, "another form later").await;
        assert_eq!(again.str_at(&["meta", "versionId"]), Some("1"));
        // Nothing is proposed twice.
        app.put(&answers()).await.is(200);
        app.put(&referral()).await.is(200);
        let again = proposal(app, "the same again").await;
        assert_eq!(again.str_at(&["meta", "versionId"]), Some("1"));
    })
    .await;
    on_both(async |app: &TestApp| {
        app.put(&patient()).await.is(201);
        app.put(&answers()).await.is(201);
        assert_eq!(app.count("ServiceRequest").await, 0);
        app.put(&referral()).await.is(201);
        proposal(app, "answers, then referral").await;
    })
    .await;
}

#[tokio::test]
async fn in_one_bundle_the_order_of_entries_does_not_matter() {
    let entries = [
        entry("PUT", "Patient/p1", &patient()),
        entry("PUT", "ServiceRequest/s1", &referral()),
        entry("PUT", "QuestionnaireResponse/r1", &answers()),
    ];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let bundle = transaction(order.iter().map(|index| entries[*index].clone()).collect());
        on_both(async |app: &TestApp| {
            app.post("", &bundle).await.is(200);
            let how = format!("entries in the order {order:?}");
            let first = proposal(app, &how).await;
            assert_eq!(first.str_at(&["meta", "versionId"]), Some("1"), "{how}");
            assert_eq!(app.count("Observation").await, 3, "{how}");
            assert_eq!(app.count("ServiceRequest").await, 2, "{how}");
            app.post("", &bundle).await.is(200);
            let again = proposal(app, &how).await;
            assert_eq!(again, first, "the same bundle again changes nothing, {how}");
        })
        .await;
    }
}

/// References by urn:uuid are final when scores are derived.
#[tokio::test]
async fn a_bundle_of_creates_is_matched_too() {
    on_both(async |app: &TestApp| {
        let text = transaction(vec![
            json!({"fullUrl": "urn:uuid:8d1a7f0e-0000-4c07-9a53-6c2a9d5f2b01", "request": {"method": "POST", "url": "QuestionnaireResponse"}, "resource": (answers())}),
            json!({"fullUrl": "urn:uuid:8d1a7f0e-0000-4c07-9a53-6c2a9d5f2b02", "request": {"method": "POST", "url": "ServiceRequest"}, "resource": (referral())}),
            json!({"fullUrl": "urn:uuid:8d1a7f0e-0000-4c07-9a53-6c2a9d5f2b03", "request": {"method": "POST", "url": "Patient"}, "resource": (patient())}),
        ])
        .to_string()
        .replace("\"Patient/p1\"", "\"urn:uuid:8d1a7f0e-0000-4c07-9a53-6c2a9d5f2b03\"")
        .replace("\"ServiceRequest/s1\"", "\"urn:uuid:8d1a7f0e-0000-4c07-9a53-6c2a9d5f2b02\"");
        app.call("POST", "/fhir", &[], text).await.is(200);
        let found = app.search("ServiceRequest?instantiates-canonical:missing=false").await;
        assert_eq!(found.len(), 1);
        let referral = app.search("ServiceRequest?instantiates-canonical:missing=true").await;
        let person = app.search("Patient").await;
        assert_eq!(found[0].list("basedOn")[0].str_at(&["reference"]), Some(reference(&referral[0]).as_str()));
        assert_eq!(found[0].str_at(&["subject", "reference"]), Some(reference(&person[0]).as_str()));
    })
    .await;
}

#[tokio::test]
async fn withdrawing_the_answers_withdraws_the_proposal() {
    on_both(async |app: &TestApp| {
        app.post(
            "",
            &transaction(vec![
                entry("PUT", "Patient/p1", &patient()),
                entry("PUT", "ServiceRequest/s1", &referral()),
                entry("PUT", "QuestionnaireResponse/r1", &answers()),
            ]),
        )
        .await
        .is(200);
        let before = proposal(app, "as it came").await;
        app.call("DELETE", "/fhir/QuestionnaireResponse/r1", &[], "").await.is(204);
        let after = app.get(&reference(&before)).await.is(200).json();
        assert_eq!(after.str_at(&["status"]), ENTERED_IN_ERROR);
    })
    .await;
}

#[tokio::test]
async fn extract_tells_the_same_scores_and_stores_nothing() {
    on_both(async |app: &TestApp| {
        let check = |bundle: &Json| {
            assert_eq!(bundle.str_at(&["type"]), Some("transaction"), "{bundle}");
            let resources: Vec<Json> =
                bundle.list("entry").iter().map(|e| e.get("resource").unwrap().clone()).collect();
            assert_eq!(resources, expected_observations());
            for entry in bundle.list("entry") {
                assert_eq!(entry.str_at(&["request", "method"]), Some("PUT"));
                assert_eq!(
                    entry.str_at(&["request", "url"]),
                    Some(reference(entry.get("resource").unwrap()).as_str())
                );
            }
        };
        let bundle = app.post("QuestionnaireResponse/$extract", &answers()).await.is(200).json();
        check(&bundle);
        let parameters = json!({"resourceType": "Parameters", "parameter": [
            {"name": "questionnaire-response", "resource": (answers())}
        ]});
        check(&app.post("QuestionnaireResponse/$extract", &parameters).await.is(200).json());
        for of in ["Observation", "QuestionnaireResponse"] {
            assert_eq!(app.count(of).await, 0, "{of}");
        }
        // What is extracted is what is stored: as a transaction it changes nothing.
        app.put(&answers()).await.is(201);
        check(&app.get("QuestionnaireResponse/r1/$extract").await.is(200).json());
        let answer = app.post("", &bundle).await.is(200).json();
        for entry in answer.list("entry") {
            assert_eq!(entry.str_at(&["response", "etag"]), Some("W/\"1\""));
        }
        app.get("QuestionnaireResponse/nobody/$extract").await.is(404);
        app.post("QuestionnaireResponse/$extract", &patient()).await.is(400);
        let wrong = fixture("instruments/start-back-9/response-wrong-answers.json");
        app.post("QuestionnaireResponse/$extract", &wrong).await.is(422);
    })
    .await;
}

/// One line for each vector, with the site's value sets; what is expected is not looked at.
#[test]
fn test_vectors_give_a_line_each() {
    let folder = tempfile::TempDir::new().unwrap();
    let vectors = folder.path().join("vectors.json");
    let text = r#"{"vectors": [
        {"id": "one", "kind": "value-set", "instrument": "eq-5d-5l", "expected": {"index": 7},
            "input": {"valueSet": "made-up", "profile": "21111"}},
        {"id": "two", "kind": "score", "instrument": "gad-2", "answers": {"gad7-2": 3}},
        {"id": "three", "kind": "unheard-of", "instrument": "gad-2"}]}"#;
    std::fs::write(&vectors, text).unwrap();
    let sets = fixtures().join("schema/value-sets/ok-decrements.json");
    let run = |sets: &std::path::Path| {
        let arguments = ["score", "--vectors", vectors.to_str().unwrap(), "--value-sets"];
        let arguments = [&arguments[..], &[sets.to_str().unwrap()]].concat();
        lumbar(&arguments).output().unwrap()
    };
    let output = run(&sets);
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Json> =
        lines.lines().map(|line| Json::parse(line.as_bytes()).unwrap()).collect();
    let ids: Vec<_> = lines.iter().map(|line| line.str_at(&["id"]).unwrap()).collect();
    assert_eq!(ids, ["one", "two", "three"]);
    assert_eq!(lines[0].at(&["actual", "index"]).unwrap().as_number(), Some("0.9"));
    assert_eq!(lines[1].str_at(&["actual", "provisional", "screen"]), Some("positive"));
    assert_eq!(lines[2].str_at(&["actual", "status"]), Some("not-supported"));

    let broken = run(&fixtures().join("schema/value-sets/bad-no-id.json"));
    assert_eq!(broken.status.code(), Some(2));
    let told = String::from_utf8(broken.stderr).unwrap();
    assert!(told.contains("\"id\" is a required property"), "{told}");
}

/// Safety questions are triaged, also when not all of them are answered.
#[test]
fn safety_questions_are_triaged_from_a_file() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("response.json");
    let response = json!({"resourceType": "QuestionnaireResponse", "status": "in-progress",
        "questionnaire": "https://lumbar.example/fhir/Questionnaire/red-flags",
        "item": [{"linkId": "rf-saddle", "answer": [{"valueCoding": {"code": "yes"}}]}]});
    std::fs::write(&path, response.to_string()).unwrap();
    let output = lumbar(&["score", path.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success());
    let result = Json::parse(&output.stdout).unwrap();
    assert_eq!(result.str_at(&["triage", "triage"]), Some("emergency-now"));
}
