use jiff::civil::{Date, date};
use lumbar_fhir::{Json, json};
use lumbar_testkit::fixtures;
use serde_json::{Value, json as value};

use super::*;

/// Stands in every text of the packs of these tests.
const WORDS: &str = "Test words";
/// A day on which the licence is in date.
const TODAY: Date = date(2026, 3, 2);

fn clinic() -> Organisation {
    Organisation { name: "Test Clinic".to_owned(), ods_code: "X26".to_owned() }
}

fn pack() -> Value {
    let path = fixtures().join("wording/start-back-9-en-GB.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// What becomes of one file.
fn load(text: &str, organisation: &Organisation) -> Wording {
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("pack.json"), text).unwrap();
    let rules = Rules::embedded().unwrap();
    Wording::load(&[folder.path().to_owned()], &rules, organisation)
}

fn start_back() -> Json {
    let rules = Rules::embedded().unwrap();
    rules.questionnaire("https://lumbar.example/fhir/Questionnaire/start-back-9").unwrap().clone()
}

#[test]
fn a_pack_that_does_not_fit_is_left_out_with_the_reason_and_without_a_word() {
    type Change = fn(&mut Value);
    let cases: &[(&str, Change)] = &[
        ("there is no instrument start-back-7", |pack| pack["instrument"] = value!("start-back-7")),
        ("version 9.0.0", |pack| pack["instrumentVersion"] = value!("9.0.0")),
        ("no words for the items sb9-4", |pack| {
            pack["items"].as_object_mut().unwrap().remove("sb9-4");
        }),
        ("items that are not there: sb9-10", |pack| {
            pack["items"]["sb9-10"] = value!({"text": "Test words"});
        }),
        ("no words for the options sb9-9 2", |pack| {
            pack["items"]["sb9-9"]["options"].as_object_mut().unwrap().remove("2");
        }),
        ("options that are not there: sb9-1 2", |pack| {
            pack["items"]["sb9-1"]["options"]["2"] = value!("Test words");
        }),
        ("/items/sb9-3: its words are blank", |pack| pack["items"]["sb9-3"]["text"] = value!(" ")),
        ("/copyrightNotice: it is blank", |pack| pack["copyrightNotice"] = value!(" ")),
        ("granted to Another Clinic", |pack| {
            pack["licence"]["grantedTo"] = value!("Another Clinic")
        }),
        ("electronicApproved", |pack| pack["licence"]["electronicApproved"] = value!(false)),
        ("ends on 2025-12-31", |pack| pack["licence"]["validTo"] = value!("2025-12-31")),
        ("/licence/validTo: there is no such day", |pack| {
            pack["licence"]["validTo"] = value!("2026-02-30");
        }),
        ("/sha256: the items were changed", |pack| pack["sha256"] = value!("0".repeat(64))),
        ("/licence", |pack| {
            pack["licence"].as_object_mut().unwrap().remove("validTo");
        }),
        ("/items/sb9-1/text", |pack| pack["items"]["sb9-1"]["text"] = value!(["Test words"])),
    ];
    for (expected, change) in cases {
        let mut pack = pack();
        change(&mut pack);
        let wording = load(&pack.to_string(), &clinic());
        let [told] = wording.refused.as_slice() else { panic!("{expected}: {wording:?}") };
        assert!(told.contains(expected), "{expected} in {told}");
        assert!(told.contains("pack.json"), "{told}");
        assert!(!told.contains(WORDS), "{told}");
        assert!(wording.packs().is_empty(), "{expected}");
        assert!(wording.refusal(&start_back(), TODAY, Purpose::Finish).is_some(), "{expected}");
    }
    assert!(load("{\"instrument\": ", &clinic()).refused.len() == 1);
    let wording = load(&pack().to_string(), &Organisation::default());
    assert!(wording.refused[0].contains("--organisation"), "{wording:?}");
    assert!(!format!("{:?}", load(&pack().to_string(), &clinic())).contains(WORDS));
}

#[test]
fn a_path_that_is_not_there_is_told() {
    let rules = Rules::embedded().unwrap();
    let wording = Wording::load(&["nowhere/at/all".into()], &rules, &clinic());
    assert!(wording.refused[0].starts_with("nowhere/at/all: "), "{wording:?}");
}

#[test]
fn the_digest_is_that_of_the_items_in_canonical_form() {
    let mut pack = pack();
    pack["sha256"] = value!("0".repeat(64));
    let told = load(&pack.to_string(), &clinic()).refused.remove(0);
    let digest = told.rsplit(' ').next().unwrap();
    let canonical = serde_json::to_string(&pack["items"]).unwrap();
    let expected = ring::digest::digest(&ring::digest::SHA256, canonical.as_bytes());
    let expected: String = expected.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, expected);
    pack["sha256"] = value!(digest);
    assert!(load(&pack.to_string(), &clinic()).refused.is_empty());
}

