//! Cases of the published suites: their files, and how what is found is written down.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lumbar_fhir::format::xml;
use lumbar_fhir::{Issue, Json};
use lumbar_testkit::fixtures;

use crate::loaded::R4;

pub fn read(path: &Path) -> Result<Json, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if path.extension().is_some_and(|extension| extension == "xml") {
        return xml::parse(&R4, &bytes).map_err(|error| format!("{}: {error}", path.display()));
    }
    Json::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

pub fn print(issues: &[Issue]) -> String {
    let line = |issue: &Issue| {
        let expression = issue.expression.as_deref().unwrap_or("-");
        let (severity, code) = (issue.severity.code(), issue.code.code());
        let rule = issue.rule.as_deref().map(|rule| format!(" ({rule})")).unwrap_or_default();
        format!("{severity} {code} {expression}: {}{rule}\n", issue.text)
    };
    issues.iter().map(line).collect()
}

/// The rows of `exceptions.tsv` for a suite: what it says differently from us, and why.
pub fn exceptions(suite: &str) -> BTreeMap<String, String> {
    let table = fs::read_to_string(fixtures().join("validator/exceptions.tsv")).unwrap();
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split('\t');
        let (of, case, reason) = (fields.next()?, fields.next()?, fields.next()?);
        (of == suite).then(|| (case.to_string(), reason.to_string()))
    });
    rows.collect()
}

/// The files and folders of a folder by their names.
pub fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}
