//! Page cursors: where a page begins or ends, as an opaque text that outlives the process.
//!
//! Hexadecimal of: version, way, fingerprint of types and order, total, row id, the values that are
//! sorted by, and a signature ([RFC 2104](https://www.rfc-editor.org/rfc/rfc2104), SHA-256, its
//! first half) with a key that lies in the database, so that all processes on it know each other's
//! cursors and nobody else can make one. What a cursor says is checked all the same, because it may
//! be older than the schema.

use std::fmt::Write as _;
use std::sync::Arc;

use lumbar_fhir::search::{Query, Sort};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::dialect::{Pool, Value};
use crate::{Error, index};

const VERSION: u8 = 2;

/// Length of the signature in bytes.
const SIGNATURE: usize = 16;

/// Length of the key in bytes.
const KEY: usize = 32;

/// What cursors are signed with.
#[derive(Clone, Debug)]
pub(crate) struct Key(hmac::Key);

impl Key {
    /// The key of a database, made when it has none.
    pub(crate) async fn of(pool: &Pool) -> Result<Key, Error> {
        let mut bytes = [0; KEY];
        let chance = SystemRandom::new().fill(&mut bytes);
        chance.map_err(|_| Error::Unavailable(None))?;
        // Whoever comes first gives the key to all.
        let sql = "INSERT INTO secret (name, value) VALUES ('cursor', $1) \
                   ON CONFLICT (name) DO NOTHING";
        pool.fetch(sql, vec![bytes.as_slice().into()]).await?;
        let sql = "SELECT value FROM secret WHERE name = 'cursor'";
        let rows = pool.fetch(sql, Vec::new()).await?;
        let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        Ok(Key(hmac::Key::new(hmac::HMAC_SHA256, row.bytes(0)?)))
    }

    fn sign(&self, bytes: &[u8]) -> [u8; SIGNATURE] {
        let mut signature = [0; SIGNATURE];
        for (to, from) in signature.iter_mut().zip(hmac::sign(&self.0, bytes).as_ref()) {
            *to = *from;
        }
        signature
    }
}

/// Which way a page goes from its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To what comes after it.
    Forward,
    /// To what comes before it.
    Backward,
}

/// A place in the order of a search.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    /// One per sort key; `None` where the match has no value.
    pub(crate) values: Vec<Option<Value>>,
    pub(crate) row_id: i64,
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cursor {
    pub(crate) way: Way,
    pub(crate) place: Place,
    /// The number of all matches, when the first page gave it.
    pub(crate) total: Option<u64>,
}

/// Cursors hold for queries of the same types and order; conditions may have moved with the clock.
fn fingerprint(queries: &[Query]) -> [u8; 8] {
    let mut text = String::new();
    for query in queries {
        let _ = write!(text, "{} ", query.resource_type);
    }
    if let Some(query) = queries.first() {
        let _ = write!(text, "{:?}", query.sort);
    }
    index::hash(text.as_bytes()).to_be_bytes()
}

impl Cursor {
    pub(crate) fn encode(&self, key: &Key, queries: &[Query]) -> String {
        let mut bytes = vec![VERSION, u8::from(self.way == Way::Backward)];
        bytes.extend(fingerprint(queries));
        bytes.extend(self.total.unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend(self.place.row_id.to_be_bytes());
        for value in &self.place.values {
            match value {
                Some(Value::Int(value)) => {
                    bytes.push(1);
                    bytes.extend(value.to_be_bytes());
                }
                Some(Value::Real(value)) => {
                    bytes.push(2);
                    bytes.extend(value.to_be_bytes());
                }
                Some(Value::Text(Some(value))) => {
                    bytes.push(3);
                    // Sort keys are ids or cut keys, both far below 64 KiB.
                    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
                    bytes.extend(length.to_be_bytes());
                    bytes.extend(value.bytes().take(length.into()));
                }
                Some(Value::Text(None) | Value::Bytes(_)) | None => bytes.push(0),
            }
        }
        bytes.extend(key.sign(&bytes));
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    pub(crate) fn decode(text: &str, key: &Key, queries: &[Query]) -> Result<Cursor, Error> {
        Cursor::read(text, key, queries).ok_or(Error::Cursor)
    }

    fn read(text: &str, key: &Key, queries: &[Query]) -> Option<Cursor> {
        // One cursor has one form.
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        if !text.len().is_multiple_of(2) {
            return None;
        }
        let pairs = text.as_bytes().chunks_exact(2);
        let bytes: Option<Vec<u8>> =
            pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
        let bytes = bytes?;
        let (bytes, signature) = bytes.split_last_chunk::<SIGNATURE>()?;
        // What differs says nothing about the signature: a comparison of equal time.
        let same = key.sign(bytes).iter().zip(signature).fold(0, |same, (a, b)| same | (a ^ b));
        let ([version, way], rest) = bytes.split_first_chunk::<2>()?;
        let (print, rest) = rest.split_first_chunk::<8>()?;
        let (total, rest) = rest.split_first_chunk::<8>()?;
        let (row_id, mut rest) = rest.split_first_chunk::<8>()?;
        if same != 0 || *version != VERSION || *print != fingerprint(queries) {
            return None;
        }
        let mut values = Vec::new();
        for sort in order(queries) {
            let (tag, after) = rest.split_first()?;
            rest = after;
            values.push(match (tag, sort) {
                (0, Sort::Key(..) | Sort::Date(..) | Sort::Number(..)) => None,
                (1, Sort::LastUpdated(_) | Sort::Date(..)) => {
                    let (value, after) = rest.split_first_chunk::<8>()?;
                    rest = after;
                    Some(Value::Int(i64::from_be_bytes(*value)))
                }
                (2, Sort::Number(..)) => {
                    let (value, after) = rest.split_first_chunk::<8>()?;
                    rest = after;
                    let value = f64::from_be_bytes(*value);
                    (!value.is_nan()).then_some(Some(Value::Real(value)))?
                }
                (3, Sort::Id(_) | Sort::Key(..)) => {
                    let (length, after) = rest.split_first_chunk::<2>()?;
                    let (value, after) =
                        after.split_at_checked(u16::from_be_bytes(*length).into())?;
                    rest = after;
                    let value = std::str::from_utf8(value).ok()?;
                    let value = (!value.contains('\0')).then_some(value)?;
                    Some(Value::Text(Some(Arc::from(value))))
                }
                _ => return None,
            });
        }
        let place = Place { values, row_id: i64::from_be_bytes(*row_id) };
        let way = if *way == 0 { Way::Forward } else { Way::Backward };
        let total = Some(u64::from_be_bytes(*total)).filter(|total| *total != u64::MAX);
        rest.is_empty().then_some(Cursor { way, place, total })
    }
}

/// The sort keys that decide: after the id nothing does, within one type.
pub(crate) fn order(queries: &[Query]) -> &[Sort] {
    match queries {
        [] => &[],
        [query] => {
            let id = query.sort.iter().position(|sort| matches!(sort, Sort::Id(_)));
            &query.sort[..id.map_or(query.sort.len(), |id| id + 1)]
        }
        [query, ..] => &query.sort,
    }
}
