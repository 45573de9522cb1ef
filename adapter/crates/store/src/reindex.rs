//! Indexing stored resources anew: a walk through the rows of a type, in steps.
//!
//! A walk begins when a type is to be found by other search parameters than its resources were
//! indexed by. Each step is one commit that holds the index of some resources and how far the walk
//! is, so a walk that was interrupted goes on where it stood. A resource that was written meanwhile
//! was indexed by the new definitions already, and a step leaves it alone. What the parameters are
//! the store does not know: `indexed` and `wanted` are texts to be compared.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use lumbar_fhir::search::IndexRow;

use crate::Error;
use crate::commit::row_ids;
use crate::dialect::{Row, Session, Value};
use crate::insert::{Insert, Table};
use crate::resources::{Resources, Stored, clean, stored};
use crate::writer::Write;

/// Most bytes of bodies in one step, which has one resource at least.
const BYTES: i64 = 16 << 20;

/// How a type is indexed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Resource type.
    pub resource_type: String,
    /// What all of its resources are indexed by.
    pub indexed: Arc<str>,
    /// What they are to be indexed by; the same when there is nothing to do.
    pub wanted: Arc<str>,
    /// Row of the last resource that a step has indexed.
    pub position: i64,
    /// Row of the last resource that was there when the walk began.
    pub last_row: i64,
    /// How many resources have been gone through.
    pub done: i64,
    /// How many there were when the walk began.
    pub total: i64,
}

/// One step of a walk.
#[derive(Clone, Debug)]
pub struct Step {
    /// Resource type.
    pub resource_type: String,
    /// What the walk was to index by when the step began.
    pub wanted: Arc<str>,
    /// Where it stood.
    pub from: i64,
    /// Row of the last resource of the step; `None` when the walk is complete.
    pub to: Option<i64>,
    /// How many resources were gone through.
    pub done: i64,
    /// What they are found by, except those that were deleted.
    pub resources: Vec<Indexed>,
}

/// What one resource is found by.
#[derive(Clone, Debug)]
pub struct Indexed {
    /// Logical id.
    pub id: String,
    /// The version that was looked at; when it is no longer the current one nothing happens.
    pub version: i64,
    /// The rows of the index.
    pub index: Vec<IndexRow>,
}

impl Resources {
    /// The number of the definitions that all writers must follow.
    pub async fn definitions(&self) -> Result<i64, Error> {
        let rows = self.pool.fetch("SELECT definitions FROM counter", Vec::new()).await?;
        rows.first().ok_or(sqlx::Error::RowNotFound)?.int(0)
    }

    /// How all types are indexed of which that was ever said, or those with something to do.
    pub async fn walks(&self, only_open: bool) -> Result<Vec<Walk>, Error> {
        let which = if only_open { "WHERE indexed <> wanted" } else { "" };
        let sql = format!(
            "SELECT resource_type, indexed, wanted, position, last_row, done, total \
             FROM index_state {which} ORDER BY resource_type"
        );
        let rows = self.pool.fetch(sql, Vec::new()).await?;
        let walk = |row: &Row| {
            Ok(Walk {
                resource_type: row.text(0)?.to_owned(),
                indexed: row.text(1)?.into(),
                wanted: row.text(2)?.into(),
                position: row.int(3)?,
                last_row: row.int(4)?,
                done: row.int(5)?,
                total: row.int(6)?,
            })
        };
        rows.iter().map(walk).collect()
    }

    /// Begins a walk for each type: name, what stays indexed meanwhile, and what is wanted. A type
    /// without resources is done at once, and so is one for which both are the same.
    pub async fn begin_walks(&self, types: &[(String, String, String)]) -> Result<(), Error> {
        let known = self.pool.fetch("SELECT name, type_id FROM resource_type", Vec::new()).await?;
        let known: HashMap<&str, i64> = known
            .iter()
            .map(|row| Ok((row.text(0)?, row.int(1)?)))
            .collect::<Result<_, Error>>()?;
        let mut begun = Vec::with_capacity(types.len());
        for (resource_type, indexed, wanted) in types {
            let (mut position, mut last_row, mut total) = (0, 0, 0);
            if let Some(type_id) = known.get(resource_type.as_str())
                && indexed != wanted
            {
                let (first, last) = row_ids(*type_id);
                let sql = "SELECT count(*), coalesce(max(row_id), 0) FROM resource \
                           WHERE row_id BETWEEN $1 AND $2";
                let rows = self.pool.fetch(sql, vec![first.into(), last.into()]).await?;
                let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
                (position, last_row, total) = (first, row.int(1)?, row.int(0)?);
            }
            begun.push(Walk {
                resource_type: resource_type.clone(),
                indexed: if total == 0 { wanted.as_str() } else { indexed }.into(),
                wanted: wanted.as_str().into(),
                position,
                last_row,
                done: 0,
                total,
            });
        }
        self.writer.write(Begin(begun)).await
    }

