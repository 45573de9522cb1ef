//! All that differs between SQLite and PostgreSQL, so that every other file is written once.
//!
//! Statements use `$1` placeholders in the subset of SQL that both read. This is no general layer
//! over databases: it knows the four kinds of value that the schema has.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use sqlx::pool::{PoolConnection, PoolOptions};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgRow};
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous,
};
use sqlx::{
    Arguments, AssertSqlSafe, ColumnIndex, Connection, Decode, PgConnection, Postgres, Row as _,
    Sqlite, SqliteConnection, Type,
};

use crate::{Error, Options, index};

/// A value bound to a placeholder.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Int(i64),
    Real(f64),
    Text(Option<Arc<str>>),
    Bytes(Arc<[u8]>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Int(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Real(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(Some(value.into()))
    }
}

impl From<&Option<Arc<str>>> for Value {
    fn from(value: &Option<Arc<str>>) -> Value {
        Value::Text(value.clone())
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Value {
        Value::Bytes(value.into())
    }
}

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// Before a column: keeps SQLite from choosing an index by it. SQLite keeps no statistics
    /// unless told to and takes the values of a parameter for fewer than those of a resource.
    pub(crate) fn no_index(self) -> &'static str {
        match self {
            Dialect::Sqlite => "+",
            Dialect::Postgres => "",
        }
    }

    /// The one of two things that is for this database.
    pub(crate) fn pick<T>(self, sqlite: T, postgres: T) -> T {
        match self {
            Dialect::Sqlite => sqlite,
            Dialect::Postgres => postgres,
        }
    }

    /// A column of the values that a row has of a parameter.
    pub(crate) fn part(self, alias: &str, column: &str) -> String {
        let place = match column {
            "low" => 0,
            "high" => 1,
            "unit" => 2,
            _ => return format!("{alias}.{column}"),
        };
        self.pick(format!("({alias}.value ->> {place})"), format!("{alias}.{column}"))
    }

    /// After a table and its alias: makes SQLite take this index, whose order is wanted.
    pub(crate) fn by_index(self, index: Option<&str>) -> String {
        match (self, index) {
            (Dialect::Sqlite, Some(index)) => format!(" INDEXED BY {index}"),
            _ => String::new(),
        }
    }

    /// The function that gives the place of its second text in its first, from 1, or 0.
    pub(crate) fn position(self) -> &'static str {
        match self {
            Dialect::Sqlite => "instr",
            Dialect::Postgres => "strpos",
        }
    }

    /// At the end of a subquery: keeps PostgreSQL from making a join of it, whose order it would
    /// choose by statistics.
    pub(crate) fn no_join(self) -> &'static str {
        match self {
            Dialect::Sqlite => "",
            Dialect::Postgres => " OFFSET 0",
        }
    }

    /// `rows` tuples of `columns` placeholders. SQLite finds the number of a numbered placeholder
    /// by going through all of them, so there they stay anonymous.
    pub(crate) fn tuples(self, rows: usize, columns: usize) -> String {
        let mut text = String::with_capacity(rows * columns * 6);
        for row in 0..rows {
            text.push_str(if row == 0 { "(" } else { ",(" });
            for column in 0..columns {
                if column > 0 {
                    text.push(',');
                }
                match self {
                    Dialect::Sqlite => text.push('?'),
                    Dialect::Postgres => {
                        text.push('$');
                        text.push_str(&(row * columns + column + 1).to_string());
                    }
                }
            }
            text.push(')');
        }
        text
    }
}

/// Connections to one database.
#[derive(Clone, Debug)]
pub(crate) enum Pool {
    Sqlite(sqlx::SqlitePool),
    Postgres(sqlx::PgPool),
}

/// The connections of one store: one to write with, and those to read with. They are the same
/// pool where the database lives in memory, because there it lives in its only connection.
#[derive(Clone, Debug)]
pub(crate) struct Pools {
    pub(crate) write: Pool,
    pub(crate) read: Pool,
    pub(crate) shared: bool,
    /// The database's file, when it is one of SQLite.
    pub(crate) file: Option<PathBuf>,
}

