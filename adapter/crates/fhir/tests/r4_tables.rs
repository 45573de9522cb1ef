//! The tables in `profiles/r4` are what the generator makes of HL7's bundles.

#[path = "../examples/r4_tables.rs"]
mod generator;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

#[test]
fn the_tables_are_what_the_bundles_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let shared = env::var_os("LUMBAR_SHARED").map_or(root.join("../shared"), PathBuf::from);
    let bundles = shared.join("fhir/r4-core");
    if !bundles.is_dir() {
        println!("skipped: the shared reference data are not there");
        return;
    }
    let read = |file: &str| -> Result<Vec<u8>, Box<dyn Error>> {
        let path = bundles.join(format!("{file}.gz"));
        let output = Command::new("gzip").arg("-dc").arg(&path).output()?;
        if !output.status.success() {
            return Err(format!("{}: gzip failed", path.display()).into());
        }
        Ok(output.stdout)
    };
    for (name, content) in generator::tables(&read).unwrap() {
        let kept = fs::read_to_string(root.join("profiles/r4").join(name)).unwrap();
        let differs = kept.lines().zip(content.lines()).find(|(kept, made)| kept != made);
        assert_eq!(differs, None, "{name}: run the example r4_tables");
        assert_eq!(kept.len(), content.len(), "{name}: run the example r4_tables");
    }
}
