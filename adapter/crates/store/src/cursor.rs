//! Page cursors: where a page ended, as an opaque text that outlives the process.
//!
//! Hexadecimal of: version, fingerprint of type and order, row id, and the sort values of the last
//! match. Everything is checked on the way in, because clients can send anything.

use std::fmt::Write as _;
use std::sync::Arc;

use lumbar_fhir::search::{Query, Sort};

use crate::Error;
use crate::dialect::Value;
use crate::index;

const VERSION: u8 = 1;

/// The last match of a page.
#[derive(Debug, PartialEq)]
pub(crate) struct Cursor {
    pub(crate) row_id: i64,
    /// One per sort key; `None` where the match has no value.
    pub(crate) values: Vec<Option<Value>>,
}

/// Cursors hold for queries of the same type and order; conditions may have moved with the clock.
fn fingerprint(query: &Query) -> [u8; 8] {
    let text = format!("{} {:?}", query.resource_type, query.sort);
    index::hash(text.as_bytes()).to_be_bytes()
}

impl Cursor {
    pub(crate) fn encode(&self, query: &Query) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(fingerprint(query));
        bytes.extend(self.row_id.to_be_bytes());
        for value in &self.values {
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
        let mut text = String::with_capacity(2 * bytes.len());
        for byte in bytes {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    pub(crate) fn decode(text: &str, query: &Query) -> Result<Cursor, Error> {
        Cursor::read(text, query).ok_or(Error::Cursor)
    }

    fn read(text: &str, query: &Query) -> Option<Cursor> {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
        if !text.len().is_multiple_of(2) {
            return None;
        }
        let pairs = text.as_bytes().chunks_exact(2);
        let bytes: Option<Vec<u8>> =
            pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
        let bytes = bytes?;
        let (version, rest) = bytes.split_first_chunk::<1>()?;
        let (print, rest) = rest.split_first_chunk::<8>()?;
        let (row_id, mut rest) = rest.split_first_chunk::<8>()?;
        if *version != [VERSION] || *print != fingerprint(query) {
            return None;
        }
        let mut values = Vec::new();
        for sort in &query.sort {
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
        let row_id = i64::from_be_bytes(*row_id);
        rest.is_empty().then_some(Cursor { row_id, values })
    }
}
