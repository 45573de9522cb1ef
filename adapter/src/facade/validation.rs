//! Validation: <https://hl7.org/fhir/R4/validation.html>.
//!
//! The validator looks nothing up; it tells what it would have to know. That is fetched here, from
//! what is stored, from R4's own tables and from the terminology server, and the resource is looked
//! at again, until nothing is missing or nobody knows more. What was found is kept until something
//! of its kind is written here; what other processes write is seen after ten seconds at the latest.
//!
//! What R4 and we define is known from the start and not fetched: a resource of the same url that a
//! client stores does not change what is valid here. Who runs the service replaces it by `--profiles`.
//!
//! What a transaction is about to write is seen by its own resources before it is stored, and by
//! nobody else.

mod claim;
mod operation;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use lumbar_fhir::datetime::{Micros, instant};
use lumbar_fhir::definitions::Definitions;
use lumbar_fhir::profile::Profiles;
use lumbar_fhir::questionnaire::Form;
use lumbar_fhir::terminology::{self, Canonical, CodeSystem, Library, ValueSet, compare_versions};
use lumbar_fhir::validate::{self, Found, Limits, Missing, Need, validate_in};
use lumbar_fhir::{Issue, IssueType, Json, Severity};

use super::terminology::escape;
use super::{Error, Facade, Unit};
use crate::config::Validation;
use crate::rules::Rules;

/// Most looks at one resource.
const MAX_ROUNDS: usize = 8;
/// Most things that are fetched for one resource.
const MAX_FETCHED: usize = 200;
/// Most values that the profiles have, with all their elements, that are fetched for one resource.
const MAX_VALUES: usize = 300_000;
/// Longest canonical or reference that is looked up, in bytes.
const MAX_URL: usize = 2_048;
/// Most versions of one artefact that are compared.
const MAX_VERSIONS: usize = 50;
/// How long, in microseconds, what was found counts.
const MAX_AGE: Micros = 10_000_000;
/// Most things that are kept.
const MAX_KEPT: usize = 5_000;
/// From so many values on, a resource is looked at beside the threads that answer requests.
const LARGE: usize = 5_000;
/// As many steps and checks are no work; with more, it is done beside these threads, too.
const QUICK: u64 = 200_000;
/// The types of what is kept.
pub(super) const KINDS: [&str; 4] =
    ["CodeSystem", "Questionnaire", "StructureDefinition", "ValueSet"];

/// What is known outside of a resource.
#[derive(Clone, Default)]
pub struct Known {
    /// Profiles and definitions of extensions.
    pub profiles: Profiles,
    /// Code systems and value sets.
    pub terminology: Library,
    /// Resources by reference, Questionnaires by canonical.
    pub resources: Found,
    /// Canonicals of profiles that nobody knows.
    absent: HashSet<String>,
    /// How much was fetched.
    size: usize,
    since: Micros,
}

/// What a resource is held against beyond R4 and the profiles that it claims.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Profiles.
    pub profiles: &'a [String],
    /// How grave it is at most that an Observation breaks the profile of its vital sign without
    /// claiming it.
    pub vital_signs: Severity,
}

impl<'a> Asked<'a> {
    /// All that R4 asks, and these profiles.
    pub fn of(profiles: &'a [String]) -> Asked<'a> {
        Asked { profiles, vital_signs: Severity::Error }
    }

    /// What is asked of a resource that is to be stored: no profile that it does not claim keeps it
    /// out.
    fn to_store() -> Asked<'a> {
        Asked { profiles: &[], vital_signs: Severity::Warning }
    }
}

impl Known {
    /// What R4, we and the site define. What cannot be used is left out; `lumbar check` tells it.
    pub fn of(rules: &Rules) -> Known {
        let mut known =
            Known { profiles: Profiles::r4(), terminology: Library::r4(), ..Known::default() };
        for artefact in &rules.artefacts {
            let issues = match artefact.str_at(&["resourceType"]) {
                Some("StructureDefinition") => known.profiles.add(artefact),
                _ => known.terminology.add(artefact).err().into_iter().collect(),
            };
            for issue in issues {
                tracing::warn!(reason = issue.text, "an artefact cannot be validated by");
            }
        }
        // Of what a site adds the text is kept, and read when it is used.
        for entry in rules.packages.of_type("StructureDefinition") {
            if let Some(url) = entry.url.as_deref() {
                known.profiles.add_text(url, entry.version.as_deref(), entry.text().clone());
            }
        }
        for entry in rules.packages.own() {
            if let Some(url) = entry.url.as_deref() {
                let (of, version) = (&entry.resource_type, entry.version.as_deref());
                known.terminology.add_text(of, url, version, entry.text().clone());
            }
        }
        known
    }

