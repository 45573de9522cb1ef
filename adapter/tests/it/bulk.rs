//! Bulk export and import, with a worker that takes a step when it is told to.

mod import;

use std::collections::BTreeMap;

use lumbar::config::Settings;
use lumbar::facade::bulk::EXPORT;
use lumbar::jobs::bulk::{Step, Worker};
use lumbar_fhir::{Json, json};

use crate::app::{BASE, Reply, SECOND, TestApp, below_base, on_both, on_both_with};

const ASYNC: (&str, &str) = ("prefer", "respond-async");
const STRICT: (&str, &str) = ("prefer", "respond-async, handling=strict");
const NDJSON: (&str, &str) = ("content-type", "application/fhir+ndjson");

/// Small parts, so that few resources take many steps.
fn small(settings: &mut Settings) {
    settings.bulk.chunk = 3;
}

fn patient(id: &str, gender: &str) -> Json {
    json!({"resourceType": "Patient", "id": (id), "gender": (gender)})
}

fn observation(id: &str, patient: &str, code: &str) -> Json {
    json!({
        "resourceType": "Observation",
        "id": (id),
        "status": "final",
        "code": {"coding": [{"system": "http://example.org/codes", "code": (code)}]},
        "subject": {"reference": (format!("Patient/{patient}"))}
    })
}

/// Path below the host of where the state of a job is.
fn place(accepted: &Reply) -> String {
    let url = accepted.header("content-location").expect("a Content-Location");
    assert!(accepted.text.is_empty(), "{accepted:#?}");
    format!("/fhir/{}", below_base(url))
}

async fn begin(app: &TestApp, path: &str) -> String {
    place(&app.call("GET", &format!("/fhir/{path}"), &[ASYNC], "").await.is(202))
}

async fn work(app: &TestApp, kind: &'static str) {
    let mut worker = Worker::new(app.app.clone(), kind);
    for _ in 0..10_000 {
        match worker.step().await {
            Step::Worked => {}
            Step::Idle => return,
            Step::Later => panic!("the worker cannot go on"),
        }
    }
    panic!("the worker does not come to an end");
}

/// The lines of each type in a list of the manifest, by `Type/id`.
async fn files(app: &TestApp, manifest: &Json, list: &str) -> BTreeMap<String, Json> {
    let mut found = BTreeMap::new();
    for file in manifest.list(list) {
        let url = below_base(file.str_at(&["url"]).unwrap());
        let reply = app.get(&url).await.is(200);
        assert_eq!(reply.header("content-type"), Some("application/fhir+ndjson"));
        assert_eq!(reply.header("content-length"), Some(&*reply.text.len().to_string()));
        assert!(reply.text.ends_with('\n'), "{reply:?}");
        let count = file.get("count").and_then(Json::as_i64).unwrap();
        assert_eq!(reply.text.lines().count(), usize::try_from(count).unwrap());
        for (number, line) in reply.text.lines().enumerate() {
            let resource = Json::parse(line.as_bytes()).unwrap();
            let kind = resource.str_at(&["resourceType"]).unwrap();
            assert_eq!(file.str_at(&["type"]), Some(kind));
            let id = resource.str_at(&["id"]).map_or(number.to_string(), str::to_owned);
            let again = found.insert(format!("{kind}/{id}"), resource.clone());
            assert!(again.is_none(), "{kind}/{id} is there twice");
        }
    }
    found
}

/// Exports to the end; gives the manifest and what is in it.
async fn export(app: &TestApp, path: &str) -> (Json, BTreeMap<String, Json>) {
    let job = begin(app, path).await;
    work(app, EXPORT).await;
    let manifest = app.call("GET", &job, &[], "").await.is(200).json();
    let found = files(app, &manifest, "output").await;
    (manifest, found)
}

fn names(found: &BTreeMap<String, Json>) -> Vec<&str> {
    found.keys().map(String::as_str).collect()
}

fn assert_names(app: &TestApp, path: &str, found: &BTreeMap<String, Json>, expected: &[&str]) {
    assert_eq!(names(found), expected, "{path} on {}", app.database);
}

/// Two patients with observations, a group of one of them, and what belongs to nobody.
async fn fill(app: &TestApp) {
    app.put(&patient("p1", "male")).await.is(201);
    app.put(&patient("p2", "female")).await.is(201);
    for (id, of, code) in [("o1", "p1", "a"), ("o2", "p1", "b"), ("o3", "p2", "a")] {
        app.put(&observation(id, of, code)).await.is(201);
    }
    let group = json!({
        "resourceType": "Group", "id": "g1", "type": "person", "actual": true,
        "member": [
            {"entity": {"reference": "Patient/p1"}},
            {"entity": {"reference": "Patient/p2"}, "inactive": true}
        ]
    });
    app.put(&group).await.is(201);
    app.put(&json!({"resourceType": "Organization", "id": "x1", "name": "Org"})).await.is(201);
}

