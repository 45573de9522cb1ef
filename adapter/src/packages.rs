//! Conformance resources that a site adds: files, folders of them, and FHIR packages
//! (<https://confluence.hl7.org/display/FHIR/NPM+Package+Specification>).
//!
//! Of each resource its first members are read at start, and the rest when it is first used.
//! Nothing is downloaded and nothing is written: what a package depends on must lie on the same
//! paths. A package's `.index.json` is not read.

mod archive;
mod files;
mod head;
mod manifest;

use std::cmp::Ordering;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::terminology::compare_versions;
use lumbar_fhir::{Issue, Json};

pub use manifest::Manifest;

/// Types whose resources say how others are to be understood.
const CONFORMANCE: [&str; 25] = [
    "ActivityDefinition",
    "CapabilityStatement",
    "ChargeItemDefinition",
    "CodeSystem",
    "CompartmentDefinition",
    "ConceptMap",
    "EventDefinition",
    "ExampleScenario",
    "GraphDefinition",
    "ImplementationGuide",
    "Library",
    "Measure",
    "MessageDefinition",
    "NamingSystem",
    "ObservationDefinition",
    "OperationDefinition",
    "PlanDefinition",
    "Questionnaire",
    "SearchParameter",
    "SpecimenDefinition",
    "StructureDefinition",
    "StructureMap",
    "TerminologyCapabilities",
    "TestScript",
    "ValueSet",
];

/// What was found on the paths.
#[derive(Debug, Default)]
pub struct Packages {
    entries: Vec<Entry>,
    /// Places of entries by type and url, the oldest version first.
    by_canonical: HashMap<String, HashMap<String, Vec<usize>>>,
    /// The packages.
    pub manifests: Vec<Manifest>,
    /// How many resources were left out, as they are no conformance resources.
    pub skipped: usize,
    /// What somebody should look at.
    pub warnings: Vec<String>,
}

/// One conformance resource, as it lies there.
#[derive(Debug)]
pub struct Entry {
    /// Where it lies: a file, or a file and the member of it.
    pub place: String,
    /// Its type.
    pub resource_type: String,
    /// Its logical id.
    pub id: Option<String>,
    /// Its canonical, without the version.
    pub url: Option<String>,
    /// Its business version.
    pub version: Option<String>,
    /// Of a StructureDefinition, the type that it is about.
    pub of_type: Option<String>,
    /// Of a StructureDefinition, what kind of type that is.
    pub kind: Option<String>,
    /// Whether it came in a package; else it is the site's own.
    pub in_package: bool,
    text: Arc<[u8]>,
}

impl Packages {
    /// Reads what lies on the paths.
    ///
    /// # Errors
    /// A sentence for the first file that cannot be read, is too large, or is for another version
    /// of FHIR.
    pub fn load(paths: &[PathBuf], definitions: &Definitions) -> Result<Packages, String> {
        let mut packages = Packages::default();
        for path in paths {
            files::Reader { definitions, packages: &mut packages, files: 0, bytes: 0 }
                .read(path)?;
        }
        packages.index();
        let missing = manifest::missing(&packages.manifests);
        packages.warnings.extend(missing);
        Ok(packages)
    }

    /// The resource of a type that a canonical names, `url` or `url|version`; without a version the
    /// newest.
    pub fn find(&self, resource_type: &str, canonical: &str) -> Option<&Entry> {
        let (url, version) = match canonical.split_once('|') {
            Some((url, version)) => (url, Some(version)),
            None => (canonical, None),
        };
        let places = self.by_canonical.get(resource_type)?.get(url)?;
        let mut entries = places.iter().rev().filter_map(|place| self.entries.get(*place));
        entries.find(|entry| version.is_none() || entry.version.as_deref() == version)
    }

    /// [`Packages::find`], read. What cannot be read is as good as none; `lumbar check` tells it.
    pub fn resource(&self, resource_type: &str, canonical: &str) -> Option<Json> {
        self.find(resource_type, canonical)?.resource().ok()
    }

    /// The entry of the same type and canonical.
    fn entry_of(&self, resource: &Json) -> Option<&Entry> {
        let text = |name: &str| resource.str_at(&[name]);
        let places = self.by_canonical.get(text("resourceType")?)?.get(text("url")?)?;
        let mut entries = places.iter().filter_map(|place| self.entries.get(*place));
        entries.find(|entry| entry.version.as_deref() == text("version"))
    }

    /// What there is to say of an artefact: the file that it lies in, else its canonical; the
    /// element; what is asked for; by which rule.
    pub fn told(&self, artefact: &Json, issue: &Issue) -> String {
        let file = self.entry_of(artefact).map(|entry| entry.place.as_str());
        let name = file.or_else(|| artefact.str_at(&["url"])).or_else(|| artefact.str_at(&["id"]));
        let mut told = format!("{}: ", name.unwrap_or("an artefact"));
        if let Some(element) = &issue.expression {
            told.push_str(&format!("{element}: "));
        }
        told.push_str(&issue.text);
        if let Some(rule) = issue.rule.as_deref().filter(|rule| !issue.text.contains(*rule)) {
            told.push_str(&format!(" ({rule})"));
        }
        told
    }

    /// The resources that are the site's own, of several versions the newest: they are served.
    pub fn own(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| {
            let newest = |url: &String| self.find(&entry.resource_type, url);
            let newest = entry.url.as_ref().and_then(newest);
            !entry.in_package && newest.is_none_or(|newest| std::ptr::eq(newest, *entry))
        })
    }

    /// All resources of a type, with every version of them.
    pub fn of_type(&self, resource_type: &str) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.resource_type == resource_type)
    }

    /// Every resource.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn index(&mut self) {
        for (place, entry) in self.entries.iter().enumerate() {
            let Some(url) = entry.url.clone() else { continue };
            let of_type = self.by_canonical.entry(entry.resource_type.clone()).or_default();
            of_type.entry(url).or_default().push(place);
        }
        let entries = &self.entries;
        let version = |place: &usize| entries.get(*place).and_then(|e| e.version.as_deref());
        for places in self.by_canonical.values_mut().flat_map(HashMap::values_mut) {
            // The first of two that have the same version stays the one that is found.
            places.reverse();
            places.sort_by(|one, two| match (version(one), version(two)) {
                (Some(one), Some(two)) => compare_versions(one, two),
                (one, two) => one.is_some().cmp(&two.is_some()),
            });
            for pair in places.windows(2) {
                let [one, two] = pair else { continue };
                let (Some(one), Some(two)) = (entries.get(*one), entries.get(*two)) else {
                    continue;
                };
                let same = match (&one.version, &two.version) {
                    (Some(one), Some(two)) => compare_versions(one, two) == Ordering::Equal,
                    (one, two) => one.is_none() && two.is_none(),
                };
                if same && one.text != two.text {
                    self.warnings.push(format!(
                        "{} differs from {}, which has the same url and version and is used",
                        one.place, two.place
                    ));
                }
            }
        }
    }
}

impl Entry {
    /// The resource.
    ///
    /// # Errors
    /// A sentence that names its place.
    pub fn resource(&self) -> Result<Json, String> {
        Json::parse(&self.text).map_err(|error| format!("{}: {error}", self.place))
    }

    /// Its JSON as it was written.
    pub fn text(&self) -> &Arc<[u8]> {
        &self.text
    }
}
