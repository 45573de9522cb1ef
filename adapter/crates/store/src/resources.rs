//! Resources: read, find, commit.

use std::sync::Arc;

use lumbar_fhir::datetime::Micros;
use lumbar_fhir::search::Query;

use crate::Error;
use crate::cache::{Cache, Look};
use crate::commit::{AuditRow, Commit, Method};
use crate::cursor::{Cursor, Key};
use crate::dialect::{Pool, Row, Value};
use crate::history::{self, History, Versions};
use crate::names::{Fresh, Names};
use crate::search::{self, Bounds, Total};
use crate::writer::Writer;

/// Ids of one statement of [`Resources::read_many`].
const CHUNK: usize = 64;

/// One stored version of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Resource type.
    pub resource_type: String,
    /// Logical id.
    pub id: String,
    /// `meta.versionId`, a positive number.
    pub version: i64,
    /// `meta.lastUpdated`.
    pub last_updated: Micros,
    /// What made this version.
    pub method: Method,
    /// The JSON text as it was given; `None` when this version is a deletion.
    pub body: Option<Arc<str>>,
}

/// One page of matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The matches, in the order asked for; never deleted ones.
    pub matches: Vec<Stored>,
    /// Cursor of the page before; `None` on the first page.
    pub previous: Option<String>,
    /// Where the next page begins; `None` on the last page.
    pub next: Option<String>,
    /// How many matches there are in all: when asked for, or when the first page holds all.
    pub total: Option<u64>,
}

/// The handle on resources.
#[derive(Clone, Debug)]
pub struct Resources {
    pub(crate) pool: Pool,
    pub(crate) names: Arc<Names>,
    pub(crate) cache: Arc<Cache>,
    /// What cursors are signed with.
    pub(crate) key: Arc<Key>,
    pub(crate) writer: Writer,
}

impl Resources {
    /// The current version, which may be a deletion; `None` when there never was one.
    pub async fn read(&self, resource_type: &str, id: &str) -> Result<Option<Stored>, Error> {
        let valid_at = match self.cache.look(resource_type, id) {
            Look::Hit(stored) => return Ok(Some(stored)),
            Look::Miss(valid_at) => valid_at,
        };
        let sql = "SELECT id, version, last_updated, method, body FROM resource \
                   WHERE type_id = (SELECT type_id FROM resource_type WHERE name = $1) AND id = $2";
        let values = vec![clean(resource_type), clean(id)];
        let rows = self.pool.fetch(sql, values).await?;
        let found = rows.first().map(|row| stored(resource_type, row, 0)).transpose()?;
        if let (Some(valid_at), Some(found)) = (valid_at, &found) {
            self.cache.keep(valid_at, found);
        }
        Ok(found)
    }

    /// The current versions of several resources of one type, deletions among them; those that
    /// never were are left out. The order is not that of `ids`.
    pub async fn read_many(&self, resource_type: &str, ids: &[&str]) -> Result<Vec<Stored>, Error> {
        let mut found = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(CHUNK) {
            // Statements of one length are prepared once.
            let list: Vec<String> = (2..CHUNK + 2).map(|number| format!("${number}")).collect();
            let sql = format!(
                "SELECT id, version, last_updated, method, body FROM resource \
                 WHERE type_id = (SELECT type_id FROM resource_type WHERE name = $1) \
                 AND id IN ({})",
                list.join(",")
            );
            let filled = chunk.iter().chain(std::iter::repeat(&chunk[0])).take(CHUNK);
            let values = std::iter::once(clean(resource_type)).chain(filled.map(|id| clean(id)));
            for row in self.pool.fetch(sql, values.collect()).await? {
                found.push(stored(resource_type, &row, 0)?);
            }
        }
        Ok(found)
    }

    /// One version; `None` when there is no such version.
    pub async fn vread(
        &self,
        resource_type: &str,
        id: &str,
        version: i64,
    ) -> Result<Option<Stored>, Error> {
        let sql = "WITH wanted AS (SELECT row_id, id FROM resource \
                   WHERE type_id = (SELECT type_id FROM resource_type WHERE name = $1) AND id = $2) \
                   SELECT w.id, r.version, r.last_updated, r.method, r.body \
                   FROM wanted w JOIN resource r ON r.row_id = w.row_id WHERE r.version = $3 \
                   UNION ALL SELECT w.id, h.version, h.last_updated, h.method, h.body \
                   FROM wanted w JOIN history h ON h.row_id = w.row_id WHERE h.version = $3";
        let values = vec![clean(resource_type), clean(id), version.into()];
        let rows = self.pool.fetch(sql, values).await?;
        rows.first().map(|row| stored(resource_type, row, 0)).transpose()
    }

