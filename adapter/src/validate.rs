//! `lumbar validate`: files held against R4 and profiles, without a database.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::format::position::{Syntax, locate};
use lumbar_fhir::format::xml;
use lumbar_fhir::issue::operation_outcome;
use lumbar_fhir::questionnaire::Form;
use lumbar_fhir::terminology::{CodeSystem, Need as TerminologyNeed, ValueSet};
use lumbar_fhir::validate::{Limits, Need};
use lumbar_fhir::{Issue, IssueType, Json, Severity, json};

use crate::facade::validation::{Asked, Known};
use crate::facade::{Machine, Source};
use crate::rules::Rules;
use crate::serve::known;
use crate::telemetry::say;

/// Most files of one folder.
const MAX_FILES: usize = 20_000;
/// Most bytes of one file.
const MAX_FILE: u64 = 1 << 30;
/// Most looks at one resource.
const MAX_ROUNDS: usize = 8;
/// Name of the file that an OperationOutcome is about.
const FILE: &str = "http://hl7.org/fhir/StructureDefinition/operationoutcome-file";

/// What is asked for.
pub struct Request<'a> {
    /// Files or folders; `-` is stdin.
    pub files: &'a [PathBuf],
    /// Canonicals of profiles.
    pub profiles: &'a [String],
    /// Where a site's profiles are.
    pub paths: &'a [PathBuf],
    /// Whether an OperationOutcome a file is wanted, one a line.
    pub json: bool,
}

/// Validates files and says what it found. Returns whether all of them are valid.
///
/// # Errors
/// A sentence that says what cannot be read.
pub fn validate(request: &Request<'_>) -> Result<bool, String> {
    let (definitions, rules) = known(request.paths)?;
    let mut bench = Bench::new(&definitions, &rules, request.profiles);
    bench.look_for_profiles()?;
    let is_coloured = !request.json
        && std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut sum = Sum::default();
    for path in files(request.files)? {
        let bytes = read(&path)?;
        let name = if is_stdin(&path) { "stdin".to_owned() } else { path.display().to_string() };
        let before = sum.resources;
        let issues = bench.file(&path, &bytes, &mut sum);
        sum.add(&issues, sum.resources > before);
        if request.json {
            let mut outcome = operation_outcome(&issues);
            outcome.as_object_mut().into_iter().for_each(|outcome| {
                let file = json!([{"url": (FILE), "valueString": (name.as_str())}]);
                outcome.set_at(1, "extension", file);
            });
            say(&outcome.to_string());
        } else {
            issues.iter().for_each(|issue| say(&line(&name, issue, is_coloured)));
        }
    }
    if !request.json {
        say(&sum.to_string());
    }
    Ok(sum.invalid == 0)
}

/// What was counted.
#[derive(Default)]
struct Sum {
    files: usize,
    resources: usize,
    invalid: usize,
    errors: usize,
    warnings: usize,
}

impl Sum {
    fn add(&mut self, issues: &[Issue], has_resources: bool) {
        let errors = issues.iter().filter(|issue| issue.is_error()).count();
        let of = |severity| issues.iter().filter(|issue| issue.severity == severity).count();
        self.files += 1;
        self.invalid += usize::from(errors > 0 || !has_resources);
        self.errors += errors;
        self.warnings += of(Severity::Warning);
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = |number: usize, what: &str| match number {
            1 => format!("1 {what}"),
            number => format!("{number} {what}s"),
        };
        let verdict = match self.invalid {
            0 => "valid".to_owned(),
            invalid => format!("{} invalid", count(invalid, "file")),
        };
        let parts = [
            count(self.files, "file"),
            count(self.resources, "resource"),
            verdict,
            count(self.errors, "error"),
            count(self.warnings, "warning"),
        ];
        f.write_str(&parts.join(", "))
    }
}

/// What resources are held against where nothing is stored.
pub(crate) struct Bench<'a> {
    /// What is known of all of them.
    pub(crate) known: Known,
    definitions: &'a Definitions,
    rules: &'a Rules,
    profiles: &'a [String],
}

