//! What tests share: folders of cases, reference data, and the programs some tests need.
//!
//! For tests only: a broken set-up panics with a sentence that says what to mend.

#![expect(clippy::panic, reason = "a test that cannot be set up must fail")]

mod cases;
mod postgres;

use std::env;
use std::path::{Path, PathBuf};

pub use cases::{Case, cases, check};
pub use postgres::{Database, postgres};

/// The folder that holds the workspace's `Cargo.toml`.
pub fn root() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.ancestors().nth(3).unwrap_or(crate_dir).to_owned()
}

/// The folder of test and demonstration data, `fixtures/`.
pub fn fixtures() -> PathBuf {
    root().join("fixtures")
}

/// The folder of reference data: `LUMBAR_SHARED`, or `shared` beside the workspace. Prints one
/// line and gives `None` when there is none; tests that need it then pass.
pub fn shared() -> Option<PathBuf> {
    let beside = || root().parent().map(|parent| parent.join("shared"));
    let folder = env::var_os("LUMBAR_SHARED").map(PathBuf::from).or_else(beside)?;
    if folder.is_dir() {
        return Some(folder);
    }
    println!("left out: no reference data at {}; set LUMBAR_SHARED", folder.display());
    None
}

/// A Chromium browser from `PATH`. Prints one line and gives `None` when there is none; panics
/// instead when `LUMBAR_TEST_REQUIRE=all`.
pub fn chromium() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|program| program.is_file());
    if found.is_none() {
        missing("tests in a browser", "Chromium", "apt-get install chromium");
    }
    found
}

/// Says what is left out, or fails where everything is required.
fn missing(what: &str, program: &str, how: &str) {
    let line = format!("left out: {what}, because {program} is not installed ({how})");
    if env::var("LUMBAR_TEST_REQUIRE").is_ok_and(|value| value == "all") {
        panic!("{line}; LUMBAR_TEST_REQUIRE=all");
    }
    println!("{line}");
}
