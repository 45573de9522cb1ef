//! What scoring costs: `cargo bench -p lumbar-clinical --bench score`.
//!
//! For each instrument a QuestionnaireResponse with every question answered is read and scored.
//! Each line is the median of nine runs, in nanoseconds for one response, on one thread, beside the
//! cost of reading its JSON. The machine's own speed is in every line, so only ratios within one
//! run mean anything.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a bench that cannot run must fail"
)]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lumbar_clinical::{Answers, Instrument, OptionSets, score};
use lumbar_fhir::{Json, json};

const ROUNDS: u32 = 2_000;

fn main() {
    // `cargo test` runs benches with this argument off; only `cargo bench` measures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../profiles/instruments");
    let sets = read(&folder.join("options.json"));
    let options = OptionSets::parse(&sets).unwrap();
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    for path in folders.iter().map(|folder| folder.join("instrument.json")).filter(|p| p.is_file())
    {
        let rules = read(&path);
        let instrument = Instrument::parse(&rules, &options).unwrap();
        if instrument.activation.refused.is_some() {
            continue;
        }
        let response = response(&rules, &sets);
        let text = response.to_string();
        let reading = measure(|| drop(black_box(Json::parse(black_box(text.as_bytes())))));
        let scoring = measure(|| {
            let answers = Answers::from_response(&instrument, black_box(&response)).unwrap();
            drop(black_box(score::score(&instrument, &answers)));
        });
        println!("{:24} {scoring:7} ns   read {reading:7} ns", instrument.id);
    }
}

fn measure(run: impl Fn()) -> u128 {
    let once = || {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            run();
        }
        start.elapsed().as_nanos() / u128::from(ROUNDS)
    };
    let mut times: Vec<u128> = (0..9).map(|_| once()).collect();
    times.sort_unstable();
    times[4]
}

fn read(path: &Path) -> Json {
    Json::parse(&std::fs::read(path).unwrap()).unwrap()
}

/// Every question answered, but for the controls that say that a question does not apply.
fn response(rules: &Json, sets: &Json) -> Json {
    let mut items = Vec::new();
    for item in rules.list("items") {
        let text = |name: &str| item.str_at(&[name]).unwrap_or_default();
        let answer = match text("type") {
            "choice" => {
                let set = sets.at(&["sets", text("optionSet")]).unwrap();
                let code = set.list("answers")[0].get("code").unwrap();
                json!({"valueCoding": {"system": (set.get("system").unwrap()), "code": (code)}})
            }
            "integer" => json!({"valueInteger": (item.get("min").unwrap())}),
            "boolean" if text("linkId").starts_with("rm-") && text("linkId") != "rm-none" => {
                json!({"valueBoolean": true})
            }
            "boolean" => json!({"valueBoolean": false}),
            "date" => json!({"valueDate": "2026-03-02"}),
            "string" => json!({"valueString": "in words"}),
            other => panic!("no answer for {other}"),
        };
        items.push(json!({"linkId": (text("linkId")), "answer": [(answer)]}));
    }
    json!({"resourceType": "QuestionnaireResponse", "status": "completed", "item": (items)})
}
