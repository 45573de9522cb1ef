//! What validation adds to a create: pairs of runs against the same service with `--validation off`
//! and `enforce`, first the one and then the other.
//!
//! UK Core is read from the folder of reference data (`LUMBAR_SHARED`).

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use lumbar::config::{Options, Validation};
use lumbar_fhir::{Json, json};

use super::client::{self, Load};
use super::{observation, patient, serve_with};

/// How long one run of a pair lasts.
const LENGTH: Duration = Duration::from_millis(700);
const PAIRS: usize = 9;

const PROFILES: [(&str, Option<&str>); 3] = [
    ("no profile", None),
    ("UK Core", Some("https://fhir.hl7.org.uk/StructureDefinition/UKCore-")),
    ("unknown profile", Some("https://example.org/StructureDefinition/nobody-")),
];

pub async fn measure(folder: &Path) {
    let Some(shared) = lumbar_testkit::shared() else { return };
    let mut services = Vec::new();
    for (name, validation) in [("off", Validation::Off), ("enforce", Validation::Enforce)] {
        let options = Options {
            validation: Some(validation),
            profiles: vec![shared.join("fhir/ukcore")],
            ..Options::default()
        };
        let file = folder.join(format!("{name}.db"));
        services.push(serve_with(&format!("sqlite:{}", file.display()), options).await);
    }
    println!("\n== validation of a create ==");
    println!("{:44} {:>5} {:>8} {:>8}  ratio", "", "tasks", "off ms", "on ms");
    for (of, make) in [("Patient", patient as fn(u64) -> String), ("Observation", observation)] {
        for (name, profile) in PROFILES {
            for tasks in [1, 8] {
                let mut pairs = Vec::new();
                for _ in 0..PAIRS {
                    let mut pair = [0.0; 2];
                    for (address, p50) in services.iter().zip(&mut pair) {
                        *p50 = create(*address, of, profile, make).run(tasks, LENGTH).await.p50_ms;
                    }
                    pairs.push(pair);
                }
                pairs.sort_by(|a, b| (a[1] / a[0]).total_cmp(&(b[1] / b[0])));
                let [off, on] = pairs[PAIRS / 2];
                let name = format!("create: {of}, {name}");
                println!("{name:44} {tasks:5} {off:8.3} {on:8.3}  {:.2}", on / off);
            }
        }
    }
}

/// Creates of resources that claim the profile of their type.
fn create(
    address: SocketAddr,
    of: &'static str,
    profile: Option<&'static str>,
    make: fn(u64) -> String,
) -> Load {
    Load::new(address, move |number| {
        let mut resource = Json::parse(make(number).as_bytes()).unwrap();
        if let Some(profile) = profile {
            resource.set("meta", json!({"profile": [(format!("{profile}{of}"))]}));
        }
        client::post_request(address, &format!("/fhir/{of}"), &resource.to_string())
    })
}
