//! `lumbar check`: whether everything that is data can be used, before a patient meets it.

use std::borrow::Cow;
use std::path::Path;

use lumbar_fhir::Json;
use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::profile::Profiles;
use lumbar_translate::{emis, hl7v2};

use crate::config::{self, Settings};
use crate::rules;
use crate::schema;
use crate::serve::definitions;
use crate::telemetry::say;
use crate::validate::Bench;
use crate::value_sets;
use crate::wording::{Organisation, Purpose, Wording};

/// Looks at the definitions, the artefacts, the instruments, the mappings and the file of the
/// configuration, and says what it found. Returns whether all is well.
///
/// # Errors
/// A sentence for the first artefact that cannot be read at all.
pub fn check(settings: &Settings, config: Option<&Path>) -> Result<bool, String> {
    let (definitions, mut rules) = definitions(&settings.profiles)?;
    let mut faults: Vec<String> = Vec::new();
    faults.extend(value_sets::supply(&mut rules, settings.value_sets.as_deref()).err());
    for issue in definitions.issues() {
        faults.push(issue.text.clone());
    }
    let ours = rules.questionnaires.iter().chain(&rules.artefacts);
    let ours = ours.map(|artefact| (Ok(Cow::Borrowed(artefact)), true));
    let own = rules.packages.own().map(|entry| (entry.resource().map(Cow::Owned), true));
    let packed = rules.packages.entries().iter().filter(|entry| entry.in_package);
    let packed = packed.map(|entry| (entry.resource().map(Cow::Owned), false));
    let mut bench = Bench::new(&definitions, &rules, &[]);
    let mut count = 0;
    for (artefact, is_served) in ours.chain(own).chain(packed) {
        count += 1;
        let artefact = match artefact {
            Ok(artefact) => artefact,
            Err(error) => {
                faults.push(error);
                continue;
            }
        };
        for issue in bench.resource(&artefact).iter().filter(|issue| issue.is_error()) {
            faults.push(rules.packages.told(&artefact, issue));
        }
        if is_served {
            faults.extend(without_snapshot(&definitions, &bench.known.profiles, &artefact));
        }
    }
    for document in rules::documents() {
        let found = schema::faults(document.schema, document.text).into_iter();
        faults.extend(found.map(|fault| format!("{}: {fault}", document.path)));
    }
    let organisation =
        Organisation { name: settings.organisation.clone(), ods_code: settings.ods_code.clone() };
    let wording = Wording::load(&settings.wording, &rules, &organisation);
    faults.extend(wording.refused.iter().map(|reason| format!("wording pack {reason}")));
    if let Some(path) = config {
        let found = of_configuration(path).into_iter();
        faults.extend(found.map(|fault| format!("{}: {fault}", path.display())));
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
    say(&format!("instruments   {}", rules.instruments.len()));
    let today = jiff::Timestamp::now().to_zoned(config::zone()).date();
    let closed = |form: &Json| wording.refusal(form, today, Purpose::Begin);
    let closed: Vec<String> = rules.questionnaires.iter().filter_map(closed).collect();
    say(&format!("wording packs {} in use", wording.packs().len()));
    say(&format!("can be asked  {}", rules.questionnaires.len() - closed.len()));
    for reason in &closed {
        say(&format!("not asked     {reason}"));
    }
    say(&format!("pathways      {}", rules.pathways.len()));
    say(&format!("mappings      {}", mappings.len()));
    for one in rules.instruments.iter().filter(|one| !one.approval.is_approved()) {
        say(&format!("not approved  instrument {} {}", one.id, one.version));
    }
    for pathway in rules.pathways.iter().filter(|pathway| !pathway.approval.is_approved()) {
        say(&format!("not approved  pathway {} {}", pathway.url, pathway.version));
    }
    for fault in &faults {
        say(&format!("FAULT         {fault}"));
    }
    Ok(faults.is_empty())
}

/// Says that no instance can be held against a profile.
fn without_snapshot(
    definitions: &Definitions,
    profiles: &Profiles,
    artefact: &Json,
) -> Option<String> {
    let url = artefact.str_at(&["url"])?;
    let is_profile = artefact.str_at(&["resourceType"]) == Some("StructureDefinition");
    let found = profiles.find(url).filter(|_| is_profile)?;
    match found.snapshot(profiles, definitions) {
        Some(_) => None,
        None => Some(format!("{url}: its differential does not fit what it is based on")),
    }
}

/// What the file of `--config` breaks of its schema.
fn of_configuration(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    let value = text.and_then(|text| toml::from_str(&text).map_err(|error| error.to_string()));
    match value {
        Ok(value) => schema::faults_of("configuration", &value),
        Err(error) => vec![error],
    }
}

/// A database url without what stands before its `@`.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => url.to_owned(),
    }
}
