//! Profiles and definitions of extensions: <https://hl7.org/fhir/R4/profiling.html>.
//!
//! [`Profiles`] keeps StructureDefinitions by their canonicals. Each is read when it is first
//! used: its snapshot is found or made, and what it adds to the base type becomes a tree of rules.
//! What these say of an instance is checked by [`crate::validate`]. Logical models are kept and
//! have no rules here.

mod compile;
mod discriminator;
mod extension;
mod outline;
pub(crate) mod rules;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::definitions::Definitions;
use crate::terminology::compare_versions;
use crate::{Issue, IssueType, Json, snapshot};
pub(crate) use extension::{Context, Extension};
use outline::Outline;
use rules::{Matcher, Test, Tree};

/// Where the canonicals of R4's own definitions begin.
pub(crate) const R4: &str = "http://hl7.org/fhir/StructureDefinition/";

/// Longest chain of profiles that are made of each other.
const MAX_CHAIN: usize = 32;

/// StructureDefinitions by canonical. A copy is cheap.
#[derive(Clone, Debug, Default)]
pub struct Profiles {
    by_url: Arc<HashMap<String, Vec<Arc<Profile>>>>,
    /// The definitions of R4's types that snapshots were made from.
    types: Arc<Mutex<HashMap<String, Arc<Json>>>>,
}

/// One StructureDefinition.
#[derive(Debug)]
pub struct Profile {
    /// Its url.
    pub url: String,
    /// Its business version.
    pub version: Option<String>,
    source: Source,
    parsed: OnceLock<Option<Arc<Json>>>,
    outline: OnceLock<Option<Outline>>,
    compiled: OnceLock<Compiled>,
}

/// A definition as it came.
#[derive(Debug)]
enum Source {
    /// A line of a table, read when it is needed.
    Line(&'static str),
    /// A JSON text, read when it is needed.
    Text(Arc<[u8]>),
    Json(Arc<Json>),
}

/// What is made of a definition for checking.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// `None` if there is no snapshot or the type is none of R4.
    pub tree: Option<Tree>,
    /// What is said about the use of an extension.
    pub extension: Option<Extension>,
}

impl Profiles {
    /// The extensions and profiles that R4 itself defines.
    pub fn r4() -> Profiles {
        let mut by_url: HashMap<String, Vec<Arc<Profile>>> = HashMap::new();
        for line in TABLE.lines() {
            let member = |name: &str| {
                let (_, rest) = line.split_once(name)?;
                Some(rest.split_once('"')?.0.to_owned())
            };
            if let Some(url) = member("\"url\":\"") {
                let version = member("\"version\":\"");
                let profile = Profile::new(url.clone(), version, Source::Line(line));
                by_url.insert(url, vec![Arc::new(profile)]);
            }
        }
        Profiles { by_url: Arc::new(by_url), types: Arc::default() }
    }

    /// Adds a StructureDefinition; one with the same url and version is replaced. What makes it
    /// unusable is told. Its prose is not kept. Snapshots that were made before are made anew, so all
    /// are added before the first is used, where that can be.
    pub fn add(&mut self, structure_definition: &Json) -> Vec<Issue> {
        let Some(url) = structure_definition.str_at(&["url"]) else {
            return vec![Issue::error(IssueType::Required, "A StructureDefinition needs a url.")];
        };
        let version = structure_definition.str_at(&["version"]).map(str::to_owned);
        let source = Source::Json(Arc::new(facts(structure_definition)));
        self.put(Profile::new(url.to_owned(), version, source));
        Vec::new()
    }

    /// Adds a StructureDefinition of this url and version, whose JSON text is read when it is first
    /// used; one with the same url and version is replaced.
    pub fn add_text(&mut self, url: &str, version: Option<&str>, text: Arc<[u8]>) {
        self.put(Profile::new(url.to_owned(), version.map(str::to_owned), Source::Text(text)));
    }

    fn put(&mut self, added: Profile) {
        let by_url = Arc::make_mut(&mut self.by_url);
        // What was made before may rest on what is replaced or was not there.
        for profile in by_url.values_mut().flatten() {
            if profile.is_made() {
                *profile = Arc::new(profile.anew());
            }
        }
        let versions = by_url.entry(added.url.clone()).or_default();
        versions.retain(|known| known.version != added.version);
        versions.push(Arc::new(added));
        let version = |profile: &Arc<Profile>| profile.version.clone().unwrap_or_default();
        versions.sort_by(|one, two| compare_versions(&version(one), &version(two)));
    }

