//! Folders of HTTP conversations: `fixtures/http/<area>/<case>.http`; README.md there tells the form.

use clap::Parser;
use lumbar::config::Options;
use lumbar_fhir::Json;
use lumbar_testkit::{Case, check, fixtures};

use crate::app::{Reply, TestApp, below_base, link, on_both, on_both_with};

/// One request and what is expected of its answer.
#[derive(Default)]
struct Step {
    line: usize,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
    status: u16,
    expected_headers: Vec<(String, String)>,
    expected: Expected,
}

#[derive(Default)]
enum Expected {
    #[default]
    Anything,
    Nothing,
    Like(Json),
    Text(String),
}

/// Reads the steps and the options of the service, which lines that begin with `@ ` give.
fn parse(text: &str) -> Result<(Vec<Step>, Vec<String>), String> {
    let mut steps: Vec<Step> = Vec::new();
    let mut options = Vec::new();
    let mut answering = true;
    let mut pattern = String::new();
    let finish = |steps: &mut Vec<Step>, pattern: &mut String| {
        let Some(step) = steps.last_mut() else { return Ok(()) };
        let text = pattern.trim();
        if !text.is_empty() && !text.starts_with(['{', '[']) {
            step.expected = Expected::Text(text.to_owned());
        } else if !text.is_empty() {
            let json = Json::parse(pattern.as_bytes());
            step.expected =
                Expected::Like(json.map_err(|e| format!("step at line {}: {e}", step.line))?);
        }
        pattern.clear();
        Ok::<(), String>(())
    };
    for (index, line) in text.lines().enumerate() {
        let fault = |what: &str| format!("line {}: {what}", index + 1);
        if line.starts_with("# ") {
            continue;
        }
        if let Some(rest) = line.strip_prefix("@ ") {
            options.extend(rest.split_whitespace().map(str::to_owned));
            continue;
        }
        if let Some(rest) = line.strip_prefix("> ") {
            if answering {
                finish(&mut steps, &mut pattern)?;
                let (method, path) = rest.split_once(' ').ok_or_else(|| fault("no path"))?;
                steps.push(Step {
                    line: index + 1,
                    method: method.into(),
                    path: path.into(),
                    ..Step::default()
                });
                answering = false;
            } else {
                let (name, value) = rest.split_once(": ").ok_or_else(|| fault("no header"))?;
                let step = steps.last_mut().ok_or_else(|| fault("no request"))?;
                step.headers.push((name.into(), value.into()));
            }
            continue;
        }
        if let Some(rest) = line.strip_prefix("< ") {
            let step = steps.last_mut().ok_or_else(|| fault("no request"))?;
            if !answering {
                step.status = rest.parse().map_err(|_| fault("no status"))?;
                answering = true;
            } else if rest == "no body" {
                step.expected = Expected::Nothing;
            } else {
                let (name, value) = rest.split_once(": ").ok_or_else(|| fault("no header"))?;
                step.expected_headers.push((name.into(), value.into()));
            }
            continue;
        }
        let part = match (answering, steps.last_mut()) {
            (false, Some(step)) => &mut step.body,
            _ => &mut pattern,
        };
        part.push_str(line);
        part.push('\n');
    }
    finish(&mut steps, &mut pattern)?;
    match steps.iter().find(|step| step.status == 0) {
        Some(step) => Err(format!("line {}: the request expects no status", step.line)),
        None if steps.is_empty() => Err("no request".to_owned()),
        None => Ok((steps, options)),
    }
}

