//! Rows as the landing keeps them, and the questions that a mapping asks of it.
//!
//! Beside each row, one landed row for each link it makes: its table names the linked column, its
//! key the row that is pointed at and then the row that points. A scan of the first part answers
//! "which rows point here".

use std::collections::HashMap;
use std::sync::Arc;

use lumbar_fhir::{Json, json};
use lumbar_store::{LandedRow, Landing};
use lumbar_translate::mapping::Mapping;
use lumbar_translate::record::{Link, Need, Row, RowKey, RowSet};

use crate::facade::Error;

/// Stands between the two parts of a link's key; no GUID or code holds it.
const SEPARATOR: char = '\u{1f}';
/// Rows of one scan.
const PAGE: usize = 500;

/// A row and its links, to be landed.
pub fn to_land(source: &str, row: &Row, links: &[Link]) -> Vec<LandedRow> {
    let body = json!({
        "extract_time": (row.extract_time.as_ref()),
        "processing_id": (row.processing_id.map_or(Json::Null, Json::from)),
        "cells": (row.cells.clone())
    });
    // What the row says, and nothing of where it stood, tells whether it changed.
    let digest = digest(&Json::Object(row.cells.clone()).to_string());
    let landed = |table: String, key: String, body: String, digest: Arc<[u8]>| LandedRow {
        key: lumbar_store::RowKey { source: source.to_owned(), table, key },
        file: row.file.to_string(),
        line: i64::try_from(row.row).unwrap_or(i64::MAX),
        digest,
        body: body.into_bytes().into(),
    };
    let mut rows =
        vec![landed(row.key.table.to_string(), row.key.key.clone(), body.to_string(), digest)];
    for link in links {
        let key = format!("{}{SEPARATOR}{}", link.key, row.key.key);
        let own = row.key.key.clone();
        let digest = self::digest(&own);
        rows.push(landed(link_table(link), key, own, digest));
    }
    rows
}

/// 16 bytes that differ when the text does.
fn digest(text: &str) -> Arc<[u8]> {
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, text.as_bytes()).as_bytes().as_slice().into()
}

fn link_table(link: &Link) -> String {
    format!("{}.{}", link.table, link.column)
}

/// Reads a landed row back.
pub fn from_landed(landed: &LandedRow) -> Option<Row> {
    let body = Json::parse(&landed.body).ok()?;
    Some(Row {
        key: RowKey { table: landed.key.table.as_str().into(), key: landed.key.key.clone() },
        file: landed.file.as_str().into(),
        row: u64::try_from(landed.line).ok()?,
        processing_id: body.get("processing_id").and_then(Json::as_i64),
        extract_time: body.str_at(&["extract_time"]).unwrap_or_default().into(),
        cells: body.get("cells")?.as_object()?.clone(),
    })
}

/// Fetches landed rows of one source.
pub struct Lookup<'a> {
    /// The landing.
    pub landing: &'a Landing,
    /// Whose rows.
    pub source: &'a str,
}

impl Lookup<'_> {
    /// The rows with these keys, by table at once.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn rows(&self, keys: &[RowKey]) -> Result<Vec<Row>, Error> {
        let mut by_table: HashMap<&str, Vec<&str>> = HashMap::new();
        for key in keys {
            by_table.entry(&key.table).or_default().push(&key.key);
        }
        let mut rows = Vec::with_capacity(keys.len());
        for (table, keys) in by_table {
            let landed = self.landing.get(self.source, table, &keys).await?;
            rows.extend(landed.iter().filter_map(from_landed));
        }
        Ok(rows)
    }

    /// Keys of the rows that point somewhere. A row that once did and no longer does may be among
    /// them, which costs a look and no more.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn linked(&self, link: &Link) -> Result<Vec<RowKey>, Error> {
        let table = link_table(link);
        let prefix = format!("{}{SEPARATOR}", link.key);
        let mut after = prefix.clone();
        let mut keys = Vec::new();
        loop {
            let page = self.landing.scan(self.source, &table, &after, PAGE).await?;
            for landed in &page {
                let Some(own) = landed.key.key.strip_prefix(&prefix) else { return Ok(keys) };
                keys.push(RowKey { table: link.table.clone(), key: own.to_owned() });
            }
            match page.last() {
                Some(last) if page.len() == PAGE => after = last.key.key.clone(),
                _ => return Ok(keys),
            }
        }
    }

    /// Answers needs: the rows found are in `rows` afterwards.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn answer(
        &self,
        mapping: &Mapping,
        needs: Vec<Need>,
        rows: &mut RowSet,
    ) -> Result<(), Error> {
        let mut wanted = Vec::new();
        for need in &needs {
            match need {
                Need::Row(key) => wanted.push(key.clone()),
                Need::Linked(link) => wanted.extend(self.linked(link).await?),
            }
        }
        wanted.sort();
        wanted.dedup();
        for row in self.rows(&wanted).await? {
            let links = mapping.joined_links(&row);
            rows.insert(row, links);
        }
        for need in needs {
            rows.answer(need);
        }
        Ok(())
    }

    /// Those of `keys` whose rows had other states before.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn changed(&self, keys: Vec<RowKey>) -> Result<Vec<RowKey>, Error> {
        let mut by_table: HashMap<&Arc<str>, Vec<&str>> = HashMap::new();
        for key in &keys {
            by_table.entry(&key.table).or_default().push(&key.key);
        }
        let mut changed = Vec::new();
        for (table, keys) in by_table {
            let found = self.landing.changed(self.source, table, &keys).await?;
            changed.extend(found.into_iter().map(|key| RowKey { table: table.clone(), key }));
        }
        Ok(changed)
    }

    /// Earlier states of a row, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn earlier(&self, key: &RowKey, count: usize) -> Result<Vec<Row>, Error> {
        let key = lumbar_store::RowKey {
            source: self.source.to_owned(),
            table: key.table.to_string(),
            key: key.key.clone(),
        };
        let before = self.landing.before(&key, count).await?;
        Ok(before.iter().rev().filter_map(|(_, landed)| from_landed(landed)).collect())
    }
}