impl<'a> Bench<'a> {
    /// Holds against the rules, and against the profiles beside those that a resource names.
    pub(crate) fn new(
        definitions: &'a Definitions,
        rules: &'a Rules,
        profiles: &'a [String],
    ) -> Bench<'a> {
        Bench { known: Known::of(rules), definitions, rules, profiles }
    }

    fn look_for_profiles(&mut self) -> Result<(), String> {
        let is_type = |url: &str| {
            let name = url.strip_prefix("http://hl7.org/fhir/StructureDefinition/");
            name.is_some_and(|name| self.definitions.type_of(name).is_some())
        };
        for profile in self.profiles {
            let bare = profile.split('|').next().unwrap_or_default();
            if self.known.profiles.find(profile).is_none() && !is_type(bare) {
                return Err(format!(
                    "the profile {profile} is not known; name the folder, file or package that has it with --profiles"
                ));
            }
        }
        Ok(())
    }

    /// What is wrong with a file, with line and column in it.
    fn file(&mut self, path: &Path, bytes: &[u8], sum: &mut Sum) -> Vec<Issue> {
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        let is =
            |name: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(name));
        // A mark of UTF-16 or UTF-8, or a tag.
        let is_xml = is("xml") || matches!(first, Some(b'<' | 0xfe | 0xff));
        if is_xml {
            let read = xml::parse(self.definitions, bytes).map_err(|error| {
                let text = format!("This is not XML as FHIR uses it: {error}.");
                unreadable(error.code, text, error.path, (error.line, error.column))
            });
            return self.text(Syntax::Xml, bytes, read, sum);
        }
        let read = parse_json(bytes);
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        if !is("ndjson") && (read.is_ok() || lines.clone().count() < 2) {
            return self.text(Syntax::Json, bytes, read, sum);
        }
        // One that is no whole JSON text may be one on each line.
        if !is("ndjson") && lines.clone().any(|line| !line.trim_ascii().starts_with(b"{")) {
            return self.text(Syntax::Json, bytes, read, sum);
        }
        let mut issues = Vec::new();
        for (number, line) in (0_u32..).zip(bytes.split(|byte| *byte == b'\n')) {
            if line.trim_ascii().is_empty() {
                continue;
            }
            for mut issue in self.text(Syntax::Json, line, parse_json(line), sum) {
                issue.position = issue.position.map(|(line, column)| (line + number, column));
                issues.push(issue);
            }
        }
        issues
    }

    /// What is wrong with one resource.
    fn text(
        &mut self,
        syntax: Syntax,
        bytes: &[u8],
        read: Result<Json, Issue>,
        sum: &mut Sum,
    ) -> Vec<Issue> {
        sum.resources += 1;
        let resource = match read {
            Ok(resource) => resource,
            Err(issue) => return vec![issue],
        };
        let mut issues = self.resource(&resource);
        locate(syntax, bytes, "", &mut issues);
        issues
    }

    /// What is wrong with a resource.
    pub(crate) fn resource(&mut self, resource: &Json) -> Vec<Issue> {
        let mut issues = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let needs;
            let known = &self.known;
            (issues, needs) = known.look(
                self.definitions,
                &known.resources,
                resource,
                Asked::of(self.profiles),
                Limits::default(),
                Machine.now(),
            );
            // Each is answered, also after the first that may change something.
            let answered = needs.into_iter().map(|need| self.supply(need)).filter(|may| *may);
            if answered.count() == 0 {
                break;
            }
        }
        issues
    }

    /// Answers what is needed from what is in memory; whether that may change anything.
    fn supply(&mut self, need: Need) -> bool {
        match need {
            Need::Questionnaire(canonical) => {
                let packed = || self.rules.packages.resource("Questionnaire", &canonical);
                let found = self.rules.questionnaire(&canonical).cloned().or_else(packed);
                let resources = &mut self.known.resources;
                let is_new = resources.find(&canonical).is_none();
                match found {
                    // Read once for all responses.
                    Some(found) => {
                        let form = Form::read(self.definitions, &found).0;
                        resources.put_form(canonical, Arc::new(form));
                    }
                    None => resources.put(canonical, None),
                }
                is_new
            }
            Need::Terminology(TerminologyNeed::CodeSystem(canonical)) => {
                let packed = self.rules.packages.resource("CodeSystem", &canonical.to_string());
                let system = packed.and_then(|packed| CodeSystem::read(&packed).ok());
                self.known.terminology.put_code_system(canonical, system.map(Arc::new));
                true
            }
            Need::Terminology(TerminologyNeed::ValueSet(canonical)) => {
                let packed = self.rules.packages.resource("ValueSet", &canonical.to_string());
                let set = packed.and_then(|packed| ValueSet::read(&packed).ok());
                self.known.terminology.put_value_set(canonical, set.map(Arc::new));
                true
            }
            // Nobody else is there to ask.
            Need::Terminology(_) | Need::Profile(_) | Need::Resource(_) => false,
        }
    }
}

