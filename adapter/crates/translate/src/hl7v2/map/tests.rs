use std::path::{Path, PathBuf};

use expect_test::expect_file;

use super::*;
use crate::hl7v2::{Charset, mapping};
use crate::local_time;

fn root() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", ".."].iter().collect()
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn map(bytes: &[u8]) -> Mapped {
    let (message, _) = Message::parse(bytes, Charset::WINDOWS_1252).unwrap();
    let definitions = Definitions::r4();
    mapping().unwrap().map(&message, &settings(&definitions))
}

fn settings(definitions: &Definitions) -> Settings<'_> {
    Settings {
        base: "https://adapter.example".into(),
        source: "test".into(),
        zone: local_time::zone("Europe/London").unwrap(),
        now: "2026-04-14T09:06:00.000Z".into(),
        software: "Lumbar 0.1.0".into(),
        provenance: true,
        wait: false,
        definitions,
    }
}

fn show(mapped: &Mapped) -> String {
    let resources: Vec<Json> = mapped.entries.iter().map(|entry| entry.resource.clone()).collect();
    let all = json!({"resources": (resources), "report": (mapped.report.to_json())});
    format!("{}\n", all.to_pretty())
}

#[test]
fn messages_become_the_resources_of_the_fixtures() {
    let folder = root().join("fixtures/translate/hl7v2/map");
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "hl7") {
            let mapped = map(&read(&path));
            assert!(mapped.report.is_balanced(), "{}", path.display());
            expect_file![path.with_extension("json")].assert_eq(&show(&mapped));
            count += 1;
        }
    }
    assert!(count >= 2, "{count} cases in {}", folder.display());
}

