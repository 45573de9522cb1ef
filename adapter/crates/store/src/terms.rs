//! What resources are found by, written down.
//!
//! Each value stands in one of three tables, in the order of values. What a given resource has of a
//! parameter is asked for as often as who has a value: PostgreSQL has a second order of the tables
//! for it. On SQLite, where a step to another place of the file is what costs, it is read from the
//! resource's own row: its column `terms` is a JSONB object
//! (<https://sqlite.org/jsonb.html>) with an array for each parameter, whose name is the shape of
//! its values and the number of the parameter: keys under `k5`, `[low, high]` under `d6`, and
//! `[low, high, unit]` under `n7`. What a new version no longer has is found there, too, so that
//! only what differs is written.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use lumbar_fhir::search::{IndexRow, IndexValue};

use crate::Error;
use crate::dialect::{Dialect, Session, Value};
use crate::index;
use crate::insert::{self, Insert, Table};
use crate::names::{Fresh, Names};

/// The shape of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A text.
    Key,
    /// An interval of time.
    Date,
    /// An interval of numbers with a unit.
    Number,
}

impl Shape {
    pub(crate) const ALL: [Shape; 3] = [Shape::Key, Shape::Date, Shape::Number];

    /// The table of such values.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Shape::Key => "key_value",
            Shape::Date => "date_value",
            Shape::Number => "number_value",
        }
    }

    /// The member of `terms` that has a parameter's values of this shape.
    fn member(self, parameter: i64) -> String {
        let letter = match self {
            Shape::Key => 'k',
            Shape::Date => 'd',
            Shape::Number => 'n',
        };
        format!("{letter}{parameter}")
    }

    /// The JSON path of that member.
    pub(crate) fn path(self, parameter: i64) -> String {
        format!("$.{}", self.member(parameter))
    }
}

/// What one resource is found by: parameters and values. Numbers are [`index::order`]s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms<'a> {
    keys: BTreeSet<(i64, Cow<'a, str>)>,
    dates: BTreeSet<(i64, i64, i64)>,
    numbers: BTreeSet<(i64, i64, i64, Cow<'a, str>)>,
}

impl<'a> Terms<'a> {
    /// The terms of a resource from the rows of its index.
    pub(crate) async fn new(
        session: &mut Session<'_>,
        names: &Names,
        fresh: &mut Fresh,
        resource_type: &str,
        rows: &'a [IndexRow],
    ) -> Result<Terms<'a>, Error> {
        let mut terms = Terms::default();
        for row in rows {
            let id = names.intern_parameter(session, fresh, resource_type, &row.code).await?;
            match &row.value {
                IndexValue::Key(key) => {
                    terms.keys.insert((id, index::fit(key)));
                }
                IndexValue::Date(low, high) => {
                    terms.dates.insert((id, *low, *high));
                }
                IndexValue::Number(low, high, _) if low.is_nan() || high.is_nan() => {}
                IndexValue::Number(low, high, unit) => {
                    let (low, high) = (index::order(*low), index::order(*high));
                    terms.numbers.insert((id, low, high, index::fit(unit)));
                }
            }
        }
        Ok(terms)
    }

    /// As the column `terms` holds them.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut object = Object::default();
        for (parameter, key) in &self.keys {
            object.member(Shape::Key, *parameter);
            element(TEXT_RAW, key.as_bytes(), &mut object.array);
        }
        let mut pair = Vec::new();
        for (parameter, low, high) in &self.dates {
            object.member(Shape::Date, *parameter);
            integer(*low, &mut pair);
            integer(*high, &mut pair);
            element(ARRAY, &pair, &mut object.array);
            pair.clear();
        }
        for (parameter, low, high, unit) in &self.numbers {
            object.member(Shape::Number, *parameter);
            integer(*low, &mut pair);
            integer(*high, &mut pair);
            element(TEXT_RAW, unit.as_bytes(), &mut pair);
            element(ARRAY, &pair, &mut object.array);
            pair.clear();
        }
        object.end()
    }

    /// What [`Terms::encode`] or a migration made.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Terms<'a>, Error> {
        Terms::read(bytes)
            .ok_or_else(|| sqlx::Error::Decode("terms of a resource are broken".into()).into())
    }

    fn read(mut bytes: &'a [u8]) -> Option<Terms<'a>> {
        let mut terms = Terms::default();
        let mut members = take(&mut bytes, OBJECT)?;
        while !members.is_empty() {
            let name = std::str::from_utf8(take(&mut members, TEXT)?).ok()?;
            let (shape, parameter) = name.split_at_checked(1)?;
            let parameter = parameter.parse().ok()?;
            let mut values = take(&mut members, ARRAY)?;
            while !values.is_empty() {
                if shape == "k" {
                    terms.keys.insert((parameter, take_text(&mut values)?));
                    continue;
                }
                let mut parts = take(&mut values, ARRAY)?;
                let (low, high) = (take_integer(&mut parts)?, take_integer(&mut parts)?);
                if shape == "d" {
                    terms.dates.insert((parameter, low, high));
                } else {
                    terms.numbers.insert((parameter, low, high, take_text(&mut parts)?));
                }
            }
        }
        bytes.is_empty().then_some(terms)
    }
}

