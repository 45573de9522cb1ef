//! Bulk jobs: long work of a client, its progress, and the store as it was at one moment.
//!
//! A job lives through open and done or failed, and is removed in the end; of a removed one only
//! its moment stays. A worker holds an open job for the time of a lease, which every saving of
//! its progress renews; when the worker is gone another one goes on from what was saved.
//!
//! A moment is the number (`seq`) of the last commit: all commits up to it are in the database and
//! every later one has a greater number. [`Resources::as_of`] and [`Resources::changed`] together
//! give each resource once, as it was at that moment, however long the walk takes.

use std::collections::HashMap;
use std::sync::Arc;

use lumbar_fhir::datetime::Micros;
use lumbar_fhir::search::Query;

use crate::Error;
use crate::cursor::{Cursor, Place, Way};
use crate::dialect::{Pool, Row, Session, Value};
use crate::resources::{Resources, clean};
use crate::writer::{Write, Writer};

/// Ids of one statement.
const CHUNK: usize = 64;

/// How far a bulk job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkState {
    /// It waits or is worked on.
    Open,
    /// All is done; its results can be fetched.
    Done,
    /// It failed for good.
    Failed,
}

impl BulkState {
    fn number(self) -> i64 {
        match self {
            BulkState::Open => 0,
            BulkState::Done => 1,
            BulkState::Failed => 2,
        }
    }
}

/// State of a job that was cancelled or has expired; nobody is given it.
const REMOVED: i64 = 3;

/// A bulk job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkJob {
    /// What it is known by outside; nobody can guess it.
    pub id: String,
    /// What is to be done.
    pub kind: String,
    /// How far it is.
    pub state: BulkState,
    /// What was asked for.
    pub request: Arc<str>,
    /// How far it is, as its worker last saved it; empty before that.
    pub progress: Arc<str>,
    /// The moment it was begun at: the time, and the number of the last commit then.
    pub moment: Option<(Micros, i64)>,
    /// When its results are removed.
    pub expires: Option<Micros>,
}

/// A resource as it was at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Then {
    /// Its place in the walk.
    pub row: i64,
    /// Logical id.
    pub id: String,
    /// `meta.lastUpdated` of that version.
    pub last_updated: Micros,
    /// Number of the commit that wrote it.
    pub seq: i64,
    /// The JSON text; of a deleted resource the last one it had.
    pub body: Arc<str>,
}

/// A part of a walk.
#[derive(Clone, Debug)]
pub struct Walked {
    /// The matches that have not changed since the moment, in the order of their rows.
    pub found: Vec<Then>,
    /// The last row that was looked at; `None` at the end of the walk.
    pub upto: Option<i64>,
}

impl Resources {
    /// The handle on bulk jobs.
    pub fn bulk(&self) -> Bulk {
        Bulk { pool: self.pool.clone(), writer: self.writer.clone() }
    }

    /// The next matches of a query after row `after` (0: from the first) that are as they were at
    /// the moment `seq`. Order, cursor and total of the query are not looked at.
    ///
    /// What changed since is left out, whether it matches now or not; [`Resources::changed`],
    /// asked afterwards for the same rows, gives it. Who drops what both gave has each once.
    pub async fn as_of(&self, query: &Query, after: i64, seq: i64) -> Result<Walked, Error> {
        let mut query = Query { sort: Vec::new(), total: false, cursor: None, ..query.clone() };
        let place = Place { values: Vec::new(), row_id: after };
        let cursor = Cursor { way: Way::Forward, place, total: None };
        query.cursor = Some(cursor.encode(&self.key, std::slice::from_ref(&query)));
        let page = self.search(&query).await?;
        let ids: Vec<&str> = page.matches.iter().map(|found| &*found.id).collect();
        let mut places = HashMap::with_capacity(ids.len());
        for chunk in ids.chunks(CHUNK) {
            // Statements of one length are prepared once.
            let list: Vec<String> = (2..CHUNK + 2).map(|number| format!("${number}")).collect();
            let sql = format!(
                "SELECT id, row_id, version, seq FROM resource \
                 WHERE type_id = (SELECT type_id FROM resource_type WHERE name = $1) \
                 AND id IN ({})",
                list.join(",")
            );
            let filled = chunk.iter().chain(std::iter::repeat(&chunk[0])).take(CHUNK);
            let values =
                std::iter::once(clean(&query.resource_type)).chain(filled.map(|id| clean(id)));
            for row in self.pool.fetch(sql, values.collect()).await? {
                places.insert(row.text(0)?.to_owned(), (row.int(1)?, row.int(2)?, row.int(3)?));
            }
        }
        let upto = match (&page.next, page.matches.last()) {
            (Some(_), Some(last)) => places.get(&last.id).map(|(row, ..)| *row),
            _ => None,
        };
        let then = |found: crate::Stored| {
            let (row, version, at) = *places.get(&found.id)?;
            // What was changed between the two statements was changed after the moment.
            let (true, true, Some(body)) = (version == found.version, at <= seq, found.body) else {
                return None;
            };
            Some(Then { row, id: found.id, last_updated: found.last_updated, seq: at, body })
        };
        Ok(Walked { found: page.matches.into_iter().filter_map(then).collect(), upto })
    }