/// Every resource and element of the expected bundle must be there; references count by the type
/// that they point at.
#[test]
fn the_shared_referral_becomes_what_is_expected() {
    let shared = std::env::var_os("LUMBAR_SHARED").map(PathBuf::from);
    let samples = shared.unwrap_or_else(|| root().join("../shared")).join("formats/samples");
    if !samples.is_dir() {
        println!("left out: shared samples are not at {}", samples.display());
        return;
    }
    let mapped = map(&read(&samples.join("synthetic-hl7v2/REF_I12_v251_startback.hl7")));
    let expected = read(&samples.join("expected/REF_I12_v251_startback.expected.json"));
    let expected = Json::parse(&expected).unwrap();
    let target = |url: &str| {
        let entry = expected.list("entry").iter().find(|e| e.str_at(&["fullUrl"]) == Some(url));
        entry.and_then(|entry| entry.str_at(&["resource", "resourceType"])).map(str::to_owned)
    };
    let mut failures = Vec::new();
    for entry in expected.list("entry") {
        let wanted = entry.get("resource").unwrap();
        let name = wanted.str_at(&["resourceType"]).unwrap();
        let candidates = mapped.entries.iter().map(|entry| &entry.resource);
        let faults = candidates
            .filter(|resource| resource.str_at(&["resourceType"]) == Some(name))
            .map(|resource| {
                let mut faults = Vec::new();
                missing(wanted, resource, name.to_owned(), &target, &mut faults);
                faults
            })
            .min_by_key(Vec::len);
        match faults {
            None => failures.push(format!("there is no {name}")),
            Some(faults) => failures.extend(faults),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    for name in ["REF_I12_v231_minimal_8859-1", "REF_I13_v24_modify", "REF_I14_v251_cancel"] {
        let mapped = map(&read(&samples.join(format!("synthetic-hl7v2/{name}.hl7"))));
        assert!(mapped.report.resources.contains_key("ServiceRequest"), "{name}");
        let errors: Vec<_> = mapped.report.issues().iter().filter(|i| i.is_error()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
    let issues: Vec<&str> = mapped.report.issues().iter().map(|i| i.text.as_str()).collect();
    assert_eq!(issues, Vec::<&str>::new());
}

fn missing(
    wanted: &Json,
    found: &Json,
    at: String,
    target: &impl Fn(&str) -> Option<String>,
    faults: &mut Vec<String>,
) {
    match (wanted, found) {
        (Json::Object(members), _) => {
            for (name, wanted) in members.iter() {
                let at = format!("{at}.{name}");
                match found.get(name) {
                    None => faults.push(format!("{at} is missing: {wanted}")),
                    Some(found) if name == "reference" => {
                        let of = target(wanted.as_str().unwrap_or_default());
                        let is = found.as_str().and_then(|text| text.split_once('/'));
                        if of.as_deref() != is.map(|(name, _)| name) {
                            faults.push(format!("{at} is {found}, not a {of:?}"));
                        }
                    }
                    Some(found) => missing(wanted, found, at, target, faults),
                }
            }
        }
        (Json::Array(wanted), Json::Array(found)) => {
            for (index, wanted) in wanted.iter().enumerate() {
                let best = found.iter().map(|found| {
                    let mut faults = Vec::new();
                    missing(wanted, found, format!("{at}[{index}]"), target, &mut faults);
                    faults
                });
                match best.min_by_key(Vec::len) {
                    None => faults.push(format!("{at}[{index}] is missing")),
                    Some(best) => faults.extend(best),
                }
            }
        }
        (wanted, found) if wanted == found => {}
        (wanted, found) => faults.push(format!("{at} is {found}, not {wanted}")),
    }
}

#[test]
fn the_same_message_gives_the_same_ids() {
    let bytes = read(&root().join("fixtures/translate/hl7v2/map/referral.hl7"));
    let urls = |mapped: Mapped| mapped.entries.into_iter().map(|e| e.url).collect::<Vec<_>>();
    let first = urls(map(&bytes));
    assert_eq!(first, urls(map(&bytes)));
    let later = String::from_utf8(bytes).unwrap().replace("M481", "M482").replace("I12", "I14");
    let mapped = map(later.as_bytes());
    let status = |name: &str| {
        let of_type = |entry: &&Entry| entry.resource.str_at(&["resourceType"]) == Some(name);
        let entry = mapped.entries.iter().find(of_type).unwrap();
        entry.resource.str_at(&["status"]).map(str::to_owned)
    };
    assert_eq!(status("ServiceRequest").as_deref(), Some("revoked"));
    assert_eq!(status("Task").as_deref(), Some("cancelled"));
    let mut same = urls(mapped);
    // The Provenance is of the message, not of what it speaks about.
    assert_ne!(first.last(), same.last());
    same.pop();
    assert_eq!(first[..first.len() - 1], same, "a cancellation speaks of the same resources");
}

#[test]
fn a_file_of_messages_is_one_transaction() {
    let one = read(&root().join("fixtures/translate/hl7v2/map/referral.hl7"));
    let two = [one.as_slice(), b"MSH|\r", one.as_slice()].concat();
    let definitions = Definitions::r4();
    let convert = |bytes: &[u8]| {
        let (mapping, default) = (mapping().unwrap(), Charset::WINDOWS_1252);
        super::super::convert(&mapping, bytes, default, &settings(&definitions))
    };
    let (bundle, report) = convert(&two);
    assert_eq!(bundle, convert(&one).0, "the same message twice gives the same entries");
    assert!(report.is_balanced());
    assert_eq!((report.tables["MSH"].mapped, report.tables["MSH"].refused), (2, 1));
    let (bundle, report) = convert(b"nothing of ours");
    assert_eq!((bundle.list("entry").len(), report.issues().len()), (0, 1));
}

#[test]
fn a_message_without_tables_is_refused_whole() {
    let mapped = map(b"MSH|^~\\&|A|B|C|D|20260302||ORU^R01|M1|P|2.4\rPID|1||1^^^A^PI\r");
    assert!(mapped.entries.is_empty() && mapped.report.is_balanced());
    assert_eq!(mapped.report.tables["PID"].refused, 1);
    assert!(mapped.report.issues()[0].is_error());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]
    #[test]
    fn no_message_panics(tail in "((PID|RF1|PRD|OBR|OBX|DG1|AL1|NK1|PV1|NTE)(\\|[A-Z0-9^&~\"]{0,6}){0,8}\r){0,12}") {
        let mapped = map(format!("MSH|^~\\&|A|B|C|D|20260302||REF^I12|M1|P|2.4\r{tail}").as_bytes());
        assert!(mapped.report.is_balanced());
        let broken = mapped.report.issues().iter().find(|i| i.detail == Some("BPA-MAP-001"));
        assert!(broken.is_none(), "{broken:?}");
    }
}
