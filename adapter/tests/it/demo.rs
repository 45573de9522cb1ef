//! `serve --demo`: the whole way, once.

use std::collections::BTreeMap;

use lumbar_fhir::Json;
use tempfile::TempDir;

use crate::app::link;
use crate::program::{Program, client, database};

/// Reads the walk's lines to its end; gives the number of bookings.
fn bookings(program: &mut Program) -> usize {
    let mut number = None;
    loop {
        let line = program.line();
        if let Some(rest) = line.trim_start().strip_prefix("Bookings") {
            number = rest.split_whitespace().next().and_then(|word| word.parse().ok());
        }
        if line.starts_with("Look at ") {
            return number.unwrap_or_else(|| panic!("no bookings: {:#?}", program.said));
        }
    }
}

/// Version of each resource, by its reference.
async fn versions(root: &str) -> BTreeMap<String, String> {
    let client = client();
    let mut all = BTreeMap::new();
    for of in [
        "Appointment",
        "Condition",
        "Encounter",
        "Observation",
        "Organization",
        "Patient",
        "PlanDefinition",
        "Practitioner",
        "Provenance",
        "Questionnaire",
        "QuestionnaireResponse",
        "ServiceRequest",
        "Slot",
        "Task",
        "ValueSet",
    ] {
        let mut next = Some(format!("{root}/fhir/{of}?_count=500"));
        while let Some(url) = next {
            let page = client.get(url).send().await.unwrap().bytes().await.unwrap();
            let page = Json::parse(&page).unwrap();
            for entry in page.list("entry") {
                let resource = entry.get("resource").unwrap();
                let text = |path: &[&str]| resource.str_at(path).unwrap().to_owned();
                all.insert(format!("{of}/{}", text(&["id"])), text(&["meta", "versionId"]));
            }
            next = link(&page, "next");
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demonstration_books_and_a_second_start_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    // The base URL is the same for both starts, as on a fixed port.
    let more = ["--demo", "--base-url", "http://lumbar.test/fhir"];
    let mut first = Program::serve(&database(&folder), &more, "info", &log);
    let booked = bookings(&mut first);
    assert!(booked > 0, "no bookings: {:#?}\n{}", first.said, first.log());
    let page = client().get(format!("{}/", first.root)).send().await.unwrap().text().await.unwrap();
    assert!(
        page.contains("<svg") && page.contains("class=\"risk "),
        "the start page shows no result:\n{page}"
    );
    let before = versions(&first.root).await;
    assert!(before.keys().filter(|name| name.starts_with("Appointment/")).count() >= booked);
    first.terminate();
    assert_eq!(first.end().code(), Some(0));

    let mut second = Program::serve(&database(&folder), &more, "info", &log);
    assert_eq!(bookings(&mut second), booked);
    let after = versions(&second.root).await;
    let changed: Vec<_> =
        after.iter().filter(|(name, version)| before.get(*name) != Some(version)).collect();
    assert!(changed.is_empty(), "the second start wrote {changed:?}");
    assert_eq!(before.len(), after.len());
    second.terminate();
    assert_eq!(second.end().code(), Some(0));
}

/// Who stops the demonstration in the middle of its walk need not ask twice.
#[test]
fn the_walk_can_be_stopped() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    let mut program = Program::serve(&database(&folder), &["--demo"], "info", &log);
    program.line();
    program.terminate();
    assert_eq!(program.end().code(), Some(0));
}
