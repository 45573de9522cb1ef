//! Workloads against the running service, each beside its limit measured in the same run.
//!
//! `cargo bench -p lumbar` on SQLite; a word after `--` measures only the workloads whose names
//! hold it; with `LUMBAR_BENCH_POSTGRES=URL` (an empty database) on
//! PostgreSQL, too. The program, the service and the client share the machine, so only the ratios
//! of one run mean anything.
#![expect(clippy::unwrap_used, reason = "a bench that cannot run must fail")]
#![expect(clippy::expect_used, reason = "a bench that cannot run must fail")]

mod client;
mod emis;
mod limit;
mod process;
mod validation;

use std::sync::Arc;
use std::time::Duration;

use lumbar::app::App;
use lumbar::config::Options;
use lumbar::facade::Machine;
use lumbar::{http, serve};
use tokio::net::TcpListener;

use client::{Load, Measured};

/// How long each measurement lasts.
const LENGTH: Duration = Duration::from_secs(3);

fn main() {
    // `cargo test` runs benches with this argument off; only `cargo bench` measures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bench.db");
    runtime.block_on(async {
        measure("sqlite", &format!("sqlite:{}", file.display())).await;
        if let Ok(url) = std::env::var("LUMBAR_BENCH_POSTGRES") {
            measure("postgres", &url).await;
        }
        if wanted("EMIS") {
            emis::measure(folder.path()).await;
        }
        if wanted("validation") {
            validation::measure(folder.path()).await;
        }
    });
    if wanted("program") {
        process::measure(folder.path());
    }
}

/// Whether a workload is wanted.
fn wanted(name: &str) -> bool {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
}