    /// The next resources of a walk with their rows: at most `count`, and no more than a step may
    /// hold in memory.
    pub async fn walk(&self, walk: &Walk, count: usize) -> Result<Vec<(i64, Stored)>, Error> {
        let sql = "SELECT row_id, CAST(coalesce(octet_length(body), 0) AS BIGINT) FROM resource \
                   WHERE row_id > $1 AND row_id <= $2 ORDER BY row_id LIMIT $3";
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let values = vec![walk.position.into(), walk.last_row.into(), count.into()];
        let (mut last, mut bytes) = (None, 0);
        for row in self.pool.fetch(sql, values).await? {
            bytes += row.int(1)?;
            if bytes > BYTES && last.is_some() {
                break;
            }
            last = Some(row.int(0)?);
        }
        let Some(last) = last else { return Ok(Vec::new()) };
        let sql = "SELECT id, version, last_updated, method, body, row_id FROM resource \
                   WHERE row_id > $1 AND row_id <= $2 ORDER BY row_id";
        let rows = self.pool.fetch(sql, vec![walk.position.into(), last.into()]).await?;
        let found = |row: &Row| Ok((row.int(5)?, stored(&walk.resource_type, row, 0)?));
        rows.iter().map(found).collect()
    }

    /// Says by which parameters, by type, not all resources are indexed: a search that goes by one
    /// of them is refused with [`Error::NotIndexed`].
    pub fn set_unindexed(&self, unindexed: HashMap<String, BTreeSet<String>>) {
        self.names.set_unindexed(unindexed);
    }
}

/// Writes down where walks stand, unless the same walk is on its way already.
struct Begin(Vec<Walk>);

impl Write for Begin {
    type Output = ();

    async fn run(&self, session: &mut Session<'_>) -> Result<(), Error> {
        let mut insert = Insert::new(&BEGIN);
        for walk in &self.0 {
            insert.row([
                clean(&walk.resource_type),
                (&*walk.indexed).into(),
                (&*walk.wanted).into(),
                walk.position.into(),
                walk.last_row.into(),
                walk.done.into(),
                walk.total.into(),
            ]);
        }
        insert.run(session).await
    }
}

const BEGIN: Table = Table {
    head: "INSERT INTO index_state \
           (resource_type, indexed, wanted, position, last_row, done, total) VALUES",
    columns: 7,
    tail: "ON CONFLICT (resource_type) DO UPDATE SET indexed = excluded.indexed, \
           wanted = excluded.wanted, position = excluded.position, last_row = excluded.last_row, \
           done = excluded.done, total = excluded.total \
           WHERE index_state.wanted <> excluded.wanted",
};

/// Moves a walk on; `false` when it does not stand where the step began.
pub(crate) async fn advance(session: &mut Session<'_>, step: &Step) -> Result<bool, Error> {
    let mut values: Vec<Value> = vec![
        clean(&step.resource_type),
        (&*step.wanted).into(),
        step.from.into(),
        step.done.into(),
    ];
    let sql = match step.to {
        Some(to) => {
            values.push(to.into());
            "UPDATE index_state SET position = $5, done = done + $4 \
             WHERE resource_type = $1 AND wanted = $2 AND position = $3"
        }
        None => {
            "UPDATE index_state SET indexed = wanted, done = done + $4 \
             WHERE resource_type = $1 AND wanted = $2 AND position = $3 AND indexed <> wanted"
        }
    };
    Ok(session.execute(sql, values).await? == 1)
}
