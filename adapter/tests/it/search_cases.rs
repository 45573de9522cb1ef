//! `fixtures/search`: what searches find, over HTTP and on both databases.

use lumbar::config::Validation;
use lumbar_fhir::Json;
use lumbar_fhir::rest::encode_pairs;
use lumbar_testkit::{cases, fixtures};

use crate::app::{TestApp, on_both_with, read_json, reference};

/// What a search finds, or the code and text of the first issue.
async fn ask(app: &TestApp, search: &str) -> String {
    let (of, query) = search.split_once('?').unwrap();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let pairs: Vec<(String, String)> =
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let path = format!("/fhir/{of}?{}", encode_pairs(&pairs));
    let reply = app.call("GET", &path, &[("prefer", "handling=strict")], "").await;
    let body = reply.json();
    if reply.status != 200 {
        let issue = &body.list("issue")[0];
        let text = issue.str_at(&["diagnostics"]).or_else(|| issue.str_at(&["details", "text"]));
        let name = issue.list("expression").first().and_then(Json::as_str).unwrap_or_default();
        assert!((400..500).contains(&reply.status), "{search}: {}", reply.text);
        assert!(name.starts_with("http."), "{search}: {}", reply.text);
        return format!("! {} {}", issue.str_at(&["code"]).unwrap(), text.unwrap());
    }
    let mut found: Vec<String> =
        body.list("entry").iter().map(|entry| reference(entry.get("resource").unwrap())).collect();
    found.sort();
    if found.is_empty() { "-".to_owned() } else { found.join(" ") }
}

fn is_expected(answer: &str, expected: &str) -> bool {
    let Some(refused) = expected.strip_prefix("! ") else { return answer == expected };
    let (code, part) = refused.split_once(' ').unwrap_or((refused, ""));
    let begin = format!("! {code} ");
    answer.strip_prefix(&begin).is_some_and(|text| text.contains(part))
}

#[tokio::test]
async fn the_searches_of_each_type_find_what_they_must() {
    for case in cases(&fixtures().join("search")) {
        let name = case.name();
        let resources = read_json(&case.path("resources.json"));
        let searches = case.read("searches.tsv").unwrap();
        on_both_with(
            |settings| settings.policy.validation = Validation::Off,
            async |app: &TestApp| {
                for resource in resources.as_array().unwrap() {
                    app.put(resource).await.is(201);
                }
                let mut wrong = Vec::new();
                for line in searches.lines().filter(|line| !line.starts_with("# ")) {
                    let (search, expected) = line.split_once('\t').unwrap();
                    let answer = ask(app, search).await;
                    if !is_expected(&answer, expected) {
                        wrong.push(format!(
                            "{search}\n    expected {expected}\n    found    {answer}"
                        ));
                    }
                }
                assert!(wrong.is_empty(), "{name} on {}:\n{}", app.database, wrong.join("\n"));
            },
        )
        .await;
    }
}
