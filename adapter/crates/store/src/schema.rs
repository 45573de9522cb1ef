//! Brings the schema up to date: numbered files, forward only, never edited once released.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, SqlSafeStr};

use crate::Error;
use crate::dialect::Pool;

/// Number, name, text for SQLite, text for PostgreSQL.
const FILES: [(i64, &str, &str, &str); 7] = [
    (
        1,
        "first",
        include_str!("../migrations/sqlite/0001_first.sql"),
        include_str!("../migrations/postgres/0001_first.sql"),
    ),
    (
        2,
        "search",
        include_str!("../migrations/sqlite/0002_search.sql"),
        include_str!("../migrations/postgres/0002_search.sql"),
    ),
    (
        3,
        "history",
        include_str!("../migrations/sqlite/0003_history.sql"),
        include_str!("../migrations/postgres/0003_history.sql"),
    ),
    (
        4,
        "index state",
        include_str!("../migrations/sqlite/0004_index_state.sql"),
        include_str!("../migrations/postgres/0004_index_state.sql"),
    ),
    (
        5,
        "subscription",
        include_str!("../migrations/sqlite/0005_subscription.sql"),
        include_str!("../migrations/postgres/0005_subscription.sql"),
    ),
    (
        6,
        "bulk",
        include_str!("../migrations/sqlite/0006_bulk.sql"),
        include_str!("../migrations/postgres/0006_bulk.sql"),
    ),
    (
        7,
        "terms",
        include_str!("../migrations/sqlite/0007_terms.sql"),
        include_str!("../migrations/postgres/0007_terms.sql"),
    ),
];

pub(crate) async fn migrate(pool: &Pool) -> Result<(), Error> {
    let migrator = |pick: fn(&'static str, &'static str) -> &'static str| {
        let file = |&(number, name, sqlite, postgres): &(i64, &'static str, _, _)| {
            let sql = AssertSqlSafe(pick(sqlite, postgres)).into_sql_str();
            Migration::new(number, name.into(), MigrationType::Simple, sql, false)
        };
        Migrator::with_migrations(FILES.iter().map(file).collect())
    };
    match pool {
        Pool::Sqlite(pool) => migrator(|sqlite, _| sqlite).run(pool).await?,
        Pool::Postgres(pool) => migrator(|_, postgres| postgres).run(pool).await?,
    }
    Ok(())
}
