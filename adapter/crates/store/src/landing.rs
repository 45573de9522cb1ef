//! Landing: raw input, kept as it came before anything is made of it.
//!
//! A row of a supplier's table is known by source, table and key. Its present state can be read;
//! earlier states are kept beside it and never removed.

use std::collections::HashMap;
use std::sync::Arc;

use lumbar_fhir::datetime::Micros;

use crate::Error;
use crate::dialect::{Pool, Row, Session, Value};
use crate::insert::{self, Insert, Table};
use crate::resources::clean;
use crate::writer::{Write, Writer};

/// What a landed row is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// Who sent it, for example an organisation.
    pub source: String,
    /// The table or record kind.
    pub table: String,
    /// Its key there.
    pub key: String,
}

/// A row as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LandedRow {
    /// What it is known by.
    pub key: RowKey,
    /// Name of the file it came from.
    pub file: String,
    /// Its place in the file, from 1.
    pub line: i64,
    /// Digest of the body: rows with the same digest are the same.
    pub digest: Arc<[u8]>,
    /// The row as it came.
    pub body: Arc<[u8]>,
}

/// A whole document as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub source: String,
    /// Digest of the body: documents of one source with the same digest are the same.
    pub digest: Arc<[u8]>,
    /// Its media type.
    pub media_type: String,
    /// When it came.
    pub received: Micros,
    /// The document as it came.
    pub body: Arc<[u8]>,
}

/// The handle on raw input.
#[derive(Clone, Debug)]
pub struct Landing {
    pub(crate) pool: Pool,
    pub(crate) writer: Writer,
}

impl Landing {
    /// Keeps rows, in order, and gives the keys of those that are new or have changed, each once,
    /// in the order of their first change. When this returns `Ok` they survive a crash. `at` is
    /// noted as the moment of landing.
    pub async fn put(&self, mut rows: Vec<LandedRow>, at: Micros) -> Result<Vec<RowKey>, Error> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        for RowKey { source, table, key } in rows.iter_mut().map(|row| &mut row.key) {
            for name in [source, table, key] {
                if name.contains('\0') {
                    *name = name.replace('\0', "\u{fffd}");
                }
            }
        }
        self.writer.write(Put { rows, at }).await
    }

    /// The present state of rows; those that never landed are left out. The order is that of the
    /// keys' bytes.
    pub async fn get(
        &self,
        source: &str,
        table: &str,
        keys: &[&str],
    ) -> Result<Vec<LandedRow>, Error> {
        let mut found = Vec::new();
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        keys.dedup();
        for chunk in keys.chunks(insert::LARGEST) {
            let list: Vec<String> =
                (3..chunk.len() + 3).map(|number| format!("${number}")).collect();
            let sql = format!(
                "{ROW} WHERE source = $1 AND name = $2 AND row_key IN ({}) ORDER BY row_key",
                list.join(",")
            );
            let values = [source, table].into_iter().chain(chunk.iter().copied());
            let rows = self.pool.fetch(sql, values.map(clean).collect()).await?;
            for row in &rows {
                found.push(landed(row)?);
            }
        }
        Ok(found)
    }

    /// The present state of the rows of a table whose key is greater than `after` (empty: from
    /// the first), in the order of the keys' bytes; at most `count`.
    pub async fn scan(
        &self,
        source: &str,
        table: &str,
        after: &str,
        count: usize,
    ) -> Result<Vec<LandedRow>, Error> {
        // A key may be empty, so "from the first" takes another comparison.
        let compare = if after.is_empty() { ">=" } else { ">" };
        let sql = format!(
            "{ROW} WHERE source = $1 AND name = $2 AND row_key {compare} $3 \
             ORDER BY row_key LIMIT $4"
        );
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let values = vec![clean(source), clean(table), clean(after), count.into()];
        self.pool.fetch(sql, values).await?.iter().map(landed).collect()
    }

    /// Those of `keys` whose rows had other states before.
    pub async fn changed(
        &self,
        source: &str,
        table: &str,
        keys: &[&str],
    ) -> Result<Vec<String>, Error> {
        let mut changed = Vec::new();
        for chunk in keys.chunks(insert::LARGEST) {
            let list: Vec<String> =
                (3..chunk.len() + 3).map(|number| format!("${number}")).collect();
            let sql = format!(
                "SELECT DISTINCT row_key FROM landed_before \
                 WHERE source = $1 AND name = $2 AND row_key IN ({})",
                list.join(",")
            );
            let values = [source, table].into_iter().chain(chunk.iter().copied());
            for row in &self.pool.fetch(sql, values.map(clean).collect()).await? {
                changed.push(row.text(0)?.to_owned());
            }
        }
        Ok(changed)
    }

    /// The states that a row had before its present one, newest first, with the moments they
    /// landed; at most `count`.
    pub async fn before(
        &self,
        key: &RowKey,
        count: usize,
    ) -> Result<Vec<(Micros, LandedRow)>, Error> {
        let sql = "SELECT source, name, row_key, file, line, digest, body, landed_at \
                   FROM landed_before WHERE source = $1 AND name = $2 AND row_key = $3 \
                   ORDER BY before_id DESC LIMIT $4";
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let values = vec![clean(&key.source), clean(&key.table), clean(&key.key), count.into()];
        let rows = self.pool.fetch(sql, values).await?;
        rows.iter().map(|row| Ok((row.int(7)?, landed(row)?))).collect()
    }

    /// Keeps a document and gives its number and whether it is new.
    pub async fn put_message(&self, message: Message) -> Result<(i64, bool), Error> {
        self.writer.write(message).await
    }

    /// A document by its number.
    pub async fn message(&self, number: i64) -> Result<Option<Message>, Error> {
        let sql = "SELECT source, digest, media_type, received, body FROM message \
                   WHERE message_id = $1";
        let rows = self.pool.fetch(sql, vec![number.into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(Message {
            source: row.text(0)?.to_owned(),
            digest: row.bytes(1)?.into(),
            media_type: row.text(2)?.to_owned(),
            received: row.int(3)?,
            body: row.bytes(4)?.into(),
        }))
    }
}

