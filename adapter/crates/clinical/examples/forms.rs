//! Writes what is made of the instruments' tables: each `Questionnaire.json` beside its
//! `instrument.json`, and the terminology.
//!
//! `cargo run -p lumbar-clinical --example forms`, from anywhere in the repository.

use std::fs;
use std::path::{Path, PathBuf};

use lumbar_clinical::form::{Translation, questionnaire, terminology};
use lumbar_clinical::{Instrument, OptionSets};
use lumbar_fhir::Json;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let profiles = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../profiles");
    for (path, json) in made(&profiles)? {
        fs::write(path, format!("{}\n", json.to_pretty()))?;
    }
    Ok(())
}

/// Every file and what it holds.
pub fn made(profiles: &Path) -> Result<Vec<(PathBuf, Json)>, Failure> {
    let folder = profiles.join("instruments");
    let sets = read(&folder.join("options.json"))?;
    let sets = OptionSets::parse(&sets).map_err(|issue| issue.text)?;
    let mut folders: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(&folder)? {
        folders.extend(Some(entry?.path()).filter(|path| path.is_dir()));
    }
    folders.sort();
    let mut instruments = Vec::new();
    let mut made = Vec::new();
    for folder in folders {
        let place = |text: String| format!("{}: {text}", folder.display());
        let table = read(&folder.join("instrument.json"))?;
        let instrument = Instrument::parse(&table, &sets).map_err(|issue| place(issue.text))?;
        let mut translations = Vec::new();
        for path in translations_in(&folder)? {
            let json = read(&path)?;
            let translation = Translation::parse(&json, &instrument);
            translations.push(translation.map_err(|issue| place(issue.text))?);
        }
        made.push((folder.join("Questionnaire.json"), questionnaire(&instrument, &translations)));
        instruments.push(instrument);
    }
    for artefact in terminology(&instruments, &sets) {
        let text = |name: &str| artefact.str_at(&[name]).unwrap_or_default().to_owned();
        let name = format!("{}-{}.json", text("resourceType"), text("id"));
        made.push((profiles.join("terminology").join(name), artefact));
    }
    Ok(made)
}

fn translations_in(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("translation-") && name.ends_with(".json") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Json, Failure> {
    let place = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let bytes = fs::read(path).map_err(|error| place(&error))?;
    Ok(Json::parse(&bytes).map_err(|error| place(&error))?)
}
