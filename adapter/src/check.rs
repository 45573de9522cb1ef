//! `lumbar check`: whether everything that is data can be used, before a patient meets it.

use lumbar_fhir::validate::validate;
use lumbar_fhir::{Issue, Json};
use lumbar_translate::{emis, hl7v2};

use crate::config::Settings;
use crate::rules;
use crate::serve::definitions;
use crate::telemetry::say;

/// Looks at the definitions, the artefacts, the scoring tables and the mappings, and says what it
/// found. Returns whether all is well.
///
/// # Errors
/// A sentence for the first artefact that cannot be read at all.
pub fn check(settings: &Settings) -> Result<bool, String> {
    let (definitions, rules) = definitions(&settings.profiles)?;
    let mut faults: Vec<String> = Vec::new();
    for issue in definitions.issues() {
        faults.push(issue.text.clone());
    }
    let artefacts = rules.questionnaires.iter().chain(&rules.artefacts);
    let mut count = 0;
    for artefact in artefacts {
        count += 1;
        for issue in validate(&definitions, artefact).iter().filter(|issue| issue.is_error()) {
            faults.push(format!("{}: {}", name(artefact), told(issue)));
        }
    }
    for entry in rules.packages.entries().iter().filter(|entry| entry.in_package) {
        count += 1;
        match entry.resource() {
            Err(error) => faults.push(error),
            Ok(resource) => {
                let issues = validate(&definitions, &resource);
                let issues = issues.iter().filter(|issue| issue.is_error());
                faults.extend(issues.map(|issue| format!("{}: {}", name(&resource), told(issue))));
            }
        }
    }
    let tables = rules::scoring_tables();
    for (path, text) in &tables {
        faults.extend(against_schema(text).into_iter().map(|fault| format!("{path}: {fault}")));
    }
    let mappings = [
        ("emis", emis::mapping().err().map(|error| error.to_string())),
        ("hl7v2", hl7v2::mapping().err().map(|error| error.to_string())),
    ];
    for (mapping, error) in &mappings {
        faults.extend(error.iter().map(|error| format!("mapping {mapping}: {error}")));
    }
    say(&format!("database      {}", without_password(&settings.database)));
    say(&format!("listen        {}", settings.listen));
    for package in &rules.packages.manifests {
        say(&format!("package       {} {}", package.name, package.version));
    }
    say(&format!("artefacts     {count}"));
    if rules.packages.skipped > 0 {
        say(&format!("left out      {} resources, no conformance ones", rules.packages.skipped));
    }
    for warning in &rules.packages.warnings {
        say(&format!("warning       {warning}"));
    }
    say(&format!("instruments   {} scored", tables.len()));
    say(&format!("pathways      {}", rules.pathways.len()));
    say(&format!("mappings      {}", mappings.len()));
    for table in rules.tables.iter().filter(|table| !table.approval.is_approved()) {
        say(&format!("not approved  scoring table {} {}", table.id, table.version));
    }
    for pathway in rules.pathways.iter().filter(|pathway| !pathway.approval.is_approved()) {
        say(&format!("not approved  pathway {} {}", pathway.url, pathway.version));
    }
    for fault in &faults {
        say(&format!("FAULT         {fault}"));
    }
    Ok(faults.is_empty())
}

/// What a scoring table breaks of `profiles/schema/scoring.schema.json`.
fn against_schema(text: &str) -> Vec<String> {
    let schema = serde_json::from_str(rules::SCORING_SCHEMA);
    let schema = schema.map_err(|error| error.to_string());
    let validator = schema.and_then(|schema: serde_json::Value| {
        jsonschema::validator_for(&schema).map_err(|error| error.to_string())
    });
    let validator = match validator {
        Ok(validator) => validator,
        Err(error) => return vec![format!("the schema cannot be used: {error}")],
    };
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(table) => validator
            .iter_errors(&table)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect(),
        Err(error) => vec![error.to_string()],
    }
}

fn name(artefact: &Json) -> &str {
    artefact.str_at(&["url"]).or_else(|| artefact.str_at(&["id"])).unwrap_or("an artefact")
}

fn told(issue: &Issue) -> String {
    match &issue.expression {
        Some(expression) => format!("{expression}: {}", issue.text),
        None => issue.text.clone(),
    }
}

/// A database url without what stands before its `@`.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => url.to_owned(),
    }
}