const ROW: &str = "SELECT source, name, row_key, file, line, digest, body FROM landed";

fn landed(row: &Row) -> Result<LandedRow, Error> {
    let (source, table, key) = (row.text(0)?, row.text(1)?, row.text(2)?);
    Ok(LandedRow {
        key: RowKey { source: source.to_owned(), table: table.to_owned(), key: key.to_owned() },
        file: row.text(3)?.to_owned(),
        line: row.int(4)?,
        digest: row.bytes(5)?.into(),
        body: row.bytes(6)?.into(),
    })
}

const LANDED: Table = Table {
    head: "INSERT INTO landed (source, name, row_key, landed_at, file, line, digest, body) VALUES",
    columns: 8,
    tail: "ON CONFLICT (source, name, row_key) DO UPDATE SET landed_at = excluded.landed_at, \
           file = excluded.file, line = excluded.line, digest = excluded.digest, \
           body = excluded.body",
};

const LANDED_BEFORE: Table = Table {
    head: "INSERT INTO landed_before \
           (source, name, row_key, landed_at, file, line, digest, body) VALUES",
    columns: 8,
    tail: "",
};

struct Put {
    rows: Vec<LandedRow>,
    at: Micros,
}

/// What is known of a row while others are gone through.
struct Seen<'a> {
    stored: bool,
    digest: Arc<[u8]>,
    newest: Option<&'a LandedRow>,
}

