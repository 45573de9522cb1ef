//! `lumbar score`: answers from files, scored with the compiled-in instruments and without a store.

use std::io::Read;
use std::path::{Path, PathBuf};

use lumbar_clinical::vectors;
use lumbar_clinical::{Answers, Scored, ValueSets, score};
use lumbar_fhir::{Json, json};

use crate::rules::Rules;
use crate::telemetry::say;
use crate::value_sets;

/// The instruments, with the value sets of the site.
pub struct Bench {
    rules: Rules,
    value_sets: ValueSets,
}

impl Bench {
    /// The compiled-in instruments and the value sets of one file.
    ///
    /// # Errors
    /// A sentence that says what of the file cannot be used.
    pub fn new(value_sets: Option<&Path>) -> Result<Bench, String> {
        let mut rules = Rules::embedded().map_err(|issue| issue.text)?;
        let value_sets = value_sets::supply(&mut rules, value_sets)?;
        Ok(Bench { rules, value_sets })
    }

    /// Scores QuestionnaireResponses and prints the results. Returns whether all could be read.
    ///
    /// # Errors
    /// A sentence for the first file that is no JSON.
    pub fn files(&self, files: &[PathBuf]) -> Result<bool, String> {
        let mut scored_all = true;
        for path in files {
            let response = json(path)?;
            let Some(instrument) = self.rules.instrument(&response) else {
                let text = "no scoring rules are known for its questionnaire";
                eprintln!("{}: {text}", path.display());
                scored_all = false;
                continue;
            };
            let (scored, triage) = match Answers::from_response(instrument, &response) {
                Ok(answers) => (score::score(instrument, &answers), instrument.triage(&answers)),
                Err(refused) => (Scored::refused(&refused), instrument.triage(&refused.readable)),
            };
            scored_all &= scored.status != score::Status::Error;
            let mut result = scored.to_json();
            if let Some(triage) = triage {
                result.set("triage", triage.to_json());
            }
            say(&result.to_pretty());
        }
        Ok(scored_all)
    }

    /// Prints one line for each vector of a file; what is expected is not looked at.
    ///
    /// # Errors
    /// A sentence when the file cannot be read.
    pub fn vectors(&self, path: &Path) -> Result<bool, String> {
        let vectors = json(path)?;
        let bench = vectors::Bench {
            instruments: &self.rules.instruments,
            schedule: &self.rules.schedule,
            value_sets: &self.value_sets,
        };
        for vector in vectors.as_array().unwrap_or_else(|| vectors.list("vectors")) {
            let id = vector.get("id").cloned().unwrap_or(Json::Null);
            say(&json!({"id": (id), "actual": (bench.actual(vector))}).to_string());
        }
        Ok(true)
    }
}

fn json(path: &Path) -> Result<Json, String> {
    Json::parse(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        return Ok(bytes);
    }
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