/// Says where `actual` is not like `pattern`: members that the pattern does not name are free,
/// arrays have as many items, a text that ends with `*` matches its beginning, and the text
/// `(absent)` a member that is not there.
pub fn unlike(pattern: &Json, actual: &Json, path: &str, out: &mut Vec<String>) {
    match (pattern, actual) {
        (Json::String(text), _) if text == "*" => {}
        (Json::String(text), Json::String(actual)) if text.ends_with('*') => {
            if !actual.starts_with(text.trim_end_matches('*')) {
                out.push(format!("{path}: expected {text}, found {actual}"));
            }
        }
        (Json::Object(members), Json::Object(actual)) => {
            for (name, pattern) in members.iter() {
                let path = format!("{path}.{name}");
                match (pattern.as_str(), actual.get(name)) {
                    (Some("(absent)"), None) => {}
                    (Some("(absent)"), Some(found)) => {
                        out.push(format!("{path}: expected none, found {found}"))
                    }
                    (_, None) => out.push(format!("{path}: is missing")),
                    (_, Some(found)) => unlike(pattern, found, &path, out),
                }
            }
        }
        (Json::Array(items), Json::Array(actual)) => {
            if items.len() != actual.len() {
                out.push(format!("{path}: expected {} items, found {}", items.len(), actual.len()));
            }
            for (index, (pattern, actual)) in items.iter().zip(actual).enumerate() {
                unlike(pattern, actual, &format!("{path}[{index}]"), out);
            }
        }
        (pattern, actual) if pattern == actual => {}
        _ => out.push(format!("{path}: expected {pattern}, found {actual}")),
    }
}

fn complaints(step: &Step, reply: &Reply) -> Vec<String> {
    let mut out = Vec::new();
    if reply.status != step.status {
        out.push(format!("expected status {}, found {}", step.status, reply.status));
    }
    for (name, value) in &step.expected_headers {
        match (value.as_str(), reply.header(name)) {
            ("(absent)", None) | ("*", Some(_)) => {}
            (expected, found) if Some(expected) == found => {}
            (_, found) => out.push(format!("header {name}: expected {value}, found {found:?}")),
        }
    }
    match &step.expected {
        Expected::Anything => {}
        Expected::Nothing if reply.text.is_empty() => {}
        Expected::Nothing => out.push("expected no body".to_owned()),
        Expected::Like(pattern) => match Json::parse(reply.text.as_bytes()) {
            Ok(actual) => unlike(pattern, &actual, "$", &mut out),
            Err(error) => out.push(format!("the body is not JSON: {error}")),
        },
        Expected::Text(text) => {
            let is_like = match text.strip_suffix('*') {
                Some(beginning) => reply.text.starts_with(beginning),
                None => reply.text == *text,
            };
            if !is_like {
                out.push(format!("expected the text {text}"));
            }
        }
    }
    out
}

/// The options of the service as a conversation gives them.
#[derive(clap::Parser)]
struct Serve {
    #[command(flatten)]
    options: Options,
}

/// Runs a conversation on both databases; it goes on after a step that fails.
fn run(case: &Case) -> Result<(), String> {
    let (steps, options) = parse(&case.read("http").ok_or("no .http file")?)?;
    let arguments = std::iter::once("serve").chain(options.iter().map(String::as_str));
    let given = Serve::try_parse_from(arguments).map_err(|error| error.to_string())?;
    let policy = given.options.settle().map_err(|error| error.to_string())?.policy;
    let failed = std::cell::RefCell::new(String::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(on_both_with(
        |settings| settings.policy = policy.clone(),
        async |app: &TestApp| {
            for step in &steps {
                let headers: Vec<(&str, &str)> = step
                    .headers
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str()))
                    .collect();
                let reply = app.call(&step.method, &step.path, &headers, step.body.trim()).await;
                let complaints = complaints(step, &reply);
                if !complaints.is_empty() {
                    let text = format!(
                        "\n  {}, line {}, {} {}:\n    {}\n    the answer: {} {}",
                        app.database,
                        step.line,
                        step.method,
                        step.path,
                        complaints.join("\n    "),
                        reply.status,
                        reply.text.chars().take(1500).collect::<String>(),
                    );
                    failed.borrow_mut().push_str(&text);
                }
            }
        },
    ));
    let failed = failed.into_inner();
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}

macro_rules! areas {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { check(&fixtures().join("http").join(stringify!($name)), run); })*

        #[test]
        fn every_folder_is_an_area() {
            let areas = [$(stringify!($name)),*];
            for entry in std::fs::read_dir(fixtures().join("http")).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                assert!(!path.is_dir() || areas.contains(&name.as_str()), "no test runs {}", path.display());
            }
        }
    };
}