/// Kinds of element in JSONB.
const INT: u8 = 3;
const TEXT: u8 = 7;
const TEXT_RAW: u8 = 10;
const ARRAY: u8 = 11;
const OBJECT: u8 = 12;

/// An object of arrays in the making.
#[derive(Default)]
struct Object {
    members: Vec<u8>,
    /// The last member and its values.
    last: Option<(Shape, i64)>,
    array: Vec<u8>,
}

impl Object {
    /// Makes this the last member, unless it is.
    fn member(&mut self, shape: Shape, parameter: i64) {
        if self.last != Some((shape, parameter)) {
            self.close();
            self.last = Some((shape, parameter));
        }
    }

    fn close(&mut self) {
        if let Some((shape, parameter)) = self.last {
            element(TEXT, shape.member(parameter).as_bytes(), &mut self.members);
            element(ARRAY, &self.array, &mut self.members);
            self.array.clear();
        }
    }

    fn end(mut self) -> Vec<u8> {
        self.close();
        let mut bytes = Vec::with_capacity(self.members.len() + 5);
        element(OBJECT, &self.members, &mut bytes);
        bytes
    }
}

/// Adds an element: its kind and length in as few bytes as hold them, then what it is.
fn element(kind: u8, payload: &[u8], to: &mut Vec<u8>) {
    let length = payload.len();
    match (u8::try_from(length), u16::try_from(length), u32::try_from(length)) {
        (Ok(length @ ..12), ..) => to.push(length << 4 | kind),
        (Ok(length), ..) => to.extend([12 << 4 | kind, length]),
        (_, Ok(length), _) => {
            to.push(13 << 4 | kind);
            to.extend(length.to_be_bytes());
        }
        (.., Ok(length)) => {
            to.push(14 << 4 | kind);
            to.extend(length.to_be_bytes());
        }
        _ => {
            to.push(15 << 4 | kind);
            to.extend((length as u64).to_be_bytes());
        }
    }
    to.extend(payload);
}

fn integer(number: i64, to: &mut Vec<u8>) {
    element(INT, number.to_string().as_bytes(), to);
}

/// Takes the next element, which must be of a kind.
fn take<'a>(bytes: &mut &'a [u8], kind: u8) -> Option<&'a [u8]> {
    let (first, mut rest) = bytes.split_first()?;
    if first & 15 != kind {
        return None;
    }
    let mut length = usize::from(first >> 4);
    if length >= 12 {
        let (digits, after) = rest.split_at_checked(1 << (length - 12))?;
        length = digits.iter().try_fold(0_usize, |length, digit| {
            length.checked_mul(256)?.checked_add(usize::from(*digit))
        })?;
        rest = after;
    }
    let (payload, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(payload)
}

fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<Cow<'a, str>> {
    std::str::from_utf8(take(bytes, TEXT_RAW)?).ok().map(Cow::Borrowed)
}

