//! The way in for files: land what came, raw, before anything is made of it; then read, map and
//! perform.
//!
//! What arrives is known again: the same file twice changes nothing. An import that was cut off is
//! finished by running it again.

mod convert;
mod emis;
mod files;
mod landed;

use std::path::PathBuf;

use clap::ValueEnum;
use lumbar_fhir::Json;
use lumbar_translate::report::Report;

use crate::app::App;

pub use convert::{Converted, convert};
pub use emis::import as import_emis;
pub use files::{Input, batch_name, embedded, read_files};

/// A format that is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// EMIS Web bulk extract
    Emis,
    /// HL7 v2
    Hl7v2,
    /// CSV appointment list
    Csv,
    /// FHIR R4 JSON
    Fhir,
}

impl Format {
    /// How names of files of this format end.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Emis | Format::Csv => "csv",
            Format::Hl7v2 => "hl7",
            Format::Fhir => "json",
        }
    }
}

/// What an import came to.
pub struct Imported {
    /// Counts and issues.
    pub report: Report,
    /// Resources that were created or changed.
    pub written: u64,
    /// Whether a file could not be used at all.
    pub fatal: bool,
}

impl Imported {
    /// One line for a person.
    pub fn summary(&self) -> String {
        let (mut rows, mut mapped, mut refused) = (0, 0, 0);
        for counts in self.report.tables.values() {
            rows += counts.rows_in;
            mapped += counts.mapped;
            refused += counts.refused;
        }
        format!(
            "{rows} rows in, {mapped} mapped, {refused} refused, {} resources written, {} issues",
            self.written,
            self.report.issues().len(),
        )
    }

    /// The report as JSON, with what was written.
    pub fn to_json(&self) -> Json {
        let mut report = self.report.to_json();
        report.set("written", self.written);
        report
    }
}

/// Imports files into the store.
///
/// # Errors
/// A sentence: a file cannot be read, the store cannot be written, or the format has no import.
pub async fn import(app: &App, from: Format, paths: &[PathBuf]) -> Result<Imported, String> {
    match from {
        Format::Emis => import_emis(app, &files::inputs(paths, from.extension())?).await,
        Format::Hl7v2 | Format::Csv | Format::Fhir => {
            Err("only emis is imported; post FHIR to the service, or use lumbar convert".to_owned())
        }
    }
}