#[tokio::test]
async fn an_export_goes_the_whole_way() {
    on_both_with(small, async |app: &TestApp| {
        fill(app).await;
        let job = begin(app, "$export?_outputFormat=ndjson").await;
        let waiting = app.call("GET", &job, &[], "").await.is(202);
        assert!(waiting.header("x-progress").is_some_and(|told| told.len() <= 100));
        assert!(waiting.header("retry-after").is_some());
        let mut worker = Worker::new(app.app.clone(), EXPORT);
        assert_eq!(worker.step().await, Step::Worked);
        app.call("GET", &job, &[], "").await.is(202);
        while worker.step().await == Step::Worked {}

        let done = app.call("GET", &job, &[], "").await.is(200);
        assert_eq!(done.header("content-type"), Some("application/json"));
        assert_eq!(done.header("expires"), Some("Tue, 03 Mar 2026 10:00:10 GMT"));
        let manifest = done.json();
        assert_eq!(
            manifest.str_at(&["request"]),
            Some(&*format!("{BASE}/$export?_outputFormat=ndjson"))
        );
        assert_eq!(manifest.str_at(&["transactionTime"]), Some("2026-03-02T10:00:09.000Z"));
        assert_eq!(manifest.get("requiresAccessToken").and_then(Json::as_bool), Some(false));
        assert!(manifest.list("error").is_empty());
        assert!(manifest.get("deleted").is_none());
        let found = files(app, &manifest, "output").await;
        let all = [
            "Group/g1",
            "Observation/o1",
            "Observation/o2",
            "Observation/o3",
            "Organization/x1",
            "Patient/p1",
            "Patient/p2",
        ];
        assert_names(app, "$export", &found, &all);
        let stored = app.get("Observation/o1").await.is(200);
        assert_eq!(found["Observation/o1"].to_string(), stored.text);
        let head = below_base(manifest.list("output")[0].str_at(&["url"]).unwrap());
        let head = app.call("HEAD", &format!("/fhir/{head}"), &[], "").await.is(200);
        assert!(head.text.is_empty() && head.header("content-length") != Some("0"));
    })
    .await;
}

#[tokio::test]
async fn an_export_gives_what_was_asked_for() {
    on_both_with(small, async |app: &TestApp| {
        fill(app).await;
        let p1 = ["Group/g1", "Observation/o1", "Observation/o2", "Patient/p1"];
        let cases: [(&str, &[&str]); 8] = [
            ("$export?_type=Patient,Organization", &["Organization/x1", "Patient/p1", "Patient/p2"]),
            ("$export?_type=Patient&_typeFilter=Patient%3Fgender%3Dfemale", &["Patient/p2"]),
            (
                "$export?_type=Observation,Patient&_typeFilter=Observation%3Fcode%3Dhttp://example.org/codes|a%26subject%3DPatient/p2&_typeFilter=Observation%3Fcode%3Db",
                &["Observation/o2", "Observation/o3", "Patient/p1", "Patient/p2"],
            ),
            (
                "$export?_type=Observation&_typeFilter=Observation%3Fsubject:Patient.gender%3Dmale",
                &["Observation/o1", "Observation/o2"],
            ),
            (
                "Patient/$export",
                &["Group/g1", "Observation/o1", "Observation/o2", "Observation/o3", "Patient/p1", "Patient/p2"],
            ),
            ("Group/g1/$export", &p1),
            ("Group/g1/$export?_type=Observation&_typeFilter=Observation%3Fcode%3Da", &["Observation/o1"]),
            ("$export?_type=Appointment", &[]),
        ];
        for (path, expected) in cases {
            let (_, found) = export(app, path).await;
            assert_names(app, path, &found, expected);
        }
        let parameters = json!({"resourceType": "Parameters", "parameter": [
            {"name": "patient", "valueReference": {"reference": "Patient/p2"}},
            {"name": "_type", "valueString": "Observation"}
        ]});
        let job = app.call("POST", "/fhir/Patient/$export", &[ASYNC], parameters.to_string()).await;
        let job = place(&job.is(202));
        work(app, EXPORT).await;
        let manifest = app.call("GET", &job, &[], "").await.is(200).json();
        assert_names(app, "patient", &files(app, &manifest, "output").await, &["Observation/o3"]);

        let (_, found) = export(app, "$export?_type=Patient,Observation&_elements=Patient.gender").await;
        let part = &found["Patient/p1"];
        assert_eq!(part.str_at(&["gender"]), Some("male"));
        assert_eq!(part.get("meta").unwrap().list("tag")[0].str_at(&["code"]), Some("SUBSETTED"));
        assert!(found["Observation/o1"].get("subject").is_some(), "nothing of it was named");
        let (_, found) = export(app, "$export?_type=Patient,Observation&_elements=id").await;
        assert!(found["Patient/p1"].get("gender").is_none());
        assert!(found["Observation/o1"].get("status").is_some(), "status is mandatory");
    })
    .await;
}

