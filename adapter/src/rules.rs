//! The behaviour that is data: instruments, pathways and their value sets, as compiled in from
//! `profiles/`, and the artefacts that a site adds.

use std::path::Path;

use include_dir::{Dir, include_dir};
use lumbar_clinical::derive::range;
use lumbar_clinical::{Instrument, OptionSets, Pathway, Schedule};
use lumbar_fhir::{Issue, IssueType, Json};

use crate::packages::Packages;

static PROFILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../profiles");

/// Instruments and pathways, read and checked once.
pub struct Rules {
    /// Questionnaires that are served.
    pub questionnaires: Vec<Json>,
    /// What is asked and how the answers are scored.
    pub instruments: Vec<Instrument>,
    /// When outcomes are asked for.
    pub schedule: Schedule,
    /// What follows from scores.
    pub pathways: Vec<Pathway>,
    /// Every artefact of ours that is served besides: definitions of pathways and terminology.
    pub artefacts: Vec<Json>,
    /// What a site adds: what its packages hold is used, and the rest is served, too.
    pub packages: Packages,
}

impl Rules {
    /// The rules that were compiled in.
    ///
    /// # Errors
    /// The first artefact that cannot be used, which only a broken build has.
    pub fn embedded() -> Result<Rules, Issue> {
        let mut rules = Rules {
            questionnaires: Vec::new(),
            instruments: Vec::new(),
            schedule: Schedule::parse(&document("schedule.json")?)?,
            pathways: Vec::new(),
            artefacts: Vec::new(),
            packages: Packages::default(),
        };
        for file in files("structure").chain(files("terminology")) {
            rules.artefacts.push(read(file)?);
        }
        let value_sets: Vec<Json> = of_type(&rules.artefacts, "ValueSet").cloned().collect();
        let options = OptionSets::parse(&document("instruments/options.json")?)?;
        for folder in folders("instruments") {
            for file in folder.files() {
                match file.path().file_name().and_then(|name| name.to_str()) {
                    Some("Questionnaire.json") => rules.questionnaires.push(read(file)?),
                    Some("instrument.json") => {
                        rules.instruments.push(Instrument::parse(&read(file)?, &options)?);
                    }
                    _ => {}
                }
            }
        }
        for folder in folders("pathways") {
            let mut definitions = Vec::new();
            for file in folder.files().filter(|file| is_json(file.path())) {
                definitions.push(read(file)?);
            }
            let activities: Vec<Json> =
                of_type(&definitions, "ActivityDefinition").cloned().collect();
            for plan in of_type(&definitions, "PlanDefinition") {
                rules.pathways.push(Pathway::parse(plan, &activities, &value_sets)?);
            }
            rules.artefacts.append(&mut definitions);
        }
        Ok(rules)
    }

    /// The Questionnaire that a canonical, `url` or `url|version`, names.
    pub fn questionnaire(&self, canonical: &str) -> Option<&Json> {
        let (url, version) = match canonical.split_once('|') {
            Some((url, version)) => (url, Some(version)),
            None => (canonical, None),
        };
        let all = self.questionnaires.iter().chain(of_type(&self.artefacts, "Questionnaire"));
        let mut named = all.filter(|form| form.str_at(&["url"]) == Some(url));
        named.find(|form| version.is_none() || form.str_at(&["version"]) == version)
    }

    /// What a person is told at once whose answers have this level of a safety alert, in `language`
    /// where there is a translation, else in English. It needs no database.
    pub fn emergency_text(&self, level: &str, language: &str) -> Option<&str> {
        self.pathways.iter().find_map(|pathway| pathway.patient_text(level, language))
    }

    /// The instrument that a QuestionnaireResponse answers.
    pub fn instrument(&self, response: &Json) -> Option<&Instrument> {
        let mut all = self.instruments.iter();
        all.find(|instrument| lumbar_clinical::derive::concerns(instrument, response))
    }
}

impl Rules {
    /// Greatest value of the score that an Observation holds, when an instrument here made it.
    pub fn top(&self, observation: &Json) -> Option<f64> {
        let ranges = self.instruments.iter().filter_map(|one| range(one, observation));
        ranges.map(|(_, top)| top.to_string().parse().ok()).next()?
    }
}

/// A text of `profiles/` that is JSON and no FHIR.
pub struct Document {
    /// Its path in `profiles/`.
    pub path: String,
    /// What it holds.
    pub text: &'static str,
    /// The schema in `profiles/schema` that says its form.
    pub schema: &'static str,
}

/// The compiled-in texts that are JSON and no FHIR: instruments, the schedule and mappings.
pub fn documents() -> Vec<Document> {
    let of = |folder: &'static Dir<'static>, name: &str, schema: &'static str| {
        let file = folder.get_file(folder.path().join(name))?;
        let (path, text) = (file.path().display().to_string(), file.contents_utf8()?);
        Some(Document { path, text, schema })
    };
    let instruments =
        folders("instruments").filter_map(|folder| of(folder, "instrument.json", "instrument"));
    let single = [("instruments", "options.json", "options"), (".", "schedule.json", "schedule")];
    let single = single.into_iter().filter_map(|(folder, name, schema)| {
        let folder = if folder == "." { &PROFILES } else { PROFILES.get_dir(folder)? };
        of(folder, name, schema)
    });
    let mappings = folders("mappings").filter_map(|folder| {
        // A format of tables lists its columns, one of messages its segments.
        let has_tables = folder.get_file(folder.path().join("tables.csv")).is_some();
        let schema = if has_tables { "mapping-tables" } else { "mapping-messages" };
        of(folder, "mapping.json", schema)
    });
    instruments.chain(single).chain(mappings).collect()
}

/// The JSON Schema of that name in `profiles/schema`.
pub fn schema(name: &str) -> Option<&'static str> {
    PROFILES.get_file(format!("schema/{name}.schema.json"))?.contents_utf8()
}

fn folders(name: &str) -> impl Iterator<Item = &'static Dir<'static>> {
    PROFILES.get_dir(name).into_iter().flat_map(Dir::dirs)
}

fn files(name: &str) -> impl Iterator<Item = &'static include_dir::File<'static>> {
    let files = PROFILES.get_dir(name).into_iter().flat_map(Dir::files);
    files.filter(|file| is_json(file.path()))
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

/// One file of `profiles/`.
fn document(path: &str) -> Result<Json, Issue> {
    let none = || Issue::error(IssueType::NotFound, format!("{path} is not compiled in."));
    read(PROFILES.get_file(path).ok_or_else(none)?)
}

fn read(file: &include_dir::File<'_>) -> Result<Json, Issue> {
    Json::parse(file.contents()).map_err(|error| {
        Issue::error(IssueType::Structure, format!("{}: {error}", file.path().display()))
    })
}

fn of_type<'a>(resources: &'a [Json], name: &'a str) -> impl Iterator<Item = &'a Json> {
    resources.iter().filter(move |resource| resource.str_at(&["resourceType"]) == Some(name))
}
