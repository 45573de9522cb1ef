//! What was fetched for an operation, and what is still missing.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use super::membership::Codes;
use super::value_set::Include;
use super::{Canonical, CodeSystem, Refusal, ValueSet, compare_versions, r4};
use crate::{Issue, IssueType, Json, json};

/// Most value sets and code systems that one operation reaches.
const MAX_REACHED: usize = 500;

/// Something that an operation must know.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// A code system.
    CodeSystem(Canonical),
    /// A value set.
    ValueSet(Canonical),
    /// The codes that an `include` (its JSON text) stands for, whose content is not known here.
    Codes(String),
    /// Whether a code is among those of such an `include`.
    Membership {
        #[expect(missing_docs, reason = "the names say it")]
        include: String,
        #[expect(missing_docs, reason = "the names say it")]
        system: String,
        #[expect(missing_docs, reason = "the names say it")]
        code: String,
    },
}

/// What a value set is wanted for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose<'a> {
    /// All its codes.
    Codes,
    /// Whether this code is one of them.
    Membership {
        #[expect(missing_docs, reason = "the names say it")]
        system: &'a str,
        #[expect(missing_docs, reason = "the names say it")]
        code: &'a str,
    },
}

/// Artefacts by url, and of each the versions that were asked for; what was looked for and is not
/// there is known, too.
#[derive(Clone, Debug)]
struct Shelf<T>(HashMap<String, Vec<Version<T>>>);

/// The version that was asked for, and what was found.
type Version<T> = (Option<String>, Option<T>);

impl<T> Default for Shelf<T> {
    fn default() -> Shelf<T> {
        Shelf(HashMap::new())
    }
}

impl<T> Shelf<T> {
    fn put(&mut self, canonical: Canonical, artefact: Option<T>) {
        let versions = self.0.entry(canonical.url).or_default();
        match versions.iter_mut().find(|(version, _)| *version == canonical.version) {
            Some((_, known)) => *known = artefact,
            None => versions.push((canonical.version, artefact)),
        }
    }

    fn find(&self, url: &str, version: Option<&str>) -> Option<&Option<T>> {
        let versions = self.0.get(url)?;
        let found = versions.iter().find(|(known, _)| known.as_deref() == version);
        found.map(|(_, artefact)| artefact)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.values_mut().flatten().filter_map(|(_, artefact)| artefact.as_mut())
    }
}

/// An artefact; one that came as a JSON text is read when it is first used.
#[derive(Debug)]
struct Source<T> {
    version: Option<String>,
    text: Option<Arc<[u8]>>,
    read: OnceLock<Option<Arc<T>>>,
}

impl<T> Source<T> {
    fn read(version: Option<&str>, artefact: Arc<T>) -> Arc<Source<T>> {
        let version = version.map(str::to_owned);
        Arc::new(Source { version, text: None, read: OnceLock::from(Some(artefact)) })
    }

    fn unread(version: Option<&str>, text: Arc<[u8]>) -> Arc<Source<T>> {
        let version = version.map(str::to_owned);
        Arc::new(Source { version, text: Some(text), read: OnceLock::new() })
    }

    /// The artefact; one that cannot be read is as good as none.
    fn get(&self, read: impl Fn(&Json) -> Result<T, Issue>) -> Find<&Arc<T>> {
        let artefact = self.read.get_or_init(|| {
            let json = Json::parse(self.text.as_deref()?).ok()?;
            read(&json).ok().map(Arc::new)
        });
        artefact.as_ref().map_or(Find::Absent, Find::Here)
    }
}

/// A value set, and its codes once they were asked for.
#[derive(Clone, Debug)]
struct Held {
    set: Arc<Source<ValueSet>>,
    codes: OnceLock<Arc<Codes>>,
}

impl Held {
    fn new(set: Arc<Source<ValueSet>>) -> Held {
        Held { set, codes: OnceLock::new() }
    }
}

/// Content that was fetched; what was looked for and is not there is known, too. A copy is cheap.
#[derive(Clone, Debug, Default)]
pub struct Library {
    shelves: Arc<Shelves>,
    codes: HashMap<String, Option<Arc<Vec<Json>>>>,
    memberships: HashMap<(String, String, String), Option<bool>>,
    /// Whether somebody else can be asked for what is not here.
    can_ask: bool,
}