    /// One page of versions, newest first.
    ///
    /// Errors: [`Error::Cursor`] when the cursor is not one of this history's.
    pub async fn history(&self, asked: &History<'_>) -> Result<Versions, Error> {
        let mut link = self.pool.acquire().await?;
        history::run(&mut link.session(), asked).await
    }

    /// How many versions there are within the bounds of time, wherever the page begins.
    pub async fn history_total(&self, asked: &History<'_>) -> Result<u64, Error> {
        let mut link = self.pool.acquire().await?;
        history::total(&mut link.session(), asked).await
    }

    /// One page of what a query finds, full unless it is the last one.
    ///
    /// Errors: [`Error::Cursor`] when the cursor is not one of this query's,
    /// [`Error::TooComplex`] and [`Error::TooCostly`].
    pub async fn search(&self, query: &Query) -> Result<Page, Error> {
        let total = if query.total { Total::Accurate } else { Total::None };
        self.page(std::slice::from_ref(query), total, Bounds::NONE).await
    }

    /// One page of what several queries of one order find together; they are of different types,
    /// and the first one says where the page begins and its size. A page that meets a bound is
    /// short, even empty, and the search goes on with its `next`.
    ///
    /// Errors: as [`Resources::search`].
    pub async fn page(
        &self,
        queries: &[Query],
        total: Total,
        bounds: Bounds,
    ) -> Result<Page, Error> {
        let cursor = queries.first().and_then(|first| first.cursor.as_deref());
        let cursor = cursor.map(|text| Cursor::decode(text, &self.key, queries)).transpose()?;
        let wanted = search::Wanted { queries, cursor, total, bounds };
        let mut link = self.pool.acquire().await?;
        // What looks up keys only is bounded by what it finds.
        let waiting = if wanted.is_plain() { None } else { link.hurry().await? };
        let mut learned = Fresh::default();
        let found = search::run(&mut link.session(), &self.names, &mut learned, &wanted).await;
        drop(waiting);
        self.names.publish(learned);
        let search::Found { matches, previous, next, total } = found?;
        let encode = |cursor: Option<Cursor>| Some(cursor?.encode(&self.key, queries));
        Ok(Page { matches, previous: encode(previous), next: encode(next), total })
    }

    /// Writes all of a commit or nothing; when this returns `Ok` it survives a crash.
    ///
    /// Errors: [`Error::Conflict`] when an expectation or a guard fails.
    pub async fn commit(&self, commit: Commit) -> Result<(), Error> {
        self.writer.commit(commit).await
    }

    /// The present epoch, see [`Commit::epoch`]. What is read after it is at least as new.
    pub async fn epoch(&self) -> Result<i64, Error> {
        let rows = self.pool.fetch("SELECT epoch FROM counter", Vec::new()).await?;
        rows.first().ok_or(sqlx::Error::RowNotFound)?.int(0)
    }

    /// Audit entries after the one numbered `after` (0: from the first), oldest first, with their
    /// numbers; at most `count`.
    pub async fn audit(&self, after: i64, count: usize) -> Result<Vec<(i64, AuditRow)>, Error> {
        let sql = "SELECT audit_id, recorded, body FROM audit WHERE audit_id > $1 \
                   ORDER BY audit_id LIMIT $2";
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let rows = self.pool.fetch(sql, vec![after.into(), count.into()]).await?;
        let entry = |row: &Row| {
            let entry = AuditRow { recorded: row.int(1)?, body: row.text(2)?.into() };
            Ok((row.int(0)?, entry))
        };
        rows.iter().map(entry).collect()
    }
}

/// A text from outside that is compared with stored ones. No stored one holds a NUL, and
/// PostgreSQL would refuse it.
pub(crate) fn clean(text: &str) -> Value {
    text.replace('\0', "\u{fffd}").as_str().into()
}

/// The version that a row holds from `column` on: id, version, last_updated, method, body.
pub(crate) fn stored(resource_type: &str, row: &Row, column: usize) -> Result<Stored, Error> {
    Ok(Stored {
        resource_type: resource_type.to_owned(),
        id: row.text(column)?.to_owned(),
        version: row.int(column + 1)?,
        last_updated: row.int(column + 2)?,
        method: Method::from_number(row.int(column + 3)?)?,
        body: row.text_or_null(column + 4)?.map(Into::into),
    })
}