async fn measure(name: &str, database: &str) {
    let address = serve_at(database).await;
    println!("\n== {name} ==");
    println!(
        "{:44} {:>5} {:>9} {:>8} {:>8}  limit",
        "workload", "tasks", "a second", "p50 ms", "p99 ms"
    );

    if wanted("read") {
        let created = client::post(address, "/fhir/Patient", &patient(0)).await;
        let path = format!("/fhir/Patient/{}", client::id_of(&created.body));
        let bare = limit::bare_handler(&client::get(address, &path).await).await;
        for tasks in [1, 8, 64] {
            let limit = Load::repeat(bare, client::get_request(bare, "/")).run(tasks, LENGTH).await;
            let read = client::get_request(address, &path);
            let measured = Load::repeat(address, read).run(tasks, LENGTH).await;
            row("read a Patient", tasks, &measured, ("bare axum handler", &limit));
        }
    }
    for (name, path, rows, make) in [
        ("create a Patient", "/fhir/Patient", 1, patient as fn(u64) -> String),
        ("create a response, scored (5 resources)", "/fhir/QuestionnaireResponse", 5, response),
    ] {
        for tasks in [1, 8, 64] {
            if wanted(name) {
                let limit = limit::inserts(tasks, LENGTH, &make(1), rows).await;
                let load =
                    Load::new(address, move |n| client::post_request(address, path, &make(n)));
                let measured = load.run(tasks, LENGTH).await;
                row(name, tasks, &measured, ("bare batched inserts", &limit));
            }
        }
    }
    if wanted("extract") {
        let created = client::post(address, "/fhir/QuestionnaireResponse", &response(0)).await;
        let path = format!("/fhir/QuestionnaireResponse/{}/$extract", client::id_of(&created.body));
        let size = client::get(address, &path).await.len();
        let text = "x".repeat(size.saturating_sub(250));
        let basic = format!(r#"{{"resourceType":"Basic","code":{{"text":"{text}"}}}}"#);
        let basic = client::post(address, "/fhir/Basic", &basic).await;
        let same = format!("/fhir/Basic/{}", client::id_of(&basic.body));
        for tasks in [1, 8, 64] {
            let read = client::get_request(address, &same);
            let limit = Load::repeat(address, read).run(tasks, LENGTH).await;
            let extract = client::get_request(address, &path);
            let measured = Load::repeat(address, extract).run(tasks, LENGTH).await;
            row("$extract of scores", tasks, &measured, ("a read of the same size", &limit));
        }
    }
    if wanted("search") {
        let fill = Load::new(address, move |number| {
            client::post_request(address, "/fhir/Observation", &observation(number))
        });
        fill.run(64, LENGTH).await;
        let path =
            "/fhir/Observation?subject=Patient/p7&code=http://loinc.org%7C91351-7&_sort=-date";
        let bare = limit::bare_handler(&client::get(address, path).await).await;
        for tasks in [1, 8, 64] {
            let limit = Load::repeat(bare, client::get_request(bare, "/")).run(tasks, LENGTH).await;
            let search = client::get_request(address, path);
            let measured = Load::repeat(address, search).run(tasks, LENGTH).await;
            row("search a patient's scores", tasks, &measured, ("bare axum handler", &limit));
        }
    }
    for tasks in [1, 8, 64] {
        if wanted("transaction") {
            let make =
                move |number: u64| client::post_request(address, "/fhir", &transaction(number));
            let measured = Load::new(address, make).run(tasks, LENGTH).await;
            let limit = limit::inserts(tasks, LENGTH, &observation(1), 10).await;
            row("transaction of ten creates", tasks, &measured, ("bare batched inserts", &limit));
        }
    }
}

/// Serves a fresh App on a free port.
async fn serve_at(database: &str) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let options = Options {
        listen: Some(address),
        base_url: Some(format!("http://{address}/fhir")),
        ..Options::default()
    };
    let settings = options.settle().expect("default options");
    let (definitions, rules) = serve::definitions(&settings.profiles).unwrap();
    let store = serve::open(database).await.unwrap();
    let app = Arc::new(App::new(settings, &store, definitions, rules, Arc::new(Machine)));
    app.serve_artefacts().await.unwrap();
    let router = http::router(app);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn row(name: &str, tasks: usize, measured: &Measured, (bound, limit): (&str, &Measured)) {
    let ratio = measured.per_second / limit.per_second;
    println!(
        "{name:44} {tasks:5} {:9.0} {:8.2} {:8.2}  {ratio:.2} of {bound} ({:.0})",
        measured.per_second, measured.p50_ms, measured.p99_ms, limit.per_second
    );
}

fn patient(number: u64) -> String {
    format!(
        r#"{{"resourceType":"Patient","identifier":[{{"system":"https://example.org/patient","value":"{number}"}}],"active":true,"name":[{{"use":"official","family":"Calloway{}","given":["Imogen","May"]}}],"telecom":[{{"system":"phone","value":"01632 960{:03}"}}],"gender":"female","birthDate":"1971-05-{:02}","address":[{{"line":["{} Harbour Row"],"city":"Daleford","postalCode":"ZZ99 3CZ"}}]}}"#,
        number % 500,
        number % 1000,
        number % 28 + 1,
        number % 90 + 1,
    )
}

fn observation(number: u64) -> String {
    format!(
        r#"{{"resourceType":"Observation","status":"final","code":{{"coding":[{{"system":"http://loinc.org","code":"91351-7"}}]}},"subject":{{"reference":"Patient/p{}"}},"effectiveDateTime":"2026-{:02}-{:02}T09:30:00Z","valueQuantity":{{"value":{},"unit":"{{score}}","system":"http://unitsofmeasure.org","code":"{{score}}"}}}}"#,
        number % 2000,
        number % 12 + 1,
        number % 28 + 1,
        number % 10,
    )
}

fn response(number: u64) -> String {
    let items: Vec<String> = (1..=9)
        .map(|item| {
            let (system, code) =
                if item == 9 { ("bother-0-4", number % 5) } else { ("agree-disagree", (number >> item) % 2) };
            format!(
                r#"{{"linkId":"sb9-{item}","answer":[{{"valueCoding":{{"system":"https://lumbar.example/fhir/CodeSystem/{system}","code":"{code}"}}}}]}}"#
            )
        })
        .collect();
    format!(
        r#"{{"resourceType":"QuestionnaireResponse","questionnaire":"https://lumbar.example/fhir/Questionnaire/start-back-9|1.0.0","status":"completed","subject":{{"reference":"Patient/p{}"}},"authored":"2026-03-{:02}T10:15:00Z","item":[{}]}}"#,
        number % 2000,
        number % 28 + 1,
        items.join(","),
    )
}

fn transaction(number: u64) -> String {
    let entries: Vec<String> = (0..10)
        .map(|index| {
            format!(
                r#"{{"fullUrl":"urn:uuid:00000000-0000-4000-8000-{index:012}","resource":{},"request":{{"method":"POST","url":"Observation"}}}}"#,
                observation(number * 10 + index)
            )
        })
        .collect();
    format!(r#"{{"resourceType":"Bundle","type":"transaction","entry":[{}]}}"#, entries.join(","))
}
