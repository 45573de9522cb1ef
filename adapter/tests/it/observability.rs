//! Requests can be followed by their id, and no log tells who a patient is.

use lumbar_fhir::Json;
use tempfile::TempDir;

use crate::app::{TestApp, fixture, on_both};
use crate::program::{Program, client, database};

#[tokio::test]
async fn an_answer_has_the_request_id_that_was_given_or_a_new_one() {
    on_both(async |app: &TestApp| {
        for path in ["/fhir/metadata", "/fhir/Patient/nobody", "/elsewhere", "/healthz", "/"] {
            let given = app
                .call("GET", path, &[("x-request-id", "a-1.B_2"), ("x-correlation-id", "c-1")], "")
                .await;
            assert_eq!(given.header("x-request-id"), Some("a-1.B_2"), "{path}");
            assert_eq!(given.header("x-correlation-id"), Some("c-1"), "{path}");
            let one = app.call("GET", path, &[], "").await;
            let two = app.call("GET", path, &[], "").await;
            let (one, two) =
                (one.header("x-request-id").unwrap(), two.header("x-request-id").unwrap());
            assert!(one != two && one.len() == 36, "{one} and {two}");
            assert_eq!(given.headers.get_all("x-request-id").iter().count(), 1);
        }
        // What could break a log line is not taken over.
        for odd in ["a b", "", "a\tb", "{x}", &"a".repeat(65)] {
            let reply = app.call("GET", "/healthz", &[("x-request-id", odd)], "").await;
            assert_ne!(reply.header("x-request-id"), Some(odd));
        }
    })
    .await;
}

/// A name, a number, a phone, an address and an answer that are nobody's.
const SENTINELS: [&str; 6] =
    ["Quillfeather", "9990000018", "07700900123", "Sluicegate", "ZZ99 3WZ", "tinglingtoe"];

fn patient(id: &str) -> String {
    format!(
        r#"{{"resourceType":"Patient","id":"{id}","identifier":[{{"system":"https://fhir.nhs.uk/Id/nhs-number","value":"9990000018"}}],"name":[{{"family":"Quillfeather"}}],"telecom":[{{"system":"phone","value":"07700900123"}}],"address":[{{"line":["1 Sluicegate"],"postalCode":"ZZ99 3WZ"}}]}}"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_line_tells_who_a_patient_is() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    let filter = "info,lumbar=trace,lumbar_fhir=trace,lumbar_clinical=trace,lumbar_translate=trace,lumbar_store=trace,sqlx=debug,tower=debug,axum=debug";
    // Nobody answers there: the delivery fails and is logged.
    let more = ["--booking", "http://127.0.0.1:9/FHIR/R4", "--log-format", "json"];
    let program = Program::serve(&database(&folder), &more, filter, &log);
    let client = client();
    let send = async |method: &str, path: &str, body: String| {
        let url = format!("{}/{path}", program.root);
        let request = client.request(method.parse().unwrap(), url);
        let request = request
            .header("content-type", "application/fhir+json")
            .header("x-request-id", "followed");
        let answer = request.body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, _) = send("PUT", "fhir/Patient/p1", patient("p1")).await;
    assert_eq!(status, 201);
    send("POST", "fhir/Patient", patient("x")).await;
    let bundle = format!(
        r#"{{"resourceType":"Bundle","type":"transaction","entry":[{{"request":{{"method":"PUT","url":"Patient/Quillfeather"}},"resource":{}}}]}}"#,
        patient("Quillfeather")
    );
    let (status, _) = send("POST", "fhir", bundle).await;
    assert_eq!(status, 200);
    // What is wrong, with the name in every place that it may have.
    send("POST", "fhir/Patient", patient("x").replace("]}", "]")).await;
    send("POST", "fhir/Quillfeather", patient("x")).await;
    let broken = patient("x").replace(r#""family""#, r#""Quillfeather""#);
    let (status, told) = send("POST", "fhir/Patient/$validate?mode=create", broken).await;
    assert!(status == 200 && !SENTINELS[1..].iter().any(|name| told.contains(name)), "{told}");
    send("POST", "fhir/$fhirpath?expression=name.family%2B1", patient("x")).await;
    send("GET", "fhir/$fhirpath?expression=Quillfeather(&resource=Patient/p1", String::new()).await;
    send("PUT", "fhir/Patient/Quillfeather", patient("other")).await;
    send("GET", "fhir/Patient/Quillfeather", String::new()).await;
    send("GET", "fhir/Patient?family=Quillfeather&identifier=9990000018", String::new()).await;
    send("GET", "fhir/Patient?Quillfeather=9990000018", String::new()).await;
    send("GET", "fhir/Patient?birthdate=Quillfeather", String::new()).await;
    send("GET", "fhir/Patient?_cursor=Quillfeather", String::new()).await;
    send("GET", "Quillfeather/9990000018", String::new()).await;
    send("GET", "Quillfeather", String::new()).await;
    send("DELETE", "fhir/Patient/Quillfeather", String::new()).await;
    // Answers, right and wrong, and a match that is confirmed.
    let mut answers = fixture("instruments/start-back-9/response-high.json");
    answers.set("text", Json::parse(br#"{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">tinglingtoe</div>"}"#).unwrap());
    let referral = fixture("pathways/keele-stratified/high.json");
    let referral = referral.get("found").unwrap().list("requests")[0].clone();
    assert_eq!(send("PUT", "fhir/ServiceRequest/s1", referral.to_string()).await.0, 201);
    assert_eq!(send("PUT", "fhir/QuestionnaireResponse/r1", answers.to_string()).await.0, 201);
    let wrong = answers.to_string().replace(r#""code":"4""#, r#""code":"tinglingtoe""#);
    assert_eq!(send("PUT", "fhir/QuestionnaireResponse/r1", wrong).await.0, 422);
    let (_, found) = send("GET", "fhir/ServiceRequest?intent=proposal", String::new()).await;
    let found = Json::parse(found.as_bytes()).unwrap();
    let mut order = found.list("entry")[0].get("resource").unwrap().clone();
    order.set("intent", "order");
    order.set("status", "active");
    let path = format!("fhir/{}", crate::app::reference(&order));
    assert_eq!(send("PUT", &path, order.to_string()).await.0, 200);
    crate::program::until("a delivery that is put off", async || {
        program.log().contains("put off").then_some(())
    })
    .await;
    program.terminate();
    let log_file = log.clone();
    assert_eq!(program.end().code(), Some(0));
    let log = std::fs::read_to_string(log_file).unwrap();
    assert!(
        log.contains("followed") && log.contains("answered"),
        "requests are not logged:\n{log}"
    );
    for sentinel in SENTINELS {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(sentinel)).collect();
        assert!(lines.is_empty(), "{sentinel} is in the log:\n{}", lines.join("\n"));
    }
    for line in log.lines() {
        Json::parse(line.as_bytes())
            .unwrap_or_else(|error| panic!("no JSON line: {error}: {line}"));
    }
}
