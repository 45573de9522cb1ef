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

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ptr;
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

/// Most elements that are read for one snapshot from the snapshots that it is made of, and from
/// those that these are made of.
const MAX_READ: usize = 100_000;

/// Longest url of a StructureDefinition, in bytes.
const MAX_URL: usize = 2_048;

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
    /// Set when it is too large to be used.
    too_large: OnceLock<()>,
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
        if url.len() > MAX_URL {
            let text = format!("The url of a StructureDefinition has {MAX_URL} bytes at most.");
            return vec![Issue::error(IssueType::TooLong, text)];
        }
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
            too_large: OnceLock::new(),
        }
    }

    /// Whether it is not checked because that would take too much.
    pub(crate) fn is_too_large(&self) -> bool {
        self.too_large.get().is_some()
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
        let making = Making::default();
        snapshot_of(self, profiles, definitions, &Chain::new(&self.url, &making))
    }

    /// Why it, or a part of it, is not checked: no snapshot can be made, an expression cannot be
    /// read, nothing tells a slice.
    pub fn issues(&self, profiles: &Profiles, definitions: &Definitions) -> Vec<Issue> {
        let warning = |rule: &str, text: String| {
            Issue::warning(IssueType::NotSupported, text).rule(format!("{}#{rule}", self.url))
        };
        let making = Making::default();
        let chain = Chain::new(&self.url, &making);
        if let Err(issues) = made(self, profiles, definitions, &chain) {
            return issues;
        }
        let Some(tree) = &self.compiled(profiles, definitions).tree else {
            if self.is_too_large() {
                return vec![too_costly(format!("{} is too large to be used.", self.url))];
            }
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
            let making = Making::default();
            let chain = Chain::new(&self.url, &making);
            let made = made(self, profiles, definitions, &chain);
            let is_too_costly = |issue: &Issue| issue.code == IssueType::TooCostly;
            if made.as_ref().is_err_and(|issues| issues.iter().any(is_too_costly)) {
                self.too_large.get_or_init(|| ());
            }
            self.outline.get_or_init(|| made.ok().map(Outline::read));
        }
        self.outline.get()?.as_ref()
    }

    /// What is checked.
    pub(crate) fn compiled(&self, profiles: &Profiles, definitions: &Definitions) -> &Compiled {
        if self.compiled.get().is_none() {
            let outline = self.outline(profiles, definitions);
            let is_given = self.definition().is_some_and(|json| json.get("snapshot").is_some());
            let work = Cell::new(0);
            let work = &work;
            let compile = |outline| {
                compile::Compiler { profiles, definitions, outline, is_given, work }.compile()
            };
            let tree = outline.and_then(compile);
            if compile::is_spent(work) {
                self.too_large.get_or_init(|| ());
            }
            let compiled = Compiled {
                tree,
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
    making: &'c Making,
}

/// What is shared while a snapshot is made, together with those that it is made of.
#[derive(Default)]
struct Making {
    /// Elements that were read.
    read: Cell<usize>,
    /// How often a profile was left out because it is being made.
    cuts: Cell<usize>,
    /// Snapshots that were made, by the place of their profile; none from which one was left out.
    made: RefCell<HashMap<*const Profile, Arc<Json>>>,
}

impl<'c> Chain<'c> {
    fn new(url: &'c str, making: &'c Making) -> Chain<'c> {
        Chain { url, above: None, making }
    }
}

impl Making {
    /// Counts the elements of a definition; false when no more may be read.
    fn reads(&self, definition: &Json) -> bool {
        let number = |name: &str| definition.get(name).map_or(0, |of| of.list("element").len());
        let more = 1 + number("snapshot") + number("differential");
        self.read.set(self.read.get().saturating_add(more));
        !self.is_spent()
    }

    fn is_spent(&self) -> bool {
        self.read.get() > MAX_READ
    }
}

fn too_costly(text: String) -> Issue {
    Issue::error(IssueType::TooCostly, text)
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
    let making = chain.making;
    let known = making.made.borrow().get(&ptr::from_ref(profile)).cloned();
    if known.is_some() {
        return known;
    }
    let cuts = making.cuts.get();
    let found = made(profile, profiles, definitions, chain).ok()?;
    if making.cuts.get() == cuts {
        making.made.borrow_mut().insert(ptr::from_ref(profile), found.clone());
    }
    Some(found)
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
    if let Some(snapshot) = definition.get("snapshot") {
        if snapshot.list("element").len() > snapshot::MAX_ELEMENTS {
            let most = snapshot::MAX_ELEMENTS;
            let text = format!("the snapshot of {} has more than {most} elements", profile.url);
            return Err(vec![too_costly(text)]);
        }
        return Ok(definition.clone());
    }
    let making = chain.making;
    let base_of = |canonical: &str| {
        if let Some(base) = profiles.find(canonical) {
            // A profile that is being made cannot be a part of what it is made of.
            let links = std::iter::successors(Some(chain), |link| link.above);
            let (length, is_open) = links
                .fold((0, false), |(n, is_open), link| (n + 1, is_open || link.url == base.url));
            if is_open || length > MAX_CHAIN || making.is_spent() {
                making.cuts.set(making.cuts.get() + 1);
                return None;
            }
            let chain = Chain { url: &base.url, above: Some(chain), making };
            let found = snapshot_of(base, profiles, definitions, &chain);
            return found.filter(|found| making.reads(found));
        }
        profiles.of_type(definitions, short(canonical)?).filter(|found| making.reads(found))
    };
    let made = snapshot::generate(definition, &base_of);
    if making.is_spent() {
        let text = format!(
            "the snapshot of {} is made of more than {MAX_READ} elements of others",
            profile.url
        );
        return Err(vec![too_costly(text)]);
    }
    made.map(Arc::new)
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
