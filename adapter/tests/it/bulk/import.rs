use std::collections::BTreeMap;

use lumbar::config::Settings;
use lumbar::facade::bulk::IMPORT;
use lumbar::jobs::bulk::{Step, Worker};
use lumbar_fhir::{Json, json};

use super::{ASYNC, NDJSON, export, files, fill, observation, patient, place, small, work};
use crate::app::{SECOND, TestApp, on_both, on_both_with, on_sqlite};

async fn upload(app: &TestApp, lines: &str) -> String {
    place(&app.call("POST", "/fhir/$import", &[ASYNC, NDJSON], lines).await.is(202))
}

/// The counts of an import and its two reports, by the ids of their lines.
async fn report(
    app: &TestApp,
    job: &str,
) -> ([i64; 4], BTreeMap<String, Json>, BTreeMap<String, Json>) {
    let manifest = app.call("GET", job, &[], "").await.is(200).json();
    let counts =
        manifest.get("extension").and_then(|e| e.get("https://lumbar.example/fhir/import-counts"));
    let count = |name| counts.and_then(|c| c.get(name)).and_then(Json::as_i64).expect("a count");
    let counts = ["lines", "stored", "unchanged", "refused"].map(count);
    assert_eq!(counts[0], counts[1] + counts[2] + counts[3], "{manifest}");
    (counts, files(app, &manifest, "output").await, files(app, &manifest, "error").await)
}

#[tokio::test]
async fn an_import_tells_of_every_line() {
    on_both_with(small, async |app: &TestApp| {
        let lines = [
            patient("p1", "male").to_string(),
            String::new(),
            observation("o1", "p1", "a").to_string(),
            "{\"resourceType\": \"Patient\"".to_owned(),
            json!({"resourceType": "Patient"}).to_string(),
            json!({"resourceType": "Patience", "id": "x"}).to_string(),
            json!({"resourceType": "Observation", "id": "o2"}).to_string(),
            patient("p1", "female").to_string(),
            json!({"resourceType": "Patient", "id": "a b"}).to_string(),
            patient("p2", "male").to_string(),
        ]
        .join("\n");
        let job = upload(app, &lines).await;
        app.call("GET", &job, &[], "").await.is(202);
        work(app, IMPORT).await;
        let (counts, kept, refused) = report(app, &job).await;
        assert_eq!(counts, [9, 4, 0, 5], "on {}", app.database);
        let id = |line: u32| format!("OperationOutcome/line-{line}");
        assert_eq!(kept.keys().cloned().collect::<Vec<_>>(), [1, 10, 3, 8].map(id));
        let issue = |line: u32| {
            let issue = &refused[&id(line)].list("issue")[0];
            let place = issue.list("expression").first().and_then(Json::as_str);
            (issue.str_at(&["code"]).unwrap().to_owned(), place.map(str::to_owned))
        };
        assert_eq!(issue(4).0, "structure");
        assert_eq!(issue(5), ("required".into(), Some("Patient.id".into())));
        assert_eq!(issue(6), ("structure".into(), Some("resourceType".into())));
        assert!(issue(7).1.is_some_and(|place| place.starts_with("Observation")));
        assert_eq!(issue(9), ("value".into(), Some("Patient.id".into())));
        assert_eq!(app.get("Patient/p1").await.json().str_at(&["gender"]), Some("female"));

        // The same again, but for the line that another one replaced.
        let lines: Vec<&str> = lines.lines().skip(2).collect();
        let job = upload(app, &lines.join("\r\n")).await;
        work(app, IMPORT).await;
        let (counts, ..) = report(app, &job).await;
        assert_eq!(counts, [8, 0, 3, 5], "on {}", app.database);
        assert_eq!(app.count("Patient").await, 2);
    })
    .await;
}

