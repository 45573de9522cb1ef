//! EMIS Web bulk extract: CSV files of a practice, one per table, 5.0 to 8.2.
//!
//! [`Reader`] turns a file into rows; [`mapping`] says what they mean; [`convert`] does both in
//! memory for a whole extract. An importer lands the rows instead and asks the mapping which
//! records they change. Nothing is written back in this layout.

mod quoting;
mod reader;

use std::collections::HashSet;
use std::io::Read;

use lumbar_fhir::{Issue, IssueType, Json, Object};

pub use self::reader::{FileName, Item, Reader};

use crate::mapping::{Entry, Mapping, MappingError, Settings, Source};
use crate::record::{Disposition, Row, RowKey, RowSet, Table};
use crate::report::{Outcome, Report};

macro_rules! table {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../../profiles/mappings/emis/", $name)))
    };
}

/// The mapping that comes with the product, `profiles/mappings/emis`.
pub const SOURCE: Source<'static> = Source {
    mapping: table!("mapping.json").1,
    tables: table!("tables.csv").1,
    codes: table!("codes.csv").1,
    rules: &[
        table!("allergy-intolerance.csv"),
        table!("appointment.csv"),
        table!("clinical-code.csv"),
        table!("condition.csv"),
        table!("encounter.csv"),
        table!("episode-of-care.csv"),
        table!("family-member-history.csv"),
        table!("immunization.csv"),
        table!("location.csv"),
        table!("observation.csv"),
        table!("organization.csv"),
        table!("patient.csv"),
        table!("practitioner-role.csv"),
        table!("practitioner.csv"),
        table!("schedule.csv"),
        table!("service-request.csv"),
        table!("slot.csv"),
    ],
};

/// The product's mapping, parsed and checked.
///
/// # Errors
/// A fault in `profiles/mappings/emis`; a test keeps it from shipping.
pub fn mapping() -> Result<Mapping, MappingError> {
    Mapping::parse(&SOURCE)
}

/// Adds what is in a row's cells and is not mapped to the report.
pub fn count_carried(report: &mut Report, table: &Table, row: &Row) {
    for (name, _) in row.cells.iter() {
        match table.column(name) {
            None => report.carried_cell(&table.name, name, "Unknown column"),
            Some(column) if column.disposition == Disposition::Carried => {
                report.carried_cell(&table.name, name, &column.comment);
            }
            Some(_) => {}
        }
    }
}

/// Translates a whole extract in memory: one transaction Bundle and the report.
///
/// Files are applied in the order of their extract time and number, whatever the order they come
/// in. The entries stand in the order of their URLs, so the same files give the same bytes.
pub fn convert<R: Read>(
    mapping: &Mapping,
    files: Vec<(String, R)>,
    settings: &Settings<'_>,
) -> (Json, Report) {
    let mut report = Report::new(&mapping.format);
    let rows = read(mapping, files, &mut report);
    let entries = map_all(mapping, &rows, settings, &mut report);
    let entries: Vec<Json> = entries.into_iter().map(Entry::into_json).collect();
    let mut bundle = Object::new();
    bundle.set("resourceType", "Bundle");
    bundle.set("type", "transaction");
    if !entries.is_empty() {
        bundle.set("entry", entries);
    }
    (Json::Object(bundle), report)
}

/// Reads files into a complete set of rows, counting and reporting.
fn read<R: Read>(mapping: &Mapping, files: Vec<(String, R)>, report: &mut Report) -> RowSet {
    let mut files: Vec<(FileName, R)> =
        files.into_iter().map(|(path, input)| (FileName::parse(&path), input)).collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    let mut rows = RowSet::complete();
    for (name, input) in files {
        let reader = match Reader::open(&mapping.layout, &name.name, input) {
            Ok(reader) => reader,
            Err(issue) => {
                report.issue(*issue);
                continue;
            }
        };
        let table = reader.table();
        reader.header_issues().iter().for_each(|issue| report.issue(issue.clone()));
        for item in reader {
            report.came_in(&table.name);
            match item {
                Item::Row(row, issues) => {
                    issues.into_iter().for_each(|issue| report.issue(issue));
                    count_carried(report, table, &row);
                    let links = mapping.joined_links(&row);
                    if rows.insert(*row, links).is_some() {
                        let rule = "replaced-by-another-row-of-its-key".to_string();
                        report.became(&table.name, &Outcome::Ignored(rule));
                    }
                }
                Item::Refused(issue) | Item::Broken(issue) => {
                    report.became(&table.name, &Outcome::Refused);
                    report.issue(issue);
                }
            }
        }
    }
    rows
}

/// Maps every root of a complete set and counts what became of every row.
fn map_all(
    mapping: &Mapping,
    rows: &RowSet,
    settings: &Settings<'_>,
    report: &mut Report,
) -> Vec<Entry> {
    let mut all: Vec<&Row> = rows.iter().collect();
    all.sort_by(|a, b| (&a.file, a.row, &a.key).cmp(&(&b.file, b.row, &b.key)));
    let mut entries: Vec<Entry> = Vec::new();
    let mut used: HashSet<RowKey> = HashSet::new();
    let mut timed = false;
    for row in all.iter().filter(|row| mapping.is_root(&row.key.table)) {
        let mapped = mapping.map(row, rows, settings);
        report.became(&row.key.table, &mapped.outcome);
        mapped.issues.into_iter().for_each(|issue| report.issue(issue));
        if mapped.outcome == Outcome::Mapped {
            let dependents = mapped.used.into_iter().filter(|key| !mapping.is_root(&key.table));
            used.extend(dependents);
        }
        timed |= !mapped.entries.is_empty();
        entries.extend(mapped.entries);
    }
    for row in all.iter().filter(|row| !mapping.is_root(&row.key.table)) {
        let outcome = if used.contains(&row.key) { Outcome::Mapped } else { Outcome::Carried };
        report.became(&row.key.table, &outcome);
        if outcome == Outcome::Carried
            && let Some(issue) = mapping.orphan(row, rows)
        {
            report.issue(issue);
        }
    }
    if timed {
        let zone = settings.zone.iana_name().unwrap_or("the connection's zone");
        let text = format!("Times in this format have no offset; they were read as {zone}.");
        report.issue(Issue::information(IssueType::Informational, text).detail("BPA-TIME-002"));
    }
    // A type change can withdraw a resource that another row has just made.
    entries.sort_by(|a, b| (&a.url, a.withdrawn).cmp(&(&b.url, b.withdrawn)));
    entries.dedup_by(|later, kept| later.url == kept.url);
    for entry in &entries {
        let kind = entry.resource.str_at(&["resourceType"]).unwrap_or_default();
        report.made(kind);
    }
    entries
}

#[cfg(test)]
mod tests;
