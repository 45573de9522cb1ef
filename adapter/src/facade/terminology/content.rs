//! Finds code systems, value sets and concept maps, and keeps what was read of them:
//! <https://hl7.org/fhir/R4/terminology-module.html>.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use lumbar_fhir::search as language;
use lumbar_fhir::terminology::{
    Canonical, CodeSystem, ConceptMap, Library, Need, Purpose, Refusal, Translate, ValueSet,
    compare_versions, members, r4,
};
use lumbar_fhir::{Issue, IssueType, Json};
use lumbar_store::Stored;

use super::super::{Error, Facade};

/// Most versions of one artefact that are compared.
const MAX_VERSIONS: usize = 50;
/// Most concept maps that are tried for a code.
const MAX_MAPS: usize = 100;
/// Most bytes of artefacts whose reading is kept.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// What a kept artefact counts at least, in bytes.
const LEAST_BYTES: usize = 4096;
/// Most questions that one operation puts to the terminology server.
const MAX_QUESTIONS: usize = 20;

/// A canonical resource that terminology is made of.
pub(super) trait Artefact: Send + Sync + Sized + 'static {
    const TYPE: &'static str;
    fn read(resource: &Json) -> Result<Self, Issue>;
    /// From the tables of R4.
    fn bundled(canonical: &Canonical) -> Option<Self>;
    fn version(&self) -> Option<&str>;
}

impl Artefact for CodeSystem {
    const TYPE: &'static str = "CodeSystem";

    fn read(resource: &Json) -> Result<Self, Issue> {
        CodeSystem::read(resource)
    }

    fn bundled(canonical: &Canonical) -> Option<Self> {
        r4::code_system(canonical)
    }

    fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

impl Artefact for ValueSet {
    const TYPE: &'static str = "ValueSet";

    fn read(resource: &Json) -> Result<Self, Issue> {
        ValueSet::read(resource)
    }

    fn bundled(canonical: &Canonical) -> Option<Self> {
        r4::value_set(canonical)
    }

    fn version(&self) -> Option<&str> {
        ValueSet::version(self)
    }
}

impl Artefact for ConceptMap {
    const TYPE: &'static str = "ConceptMap";

    fn read(resource: &Json) -> Result<Self, Issue> {
        Ok(ConceptMap::read(resource))
    }

    fn bundled(canonical: &Canonical) -> Option<Self> {
        r4::concept_map(canonical)
    }