    /// The resources of a type whose rows lie after `after` up to `upto` (`None`: all after) and
    /// that have changed since the moment `seq`, as they were then; those that were not there
    /// then, or were deleted, are left out. At most `count`, in the order of their rows.
    pub async fn changed(
        &self,
        resource_type: &str,
        after: i64,
        upto: Option<i64>,
        seq: i64,
        count: usize,
    ) -> Result<Vec<Then>, Error> {
        let mut link = self.pool.acquire().await?;
        let mut session = link.session();
        // What changed since is little beside what is in the rows.
        let no_index = session.dialect().no_index();
        let sql = format!(
            "SELECT r.row_id, r.id, h.last_updated, h.seq, h.body FROM resource r \
             JOIN history h ON h.row_id = r.row_id AND h.version = \
             (SELECT max(v.version) FROM history v WHERE v.row_id = r.row_id AND v.seq <= $4) \
             WHERE r.seq > $4 AND {no_index}r.row_id > $2 AND {no_index}r.row_id <= $3 \
             AND {no_index}r.type_id = (SELECT type_id FROM resource_type WHERE name = $1) \
             AND h.body IS NOT NULL ORDER BY r.row_id LIMIT $5"
        );
        let upto = upto.unwrap_or(i64::MAX);
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let values =
            vec![clean(resource_type), after.into(), upto.into(), seq.into(), count.into()];
        session.fetch(sql, values).await?.iter().map(then).collect()
    }

    /// The resources of a type after row `after` that were deleted at the moment `seq` and whose
    /// deletion was later than the time `since`, or later than the moment `since_seq`; with the
    /// last text they had. At most `count`, in the order of their rows.
    pub async fn deleted(
        &self,
        resource_type: &str,
        after: i64,
        seq: i64,
        since: Micros,
        since_seq: i64,
        count: usize,
    ) -> Result<Vec<Then>, Error> {
        let sql = "SELECT r.row_id, r.id, r.last_updated, r.seq, h.body FROM resource r \
             JOIN history h ON h.row_id = r.row_id AND h.version = \
             (SELECT max(v.version) FROM history v WHERE v.row_id = r.row_id \
             AND v.body IS NOT NULL) \
             WHERE r.type_id = (SELECT type_id FROM resource_type WHERE name = $1) \
             AND r.row_id > $2 AND r.body IS NULL AND r.seq <= $3 \
             AND (r.last_updated > $4 OR r.seq > $5) ORDER BY r.row_id LIMIT $6";
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let values = vec![
            clean(resource_type),
            after.into(),
            seq.into(),
            since.into(),
            since_seq.into(),
            count.into(),
        ];
        self.pool.fetch(sql, values).await?.iter().map(then).collect()
    }

    /// A resource as it was at the moment `seq`; `None` when it was not there or was deleted.
    pub async fn read_then(
        &self,
        resource_type: &str,
        id: &str,
        seq: i64,
    ) -> Result<Option<Arc<str>>, Error> {
        let sql = "WITH wanted AS (SELECT row_id FROM resource \
             WHERE type_id = (SELECT type_id FROM resource_type WHERE name = $1) AND id = $2) \
             SELECT r.version, r.body FROM wanted w JOIN resource r ON r.row_id = w.row_id \
             WHERE r.seq <= $3 UNION ALL \
             SELECT h.version, h.body FROM wanted w JOIN history h ON h.row_id = w.row_id \
             WHERE h.seq <= $3 ORDER BY 1 DESC LIMIT 1";
        let values = vec![clean(resource_type), clean(id), seq.into()];
        let rows = self.pool.fetch(sql, values).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(row.text_or_null(1)?.map(Into::into))
    }
}

