//! The table of required codes in `profiles/r4` is what the generator makes of HL7's expansions.

#[path = "../examples/r4_codes.rs"]
mod generator;

use std::fs;
use std::process::Command;

#[test]
fn the_table_is_what_the_expansions_say() {
    let Some(shared) = lumbar_testkit::shared() else { return };
    let path = shared.join("fhir/r4-core/valueset-expansions.json.gz");
    let output = Command::new("gzip").arg("-dc").arg(&path).output().unwrap();
    assert!(output.status.success(), "{}: gzip failed", path.display());
    let folder = lumbar_testkit::root().join("profiles/r4");
    let elements = fs::read_to_string(folder.join("elements.tsv")).unwrap();
    let made = generator::table(&elements, &output.stdout).unwrap();
    let kept = fs::read_to_string(folder.join("codes.tsv")).unwrap();
    let differs = kept.lines().zip(made.lines()).find(|(kept, made)| kept != made);
    assert_eq!(differs, None, "codes.tsv: run the example r4_codes");
    assert_eq!(kept.len(), made.len(), "codes.tsv: run the example r4_codes");
}
