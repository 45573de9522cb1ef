//! `lumbar rescore`: stored responses, scored anew by the rules of this version, with a report of
//! what changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use crate::facade::rescore::Rescored;
use crate::facade::{Error, Facade};
use crate::security::Caller;
use crate::telemetry::say;

/// What is to be scored anew, and how it is told.
pub struct Request<'a> {
    /// The id of the one instrument; all without it.
    pub instrument: Option<&'a str>,
    /// Whether nothing is written.
    pub is_dry: bool,
    /// Where a line of JSON goes for each response that changes.
    pub report: Option<&'a Path>,
}

/// What became of all responses.
#[derive(Default)]
struct Summary {
    responses: u64,
    scored: u64,
    refused: u64,
    changed: u64,
    observations: u64,
    /// How many moved from one category to another, by instrument and category.
    moves: BTreeMap<(String, String, String, String), u64>,
}

impl Summary {
    fn add(&mut self, page: &Rescored) {
        self.responses += page.responses;
        self.scored += page.scored;
        for changed in &page.changed {
            self.changed += 1;
            self.observations += u64::try_from(changed.observations.len()).unwrap_or(u64::MAX);
            for (name, from, to) in changed.moves() {
                *self.moves.entry((changed.instrument.clone(), name, from, to)).or_default() += 1;
            }
        }
        self.refused += u64::try_from(page.refused.len()).unwrap_or(u64::MAX);
    }

    fn text(&self, is_dry: bool) -> String {
        let written = if is_dry { "would be written" } else { "written" };
        let mut text = format!(
            "{} responses looked at, {} scored, {} refused; {} changed, {} observations {written}",
            self.responses, self.scored, self.refused, self.changed, self.observations
        );
        for ((instrument, name, from, to), count) in &self.moves {
            let _ = write!(text, "\n{instrument}, {name}: {count} from {from} to {to}");
        }
        text
    }
}

/// Scores stored responses anew and says what changed.
///
/// # Errors
/// A sentence: the store cannot be read or written, or the report cannot.
pub async fn rescore(facade: &Facade, request: &Request<'_>) -> Result<(), String> {
    let told = |error: Error| {
        error.issues().first().map_or_else(|| error.to_string(), |issue| issue.text.clone())
    };
    let mut report = match request.report {
        Some(path) => {
            let file = File::create(path).map_err(|e| format!("{}: {e}", path.display()))?;
            Some(BufWriter::new(file))
        }
        None => None,
    };
    let mut summary = Summary::default();
    let mut cursor = None;
    loop {
        let page = facade
            .rescore(&Caller::System, request.instrument, request.is_dry, cursor)
            .await
            .map_err(told)?;
        if let Some(report) = &mut report {
            write_page(report, &page).map_err(|error| format!("the report: {error}"))?;
        }
        summary.add(&page);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    if let Some(mut report) = report {
        report.flush().map_err(|error| format!("the report: {error}"))?;
    }
    say(&summary.text(request.is_dry));
    Ok(())
}

/// A line for each response that changes or is refused.
fn write_page(report: &mut impl Write, page: &Rescored) -> std::io::Result<()> {
    for changed in &page.changed {
        writeln!(report, "{}", changed.to_json())?;
    }
    for (response, reason) in &page.refused {
        let reference = format!("QuestionnaireResponse/{response}");
        let line = lumbar_fhir::json!({"response": (reference), "refused": (reason)});
        writeln!(report, "{line}")?;
    }
    Ok(())
}