fn then(row: &Row) -> Result<Then, Error> {
    Ok(Then {
        row: row.int(0)?,
        id: row.text(1)?.to_owned(),
        last_updated: row.int(2)?,
        seq: row.int(3)?,
        body: row.text(4)?.into(),
    })
}

/// The handle on bulk jobs.
#[derive(Clone, Debug)]
pub struct Bulk {
    pool: Pool,
    writer: Writer,
}

impl Bulk {
    /// Keeps a new open job, unless `most` are open already; then the answer is `false`.
    pub async fn enqueue(
        &self,
        id: &str,
        kind: &str,
        request: &str,
        created: Micros,
        most: usize,
    ) -> Result<bool, Error> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let values = vec![clean(id), clean(kind), request.into(), created.into(), most.into()];
        // PostgreSQL takes a placeholder of a list of columns for text.
        self.write(
            "INSERT INTO bulk_job \
             (bulk_id, kind, state, request, progress, created, worker, lease_until) \
             SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), 0, CAST($3 AS TEXT), '', \
             CAST($4 AS BIGINT), '', 0 \
             WHERE (SELECT count(*) FROM bulk_job WHERE state = 0) < $5",
            values,
        )
        .await
    }

    /// How many jobs are open.
    pub async fn open(&self) -> Result<usize, Error> {
        let sql = "SELECT count(*) FROM bulk_job WHERE state = 0";
        let rows = self.pool.fetch(sql, Vec::new()).await?;
        let count = rows.first().ok_or(sqlx::Error::RowNotFound)?.int(0)?;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// A job that was not removed.
    pub async fn get(&self, id: &str) -> Result<Option<BulkJob>, Error> {
        let sql =
            format!("SELECT {COLUMNS} FROM bulk_job WHERE bulk_id = $1 AND state < {REMOVED}");
        self.pool.fetch(sql, vec![clean(id)]).await?.first().map(bulk_job).transpose()
    }

    /// Takes the oldest open job of a kind that no other worker holds at `now`, until `until`.
    pub async fn claim(
        &self,
        kind: &str,
        worker: &str,
        now: Micros,
        until: Micros,
    ) -> Result<Option<BulkJob>, Error> {
        let due = "SELECT min(bulk_number) FROM bulk_job WHERE state = 0 AND kind = $1 \
                   AND (worker = $2 OR lease_until <= $3)";
        let values = vec![clean(kind), clean(worker), now.into()];
        let rows = self.pool.fetch(due, values.clone()).await?;
        // Asking first spares idle workers the write.
        let Some(_) = rows.first().map(|row| row.int_or_null(0)).transpose()?.flatten() else {
            return Ok(None);
        };
        let sql = format!(
            "UPDATE bulk_job SET worker = $2, lease_until = $4 WHERE bulk_number = ({due}) \
             RETURNING {COLUMNS}"
        );
        let values = values.into_iter().chain([until.into()]).collect();
        self.writer.write(Statement { sql: sql.into(), values }).await
    }

    /// Notes the moment of a claimed job: the time, and the number of the last commit. `false`:
    /// the job was removed, or another worker has it.
    pub async fn begin(&self, id: &str, worker: &str, time: Micros) -> Result<bool, Error> {
        self.write(
            "UPDATE bulk_job SET transaction_time = $3, seq = (SELECT seq FROM counter) \
             WHERE bulk_id = $1 AND worker = $2 AND state = 0",
            vec![clean(id), clean(worker), time.into()],
        )
        .await
    }

    /// Holds a claimed job until `until`. `false` as with [`Bulk::begin`].
    pub async fn hold(&self, id: &str, worker: &str, until: Micros) -> Result<bool, Error> {
        self.write(
            "UPDATE bulk_job SET lease_until = $3 \
             WHERE bulk_id = $1 AND worker = $2 AND state = 0",
            vec![clean(id), clean(worker), until.into()],
        )
        .await
    }

    /// Saves the progress of a claimed job and holds it until `until`. `false` as with
    /// [`Bulk::begin`]; nothing is saved then.
    pub async fn save(
        &self,
        id: &str,
        worker: &str,
        progress: &str,
        until: Micros,
    ) -> Result<bool, Error> {
        self.write(
            "UPDATE bulk_job SET progress = $3, lease_until = $4 \
             WHERE bulk_id = $1 AND worker = $2 AND state = 0",
            vec![clean(id), clean(worker), progress.into(), until.into()],
        )
        .await
    }

    /// Ends a claimed job, whose results stay until `expires`. `false` as with [`Bulk::begin`].
    pub async fn end(
        &self,
        id: &str,
        worker: &str,
        state: BulkState,
        progress: &str,
        expires: Micros,
    ) -> Result<bool, Error> {
        self.write(
            "UPDATE bulk_job SET state = $3, progress = $4, expires = $5 \
             WHERE bulk_id = $1 AND worker = $2 AND state = 0",
            vec![clean(id), clean(worker), state.number().into(), progress.into(), expires.into()],
        )
        .await
    }

    /// Lets go of what a worker holds, so that another one need not wait.
    pub async fn release(&self, worker: &str) -> Result<(), Error> {
        let sql =
            "UPDATE bulk_job SET worker = '', lease_until = 0 WHERE worker = $1 AND state = 0";
        self.write(sql, vec![clean(worker)]).await.map(|_| ())
    }

    /// Removes a job in whatever state. `false`: there is none.
    pub async fn remove(&self, id: &str) -> Result<bool, Error> {
        let sql = format!(
            "UPDATE bulk_job SET state = {REMOVED}, request = '', progress = '' \
             WHERE bulk_id = $1 AND state < {REMOVED}"
        );
        self.write(sql, vec![clean(id)]).await
    }

    /// Ids of ended jobs whose results have expired at `now`.
    pub async fn expired(&self, now: Micros) -> Result<Vec<String>, Error> {
        let sql = "SELECT bulk_id FROM bulk_job WHERE state IN (1, 2) AND expires <= $1";
        let rows = self.pool.fetch(sql, vec![now.into()]).await?;
        rows.iter().map(|row| row.text(0).map(str::to_owned)).collect()
    }

    /// Number of the last commit at the moment of an earlier job that began at exactly `time`; of
    /// several the lowest.
    pub async fn moment(&self, time: Micros) -> Result<Option<i64>, Error> {
        let sql = "SELECT min(seq) FROM bulk_job WHERE transaction_time = $1";
        let rows = self.pool.fetch(sql, vec![time.into()]).await?;
        rows.first().map_or(Ok(None), |row| row.int_or_null(0))
    }

    async fn write(&self, sql: impl Into<Arc<str>>, values: Vec<Value>) -> Result<bool, Error> {
        let changed = self.writer.write(Count { sql: sql.into(), values }).await?;
        Ok(changed > 0)
    }
}

