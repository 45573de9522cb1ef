//! Turns waiting commits into a few statements: [`Batch::run`] is what one transaction does.
//!
//! A batch first checks what every commit expects, in memory, and only then writes, so that a
//! commit which fails leaves no trace and spoils no other. Writers take turns: each begins by
//! updating the counter row, which on PostgreSQL holds the next one back and on SQLite happens
//! under the write lock. Numbers are therefore in the order of commits.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use lumbar_fhir::datetime::Micros;
use lumbar_fhir::search::{IndexRow, Query};

use crate::dialect::{Session, Value};
use crate::insert::{self, Insert, Table};
use crate::jobs::NewJob;
use crate::names::{Fresh, Names};
use crate::referrers::Unreferred;
use crate::reindex::{self, Step};
use crate::terms::{self, Terms};
use crate::{Error, jobs, referrers, search};

/// The interaction that made a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Method {
    Create,
    Update,
    Delete,
}

impl Method {
    pub(crate) fn number(self) -> i64 {
        match self {
            Method::Create => 1,
            Method::Update => 2,
            Method::Delete => 3,
        }
    }

    pub(crate) fn from_number(number: i64) -> Result<Method, Error> {
        match number {
            1 => Ok(Method::Create),
            2 => Ok(Method::Update),
            3 => Ok(Method::Delete),
            _ => Err(sqlx::Error::Decode("method of a version is unknown".into()).into()),
        }
    }
}

/// What is written together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// What these queries find must still be so.
    pub guards: Vec<Guard>,
    /// The epoch in which the commit was made up; `None` when it does not depend on it.
    pub epoch: Option<i64>,
    /// Whether the commit begins a new epoch, because it changes what others make theirs up from.
    pub begins_epoch: bool,
    /// Resources that nothing may refer to.
    pub unreferred: Vec<Unreferred>,
    /// New versions, in order; a resource may occur more than once.
    pub changes: Vec<Change>,
    /// Work that follows from the changes.
    pub jobs: Vec<NewJob>,
    /// Audit entries.
    pub audit: Vec<AuditRow>,
    /// The number of the definitions that the index follows; with another than the present one
    /// the commit is refused. `None`: it does not matter.
    pub definitions: Option<i64>,
    /// The definitions change: they get the next number.
    pub redefines: bool,
    /// A step of a walk that indexes resources anew.
    pub step: Option<Box<Step>>,
}

/// One new version of a resource.
#[derive(Clone, Debug)]
pub struct Change {
    /// Resource type.
    pub resource_type: String,
    /// Logical id.
    pub id: String,
    /// The version that must be current, deleted ones included; `None`: there must be none.
    pub expected: Option<i64>,
    /// Number of the new version, greater than `expected`.
    pub version: i64,
    /// The moment that the body's `meta.lastUpdated` gives.
    pub last_updated: Micros,
    /// What made the version.
    pub method: Method,
    /// The resource as JSON, stored as it is; `None` when it is deleted.
    pub body: Option<Arc<str>>,
    /// What the resource is found by; ignored when there is no body. Numbers that are no numbers
    /// (NaN) are left out.
    pub index: Vec<IndexRow>,
}

/// A query and the ids it must still give when the commit is stored.
#[derive(Clone, Debug)]
pub struct Guard {
    /// The query; its `count` must exceed the number of `ids`, or a further match goes unseen.
    pub query: Query,
    /// The ids, in any order.
    pub ids: Vec<String>,
}

/// One audit entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// When it happened.
    pub recorded: Micros,
    /// The entry as text.
    pub body: Arc<str>,
}

/// Row ids of one type share their upper bits, see the schema.
pub(crate) const TYPE_SHIFT: u32 = 39;

/// The first and the last row id that a type can have.
pub(crate) fn row_ids(type_id: i64) -> (i64, i64) {
    (type_id << TYPE_SHIFT, ((type_id + 1) << TYPE_SHIFT) - 1)
}

/// The commits of one transaction.
pub(crate) struct Batch<'a> {
    names: &'a Names,
    fresh: Fresh,
    row_number: i64,
    seq: i64,
    epoch: i64,
    definitions: i64,
    resources: HashMap<i64, HashMap<&'a str, Resource<'a>>>,
    jobs: Vec<&'a NewJob>,
    audit: Vec<&'a AuditRow>,
}

