//! Keeps and finds resources, raw input and jobs on SQLite or PostgreSQL.
//!
//! [`Store::open`] gives three handles that share one database: [`Resources`], [`Landing`] and
//! [`Jobs`]. All writes pass one task, which gathers what waits into one durable transaction.
//! The store knows nothing of FHIR but the shape of a search ([`lumbar_fhir::search`]); it does
//! not read the bodies it keeps.

mod bulk;
mod cache;
mod commit;
mod cursor;
mod dialect;
mod error;
mod history;
mod index;
mod insert;
mod jobs;
mod landing;
mod linked;
mod names;
mod referrers;
mod reindex;
mod resources;
mod schema;
mod search;
mod terms;
mod writer;

use std::sync::Arc;
use std::time::Duration;

pub use lumbar_fhir::datetime::Micros;

pub use crate::bulk::{Bulk, BulkJob, BulkState, Then, Walked};
pub use crate::commit::{AuditRow, Change, Commit, Guard, Method};
pub use crate::error::Error;
pub use crate::history::{History, Version, Versions};
pub use crate::jobs::{Counts, Job, Jobs, Kinds, Listed, NewJob, State};
pub use crate::landing::{LandedRow, Landing, Message, RowKey};
pub use crate::linked::Named;
pub use crate::referrers::Unreferred;
pub use crate::reindex::{Indexed, Step, Walk};
pub use crate::resources::{Page, Resources, Stored};
pub use crate::search::{Bounds, Total};

use crate::cache::{Cache, Counter};
use crate::cursor::Key;
use crate::dialect::Pools;
use crate::names::Names;
use crate::writer::Writer;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Greatest number of connections that read; at least 1. In memory there is one for all.
    pub readers: u32,
    /// How long to wait for a connection, a lock or a place in the queue.
    pub wait: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options { readers: 4, wait: dialect::WAIT }
    }
}

/// An open database.
#[derive(Debug)]
pub struct Store {
    /// Resources and their history.
    pub resources: Resources,
    /// Raw input.
    pub landing: Landing,
    /// Work to be done.
    pub jobs: Jobs,
    pools: Pools,
    writer: Writer,
}

impl Store {
    /// Opens a database and brings its schema up to date. Must be called within a Tokio runtime.
    ///
    /// `url` is `sqlite:PATH` (the file is made when there is none), `sqlite::memory:` (a new
    /// database that lasts as long as the store) or `postgres://…`.
    pub async fn open(url: &str, options: Options) -> Result<Store, Error> {
        let pools = Pools::open(url, &options).await?;
        schema::migrate(&pools.write).await?;
        let key = Arc::new(Key::of(&pools.write).await?);
        let names = Arc::new(Names::default());
        let counter = match &pools.file {
            Some(path) => Counter::of_file(path),
            None if pools.shared => Counter::Alone,
            None => Counter::None,
        };
        let cache = Arc::new(Cache::new(counter));
        let writer = Writer::start(pools.clone(), names.clone(), cache.clone(), &options);
        let pool = pools.read.clone();
        Ok(Store {
            resources: Resources { pool: pool.clone(), names, cache, key, writer: writer.clone() },
            landing: Landing { pool: pool.clone(), writer: writer.clone() },
            jobs: Jobs { pool, writer: writer.clone() },
            pools,
            writer,
        })
    }

    /// Writes what waits and closes all connections; handles that are still held then fail with
    /// [`Error::Unavailable`].
    pub async fn close(self) {
        self.writer.close().await;
        self.pools.close().await;
    }
}
