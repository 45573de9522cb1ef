//! Pure translation for `lumbar convert`: files in, output and report out, no database.

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::{Json, Severity, json};
use lumbar_translate::csv_list;
use lumbar_translate::mapping::Settings;
use lumbar_translate::report::{Outcome, Report};
use lumbar_translate::{emis, hl7v2};

use super::Format;
use crate::config::{ID_BASE, ZONE, zone};

/// What a conversion gave.
pub struct Converted {
    /// The translated text.
    pub output: String,
    /// Counts and issues.
    pub report: Json,
    /// Whether a file could not be used at all.
    pub fatal: bool,
}

/// Translates `files`, given as names and bytes, from one format to another. `source` names the
/// batch in `meta.source`.
///
/// # Errors
/// A sentence when the pair of formats is not offered.
pub fn convert(
    from: Format,
    to: Format,
    source: String,
    files: Vec<(String, Vec<u8>)>,
) -> Result<Converted, String> {
    match (from, to) {
        (Format::Emis, Format::Fhir) => from_emis(source, files),
        (Format::Csv, Format::Fhir) => Ok(from_csv(&files)),
        (Format::Hl7v2, Format::Fhir) => from_hl7v2(&files),
        _ => Err(format!("converting from {from:?} to {to:?} is not offered").to_lowercase()),
    }
}

fn from_emis(source: String, files: Vec<(String, Vec<u8>)>) -> Result<Converted, String> {
    let mapping =
        emis::mapping().map_err(|error| format!("the EMIS mapping is broken: {error}"))?;
    let definitions = Definitions::r4();
    let mut settings = settings(source, &definitions);
    // Without a time in a file's name there is none that would be the same next time.
    let timed =
        |(name, _): &(String, Vec<u8>)| !emis::FileName::parse(name).extract_time.is_empty();
    settings.provenance = files.iter().all(timed);
    let files = files.into_iter().map(|(name, bytes)| (name, std::io::Cursor::new(bytes)));
    let (bundle, report) = emis::convert(&mapping, files.collect(), &settings);
    Ok(finished(&bundle, &report))
}

/// Each message names its own batch: `meta.source` is its control id.
fn from_hl7v2(files: &[(String, Vec<u8>)]) -> Result<Converted, String> {
    let mapping =
        hl7v2::mapping().map_err(|error| format!("the HL7 v2 mapping is broken: {error}"))?;
    let definitions = Definitions::r4();
    let settings = settings(String::new(), &definitions);
    let mut all = Report::new("hl7v2");
    let mut entries: Vec<Json> = Vec::new();
    for (_, bytes) in files {
        let (bundle, report) =
            hl7v2::convert(&mapping, bytes, hl7v2::Charset::WINDOWS_1252, &settings);
        entries.extend(bundle.list("entry").iter().cloned());
        all.merge(report);
    }
    let mut bundle = json!({"resourceType": "Bundle", "type": "transaction"});
    if !entries.is_empty() {
        bundle.set("entry", entries);
    }
    Ok(finished(&bundle, &all))
}

/// The settings of a translation without a store.
fn settings(source: String, definitions: &Definitions) -> Settings<'_> {
    Settings {
        base: ID_BASE.to_owned(),
        source,
        zone: zone(),
        now: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        software: concat!("Lumbar ", env!("CARGO_PKG_VERSION")).to_owned(),
        provenance: true,
        wait: false,
        definitions,
    }
}

fn from_csv(files: &[(String, Vec<u8>)]) -> Converted {
    let settings =
        csv_list::Settings { base: ID_BASE, source: "csv", zone: ZONE, spreadsheet: false };
    let mut report = Report::new("csv");
    let mut entries: Vec<Json> = Vec::new();
    for (name, bytes) in files {
        let (rows, issues) = csv_list::read(name, bytes, &settings);
        issues.into_iter().for_each(|issue| report.issue(issue));
        for row in &rows {
            report.came_in("bookings");
            report.became("bookings", &Outcome::Mapped);
            for resource in csv_list::resources(row, &settings) {
                let of = resource.str_at(&["resourceType"]).unwrap_or_default().to_owned();
                let url = format!("{of}/{}", resource.str_at(&["id"]).unwrap_or_default());
                report.made(&of);
                let full_url = format!("{ID_BASE}/{url}");
                entries.retain(|entry| entry.str_at(&["fullUrl"]) != Some(&full_url));
                entries.push(json!({
                    "fullUrl": (full_url),
                    "resource": (resource),
                    "request": {"method": "PUT", "url": (url)}
                }));
            }
        }
    }
    let mut bundle = json!({"resourceType": "Bundle", "type": "transaction"});
    if !entries.is_empty() {
        bundle.set("entry", entries);
    }
    finished(&bundle, &report)
}

fn finished(bundle: &Json, report: &Report) -> Converted {
    let fatal = report.issues().iter().any(|issue| issue.severity == Severity::Fatal);
    Converted { output: bundle.to_pretty(), report: report.to_json(), fatal }
}