    /// Looks at a resource once, with what references and canonicals mean. Returns what is to be
    /// said, and what would have to be known for it to be all.
    pub fn look(
        &self,
        definitions: &Definitions,
        resources: &Found,
        resource: &Json,
        asked: Asked<'_>,
        limits: Limits,
        now: Micros,
    ) -> (Vec<Issue>, Vec<Need>) {
        let missing = Missing::default();
        let now = instant(now);
        let world = validate::World {
            definitions,
            profiles: &self.profiles,
            terminology: &self.terminology,
            resources,
            missing: &missing,
            now: Some(&now),
            vital_signs: asked.vital_signs,
            limits,
        };
        let profiles: Vec<&str> = asked.profiles.iter().map(String::as_str).collect();
        let issues = validate_in(&world, resource, &profiles);
        (issues, missing.take())
    }

    /// Whether it is known that nobody has what is needed, so that it is not asked for each time.
    fn is_absent(&self, need: &Need) -> bool {
        matches!(need, Need::Profile(canonical) if self.absent.contains(canonical))
    }

    /// The profiles that are asked for, or that the resource names, and that are not here.
    fn unknown<'a>(&'a self, resource: &'a Json, profiles: &'a [String]) -> Vec<Need> {
        let named = resource.get("meta").map_or(&[][..], |meta| meta.list("profile"));
        let named =
            named.iter().filter_map(Json::as_str).chain(profiles.iter().map(String::as_str));
        named
            .filter(|url| !self.absent.contains(*url) && self.profiles.find(url).is_none())
            .map(|url| Need::Profile(url.to_owned()))
            .collect()
    }
}

/// What was found for the resources before.
pub(super) struct Cache {
    /// What is known from the start.
    standard: Arc<Known>,
    kept: RwLock<Arc<Known>>,
    /// How often something was forgotten, so that nothing older is put in afterwards.
    forgotten: AtomicU64,
}

impl Cache {
    pub(super) fn new(standard: Known) -> Cache {
        let standard = Arc::new(standard);
        let kept = RwLock::new(standard.clone());
        Cache { standard, kept, forgotten: AtomicU64::new(0) }
    }

    /// The same, where a terminology server can be asked or not.
    pub(super) fn asking(self, can_ask: bool) -> Cache {
        let standard = Known::clone(&self.standard);
        Cache::new(Known { terminology: standard.terminology.asking(can_ask), ..standard })
    }

    /// How often something was forgotten.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Acquire)
    }

    /// What is known from the start.
    pub(super) fn standard(&self) -> Arc<Known> {
        self.standard.clone()
    }

    fn known(&self, now: Micros) -> (Arc<Known>, u64) {
        let forgotten = self.forgotten.load(Ordering::Acquire);
        let known = self.kept.read().unwrap_or_else(PoisonError::into_inner).clone();
        if known.size > MAX_KEPT || (known.size > 0 && now - known.since > MAX_AGE) {
            return (self.standard.clone(), forgotten);
        }
        (known, forgotten)
    }

    fn keep(&self, mut known: Arc<Known>, forgotten: u64, now: Micros) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if self.forgotten.load(Ordering::Acquire) == forgotten {
            let all = Arc::make_mut(&mut known);
            if all.since == 0 {
                all.since = now;
            }
            *kept = known;
        }
    }

    /// Forgets what was found, if something of that kind was written.
    pub(super) fn written<'a>(&self, mut resource_types: impl Iterator<Item = &'a str>) {
        if resource_types.any(|of| KINDS.contains(&of)) {
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            self.forgotten.fetch_add(1, Ordering::AcqRel);
            *kept = self.standard.clone();
        }
    }
}

