//! What validation costs, with and without profiles: `cargo bench -p lumbar-fhir --bench validate`.
//!
//! UK Core and its examples are read from the folder of reference data (`LUMBAR_SHARED`). Each line
//! is the median of nine runs, in microseconds for one resource, on one thread. The machine's own
//! speed is in every line, so only ratios within one run mean anything.
#![expect(clippy::unwrap_used, reason = "a bench that cannot run must fail")]

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::profile::Profiles;
use lumbar_fhir::terminology::Library;
use lumbar_fhir::validate::{Found, Limits, Missing, World, validate, validate_in};
use lumbar_fhir::{Issue, Json};

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
    let start = Instant::now();
    for json in &files {
        match json.str_at(&["resourceType"]) {
            Some("StructureDefinition") => drop(profiles.add(json)),
            _ => drop(terminology.add(json)),
        }
    }
    println!("{:>9.1} ms  UK Core: taken in", ms(start));
    let resources = Found::default();
    let missing = Missing::default();
    let limits = Limits::default();
    let world = World {
        definitions: &definitions,
        profiles: &profiles,
        terminology: &terminology,
        resources: &resources,
        missing: &missing,
        now: None,
        limits,
    };
    for name in EXAMPLES {
        let path = folder.join("examples").join(format!("{name}.json"));
        let Ok(bytes) = fs::read(&path) else {
            println!("no example {name}");
            continue;
        };
        let json = Json::parse(&bytes).unwrap();
        let start = Instant::now();
        let issues = validate_in(&world, &json, &[]);
        let first = start.elapsed();
        let base = time(|| drop(black_box(validate(&definitions, black_box(&json)))));
        let whole = time(|| drop(black_box(validate_in(&world, black_box(&json), &[]))));
        println!(
            "{:>9.1} us base  {:>9.1} us with profiles  ({:>7.0} a second)  {:>8.1} ms the first \
             time  {} issues  {name}",
            us(base),
            us(whole),
            1.0 / whole.as_secs_f64(),
            us(first) / 1000.0,
            issues.len(),
        );
        for issue in issues.iter().take(if std::env::var_os("ISSUES").is_some() { 9 } else { 0 }) {
            println!("            {}: {}", path_of(issue), issue.text);
        }
    }
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
