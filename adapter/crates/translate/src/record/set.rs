//! Rows in memory, by key and by the columns that point at other rows.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::{Row, RowKey};

/// All rows of `table` whose `column` points at the row with that key. The key has the owner in
/// front where both tables have one, else nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Link {
    /// Table of the rows that point.
    pub table: Arc<str>,
    /// Their column.
    pub column: Arc<str>,
    /// `owner|key` of the row that they point at.
    pub key: String,
}

/// Rows that a computation asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Need {
    /// The row with that key.
    Row(RowKey),
    /// All rows that point somewhere.
    Linked(Link),
}

/// Rows by table and key, with the rows that they replaced.
#[derive(Debug, Default)]
pub struct RowSet {
    rows: HashMap<RowKey, Row>,
    linked: HashMap<Link, BTreeSet<RowKey>>,
    earlier: HashMap<RowKey, Vec<Row>>,
    answered: HashSet<Need>,
    complete: bool,
}

impl RowSet {
    /// A set that grows by answers to needs: what is not in it may exist elsewhere.
    pub fn new() -> Self {
        Self::default()
    }

    /// A set of everything there is: what is not in it does not exist, and nothing is needed.
    pub fn complete() -> Self {
        RowSet { complete: true, ..Self::default() }
    }

    /// Adds a row with the links that it makes ([`crate::mapping::Mapping::joined_links`]). A row of the
    /// same key is replaced and given back, unless both stand in the same file and the one in the
    /// set has the higher processing id: then `row` itself comes back.
    pub fn insert(&mut self, row: Row, links: Vec<Link>) -> Option<Row> {
        if let Some(old) = self.rows.get(&row.key)
            && old.file == row.file
            && old.processing_id > row.processing_id
        {
            return Some(row);
        }
        for link in links {
            self.linked.entry(link).or_default().insert(row.key.clone());
        }
        let old = self.rows.insert(row.key.clone(), row)?;
        if self.rows.get(&old.key).is_some_and(|new| new.cells != old.cells) {
            self.earlier.entry(old.key.clone()).or_default().push(old.clone());
        }
        Some(old)
    }

    /// Adds an earlier state of a row, so that what it alone gave rise to is withdrawn.
    pub fn insert_earlier(&mut self, row: Row) {
        self.earlier.entry(row.key.clone()).or_default().push(row);
    }

    /// Notes that a need has been looked up; the rows found must have been inserted.
    pub fn answer(&mut self, need: Need) {
        self.answered.insert(need);
    }

    /// Whether a need was looked up, or the rows for it are here anyway.
    pub fn knows(&self, need: &Need) -> bool {
        self.complete
            || self.answered.contains(need)
            || matches!(need, Need::Row(key) if self.rows.contains_key(key))
    }

    /// The row with that key.
    pub fn get(&self, key: &RowKey) -> Option<&Row> {
        self.rows.get(key)
    }

    /// The rows that point somewhere, in the order of their keys. A row that pointed there once
    /// and no longer does may be among them.
    pub fn linked(&self, link: &Link) -> impl Iterator<Item = &Row> {
        self.linked.get(link).into_iter().flatten().filter_map(|key| self.rows.get(key))
    }

    /// Earlier states of a row, oldest first.
    pub fn earlier(&self, key: &RowKey) -> &[Row] {
        self.earlier.get(key).map(Vec::as_slice).unwrap_or_default()
    }

    /// All rows, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// How many rows there are, earlier states not counted.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}