/// What is known for one validation, and what was asked for it.
pub(super) struct World {
    pub(super) known: Arc<Known>,
    /// What references mean; fetched anew for each validation, as it may change.
    pub(super) referred: Option<Found>,
    asked: HashSet<Need>,
    rounds: usize,
    /// The values of the profiles that were fetched.
    values: usize,
    /// Whether not all that is needed was fetched.
    is_short: bool,
    has_learned: bool,
    forgotten: u64,
    now: Micros,
}

impl World {
    /// What references and canonicals mean.
    pub(super) fn resources(&self) -> &Found {
        self.referred.as_ref().unwrap_or(&self.known.resources)
    }

    /// That not all was looked at, if so.
    pub(super) fn incomplete(&self) -> Option<Issue> {
        let text = format!(
            "More than {MAX_FETCHED} definitions and resources, very large ones, or chains of more than {MAX_ROUNDS}, would have to be looked up; what depends on the rest was not checked."
        );
        self.is_short.then(|| Issue::warning(IssueType::TooCostly, text))
    }
}

impl Facade {
    /// Looks at a resource that is to be written. Returns what is to be told about it.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it breaks the rules and these are enforced.
    pub(super) async fn check(
        &self,
        unit: &mut Unit<'_>,
        resource: &Json,
    ) -> Result<Vec<Issue>, Error> {
        self.refuse(resource)?;
        if self.policy.validation == Validation::Off {
            return Ok(Vec::new());
        }
        let mut issues = self.issues(unit, resource, Asked::to_store()).await?;
        if self.policy.validation == Validation::Enforce && issues.iter().any(Issue::is_error) {
            return Err(Error::Invalid(issues));
        }
        for issue in &mut issues {
            issue.severity = issue.severity.min(Severity::Warning);
        }
        Ok(issues)
    }

    /// What there is to say of a resource: of R4, of the profiles that it names, and of what is
    /// asked.
    ///
    /// # Errors
    /// The store cannot be read.
    async fn issues(
        &self,
        unit: &mut Unit<'_>,
        resource: &Json,
        asked: Asked<'_>,
    ) -> Result<Vec<Issue>, Error> {
        Ok(self.issues_and_known(unit, resource, asked).await?.0)
    }

    /// The same, and what is known then.
    async fn issues_and_known(
        &self,
        unit: &mut Unit<'_>,
        resource: &Json,
        asked: Asked<'_>,
    ) -> Result<(Vec<Issue>, Arc<Known>), Error> {
        let definitions = self.definitions();
        let mut world = self.world(unit);
        let named = world.known.unknown(resource, asked.profiles);
        self.fetch_needs(&mut world, unit, named).await?;
        let mut large = None;
        loop {
            let (mut issues, needs) =
                self.look(&definitions, &world, resource, asked, &mut large).await?;
            if self.fetch_needs(&mut world, unit, needs).await? {
                continue;
            }
            issues.extend(world.incomplete());
            return Ok((issues, self.keep(unit, world)));
        }
    }

    /// What is known before anything was fetched.
    pub(super) fn world(&self, unit: &Unit<'_>) -> World {
        let now = self.source.now();
        let (known, forgotten) = match &unit.known {
            Some(known) => (known.clone(), 0),
            None => self.validation.known(now),
        };
        World {
            known,
            referred: None,
            asked: HashSet::new(),
            rounds: 0,
            values: 0,
            is_short: false,
            has_learned: false,
            forgotten,
            now,
        }
    }

