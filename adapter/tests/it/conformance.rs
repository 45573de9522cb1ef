//! Public conformance data, where the reference data is there: searches with the sets they must
//! find.

use std::collections::BTreeMap;
use std::fmt::Write;

use lumbar_fhir::Json;
use lumbar_fhir::rest::encode_pairs;
use lumbar_testkit::shared;

use crate::app::{BASE, TestApp, below_base, link, on_both, read_json, reference};

/// Searches that are known to differ: case and reason, one a line, sorted. The list may only
/// shrink: a case that is in it and is right fails the test, too.
const EXCLUSIONS: &str = include_str!("search-exclusions.tsv");

fn exclusions() -> BTreeMap<&'static str, &'static str> {
    let lines: Vec<&str> = EXCLUSIONS.lines().collect();
    assert!(lines.is_sorted(), "search-exclusions.tsv is not sorted");
    let pairs = lines.iter().map(|line| line.split_once('\t').expect("case, tab, reason"));
    pairs.collect()
}

/// `Type?name=value&…`, not percent-encoded, as a request.
fn encoded(search: &str) -> String {
    let search = search.replace("{BASE}", BASE);
    let (of, query) = search.split_once('?').unwrap_or((&search, ""));
    let pairs: Vec<(String, String)> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    format!("{of}?{}", encode_pairs(&pairs))
}

/// The matches and what was included, in order, over all pages.
async fn found(app: &TestApp, query: &str) -> Result<(Vec<String>, Vec<String>), String> {
    let (mut matches, mut included) = (Vec::new(), Vec::new());
    let strict = [("prefer", "handling=strict")];
    let mut next = Some(query.to_owned());
    while let Some(query) = next {
        let reply = app.call("GET", &format!("/fhir/{query}"), &strict, "").await;
        if reply.status != 200 {
            return Err(format!("{} {}", reply.status, reply.text));
        }
        let page = reply.json();
        for entry in page.list("entry") {
            let resource = reference(entry.get("resource").unwrap());
            match entry.str_at(&["search", "mode"]) {
                Some("match") => matches.push(resource),
                Some("include") => included.push(resource),
                other => return Err(format!("mode {other:?} of {resource}")),
            }
        }
        next = link(&page, "next").map(|url| below_base(&url));
    }
    Ok((matches, included))
}

fn names(case: &Json, member: &str) -> Vec<String> {
    case.list(member).iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// A value of a sort key as something that can be compared: a number, the start of a period, or text.
fn sortable(value: &Json) -> (f64, f64, String) {
    match value {
        Json::Array(bounds) => {
            let bound = |index: usize| bounds[index].as_number().unwrap().parse().unwrap();
            (bound(0), bound(1), String::new())
        }
        Json::Number(_) => {
            let number = value.as_number().unwrap().parse().unwrap();
            (number, number, String::new())
        }
        text => (0.0, 0.0, text.as_str().unwrap().to_owned()),
    }
}

/// Whether `a` may stand before `b`. A period may be sorted by its start or by its end, which R4
/// leaves open.
fn in_order(sort: &[String], a: &Json, b: &Json) -> bool {
    let by = |bound: fn(&(f64, f64, String)) -> (f64, String)| {
        for (index, name) in sort.iter().enumerate() {
            let descending = name.starts_with('-');
            // Of several values the least counts when ascending, the greatest when descending.
            let key = |keys: &Json| {
                let values = keys.as_array()?.get(index)?.as_array()?;
                let values = values.iter().map(|value| bound(&sortable(value)));
                let order = |x: &(f64, String), y: &(f64, String)| x.partial_cmp(y).unwrap();
                if descending { values.max_by(order) } else { values.min_by(order) }
            };
            let (Some(a), Some(b)) = (key(a), key(b)) else { return true };
            if a != b {
                return if descending { a > b } else { a < b };
            }
        }
        true
    };
    by(|(start, _, text)| (*start, text.clone())) || by(|(_, end, text)| (*end, text.clone()))
}

/// What is wrong with the answer to a case.
async fn fault(app: &TestApp, case: &Json) -> Option<String> {
    let search = case.str_at(&["search"]).unwrap();
    let (matches, mut included) = match found(app, &encoded(search)).await {
        Ok(found) => found,
        Err(refused) => return Some(refused),
    };
    let (expected, allowed) = (names(case, "expect"), names(case, "allowed_too"));
    let missing: Vec<_> = expected.iter().filter(|name| !matches.contains(name)).collect();
    let more: Vec<_> =
        matches.iter().filter(|name| !expected.contains(name) && !allowed.contains(name)).collect();
    let mut once = matches.clone();
    once.sort_unstable();
    once.dedup();
    let mut out = String::new();
    if !missing.is_empty() || !more.is_empty() {
        let _ = write!(out, "missing {missing:?}, too many {more:?}");
    }
    if once.len() != matches.len() {
        let _ = write!(out, " something is there twice: {matches:?}");
    }
    let mut expected = names(case, "expect_included");
    expected.sort_unstable();
    included.sort_unstable();
    if case.get("expect_included").is_some() && expected != included {
        let _ = write!(out, " included {included:?}, expected {expected:?}");
    }
    if let Some(keys) = case.get("sort_keys") {
        let sort = match case.get("sort").unwrap() {
            Json::Array(_) => names(case, "sort"),
            text => text.as_str().unwrap().split(',').map(str::to_owned).collect(),
        };
        for pair in matches.windows(2) {
            if let (Some(a), Some(b)) = (keys.get(&pair[0]), keys.get(&pair[1]))
                && !in_order(&sort, a, b)
            {
                let _ = write!(out, " {} stands before {}", pair[0], pair[1]);
            }
        }
    }
    (!out.is_empty()).then_some(out)
}

#[tokio::test]
async fn searches_find_what_they_must() {
    let Some(shared) = shared() else { return };
    let folder = shared.join("conformance/search-set");
    let bundle = read_json(&folder.join("resources.json"));
    let searches = read_json(&folder.join("searches.json"));
    let cases = searches.list("cases");
    let excluded = exclusions();
    on_both(async |app: &TestApp| {
        app.post("", &bundle).await.is(200);
        let mut wrong = Vec::new();
        let mut right = 0;
        for case in cases {
            let id = case.str_at(&["id"]).unwrap();
            let optional = case.get("optional").and_then(Json::as_bool) == Some(true);
            match (fault(app, case).await, excluded.get(id)) {
                (None, None) => right += 1,
                (None, Some(_)) => {
                    wrong.push(format!("{id} is right: take it out of search-exclusions.tsv"))
                }
                (Some(_), Some(_)) => {}
                (Some(_), None) if optional => {}
                (Some(fault), None) => wrong.push(format!(
                    "{id} {}\n    {}\n    {}",
                    case.str_at(&["search"]).unwrap(),
                    case.str_at(&["why"]).unwrap(),
                    fault.chars().take(600).collect::<String>()
                )),
            }
        }
        println!(
            "{right} of {} searches are right on {}, {} excluded",
            cases.len(),
            app.database,
            excluded.len()
        );
        assert!(wrong.is_empty(), "on {}:\n{}", app.database, wrong.join("\n"));
    })
    .await;
}