areas!(
    batch,
    binary,
    bulk,
    conditional,
    create,
    delete,
    extract,
    fhirpath,
    history,
    integrity,
    negotiation,
    patch,
    paging,
    prefer,
    questionnaire_operations,
    read,
    red_flags,
    scores,
    search,
    subscription,
    search_parameter,
    stratify,
    summary,
    terminology,
    transaction,
    update,
    validate,
    xml,
);

/// Every page of a search, each resource once, whatever the order and the size of a page.
#[tokio::test]
async fn pages_come_to_an_end_without_duplicates() {
    on_both(async |app: &TestApp| {
        for index in 0..23 {
            let text = format!(
                r#"{{"resourceType":"Observation","id":"o{index}","status":"final","code":{{"text":"x"}},"effectiveDateTime":"2026-02-{:02}"}}"#,
                1 + index % 7
            );
            app.put(&Json::parse(text.as_bytes()).unwrap()).await.is(201);
        }
        for (count, sort) in [(1, ""), (5, ""), (5, "&_sort=date"), (7, "&_sort=-date"), (23, ""), (50, ""), (4, "&_sort=-_lastUpdated"), (3, "&_sort=status,-_id")] {
            let first = format!("Observation?status=final&_count={count}{sort}");
            let mut seen = Vec::new();
            let mut pages = 0;
            let mut next = Some(first.clone());
            while let Some(query) = next {
                let page = app.get(&query).await.is(200).json();
                let ids: Vec<String> = page
                    .list("entry")
                    .iter()
                    .map(|entry| entry.str_at(&["resource", "id"]).unwrap().to_owned())
                    .collect();
                assert!(ids.len() <= count, "{first}: a page of {}", ids.len());
                seen.extend(ids);
                pages += 1;
                assert!(pages <= 24, "{first}: the pages do not end");
                let own = link(&page, "self").expect("a self link");
                assert!(own.contains("status=final"), "{own}");
                next = link(&page, "next").map(|url| below_base(&url));
            }
            let mut once = seen.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!((seen.len(), once.len()), (23, 23), "{first}: {seen:?}");
            assert_eq!(pages, 23_usize.div_ceil(count), "{first}");
            if sort == "&_sort=date" || sort == "&_sort=-date" {
                let mut dates = Vec::new();
                for id in &seen {
                    let text = app.get(&format!("Observation/{id}")).await.json();
                    dates.push(text.str_at(&["effectiveDateTime"]).unwrap().to_owned());
                }
                let mut sorted = dates.clone();
                sorted.sort_unstable();
                if sort == "&_sort=-date" {
                    sorted.reverse();
                }
                assert_eq!(dates, sorted, "{first}");
            }
        }
    })
    .await;
}

/// A page that was begun stays whole while others write: nothing twice, nothing old left out.
#[tokio::test]
async fn pages_hold_while_others_write() {
    on_both(async |app: &TestApp| {
        let basic = |id: String| {
            Json::parse(
                format!(r#"{{"resourceType":"Basic","id":"{id}","code":{{"text":"x"}}}}"#)
                    .as_bytes(),
            )
            .unwrap()
        };
        for index in 0..9 {
            app.put(&basic(format!("b{index}"))).await.is(201);
        }
        let mut seen = Vec::new();
        let mut next = Some("Basic?_count=2".to_owned());
        let mut round = 0;
        while let Some(query) = next {
            let page = app.get(&query).await.is(200).json();
            seen.extend(
                page.list("entry")
                    .iter()
                    .map(|e| e.str_at(&["resource", "id"]).unwrap().to_owned()),
            );
            next = link(&page, "next").map(|url| below_base(&url));
            if round < 3 {
                app.put(&basic(format!("a{round}"))).await.is(201);
                app.put(&basic(format!("c{round}"))).await.is(201);
            }
            round += 1;
        }
        for index in 0..9 {
            let id = format!("b{index}");
            assert_eq!(seen.iter().filter(|seen| **seen == id).count(), 1, "{id} in {seen:?}");
        }
    })
    .await;
}
