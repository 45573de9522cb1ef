//! Inserts of many rows in few statements.

use crate::Error;
use crate::dialect::{Session, Value};

/// Greatest number of rows in one statement.
pub(crate) const LARGEST: usize = 256;

/// A statement that inserts rows, without them.
pub(crate) struct Table {
    /// Up to and including `VALUES`.
    pub(crate) head: &'static str,
    /// Number of columns.
    pub(crate) columns: usize,
    /// What follows the rows.
    pub(crate) tail: &'static str,
}

/// Rows to be inserted into one table.
pub(crate) struct Insert {
    table: &'static Table,
    values: Vec<Value>,
}

impl Insert {
    pub(crate) fn new(table: &'static Table) -> Insert {
        Insert { table, values: Vec::new() }
    }

    /// Adds a row; it must have the columns of the table.
    pub(crate) fn row(&mut self, values: impl IntoIterator<Item = Value>) {
        self.values.extend(values);
    }

    /// Inserts the rows in chunks of powers of two, so that there are few different statements
    /// and all of them stay prepared.
    pub(crate) async fn run(self, session: &mut Session<'_>) -> Result<(), Error> {
        let Table { head, columns, tail } = *self.table;
        let mut left = self.values.len() / columns;
        let mut values = self.values.into_iter();
        while left > 0 {
            let size = chunk(left);
            let sql = format!("{head} {} {tail}", session.dialect().tuples(size, columns));
            session.execute(sql, values.by_ref().take(size * columns).collect()).await?;
            left -= size;
        }
        Ok(())
    }
}

/// The greatest power of two that is no more than `left` and [`LARGEST`].
pub(crate) fn chunk(left: usize) -> usize {
    if left >= LARGEST { LARGEST } else { 1 << left.ilog2() }
}

/// Rows in parts of such sizes.
pub(crate) fn chunks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let part;
        (part, rows) = rows.split_at_checked(chunk(rows.len().max(1)))?;
        Some(part)
    })
}