/// Groups of so many patients that no search can name them.
#[tokio::test]
async fn large_groups_are_told_apart_by_what_is_in_the_resources() {
    on_both(async |app: &TestApp| {
        let mut members: Vec<Json> = Vec::new();
        let mut expected: Vec<String> = Vec::new();
        for number in 0..40 {
            let id = format!("p{number}");
            app.put(&patient(&id, "male")).await.is(201);
            app.put(&observation(&format!("o{number}"), &id, "a")).await.is(201);
            if number % 2 == 0 {
                members.push(json!({"entity": {"reference": (format!("Patient/{id}"))}}));
                expected.extend([format!("Patient/{id}"), format!("Observation/o{number}")]);
            }
        }
        expected.sort();
        let group = json!({
            "resourceType": "Group", "id": "g", "type": "person", "actual": true,
            "member": (members)
        });
        app.put(&group).await.is(201);
        let (_, found) = export(app, "Group/g/$export?_type=Patient,Observation").await;
        assert_eq!(names(&found), expected, "on {}", app.database);
    })
    .await;
}

/// Whatever is written while an export runs: it gives each resource once, as it was at its moment,
/// and the next one, which goes on at its transactionTime, gives the rest.
#[tokio::test]
async fn writes_during_an_export_are_neither_lost_nor_doubled() {
    on_both_with(small, async |app: &TestApp| {
        let name = |number: usize| format!("p{number:02}");
        for number in 0..30 {
            app.put(&patient(&name(number), "male")).await.is(201);
        }
        app.put(&patient("gone", "male")).await.is(201);
        let path = "$export?_type=Patient&_typeFilter=Patient%3Fgender%3Dmale";
        let job = begin(app, path).await;
        let mut worker = Worker::new(app.app.clone(), EXPORT);
        // Before, within and behind what has been walked, after every part.
        for number in 0..10 {
            worker.step().await;
            app.put(&patient(&name(number), "female")).await.is(200);
            app.put(&patient(&name(29 - number), "other")).await.is(200);
            app.put(&patient(&format!("new{number}"), "male")).await.is(201);
            if number == 0 {
                app.call("DELETE", "/fhir/Patient/gone", &[], "").await.is(204);
            }
        }
        while worker.step().await == Step::Worked {}
        let manifest = app.call("GET", &job, &[], "").await.is(200).json();
        let found = files(app, &manifest, "output").await;
        let mut expected: Vec<String> =
            (0..30).map(|number| format!("Patient/{}", name(number))).collect();
        expected.insert(0, "Patient/gone".to_owned());
        assert_eq!(names(&found), expected, "on {}", app.database);
        for resource in found.values() {
            assert_eq!(resource.str_at(&["gender"]), Some("male"), "{resource}");
        }

        let time = manifest.str_at(&["transactionTime"]).unwrap();
        let (next, found) = export(app, &format!("$export?_type=Patient&_since={time}")).await;
        assert_eq!(found.len(), 30, "on {}: {:?}", app.database, names(&found));
        let deleted = files(app, &next, "deleted").await;
        let entries: Vec<&Json> =
            deleted.values().flat_map(|bundle| bundle.list("entry")).collect();
        let urls: Vec<_> = entries.iter().map(|e| e.str_at(&["request", "url"])).collect();
        assert_eq!(urls, [Some("Patient/gone")]);
        let time = next.str_at(&["transactionTime"]).unwrap();
        let (last, found) = export(app, &format!("$export?_type=Patient&_since={time}")).await;
        assert!(found.is_empty() && last.get("deleted").is_none(), "{last}");
    })
    .await;
}