/// What a batch knows of one resource.
#[derive(Default)]
struct Resource<'a> {
    type_id: i64,
    /// Zero until a row is there or about to be.
    row_id: i64,
    /// The version in the database.
    stored: Option<i64>,
    /// Newer versions that are not yet written, with their sequence numbers.
    pending: Vec<(&'a Change, i64)>,
    /// Type of the resource, and what the version in the database is found by from now on.
    reindexed: Option<(&'a str, &'a [IndexRow])>,
}

impl Resource<'_> {
    fn version(&self) -> Option<i64> {
        self.pending.last().map(|(change, _)| change.version).or(self.stored)
    }
}

impl<'a> Batch<'a> {
    /// Checks and writes. The results are those of the commits, in their order; the names are to
    /// be published once the transaction is committed. An error is about the whole batch.
    pub(crate) async fn run(
        session: &mut Session<'_>,
        names: &'a Names,
        commits: &[&'a Commit],
    ) -> Result<(Vec<Result<(), Error>>, Fresh), Error> {
        let changes: usize = commits.iter().map(|commit| commit.changes.len()).sum();
        let sql = "UPDATE counter SET row_number = row_number + $1, seq = seq + $1, \
                   epoch = epoch + $2 RETURNING row_number, seq, epoch, definitions";
        let count = i64::try_from(changes).unwrap_or(i64::MAX);
        // One that begins an epoch and then fails leaves a number out, which does no harm.
        let epochs = commits.iter().filter(|commit| commit.begins_epoch).count();
        let epochs = i64::try_from(epochs).unwrap_or(i64::MAX);
        let rows = session.fetch(sql, vec![count.into(), epochs.into()]).await?;
        let counter = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let mut batch = Batch {
            names,
            fresh: Fresh::default(),
            row_number: counter.int(0)? - count,
            seq: counter.int(1)? - count,
            epoch: counter.int(2)? - epochs,
            definitions: counter.int(3)?,
            resources: HashMap::new(),
            jobs: Vec::new(),
            audit: Vec::new(),
        };
        batch.load(session, commits).await?;
        let before = batch.definitions;
        let mut results = Vec::with_capacity(commits.len());
        for commit in commits {
            if commit.definitions.is_some_and(|number| number != batch.definitions) {
                results.push(Err(Error::Outdated));
                continue;
            }
            if !commit.guards.is_empty() || !commit.unreferred.is_empty() {
                batch.write(session).await?;
            }
            results.push(match batch.guarded(session, commit).await? {
                Ok(()) => batch.take(commit),
                conflict => conflict,
            });
            if let (Some(step), Some(result @ Ok(()))) = (&commit.step, results.last_mut()) {
                if reindex::advance(session, step).await? {
                    batch.reindex(step);
                } else {
                    *result = Err(Error::Outdated);
                }
            }
        }
        batch.write(session).await?;
        if batch.definitions != before {
            let sql = "UPDATE counter SET definitions = $1";
            session.execute(sql, vec![batch.definitions.into()]).await?;
        }
        Ok((results, batch.fresh))
    }

    /// Reads the current versions of all resources that are to change.
    async fn load(
        &mut self,
        session: &mut Session<'_>,
        commits: &[&'a Commit],
    ) -> Result<(), Error> {
        let mut keys = Vec::new();
        let changed = commits.iter().flat_map(|commit| &commit.changes);
        let changed = changed.map(|change| (&change.resource_type, &change.id));
        let steps = commits.iter().filter_map(|commit| commit.step.as_deref());
        let walked = steps.flat_map(|step| {
            step.resources.iter().map(|resource| (&step.resource_type, &resource.id))
        });
        let named: Vec<(&'a String, &'a String)> = changed.chain(walked).collect();
        for (name, id) in named {
            let type_id = self.names.intern_type(session, &mut self.fresh, name).await?;
            let key = (type_id, id.as_str());
            let resource = Resource { type_id, ..Resource::default() };
            let resources = self.resources.entry(type_id).or_default();
            if resources.insert(key.1, resource).is_none() {
                keys.push(key);
            }
        }
        for chunk in keys.chunks(insert::LARGEST) {
            let size = chunk.len().next_power_of_two();
            // SQLite would answer `(type_id, id) IN (VALUES …)` by going through the table.
            let sql = format!(
                "WITH wanted (type_id, id) AS (VALUES {}) \
                 SELECT r.type_id, r.id, r.row_id, r.version FROM wanted w \
                 CROSS JOIN resource r WHERE r.type_id = w.type_id AND r.id = w.id",
                session.dialect().tuples(size, 2)
            );
            // Repeating a key changes nothing and keeps the number of different statements small.
            let padded = chunk.iter().chain(std::iter::repeat(&chunk[0])).take(size);
            let values = padded.flat_map(|&(kind, id)| [kind.into(), id.into()]).collect();
            for row in session.fetch(sql, values).await? {
                let (type_id, id) = (row.int(0)?, row.text(1)?);
                let resources = self.resources.get_mut(&type_id);
                if let Some(resource) = resources.and_then(|resources| resources.get_mut(id)) {
                    resource.row_id = row.int(2)?;
                    resource.stored = Some(row.int(3)?);
                }
            }
        }
        Ok(())
    }

    /// Whether the guards still hold.
    async fn guarded(
        &mut self,
        session: &mut Session<'_>,
        commit: &Commit,
    ) -> Result<Result<(), Error>, Error> {
        for unreferred in &commit.unreferred {
            if !referrers::holds(session, unreferred).await? {
                let (resource_type, id) =
                    unreferred.reference.split_once('/').unwrap_or((&unreferred.reference, ""));
                let (resource_type, id) = (resource_type.to_owned(), id.to_owned());
                return Ok(Err(Error::Conflict { resource_type, id }));
            }
        }
        for guard in &commit.guards {
            let mut wanted: Vec<&str> = guard.ids.iter().map(String::as_str).collect();
            wanted.sort_unstable();
            let page = search::Wanted {
                queries: std::slice::from_ref(&guard.query),
                cursor: None,
                total: search::Total::None,
                bounds: search::Bounds::NONE,
            };
            let page = search::run(session, self.names, &mut self.fresh, &page).await;
            let page = match page {
                Ok(page) => page,
                Err(error @ (Error::Cursor | Error::TooComplex | Error::NotIndexed { .. })) => {
                    return Ok(Err(error));
                }
                Err(error) => return Err(error),
            };
            let mut found: Vec<&str> = page.matches.iter().map(|found| &*found.id).collect();
            found.sort_unstable();
            if found != wanted {
                let resource_type = guard.query.resource_type.clone();
                return Ok(Err(Error::Conflict { resource_type, id: String::new() }));
            }
        }
        Ok(Ok(()))
    }

    /// Notes what a commit writes, if all its expectations hold; else notes nothing of it.
    fn take(&mut self, commit: &'a Commit) -> Result<(), Error> {
        if commit.epoch.is_some_and(|epoch| epoch != self.epoch) {
            return Err(Error::Epoch);
        }
        for (done, change) in commit.changes.iter().enumerate() {
            let taken = self.resource(change).is_some_and(|resource| {
                let version = resource.version();
                change.expected == version && version.is_none_or(|old| old < change.version)
            });
            if !taken {
                for change in &commit.changes[..done] {
                    if let Some(resource) = self.resource(change) {
                        resource.pending.pop();
                    }
                }
                let (resource_type, id) = (change.resource_type.clone(), change.id.clone());
                return Err(Error::Conflict { resource_type, id });
            }
            self.seq += 1;
            self.row_number += 1;
            let (seq, row_number) = (self.seq, self.row_number);
            if let Some(resource) = self.resource(change) {
                if resource.row_id == 0 {
                    resource.row_id = row_ids(resource.type_id).0 + row_number;
                }
                resource.pending.push((change, seq));
            }
        }
        self.epoch += i64::from(commit.begins_epoch);
        self.jobs.extend(&commit.jobs);
        self.audit.extend(&commit.audit);
        self.definitions += i64::from(commit.redefines);
        Ok(())
    }

    /// Notes what the resources of a step are found by, unless a newer version says it itself.
    fn reindex(&mut self, step: &'a Step) {
        for indexed in &step.resources {
            if let Some(resource) = self.find(&step.resource_type, &indexed.id)
                && resource.version() == Some(indexed.version)
            {
                resource.reindexed = Some((&step.resource_type, &indexed.index));
            }
        }
    }

    fn resource(&mut self, change: &'a Change) -> Option<&mut Resource<'a>> {
        self.find(&change.resource_type, &change.id)
    }

    fn find(&mut self, resource_type: &str, id: &str) -> Option<&mut Resource<'a>> {
        let type_id = self.names.known(&self.fresh).resource_type(resource_type)?;
        self.resources.get_mut(&type_id)?.get_mut(id)
    }

    /// Writes what was noted.
    async fn write(&mut self, session: &mut Session<'_>) -> Result<(), Error> {
        let mut replaced = Vec::new();
        let mut history = Insert::new(&HISTORY);
        let mut newest = Vec::new();
        let mut indexed = Vec::new();
        for (&id, resource) in self.resources.values_mut().flatten() {
            let reindexed = resource.reindexed.take();
            let Some((last, older)) = resource.pending.split_last() else {
                indexed.extend(reindexed.map(|(kind, rows)| (resource.row_id, kind, rows)));
                continue;
            };
            if resource.stored.is_some() {
                replaced.push(resource.row_id);
            }
            for version in older {
                history.row(version_row([resource.row_id.into()], *version));
            }
            newest.push((resource.row_id, resource.type_id, id, *last));
            resource.stored = Some(last.0.version);
            resource.pending.clear();
        }
        newest.sort_unstable_by_key(|&(row_id, ..)| row_id);
        let walked: BTreeSet<i64> = indexed.iter().map(|&(row_id, ..)| row_id).collect();
        indexed.extend(newest.iter().map(|&(row_id, _, _, (change, _))| {
            // What is deleted is not found.
            let index = change.body.as_ref().map_or(&[][..], |_| &change.index);
            (row_id, change.resource_type.as_str(), index)
        }));
        indexed.sort_unstable_by_key(|&(row_id, ..)| row_id);
        let mut terms = Vec::with_capacity(indexed.len());
        for (row_id, kind, rows) in indexed {
            let found_by = Terms::new(session, self.names, &mut self.fresh, kind, rows).await?;
            terms.push((row_id, found_by));
        }
        for chunk in insert::chunks(&replaced) {
            let rows = session.dialect().tuples(chunk.len(), 1);
            let values = chunk.iter().map(|&row_id| row_id.into()).collect();
            session.execute(format!("{KEEP} WHERE row_id IN (VALUES {rows})"), values).await?;
        }
        history.run(session).await?;
        let before: Vec<i64> = walked.iter().copied().chain(replaced).collect();
        terms::replace(session, &terms, &before).await?;
        let (walked, terms): (Vec<_>, Vec<_>) =
            terms.iter().partition(|(row_id, _)| walked.contains(row_id));
        terms::update(session, &walked).await?;
        let mut current = Insert::new(session.dialect().pick(&RESOURCE_TERMS, &RESOURCE));
        for (&(row_id, type_id, id, version), (_, terms)) in newest.iter().zip(terms) {
            let own = version_row([row_id.into(), type_id.into(), id.into()], version);
            let has_terms = session.dialect().pick(true, false);
            current.row(own.chain(has_terms.then(|| terms.encode().as_slice().into())));
        }
        current.run(session).await?;
        let mut insert = Insert::new(&AUDIT);
        for row in self.audit.drain(..) {
            insert.row([row.recorded.into(), (&*row.body).into()]);
        }
        insert.run(session).await?;
        jobs::insert(session, self.jobs.drain(..)).await
    }
}

/// Moves current versions to the history.
const KEEP: &str = "INSERT INTO history (row_id, version, last_updated, seq, method, body) \
                    SELECT row_id, version, last_updated, seq, method, body FROM resource";

/// The columns of a version, after those that say whose it is.
fn version_row<const N: usize>(
    whose: [Value; N],
    (change, seq): (&Change, i64),
) -> impl Iterator<Item = Value> {
    whose.into_iter().chain([
        change.version.into(),
        change.last_updated.into(),
        seq.into(),
        change.method.number().into(),
        (&change.body).into(),
    ])
}

const HISTORY: Table = Table {
    head: "INSERT INTO history (row_id, version, last_updated, seq, method, body) VALUES",
    columns: 6,
    tail: "",
};

const RESOURCE: Table = Table {
    head: "INSERT INTO resource \
           (row_id, type_id, id, version, last_updated, seq, method, body) VALUES",
    columns: 8,
    tail: "ON CONFLICT (row_id) DO UPDATE SET version = excluded.version, \
           last_updated = excluded.last_updated, seq = excluded.seq, method = excluded.method, \
           body = excluded.body",
};

/// The same where a row says what it is found by.
const RESOURCE_TERMS: Table = Table {
    head: "INSERT INTO resource \
           (row_id, type_id, id, version, last_updated, seq, method, body, terms) VALUES",
    columns: 9,
    tail: "ON CONFLICT (row_id) DO UPDATE SET version = excluded.version, \
           last_updated = excluded.last_updated, seq = excluded.seq, method = excluded.method, \
           body = excluded.body, terms = excluded.terms",
};

const AUDIT: Table =
    Table { head: "INSERT INTO audit (recorded, body) VALUES", columns: 2, tail: "" };
