//! `lumbar validate` as a process: what it prints, and its exit codes.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use lumbar_fhir::Json;
use tempfile::TempDir;

use crate::program::lumbar;

const GOOD: &str = r#"{"resourceType":"Patient","active":true}"#;
/// A fault in the third line, and a name that no message may repeat.
const BAD: &str = "{\"resourceType\": \"Patient\",\n  \"name\": [{\"family\": \"Quillfeather\"}],\n  \"birthDate\": \"1974-13-01\"}";
const XML: &str =
    "<Patient xmlns=\"http://hl7.org/fhir\">\n  <birthDate value=\"1974-13-01\"/>\n</Patient>";
const PROFILE: &str = r#"{"resourceType":"StructureDefinition","id":"named","url":"http://lumbar.test/StructureDefinition/named","name":"Named","status":"active","fhirVersion":"4.0.1","kind":"resource","abstract":false,"type":"Patient","baseDefinition":"http://hl7.org/fhir/StructureDefinition/Patient","derivation":"constraint","differential":{"element":[{"id":"Patient","path":"Patient"},{"id":"Patient.name","path":"Patient.name","min":1}]}}"#;

fn run(folder: &Path, arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut all = vec!["validate"];
    all.extend(arguments);
    let mut command = lumbar(&all);
    command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("all")).unwrap();
    std::fs::create_dir(folder.path().join("site")).unwrap();
    for (name, text) in [
        ("good.json", GOOD),
        ("bad.json", BAD),
        ("bad.xml", XML),
        ("all/a.json", GOOD),
        ("all/b.ndjson", &format!("{GOOD}\n\n{}\n", BAD.replace('\n', ""))),
        ("all/readme.txt", "no resource"),
        ("broken.json", "{\"resourceType\": \"Patient\",\n \"active\": maybe}"),
        ("site/named.json", PROFILE),
    ] {
        write(name, text);
    }
    folder
}

#[test]
fn every_issue_has_its_place_and_the_exit_code_tells() {
    let folder = folder();
    let run = |arguments: &[&str], input: &str| run(folder.path(), arguments, input);
    let (code, out, _) = run(&["good.json"], "");
    assert_eq!((code, out.as_str()), (0, "1 file, 1 resource, valid, 0 errors, 0 warnings\n"));
    for (file, place) in [
        ("bad.json", "bad.json:3:3: error: Patient.birthDate: "),
        ("bad.xml", "bad.xml:2:3: error: Patient.birthDate: "),
        ("broken.json", "broken.json:2:12: fatal: "),
    ] {
        let (code, out, _) = run(&[file], "");
        assert!(code == 1 && out.starts_with(place), "{code} {out}");
        assert!(!out.contains("Quillfeather") && !out.contains('\u{1b}'), "{out}");
        assert!(
            out.ends_with("1 file, 1 resource, 1 file invalid, 1 error, 0 warnings\n"),
            "{out}"
        );
    }
    let (code, out, _) = run(&["-"], BAD);
    assert!(code == 1 && out.starts_with("stdin:3:3: error"), "{code} {out}");
    // A folder stands for its files; a line of NDJSON is a resource.
    let (code, out, _) = run(&["all"], "");
    assert!(code == 1 && out.starts_with("all/b.ndjson:3:"), "{code} {out}");
    assert!(out.ends_with("2 files, 3 resources, 1 file invalid, 1 error, 0 warnings\n"), "{out}");
}

#[test]
fn profiles_are_those_of_the_site() {
    let folder = folder();
    let run = |arguments: &[&str]| run(folder.path(), arguments, "");
    let url = "http://lumbar.test/StructureDefinition/named";
    let (code, out, error) = run(&["good.json", "--profile", url]);
    assert!(code == 2 && out.is_empty() && error.contains(url), "{code} {out} {error}");
    let (code, out, _) = run(&["good.json", "--profile", url, "--profiles", "site"]);
    assert!(code == 1 && out.contains("error: Patient: ") && out.contains(url), "{code} {out}");
    let (code, _, _) = run(&["good.json", "--profiles", "site"]);
    assert_eq!(code, 0);
}

#[test]
fn json_is_an_operation_outcome_a_file() {
    let folder = folder();
    let (code, out, _) = run(folder.path(), &["good.json", "bad.json", "--json"], "");
    assert_eq!(code, 1);
    let outcomes: Vec<Json> =
        out.lines().map(|line| Json::parse(line.as_bytes()).unwrap()).collect();
    let severities: Vec<_> =
        outcomes.iter().map(|outcome| outcome.str_at(&["issue", "severity"]).unwrap()).collect();
    assert_eq!(severities, ["information", "error"]);
    assert_eq!(outcomes[1].str_at(&["extension", "valueString"]), Some("bad.json"));
    let issue = &outcomes[1].list("issue")[0];
    assert_eq!(issue.list("extension")[0].get("valueInteger").and_then(Json::as_i64), Some(3));
}

#[test]
fn what_cannot_be_read_is_exit_code_2() {
    let folder = folder();
    for arguments in
        [&["nothing.json"][..], &["site/none"], &[], &["good.json", "--profiles", "no"]]
    {
        let (code, out, error) = run(folder.path(), arguments, "");
        assert!(code == 2 && out.is_empty() && !error.is_empty(), "{code} {out} {error}");
    }
}
