//! A unit of work: changes that are committed together with all that follows from them.

mod activation;
mod references;
mod same;

use std::collections::HashMap;
use std::sync::Arc;

use lumbar_fhir::rest::decode_pairs;
use lumbar_fhir::search::{self, Candidate, Condition, IndexRow, Query};
use lumbar_fhir::{Issue, IssueType, Json};
use lumbar_store::{Change, Commit, Guard, Method, NewJob, Stored, Unreferred};

use super::subscription::Written;
use super::{Error, Facade, validation};
use same::stamp;
pub(super) use same::{is_same, parse};

/// Most resources that one unit may change, derived ones included.
const MAX_CHANGES: usize = 20_000;

/// Changes that will be committed at once. Reads and searches through the unit see them already.
pub struct Unit<'f> {
    facade: &'f Facade,
    /// The number of the definitions that it follows.
    definitions: i64,
    /// What the store held when the unit looked, by (type, id).
    loaded: HashMap<(String, String), Option<Stored>>,
    changes: Vec<Pending>,
    /// Place of a resource in `changes`.
    places: HashMap<(String, String), usize>,
    /// What is going to be changed, as far as it is known, so that searches find it.
    previews: HashMap<(String, String), (Json, Vec<IndexRow>)>,
    jobs: Vec<NewJob>,
    guards: Vec<Guard>,
    unreferred: Vec<Unreferred>,
    /// What is to be told about the changes, with type and id.
    pub(super) issues: Vec<((String, String), Issue)>,
    /// How many of `changes` have been derived from.
    derived: usize,
    /// What validation knows with the artefacts that are going to be put; `None` when there are
    /// none.
    pub(super) known: Option<Arc<validation::Known>>,
    /// Whether the service itself moves a subscription on, which no client may.
    pub(super) by_service: bool,
}

/// One resource as it will be.
pub(super) struct Pending {
    pub(super) resource_type: String,
    pub(super) id: String,
    /// `None` when it is to be deleted.
    pub(super) after: Option<Json>,
    rows: Vec<IndexRow>,
    method: Method,
}

/// What the store (or the unit) holds of a resource.
pub(super) struct Current {
    /// Current version, deleted ones count.
    pub(super) version: Option<i64>,
    /// Whether it is there and not deleted.
    pub(super) exists: bool,
}

/// What a commit wrote.
pub struct Committed {
    stored: Vec<Stored>,
    issues: Vec<((String, String), Issue)>,
}

impl Committed {
    /// What is to be told about all of it.
    pub fn issues(&self) -> Vec<Issue> {
        self.issues.iter().map(|(_, issue)| issue.clone()).collect()
    }

    /// What is to be told about one resource.
    pub fn issues_of(&self, resource_type: &str, id: &str) -> Vec<Issue> {
        let own = self.issues.iter().filter(|((of, named), _)| of == resource_type && named == id);
        own.map(|(_, issue)| issue.clone()).collect()
    }

    /// How many resources were written.
    pub fn len(&self) -> u64 {
        u64::try_from(self.stored.len()).unwrap_or(u64::MAX)
    }

    /// The version of a resource that the commit wrote; `None` when it left it as it was.
    pub fn find(&self, resource_type: &str, id: &str) -> Option<&Stored> {
        self.stored.iter().find(|stored| stored.resource_type == resource_type && stored.id == id)
    }
}

impl<'f> Unit<'f> {
    pub(super) fn new(facade: &'f Facade) -> Self {
        Unit {
            facade,
            definitions: facade.known().number,
            loaded: HashMap::new(),
            changes: Vec::new(),
            places: HashMap::new(),
            previews: HashMap::new(),
            jobs: Vec::new(),
            guards: Vec::new(),
            unreferred: Vec::new(),
            issues: Vec::new(),
            derived: 0,
            known: None,
            by_service: false,
        }
    }