impl Pools {
    pub(crate) async fn open(url: &str, options: &Options) -> Result<Pools, Error> {
        match url.split_once(':').map_or("", |(scheme, _)| scheme) {
            "sqlite" => Pools::sqlite(url, options).await,
            "postgres" | "postgresql" => Pools::postgres(url, options).await,
            _ => Err(Error::Url(without_secrets(url))),
        }
    }

    async fn sqlite(url: &str, options: &Options) -> Result<Pools, Error> {
        let connect = SqliteConnectOptions::from_str(url)
            .map_err(|_| Error::Url(url.into()))?
            .create_if_missing(true)
            .foreign_keys(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(options.wait)
            .pragma("temp_store", "memory")
            .pragma("wal_autocheckpoint", "8000")
            .pragma("journal_size_limit", "67108864");
        let pool = |size| {
            PoolOptions::<Sqlite>::new()
                .max_connections(size)
                .idle_timeout(None)
                .max_lifetime(None)
                .acquire_timeout(options.wait)
                .test_before_acquire(false)
        };
        if url.contains(":memory:") || url.contains("mode=memory") {
            let pool = Pool::Sqlite(pool(1).connect_with(connect).await?);
            return Ok(Pools { write: pool.clone(), read: pool, shared: true, file: None });
        }
        // Values like identifiers are inserted all over their index: the more of it stays in
        // memory, the fewer pages are read to be written.
        let file = Some(connect.get_filename().to_owned());
        let writer = connect.clone().pragma("cache_size", "-131072");
        let write = pool(1).connect_with(writer).await?;
        // Readers see the file in the system's memory: a search of a large file reads pages all over
        // it, and a copy of each would cost more than the search (half as much again was measured at
        // a million resources). A cache of their own is for pages that are still in the log.
        let reader =
            connect.read_only(true).pragma("mmap_size", MMAP).pragma("cache_size", "-8192");
        let read = pool(options.readers.max(1)).connect_lazy_with(reader);
        Ok(Pools { write: Pool::Sqlite(write), read: Pool::Sqlite(read), shared: false, file })
    }

    async fn postgres(url: &str, options: &Options) -> Result<Pools, Error> {
        let connect = PgConnectOptions::from_str(url)
            .map_err(|_| Error::Url(without_secrets(url)))?
            .application_name("lumbar");
        let pool = |size| {
            PoolOptions::<Postgres>::new()
                .max_connections(size)
                .acquire_timeout(options.wait)
                .test_before_acquire(false)
                .before_acquire(|connection, meta| {
                    Box::pin(async move {
                        if meta.idle_for > Duration::from_secs(1) {
                            connection.ping().await?;
                        }
                        Ok(true)
                    })
                })
        };
        // How many rows a value has differs by orders of magnitude, so one plan for all values
        // of a search would be wrong for most.
        // And which index leads is decided by counting, not by statistics, which a table that has
        // just been filled does not have: the planner is left the plan that the statement means.
        let search = connect.clone().options([
            ("plan_cache_mode", "force_custom_plan"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("enable_seqscan", "off"),
            ("statement_timeout", PATIENCE_MILLIS),
        ]);
        let durable = connect.options([("synchronous_commit", "on")]);
        let write = pool(1).connect_with(durable).await?;
        let read = pool(options.readers.max(1)).connect_lazy_with(search);
        Ok(Pools {
            write: Pool::Postgres(write),
            read: Pool::Postgres(read),
            shared: false,
            file: None,
        })
    }

    pub(crate) async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }
}

/// The url up to its last `@` may hold a password.
fn without_secrets(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => url.to_owned(),
    }
}

impl Pool {
    pub(crate) async fn acquire(&self) -> Result<Link, Error> {
        Ok(match self {
            Pool::Sqlite(pool) => Link::Sqlite(pool.acquire().await?),
            Pool::Postgres(pool) => Link::Postgres(pool.acquire().await?),
        })
    }