#[derive(Clone, Debug, Default)]
struct Shelves {
    code_systems: Shelf<Arc<Source<CodeSystem>>>,
    value_sets: Shelf<Held>,
    /// The codes of R4's own value sets by their numbers; empty when these are not here.
    bundled: Vec<OnceLock<Arc<Codes>>>,
}

/// What is known of an artefact.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Find<T> {
    /// It is here.
    Here(T),
    /// It was looked for and is nowhere.
    Absent,
    /// It was not looked for.
    Missing,
}

impl Library {
    /// What R4 itself defines, each read at first use. What is put in goes before it.
    pub fn r4() -> Library {
        let bundled = vec![OnceLock::new(); r4::number_of_sets()];
        let shelves = Shelves { bundled, ..Shelves::default() };
        Library { shelves: Arc::new(shelves), ..Library::default() }
    }

    /// The same, where somebody can be asked whether a code is in a part of a value set whose
    /// content is not here: only then [`Need::Membership`] is told.
    #[must_use]
    pub fn asking(self, can_ask: bool) -> Library {
        Library { can_ask, ..self }
    }

    /// Adds a CodeSystem or ValueSet, under its url and, as it is the newest, without a version, or
    /// else under its version alone. Another resource adds nothing.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn add(&mut self, resource: &Json) -> Result<(), Issue> {
        let Some(url) = resource.str_at(&["url"]) else { return Ok(()) };
        let version = resource.str_at(&["version"]);
        match resource.str_at(&["resourceType"]) {
            Some("CodeSystem") => {
                let system = Arc::new(CodeSystem::read(resource)?);
                self.add_code_system(url, Source::read(version, system));
            }
            Some("ValueSet") => {
                let set = Arc::new(ValueSet::read(resource)?);
                self.add_value_set(url, Source::read(version, set));
            }
            _ => {}
        }
        Ok(())
    }

    /// Adds, as [`Library::add`] does, a resource of this type, url and version, whose JSON text is
    /// read when it is first used.
    pub fn add_text(
        &mut self,
        resource_type: &str,
        url: &str,
        version: Option<&str>,
        text: Arc<[u8]>,
    ) {
        match resource_type {
            "CodeSystem" => self.add_code_system(url, Source::unread(version, text)),
            "ValueSet" => self.add_value_set(url, Source::unread(version, text)),
            _ => {}
        }
    }

    fn add_code_system(&mut self, url: &str, system: Arc<Source<CodeSystem>>) {
        let known = self.shelves.code_systems.find(url, None).and_then(Option::as_ref);
        let known = known.map(|known| known.version.as_deref());
        for canonical in canonicals(url, system.version.as_deref(), known) {
            self.put_system(canonical, Some(system.clone()));
        }
    }

    fn add_value_set(&mut self, url: &str, set: Arc<Source<ValueSet>>) {
        let known = self.shelves.value_sets.find(url, None).and_then(Option::as_ref);
        let known = known.map(|known| known.set.version.as_deref());
        for canonical in canonicals(url, set.version.as_deref(), known) {
            let held = Some(Held::new(set.clone()));
            Arc::make_mut(&mut self.shelves).value_sets.put(canonical, held);
        }
    }

    /// Answers [`Need::CodeSystem`].
    pub fn put_code_system(&mut self, canonical: Canonical, system: Option<Arc<CodeSystem>>) {
        let system = system.map(|system| Source::read(system.version.clone().as_deref(), system));
        self.put_system(canonical, system);
    }

    fn put_system(&mut self, canonical: Canonical, system: Option<Arc<Source<CodeSystem>>>) {
        let shelves = Arc::make_mut(&mut self.shelves);
        if system.is_some() {
            // What value sets take from it is worked out anew.
            let held = shelves.value_sets.iter_mut().map(|held| &mut held.codes);
            for codes in held.chain(&mut shelves.bundled) {
                codes.take();
            }
        }
        shelves.code_systems.put(canonical, system);
    }

    /// Answers [`Need::ValueSet`].
    pub fn put_value_set(&mut self, canonical: Canonical, set: Option<Arc<ValueSet>>) {
        let held = set.map(|set| Held::new(Source::read(set.clone().version(), set)));
        Arc::make_mut(&mut self.shelves).value_sets.put(canonical, held);
    }

    /// Answers [`Need::Codes`] with the items of an expansion; `None` when nobody knows.
    pub fn put_codes(&mut self, include: String, codes: Option<Arc<Vec<Json>>>) {
        self.codes.insert(include, codes);
    }

    /// Answers [`Need::Membership`]; `None` when nobody knows.
    pub fn put_membership(
        &mut self,
        (include, system, code): (String, String, String),
        is_member: Option<bool>,
    ) {
        self.memberships.insert((include, system, code), is_member);
    }

    /// A code system that is here.
    pub fn code_system(&self, canonical: &Canonical) -> Option<&CodeSystem> {
        self.system(&canonical.url, canonical.version.as_deref()).here().map(Arc::as_ref)
    }

    /// A value set that is here.
    pub fn value_set(&self, canonical: &Canonical) -> Option<&ValueSet> {
        self.set(&canonical.url, canonical.version.as_deref()).here().map(Arc::as_ref)
    }

    /// A code system whose concepts are all here.
    pub(super) fn complete(&self, canonical: &Canonical) -> Option<&CodeSystem> {
        self.code_system(canonical).filter(|system| system.is_complete)
    }

    pub(crate) fn system(&self, url: &str, version: Option<&str>) -> Find<&Arc<CodeSystem>> {
        if let Some(known) = self.shelves.code_systems.find(url, version) {
            return known.as_ref().map_or(Find::Absent, |known| known.get(CodeSystem::read));
        }
        match self.has_bundled().then(|| r4::kept_code_system(url, version)).flatten() {
            Some(system) => Find::Here(system),
            None => Find::Missing,
        }
    }

    pub(crate) fn set(&self, url: &str, version: Option<&str>) -> Find<&Arc<ValueSet>> {
        if let Some(known) = self.shelves.value_sets.find(url, version) {
            return known.as_ref().map_or(Find::Absent, |held| held.set.get(ValueSet::read));
        }
        match self.has_bundled().then(|| r4::kept_value_set(url, version)).flatten() {
            Some((_, set)) => Find::Here(set),
            None => Find::Missing,
        }
    }

    /// The codes of a value set.
    pub(super) fn codes_of(&self, url: &str, version: Option<&str>) -> Find<&Codes> {
        let (set, codes) = match self.shelves.value_sets.find(url, version) {
            Some(Some(held)) => match held.set.get(ValueSet::read) {
                Find::Here(set) => (set, &held.codes),
                _ => return Find::Absent,
            },
            Some(None) => return Find::Absent,
            None => {
                let bundled = || {
                    let (number, set) = r4::kept_value_set(url, version)?;
                    Some((set, self.shelves.bundled.get(number)?))
                };
                let Some(bundled) = self.has_bundled().then(bundled).flatten() else {
                    return Find::Missing;
                };
                bundled
            }
        };
        Find::Here(codes.get_or_init(|| Arc::new(Codes::new(self, set))))
    }

    fn has_bundled(&self) -> bool {
        !self.shelves.bundled.is_empty()
    }

    pub(super) fn codes(&self, include: &str) -> Option<&[Json]> {
        self.codes.get(include)?.as_ref().map(|codes| codes.as_slice())
    }

    pub(super) fn membership(&self, include: &str, system: &str, code: &str) -> Option<bool> {
        let key = (include.to_owned(), system.to_owned(), code.to_owned());
        self.memberships.get(&key).copied().flatten()
    }

    /// What must be asked of others to learn whether a code is in an `include`; `None` when nobody
    /// can be asked or was asked already.
    pub(super) fn to_ask(&self, include: &str, system: &str, code: &str) -> Option<Need> {
        let key = (include.to_owned(), system.to_owned(), code.to_owned());
        if !self.can_ask || self.memberships.contains_key(&key) {
            return None;
        }
        let (include, system, code) = key;
        Some(Need::Membership { include, system, code })
    }

    /// Whether somebody can be asked for what is not here.
    pub(super) fn can_ask(&self) -> bool {
        self.can_ask
    }

    /// What must be put in before `set` can be worked with; empty when all is here. Whoever puts
    /// something in asks again, as it may need more.
    ///
    /// # Errors
    /// It reaches too many value sets.
    pub fn needs(&self, set: &ValueSet, purpose: Purpose<'_>) -> Result<Vec<Need>, Refusal> {
        let mut needs = HashSet::new();
        let mut reached: HashSet<&Canonical> = HashSet::new();
        let mut open = vec![set];
        while let Some(set) = open.pop() {
            for part in set.include.iter().chain(&set.exclude) {
                self.system_need(part, purpose, &mut needs);
                for import in &part.value_sets {
                    if !reached.insert(import) {
                        continue;
                    }
                    match self.set(&import.url, import.version.as_deref()) {
                        Find::Missing => {
                            needs.insert(Need::ValueSet(import.clone()));
                        }
                        Find::Here(import) => open.push(import),
                        Find::Absent => self.elsewhere(import_text(import), purpose, &mut needs),
                    }
                }
            }
            if reached.len() + needs.len() > MAX_REACHED {
                return Err(Refusal::unprocessable(
                    IssueType::TooCostly,
                    format!("The value set reaches more than {MAX_REACHED} others; split it."),
                ));
            }
        }
        Ok(needs.into_iter().collect())
    }

    fn system_need(&self, part: &Include, purpose: Purpose<'_>, needs: &mut HashSet<Need>) {
        let Some(canonical) = &part.system else { return };
        if let Purpose::Membership { system, .. } = purpose
            && system != canonical.url
        {
            return;
        }
        match self.system(&canonical.url, canonical.version.as_deref()) {
            Find::Missing => {
                needs.insert(Need::CodeSystem(canonical.clone()));
            }
            Find::Here(system) if system.is_complete => {}
            // What is enumerated can be used without the system.
            _ if !part.concepts.is_empty() => {}
            _ => self.elsewhere(part.text.clone(), purpose, needs),
        }
    }

    fn elsewhere(&self, include: String, purpose: Purpose<'_>, needs: &mut HashSet<Need>) {
        match purpose {
            Purpose::Codes if !self.codes.contains_key(&include) => {
                needs.insert(Need::Codes(include));
            }
            Purpose::Membership { system, code } => {
                let (system, code) = (system.to_owned(), code.to_owned());
                let key = (include.clone(), system.clone(), code.clone());
                if !self.memberships.contains_key(&key) {
                    needs.insert(Need::Membership { include, system, code });
                }
            }
            Purpose::Codes => {}
        }
    }
}

