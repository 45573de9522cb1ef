//! What can stop the store.

use std::sync::Arc;

/// Why the store did not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The resource is not at the expected version, or a guard's query gives other ids (then `id`
    /// is empty). Nothing of the commit is stored.
    #[error("{resource_type}/{id} is not in the expected state")]
    Conflict {
        /// Type of the resource, or of the guard's query.
        resource_type: String,
        /// Its logical id.
        id: String,
    },
    /// The commit was made up in an epoch that is over. Nothing of it is stored; it may be made up
    /// anew.
    #[error("the epoch of the commit is over")]
    Epoch,
    /// Too many writes are waiting, or another process holds the database. Nothing is stored;
    /// trying again later may help.
    #[error("the database is busy")]
    Busy,
    /// The database cannot be reached or the store is closed. A write that fails so may or may
    /// not be stored.
    #[error("the database is not available")]
    Unavailable(#[source] Option<Arc<sqlx::Error>>),
    /// The page cursor is not one that this query gave.
    #[error("the page cursor is not valid")]
    Cursor,
    /// The search condition is nested too deeply or names too many values.
    #[error("the search is too complex")]
    TooComplex,
    /// The search asks for a parameter by which not all resources are indexed yet.
    #[error("the search parameter {code} of {resource_type} is not indexed yet")]
    NotIndexed {
        /// Resource type that is searched.
        resource_type: String,
        /// Code of the parameter.
        code: String,
    },
    /// The commit follows definitions, or a step of a walk, that are not the present ones. Nothing
    /// of it is stored.
    #[error("the definitions have changed")]
    Outdated,
    /// The search did not come to an end in the time that it was given.
    #[error("the search takes too long")]
    TooCostly,
    /// The database url is of no known kind.
    #[error("database url {0:?}: expected sqlite:PATH, sqlite::memory: or postgres://…")]
    Url(String),
    /// The schema could not be brought up to date.
    #[error("the database schema could not be brought up to date")]
    Migrate(#[source] Arc<sqlx::migrate::MigrateError>),
    /// The database refused a statement, or holds a value this version does not know.
    #[error("the database failed")]
    Database(#[source] Arc<sqlx::Error>),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Error {
        use sqlx::Error as E;
        match error {
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => {
                Error::Unavailable(Some(Arc::new(error)))
            }
            E::Database(refused) => match refused.code().as_deref() {
                // SQLITE_BUSY, SQLITE_BUSY_RECOVERY, SQLITE_BUSY_SNAPSHOT.
                Some("5" | "261" | "517") => Error::Busy,
                // SQLITE_INTERRUPT, query_canceled.
                Some("9" | "57014") => Error::TooCostly,
                // The server is full, was told to stop, or is starting.
                Some("53300" | "57P01" | "57P02" | "57P03") => {
                    Error::Unavailable(Some(Arc::new(E::Database(refused))))
                }
                _ => Error::Database(Arc::new(E::Database(refused))),
            },
            error => Error::Database(Arc::new(error)),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for Error {
    fn from(error: sqlx::migrate::MigrateError) -> Error {
        Error::Migrate(Arc::new(error))
    }
}