    /// Runs one statement on a connection of its own.
    pub(crate) async fn fetch(
        &self,
        sql: impl Into<Arc<str>>,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, Error> {
        let mut link = self.acquire().await?;
        link.session().fetch(sql, values).await
    }

    async fn close(&self) {
        match self {
            Pool::Sqlite(pool) => pool.close().await,
            Pool::Postgres(pool) => pool.close().await,
        }
    }
}

/// One connection.
pub(crate) enum Link {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

impl Link {
    pub(crate) fn session(&mut self) -> Session<'_> {
        match self {
            Link::Sqlite(link) => Session::Sqlite(link),
            Link::Postgres(link) => Session::Postgres(link),
        }
    }

    /// Ends what runs on the connection after [`PATIENCE`], unless what is given back is dropped
    /// before. PostgreSQL needs no telling.
    pub(crate) async fn hurry(&mut self) -> Result<Option<Arc<()>>, Error> {
        let Link::Sqlite(link) = self else { return Ok(None) };
        let waiting = Arc::new(());
        let waits = Arc::downgrade(&waiting);
        let end = Instant::now() + PATIENCE;
        let goes_on = move || waits.strong_count() == 0 || Instant::now() < end;
        link.lock_handle().await?.set_progress_handler(STEPS, goes_on);
        Ok(Some(waiting))
    }

    /// Begins a transaction that may write. It is rolled back when dropped.
    pub(crate) async fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        Ok(match self {
            Link::Sqlite(link) => Transaction::Sqlite(link.begin_with("BEGIN IMMEDIATE").await?),
            Link::Postgres(link) => Transaction::Postgres(link.begin().await?),
        })
    }
}

/// A transaction on one connection.
pub(crate) enum Transaction<'c> {
    Sqlite(sqlx::Transaction<'c, Sqlite>),
    Postgres(sqlx::Transaction<'c, Postgres>),
}

impl Transaction<'_> {
    pub(crate) fn session(&mut self) -> Session<'_> {
        match self {
            Transaction::Sqlite(transaction) => Session::Sqlite(transaction),
            Transaction::Postgres(transaction) => Session::Postgres(transaction),
        }
    }

    pub(crate) async fn commit(self) -> Result<(), Error> {
        match self {
            Transaction::Sqlite(transaction) => transaction.commit().await?,
            Transaction::Postgres(transaction) => transaction.commit().await?,
        }
        Ok(())
    }

    pub(crate) async fn rollback(self) -> Result<(), Error> {
        match self {
            Transaction::Sqlite(transaction) => transaction.rollback().await?,
            Transaction::Postgres(transaction) => transaction.rollback().await?,
        }
        Ok(())
    }
}

/// A borrowed connection on which statements run one after the other.
pub(crate) enum Session<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