fn parse_json(bytes: &[u8]) -> Result<Json, Issue> {
    Json::parse(bytes).map_err(|error| {
        let text = format!("This is not JSON as FHIR uses it: {error}.");
        unreadable(IssueType::Structure, text, error.path, (error.line, error.column))
    })
}

fn unreadable(code: IssueType, text: String, path: String, place: (usize, usize)) -> Issue {
    let issue = Issue::error(code, text).severity(Severity::Fatal).position(place.0, place.1);
    if path.is_empty() { issue } else { issue.at(path) }
}

/// The files at the paths; of a folder those whose names end with `json`, `ndjson` or `xml`.
fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for path in paths {
        if is_stdin(path) || !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        let fault = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut within = Vec::new();
        for entry in std::fs::read_dir(path).map_err(fault)? {
            let entry = entry.map_err(fault)?.path();
            let name = entry.extension().map(|name| name.to_string_lossy().to_lowercase());
            if entry.is_file() && matches!(name.as_deref(), Some("json" | "ndjson" | "xml")) {
                within.push(entry);
            }
            if within.len() > MAX_FILES {
                return Err(format!("{} has more than {MAX_FILES} files", path.display()));
            }
        }
        if within.is_empty() {
            return Err(format!("{} has no .json, .ndjson or .xml files", path.display()));
        }
        within.sort();
        found.append(&mut within);
    }
    Ok(found)
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let fault = |error: std::io::Error| format!("{}: {error}", path.display());
    let source: Box<dyn Read> = match is_stdin(path) {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(std::fs::File::open(path).map_err(fault)?),
    };
    let mut bytes = Vec::new();
    source.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(fault)?;
    match bytes.len() as u64 > MAX_FILE {
        true => Err(format!("{} has more than {MAX_FILE} bytes", path.display())),
        false => Ok(bytes),
    }
}

/// `patient.json:3:14: error: Patient.birthDate: … [rule]`.
fn line(name: &str, issue: &Issue, is_coloured: bool) -> String {
    // Names and canonicals are others' texts; they move no cursor.
    let plain = |text: &str| text.replace(char::is_control, " ");
    let name = plain(name);
    let mut text = match issue.position {
        Some((line, column)) => format!("{name}:{line}:{column}: "),
        None => format!("{name}: "),
    };
    let severity = issue.severity.code();
    match (is_coloured, issue.severity) {
        (false, _) => text.push_str(severity),
        (true, Severity::Error | Severity::Fatal) => {
            text.push_str(&format!("\u{1b}[1;31m{severity}\u{1b}[0m"));
        }
        (true, Severity::Warning) => text.push_str(&format!("\u{1b}[33m{severity}\u{1b}[0m")),
        (true, Severity::Information) => text.push_str(&format!("\u{1b}[36m{severity}\u{1b}[0m")),
    }
    if let Some(expression) = &issue.expression {
        text.push_str(&format!(": {}", plain(expression)));
    }
    text.push_str(&format!(": {}", plain(&issue.text)));
    if let Some(rule) = &issue.rule {
        text.push_str(&format!(" [{}]", plain(rule)));
    }
    text
}