impl<T> Find<T> {
    /// The artefact, if it is here.
    pub(crate) fn here(self) -> Option<T> {
        match self {
            Find::Here(artefact) => Some(artefact),
            Find::Absent | Find::Missing => None,
        }
    }
}

/// What an artefact is put under, beside one of the version `known` that has no version to its name.
fn canonicals(url: &str, version: Option<&str>, known: Option<Option<&str>>) -> Vec<Canonical> {
    let is_newest = known.is_none_or(|known| {
        !compare_versions(version.unwrap_or_default(), known.unwrap_or_default()).is_lt()
    });
    let mut canonicals = vec![Canonical::new(url, version)];
    if is_newest {
        canonicals.push(Canonical::new(url, None));
    }
    canonicals
}

/// An `include` that stands for a whole value set.
pub(super) fn import_text(canonical: &Canonical) -> String {
    json!({"valueSet": [(canonical.to_string())]}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_put_where_its_resource_would_be() {
        let set = |version: &str| json!({"resourceType": "ValueSet", "url": "urn:v", "version": (version)});
        let mut library = Library::default();
        let text = set("2.0.0").to_string().into_bytes();
        library.add_text("ValueSet", "urn:v", Some("2.0.0"), text.into());
        library.add(&set("1.0.0")).unwrap();
        let version = |canonical: &str| {
            library.value_set(&Canonical::parse(canonical)).and_then(ValueSet::version)
        };
        assert_eq!(version("urn:v"), Some("2.0.0"));
        assert_eq!(version("urn:v|1.0.0"), Some("1.0.0"));
        assert_eq!(version("urn:v|3.0.0"), None);
    }

    #[test]
    fn a_text_that_cannot_be_read_is_as_good_as_none() {
        let mut library = Library::default();
        library.add_text("CodeSystem", "urn:c", None, Arc::from(*b"{"));
        assert!(matches!(library.system("urn:c", None), Find::Absent));
        assert!(matches!(library.system("urn:d", None), Find::Missing));
    }
}