    /// The profile of a canonical, `url` or `url|version`; without a version the newest.
    pub fn find(&self, canonical: &str) -> Option<&Profile> {
        let (url, version) = match canonical.split_once('|') {
            Some((url, version)) => (url, Some(version)),
            None => (canonical, None),
        };
        let versions = self.by_url.get(url)?;
        let found = match version {
            Some(_) => versions.iter().rev().find(|known| known.version.as_deref() == version),
            None => versions.last(),
        };
        found.map(Arc::as_ref)
    }

    /// The definition of a type of R4 with its snapshot.
    fn of_type(&self, definitions: &Definitions, name: &str) -> Option<Arc<Json>> {
        let known = || self.types.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known().get(name) {
            return Some(found.clone());
        }
        let made = Arc::new(snapshot::of_type(definitions, name)?);
        known().insert(name.to_owned(), made.clone());
        Some(made)
    }

    /// All of them, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Profile> {
        self.by_url.values().flatten().map(Arc::as_ref)
    }
}

impl Profile {
    fn new(url: String, version: Option<String>, source: Source) -> Profile {
        Profile {
            url,
            version,
            source,
            parsed: OnceLock::new(),
            outline: OnceLock::new(),
            compiled: OnceLock::new(),
        }
    }

    fn is_made(&self) -> bool {
        self.outline.get().is_some() || self.compiled.get().is_some()
    }

    /// The same, not yet read.
    fn anew(&self) -> Profile {
        let source = match &self.source {
            Source::Line(line) => Source::Line(line),
            Source::Text(text) => Source::Text(text.clone()),
            Source::Json(json) => Source::Json(json.clone()),
        };
        Profile::new(self.url.clone(), self.version.clone(), source)
    }

    /// The StructureDefinition without its prose; `None` if it is none that can be read.
    pub fn definition(&self) -> Option<&Arc<Json>> {
        let parsed = self.parsed.get_or_init(|| match &self.source {
            Source::Line(line) => Json::parse(line.as_bytes()).ok().map(Arc::new),
            Source::Text(text) => Json::parse(text).ok().map(|json| Arc::new(facts(&json))),
            Source::Json(json) => Some(json.clone()),
        });
        parsed.as_ref()
    }

    /// The type that it constrains.
    pub fn of_type(&self) -> Option<&str> {
        self.definition()?.str_at(&["type"])
    }

    /// The definition with its snapshot, made if it came without; `None` if none can be made.
    pub fn snapshot(&self, profiles: &Profiles, definitions: &Definitions) -> Option<Arc<Json>> {
        snapshot_of(self, profiles, definitions, &Chain { url: &self.url, above: None })
    }

    /// Why it, or a part of it, is not checked: no snapshot can be made, an expression cannot be
    /// read, nothing tells a slice.
    pub fn issues(&self, profiles: &Profiles, definitions: &Definitions) -> Vec<Issue> {
        let warning = |rule: &str, text: String| {
            Issue::warning(IssueType::NotSupported, text).rule(format!("{}#{rule}", self.url))
        };
        let chain = Chain { url: &self.url, above: None };
        if let Err(issues) = made(self, profiles, definitions, &chain) {
            return issues;
        }
        let Some(tree) = &self.compiled(profiles, definitions).tree else {
            let text = "It is about no type of R4, so nothing is checked.".to_owned();
            return vec![warning("", text)];
        };
        let mut issues = Vec::new();
        for rules in &tree.nodes {
            let unread = rules.constraints.iter().filter(|rule| rule.expression.is_none());
            issues.extend(unread.map(|rule| {
                let text = format!("The expression of rule {} cannot be read.", rule.key);
                warning(&rule.key, text)
            }));
            let is_open = |matcher: &Matcher| matches!(matcher.test, Test::Undecided);
            let untold = rules.slices.iter().filter(|s| s.matchers.iter().any(is_open));
            issues.extend(untold.map(|slice| {
                let text = format!("Nothing tells what belongs to the slice {}.", slice.name);
                warning(&rules.id, text)
            }));
        }
        issues
    }

