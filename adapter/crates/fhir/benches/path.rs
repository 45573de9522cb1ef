//! What frequent invariants cost: `cargo bench -p lumbar-fhir --bench path`.
//!
//! Each line is the median of nine runs, in nanoseconds for one evaluation. The machine's own
//! speed is in every line, so only ratios within one run mean anything.
#![expect(clippy::unwrap_used, reason = "a bench that cannot run must fail")]

use std::hint::black_box;
use std::time::Instant;

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::path::{Context, Expression, Tally, Value};
use lumbar_fhir::{Json, json};

/// Key, type of the focus, where it stands, expression.
const INVARIANTS: [(&str, &str, &str, &str); 16] = [
    ("ele-1", "CodeableConcept", "code", "hasValue() or (children().count() > id.count())"),
    ("obs-6", "Observation", "", "dataAbsentReason.empty() or value.empty()"),
    (
        "obs-7",
        "Observation",
        "",
        "value.empty() or \
         component.code.where(coding.intersect(%resource.code.coding).exists()).empty()",
    ),
    (
        "dom-3",
        "Observation",
        "",
        "contained.where((('#'+id in (%resource.descendants().reference | \
         %resource.descendants().as(canonical) | %resource.descendants().as(uri) | \
         %resource.descendants().as(url))) or descendants().where(reference = '#').exists() or \
         descendants().where(as(canonical) = '#').exists()).not()).trace('unmatched', id).empty()",
    ),
    (
        "per-1",
        "Period",
        "effectivePeriod",
        "start.hasValue().not() or end.hasValue().not() or (start <= end)",
    ),
    ("qty-3", "Quantity", "component/valueQuantity", "code.empty() or system.exists()"),
    (
        "ref-1",
        "Reference",
        "subject",
        "reference.startsWith('#').not() or \
         (reference.substring(1).trace('url') in %rootResource.contained.id.trace('ids'))",
    ),
    ("ukcore-obs-vs", "Observation", "", "code.coding.where(system='http://loinc.org').exists()"),
    (
        "status in",
        "Observation",
        "",
        "issued.exists() or (status in ('partial' | 'preliminary' | 'final' | 'amended')).not()",
    ),
    ("vs-2", "Observation", "", "(component.empty() and hasMember.empty()) implies value.exists()"),
    ("matches", "Observation", "", "id.matches('^[A-Za-z0-9.-]{1,64}$')"),
    ("extension", "Observation", "", "extension('http://example.org/none').exists()"),
    ("type", "Observation", "", "component.value.ofType(Quantity).all(value > 20)"),
    ("select", "Observation", "", "component.select(code.coding.first().code).isDistinct()"),
    ("descendants", "Observation", "", "descendants().count() > 20"),
    ("arithmetic", "Observation", "", "component[0].value.value - component[1].value.value < 100"),
];

fn main() {
    // `cargo test` runs benches with this argument off; only `cargo bench` measures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let definitions = Definitions::r4();
    let observation = observation();
    let tally = Tally::new(u64::MAX);
    for (key, kind, place, text) in INVARIANTS {
        let part = place.split('/').filter(|name| !name.is_empty());
        let part: Vec<&str> = part.collect();
        let part = observation.at(&part).unwrap();
        let expression = Expression::parse(text).unwrap();
        let focus = [Value::of(part, definitions.type_of(kind).unwrap())];
        let context =
            Context { resource: Some(Value::node(&observation)), ..Context::new(&definitions) };
        let run = || {
            let start = Instant::now();
            for _ in 0..ROUNDS {
                let _ = black_box(expression.holds(&tally, &context, &focus));
            }
            start.elapsed().as_nanos() / u128::from(ROUNDS)
        };
        let mut times: Vec<u128> = (0..9).map(|_| run()).collect();
        times.sort_unstable();
        let found = expression.holds(&tally, &context, &focus);
        println!("{key:15} {:6} ns   {found:?}", times[4]);
    }
}

const ROUNDS: u32 = 20_000;

fn observation() -> Json {
    let pressure = |code: &str, value: u32| {
        json!({
            "code": {"coding": [{"system": "http://loinc.org", "code": (code)}]},
            "valueQuantity": {"value": (value), "unit": "mmHg",
                "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}
        })
    };
    json!({
        "resourceType": "Observation", "id": "blood-pressure",
        "meta": {"lastUpdated": "2026-03-02T10:42:00Z"},
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3"}],
        "status": "final",
        "category": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
            "code": "vital-signs"
        }]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}], "text": "Pressure"},
        "subject": {"reference": "Patient/1"},
        "effectivePeriod": {"start": "2026-03-01", "end": "2026-03-02"},
        "performer": [{"reference": "Practitioner/1"}],
        "component": [(pressure("8480-6", 107)), (pressure("8462-4", 60))]
    })
}
