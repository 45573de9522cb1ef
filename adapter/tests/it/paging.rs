//! Pages of searches: there and back, of several types, and within their limits.

use std::collections::BTreeSet;

use lumbar_fhir::Json;

use crate::app::{TestApp, below_base, link, on_both, on_both_with, reference};

fn observation(index: u32, note: &str) -> Json {
    let text = format!(
        r#"{{"resourceType":"Observation","id":"o{index:02}","status":"final","code":{{"text":"{note}"}},"effectiveDateTime":"2026-02-{:02}","subject":{{"reference":"Patient/p{}"}}}}"#,
        1 + index % 5,
        index % 3
    );
    Json::parse(text.as_bytes()).unwrap()
}

async fn fill(app: &TestApp, note: &str) {
    for index in 0..3 {
        let text = format!(r#"{{"resourceType":"Patient","id":"p{index}","active":true}}"#);
        app.put(&Json::parse(text.as_bytes()).unwrap()).await.is(201);
    }
    for index in 0..12 {
        app.put(&observation(index, note)).await.is(201);
    }
}

/// What a page holds, included resources among it.
fn entries(page: &Json) -> Vec<String> {
    let resource = |entry: &Json| reference(entry.get("resource").unwrap());
    page.list("entry").iter().map(resource).collect()
}

/// The pages that a relation leads to, the first one among them.
async fn walk(app: &TestApp, query: &str, relation: &str) -> Vec<Json> {
    let mut pages = vec![app.get(query).await.is(200).json()];
    while let Some(url) = link(pages.last().unwrap(), relation) {
        pages.push(app.get(&below_base(&url)).await.is(200).json());
        assert!(pages.len() < 50, "{query}: the pages do not end");
    }
    pages
}

#[tokio::test]
async fn the_way_back_is_the_way_there() {
    on_both(async |app: &TestApp| {
        fill(app, "x").await;
        for query in [
            "Observation?_count=5",
            "Observation?_count=3&_sort=-date",
            "Observation?_count=4&_sort=date,-_id&_total=accurate",
            "Observation?_count=5&patient=p1,p2&_sort=-_lastUpdated",
            "?_type=Patient,Observation&_count=4",
            "?_type=Patient,Observation&_count=4&_sort=-_lastUpdated",
            "?_count=6&_sort=_id",
            "Patient/p1/*?_count=2&_sort=_id",
        ] {
            let there = walk(app, query, "next").await;
            let all: Vec<String> = there.iter().flat_map(entries).collect();
            let once: BTreeSet<&String> = all.iter().collect();
            assert_eq!(once.len(), all.len(), "{query}: {all:?}");
            let (head, tail) = query.split_once("_count=").unwrap();
            let whole = app.get(&format!("{head}_count=20{}", &tail[1..])).await.is(200).json();
            let whole = entries(&whole);
            assert_eq!(all, whole, "{query}");
            let last = there.last().unwrap();
            let mut back = entries(last);
            let mut page = last.clone();
            while let Some(url) = link(&page, "previous") {
                page = app.get(&below_base(&url)).await.is(200).json();
                let mut before = entries(&page);
                before.extend(back);
                back = before;
                let first = link(&page, "first").expect("a first link");
                assert_eq!(entries(&app.get(&below_base(&first)).await.json()), entries(&there[0]));
            }
            assert_eq!(back, all, "{query}");
            if query.contains("_total") {
                assert!(
                    there.iter().all(|page| page.get("total").and_then(Json::as_i64) == Some(12))
                );
            }
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_ends_before_it_is_too_large() {
    let change = |settings: &mut lumbar::config::Settings| {
        settings.policy.limits.response_bytes = 16_000;
        settings.policy.limits.included = 2;
    };
    on_both_with(change, async |app: &TestApp| {
        fill(app, &"long ".repeat(400)).await;
        for query in ["Observation?_count=12", "Observation?_count=12&_sort=-date", "?_count=20"] {
            let pages = walk(app, query, "next").await;
            assert!(pages.len() > 1, "{query}: one page");
            let all: Vec<String> = pages.iter().flat_map(entries).collect();
            let observations: BTreeSet<_> =
                all.iter().filter(|name| name.starts_with("Observation")).collect();
            assert_eq!(observations.len(), 12, "{query}: {all:?}");
            let once: BTreeSet<_> = all.iter().collect();
            assert_eq!(once.len(), all.len(), "{query}: {all:?}");
            for page in &pages {
                assert!(page.to_string().len() < 17_000, "{query}");
            }
        }
        for query in [
            "Observation?_count=4&_elements=code&_include=Observation:subject",
            "Patient?_id=p1&_revinclude=Observation:subject",
        ] {
            let refused = app.get(query).await.is(400).json();
            let issue = &refused.list("issue")[0];
            assert_eq!(issue.str_at(&["code"]), Some("too-costly"), "{query}: {issue}");
        }
        let page = app.get("Observation?_count=2&_include=Observation:subject").await.is(200);
        assert_eq!(entries(&page.json()).len(), 4);
    })
    .await;
}

#[tokio::test]
async fn a_cursor_holds_for_its_own_search_only() {
    on_both(async |app: &TestApp| {
        fill(app, "x").await;
        let page = app.get("Observation?_count=2&_sort=date").await.is(200).json();
        let next = below_base(&link(&page, "next").unwrap());
        app.get(&next).await.is(200);
        let (head, last) = next.split_at(next.len() - 1);
        let forged = format!("{head}{}", if last == "0" { "1" } else { "0" });
        for bad in [
            forged,
            next.replace("_sort=date", "_sort=-date"),
            next.replace("Observation?", "Patient?").replace("_sort=date&", ""),
        ] {
            let refused = app.get(&bad).await.is(400).json();
            let issue = &refused.list("issue")[0];
            assert_eq!(issue.list("expression")[0].as_str(), Some("http._cursor"), "{issue}");
        }
    })
    .await;
}

/// A container may have more matches than a page: none is lost or given twice, either way.
#[tokio::test]
async fn contained_resources_are_paged_whole() {
    let change = |settings: &mut lumbar::config::Settings| {
        settings.policy.validation = lumbar::config::Validation::Off;
    };
    on_both_with(change, async |app: &TestApp| {
        let sizes = [0, 1, 5, 2, 0, 3, 12, 1, 1, 4];
        for (number, size) in sizes.into_iter().enumerate() {
            let inner = |place: usize| {
                let gender = if place % 4 == 3 { "male" } else { "female" };
                format!(r#"{{"resourceType":"Patient","id":"i{place}","gender":"{gender}"}}"#)
            };
            let inner: Vec<String> = (0..size).map(inner).collect();
            let (of, code) = match number % 3 {
                0 => ("Basic", r#""code":{"text":"x"}"#),
                1 => ("List", r#""status":"current","mode":"working""#),
                _ => ("Patient", r#""gender":"female""#),
            };
            let contained = match inner.is_empty() {
                true => String::new(),
                false => format!(r#","contained":[{}]"#, inner.join(",")),
            };
            let text = format!(r#"{{"resourceType":"{of}","id":"r{number}",{code}{contained}}}"#);
            app.put(&Json::parse(text.as_bytes()).unwrap()).await.is(201);
        }
        let urls = |page: &Json| -> Vec<String> {
            let url = |entry: &Json| entry.str_at(&["fullUrl"]).unwrap().to_owned();
            page.list("entry").iter().map(url).collect()
        };
        for (query, total) in [
            ("Patient?_contained=true", 29),
            ("Patient?_contained=both", 32),
            ("Patient?_contained=true&gender=female", 24),
            ("Patient?_contained=both&gender=male&_sort=-_lastUpdated", 5),
            ("Patient?_contained=both&_sort=_id", 32),
            ("Patient?_contained=true&_sort=-_id&_total=accurate", 29),
        ] {
            let query = format!("{query}&_containedType=contained");
            let whole = urls(&app.get(&format!("{query}&_count=100")).await.is(200).json());
            assert_eq!(whole.len(), total, "{query}");
            for count in [1, 2, 5] {
                let query = format!("{query}&_count={count}");
                let there = walk(app, &query, "next").await;
                let all: Vec<String> = there.iter().flat_map(urls).collect();
                assert_eq!(all, whole, "{query} on {}", app.database);
                assert!(there.iter().all(|page| urls(page).len() <= count), "{query}");
                let mut page = there.last().unwrap().clone();
                let mut back = urls(&page);
                while let Some(url) = link(&page, "previous") {
                    page = app.get(&below_base(&url)).await.is(200).json();
                    assert!(urls(&page).len() <= count, "{query}");
                    let mut before = urls(&page);
                    let again = link(&page, "next").expect("a way on");
                    let again = urls(&app.get(&below_base(&again)).await.is(200).json());
                    assert_eq!(back[..again.len()], again, "{query} on {}", app.database);
                    before.extend(back);
                    back = before;
                }
                assert_eq!(back, whole, "{query} on {}", app.database);
                if query.contains("_total") {
                    let total = i64::try_from(total).unwrap();
                    let totals = there.iter().map(|page| page.get("total")?.as_i64());
                    assert!(totals.clone().all(|one| one == Some(total)), "{query}");
                }
            }
            let counted = app.get(&format!("{query}&_summary=count")).await.is(200).json();
            assert_eq!(counted.get("total").and_then(Json::as_i64), i64::try_from(total).ok());
        }
    })
    .await;
}