    /// Fetches what is needed. Returns whether something was, so that another look is worth it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) async fn fetch_needs(
        &self,
        world: &mut World,
        unit: &mut Unit<'_>,
        needs: Vec<Need>,
    ) -> Result<bool, Error> {
        let mut has_fetched = false;
        for need in needs {
            if world.asked.contains(&need) || world.known.is_absent(&need) || is_too_long(&need) {
                continue;
            }
            let is_full = world.asked.len() == MAX_FETCHED || world.values > MAX_VALUES;
            if is_full || world.rounds == MAX_ROUNDS {
                world.is_short = true;
                break;
            }
            world.asked.insert(need.clone());
            has_fetched = true;
            if let Need::Resource(text) = need {
                let found = unit.resolve(&text).await?.map(Arc::new);
                world
                    .referred
                    .get_or_insert_with(|| world.known.resources.clone())
                    .put(text, found);
                continue;
            }
            world.has_learned = true;
            let known = Arc::make_mut(&mut world.known);
            known.size += 1;
            if let Need::Questionnaire(canonical) = &need {
                let found = self.questionnaire(unit, canonical).await?;
                let form = match found {
                    Some(found) => Some(self.form(found).await?),
                    None => None,
                };
                for resources in std::iter::once(&mut known.resources).chain(&mut world.referred) {
                    match &form {
                        Some(form) => resources.put_form(canonical, form.clone()),
                        None => resources.put(canonical, None),
                    }
                }
            } else {
                let values = self.learn(unit, known, need).await?;
                // What is large is kept as if it were several.
                known.size += values / 1_000;
                world.values += values;
            }
        }
        world.rounds += 1;
        Ok(has_fetched)
    }

    /// Reads a Questionnaire beside the threads that answer requests.
    pub(super) async fn form(&self, questionnaire: Json) -> Result<Arc<Form>, Error> {
        let definitions = self.definitions();
        self.work.run(move || Arc::new(Form::read(&definitions, &questionnaire).0)).await
    }

    /// Keeps what was learned for the next; what rests on something that is not stored yet, for the
    /// same unit only.
    pub(super) fn keep(&self, unit: &mut Unit<'_>, world: World) -> Arc<Known> {
        if let Some(known) = &mut unit.known {
            known.clone_from(&world.known);
        } else if world.has_learned {
            self.validation.keep(world.known.clone(), world.forgotten, world.now);
        }
        world.known
    }

    /// The Questionnaire of a canonical: stored, one of ours, or of a package.
    pub(super) async fn questionnaire(
        &self,
        unit: &mut Unit<'_>,
        canonical: &str,
    ) -> Result<Option<Json>, Error> {
        let stored = self.canonical(unit, "Questionnaire", canonical).await?;
        let ours = || self.rules.questionnaire(canonical).cloned();
        let packed = || self.rules.packages.resource("Questionnaire", canonical);
        Ok(stored.or_else(ours).or_else(packed))
    }

    /// One look, beside the threads that answer requests when it may take long: the resource is
    /// large, definitions are new, or what is quick did not suffice.
    async fn look(
        &self,
        definitions: &Arc<Definitions>,
        world: &World,
        resource: &Json,
        asked: Asked<'_>,
        large: &mut Option<Arc<Json>>,
    ) -> Result<(Vec<Issue>, Vec<Need>), Error> {
        if large.is_none() && !world.has_learned && !exceeds(resource, &mut LARGE.clone()) {
            let quick = Limits { steps: QUICK, work: QUICK, ..Limits::default() };
            let (referred, now) = (world.resources(), world.now);
            let looked = world.known.look(definitions, referred, resource, asked, quick, now);
            if looked.0.iter().all(|issue| issue.code != IssueType::TooCostly) {
                return Ok(looked);
            }
        }
        let resource = large.get_or_insert_with(|| Arc::new(resource.clone())).clone();
        let (definitions, known) = (definitions.clone(), world.known.clone());
        let (referred, now) = (world.referred.clone(), world.now);
        let (profiles, vital_signs) = (asked.profiles.to_vec(), asked.vital_signs);
        let look = move || {
            let resources = referred.as_ref().unwrap_or(&known.resources);
            let asked = Asked { profiles: &profiles, vital_signs };
            known.look(&definitions, resources, &resource, asked, Limits::default(), now)
        };
        self.work.run(look).await
    }

    /// Fetches one thing; that nobody has it is known afterwards, too. Returns how many values it
    /// has, if it is a profile.
    async fn learn(
        &self,
        unit: &mut Unit<'_>,
        known: &mut Known,
        need: Need,
    ) -> Result<usize, Error> {
        let mut left = usize::MAX;
        match need {
            Need::Profile(canonical) => {
                match self.canonical(unit, "StructureDefinition", &canonical).await? {
                    Some(definition) => {
                        exceeds(&definition, &mut left);
                        for issue in known.profiles.add(&definition) {
                            tracing::warn!(reason = issue.text, "a stored profile cannot be used");
                        }
                        if known.profiles.find(&canonical).is_none() {
                            known.absent.insert(canonical);
                        }
                    }
                    None => {
                        known.absent.insert(canonical);
                    }
                }
            }
            Need::Terminology(need) => {
                if self.supply_own(unit, &mut known.terminology, &need).await? {
                    return Ok(0);
                }
                match self.supply(&mut known.terminology, need.clone()).await {
                    // One that cannot be read, or be had now, is as good as none.
                    Err(Error::Invalid(_) | Error::Unavailable(_)) => match need {
                        terminology::Need::CodeSystem(canonical) => {
                            known.terminology.put_code_system(canonical, None);
                        }
                        terminology::Need::ValueSet(canonical) => {
                            known.terminology.put_value_set(canonical, None);
                        }
                        _ => {}
                    },
                    result => result.map(|_| ())?,
                }
            }
            Need::Resource(_) | Need::Questionnaire(_) => {}
        }
        Ok(usize::MAX - left)
    }

    /// Supplies a code system or value set that the unit is about to write; whether it was one.
    async fn supply_own(
        &self,
        unit: &mut Unit<'_>,
        library: &mut Library,
        need: &terminology::Need,
    ) -> Result<bool, Error> {
        let (of, canonical) = match need {
            terminology::Need::CodeSystem(canonical) => ("CodeSystem", canonical),
            terminology::Need::ValueSet(canonical) => ("ValueSet", canonical),
            _ => return Ok(false),
        };
        if unit.known.is_none() {
            return Ok(false);
        }
        let Some(found) = self.canonical(unit, of, &canonical.to_string()).await? else {
            return Ok(false);
        };
        // One that cannot be read is as good as none.
        match of {
            "CodeSystem" => {
                let system = CodeSystem::read(&found).ok().map(Arc::new);
                library.put_code_system(canonical.clone(), system);
            }
            _ => {
                let set = ValueSet::read(&found).ok().map(Arc::new);
                library.put_value_set(canonical.clone(), set);
            }
        }
        Ok(true)
    }

    /// The resource of a canonical as the unit sees it, of several versions the latest.
    pub(super) async fn canonical(
        &self,
        unit: &mut Unit<'_>,
        resource_type: &str,
        canonical: &str,
    ) -> Result<Option<Json>, Error> {
        let canonical = Canonical::parse(canonical);
        let mut parameters = vec![("url".to_owned(), escape(&canonical.url))];
        let version = canonical.version.as_deref();
        parameters.extend(version.map(|version| ("version".to_owned(), escape(version))));
        let found = match unit.find(resource_type, &parameters, MAX_VERSIONS).await {
            Ok(found) => found,
            // No url, so nothing has it.
            Err(Error::Unparseable(_) | Error::Invalid(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut latest: Option<Json> = None;
        let version = |of: &Json| of.str_at(&["version"]).unwrap_or_default().to_owned();
        for found in found {
            let is_later =
                |known: &Json| compare_versions(&version(&found), &version(known)).is_gt();
            if latest.as_ref().is_none_or(is_later) {
                latest = Some(found);
            }
        }
        Ok(latest)
    }
}

/// Whether something is asked for by a name that is longer than any url: nobody has it, and that is
/// not worth remembering.
fn is_too_long(need: &Need) -> bool {
    let length = match need {
        Need::Profile(name) | Need::Resource(name) | Need::Questionnaire(name) => name.len(),
        Need::Terminology(
            terminology::Need::CodeSystem(canonical) | terminology::Need::ValueSet(canonical),
        ) => canonical.url.len() + canonical.version.as_ref().map_or(0, String::len),
        Need::Terminology(_) => 0,
    };
    length > MAX_URL
}

/// Whether a tree has more values than are `left`.
fn exceeds(json: &Json, left: &mut usize) -> bool {
    if *left == 0 {
        return true;
    }
    *left -= 1;
    match json {
        Json::Array(items) => items.iter().any(|item| exceeds(item, left)),
        Json::Object(object) => object.iter().any(|(_, value)| exceeds(value, left)),
        _ => false,
    }
}
