//! What validation adds to a create: two processes that differ in `--validation` alone, `off` and
//! `enforce`, take turns of a fraction of a second, so that what else the machine does meets both.
//!
//! Told are the median of the pairs' ratios of latency, and the processor's time that the service
//! takes for each create, which depends less on what else the machine does. UK Core is read from
//! the folder of reference data (`LUMBAR_SHARED`); PostgreSQL is one of the testkit's own, which
//! makes nothing durable.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lumbar_fhir::{Json, json};

use super::client::{self, Load};
use super::patient;
use super::process::Program;

/// How long one turn lasts.
const TURN: Duration = Duration::from_millis(250);
const PAIRS: usize = 11;
/// Creates after which the memory is looked at.
const MANY: u64 = 20_000;

const UK_CORE: &str = "https://fhir.hl7.org.uk/StructureDefinition/UKCore-";
const OURS: &str = "https://lumbar.example/fhir/StructureDefinition/outcome-score";
const NOBODYS: &str = "https://example.org/StructureDefinition/nobody-";

pub async fn measure(folder: &Path) {
    let Some(shared) = lumbar_testkit::shared() else { return };
    let profiles = shared.join("fhir/ukcore").display().to_string();
    let files = ["off", "enforce"].map(|name| folder.join(format!("validation-{name}.db")));
    pairs("sqlite", files.map(|file| format!("sqlite:{}", file.display())), &profiles).await;
    if let (Some(one), Some(other)) = (lumbar_testkit::postgres(), lumbar_testkit::postgres()) {
        pairs("postgres", [one.url, other.url], &profiles).await;
    }
}

async fn pairs(name: &str, databases: [String; 2], profiles: &str) {
    let mut services = Vec::new();
    for (validation, database) in ["off", "enforce"].into_iter().zip(databases) {
        let options = ["--validation", validation, "--profiles", profiles];
        let mut program = Program::start(&database, &options);
        let address = program.wait_for("lumbar listening on http://").parse().unwrap();
        services.push((program, address));
    }
    println!("\n== validation of a create, {name} ==");
    println!(
        "{:44} {:>5} {:>8} {:>8} {:>6} {:>8} {:>8} {:>6}",
        "", "tasks", "off ms", "on ms", "ratio", "off µs", "on µs", "of CPU"
    );
    for (of, make) in [("Patient", Arc::new(patient) as Make), ("Observation", score())] {
        let named = format!("{UK_CORE}{of}");
        let mut profiles = vec![("no profile", None), ("UK Core", Some(named))];
        if of == "Observation" {
            profiles.push(("outcome-score", Some(OURS.to_owned())));
        }
        profiles.push(("unknown profile", Some(format!("{NOBODYS}{of}"))));
        for (claim, profile) in profiles {
            for tasks in [1, 8, 64] {
                let pair = Pair::measure(&services, tasks, |address| {
                    create(address, of, profile.clone(), make.clone())
                });
                let Pair { ms: [off, on], ratio, us: [off_us, on_us] } = pair.await;
                println!(
                    "{:44} {tasks:5} {off:8.3} {on:8.3} {ratio:6.2} {off_us:8.0} {on_us:8.0} {:6.2}",
                    format!("create: {of}, {claim}"),
                    on_us / off_us
                );
            }
        }
    }
    for ((program, address), validation) in services.into_iter().zip(["off", "enforce"]) {
        let named = Some(format!("{UK_CORE}Patient"));
        let load = create(address, "Patient", named, Arc::new(patient));
        while load.sent() < MANY {
            load.run(8, TURN).await;
        }
        let [anonymous, file] = program.resident_kib();
        println!(
            "memory after {MANY} further creates, {validation}: {} MB of its own, {} MB of files",
            anonymous / 1024,
            file / 1024
        );
    }
}

/// What both services took for the same.
struct Pair {
    ms: [f64; 2],
    ratio: f64,
    /// Processor's time of the service for each create.
    us: [f64; 2],
}

impl Pair {
    async fn measure(
        services: &[(Program, SocketAddr)],
        tasks: usize,
        load: impl Fn(SocketAddr) -> Load,
    ) -> Pair {
        let loads: Vec<Load> = services.iter().map(|(_, address)| load(*address)).collect();
        for load in &loads {
            load.run(tasks, TURN / 2).await;
        }
        let mut turns = Vec::new();
        let before: Vec<_> = services.iter().map(|(program, _)| program.processor()).collect();
        let sent: Vec<u64> = loads.iter().map(Load::sent).collect();
        for number in 0..PAIRS {
            let mut turn = [0.0; 2];
            // Neither is always the first.
            for place in [number % 2, (number + 1) % 2] {
                turn[place] = loads[place].run(tasks, TURN).await.p50_ms;
            }
            turns.push(turn);
        }
        let each = |place: usize| {
            let took = services[place].0.processor() - before[place];
            took.as_secs_f64() * 1e6 / (loads[place].sent() - sent[place]) as f64
        };
        let median = |of: &dyn Fn(&[f64; 2]) -> f64| {
            let mut all: Vec<f64> = turns.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[PAIRS / 2]
        };
        Pair {
            ms: [median(&|turn| turn[0]), median(&|turn| turn[1])],
            ratio: median(&|turn| turn[1] / turn[0]),
            us: [each(0), each(1)],
        }
    }
}

type Make = Arc<dyn Fn(u64) -> String + Send + Sync>;

/// Creates of resources that claim a profile.
fn create(address: SocketAddr, of: &'static str, profile: Option<String>, make: Make) -> Load {
    Load::new(address, move |number| {
        let mut resource = Json::parse(make(number).as_bytes()).unwrap();
        if let Some(profile) = &profile {
            resource.set("meta", json!({"profile": [(profile.as_str())]}));
        }
        client::post_request(address, &format!("/fhir/{of}"), &resource.to_string())
    })
}

/// A score as it is derived from a response.
fn score() -> Make {
    let path = "instruments/start-back-9/response-high.expected.json";
    let text = std::fs::read(lumbar_testkit::fixtures().join(path)).unwrap();
    let expected = Json::parse(&text).unwrap();
    let mut score = expected.list("observations")[0].clone();
    let object = score.as_object_mut().unwrap();
    object.remove("id");
    object.remove("meta");
    Arc::new(move |number| {
        let mut score = score.clone();
        score.set("subject", json!({"reference": (format!("Patient/p{}", number % 2000))}));
        score.to_string()
    })
}