impl Session<'_> {
    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Session::Sqlite(_) => Dialect::Sqlite,
            Session::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Runs a statement and gives its rows. The text must not hold foreign values: they are bound.
    pub(crate) async fn fetch(
        &mut self,
        sql: impl Into<Arc<str>>,
        values: Vec<Value>,
    ) -> Result<Vec<Row>, Error> {
        let sql = AssertSqlSafe(sql.into());
        Ok(match self {
            Session::Sqlite(connection) => {
                let query = sqlx::query_with(sql, arguments::<SqliteArguments>(integers(values))?);
                let rows = query.fetch_all(&mut **connection).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Session::Postgres(connection) => {
                let query = sqlx::query_with(sql, arguments::<PgArguments>(values)?);
                let rows = query.fetch_all(&mut **connection).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Runs a statement and hands over its rows as they come, until told that it is enough.
    pub(crate) async fn fetch_each(
        &mut self,
        sql: impl Into<Arc<str>>,
        values: Vec<Value>,
        mut take: impl FnMut(&Row) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let sql = AssertSqlSafe(sql.into());
        match self {
            Session::Sqlite(connection) => {
                let query = sqlx::query_with(sql, arguments::<SqliteArguments>(integers(values))?);
                let mut rows = query.fetch(&mut **connection);
                while let Some(row) = rows.try_next().await? {
                    if !take(&Row::Sqlite(row))? {
                        break;
                    }
                }
            }
            Session::Postgres(connection) => {
                let query = sqlx::query_with(sql, arguments::<PgArguments>(values)?);
                let mut rows = query.fetch(&mut **connection);
                while let Some(row) = rows.try_next().await? {
                    if !take(&Row::Postgres(row))? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Runs a statement and gives the number of rows it changed.
    pub(crate) async fn execute(
        &mut self,
        sql: impl Into<Arc<str>>,
        values: Vec<Value>,
    ) -> Result<u64, Error> {
        let sql = AssertSqlSafe(sql.into());
        Ok(match self {
            Session::Sqlite(connection) => {
                let query = sqlx::query_with(sql, arguments::<SqliteArguments>(integers(values))?);
                query.execute(&mut **connection).await?.rows_affected()
            }
            Session::Postgres(connection) => {
                let query = sqlx::query_with(sql, arguments::<PgArguments>(values)?);
                query.execute(&mut **connection).await?.rows_affected()
            }
        })
    }
}

/// The values as SQLite keeps them.
fn integers(mut values: Vec<Value>) -> Vec<Value> {
    for value in &mut values {
        if let Value::Real(number) = value {
            *value = Value::Int(index::order(*number));
        }
    }
    values
}

fn arguments<A: Arguments>(values: Vec<Value>) -> Result<A, Error>
where
    i64: for<'q> sqlx::Encode<'q, A::Database> + Type<A::Database>,
    f64: for<'q> sqlx::Encode<'q, A::Database> + Type<A::Database>,
    Option<Arc<str>>: for<'q> sqlx::Encode<'q, A::Database> + Type<A::Database>,
    Arc<[u8]>: for<'q> sqlx::Encode<'q, A::Database> + Type<A::Database>,
{
    let mut arguments = A::default();
    arguments.reserve(values.len(), 0);
    for value in values {
        match value {
            Value::Int(value) => arguments.add(value),
            Value::Real(value) => arguments.add(value),
            Value::Text(value) => arguments.add(value),
            Value::Bytes(value) => arguments.add(value),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// One row of a result.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    fn get<'r, T>(&'r self, column: usize) -> Result<T, Error>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
        usize: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>,
    {
        Ok(match self {
            Row::Sqlite(row) => row.try_get(column)?,
            Row::Postgres(row) => row.try_get(column)?,
        })
    }

    pub(crate) fn int(&self, column: usize) -> Result<i64, Error> {
        self.get(column)
    }

    pub(crate) fn int_or_null(&self, column: usize) -> Result<Option<i64>, Error> {
        self.get(column)
    }

    pub(crate) fn real_or_null(&self, column: usize) -> Result<Option<f64>, Error> {
        match self {
            Row::Sqlite(_) => Ok(self.int_or_null(column)?.map(index::number)),
            Row::Postgres(_) => self.get(column),
        }
    }

    pub(crate) fn text(&self, column: usize) -> Result<&str, Error> {
        self.get(column)
    }

    pub(crate) fn text_or_null(&self, column: usize) -> Result<Option<&str>, Error> {
        self.get(column)
    }

    pub(crate) fn bytes(&self, column: usize) -> Result<&[u8], Error> {
        self.get(column)
    }
}

/// How much of a SQLite file readers map: as much as SQLite allows.
const MMAP: &str = "2147418112";

/// How long one statement of a search may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same as PostgreSQL is told it.
const PATIENCE_MILLIS: &str = "10000";

/// Steps of SQLite between two looks at the clock, some tens of microseconds.
const STEPS: i32 = 10_000;

/// How long to wait for a connection, a place in the queue or a lock, unless told otherwise.
pub(crate) const WAIT: Duration = Duration::from_secs(10);
