//! The corpus of the fuzz targets: each file of `fixtures/fuzz/TARGET/`, among them every input that
//! was ever a finding. The fuzzer itself is in `fuzz/`.

use std::fs;
use std::thread;

use lumbar_testkit::fixtures;

#[path = "../fuzz/src/targets.rs"]
mod targets;

/// What a thread that answers requests has at least.
const STACK: usize = 2 << 20;

#[test]
fn no_input_of_the_corpus_is_a_finding() {
    for (name, target) in targets::TARGETS {
        let folder = fixtures().join("fuzz").join(name);
        let mut paths: Vec<_> = fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.expect("an entry").path())
            .collect();
        paths.sort();
        assert!(!paths.is_empty(), "{} is empty", folder.display());
        for path in paths {
            let data =
                fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let run = thread::Builder::new().stack_size(STACK).spawn(move || target(&data));
            let outcome = run.expect("a thread").join();
            assert!(outcome.is_ok(), "{} is a finding", path.display());
        }
    }
}
