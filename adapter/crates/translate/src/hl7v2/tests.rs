use std::path::PathBuf;

use expect_test::expect_file;
use lumbar_fhir::Json;
use proptest::prelude::*;

use super::*;
use crate::local_time;

fn root() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", ".."].iter().collect()
}

fn fixture(name: &str) -> PathBuf {
    root().join("fixtures/translate/hl7v2").join(name)
}

fn load(name: &str) -> Vec<u8> {
    let path = fixture(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parse(bytes: &[u8]) -> (Message, Vec<Issue>) {
    Message::parse(bytes, Charset::WINDOWS_1252).unwrap_or_else(|issue| panic!("{issue:?}"))
}

#[test]
fn a_message_is_the_tree_of_the_fixture() {
    let (message, issues) = parse(&load("groups.hl7"));
    let (tree, more) = tree(&message, Groups::STANDARD);
    assert_eq!((issues, more), (vec![], vec![]));
    expect_file![fixture("groups.json")].assert_eq(&format!("{}\n", tree.to_pretty()));
}

/// Each case is a message and what must be found in it, or the sentence that refuses it.
#[test]
fn messages_are_read_as_the_cases_say() {
    let cases = Json::parse(&load("read.json")).unwrap();
    let mut failures = Vec::new();
    for case in cases.as_array().unwrap() {
        let name = case.str_at(&["name"]).unwrap();
        let bytes = match case.str_at(&["hex"]) {
            Some(hex) => (0..hex.len() / 2)
                .map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap())
                .collect(),
            None => case.str_at(&["text"]).unwrap().as_bytes().to_vec(),
        };
        let mut found = Vec::new();
        match Message::parse(&bytes, Charset::WINDOWS_1252) {
            Err(issue) => found.push(format!("refused: {}", issue.text)),
            Ok((message, mut issues)) => {
                let (tree, more) = tree(&message, Groups::STANDARD);
                issues.extend(more);
                for value in case.list("values") {
                    let path: Vec<&str> = value.as_str().unwrap().split('.').collect();
                    found.push(format!("{}={}", path.join("."), tree.str_at(&path).unwrap_or("-")));
                }
                found.extend(issues.iter().map(|issue| issue.text.clone()));
            }
        }
        let expected: Vec<&str> = case.list("expect").iter().filter_map(Json::as_str).collect();
        if found != expected {
            failures.push(format!("{name}: {found:#?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_structure_is_derived_where_it_is_not_sent() {
    for (kind, structure) in [
        ("REF^I12", "REF_I12"),
        ("REF^I14", "REF_I12"),
        ("ADT^A31", "ADT_A05"),
        ("SIU^S15^SIU_S12", "SIU_S12"),
        ("ORU^R01", "ORU_R01"),
        ("ACK", "ACK"),
    ] {
        let (message, _) = parse(format!("MSH|^~\\&|||||||{kind}|1\r").as_bytes());
        assert_eq!(message.kind().unwrap().2, structure, "{kind}");
    }
}

#[test]
fn times_keep_their_precision() {
    let zone = local_time::zone("Europe/London").unwrap();
    for (text, expected) in [
        ("1968", "1968"),
        ("196803", "1968-03"),
        ("19680314", "1968-03-14"),
        ("2026030210", "1968 cut"),
        ("202603021045", "2026-03-02T10:45:00+00:00 zone"),
        ("202607021045", "2026-07-02T10:45:00+01:00 zone"),
        ("20260302104507.1234", "2026-03-02T10:45:07.1234+00:00 zone"),
        ("20260302104507+0000", "2026-03-02T10:45:07+00:00"),
        ("20260302104507-0530", "2026-03-02T10:45:07-05:30"),
        ("20260302104507+01", "2026-03-02T10:45:07+01:00"),
        ("202603290130", "2026-03-29T02:30:00+01:00 zone Gap"),
        ("202610250130", "2026-10-25T01:30:00+01:00 zone Overlap"),
    ] {
        let expected = expected.replace("1968 cut", "2026-03-02 cut");
        let found = read_time(text, &zone).unwrap_or_else(|| panic!("{text}"));
        let mut shown = found.text;
        for (is, word) in [(found.is_zone_assumed, " zone"), (found.is_cut, " cut")] {
            shown.push_str(if is { word } else { "" });
        }
        if let Some(oddity) = found.oddity {
            shown.push_str(&format!(" {oddity:?}"));
        }
        assert_eq!(shown, expected, "{text}");
    }
    for text in [
        "",
        "20261301",
        "19680230",
        "2026030225",
        "2026030210456",
        "x",
        "20260302+0000x",
        "2026030210450.",
    ] {
        assert_eq!(read_time(text, &zone), None, "{text}");
    }
}

#[test]
fn what_a_set_cannot_hold_is_replaced_and_reported() {
    let text = "NTE|1||“Wiśniewski” – £5 café";
    for (name, expected, issues) in [
        ("UNICODE UTF-8", text.as_bytes(), 0),
        ("8859/1", b"NTE|1||\"Wi?niewski\" - \xa35 caf\xe9", 4),
        ("8859/2", b"NTE|1||\"Wi\xb6niewski\" - ?5 caf\xe9", 4),
    ] {
        let (mut message, _) = parse(format!("MSH|^~\\&|\r{text}\r").as_bytes());
        message.charset = Charset::named(name).unwrap();
        let (written, found) = message.to_bytes();
        assert_eq!(&written[10..written.len() - 1], expected, "{name}");
        assert_eq!(found.len(), issues, "{name}: {found:?}");
    }
    assert_eq!(Charset::named("ISO IR87"), None);
    assert_eq!(Charset::named("ASCII"), None);
}

#[test]
fn frames_may_hold_several_messages() {
    let two = b"\x0bMSH|^~\\&|A\rPID|1|MSH\rMSH|^~\\&|B\r";
    let found = messages(two);
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|message| message.starts_with(b"MSH|")));
    assert!(messages(b"PID|1\r").is_empty());
}

#[test]
fn shared_messages_are_read_and_printed() {
    let shared = std::env::var_os("LUMBAR_SHARED").map(PathBuf::from);
    let folder = shared.unwrap_or_else(|| root().join("../shared")).join("formats/samples");
    if !folder.is_dir() {
        println!("left out: shared samples are not at {}", folder.display());
        return;
    }
    let mut count = 0;
    for name in ["synthetic-hl7v2", "microsoft-fhir-converter", "hapi-hl7v2"] {
        for entry in std::fs::read_dir(folder.join(name)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "hl7") {
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let (message, _) = parse(&bytes);
            let (tree, _) = tree(&message, Groups::STANDARD);
            assert!(tree.str_at(&["MSH", "f9", "c1"]).is_some(), "{}", path.display());
            let (written, issues) = message.to_bytes();
            assert_eq!((parse(&written).0.segments, issues), (message.segments, vec![]));
            count += 1;
        }
    }
    assert!(count > 30, "only {count} messages");
}

proptest! {
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[A-Z0-9|^~\\\\&\"\r\n .]{0,120}") {
        for bytes in [bytes.clone(), [b"MSH|^~\\&|", bytes.as_slice()].concat(), text.clone().into_bytes(), format!("MSH|^~\\&|{text}").into_bytes()] {
            if let Ok((message, _)) = Message::parse(&bytes, Charset::WINDOWS_1252) {
                let _ = tree(&message, Groups::STANDARD);
                let _ = message.kind();
            }
            let _ = messages(&bytes);
        }
        let _ = read_time(&text, &local_time::zone("Europe/London").unwrap());
    }

    #[test]
    fn printing_gives_back_what_was_read(
        lines in proptest::collection::vec("[A-Z]{2}[A-Z0-9](\\|[ -~é]{0,8}){0,6}", 0..8)
    ) {
        let lines: Vec<&String> = lines.iter().filter(|line| !line.starts_with("MSH")).collect();
        let mut text = "MSH|^~\\&|A|B||||||||||||||||UNICODE UTF-8\r".to_owned();
        for line in lines {
            text.push_str(line);
            text.push('\r');
        }
        let (message, _) = parse(text.as_bytes());
        prop_assert_eq!(message.print(), text);
    }

    #[test]
    fn any_text_survives_escaping(text in "[ -~é\n|^~\\\\&#]{0,40}", odd: bool) {
        let delimiters = Delimiters {
            field: if odd { '#' } else { '|' },
            truncation: odd.then_some('|'),
            ..Delimiters::default()
        };
        let written = escape(&text, &delimiters);
        prop_assert!(!written.contains(['\n', '^', '~', '&', delimiters.field]));
        let mut issues = Vec::new();
        let back = unescape(&written, &delimiters, Charset::UTF_8, &mut issues);
        prop_assert_eq!(back, text);
        prop_assert_eq!(issues, vec![]);
    }
}