impl Put {
    /// Digests of what is there already.
    async fn seen(&self, session: &mut Session<'_>) -> Result<HashMap<RowKey, Seen<'_>>, Error> {
        let mut seen = HashMap::new();
        for chunk in self.rows.chunks(insert::LARGEST) {
            let size = chunk.len().next_power_of_two();
            let sql = format!(
                "WITH {wanted} SELECT l.source, l.name, l.row_key, l.digest {OF_WANTED}",
                wanted = wanted(session, size)
            );
            let padded = chunk.iter().chain(std::iter::repeat(&chunk[0])).take(size);
            let values = padded.flat_map(|row| key(&row.key)).collect();
            for row in session.fetch(sql, values).await? {
                let (source, table, key) = (row.text(0)?, row.text(1)?, row.text(2)?);
                let key = RowKey { source: source.into(), table: table.into(), key: key.into() };
                let digest = row.bytes(3)?.into();
                seen.insert(key, Seen { stored: true, digest, newest: None });
            }
        }
        Ok(seen)
    }

    fn values(&self, row: &LandedRow) -> impl Iterator<Item = Value> + use<> {
        key(&row.key).into_iter().chain([
            self.at.into(),
            clean(&row.file),
            row.line.into(),
            Value::Bytes(row.digest.clone()),
            Value::Bytes(row.body.clone()),
        ])
    }
}

/// The rows of `landed` whose keys are in [`wanted`]. SQLite would answer a list of tuples by
/// going through the table.
const OF_WANTED: &str = "FROM wanted w CROSS JOIN landed l \
    WHERE l.source = w.source AND l.name = w.name AND l.row_key = w.row_key";

fn wanted(session: &Session<'_>, size: usize) -> String {
    format!("wanted (source, name, row_key) AS (VALUES {})", session.dialect().tuples(size, 3))
}

fn key(key: &RowKey) -> [Value; 3] {
    [clean(&key.source), clean(&key.table), clean(&key.key)]
}

impl Write for Put {
    type Output = Vec<RowKey>;

    async fn run(&self, session: &mut Session<'_>) -> Result<Vec<RowKey>, Error> {
        let mut seen = self.seen(session).await?;
        let mut changed: Vec<RowKey> = Vec::new();
        let mut between = Insert::new(&LANDED_BEFORE);
        for row in &self.rows {
            let known = seen.entry(row.key.clone()).or_insert_with(|| Seen {
                stored: false,
                digest: Arc::default(),
                newest: None,
            });
            if (known.stored || known.newest.is_some()) && known.digest == row.digest {
                continue;
            }
            match known.newest {
                Some(older) => between.row(self.values(older)),
                None => changed.push(row.key.clone()),
            }
            known.digest = row.digest.clone();
            known.newest = Some(row);
        }
        let replaced: Vec<&RowKey> =
            changed.iter().filter(|key| seen.get(key).is_some_and(|known| known.stored)).collect();
        let mut rest = &replaced[..];
        while !rest.is_empty() {
            let (chunk, others) = rest.split_at(insert::chunk(rest.len()));
            rest = others;
            let sql = format!(
                "INSERT INTO landed_before \
                 (source, name, row_key, landed_at, file, line, digest, body) \
                 WITH {wanted} SELECT l.source, l.name, l.row_key, l.landed_at, l.file, l.line, \
                 l.digest, l.body {OF_WANTED}",
                wanted = wanted(session, chunk.len())
            );
            session.execute(sql, chunk.iter().flat_map(|row| key(row)).collect()).await?;
        }
        between.run(session).await?;
        let mut insert = Insert::new(&LANDED);
        for newest in changed.iter().filter_map(|key| seen.get(key)?.newest) {
            insert.row(self.values(newest));
        }
        insert.run(session).await?;
        Ok(changed)
    }
}

impl Write for Message {
    type Output = (i64, bool);

    async fn run(&self, session: &mut Session<'_>) -> Result<(i64, bool), Error> {
        let sql = "INSERT INTO message (source, digest, media_type, received, body) \
                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT (source, digest) DO NOTHING \
                   RETURNING message_id";
        let values = vec![
            clean(&self.source),
            Value::Bytes(self.digest.clone()),
            clean(&self.media_type),
            self.received.into(),
            Value::Bytes(self.body.clone()),
        ];
        if let Some(row) = session.fetch(sql, values).await?.first() {
            return Ok((row.int(0)?, true));
        }
        let sql = "SELECT message_id FROM message WHERE source = $1 AND digest = $2";
        let values = vec![clean(&self.source), Value::Bytes(self.digest.clone())];
        let rows = session.fetch(sql, values).await?;
        Ok((rows.first().ok_or(sqlx::Error::RowNotFound)?.int(0)?, false))
    }
}
