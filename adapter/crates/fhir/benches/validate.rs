//! What validation costs, with and without profiles: `cargo bench -p lumbar-fhir --bench validate`.
//!
//! UK Core and its examples are read from the folder of reference data (`LUMBAR_SHARED`), our own
//! instrument and terminology from `profiles/`. Each line is the median of nine runs, in
//! microseconds for one resource, on one thread. The machine's own speed is in every line, so only
//! ratios within one run mean anything: `read` is the reading of its JSON, and `x` is how many of these readings a validation costs. A word after
//! `--` measures only the resources whose names hold it.
#![expect(clippy::unwrap_used, reason = "a bench that cannot run must fail")]

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::profile::Profiles;
use lumbar_fhir::questionnaire::Form;
use lumbar_fhir::terminology::Library;
use lumbar_fhir::validate::{Found, Limits, Missing, Need, World, validate, validate_in};
use lumbar_fhir::{Issue, Json, Severity, json};

const EXAMPLES: [&str; 6] = [
    "UKCore-Observation-Lab-Albumin-Example",
    "UKCore-Observation-24HourBloodPressure-Example",
    "UKCore-Observation-DrugUse-Example",
    "UKCore-Patient-RichardSmith-Example",
    "UKCore-ServiceRequest-ColonoscopyRequest-Example",
    "UKCore-Condition-BleedingFromEar-Example",
];

fn json_files(folder: &Path) -> Vec<Json> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| Json::parse(&fs::read(path).unwrap()).unwrap()).collect()
}

/// The median of nine runs for one call.
fn time(mut call: impl FnMut()) -> Duration {
    let mut runs: Vec<Duration> = (0..9)
        .map(|_| {
            let start = Instant::now();
            let mut count = 0_u32;
            while start.elapsed() < Duration::from_millis(40) {
                call();
                count += 1;
            }
            start.elapsed() / count
        })
        .collect();
    runs.sort();
    runs[4]
}

/// Our own folder of this name, which lies beside the adapter.
fn ours(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..").join(name)
}

fn read(path: &Path) -> Json {
    Json::parse(&fs::read(path).unwrap()).unwrap()
}

/// The same resource, claiming a profile of UK Core.
fn claiming(mut resource: Json, name: &str) -> Json {
    let url = format!("https://fhir.hl7.org.uk/StructureDefinition/{name}");
    resource.set("meta", json!({"profile": [url]}));
    resource
}

/// What is measured, by name: examples of UK Core, and a response and a score as the product has
/// them.
fn resources(ukcore: &Path) -> Vec<(String, Json)> {
    let mut found = Vec::new();
    for name in EXAMPLES {
        let path = ukcore.join("examples").join(format!("{name}.json"));
        match path.exists() {
            true => found.push((name.to_owned(), read(&path))),
            false => println!("no example {name}"),
        }
    }
    let fixtures = ours("fixtures/instruments/start-back-9");
    let response = read(&fixtures.join("response-high.json"));
    let expected = read(&fixtures.join("response-high.expected.json"));
    let score = expected.list("observations")[0].clone();
    let response = claiming(response, "UKCore-QuestionnaireResponse");
    found
        .push(("nine-item response, Questionnaire, UKCore-QuestionnaireResponse".into(), response));
    found.push(("score of it, UKCore-Observation".into(), claiming(score, "UKCore-Observation")));
    found
}

fn main() {
    let Some(shared) = lumbar_testkit::shared() else { return };
    let start = Instant::now();
    let definitions = Definitions::r4();
    let mut profiles = Profiles::r4();
    println!("{:>9.1} ms  R4: types, profiles and extensions", ms(start));
    let start = Instant::now();
    let mut terminology = Library::r4();
    println!("{:>9.1} ms  R4: terminology", ms(start));
    let folder = shared.join("fhir/ukcore");
    let mut files = json_files(&folder.join("structuredefinitions"));
    files.extend(json_files(&folder.join("valuesets")));
    files.extend(json_files(&folder.join("codesystems")));
    files.extend(json_files(&ours("profiles/structure")));
    files.extend(json_files(&ours("profiles/terminology")));
    let start = Instant::now();
    for json in &files {
        match json.str_at(&["resourceType"]) {
            Some("StructureDefinition") => drop(profiles.add(json)),
            _ => drop(terminology.add(json)),
        }
    }
    println!("{:>9.1} ms  UK Core and ours: taken in", ms(start));
    let mut found = Found::default();
    let questionnaire = read(&ours("profiles/instruments/start-back-9/Questionnaire.json"));
    let form = Arc::new(Form::read(&definitions, &questionnaire).0);
    for canonical in ["", "|1.0.0"] {
        let url = questionnaire.str_at(&["url"]).unwrap();
        found.put_form(format!("{url}{canonical}"), form.clone());
    }
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    for (name, json) in resources(&folder) {
        if !words.is_empty() && !words.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        let text = json.to_string();
        let start = Instant::now();
        let needs = look(&definitions, &profiles, &terminology, &found, &json).1;
        let first = start.elapsed();
        // What a reference means was looked for and is not there.
        for need in needs {
            match need {
                Need::Resource(text) => found.put(text, None),
                need => println!("            not at hand: {need:?}"),
            }
        }
        let missing = Missing::default();
        let world = World {
            definitions: &definitions,
            profiles: &profiles,
            terminology: &terminology,
            resources: &found,
            missing: &missing,
            now: Some("2026-03-02T10:00:00Z"),
            vital_signs: Severity::Error,
            limits: Limits::default(),
        };
        let issues = validate_in(&world, &json, &[]);
        let parse = time(|| drop(black_box(Json::parse(black_box(text.as_bytes())))));
        let base = time(|| drop(black_box(validate(&definitions, black_box(&json)))));
        let whole = time(|| drop(black_box(validate_in(&world, black_box(&json), &[]))));
        println!(
            "{:>7.1} us read  {:>7.1} us base  {:>7.1} us whole  {:>5.1} x  ({:>6.0} a second)  \
             {:>6.1} ms first  {} issues  {name}",
            us(parse),
            us(base),
            us(whole),
            whole.as_secs_f64() / parse.as_secs_f64(),
            1.0 / whole.as_secs_f64(),
            us(first) / 1000.0,
            issues.len(),
        );
        for issue in issues.iter().take(if std::env::var_os("ISSUES").is_some() { 9 } else { 0 }) {
            println!("            {}: {}", path_of(issue), issue.text);
        }
    }
}

/// One look at a resource, and what it would have to know.
fn look(
    definitions: &Definitions,
    profiles: &Profiles,
    terminology: &Library,
    resources: &Found,
    json: &Json,
) -> (Vec<Issue>, Vec<Need>) {
    let missing = Missing::default();
    let limits = Limits::default();
    let now = Some("2026-03-02T10:00:00Z");
    let missed = &missing;
    let world = World {
        definitions,
        profiles,
        terminology,
        resources,
        missing: missed,
        now,
        vital_signs: Severity::Error,
        limits,
    };
    (validate_in(&world, json, &[]), missing.take())
}

fn path_of(issue: &Issue) -> &str {
    issue.expression.as_deref().unwrap_or_default()
}

fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