    /// The elements of its snapshot.
    pub(crate) fn outline(
        &self,
        profiles: &Profiles,
        definitions: &Definitions,
    ) -> Option<&Outline> {
        // Not `get_or_init` around the work: two profiles may look at each other from two threads.
        if self.outline.get().is_none() {
            let outline = self.snapshot(profiles, definitions).map(Outline::read);
            self.outline.get_or_init(|| outline);
        }
        self.outline.get()?.as_ref()
    }

    /// What is checked.
    pub(crate) fn compiled(&self, profiles: &Profiles, definitions: &Definitions) -> &Compiled {
        if self.compiled.get().is_none() {
            let outline = self.outline(profiles, definitions);
            let is_given = self.definition().is_some_and(|json| json.get("snapshot").is_some());
            let compile =
                |outline| compile::Compiler { profiles, definitions, outline, is_given }.compile();
            let compiled = Compiled {
                tree: outline.and_then(compile),
                extension: self.definition().and_then(|json| Extension::read(json, outline)),
            };
            return self.compiled.get_or_init(|| compiled);
        }
        self.compiled.get_or_init(|| Compiled { tree: None, extension: None })
    }
}

/// The profiles that are being made, innermost first.
struct Chain<'c> {
    url: &'c str,
    above: Option<&'c Chain<'c>>,
}

/// A definition with its snapshot. A profile that is derived from itself has none.
fn snapshot_of(
    profile: &Profile,
    profiles: &Profiles,
    definitions: &Definitions,
    chain: &Chain<'_>,
) -> Option<Arc<Json>> {
    if let Some(outline) = profile.outline.get() {
        return outline.as_ref().map(|outline| outline.definition().clone());
    }
    made(profile, profiles, definitions, chain).ok()
}

/// The same, or why there is none.
fn made(
    profile: &Profile,
    profiles: &Profiles,
    definitions: &Definitions,
    chain: &Chain<'_>,
) -> Result<Arc<Json>, Vec<Issue>> {
    let Some(definition) = profile.definition() else {
        let text = format!("The definition {} cannot be read.", profile.url);
        return Err(vec![Issue::error(IssueType::Structure, text)]);
    };
    if definition.get("snapshot").is_some() {
        return Ok(definition.clone());
    }
    let base_of = |canonical: &str| {
        if let Some(base) = profiles.find(canonical) {
            // A profile that is being made cannot be a part of what it is made of.
            let links = std::iter::successors(Some(chain), |link| link.above);
            let (length, is_open) = links
                .fold((0, false), |(n, is_open), link| (n + 1, is_open || link.url == base.url));
            if is_open || length > MAX_CHAIN {
                return None;
            }
            let chain = Chain { url: &base.url, above: Some(chain) };
            return snapshot_of(base, profiles, definitions, &chain);
        }
        profiles.of_type(definitions, short(canonical)?)
    };
    snapshot::generate(definition, &base_of).map(Arc::new)
}

/// What is written for people and takes most of the room.
const PROSE: [&str; 12] = [
    "text",
    "contact",
    "description",
    "purpose",
    "copyright",
    "mapping",
    "short",
    "definition",
    "comment",
    "requirements",
    "alias",
    "example",
];

/// A definition without its prose.
fn facts(definition: &Json) -> Json {
    let Json::Object(object) = definition else { return definition.clone() };
    let members = object.iter().filter(|(name, _)| !PROSE.contains(name)).map(|(name, value)| {
        let value = match (name, value) {
            ("snapshot" | "differential", Json::Object(_)) => facts(value),
            ("element", Json::Array(elements)) => Json::Array(elements.iter().map(facts).collect()),
            _ => value.clone(),
        };
        (name.into(), value)
    });
    Json::Object(members.collect())
}

/// The name of a definition of R4: the last part of its url.
pub(crate) fn short(canonical: &str) -> Option<&str> {
    let url = canonical.split('|').next().unwrap_or(canonical);
    url.strip_prefix(R4)
}

/// R4's own extensions and profiles, a definition a line, without prose.
const TABLE: &str = include_str!("../../../../profiles/r4/structure-definitions.ndjson");