    fn version(&self) -> Option<&str> {
        ConceptMap::version(self)
    }
}

/// Artefacts that were read, so that a large one is not read again for each request. A version of
/// a resource never changes, so nothing in here grows old.
#[derive(Default)]
pub(in super::super) struct Cache(Mutex<Kept>);

/// Type, id or canonical, and version of the resource (0 for what is R4's own or in a package).
type Key = (&'static str, String, i64);

#[derive(Default)]
struct Kept {
    artefacts: HashMap<Key, (Arc<dyn Any + Send + Sync>, usize, u64)>,
    bytes: usize,
    uses: u64,
}

impl Cache {
    fn get<T: Artefact>(&self, key: &Key) -> Option<Arc<T>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let now = kept.uses;
        let (artefact, _, used) = kept.artefacts.get_mut(key)?;
        *used = now;
        artefact.clone().downcast().ok()
    }

    /// Keeps an artefact and lets those go that were not used for the longest time.
    fn put<T: Artefact>(&self, key: Key, artefact: &Arc<T>, bytes: usize) {
        let bytes = bytes.max(LEAST_BYTES);
        if bytes > MAX_BYTES {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.uses += 1;
        let now = kept.uses;
        let artefact: Arc<dyn Any + Send + Sync> = artefact.clone();
        kept.bytes += bytes;
        if let Some((_, old, _)) = kept.artefacts.insert(key, (artefact, bytes, now)) {
            kept.bytes -= old;
        }
        while kept.bytes > MAX_BYTES {
            let oldest = kept.artefacts.iter().min_by_key(|(_, (_, _, used))| *used);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else { break };
            if let Some((_, old, _)) = kept.artefacts.remove(&key) {
                kept.bytes -= old;
            }
        }
    }
}

impl Facade {
    /// The artefact with an id.
    pub(super) async fn instance<T: Artefact>(&self, id: &str) -> Result<Arc<T>, Error> {
        match self.resources.read(T::TYPE, id).await? {
            None => Err(Error::not_found(T::TYPE, id)),
            Some(stored) if stored.body.is_none() => Err(Error::gone(T::TYPE, id, stored.version)),
            Some(stored) => self.read_artefact(&stored),
        }
    }

    /// The artefact that a canonical names, of several versions the latest; `None` when it is
    /// neither stored nor in a package nor R4's own.
    pub(super) async fn resolve<T: Artefact>(
        &self,
        canonical: &Canonical,
    ) -> Result<Option<Arc<T>>, Error> {
        let mut parameters = vec![("url", canonical.url.as_str())];
        parameters.extend(canonical.version.as_deref().map(|version| ("version", version)));
        let mut latest: Option<Arc<T>> = None;
        for stored in self.stored(T::TYPE, &parameters, MAX_VERSIONS).await? {
            let found = self.read_artefact::<T>(&stored)?;
            let version = |artefact: &T| artefact.version().unwrap_or_default().to_owned();
            let is_later =
                |known: &Arc<T>| compare_versions(&version(&found), &version(known)).is_gt();
            if latest.as_ref().is_none_or(is_later) {
                latest = Some(found);
            }
        }
        if latest.is_some() {
            return Ok(latest);
        }
        let key = (T::TYPE, canonical.to_string(), 0);
        if let Some(known) = self.terminology.get(&key) {
            return Ok(Some(known));
        }
        if let Some(entry) = self.rules.packages.find(T::TYPE, &canonical.to_string()) {
            let invalid = |text| Error::Invalid(vec![Issue::error(IssueType::Structure, text)]);
            let resource = entry.resource().map_err(invalid)?;
            let found = T::read(&resource).map_err(|issue| Error::Invalid(vec![issue]))?;
            let found = Arc::new(found);
            self.terminology.put(key, &found, entry.text().len());
            return Ok(Some(found));
        }
        let bundled = T::bundled(canonical).map(Arc::new);
        if let Some(bundled) = &bundled {
            self.terminology.put(key, bundled, LEAST_BYTES);
        }
        Ok(bundled)
    }

    /// The concept maps with a group for one of the codes.
    pub(super) async fn maps_for(&self, asked: &Translate) -> Result<Vec<Arc<ConceptMap>>, Error> {
        let (parameter, side) = match asked.reverse {
            true => ("target-system", "target"),
            false => ("source-system", "source"),
        };
        let mut maps = Vec::new();
        let mut seen = Vec::new();
        for system in asked.codings.iter().filter_map(|coding| coding.system.as_deref()) {
            let found = self.stored("ConceptMap", &[(parameter, system)], MAX_MAPS + 1).await?;
            if found.len() > MAX_MAPS {
                let text = format!(
                    "More than {MAX_MAPS} concept maps translate codes of {system}; name one with url."
                );
                return Err(Error::Invalid(vec![Issue::error(IssueType::TooCostly, text)]));
            }
            for stored in &found {
                if !seen.contains(&stored.id) {
                    seen.push(stored.id.clone());
                    maps.push(self.read_artefact::<ConceptMap>(stored)?);
                }
            }
            for url in r4::concept_maps(side, system) {
                let is_stored = maps.iter().any(|map| map.url() == Some(url));
                if !is_stored {
                    maps.extend(self.resolve::<ConceptMap>(&Canonical::new(url, None)).await?);
                }
            }
        }
        Ok(maps)
    }

    /// The resources that have these values. The parameters are those of the standard, so nothing
    /// of terminology is needed to understand them.
    async fn stored(
        &self,
        resource_type: &str,
        parameters: &[(&str, &str)],
        count: usize,
    ) -> Result<Vec<Stored>, Error> {
        let parameters: Vec<(String, String)> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), escape(value))).collect();
        let mut query = {
            let definitions = self.definitions();
            let nothing = language::Expansions::new();
            let reading = language::Reading {
                definitions: &definitions,
                base: &self.base,
                strict: true,
                limits: self.policy.limits.search,
                expansions: &nothing,
                now: None,
            };
            language::parse(reading, resource_type, &parameters).map_err(Error::Unparseable)?.query
        };
        query.count = count;
        Ok(self.resources.search(&query).await?.matches)
    }

    /// What a stored version says.
    fn read_artefact<T: Artefact>(&self, stored: &Stored) -> Result<Arc<T>, Error> {
        let key = (T::TYPE, stored.id.clone(), stored.version);
        if let Some(known) = self.terminology.get(&key) {
            return Ok(known);
        }
        let body = stored.body.as_ref().ok_or(Error::Internal)?;
        let resource = Json::parse(body.as_bytes()).map_err(|error| {
            tracing::error!(%error, "a stored resource cannot be read");
            Error::Internal
        })?;
        let artefact = T::read(&resource).map_err(|issue| Error::Invalid(vec![issue]))?;
        let artefact = Arc::new(artefact);
        self.terminology.put(key, &artefact, body.len());
        Ok(artefact)
    }

    /// Fetches what `set` needs. What could not be fetched is told beside it, as it may turn out
    /// not to be needed.
    pub(super) async fn fill(
        &self,
        library: &mut Library,
        set: &ValueSet,
        purpose: Purpose<'_>,
    ) -> Result<Option<Error>, Error> {
        let mut trouble = None;
        let mut questions = 0;
        loop {
            let needs = library.needs(set, purpose)?;
            if needs.is_empty() {
                return Ok(trouble);
            }
            for need in needs {
                if matches!(need, Need::Codes(_) | Need::Membership { .. }) {
                    questions += 1;
                    if questions > MAX_QUESTIONS {
                        let text = format!(
                            "More than {MAX_QUESTIONS} parts of the value set are unknown here; load their code systems."
                        );
                        let issue = Issue::error(IssueType::TooCostly, text);
                        return Err(Error::Invalid(vec![issue]));
                    }
                }
                let refused = self.supply(library, need).await?;
                trouble = trouble.or(refused);
            }
        }
    }

    /// Fetches one thing. That the terminology server could not be asked is told beside it.
    pub(in super::super) async fn supply(
        &self,
        library: &mut Library,
        need: Need,
    ) -> Result<Option<Error>, Error> {
        match need {
            Need::CodeSystem(canonical) => {
                let found = self.resolve(&canonical).await?;
                library.put_code_system(canonical, found);
            }
            Need::ValueSet(canonical) => {
                let found = self.resolve(&canonical).await?;
                library.put_value_set(canonical, found);
            }
            Need::Codes(include) => {
                let (codes, trouble) = answered(self.codes_elsewhere(&include).await);
                library.put_codes(include, codes);
                return Ok(trouble);
            }
            Need::Membership { include, system, code } => {
                let answer = self.is_member_elsewhere(&include, &system, &code).await;
                let (is_member, trouble) = answered(answer);
                library.put_membership((include, system, code), is_member);
                return Ok(trouble);
            }
        }
        Ok(None)
    }

    /// System and code of everything in a value set, which a canonical or `ValueSet/[id]` names.
    ///
    /// # Errors
    /// It is not known, or has more codes than a search takes.
    pub(in super::super) async fn codes_of_set(
        &self,
        name: &str,
    ) -> Result<Vec<(String, String)>, Error> {
        let id = name.strip_prefix("ValueSet/").filter(|id| lumbar_fhir::rest::is_id(id));
        let canonical = Canonical::parse(name);
        let set = match id {
            Some(id) => Some(self.instance::<ValueSet>(id).await?),
            None => self.resolve::<ValueSet>(&canonical).await?,
        };
        // A set that only the server knows is the same as one that imports it.
        let set = match set {
            Some(set) => set,
            None => {
                let import = lumbar_fhir::json!({
                    "url": (name), "compose": {"include": [{"valueSet": [(name)]}]}
                });
                Arc::new(ValueSet::read(&import).map_err(|issue| Error::Invalid(vec![issue]))?)
            }
        };
        let mut library = Library::default();
        let trouble = self.fill(&mut library, &set, Purpose::Codes).await?;
        let codes = members(&library, &set).map_err(|refusal| first(trouble, refusal))?;
        let limit = self.policy.limits.expansion;
        if codes.len() > limit {
            let text = format!(
                "The value set {name} has {} codes; a search takes at most {limit}.",
                codes.len()
            );
            return Err(Error::Invalid(vec![Issue::error(IssueType::TooCostly, text)]));
        }
        Ok(codes.iter().map(|code| (code.system.to_owned(), code.code.to_owned())).collect())
    }

    /// A code and all codes below it, or above it, in its system.
    ///
    /// # Errors
    /// The system is not known with all its codes, or too many are found.
    pub(in super::super) async fn related_codes(
        &self,
        system: &str,
        code: &str,
        upwards: bool,
    ) -> Result<Vec<(String, String)>, Error> {
        let canonical = Canonical::new(system, None);
        let found = self.resolve::<CodeSystem>(&canonical).await?;
        let Some(found) = found.filter(|found| found.is_complete) else {
            return Err(super::unknown("code system", &canonical));
        };
        let Some(related) = found.related(code, upwards) else {
            let text = format!("The code system {system} has no code {code}.");
            return Err(Error::NotFound(Issue::error(IssueType::NotFound, text)));
        };
        let limit = self.policy.limits.expansion;
        if related.len() >= limit {
            let text =
                format!("The code {code} has more than {limit} relatives; name a closer one.");
            return Err(Error::Invalid(vec![Issue::error(IssueType::TooCostly, text)]));
        }
        let codes = std::iter::once(code).chain(related);
        Ok(codes.map(|code| (system.to_owned(), code.to_owned())).collect())
    }
}

/// An answer, or why there is none.
fn answered<T>(answer: Result<Option<T>, Error>) -> (Option<T>, Option<Error>) {
    match answer {
        Ok(answer) => (answer, None),
        Err(error) => (None, Some(error)),
    }
}

/// What is told when there is no answer: that the server could not be asked comes first.
pub(super) fn first(trouble: Option<Error>, refusal: Refusal) -> Error {
    trouble.unwrap_or_else(|| refusal.into())
}

/// A value of a search parameter as it is written in a query.
pub(in super::super) fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for character in value.chars() {
        if matches!(character, '\\' | ',' | '|' | '$') {
            out.push('\\');
        }
        out.push(character);
    }
    out
}