    /// The door that the unit goes through.
    pub fn facade(&self) -> &'f Facade {
        self.facade
    }

    /// The resource as it will be; `None` when there is none.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn read(&mut self, resource_type: &str, id: &str) -> Result<Option<Json>, Error> {
        if let Some(place) = self.places.get(&key(resource_type, id)) {
            return Ok(self.changes[*place].after.clone());
        }
        self.before(resource_type, id).await
    }

    /// The resource as the store holds it; `None` when there is none or it was deleted.
    pub(super) async fn before(
        &mut self,
        resource_type: &str,
        id: &str,
    ) -> Result<Option<Json>, Error> {
        self.load(resource_type, id).await?;
        let stored = self.loaded.get(&key(resource_type, id)).and_then(Option::as_ref);
        stored.and_then(|stored| stored.body.as_ref()).map(parse).transpose()
    }

    /// The resource that a relative reference (`Type/id`) names.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn resolve(&mut self, reference: &str) -> Result<Option<Json>, Error> {
        match search::reference_key(&self.facade.base, reference)
            .as_deref()
            .and_then(|key| key.split_once('/'))
        {
            Some((resource_type, id)) if self.facade.definitions().is_resource(resource_type) => {
                self.read(resource_type, id).await
            }
            _ => Ok(None),
        }
    }

    /// The first `count` resources that a search finds, the unit's own changes included. Chains
    /// follow what is stored, not what the unit changes.
    ///
    /// # Errors
    /// The parameters cannot be read, or the store cannot.
    pub async fn find(
        &mut self,
        resource_type: &str,
        parameters: &[(String, String)],
        count: usize,
    ) -> Result<Vec<Json>, Error> {
        let facade = self.facade;
        let search = facade.parse_search(resource_type, parameters, true).await?;
        let mut query = search.query;
        query.cursor = None;
        // Changed resources may drop out, so as many more are asked for.
        query.count = count + self.changes.len() + self.previews.len();
        let page = facade.resources.search(&query).await?;
        let mut found = Vec::new();
        for stored in &page.matches {
            let key = key(&stored.resource_type, &stored.id);
            if !self.places.contains_key(&key)
                && !self.previews.contains_key(&key)
                && let Some(body) = &stored.body
            {
                found.push(parse(body)?);
            }
        }
        let changes = self.changes.iter().filter_map(|change| {
            Some((&change.resource_type, &change.id, change.after.as_ref()?, &change.rows))
        });
        let previews = self.previews.iter().map(|((of, id), (json, rows))| (of, id, json, rows));
        let last_updated = facade.source.now();
        for (of, id, after, rows) in changes.chain(previews) {
            let candidate = Candidate { id, last_updated, rows };
            if of == resource_type && search::matches(&query.condition, candidate, &|_, _| false) {
                found.push(after.clone());
            }
        }
        found.truncate(count);
        Ok(found)
    }

    /// The first `count` resources that a condition of a write finds. A condition that says
    /// nothing is refused, for it would mean all resources of the type.
    ///
    /// # Errors
    /// As [`Unit::find`]; parameters that are not known are errors.
    pub(super) async fn matching(
        &mut self,
        resource_type: &str,
        parameters: &[(String, String)],
        count: usize,
    ) -> Result<Vec<Json>, Error> {
        let search = self.facade.parse_search(resource_type, parameters, true).await?;
        if matches!(&search.query.condition, Condition::All(all) if all.is_empty()) {
            let text = format!(
                "The condition has no search parameter; name one, as in {resource_type}?identifier=http://example.org/id|1."
            );
            return Err(Error::Unparseable(vec![Issue::error(IssueType::Required, text)]));
        }
        self.find(resource_type, parameters, count).await
    }

    /// What a reference (`Type/id`) or a search (`Type?…`) finds, at most `count` resources.
    ///
    /// # Errors
    /// As [`Unit::find`].
    pub async fn fetch(&mut self, wanted: &str, count: usize) -> Result<Vec<Json>, Error> {
        match wanted.split_once('?') {
            Some((resource_type, query)) => {
                let parameters = decode_pairs(query)?;
                self.find(resource_type, &parameters, count).await
            }
            None => Ok(self.resolve(wanted).await?.into_iter().collect()),
        }
    }

    /// Puts a resource, whose type and id it carries, into the unit.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn put_resource(&mut self, resource: Json) -> Result<(), Error> {
        self.update(resource).await.map(|_| ())
    }

    /// Looks at a resource that is to be put.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it breaks the rules and these are enforced.
    pub(super) async fn check(
        &mut self,
        resource_type: &str,
        id: &str,
        resource: &Json,
    ) -> Result<(), Error> {
        self.check_response(resource)?;
        let issues = self.facade.check(self, resource).await?;
        self.tell(resource_type, id, issues);
        Ok(())
    }

    /// Notes what is to be told about a resource.
    pub(super) fn tell(&mut self, resource_type: &str, id: &str, issues: Vec<Issue>) {
        self.issues.extend(issues.into_iter().map(|issue| (key(resource_type, id), issue)));
    }

    /// Lets searches find a resource that is going to be put, if validation draws on such ones.
    pub(super) fn preview_artefact(&mut self, resource_type: &str, id: &str, resource: &Json) {
        if validation::KINDS.contains(&resource_type) {
            self.known.get_or_insert_with(|| self.facade.validation.standard());
            self.preview(resource_type, id, resource.clone());
        }
    }

    /// Lets searches find a resource that is going to be put.
    pub(super) fn preview(&mut self, resource_type: &str, id: &str, resource: Json) {
        let rows = search::index(&self.facade.definitions(), &self.facade.base, &resource);
        self.previews.insert(key(resource_type, id), (resource, rows));
    }

    /// Whether the resource is created by this unit under an id that was made for it.
    pub(super) fn is_new(&self, resource_type: &str, id: &str) -> bool {
        let place = self.places.get(&key(resource_type, id));
        place.is_some_and(|place| self.changes[*place].method == Method::Create)
    }

    /// Lets the commit go through only if a search still finds nothing then.
    ///
    /// # Errors
    /// The parameters cannot be read.
    pub(super) async fn guard(
        &mut self,
        resource_type: &str,
        parameters: &[(String, String)],
    ) -> Result<(), Error> {
        let facade = self.facade;
        let search = facade.parse_search(resource_type, parameters, true).await?;
        let mine = self.changes.len() + self.previews.len();
        let mut query = Query { count: mine + 1, cursor: None, total: false, ..search.query };
        // What the unit itself takes out of the search is still found when the commit begins.
        let mut ids = Vec::new();
        if mine > 0 {
            for stored in facade.resources.search(&query).await?.matches {
                let key = key(&stored.resource_type, &stored.id);
                if self.places.contains_key(&key) || self.previews.contains_key(&key) {
                    ids.push(stored.id);
                }
            }
        }
        query.count = ids.len() + 1;
        self.guards.push(Guard { query, ids });
        Ok(())
    }

    /// Enqueues a job in the same commit.
    pub fn enqueue(&mut self, job: NewJob) {
        self.jobs.push(job);
    }

    pub(super) async fn version(
        &mut self,
        resource_type: &str,
        id: &str,
    ) -> Result<Current, Error> {
        self.load(resource_type, id).await?;
        let key = key(resource_type, id);
        let stored = self.loaded.get(&key).and_then(Option::as_ref);
        let exists = match self.places.get(&key) {
            Some(place) => self.changes[*place].after.is_some(),
            None => stored.is_some_and(|stored| stored.body.is_some()),
        };
        Ok(Current { version: stored.map(|stored| stored.version), exists })
    }

    /// Whether the unit changes this resource.
    pub(super) fn changes(&self, resource_type: &str, id: &str) -> bool {
        self.places.contains_key(&key(resource_type, id))
    }

    /// The version that a resource will have, if the unit changes it or `is_changed`.
    pub(super) async fn next_version(
        &mut self,
        resource_type: &str,
        id: &str,
        is_changed: bool,
    ) -> Result<i64, Error> {
        let current = self.version(resource_type, id).await?.version.unwrap_or(0);
        Ok(current + i64::from(is_changed || self.changes(resource_type, id)))
    }

    pub(super) fn put_new(&mut self, resource_type: &str, id: &str, resource: Json) {
        self.loaded.insert(key(resource_type, id), None);
        self.change(resource_type, id, Some(resource), Method::Create);
    }

    /// Puts a resource whose current version has been loaded.
    pub(super) fn put(&mut self, resource_type: &str, id: &str, resource: Json) {
        self.change(resource_type, id, Some(resource), Method::Update);
    }

    pub(super) fn remove(&mut self, resource_type: &str, id: &str) {
        self.change(resource_type, id, None, Method::Delete);
    }

    fn change(&mut self, resource_type: &str, id: &str, after: Option<Json>, method: Method) {
        let rows = after.as_ref().map_or_else(Vec::new, |resource| {
            search::index(&self.facade.definitions(), &self.facade.base, resource)
        });
        let pending = Pending {
            resource_type: resource_type.to_owned(),
            id: id.to_owned(),
            after,
            rows,
            method,
        };
        let key = key(resource_type, id);
        self.previews.remove(&key);
        match self.places.get(&key) {
            Some(place) => self.changes[*place] = pending,
            None => {
                self.places.insert(key, self.changes.len());
                self.changes.push(pending);
            }
        }
    }

    /// The changes that nothing has been derived from yet; they count as derived from afterwards.
    pub(super) fn take_underived(&mut self) -> Vec<(String, String, Option<Json>)> {
        let fresh = self.changes[self.derived..].iter();
        let fresh = fresh
            .map(|change| (change.resource_type.clone(), change.id.clone(), change.after.clone()));
        let fresh = fresh.collect();
        self.derived = self.changes.len();
        fresh
    }

    /// Takes what the store holds of a resource as looked up.
    pub(super) fn hold_loaded(&mut self, stored: Stored) {
        self.loaded.insert(key(&stored.resource_type, &stored.id), Some(stored));
    }

    /// Looks up what the store holds of many resources at once.
    pub(super) async fn prefetch<'r>(
        &mut self,
        resources: impl Iterator<Item = &'r Json> + Clone,
    ) -> Result<(), Error> {
        let name = |resource: &'r Json| {
            Some((resource.str_at(&["resourceType"])?, resource.str_at(&["id"])?))
        };
        let names: Vec<(&str, &str)> = resources.filter_map(name).collect();
        if names.len() < 2 {
            return Ok(());
        }
        let mut by_type: HashMap<&str, Vec<&str>> = HashMap::new();
        for (resource_type, id) in names {
            by_type.entry(resource_type).or_default().push(id);
        }
        for (resource_type, ids) in by_type {
            for id in &ids {
                self.loaded.insert(key(resource_type, id), None);
            }
            for stored in self.facade.resources.read_many(resource_type, &ids).await? {
                self.loaded.insert(key(resource_type, &stored.id), Some(stored));
            }
        }
        Ok(())
    }

    async fn load(&mut self, resource_type: &str, id: &str) -> Result<(), Error> {
        let key = key(resource_type, id);
        if !self.loaded.contains_key(&key) {
            let stored = self.facade.resources.read(resource_type, id).await?;
            self.loaded.insert(key, stored);
        }
        Ok(())
    }

    /// Does all of a commit but the writing.
    ///
    /// # Errors
    /// As [`Unit::commit`], but for conflicts.
    pub(super) async fn rehearse(mut self) -> Result<(), Error> {
        self.prepare().await
    }

    async fn prepare(&mut self) -> Result<(), Error> {
        super::derive::derive(self).await?;
        self.check_tasks().await?;
        self.check_references().await?;
        self.check_deletions().await?;
        if self.changes.len() > MAX_CHANGES {
            return Err(Error::TooLarge(MAX_CHANGES));
        }
        Ok(())
    }

    /// Commits the changes and what follows from them; without changes nothing is written.
    ///
    /// # Errors
    /// [`Error::Invalid`] when a resource is not valid; [`Error::Conflict`] when a resource was
    /// changed by somebody else since it was read. Nothing is stored then.
    pub(super) async fn commit(mut self) -> Result<Committed, Error> {
        self.prepare().await?;
        let now = self.facade.source.now();
        let active = self.facade.active().await?;
        let begins_epoch = self.changes.iter().any(|change| change.resource_type == "Subscription");
        let mut jobs = self.jobs;
        let mut changes = Vec::with_capacity(self.changes.len());
        let mut committed = Committed { stored: Vec::new(), issues: self.issues };
        for pending in self.changes {
            let key = (pending.resource_type, pending.id);
            let before = self.loaded.remove(&key).flatten();
            let body = match pending.after {
                Some(after) => {
                    let version = before.as_ref().map_or(0, |before| before.version) + 1;
                    Some(Arc::<str>::from(stamp(after, version, now).to_string()))
                }
                None => None,
            };
            let (resource_type, id) = key;
            let version = before.as_ref().map_or(0, |before| before.version) + 1;
            if body.is_some() {
                let rows = &pending.rows;
                let written = Written { resource_type: &resource_type, id: &id, version, rows };
                jobs.extend(active.notifications(written, now));
            }
            committed.stored.push(Stored {
                resource_type: resource_type.clone(),
                id: id.clone(),
                version,
                last_updated: now,
                method: pending.method,
                body: body.clone(),
            });
            changes.push(Change {
                resource_type,
                id,
                expected: before.map(|before| before.version),
                version,
                last_updated: now,
                method: pending.method,
                body,
                index: pending.rows,
            });
        }
        if !changes.is_empty() || !jobs.is_empty() {
            let has_jobs = !jobs.is_empty();
            let redefines = changes.iter().any(|change| change.resource_type == "SearchParameter");
            let commit = Commit {
                guards: self.guards,
                unreferred: self.unreferred,
                epoch: Some(active.epoch),
                begins_epoch,
                definitions: Some(self.definitions),
                redefines,
                changes,
                jobs,
                ..Commit::default()
            };
            let stored = self.facade.resources.commit(commit).await;
            if begins_epoch || matches!(stored, Err(lumbar_store::Error::Epoch)) {
                self.facade.forget_active();
            }
            if matches!(stored, Err(lumbar_store::Error::Outdated)) {
                self.facade.reload().await?;
            }
            stored?;
            let written = committed.stored.iter().map(|stored| stored.resource_type.as_str());
            self.facade.validation.written(written);
            if redefines && let Err(error) = self.facade.reload().await {
                tracing::warn!(%error, "a SearchParameter was stored and is followed later");
            }
            if has_jobs {
                self.facade.enqueued.notify_one();
            }
        }
        Ok(committed)
    }
}

fn key(resource_type: &str, id: &str) -> (String, String) {
    (resource_type.to_owned(), id.to_owned())
}