/// After any step a new process goes on, also when the old one wrote more than it saved.
#[tokio::test]
async fn an_export_outlives_its_process() {
    on_both_with(small, async |app: &TestApp| {
        for number in 0..20 {
            app.put(&patient(&format!("p{number:02}"), "male")).await.is(201);
            app.put(&observation(&format!("o{number:02}"), &format!("p{number:02}"), "a"))
                .await
                .is(201);
        }
        let job = begin(app, "Patient/$export?_type=Patient,Observation").await;
        let id = job.rsplit('/').next().unwrap();
        let folder = app.app.settings.bulk.folder.join(id);
        let mut steps = 0;
        loop {
            let new = app.again().await;
            let mut worker = Worker::new(new.app.clone(), EXPORT);
            let step = worker.step().await;
            drop(worker);
            new.close().await;
            if step == Step::Idle {
                break;
            }
            steps += 1;
            // What a crash leaves: half a line behind what was saved.
            for entry in std::fs::read_dir(&folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                let mut text = std::fs::read(&path).unwrap();
                text.extend(b"{\"resourceType\":\"Pat");
                std::fs::write(&path, text).unwrap();
            }
            // Nobody takes the job before the lease of the dead has ended.
            let new = app.again().await;
            assert_eq!(Worker::new(new.app.clone(), EXPORT).step().await, Step::Idle);
            new.close().await;
            app.source.advance(61 * SECOND);
        }
        assert!(steps > 10, "{steps}");
        let manifest = app.call("GET", &job, &[], "").await.is(200).json();
        let found = files(app, &manifest, "output").await;
        assert_eq!(found.len(), 40, "on {}: {:?}", app.database, names(&found));
    })
    .await;
}

#[tokio::test]
async fn jobs_are_cancelled_and_expire() {
    on_both_with(small, async |app: &TestApp| {
        fill(app).await;
        let folder = |job: &str| app.app.settings.bulk.folder.join(job.rsplit('/').next().unwrap());
        // Cancelled while it runs.
        let job = begin(app, "$export?_type=Group,Patient").await;
        let mut worker = Worker::new(app.app.clone(), EXPORT);
        assert_eq!(worker.step().await, Step::Worked);
        assert!(folder(&job).is_dir());
        app.call("DELETE", &job, &[], "").await.is(202);
        app.call("GET", &job, &[], "").await.is(404);
        app.call("DELETE", &job, &[], "").await.is(404);
        while worker.step().await == Step::Worked {}
        assert!(!folder(&job).exists());
        // Removed when it is done, and expired.
        for expires in [false, true] {
            let job = begin(app, "$export?_type=Group,Patient").await;
            work(app, EXPORT).await;
            let manifest = app.call("GET", &job, &[], "").await.is(200).json();
            let file = below_base(manifest.list("output")[0].str_at(&["url"]).unwrap());
            app.get(&file).await.is(200);
            if expires {
                app.source.advance(24 * 3600 * SECOND);
            } else {
                app.call("DELETE", &job, &[], "").await.is(202);
            }
            app.get(&file).await.is(404);
            app.call("GET", &job, &[], "").await.is(404);
            work(app, EXPORT).await;
            assert!(!folder(&job).exists());
        }
    })
    .await;
}

#[tokio::test]
async fn too_many_jobs_and_too_many_questions_are_put_off() {
    on_both_with(
        |settings| settings.bulk.most = 2,
        async |app: &TestApp| {
            let first = begin(app, "$export").await;
            begin(app, "$export").await;
            let refused = app.call("GET", "/fhir/$export", &[ASYNC], "").await.is(429);
            assert!(refused.header("retry-after").is_some());
            assert_eq!(refused.json().list("issue")[0].str_at(&["code"]), Some("throttled"));
            app.call("POST", "/fhir/$import", &[ASYNC, NDJSON], "{}").await.is(429);

            app.call("GET", &first, &[], "").await.is(202);
            app.source.advance(-SECOND);
            let hasty = app.call("GET", &first, &[], "").await.is(429);
            assert!(hasty.header("retry-after").is_some());
            app.call("GET", &first, &[], "").await.is(202);

            work(app, EXPORT).await;
            begin(app, "$export").await;
        },
    )
    .await;
}

/// A group that is gone when its turn comes.
#[tokio::test]
async fn an_export_that_cannot_be_done_says_why() {
    on_both(async |app: &TestApp| {
        fill(app).await;
        let job = begin(app, "Group/g1/$export").await;
        app.call("DELETE", "/fhir/Group/g1", &[], "").await.is(204);
        work(app, EXPORT).await;
        let failed = app.call("GET", &job, &[], "").await.is(500).json();
        assert_eq!(failed.str_at(&["resourceType"]), Some("OperationOutcome"));
        assert!(failed.to_string().contains("Group"), "{failed}");
    })
    .await;
}

#[tokio::test]
async fn what_is_ignored_is_told() {
    on_both(async |app: &TestApp| {
        fill(app).await;
        app.call("GET", "/fhir/$export?_kind=x", &[STRICT], "").await.is(400);
        let (manifest, found) = export(app, "Patient/$export?_kind=x&_type=Patient,Location").await;
        assert_eq!(found.len(), 2);
        let notes = files(app, &manifest, "error").await;
        let text = format!("{notes:?}");
        assert!(
            notes.len() == 2 && text.contains("http._kind") && text.contains("Location"),
            "{text}"
        );
    })
    .await;
}