/// An exported store is imported elsewhere and is the same there.
#[tokio::test]
async fn what_was_exported_can_be_imported() {
    on_both(async |app: &TestApp| {
        fill(app).await;
        let (_, found) = export(app, "$export").await;
        let lines: Vec<String> = found.values().map(Json::to_string).collect();
        let job = upload(app, &lines.join("\n")).await;
        work(app, IMPORT).await;
        assert_eq!(report(app, &job).await.0, [7, 0, 7, 0]);
        on_sqlite(&|_: &mut Settings| (), &async |other: &TestApp| {
            let job = upload(other, &lines.join("\n")).await;
            work(other, IMPORT).await;
            assert_eq!(report(other, &job).await.0, [7, 7, 0, 0]);
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn an_import_outlives_its_process() {
    on_both_with(small, async |app: &TestApp| {
        let lines: Vec<String> = (0..20)
            .map(|number| match number % 5 {
                4 => json!({"resourceType": "Patient"}).to_string(),
                _ => patient(&format!("p{number:02}"), "male").to_string(),
            })
            .collect();
        let job = upload(app, &lines.join("\n")).await;
        let folder = app.app.settings.bulk.folder.join(job.rsplit('/').next().unwrap());
        loop {
            let new = app.again().await;
            let step = Worker::new(new.app.clone(), IMPORT).step().await;
            new.close().await;
            if step == Step::Idle {
                break;
            }
            for name in ["kept-1.ndjson", "refused-1.ndjson"] {
                if let Ok(mut text) = std::fs::read(folder.join(name)) {
                    text.extend(b"{\"resourceType\":\"Oper");
                    std::fs::write(folder.join(name), text).unwrap();
                }
            }
            app.source.advance(61 * SECOND);
        }
        let (counts, kept, refused) = report(app, &job).await;
        assert_eq!(counts, [20, 16, 0, 4], "on {}", app.database);
        assert_eq!((kept.len(), refused.len()), (16, 4));
        assert_eq!(app.count("Patient").await, 16);
    })
    .await;
}

/// Files of a manifest are fetched, from hosts that are allowed and nowhere else.
#[tokio::test]
async fn a_manifest_is_fetched_and_told_of() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let lines = format!("{}\n{}\n", patient("p1", "male"), observation("o1", "p1", "a"));
    let routes = axum::Router::new()
        .route("/patients.ndjson", axum::routing::get(async move || lines))
        .route(
            "/elsewhere.ndjson",
            axum::routing::get(async || axum::response::Redirect::temporary("/patients.ndjson")),
        );
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let allow = |settings: &mut Settings| settings.bulk.hosts = vec![address.to_string()];
    on_both_with(allow, async |app: &TestApp| {
        let input = |name: &str| {
            let url = format!("http://{address}/{name}.ndjson");
            json!({"name": "input", "part": [
                {"name": "type", "valueCode": "Patient"}, {"name": "url", "valueUri": (url)}
            ]})
        };
        let manifest = json!({"resourceType": "Parameters", "parameter": [
            {"name": "inputFormat", "valueCode": "application/fhir+ndjson"},
            {"name": "inputSource", "valueUri": "http://source.example.org"},
            (input("patients")), (input("elsewhere")), (input("nothing"))
        ]});
        let job = app.call("POST", "/fhir/$import", &[ASYNC], manifest.to_string()).await.is(202);
        let job = place(&job);
        work(app, IMPORT).await;
        let manifest = app.call("GET", &job, &[], "").await.is(200).json();
        assert_eq!(
            manifest.list("output")[0].str_at(&["inputUrl"]),
            Some(&*format!("http://{address}/patients.ndjson"))
        );
        let refused: Vec<_> =
            manifest.list("error").iter().map(|f| f.str_at(&["inputUrl"])).collect();
        assert_eq!(refused.len(), 3, "{manifest}");
        app.get("Patient/p1").await.is(200);
        app.get("Observation/o1").await.is(404);
    })
    .await;
}

#[tokio::test]
async fn an_upload_has_bounds() {
    let bounds = |settings: &mut Settings| {
        settings.bulk.file_bytes = 2000;
        settings.bulk.line_bytes = 200;
    };
    on_both_with(bounds, async |app: &TestApp| {
        let long =
            json!({"resourceType": "Patient", "id": "long", "implicitRules": ("x".repeat(300))});
        let lines = format!("{}\n{long}\n{}", patient("p1", "male"), patient("p2", "male"));
        let job = upload(app, &lines).await;
        work(app, IMPORT).await;
        let (counts, _, refused) = report(app, &job).await;
        assert_eq!(counts, [3, 2, 0, 1]);
        let issue = &refused["OperationOutcome/line-2"].list("issue")[0];
        assert_eq!(issue.str_at(&["code"]), Some("too-long"));
        app.call("POST", "/fhir/$import", &[ASYNC, NDJSON], "x".repeat(2001)).await.is(413);
        let left = std::fs::read_dir(&app.app.settings.bulk.folder).unwrap().count();
        assert_eq!(left, 1, "what was refused is not kept");
    })
    .await;
}