#[test]
fn a_licence_ends_and_what_was_begun_may_be_finished_for_a_fortnight() {
    let wording = load(&pack().to_string(), &clinic());
    assert!(wording.refused.is_empty(), "{wording:?}");
    let form = start_back();
    for (on, begin, finish) in [
        (date(2025, 12, 31), false, false),
        (date(2026, 1, 1), true, true),
        (date(2026, 3, 31), true, true),
        (date(2026, 4, 1), false, true),
        (date(2026, 4, 14), false, true),
        (date(2026, 4, 15), false, false),
    ] {
        let may = |purpose| wording.refusal(&form, on, purpose).is_none();
        assert_eq!((may(Purpose::Begin), may(Purpose::Finish)), (begin, finish), "{on}");
    }
    let told = wording.refusal(&form, date(2026, 4, 1), Purpose::Begin).unwrap();
    assert!(told.contains("TEST-1 ended on 2026-03-31"), "{told}");
}

#[test]
fn a_person_is_asked_in_the_words_of_the_pack() {
    let wording = load(&pack().to_string(), &clinic());
    let form = start_back();
    let asked = wording.words(&form, Some("en"), TODAY, Purpose::Begin).unwrap();
    assert_eq!(asked.str_at(&["title"]), Some("Test words of a title"));
    assert_eq!(asked.str_at(&["language"]), Some("en-GB"));
    let copyright = asked.str_at(&["copyright"]).unwrap();
    assert!(copyright.starts_with("Test words of a notice."), "{copyright}");
    let item = |link_id: &str| {
        let found =
            asked.list("item").iter().find(|item| item.str_at(&["linkId"]) == Some(link_id));
        found.unwrap().clone()
    };
    let bother = item("sb9-9");
    assert_eq!(bother.str_at(&["text"]), Some("Test words of statement 9."));
    let option = bother.list("answerOption")[3].clone();
    assert_eq!(option.str_at(&["valueCoding", "display"]), Some("Test words level 3"));
    assert_eq!(bother.list("item")[0].str_at(&["text"]), Some("Test words of a hint."));
    // What is not put to a person is left as it is.
    for name in ["url", "version", "id"] {
        assert_eq!(asked.get(name), form.get(name), "{name}");
    }
    let told = wording.words(&form, Some("cy"), TODAY, Purpose::Begin).unwrap_err();
    assert!(told.contains("in en-GB, not in cy"), "{told}");
}

#[test]
fn the_pack_that_lasts_longer_is_used() {
    let folder = tempfile::TempDir::new().unwrap();
    for (name, last, title) in [("a", "2026-12-31", "new"), ("b", "2026-03-31", "old")] {
        let mut pack = pack();
        pack["licence"]["validTo"] = value!(last);
        pack["title"] = value!(title);
        std::fs::write(folder.path().join(format!("{name}.json")), pack.to_string()).unwrap();
    }
    let rules = Rules::embedded().unwrap();
    let wording = Wording::load(&[folder.path().to_owned()], &rules, &clinic());
    let asked = wording.words(&start_back(), None, TODAY, Purpose::Begin).unwrap();
    assert_eq!(asked.str_at(&["title"]), Some("new"));
}

#[test]
fn words_of_our_own_are_given_in_the_language_that_is_asked_for() {
    let translation = json!({"extension": [
        {"url": "http://hl7.org/fhir/StructureDefinition/translation", "extension": [
            {"url": "lang", "valueCode": "cy"}, {"url": "content", "valueString": "Cwestiwn"}
        ]},
        {"url": "http://example.org/other", "valueBoolean": true}
    ]});
    let form = json!({"resourceType": "Questionnaire", "id": "own", "language": "en-GB",
        "item": [{"linkId": "1", "text": "Question", "_text": (translation), "type": "string"}]});
    let wording = Wording::default();
    let asked =
        |language: Option<&str>| wording.words(&form, language, TODAY, Purpose::Begin).unwrap();
    for language in [None, Some("en"), Some("en-US"), Some("fr")] {
        assert_eq!(asked(language), form, "{language:?}");
    }
    let welsh = asked(Some("cy-GB"));
    assert_eq!(welsh.str_at(&["language"]), Some("cy"));
    let item = &welsh.list("item")[0];
    assert_eq!(item.str_at(&["text"]), Some("Cwestiwn"));
    assert_eq!(item.at(&["_text"]).unwrap().list("extension").len(), 1);
}

#[test]
fn what_is_refused_has_no_words() {
    let form = json!({"resourceType": "Questionnaire", "id": "x", "title": "X", "extension": [
        {"url": (NOT_ACTIVATABLE), "valueString": "Its items are not known."}
    ]});
    let told = Wording::default().refusal(&form, TODAY, Purpose::Begin).unwrap();
    assert_eq!(told, "X cannot be put to anybody: Its items are not known.");
}