const COLUMNS: &str = "bulk_id, kind, state, request, progress, transaction_time, seq, expires";

fn bulk_job(row: &Row) -> Result<BulkJob, Error> {
    let state = match row.int(2)? {
        0 => BulkState::Open,
        1 => BulkState::Done,
        _ => BulkState::Failed,
    };
    Ok(BulkJob {
        id: row.text(0)?.to_owned(),
        kind: row.text(1)?.to_owned(),
        state,
        request: row.text(3)?.into(),
        progress: row.text(4)?.into(),
        moment: row.int_or_null(5)?.zip(row.int_or_null(6)?),
        expires: row.int_or_null(7)?,
    })
}

/// A statement that changes one job and gives it.
struct Statement {
    sql: Arc<str>,
    values: Vec<Value>,
}

impl Write for Statement {
    type Output = Option<BulkJob>;

    async fn run(&self, session: &mut Session<'_>) -> Result<Option<BulkJob>, Error> {
        let rows = session.fetch(self.sql.clone(), self.values.clone()).await?;
        rows.first().map(bulk_job).transpose()
    }
}

/// A statement whose changed rows are counted.
struct Count {
    sql: Arc<str>,
    values: Vec<Value>,
}

impl Write for Count {
    type Output = u64;

    async fn run(&self, session: &mut Session<'_>) -> Result<u64, Error> {
        session.execute(self.sql.clone(), self.values.clone()).await
    }
}