fn take_integer(bytes: &mut &[u8]) -> Option<i64> {
    std::str::from_utf8(take(bytes, INT)?).ok()?.parse().ok()
}

/// Makes the tables of values say what resources are found by from now on: `wanted` by row, in
/// order, of which those `before` are in the database. On SQLite the rows themselves are still to
/// be written.
pub(crate) async fn replace(
    session: &mut Session<'_>,
    wanted: &[(i64, Terms<'_>)],
    before: &[i64],
) -> Result<(), Error> {
    let (mut gone, mut new) = (Rows::default(), Rows::default());
    let mut stored = HashMap::new();
    for chunk in insert::chunks(before) {
        let values: Vec<Value> = chunk.iter().map(|&row_id| row_id.into()).collect();
        let rows = session.dialect().tuples(chunk.len(), 1);
        match session.dialect() {
            Dialect::Sqlite => {
                let sql =
                    format!("SELECT row_id, terms FROM resource WHERE row_id IN (VALUES {rows})");
                for row in session.fetch(sql, values).await? {
                    stored.insert(row.int(0)?, row.bytes(1)?.to_vec());
                }
            }
            Dialect::Postgres => {
                for shape in Shape::ALL {
                    let table = shape.table();
                    let sql = format!("DELETE FROM {table} WHERE row_id IN (VALUES {rows})");
                    session.execute(sql, values.clone()).await?;
                }
            }
        }
    }
    let mut old = HashMap::with_capacity(stored.len());
    for (row_id, bytes) in &stored {
        old.insert(*row_id, Terms::decode(bytes)?);
    }
    let none = Terms::default();
    for (row_id, terms) in wanted {
        let old = old.get(row_id).unwrap_or(&none);
        gone.add(*row_id, old, terms);
        new.add(*row_id, terms, old);
    }
    if session.dialect() == Dialect::Sqlite {
        // Neighbors in the table one after the other.
        gone.sort();
        new.sort();
    }
    gone.run(session, &DELETE).await?;
    new.run(session, &INSERT).await
}

/// Writes the terms of rows whose versions stay.
pub(crate) async fn update(
    session: &mut Session<'_>,
    rows: &[&(i64, Terms<'_>)],
) -> Result<(), Error> {
    if session.dialect() == Dialect::Postgres {
        return Ok(());
    }
    let mut update = Insert::new(&UPDATE);
    for (row_id, terms) in rows {
        update.row([(*row_id).into(), terms.encode().as_slice().into()]);
    }
    update.run(session).await
}

/// Rows of the three tables.
#[derive(Default)]
struct Rows<'a> {
    keys: Vec<(i64, &'a str, i64)>,
    dates: Vec<(i64, i64, i64, i64)>,
    numbers: Vec<(i64, i64, i64, &'a str, i64)>,
}

impl<'a> Rows<'a> {
    /// Adds the terms of a row, without those that it has in `others`.
    fn add(&mut self, row_id: i64, terms: &'a Terms<'_>, others: &Terms<'_>) {
        let Terms { keys, dates, numbers } = terms;
        let keys = keys.iter().filter(|key| !others.keys.contains(*key));
        self.keys.extend(keys.map(|(parameter, key)| (*parameter, &**key, row_id)));
        let dates = dates.difference(&others.dates);
        self.dates.extend(dates.map(|&(parameter, low, high)| (parameter, low, high, row_id)));
        let numbers = numbers.iter().filter(|number| !others.numbers.contains(*number));
        self.numbers.extend(
            numbers.map(|(parameter, low, high, unit)| (*parameter, *low, *high, &**unit, row_id)),
        );
    }

    fn sort(&mut self) {
        self.keys.sort_unstable();
        self.dates.sort_unstable();
        self.numbers.sort_unstable();
    }

    async fn run(
        self,
        session: &mut Session<'_>,
        tables: &'static [Table; 3],
    ) -> Result<(), Error> {
        let [mut keys, mut dates, mut numbers] = tables.each_ref().map(Insert::new);
        for (parameter, key, row_id) in self.keys {
            keys.row([parameter.into(), key.into(), row_id.into()]);
        }
        for (parameter, low, high, row_id) in self.dates {
            dates.row([parameter.into(), low.into(), high.into(), row_id.into()]);
        }
        for (parameter, low, high, unit, row_id) in self.numbers {
            let [low, high] = [low, high].map(|order| index::number(order).into());
            numbers.row([parameter.into(), low, high, unit.into(), row_id.into()]);
        }
        for insert in [keys, dates, numbers] {
            insert.run(session).await?;
        }
        Ok(())
    }
}

const INSERT: [Table; 3] = [
    Table {
        head: "INSERT INTO key_value (parameter_id, value, row_id) VALUES",
        columns: 3,
        tail: "",
    },
    Table {
        head: "INSERT INTO date_value (parameter_id, low, high, row_id) VALUES",
        columns: 4,
        tail: "",
    },
    Table {
        head: "INSERT INTO number_value (parameter_id, low, high, unit, row_id) VALUES",
        columns: 5,
        tail: "",
    },
];

const DELETE: [Table; 3] = [
    Table {
        head: "DELETE FROM key_value WHERE (parameter_id, value, row_id) IN (VALUES",
        columns: 3,
        tail: ")",
    },
    Table {
        head: "DELETE FROM date_value WHERE (parameter_id, low, high, row_id) IN (VALUES",
        columns: 4,
        tail: ")",
    },
    Table {
        head: "DELETE FROM number_value WHERE (parameter_id, low, high, unit, row_id) IN (VALUES",
        columns: 5,
        tail: ")",
    },
];

const UPDATE: Table = Table {
    head: "WITH new (row_id, terms) AS (VALUES",
    columns: 2,
    tail: ") UPDATE resource SET terms = new.terms FROM new WHERE resource.row_id = new.row_id",
};

#[cfg(test)]
mod tests {
    use super::Terms;
    use crate::{Options, Store};

    fn terms(keys: &[(i64, String)], length: i64) -> Terms<'_> {
        Terms {
            keys: keys.iter().map(|(parameter, key)| (*parameter, key.as_str().into())).collect(),
            dates: (0..length).map(|number| (3, i64::MIN + number, i64::MAX - number)).collect(),
            numbers: (0..length).map(|number| (4, number, -number, "mg\u{1}u".into())).collect(),
        }
    }

    #[tokio::test]
    async fn sqlite_reads_what_is_written() {
        let store = Store::open("sqlite::memory:", Options::default()).await.unwrap();
        for length in [0, 1, 11, 12, 255, 256, 400] {
            let text = "\"\u{1}é".chars().cycle().take(length).collect();
            let keys = [(1, text), (2, String::new()), (2, "[]".into())];
            let terms = terms(&keys, i64::try_from(length).unwrap());
            let bytes = terms.encode();
            assert_eq!(Terms::decode(&bytes).unwrap(), terms);
            let sql = "SELECT json_valid($1, 8), $1 ->> '$.k1[0]', \
                       CAST(coalesce($1 ->> '$.d3[#-1][1]', 0) AS BIGINT), \
                       (SELECT count(*) FROM jsonb_each($1, '$.n4') v WHERE v.value ->> 2 > 'mg')";
            let rows = store.resources.pool.fetch(sql, vec![bytes.as_slice().into()]).await;
            let row = &rows.unwrap()[0];
            let number = i64::try_from(length).unwrap();
            let last = if length == 0 { 0 } else { i64::MAX - (number - 1) };
            assert_eq!((row.int(0).unwrap(), row.text(1).unwrap()), (1, keys[0].1.as_str()));
            assert_eq!((row.int(2).unwrap(), row.int(3).unwrap()), (last, number));
            for end in 0..bytes.len() {
                assert!(Terms::decode(&bytes[..end]).is_err(), "{end} bytes of {bytes:?}");
            }
        }
        // Bytes in any order are refused or read, without a panic.
        for seed in 0..=u16::MAX {
            let [one, two] = seed.to_be_bytes();
            let _ = Terms::decode(&[one, two, 0x17, b'k', two, one]);
        }
        store.close().await;
    }
}
